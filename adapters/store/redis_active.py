"""All jobs that have not ended, as a copy beside the server that is told what has changed."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

from adapters.store.codec import decode_record
from adapters.store.redis_keys import split_member
from adapters.store.redis_link import Reply
from adapters.store.redis_rows import present
from adapters.store.redis_scripts import ScriptName
from scheduler.core.job import ACTIVE_STATES, JobRecord

PAGE: Final = 1000
"""Jobs a script: so many take the server some milliseconds, in which others wait."""
Call = Callable[..., Reply]
_NOTHING: Final = ("", "")


class ActiveJobs:
    """The active jobs of a store. Safe to use from any thread.

    At a million jobs a look at all of them would keep the server from everything else for seconds, each tick.
    So the first look walks through them in pages; jobs that change meanwhile or later are in the store's history
    of changes, and the next look asks for these alone. Where the history does not hold the last change that is
    known here, because it is longer than what is kept, or the server went back to an older state, the walk is
    done anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest = _NOTHING
        self._jobs: dict[str, JobRecord] = {}
        self._is_sorted = True

    def read(self, call: Call) -> list[JobRecord]:
        """Every active job as the store has it now, oldest submission first.

        Args:
            call: runs a script of the store: its name, then its arguments.

        Raises:
            StoreError: the server does not answer; or it lists a job that it does not hold.
        """
        with self._lock:
            self._catch_up(call)
            if not self._is_sorted:
                self._jobs = dict(sorted(self._jobs.items(), key=_age))
                self._is_sorted = True
            return list(self._jobs.values())

    def _catch_up(self, call: Call) -> None:
        is_fresh = False
        while True:
            word, newest, mark, *found = call("changed_jobs", *self._newest, PAGE)
            told = present(newest), present(mark)
            if word == "anew":
                if is_fresh and told == self._newest:
                    return  # nothing has ever changed since changes are kept
                self._newest, self._jobs, self._is_sorted = _NOTHING, {}, False
                self._jobs = {one.job.job_id: one for one in _walk(call)}
                is_fresh = True
            elif told == self._newest:
                return
            else:
                self._apply(found)
            self._newest = told

    def _apply(self, found: Sequence[str | None]) -> None:
        """Takes over what each changed job is now; one that is None was removed."""
        for job_id, text in zip(found[::2], found[1::2], strict=True):
            record = None if text is None else decode_record(text)
            if record is not None and record.state in ACTIVE_STATES:
                self._is_sorted &= record.job.job_id in self._jobs
                self._jobs[record.job.job_id] = record
            else:
                self._jobs.pop(present(job_id), None)


def _age(item: tuple[str, JobRecord]) -> tuple[datetime, str]:
    job_id, record = item
    return record.job.submitted_at, job_id


def _walk(call: Call) -> Iterator[JobRecord]:
    """The active jobs in pages: one that changes its state meanwhile may come twice, the later the newer, or never."""
    script: ScriptName = "export_jobs"
    for state in sorted(ACTIVE_STATES):
        last = ""
        while True:
            _, *found = call(script, state.value, last, PAGE)
            for member, text in zip(found[::3], found[1::3], strict=True):
                _, job_id = split_member(present(member))
                yield decode_record(present(text, of=f"a job, {job_id},"))
            if len(found) < 3 * PAGE:
                break
            last = present(found[-3])
