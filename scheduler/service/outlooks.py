"""Outlook: what clusters that are shared with others will have free, as far as they know."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from scheduler.core.capacity import Reservation
from scheduler.core.errors import ClusterUnavailableError
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.outlook import shortfalls
from scheduler.core.planner.snapshot import Unplaced, UnplacedReason
from scheduler.ports import ClusterAdapter, ForeseeingCluster

_log = structlog.get_logger(__name__)
EVERY_S: Final = 30.0
"""Between two looks, on the wall clock: nodes and queues change slowly, and a look costs the controller."""

NEWS_S: Final = 600.0
"""By so much has a start or an end to move to be news: what is taken to last a while moves on with the clock."""


class Outlooks:
    """The last word of each cluster. One that is silent is planned with what it said last, or as configured."""

    def __init__(
        self, *, clusters: Mapping[str, ClusterAdapter], fleet: Fleet, every_s: float = EVERY_S
    ) -> None:
        self._clusters = clusters
        self._fleet = fleet
        self._every_s = every_s
        self._looked_s: float | None = None
        self._missing: dict[str, list[Reservation]] = {}
        self._lasting: dict[str, list[Reservation]] = {}
        self._news: dict[str, list[Reservation]] = {}
        self._version = 0

    @property
    def version(self) -> int:
        """Changes whenever something else is missing than before, or at quite another time."""
        return self._version

    def refresh(self) -> None:
        """Asks every cluster that can tell, where it is time."""
        now_s = time.monotonic()
        if self._looked_s is not None and now_s < self._looked_s + self._every_s:
            return
        self._looked_s = now_s
        for cluster in self._fleet:
            adapter: object = self._clusters.get(cluster.cluster_id)
            if isinstance(adapter, ForeseeingCluster):
                self._look(cluster, adapter)

    def _look(self, cluster: Cluster, adapter: ForeseeingCluster) -> None:
        try:
            outlook = adapter.outlook()
        except ClusterUnavailableError as error:
            _log.warning("cluster_unavailable", cluster=cluster.cluster_id, error=error.message)
            return
        missing = shortfalls(cluster, outlook)
        if _is_news(self._news.get(cluster.cluster_id, []), missing):
            self._version += 1
            self._news[cluster.cluster_id] = missing
        self._missing[cluster.cluster_id] = missing
        self._lasting[cluster.cluster_id] = shortfalls(cluster, replace(outlook, passing=()))

    def reservations(self) -> list[Reservation]:
        """What is missing of the configured capacity, and when."""
        return [one for missing in list(self._missing.values()) for one in missing]

    def lasting(self) -> list[Reservation]:
        """The same without what may be free again at any time."""
        return [one for missing in list(self._lasting.values()) for one in missing]

    def told(self, refused: Unplaced) -> Unplaced:
        """With what clusters say is missing, where that may be why there is no room."""
        if refused.reason is not UnplacedReason.NO_CAPACITY:
            return refused
        most = dict[tuple[str, str], int]()
        for one in self.lasting():
            row = one.cluster_id, one.accelerator
            most[row] = max(one.gpus, most.get(row, 0))
        words = [
            f"{cluster} says that up to {gpus} {name} are missing"
            for (cluster, name), gpus in sorted(most.items())
            if gpus
        ]
        return replace(refused, detail="; ".join([refused.detail, *words]))


def _is_news(before: list[Reservation], now: list[Reservation]) -> bool:
    """Whether plans made with the one may be wrong with the other."""
    if [(one.accelerator, one.gpus) for one in before] != [
        (one.accelerator, one.gpus) for one in now
    ]:
        return True
    known = set[str]()
    for was, one in zip(before, now, strict=True):
        # What begins first has begun: its start is the time of the look.
        has_moved = one.accelerator in known and _differ(was.window.start_at, one.window.start_at)
        if has_moved or _differ(was.window.end_at, one.window.end_at):
            return True
        known.add(one.accelerator)
    return False


def _differ(one: datetime, other: datetime) -> bool:
    return abs((one - other).total_seconds()) > NEWS_S
