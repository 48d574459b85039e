"""The job: what a user asked for, what became of it, and the one table of legal state changes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NewType

from scheduler.core.errors import IllegalTransitionError
from scheduler.core.fleet import Cluster
from scheduler.core.forecast import Provenance
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.core.slurm_terms import JobSlurm
from scheduler.core.terms import (
    NO_LIMITS,
    DataNeed,
    Elastic,
    Interruptible,
    Limits,
    ResourceOption,
    require,
)
from scheduler.core.timegrid import Window, format_instant, within_reach
from scheduler.core.units import format_duration

JobId = NewType("JobId", str)

NAME_FORM: Final = "1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
_TIMES: Final = {
    "submitted_at": "submitted_at",
    "deadline_at": "deadline",
    "earliest_start_at": "not_before",
}
"""What users call them."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # accepted and durable; no placement yet
    PLANNED = "planned"  # has a placement in the future
    HELD = "held"  # waits for a release by the user (or, later, a budget)
    DISPATCHING = "dispatching"  # intent written; the cluster has been, or is about to be, asked
    UNCERTAIN = (
        "uncertain"  # the cluster's reply was lost; to be looked up, never resubmitted blindly
    )
    DISPATCHED = "dispatched"  # the cluster has it
    RUNNING = "running"  # its command runs
    SUSPENDED = "suspended"  # paused with its work kept; waits for its next segment
    SUCCEEDED = "succeeded"  # ended with exit code 0
    FAILED = "failed"  # ended otherwise, or refused by its cluster, with no retries left
    CANCELLED = "cancelled"  # ended by its user
    MISSED = "missed"  # its deadline passed before it could start


_S = JobState
TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    _S.QUEUED: frozenset({_S.PLANNED, _S.HELD, _S.DISPATCHING, _S.CANCELLED, _S.MISSED}),
    _S.PLANNED: frozenset({_S.QUEUED, _S.HELD, _S.DISPATCHING, _S.CANCELLED, _S.MISSED}),
    _S.HELD: frozenset({_S.QUEUED, _S.SUSPENDED, _S.CANCELLED, _S.MISSED}),
    _S.DISPATCHING: frozenset(
        {_S.DISPATCHED, _S.UNCERTAIN, _S.QUEUED, _S.SUSPENDED, _S.FAILED, _S.CANCELLED}
    ),
    _S.UNCERTAIN: frozenset({_S.DISPATCHED, _S.QUEUED, _S.SUSPENDED, _S.FAILED, _S.CANCELLED}),
    _S.DISPATCHED: frozenset(
        {_S.RUNNING, _S.SUSPENDED, _S.HELD, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}
    ),
    _S.RUNNING: frozenset(
        {_S.SUSPENDED, _S.HELD, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}
    ),
    _S.SUSPENDED: frozenset(
        {_S.DISPATCHING, _S.RUNNING, _S.HELD, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}
    ),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.MISSED: frozenset(),
}
ENDED_STATES: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)
ACTIVE_STATES: Final = frozenset(JobState) - ENDED_STATES
WAITING_STATES: Final = frozenset(
    {_S.QUEUED, _S.PLANNED, _S.SUSPENDED}
)  # the planner may move these
ON_CLUSTER_STATES: Final = frozenset({_S.DISPATCHED, _S.RUNNING})


class Wanted(StrEnum):
    """What the user wants of a job; the next tick carries it out where the job is on a cluster."""

    RUN = "run"
    HOLD = "hold"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """A job that its user gave to a cluster's own queue, and that is planned there.

    Args:
        ref: the cluster's own id for it.
        user: whose it is, as the cluster names them.
    """

    ref: str
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a user submitted. Immutable; every time is aware UTC, every duration whole seconds.

    Args:
        deadline_at: latest allowed finish.
        earliest_start_at: not before this.
        start_by_at: latest allowed start, if the user set one.
        options: hardware choices, in the user's order; the first one defines the baseline.
        duration_p95_s: run time that 95 % of such runs stay within; margin before the deadline.
        regions: allowed regions; empty means all.
        workdir: the folder in which it begins, as the user states it.
        submitted_from: the folder in which the user was: where it begins on clusters that see users' folders.
        env: variables for the command, beside those that interfaces.md promises.
        after: jobs that must have succeeded before it starts.
        cluster_ids: the only clusters that can run it; empty means all.
        native: where it waits, if it was given to a cluster's own queue.
        slurm: what it asks of Slurm; `cluster_ids` are then clusters that take it.
        kubernetes: likewise of Kubernetes; a job asks of one of them at most.

    Raises:
        InvalidJobError: naming the field, the value and the valid form.
    """

    job_id: JobId
    name: str
    command: tuple[str, ...]
    submitted_at: datetime
    deadline_at: datetime
    earliest_start_at: datetime
    start_by_at: datetime | None = None
    options: tuple[ResourceOption, ...]
    duration_p95_s: int | None = None
    interruptible: Interruptible | None = None
    elastic: Elastic | None = None
    data: DataNeed | None = None
    limits: Limits = NO_LIMITS
    after: tuple[JobId, ...] = ()
    regions: tuple[str, ...] = ()
    forbid_regions: tuple[str, ...] = ()
    priority: int = 0
    project: str = "default"
    max_retries: int = 0
    env: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    submitted_from: str | None = None
    cluster_ids: tuple[str, ...] = ()
    native: Native | None = None
    slurm: JobSlurm | None = None
    kubernetes: JobKubernetes | None = None

    def __post_init__(self) -> None:
        for name, said in _TIMES.items():
            object.__setattr__(self, name, within_reach(getattr(self, name), field=said))
        if self.start_by_at is not None:
            start_by_at = within_reach(self.start_by_at, field="start_by")
            object.__setattr__(self, "start_by_at", start_by_at)
        require(_NAME.fullmatch(self.name) is not None, "name", self.name, NAME_FORM)
        require(
            bool(self.command) and bool(self.command[0]),
            "command",
            str(list(self.command)),
            "a list that begins with a program",
        )
        require(
            not any("\0" in part for part in self.command),
            "command",
            str(list(self.command)),
            "texts without NUL characters",
        )
        require(bool(self.options), "resources", "[]", "at least one option")
        require(
            self.duration_p95_s is None or self.duration_p95_s >= self.options[0].duration_s,
            "duration_p95",
            format_duration(self.duration_p95_s or 0),
            f"at least the duration, {format_duration(self.options[0].duration_s)}",
        )
        require(
            -1000 <= self.priority <= 1000, "priority", self.priority, "a number from -1000 to 1000"
        )
        require(
            0 <= self.max_retries <= 100, "max_retries", self.max_retries, "a number from 0 to 100"
        )
        self._require_times()
        self._require_width()

    def _require_width(self) -> None:
        if self.elastic is not None:
            require(
                len(self.options) == 1,
                "elastic",
                f"{len(self.options)} options",
                "given with a single resources option",
            )
            self.elastic.throughput(self.options[0].gpus)

    def _require_times(self) -> None:
        # Whether a run fits before the deadline is the planner's to say, with the earliest finish.
        first = format_instant(self.earliest_start_at)
        require(
            self.deadline_at > self.earliest_start_at,
            "deadline",
            format_instant(self.deadline_at),
            f"after {first}, when the job may start",
        )
        require(
            self.start_by_at is None or self.start_by_at >= self.earliest_start_at,
            "start_by",
            format_instant(self.start_by_at) if self.start_by_at else None,
            f"{first} or later",
        )

    def margin_s(self, option: ResourceOption) -> int:
        """Seconds to keep free before the deadline for a run that takes long (0 where unknown).

        `duration_p95` is stated for the first option; other options scale with their duration.
        """
        if self.duration_p95_s is None:
            return 0
        first_s = self.options[0].duration_s
        return -(-(self.duration_p95_s - first_s) * option.duration_s // first_s)

    def speed(self, gpus: int) -> float:
        """Work per hour at this width, relative to the width that the durations are stated for."""
        if self.elastic is None:
            return 1.0
        return self.elastic.throughput(gpus) / self.elastic.throughput(self.options[0].gpus)

    def latest_start_at(self, option: ResourceOption) -> datetime:
        """Latest start that still meets the deadline (and `start_by`), without any margin."""
        latest = self.deadline_at - timedelta(seconds=option.duration_s)
        return latest if self.start_by_at is None else min(latest, self.start_by_at)

    def allows(self, cluster: Cluster) -> bool:
        """Whether the job can run in this cluster, and its user lets it."""
        is_able = not self.cluster_ids or cluster.cluster_id in self.cluster_ids
        is_listed = not self.regions or cluster.region_id in self.regions
        return is_able and is_listed and cluster.region_id not in self.forbid_regions


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and when a job is to run, with its expected footprint.

    Args:
        option: index into the job's options.
        gpus: devices in use, the most of any segment.
        power_w: mean draw over the segments.
        pue: facility energy / device energy over the segments.
        segments: one window, or several for a job that pauses or changes its width; in order, in one cluster.
        widths: devices in each segment; empty where all have `gpus`.
        energy_kwh: at the facility, with what moving its data takes.
        planned_g: expected footprint in gCO2e; None where no forecast covers it.
        cost: money for devices and for moving data; None where the cluster states no price.
        provenance: what the footprint was computed from.
    """

    job_id: JobId
    cluster_id: str
    region_id: str
    zone_id: str
    option: int
    accelerator: str
    gpus: int
    power_w: float
    pue: float
    segments: tuple[Window, ...]
    energy_kwh: float
    planned_g: float | None
    provenance: Provenance | None
    widths: tuple[int, ...] = ()
    cost: float | None = None

    @property
    def window(self) -> Window:
        """From the first start to the last end."""
        if len(self.segments) == 1:
            return self.segments[0]
        return Window(self.segments[0].start_at, self.segments[-1].end_at)

    @property
    def stretches(self) -> tuple[tuple[Window, int], ...]:
        """Each segment with its devices."""
        widths = self.widths or (self.gpus,) * len(self.segments)
        return tuple(zip(self.segments, widths, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What running at once at home would be: frozen when the job is submitted.

    Place, start and power never change afterwards. Its length does: once the job has ended, the
    counterfactual runs as long as the job was measured to run, so that a generous estimate of the
    duration cannot look like a saving. `planned_g` keeps the figure of the day of submission.
    """

    cluster_id: str
    region_id: str
    zone_id: str
    accelerator: str
    gpus: int
    power_w: float
    pue: float
    window: Window
    planned_g: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One dispatch of a job: one attempt at one segment on one cluster.

    Args:
        gpus: devices that it has; None: those of its option.
        ref: the cluster's own id for it; None until known.
        submitted_at: when the cluster took it.
        spans: finished stretches in which it drew power, in order.
        since: beginning of the stretch that is not finished; None while it does not run.
        is_ended: the cluster is done with it.
        exit_code: None while unknown; negative for death by a signal.
        work_s: progress that this run adds to the job, in seconds of its option at the stated width (0
            for work that was lost).
        energy_kwh: measured at the device, where the cluster measures.
        pause_requested_at: when it was asked to checkpoint and leave.
        planned_g: footprint that the plan expected of this run and all that was to follow it.
    """

    attempt: int
    segment: int
    cluster_id: str
    option: int
    power_w: float
    pue: float
    gpus: int | None = None
    ref: str | None = None
    submitted_at: datetime | None = None
    spans: tuple[Window, ...] = ()
    since: datetime | None = None
    is_ended: bool = False
    exit_code: int | None = None
    work_s: float = 0.0
    energy_kwh: float | None = None
    pause_requested_at: datetime | None = None
    planned_g: float | None = None

    @property
    def run_s(self) -> float:
        """Seconds in which it drew power."""
        return sum(span.duration_s for span in self.spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job and all that Gridtide knows of it. Each write raises `version` by one.

    Args:
        reason: why it is in this state, in a sentence for the user.
        is_degraded: some decision on it was made without a usable forecast; stays True for ever.
        is_pinned: the user chose its start; plans leave it where it is.
    """

    job: Job
    state: JobState
    version: int
    updated_at: datetime
    baseline: Baseline
    wanted: Wanted = Wanted.RUN
    placement: Placement | None = None
    runs: tuple[Run, ...] = ()
    reason: str | None = None
    is_degraded: bool = False
    is_pinned: bool = False

    @property
    def run(self) -> Run | None:
        """The newest run, or None before the first dispatch."""
        return self.runs[-1] if self.runs else None

    @property
    def attempt(self) -> int:
        """Number of the current attempt, from 1; 0 before the first."""
        return self.runs[-1].attempt if self.runs else 0

    @property
    def done_share(self) -> float:
        """Share of the stated run time that the runs of this attempt have worked off and kept."""
        return sum(
            run.work_s / self.job.options[run.option].duration_s
            for run in self.runs
            if run.attempt == self.attempt
        )

    def gpus_of(self, run: Run) -> int:
        """Devices that a run has."""
        return self.job.options[run.option].gpus if run.gpus is None else run.gpus

    @property
    def run_s(self) -> float:
        """Seconds for which any of its runs drew power."""
        return sum(run.run_s for run in self.runs)

    @property
    def started_at(self) -> datetime | None:
        """When it first ran."""
        starts = [span.start_at for run in self.runs for span in run.spans]
        starts += [run.since for run in self.runs if run.since is not None]
        return min(starts, default=None)

    @property
    def ended_at(self) -> datetime | None:
        """When it last ran, for a job that has ended."""
        spans = [span for run in self.runs for span in run.spans]
        return max(span.end_at for span in spans) if spans and self.state in ENDED_STATES else None

    @property
    def has_missed_deadline(self) -> bool:
        """True for a job that ended, or could not start, after its deadline."""
        if self.state is JobState.MISSED:
            return True
        ended_at = self.ended_at
        return (
            self.state is JobState.SUCCEEDED
            and ended_at is not None
            and ended_at > self.job.deadline_at
        )

    def with_run(self, run: Run) -> "JobRecord":
        """The same record with its newest run replaced by `run`."""
        return replace(self, runs=(*self.runs[:-1], run))


def next_record(record: JobRecord, to: JobState, *, at: datetime, reason: str | None) -> JobRecord:
    """The record after a change of state, with its version raised.

    Raises:
        IllegalTransitionError: the table has no such step.
    """
    if to not in TRANSITIONS[record.state]:
        raise IllegalTransitionError(
            f"job {record.job.job_id} is {record.state}; it cannot become {to}",
            job_id=record.job.job_id,
            state=record.state,
            wanted=to,
        )
    return replace(record, state=to, version=record.version + 1, updated_at=at, reason=reason)
