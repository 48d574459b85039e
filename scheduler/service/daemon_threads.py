"""Threads for timers that keep no process from ending."""

import threading
import time
from collections.abc import Sequence
from datetime import datetime

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.job import Job


class DaemonThreads(BaseExecutor):  # type: ignore[misc]  # APScheduler is untyped
    """A thread for each run of a timer, which ends with the process.

    Those of a pool would be waited for when the process ends, and with them the slowest source.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads = set[threading.Thread]()

    def join(self, *, within_s: float) -> bool:
        """Waits for what still runs. True where all ended within this time."""
        until_s = time.monotonic() + within_s
        threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        def run() -> None:
            try:
                events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
            except BaseException as error:  # noqa: BLE001 - as APScheduler's own executors do
                self._run_job_error(job.id, error, error.__traceback__)
            else:
                self._run_job_success(job.id, events)
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=job.id, daemon=True)
        self._threads.add(thread)
        thread.start()
