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
from scheduler.core.job import JobRecord, JobState, Placement, Run, Wanted
from scheduler.core.timegrid import Window, format_instant
from scheduler.ports import Clock, ClusterAdapter, Dispatch
from scheduler.service.lifecycle import Lifecycle, unless_conflicting

_log = structlog.get_logger(__name__)
_S = JobState
MIN_GRACE_S: Final = 30.0
"""Shortest time between SIGTERM and SIGKILL, on the wall clock (interfaces.md)."""


class Dispatcher:
    """Starts, resumes and pauses runs."""

    def __init__(
        self, *, clusters: Mapping[str, ClusterAdapter], lifecycle: Lifecycle, clock: Clock
    ) -> None:
        self._clusters = clusters
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
                    lambda one: self.pause(one, kind="pause_requested"), record
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
        return record.placement.window.start_at <= now and self._has_room(record, record.placement)

    def _has_room(self, record: JobRecord, placement: Placement) -> bool:
        try:
            free = self._clusters[placement.cluster_id].free_devices()
        except ClusterUnavailableError as error:
            _log.warning("cluster_unavailable", cluster=placement.cluster_id, error=error.message)
            return False
        return free.get(placement.accelerator, 0) >= record.job.options[placement.option].gpus

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
        run = Run(
            attempt=previous.attempt if is_resumed and previous else record.attempt + 1,
            segment=previous.segment + 1 if is_resumed and previous else 0,
            cluster_id=placement.cluster_id,
            option=placement.option,
            power_w=placement.power_w,
            pue=placement.pue,
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
        going = record.with_run(replace(run, pause_requested_at=None))
        return self._lifecycle.change(going, _S.RUNNING, kind="resumed")

    def _should_pause(self, record: JobRecord, now: datetime) -> bool:
        """Whether its present segment is over while another is still to come."""
        placement, run = record.placement, record.run
        if placement is None or run is None or run.pause_requested_at is not None:
            return False
        window = current_segment(placement, now)
        return window.start_at > now and any(seg.end_at <= now for seg in placement.segments)


def current_segment(placement: Placement, now: datetime) -> Window:
    """The segment that holds `now`, else the next one, else the last."""
    return next(
        (window for window in placement.segments if window.end_at > now), placement.segments[-1]
    )


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
    end_at = current_segment(placement, now).end_at if placement else job.deadline_at
    promised = {
        "GRIDTIDE_JOB_ID": job.job_id,
        "GRIDTIDE_ATTEMPT": str(run.attempt),
        "GRIDTIDE_SEGMENT": str(run.segment),
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
        gpus=option.gpus,
        num_nodes=option.num_nodes,
        checkpoint_key=job.job_id,
    )
