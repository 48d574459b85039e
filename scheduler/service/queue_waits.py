"""Waits in the clusters' own queues, learned from runs: a margin before deadlines."""

import json
import threading
from collections.abc import Iterable
from typing import Final

import structlog

from scheduler.core.errors import StoreError
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.queue_waits import long_wait_s
from scheduler.ports import JobStore

_log = structlog.get_logger(__name__)
LAST_WAITS: Final = 100
"""Newest waits that are kept, so that a queue that has become faster is believed."""


class QueueWaits:
    """The last waits of each cluster; kept in the store, so that a restart forgets nothing."""

    def __init__(self, store: JobStore, fleet: Fleet) -> None:
        self._store = store
        self._fleet = fleet
        self._lock = threading.Lock()
        self._waits = dict[str, list[float]]()
        self._long = dict[str, int]()
        self.read()

    def read(self) -> None:
        """Takes what the store has, which another process may have added to. Raises StoreError."""
        waits = {one.cluster_id: _read(self._store, one.cluster_id) for one in self._fleet}
        with self._lock:
            self._waits = waits
            self._long = {name: long_wait_s(found) for name, found in waits.items()}

    def note(self, cluster_id: str, wait_s: float) -> None:
        """A run has begun so long after its cluster had taken it."""
        with self._lock:
            waits = [*self._waits.get(cluster_id, []), round(max(0.0, wait_s), 1)][-LAST_WAITS:]
            self._waits[cluster_id] = waits
            self._long[cluster_id] = long_wait_s(waits)
        try:
            self._store.put_document(_key(cluster_id), json.dumps(waits))
        except StoreError as error:
            # A margin is a precaution; the next wait is written with all before it.
            _log.warning("queue_waits_unwritable", cluster=cluster_id, error=error.message)

    def extra_s(self, cluster: Cluster) -> int:
        """Seconds to keep free beyond the configured wait."""
        return max(0, self._long.get(cluster.cluster_id, 0) - cluster.queue_wait_s)

    def learned_s(self) -> Iterable[tuple[str, int, int]]:
        """Cluster, learned wait in seconds, and from how many runs."""
        return [(name, self._long[name], len(waits)) for name, waits in self._waits.items()]


def _key(cluster_id: str) -> str:
    return f"queue_waits:{cluster_id}"


def _read(store: JobStore, cluster_id: str) -> list[float]:
    text = store.get_document(_key(cluster_id))
    return [float(wait_s) for wait_s in json.loads(text)] if text else []
