"""Dispatch: hands due placements to their clusters, each exactly once.

Intent first: the run is stored as `dispatching` under its unique name before the cluster is asked.
Whatever dies in between, the next tick asks again under the same name, which starts nothing twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
)
from scheduler.core.job import Job, JobRecord, JobState, Placement, Run, Wanted
from scheduler.core.timegrid import format_instant
from scheduler.ports import Clock, ClusterAdapter, Dispatch, native_name
from scheduler.service.dependencies import Dependencies
from scheduler.service.leadership import Leadership
from scheduler.service.lifecycle import Lifecycle, unless_conflicting
from scheduler.service.obstacles import FULL, SILENT, Rests, tell
from scheduler.service.progress import (
    current_stretch,
    end_after_pause,
    end_without_pause,
    is_over,
    without_pauses,
)

_log = structlog.get_logger(__name__)
_S = JobState
_Place = tuple[str, str | None, str | None]
"""A cluster, and the partition and reservation that a job asks for of its own."""
MIN_GRACE_S: Final = 30.0
"""Shortest time between SIGTERM and SIGKILL, on the wall clock (interfaces.md)."""


class Dispatcher:
    """Starts, resumes and pauses runs."""

    def __init__(
        self,
        *,
        clusters: Mapping[str, ClusterAdapter],
        dependencies: Dependencies,
        lifecycle: Lifecycle,
        leadership: Leadership,
        clock: Clock,
    ) -> None:
        self._clusters = clusters
        self._leadership = leadership
        self._dependencies = dependencies
        self._lifecycle = lifecycle
        self._clock = clock
        # What clusters said that did not answer in this turn: each is asked once, however many jobs wait.
        self._silent: dict[str, str] = {}
        # And what they had free, less what this turn has started there.
        self._free: dict[_Place, dict[str, int]] = {}
        self._rests = Rests()

    def run(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """All records after everything that is due was started, and everything overdue paused."""
        now = self._clock.now()
        self._silent, self._free = {}, {}
        self._rests.keep({*self._clusters, *(record.job.job_id for record in records)})
        due = [record for record in records if self._is_due(record, now)]
        due.sort(key=lambda record: (-record.job.priority, record.job.deadline_at))
        changed = {
            record.job.job_id: unless_conflicting(lambda one: self._try(one, now), record)
            for record in due
        }
        for record in records:
            if record.state is _S.RUNNING and self._should_pause(record, now):
                changed[record.job.job_id] = unless_conflicting(
                    lambda one: self._pause_in_time(one, now), record
                )
        return [changed.get(record.job.job_id, record) for record in records]

    def pause(self, record: JobRecord, *, kind: str) -> JobRecord:
        """The record after its run was asked to checkpoint and leave."""
        run = record.run
        assert run is not None
        self._leadership.require()
        try:
            self._clusters[run.cluster_id].pause(run_name(record), grace_s=grace_s(record.job))
        except ClusterUnavailableError as error:
            _log.warning("cluster_unavailable", cluster=run.cluster_id, error=error.message)
            return record  # asked again by the next tick
        if run.pause_requested_at is not None:
            return record
        asked = replace(run, pause_requested_at=self._clock.now())
        return self._lifecycle.note(record.with_run(asked), kind=kind)

    def cancel(self, record: JobRecord) -> None:
        """Asks the run to end. Raises ClusterUnavailableError."""
        run = record.run
        assert run is not None
        self._leadership.require()
        self._clusters[run.cluster_id].cancel(run_name(record), grace_s=grace_s(record.job))

    def _is_due(self, record: JobRecord, now: datetime) -> bool:
        if record.state is _S.DISPATCHING:
            return True
        if record.wanted is not Wanted.RUN or record.placement is None:
            return False
        if record.state not in (_S.PLANNED, _S.SUSPENDED):
            return False
        return record.placement.window.start_at <= now and self._dependencies.are_met(record.job)

    def _try(self, record: JobRecord, now: datetime) -> JobRecord:
        """The record after it was started, or with what keeps it waiting."""
        obstacle = None if record.state is _S.DISPATCHING else self._obstacle(record, now)
        if obstacle is None:
            return self._start(record, now)
        return tell(self._lifecycle, record, *obstacle)

    def _obstacle(self, record: JobRecord, now: datetime) -> tuple[str, str] | None:
        """What is in the way of a start, and in which words; None where nothing is."""
        placement = record.placement
        assert placement is not None
        cluster_id, accelerator = placement.cluster_id, placement.accelerator
        if (words := self._rests.words(record.job.job_id, now=now)) is not None:
            return FULL, words
        if (words := self._rests.words(cluster_id, now=now)) is not None:
            return SILENT, words
        free = self._free_on(cluster_id, record.job)
        if free is None:
            return SILENT, self._silent[cluster_id]
        _, gpus = current_stretch(placement, now)
        words = _lack(record.job, cluster_id, accelerator, needed=gpus, free=free)
        return None if words is None else (FULL, words)

    def _free_on(self, cluster_id: str, job: Job) -> Mapping[str, int] | None:
        """What is free there for such a job, asked once a turn; None where the cluster is silent."""
        place = _place(cluster_id, job)
        if place not in self._free and cluster_id not in self._silent:
            try:
                self._free[place] = dict(self._clusters[cluster_id].free_devices(job.slurm))
            except ClusterUnavailableError as error:
                self._note_silence(cluster_id, error)
        return None if cluster_id in self._silent else self._free[place]

    def _note_taken(self, record: JobRecord, run: Run) -> None:
        """Deducts what a run takes, until its cluster is asked again."""
        accelerator = record.job.options[run.option].accelerator
        free = self._free.get(_place(run.cluster_id, record.job), {})
        if accelerator in free:
            free[accelerator] -= record.gpus_of(run)

    def _note_silence(self, cluster_id: str, error: ClusterUnavailableError) -> None:
        _log.warning("cluster_unavailable", cluster=cluster_id, error=error.message)
        self._silent[cluster_id] = error.message

    def take_up(self, record: JobRecord, *, reason: str) -> JobRecord:
        """The record of a run that has begun without us: with the intent written, it goes the usual way."""
        return self._write_intent(record, self._clock.now(), reason=reason)

    def _start(self, record: JobRecord, now: datetime) -> JobRecord:
        if record.run is not None and not record.run.is_ended and record.state is _S.SUSPENDED:
            return self._continue(record)
        is_repeat = record.state is _S.DISPATCHING
        return self._submit(
            record if is_repeat else self._write_intent(record, now), is_repeat=is_repeat
        )

    def _write_intent(
        self, record: JobRecord, now: datetime, *, reason: str | None = None
    ) -> JobRecord:
        placement = record.placement
        assert placement is not None
        previous = record.run
        is_resumed = record.state is _S.SUSPENDED and previous is not None
        _, gpus = current_stretch(placement, now)
        run = Run(
            attempt=previous.attempt if is_resumed and previous else record.attempt + 1,
            segment=previous.segment + 1 if is_resumed and previous else 0,
            cluster_id=placement.cluster_id,
            option=placement.option,
            power_w=_power_w(record.job, placement, gpus),
            pue=placement.pue,
            gpus=gpus,
            planned_g=placement.planned_g,
        )
        intent = replace(record, runs=(*record.runs, run))
        return self._lifecycle.change(
            intent,
            _S.DISPATCHING,
            kind="dispatching",
            reason=reason or f"to {placement.cluster_id}",
        )

    def _submit(self, record: JobRecord, *, is_repeat: bool) -> JobRecord:
        run = record.run
        assert run is not None
        cluster = self._clusters[run.cluster_id]
        # As late as can be: what slept since the intent was written must not start what another has in hand.
        self._leadership.require()
        try:
            ref = cluster.submit(build_dispatch(record, self._clock.now()))
        except ClusterFullError as error:
            self._free.pop(
                _place(run.cluster_id, record.job), None
            )  # others took it: to be asked again
            self._rests.begin(record.job.job_id, error.message, now=self._clock.now())
            return self._take_back(record, f"{FULL}{error.message}")
        except ClusterUnavailableError as error:
            self._note_silence(run.cluster_id, error)
            self._rests.begin(run.cluster_id, error.message, now=self._clock.now())
            if not is_repeat:
                return self._take_back(record, f"{SILENT}{error.message}")
            # An earlier try under this name may have started it: only asking again can tell.
            return tell(self._lifecycle, record, SILENT, error.message)
        except DispatchRejectedError as error:
            ended = record.with_run(replace(run, is_ended=True))
            # A user's own job that asks for nothing any more, or was taken away, has not failed.
            to = _S.FAILED if record.job.native is None else _S.CANCELLED
            return self._lifecycle.change(ended, to, kind="rejected", reason=error.message)
        except DispatchUncertainError as error:
            self._note_taken(record, run)
            return self._lifecycle.change(
                record, _S.UNCERTAIN, kind="dispatch_uncertain", reason=error.message
            )
        self._note_taken(record, run)
        self._rests.end(run.cluster_id, record.job.job_id)
        return self._lifecycle.change(
            record.with_run(replace(run, ref=ref, submitted_at=self._clock.now())),
            _S.DISPATCHED,
            kind="dispatched",
            reason=f"{run.cluster_id} as {ref}",
        )

    def _take_back(self, record: JobRecord, reason: str) -> JobRecord:
        """Nothing was started: the intent is undone, and the job is planned again."""
        undone = replace(record, runs=record.runs[:-1], placement=None)
        to = (
            _S.SUSPENDED if undone.runs and undone.runs[-1].attempt == record.attempt else _S.QUEUED
        )
        return self._lifecycle.change(undone, to, kind="not_started", reason=reason)

    def _continue(self, record: JobRecord) -> JobRecord:
        run = record.run
        assert run is not None
        self._leadership.require()
        try:
            self._clusters[run.cluster_id].resume(run_name(record))
        except ClusterFullError as error:
            return tell(self._lifecycle, record, FULL, error.message)
        except ClusterUnavailableError as error:
            self._note_silence(run.cluster_id, error)
            return tell(self._lifecycle, record, SILENT, error.message)
        self._note_taken(record, run)
        # One that went back to a queue begins when the cluster says so.
        since = None if record.job.native else self._clock.now()
        going = record.with_run(replace(run, pause_requested_at=None, since=since))
        return self._lifecycle.change(going, _S.RUNNING, kind="resumed")

    @staticmethod
    def _should_pause(record: JobRecord, now: datetime) -> bool:
        run = record.run
        return run is not None and run.pause_requested_at is None and is_over(record, now)

    def _pause_in_time(self, record: JobRecord, now: datetime) -> JobRecord:
        """Asks the run to leave at the end of its segment, unless that would cost the deadline.

        It may have begun late, or run slower than stated.
        """
        paused_end_at, deadline_at = end_after_pause(record, now), record.job.deadline_at
        if paused_end_at <= deadline_at or end_without_pause(record, now) >= paused_end_at:
            return self.pause(record, kind="pause_requested")
        stays = replace(record, placement=without_pauses(record, now))
        detail = f"a pause now would end it at {format_instant(paused_end_at)}, after its deadline"
        return self._lifecycle.note(stays, kind="pause_left_out", detail=detail)


def _place(cluster_id: str, job: Job) -> _Place:
    """Where the devices are that such a job would get; jobs of two places may still share some."""
    asked = job.slurm
    return (cluster_id, *((asked.partition, asked.reservation) if asked else (None, None)))


def _lack(
    job: Job, cluster_id: str, accelerator: str, *, needed: int, free: Mapping[str, int]
) -> str | None:
    """What is not free there; None where enough is."""
    if accelerator not in free:
        if _place(cluster_id, job) != (cluster_id, None, None):
            return None  # what the job itself asks for may not exist: its cluster has the words for that
        return f"{cluster_id} has no {accelerator}; `gridtide doctor` may tell why"
    if free[accelerator] < needed:
        return f"{needed} {accelerator} needed, {free[accelerator]} free on {cluster_id}"
    return None


def grace_s(job: Job) -> float:
    """Seconds of the wall clock between SIGTERM and SIGKILL."""
    cost_s = job.interruptible.checkpoint_cost_s if job.interruptible else 0
    return max(MIN_GRACE_S, cost_s, job.kubernetes.grace_s if job.kubernetes else 0)


def _power_w(job: Job, placement: Placement, gpus: int) -> float:
    """Draw at this width."""
    widths = job.elastic.widths if job.elastic else ()
    return next((width.power_w for width in widths if width.gpus == gpus), placement.power_w)


def run_name(record: JobRecord) -> str:
    """Name of the newest run: unique for ever, the key for looking it up on its cluster."""
    run, native = record.run, record.job.native
    assert run is not None
    if native is not None:
        return native_name(native.ref)
    return f"{record.job.job_id}.{run.attempt}.{run.segment}"


def build_dispatch(record: JobRecord, now: datetime) -> Dispatch:
    """What the cluster gets for the newest run, with what interfaces.md promises a running job."""
    run, placement, job = record.run, record.placement, record.job
    assert run is not None
    option = job.options[run.option]
    end_at = current_stretch(placement, now)[0].end_at if placement else job.deadline_at
    gpus = record.gpus_of(run)
    promised = {
        "GRIDTIDE_JOB_ID": job.job_id,
        "GRIDTIDE_ATTEMPT": str(run.attempt),
        "GRIDTIDE_SEGMENT": str(run.segment),
        "GRIDTIDE_GPUS": str(gpus),
        "GRIDTIDE_DEADLINE": format_instant(job.deadline_at),
        "GRIDTIDE_WINDOW_END": format_instant(end_at),
    }
    return Dispatch(
        name=run_name(record),
        job_id=job.job_id,
        command=job.command,
        env=tuple((dict(job.env) | promised).items()),
        workdir=job.workdir,
        accelerator=option.accelerator,
        gpus=gpus,
        num_nodes=option.num_nodes,
        checkpoint_key=job.job_id,
        slurm=job.slurm,
        kubernetes=job.kubernetes,
        grace_s=grace_s(job),
    )
