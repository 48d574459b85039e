"""The queue's front: submit, cancel, hold, release, run now, amend. Each is durable on return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

from scheduler.core.errors import ConflictError, GridtideError, InfeasibleError, InvalidJobError
from scheduler.core.job import (
    ENDED_STATES,
    Job,
    JobRecord,
    JobState,
    Placement,
    Wanted,
)
from scheduler.ports import Clock, Event, JobStore, NewJob
from scheduler.service.dependencies import Dependencies
from scheduler.service.lifecycle import Lifecycle, Wake
from scheduler.service.planning import Planning

_S = JobState
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One job to submit, with what makes repeating it harmless.

    Args:
        note: what its user should know of its acceptance.
    """

    job: Job
    idempotency_key: str | None = None
    request_digest: str | None = None
    note: str | None = None


class JobQueue:
    """What users do to jobs. Jobs on a cluster change in the next tick; others at once."""

    def __init__(
        self,
        *,
        store: JobStore,
        planning: Planning,
        dependencies: Dependencies,
        lifecycle: Lifecycle,
        clock: Clock,
        wake: Wake,
    ) -> None:
        self._store = store
        self._planning = planning
        self._dependencies = dependencies
        self._lifecycle = lifecycle
        self._clock = clock
        self._wake = wake

    def submit(self, submissions: Sequence[Submission]) -> list[JobRecord]:
        """The stored records, each with the placement that it would get now.

        All are accepted or none.

        Raises:
            InfeasibleError: a deadline cannot be met; the refusal is kept as an event.
            DuplicateJobError: an idempotency key is known with another request.
        """
        now = self._clock.now()
        new_jobs = [self._new_job(submission, now) for submission in submissions]
        records = self._store.add_jobs(new_jobs)
        for record in records:
            self._planning.hold_place(record)
        self._wake()
        return records

    def submit_each(self, submissions: Sequence[Submission]) -> list[JobRecord | GridtideError]:
        """For each by itself the stored record, or why it was not accepted; one write for all."""
        now = self._clock.now()
        admitted = [_outcome(self._new_job, one, now) for one in submissions]
        new_jobs = [one for one in admitted if isinstance(one, NewJob)]
        answers: list[JobRecord | GridtideError]
        stored = _outcome(self._store.add_jobs, new_jobs)
        if isinstance(stored, ConflictError):
            # One of them is at fault: each has to be asked by itself.
            alone = [_outcome(self._store.add_jobs, [one]) for one in new_jobs]
            answers = [one if isinstance(one, GridtideError) else one[0] for one in alone]
        elif isinstance(stored, GridtideError):
            # The store is: asked again, it would know nothing of its first answer, which may have been lost.
            answers = [stored] * len(new_jobs)
        else:
            answers = list(stored)
        for answer in answers:
            if isinstance(answer, JobRecord):
                self._planning.hold_place(answer)
        self._wake()
        following = iter(answers)
        return [next(following) if isinstance(one, NewJob) else one for one in admitted]

    def check(self, job: Job) -> None:
        """Refuses what this service cannot keep, though a snapshot file may, and what could never start.

        Raises:
            InvalidJobError: naming the field.
            InfeasibleError: a job that it waits for has ended without success.
        """
        self._dependencies.require(job)
        share = job.limits.min_renewable_share
        if share is not None:
            raise InvalidJobError(
                f"min_renewable_share: {share:g} cannot be checked: the sources of intensity state no "
                "renewable shares; leave it out, or plan a snapshot file that states them",
                field="min_renewable_share",
                value=share,
                valid="absent",
            )

    def cancel(self, job_id: str) -> JobRecord:
        """Ends a job. Repeating it is harmless; a job that has ended otherwise is a conflict."""
        record = self._store.get_job(job_id)
        if record.state is _S.CANCELLED or record.wanted is Wanted.CANCEL:
            return record
        self._require_active(record, "cancelled")
        if record.job.native is None and (record.run is None or record.run.is_ended):
            return self._change(record, _S.CANCELLED, kind="cancelled", reason="by the user")
        return self._want(record, Wanted.CANCEL, kind="cancel_requested")

    def hold(self, job_id: str) -> JobRecord:
        """Keeps a job from starting; an interruptible one that runs is paused."""
        record = self._store.get_job(job_id)
        if record.state is _S.HELD or record.wanted is Wanted.HOLD:
            return record
        self._require_active(record, "held")
        _require_ours(record, "hold")
        if record.run is None or record.run.is_ended:
            return self._change(
                replace(record, placement=None, is_pinned=False),
                _S.HELD,
                kind="held",
                reason="by the user",
            )
        if record.job.interruptible is None:
            raise ConflictError(
                f"job {job_id} is {record.state} and not interruptible; cancel it, or let it end",
                job_id=job_id,
                state=record.state,
            )
        return self._want(record, Wanted.HOLD, kind="hold_requested")

    def release(self, job_id: str) -> JobRecord:
        """Lets a held job go on, or takes the wish to hold it back before it was paused."""
        record = self._store.get_job(job_id)
        _require_ours(record, "release")
        if record.state is not _S.HELD and record.wanted is Wanted.HOLD:
            return self._want(record, Wanted.RUN, kind="hold_withdrawn")
        if record.state is not _S.HELD:
            raise ConflictError(
                f"job {job_id} is {record.state}, not held", job_id=job_id, state=record.state
            )
        to = _S.SUSPENDED if record.runs else _S.QUEUED
        released = replace(record, wanted=Wanted.RUN, placement=None)
        return self._change(released, to, kind="released", reason=None)

    def run_now(self, job_id: str, plan_now: Callable[[JobRecord], Placement]) -> JobRecord:
        """Starts a waiting job at once, whatever it emits; kept as an event of the user's."""
        record = self._store.get_job(job_id)
        if record.state not in (_S.QUEUED, _S.PLANNED, _S.SUSPENDED):
            raise ConflictError(
                f"job {job_id} is {record.state}; only a waiting job can be started now",
                job_id=job_id,
                state=record.state,
            )
        self._dependencies.require_met(record.job)
        placement = plan_now(record)
        reason = f"to start as soon as {placement.cluster_id} has room, as its user wants"
        placed = replace(record, placement=placement, is_pinned=True, reason=reason)
        if record.state is _S.QUEUED:
            return self._change(placed, _S.PLANNED, kind="run_now", reason=reason)
        changed = self._lifecycle.note(placed, kind="run_now", detail=reason)
        self._wake()
        return changed

    def amend(
        self, job_id: str, *, deadline_at: datetime | None, priority: int | None
    ) -> JobRecord:
        """Changes deadline or priority of a job that has not started."""
        record = self._store.get_job(job_id)
        if record.state not in (_S.QUEUED, _S.PLANNED, _S.HELD) or record.runs:
            raise ConflictError(
                f"job {job_id} is {record.state}; only a job that has not started can be changed",
                job_id=job_id,
                state=record.state,
            )
        job = replace(
            record.job,
            deadline_at=record.job.deadline_at if deadline_at is None else deadline_at,
            priority=record.job.priority if priority is None else priority,
        )
        now = self._clock.now()
        latest = max(job.latest_start_at(option) for option in job.options)
        if latest < now:
            finish = now + timedelta(seconds=min(option.duration_s for option in job.options))
            raise InfeasibleError(
                f"deadline: too soon for job {job_id}; it could end at {finish.isoformat()}",
                field="deadline",
                earliest_finish=finish.isoformat(),
            )
        kept = replace(record, job=job, placement=None, is_pinned=False)
        if record.state is _S.PLANNED:
            return self._change(kept, _S.QUEUED, kind="amended", reason="by the user")
        changed = self._lifecycle.note(kept, kind="amended", detail="by the user")
        self._wake()
        return changed

    def _new_job(self, submission: Submission, now: datetime) -> NewJob:
        job = submission.job
        try:
            self.check(job)
            admission = self._planning.admit(job, at=now)
        except InfeasibleError as error:
            self._store.add_event(
                Event(at=now, kind="refused", job_id=None, detail=f"{job.name}: {error.message}")
            )
            raise
        record = JobRecord(
            job=job,
            state=_S.QUEUED,
            version=1,
            updated_at=now,
            baseline=admission.baseline,
            placement=admission.placement,
            reason=submission.note,
        )
        return NewJob(
            record=record,
            event=Event(
                at=now,
                kind="submitted",
                job_id=job.job_id,
                state=_S.QUEUED,
                detail=submission.note or "",
            ),
            idempotency_key=submission.idempotency_key,
            request_digest=submission.request_digest,
        )

    def _change(
        self, record: JobRecord, to: JobState, *, kind: str, reason: str | None
    ) -> JobRecord:
        changed = self._lifecycle.change(record, to, kind=kind, reason=reason)
        self._wake()
        return changed

    def _want(self, record: JobRecord, wanted: Wanted, *, kind: str) -> JobRecord:
        changed = self._lifecycle.note(
            replace(record, wanted=wanted), kind=kind, detail="by the user"
        )
        self._wake()
        return changed

    @staticmethod
    def _require_active(record: JobRecord, verb: str) -> None:
        if record.state in ENDED_STATES:
            raise ConflictError(
                f"job {record.job.job_id} has {record.state}; it cannot be {verb}",
                job_id=record.job.job_id,
                state=record.state,
            )


def _require_ours(record: JobRecord, verb: str) -> None:
    native = record.job.native
    if native is not None:
        # References of Kubernetes name the namespace, too.
        is_object = "/" in native.ref
        how = "the annotation gridtide.dev/hold" if is_object else f"scontrol {verb} {native.ref}"
        raise ConflictError(
            f"job {record.job.job_id} is its user's own, on its cluster as {native.ref}; {verb} it there by {how}, "
            "and it is planned accordingly",
            job_id=record.job.job_id,
            state=record.state,
        )


def _outcome(do: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | GridtideError:
    """What the call returns, or the error that it raises, as a value."""
    try:
        return do(*args, **kwargs)
    except GridtideError as error:
        return error
