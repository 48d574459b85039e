"""Margins learned from earlier runs of the same job name, for jobs that state no `duration_p95`."""

import threading
from typing import Final

import structlog

from scheduler.core.errors import StoreError
from scheduler.core.job import Job
from scheduler.core.run_times import long_run, ratio_of
from scheduler.ports import JobStore

_log = structlog.get_logger(__name__)
LAST_RUNS: Final = 100
"""Newest runs that are looked at."""
_MOST_NAMES: Final = 10_000


class RunTimes:
    """How much longer than stated the runs of a name may take; asked of the store once a name."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._known: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def factor(self, job: Job) -> float:
        """Stated durations that 95 % of such runs stay within; 1 where too little is known."""
        key = (job.project, job.name)
        known = self._known.get(key)
        if known is not None:
            return known
        try:
            records = self._store.succeeded_jobs(
                name=job.name, project=job.project, limit=LAST_RUNS
            )
        except StoreError as error:
            # A margin is a precaution: without it a job is still placed before its deadline.
            _log.warning("run_times_unreadable", job_name=job.name, error=error.message)
            return 1.0
        ratios = (ratio_of(record) for record in records)
        found = long_run(ratio for ratio in ratios if ratio is not None)
        with self._lock:
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            self._known[key] = found
        return found

    def forget_all(self) -> None:
        """Has every name asked for anew."""
        with self._lock:
            self._known.clear()

    def forget(self, job: Job) -> None:
        """Has the name asked for anew: a job of it has ended."""
        with self._lock:
            self._known.pop((job.project, job.name), None)
