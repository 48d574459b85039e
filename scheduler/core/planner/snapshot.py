"""What the planner reads, and what it answers."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.capacity import CapacityLedger
from scheduler.core.data_moves import NO_MOVE, DataMove, DataMoves
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.forecast import ForecastMatrix
from scheduler.core.job import Job, JobId, Placement
from scheduler.core.terms import NO_LIMITS, Elastic, Interruptible, Limits
from scheduler.core.units import SECONDS_PER_HOUR

ANY_MOVES: Final = DataMoves()


class UnplacedReason(StrEnum):
    """Why a job has no placement."""

    NO_CAPACITY = "NO_CAPACITY"  # nowhere free for long enough before the deadline
    PAST_DEADLINE = "PAST_DEADLINE"  # cannot end in time even on an empty fleet
    PAST_HORIZON = "PAST_HORIZON"  # its run would end later than the plan looks ahead
    NO_FORECAST = "NO_FORECAST"  # no intensity covers any window that has room
    NOT_ALLOWED = "NOT_ALLOWED"  # no cluster that the job may use has the hardware
    OVER_LIMIT = "OVER_LIMIT"  # only places that cost or emit more than the job allows
    AFTER_UNPLACED = "AFTER_UNPLACED"  # a job that it waits for has no place


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One (cluster, hardware option) that a job may use.

    Args:
        margin_s: seconds to keep free before the deadline, if they can be kept.
        move: what it takes to have the job's data there.
    """

    cluster: Cluster
    option: int
    accelerator: str
    gpus: int
    duration_s: int
    power_w: float
    margin_s: int = 0
    move: DataMove = NO_MOVE

    def cost(self, gpu_s: float) -> float | None:
        """Money for so many device-seconds and the data; None where the cluster states no price."""
        price = self.cluster.price_per_gpu_hour
        if price is None:
            return None
        return price * gpu_s / SECONDS_PER_HOUR + self.move.price


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """One job as the planner sees it: where it may run, and between when and when.

    Args:
        interruptible: how it may be paused; None: one segment.
        elastic: how wide it may run; None: as wide as each choice says.
        after: jobs that must have ended before it starts; those not in the snapshot have.
        held: where an earlier plan put it; it only moves for a gain beyond the forecast's error.
    """

    job_id: JobId
    choices: tuple[Choice, ...]
    earliest_at: datetime
    deadline_at: datetime
    start_by_at: datetime | None = None
    priority: int = 0
    interruptible: Interruptible | None = None
    elastic: Elastic | None = None
    limits: Limits = NO_LIMITS
    after: tuple[JobId, ...] = ()
    held: Placement | None = None

    def shortest_s(self, slot_s: int) -> int:
        """The least seconds from its start to its end; at other widths than its own it fills whole slots."""
        seconds = min((choice.duration_s for choice in self.choices), default=0)
        if self.elastic is None or not self.choices or not self.is_flexible:
            return seconds
        most = max(width.throughput for width in self.elastic.widths)
        fastest = seconds * self.elastic.throughput(self.choices[0].gpus) / most
        return min(seconds, math.ceil(fastest / slot_s) * slot_s)

    @property
    def is_flexible(self) -> bool:
        """Whether it may pause or change its width."""
        how = self.interruptible
        return self.elastic is not None or (
            how is not None
            and how.max_interruptions > 0
            and any(choice.duration_s > how.min_chunk_s for choice in self.choices)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSnapshot:
    """Immutable input of one planning. The same snapshot always gives the same plan.

    Args:
        forecast: intensity on the slots of the plan.
        capacity: what running and fixed jobs leave free, on the same slots or on parts of them.
        is_fail_open: place jobs that no forecast covers at their earliest start, instead of leaving
            them unplaced.
        rhythm_s: slots of pauses and widths, of which those of the forecast may be parts; None: the same.
    """

    now: datetime
    fleet: Fleet
    forecast: ForecastMatrix
    capacity: CapacityLedger
    requests: tuple[PlanRequest, ...]
    is_fail_open: bool = False
    rhythm_s: int | None = None

    @property
    def pause_slot_s(self) -> int:
        """Least seconds between two segments, and length of the slots in which a width stays."""
        return self.rhythm_s or self.forecast.grid.slot_s


def _never() -> bool:
    return False


def _silently(stage: str, share: float) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on while a plan is made.

    Args:
        is_over: asked now and then; True ends the search with the best plan so far.
        tell: called with the name of a stage and the share of it that is done, 0 to 1.
    """

    is_over: Callable[[], bool] = _never
    tell: Callable[[str, float], None] = _silently


NOBODY: Final = Watch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A job without a placement, why, and the earliest finish that the horizon offers."""

    job_id: JobId
    reason: UnplacedReason
    detail: str
    earliest_finish_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What was asked, and what the placements leave free."""

    snapshot: PlanSnapshot
    left: CapacityLedger


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Outcome of one planning, in the order of the requests.

    Args:
        lower_bound_g: no feasible plan that places the same jobs emits less; placements without a
            forecast are not counted. Proven by `prices`.
        prices: (rows, slots), what a device is worth there and then, in grams; None where nothing was asked.
        memory: what a later plan can make use of.
    """

    placements: tuple[Placement, ...]
    unplaced: tuple[Unplaced, ...]
    lower_bound_g: float = 0.0
    prices: NDArray[np.float64] | None = None
    memory: Memory | None = None

    @property
    def emissions_g(self) -> float:
        """What the placements are expected to emit, of those that a forecast covers."""
        return sum(placement.planned_g or 0.0 for placement in self.placements)

    @property
    def gap(self) -> float:
        """How far the emissions may be above the optimum, as a share of the bound; infinite where that is 0."""
        if self.lower_bound_g <= 0:
            return 0.0 if self.emissions_g <= 0 else math.inf
        return max(0.0, self.emissions_g / self.lower_bound_g - 1)


def choices_of(job: Job, fleet: Fleet, moves: DataMoves = ANY_MOVES) -> tuple[Choice, ...]:
    """Every (option, cluster) that the job may use: the user's order of options, then the fleet's."""
    least = job.elastic.widths[0].gpus if job.elastic else 0
    return tuple(
        Choice(
            cluster=cluster,
            option=index,
            accelerator=option.accelerator,
            gpus=option.gpus,
            duration_s=option.duration_s,
            power_w=option.power_w,
            margin_s=job.margin_s(option) + cluster.queue_wait_s,
            move=moves.of(job.data, cluster.region_id),
        )
        for index, option in enumerate(job.options)
        for cluster in fleet
        if job.allows(cluster) and cluster.gpus(option.accelerator) >= (least or option.gpus)
    )


def request_of(job: Job, choices: Iterable[Choice]) -> PlanRequest:
    """The request of a job that has not run yet."""
    return PlanRequest(
        job_id=job.job_id,
        choices=tuple(choices),
        earliest_at=job.earliest_start_at,
        deadline_at=job.deadline_at,
        start_by_at=job.start_by_at,
        priority=job.priority,
        interruptible=job.interruptible,
        elastic=job.elastic,
        limits=job.limits,
        after=job.after,
    )
