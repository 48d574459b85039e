"""Why a job waits though its time has come, or why nothing new is known of it: told in its `reason`."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.job import JobRecord
from scheduler.service.lifecycle import Lifecycle

SILENT: Final = "its cluster does not answer: "
FULL: Final = "its cluster has no room for it: "
LONGEST_REST_S: Final = 60


@dataclass(frozen=True, slots=True)
class _Rest:
    until: datetime
    failures: int
    words: str


class Rests:
    """Keeps what failed from being tried again at every tick: at first soon, then once a minute."""

    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}

    def begin(self, key: str, words: str, *, now: datetime) -> None:
        """Notes a failure of the cluster, or job, of that id."""
        before = self._rests.get(key)
        failures = before.failures + 1 if before else 1
        rest_s = min(LONGEST_REST_S, 2 ** min(failures, 10))
        self._rests[key] = _Rest(now + timedelta(seconds=rest_s), failures, words)

    def words(self, key: str, *, now: datetime) -> str | None:
        """What it said; None where it may be tried."""
        rest = self._rests.get(key)
        return rest.words if rest is not None and now < rest.until else None

    def end(self, *keys: str) -> None:
        """Forgets failures, after a success."""
        for key in keys:
            self._rests.pop(key, None)

    def keep(self, keys: Collection[str]) -> None:
        """Forgets all others."""
        self._rests = {key: rest for key, rest in self._rests.items() if key in keys}


def tell(lifecycle: Lifecycle, record: JobRecord, obstacle: str, words: str) -> JobRecord:
    """The record with that reason, stored with an event.

    One that tells of that obstacle already stays as it is: the words differ from try to try, and an
    outage would fill the store.
    """
    if (record.reason or "").startswith(obstacle):
        return record
    reason = f"{obstacle}{words}"
    return lifecycle.note(replace(record, reason=reason), kind="kept_waiting", detail=reason)


def tell_heard(lifecycle: Lifecycle, record: JobRecord) -> JobRecord:
    """The record without such a reason, once its cluster has answered again."""
    if not (record.reason or "").startswith(SILENT):
        return record
    return lifecycle.note(replace(record, reason=None), kind="cluster_heard")
