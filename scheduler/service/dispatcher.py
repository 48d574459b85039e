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
from scheduler.ports import Clock, ClusterAdapter, Dispatch
from scheduler.service.dependencies import Dependencies
from scheduler.service.lifecycle import Lifecycle, unless_conflicting
from scheduler.service.progress import (
    current_stretch,
    end_after_pause,
    end_without_pause,
    is_over,
    without_pauses,
)

_log = structlog.get_logger(__name__)
_S = JobState
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
        clock: Clock,
    ) -> None:
        self._clusters = clusters
        self._dependencies = dependencies
        self._lifecycle = lifecycle
        self._clock = clock

    def run(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """All records after everything that is due was started, and everything overdue paused."""
        now = self._clock.now()
        due = [record for record in records if self._is_due(record, now)]
        due.sort(key=lambda record: (-record.job.priority, record.job.deadline_at))
        changed = {
            record.job.job_id: unless_conflicting(lambda one: self._start(one, now), record)
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
        cost_s = record.job.interruptible.checkpoint_cost_s if record.job.interruptible else 0
        try:
            self._clusters[run.cluster_id].pause(run_name(record), grace_s=max(MIN_GRACE_S, cost_s))
        except ClusterUnavailableError as error:
            _log.warning("cluster_unavailable", cluster=run.cluster_id, error=error.message)
            return record  # asked again by the next tick
        if run.pause_requested_at is not None:
            return record
        asked = replace(run, pause_requested_at=self._clock.now())
        return self._lifecycle.note(record.with_run(asked), kind=kind)

    def _is_due(self, record: JobRecord, now: datetime) -> bool:
        if record.state is _S.DISPATCHING:
            return True
        if record.wanted is not Wanted.RUN or record.placement is None:
            return False
        if record.state not in (_S.PLANNED, _S.SUSPENDED):
            return False
        if record.placement.window.start_at > now or not self._dependencies.are_met(record.job):
            return False
        return self._has_room(record.placement, now)

    def _has_room(self, placement: Placement, now: datetime) -> bool:
        try:
            free = self._clusters[placement.cluster_id].free_devices()
        except ClusterUnavailableError as error:
            _log.warning("cluster_unavailable", cluster=placement.cluster_id, error=error.message)
            return False
        _, gpus = current_stretch(placement, now)
        return free.get(placement.accelerator, 0) >= gpus

    def _start(self, record: JobRecord, now: datetime) -> JobRecord:
        if record.run is not None and not record.run.is_ended and record.state is _S.SUSPENDED:
            return self._continue(record)
        is_repeat = record.state is _S.DISPATCHING
        return self._submit(
            record if is_repeat else self._write_intent(record, now), is_repeat=is_repeat
        )

    def _write_intent(self, record: JobRecord, now: datetime) -> JobRecord:
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
            intent, _S.DISPATCHING, kind="dispatching", reason=f"to {placement.cluster_id}"
        )

    def _submit(self, record: JobRecord, *, is_repeat: bool) -> JobRecord:
        run = record.run
        assert run is not None
        cluster = self._clusters[run.cluster_id]
        try:
            ref = cluster.submit(build_dispatch(record, self._clock.now()))
        except ClusterFullError as error:
            return self._take_back(record, error.message)
        except ClusterUnavailableError as error:
            # An earlier try under this name may have started it: only asking again can tell.
            return record if is_repeat else self._take_back(record, error.message)
        except DispatchRejectedError as error:
            ended = record.with_run(replace(run, is_ended=True))
            return self._lifecycle.change(ended, _S.FAILED, kind="rejected", reason=error.message)
        except DispatchUncertainError as error:
            return self._lifecycle.change(
                record, _S.UNCERTAIN, kind="dispatch_uncertain", reason=error.message
            )
        return self._lifecycle.change(
            record.with_run(replace(run, ref=ref)),
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
        try:
            self._clusters[run.cluster_id].resume(run_name(record))
        except (ClusterFullError, ClusterUnavailableError) as error:
            return self._lifecycle.note(replace(record, reason=error.message))
        going = record.with_run(replace(run, pause_requested_at=None, since=self._clock.now()))
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


def _power_w(job: Job, placement: Placement, gpus: int) -> float:
    """Draw at this width."""
    widths = job.elastic.widths if job.elastic else ()
    return next((width.power_w for width in widths if width.gpus == gpus), placement.power_w)


def run_name(record: JobRecord) -> str:
    """Name of the newest run: unique for ever, the key for looking it up on its cluster."""
    run = record.run
    assert run is not None
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
    )
