"""Dependencies: what waits for other jobs, and what becomes of it when one of them does not succeed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.errors import ConflictError, InfeasibleError, InvalidJobError, NotFoundError
from scheduler.core.job import ENDED_STATES, Job, JobId, JobRecord, JobState
from scheduler.core.planner.snapshot import PlanRequest, Unplaced, UnplacedReason
from scheduler.ports import JobStore
from scheduler.service.lifecycle import Lifecycle, unless_conflicting
from scheduler.service.progress import AT_CLUSTER_STATES, left_share

_S = JobState
_BECAME: Final = {
    _S.FAILED: "has failed",
    _S.CANCELLED: "was cancelled",
    _S.MISSED: "has missed its deadline",
}


class Dependencies:
    """Knows which jobs have succeeded, as far as others wait for them; all of it is in the store."""

    def __init__(self, *, store: JobStore, lifecycle: Lifecycle) -> None:
        self._store = store
        self._lifecycle = lifecycle
        # Ended states never change: each is read once, for as long as somebody waits for it.
        self._ended: dict[JobId, JobState] = {}

    def require(self, job: Job) -> None:
        """Refuses a new job that names what does not exist, or will never succeed.

        Raises:
            InvalidJobError: there is no such job. As it must exist, no cycle can be made.
            InfeasibleError: it has ended otherwise.
        """
        for other in job.after:
            try:
                state = self._store.get_job(other).state
            except NotFoundError as error:
                raise InvalidJobError(
                    f"after: no job has the id {other!r}; list them to see their ids",
                    field="after",
                    value=other,
                    valid="ids of jobs that were submitted before",
                ) from error
            if state in _BECAME:
                raise InfeasibleError(
                    f"after: job {other} {_BECAME[state]}, so that this one could never start",
                    field="after",
                    value=other,
                    state=state,
                )

    def require_met(self, job: Job) -> None:
        """Raises ConflictError for a job that waits for another."""
        for other in job.after:
            state = self._store.get_job(other).state
            if state is not _S.SUCCEEDED:
                raise ConflictError(
                    f"job {job.job_id} waits for {other}, which is {state}; it cannot start before that has succeeded",
                    job_id=job.job_id,
                    state=state,
                )

    def run(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """All records, of which those that wait in vain were cancelled, and those that wait for these."""
        self._look_up(records)
        current = list(records)
        is_changing = True
        while is_changing:
            is_changing = False
            for index, record in enumerate(current):
                if record.state in ENDED_STATES or not record.job.after:
                    continue
                current[index] = unless_conflicting(self._give_up, record)
                if current[index] is not record:
                    self._ended[record.job.job_id] = current[index].state
                    is_changing = True
        return current

    def are_met(self, job: Job) -> bool:
        """Whether all that it waits for has succeeded, as far as the last tick has seen."""
        return all(self._ended.get(other) is _S.SUCCEEDED for other in job.after)

    def _look_up(self, records: Sequence[JobRecord]) -> None:
        known = {record.job.job_id: record for record in records}
        waited_for = {other for record in records for other in record.job.after}
        self._ended = {one: state for one, state in self._ended.items() if one in waited_for}
        for one in waited_for - self._ended.keys():
            state = (known.get(one) or self._store.get_job(one)).state
            if state in ENDED_STATES:
                self._ended[one] = state

    def _give_up(self, record: JobRecord) -> JobRecord:
        for other in record.job.after:
            state = self._ended.get(other, _S.SUCCEEDED)
            if state in _BECAME:
                why = f"it was to run after {other}, which {_BECAME[state]}"
                return self._lifecycle.change(record, _S.CANCELLED, kind="cancelled", reason=why)
        return record


class Following:
    """When jobs may start after others that are active, as those are planned now."""

    def __init__(self, records: Iterable[JobRecord], *, now: datetime, slot_end: datetime) -> None:
        self._by_id: Mapping[str, JobRecord] = {record.job.job_id: record for record in records}
        self._now = now
        self._slot_end = slot_end

    def is_early(self, record: JobRecord) -> bool:
        """Whether it is planned to start before something that it waits for will have ended."""
        if record.placement is None:
            return False
        start_at = record.placement.window.start_at
        ends = [self._end(self._by_id[one]) for one in record.job.after if one in self._by_id]
        return any(end_at is None or start_at < end_at for end_at in ends)

    def place(
        self, request: PlanRequest, job: Job, moving: frozenset[str]
    ) -> PlanRequest | Unplaced:
        """The request, not before the end of what is not planned together with it; or why it has to wait."""
        earliest_at = request.earliest_at
        for other in job.after:
            record = self._by_id.get(other)
            if record is None or other in moving:
                continue
            end_at = self._end(record)
            if end_at is None:
                return Unplaced(
                    job_id=job.job_id,
                    reason=UnplacedReason.AFTER_UNPLACED,
                    detail=f"it waits for {other}, which is {record.state} and has no place yet",
                )
            earliest_at = max(earliest_at, end_at)
        together = tuple(other for other in job.after if other in moving)
        return replace(request, earliest_at=earliest_at, after=together)

    def admit(self, request: PlanRequest, job: Job) -> PlanRequest:
        """The request of a new job, not before the end of what it waits for, as soon as that could be."""
        ends = [self._soonest_end(self._by_id[one]) for one in job.after if one in self._by_id]
        return replace(request, earliest_at=max([request.earliest_at, *ends]), after=())

    def baseline_start(self, job: Job) -> datetime:
        """When it could start at home, had all that it waits for run at home at once."""
        ends = [self._by_id[one].baseline.window.end_at for one in job.after if one in self._by_id]
        return max([job.earliest_start_at, *ends])

    def _end(self, record: JobRecord) -> datetime | None:
        if record.placement is None or record.state is _S.HELD:
            return None
        end_at = record.placement.window.end_at
        overstays = record.state in AT_CLUSTER_STATES and end_at <= self._now
        return self._slot_end if overstays else end_at

    def _soonest_end(self, record: JobRecord) -> datetime:
        planned = self._end(record)
        if planned is not None:
            return planned
        shortest_s = min(option.duration_s for option in record.job.options)
        start_at = max(self._now, record.job.earliest_start_at)
        return start_at + timedelta(seconds=shortest_s * left_share(record, self._now))
