"""The places that waiting jobs have: which may be used, moved, or are lost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from scheduler.core.capacity import Reservation
from scheduler.core.errors import InfeasibleError
from scheduler.core.fleet import Fleet
from scheduler.core.job import WAITING_STATES, Job, JobId, JobRecord, JobState, Placement, Wanted
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import (
    Plan,
    PlanRequest,
    PlanSnapshot,
    Unplaced,
    UnplacedReason,
)
from scheduler.core.timegrid import SlotGrid, format_instant
from scheduler.core.units import format_duration
from scheduler.service.dependencies import Following
from scheduler.service.progress import held_stretches

_S: Final = JobState
_NOT_LATE: Final = frozenset({UnplacedReason.OVER_LIMIT, UnplacedReason.AFTER_UNPLACED})
"""Reasons that time does not mend: such a job is not placed late, but waits."""
_LIMITS: Final = ("max_carbon_g", "max_cost", "min_renewable_share")


def with_late_ones(snapshot: PlanSnapshot, plan: Plan) -> Plan:
    """The plan, with jobs whose deadline is lost placed as early as anything is free.

    They were accepted once: late is better than never. But never beyond a limit, or before what they wait for.
    """
    late = [
        one
        for one in plan.unplaced
        if one.earliest_finish_at is not None and one.reason not in _NOT_LATE
    ]
    if not late:
        return plan
    search = WindowSearch(snapshot)
    for placement in plan.placements:
        search.take(placement)
    by_id = {request.job_id: request for request in snapshot.requests}
    ends = {placement.job_id: placement.window.end_at for placement in plan.placements}
    placed = list[Placement]()
    for request in (by_id[one.job_id] for one in late):
        after = [ends[other] for other in request.after if other in ends]
        found = search.place_late(replace(request, earliest_at=max([request.earliest_at, *after])))
        if found is not None:
            placed.append(found)
            ends[request.job_id] = found.window.end_at
    return Plan(
        placements=(*plan.placements, *placed),
        unplaced=tuple(one for one in plan.unplaced if one.job_id not in ends),
    )


def late_ones(plan: Plan, records: Sequence[JobRecord]) -> set[str]:
    """Jobs that the plan ends after their deadlines."""
    deadlines = {record.job.job_id: record.job.deadline_at for record in records}
    return {
        placement.job_id
        for placement in plan.placements
        if placement.window.end_at > deadlines.get(placement.job_id, placement.window.end_at)
    }


def reservations_of(record: JobRecord, grid: SlotGrid, now: datetime) -> list[Reservation]:
    """What a job holds: the rest of its run while on a cluster, else its planned windows."""
    placement = record.placement
    if placement is None:
        return []
    return [
        Reservation(
            cluster_id=placement.cluster_id,
            accelerator=placement.accelerator,
            gpus=gpus,
            window=window,
        )
        for window, gpus in held_stretches(record, now, at_least_until=grid.at(grid.slot_s))
    ]


def ran(record: JobRecord) -> tuple[int, int]:
    """Tells one pause from the next."""
    return len(record.runs), len(record.runs[-1].spans) if record.runs else 0


def is_in_time(found: Mapping[JobId, Placement], request: PlanRequest) -> bool:
    """Whether the job starts after all that it waits for, and ends by its deadline."""
    window = found[request.job_id].window
    return window.end_at <= request.deadline_at and all(
        other in found and found[other].window.end_at <= window.start_at for other in request.after
    )


def is_movable(record: JobRecord, now: datetime, following: Following) -> bool:
    """Whether a plan may give it another place."""
    if record.state not in WAITING_STATES or record.wanted is not Wanted.RUN:
        return False
    if following.is_early(record):
        return True
    if record.is_pinned and record.state is not _S.QUEUED and record.placement is not None:
        return (
            False  # the user said when; a start that was missed is caught up with, not planned anew
        )
    is_due = record.placement is not None and record.placement.window.start_at <= now
    return record.state is _S.QUEUED or not is_due or not holds(record, now)


def holds(record: JobRecord, now: datetime) -> bool:
    """Whether it has a placement that can still be used."""
    return record.placement is not None and not is_stale(record, now)


def is_stale(record: JobRecord, now: datetime) -> bool:
    """Whether its start was missed by so much that another place or hour should be looked for."""
    if record.placement is None:
        return False
    segment = record.placement.segments[0]
    return now > segment.start_at + (segment.end_at - segment.start_at) / 4


def infeasible(request: PlanRequest, refused: Unplaced, job: Job, fleet: Fleet) -> InfeasibleError:
    """Why a new job cannot end in time, by the field that keeps it from it, and when it could."""
    finish_at = refused.earliest_finish_at
    field, value, valid = _cause(request, refused, job, fleet)
    after = f" after {', '.join(job.after)}" if job.after else ""
    if finish_at is not None:
        when = f"; the earliest finish possible now is {format_instant(finish_at)}"
    else:
        when = f"; {valid}" if valid else "; nothing in the horizon has room for it"
    return InfeasibleError(
        f"{field}: {value} cannot be {'met' if field == 'deadline' else 'had'}{after}: {refused.detail}{when}",
        field=field,
        value=value,
        valid=valid,
        reason=str(refused.reason),
        earliest_finish=format_instant(finish_at) if finish_at else None,
    )


def _cause(
    request: PlanRequest, refused: Unplaced, job: Job, fleet: Fleet
) -> tuple[str, str, str | None]:
    """The field, its value, and what it could be."""
    match refused.reason:
        case UnplacedReason.NOT_ALLOWED:
            asked = " or ".join(f"{one.accelerator}:{one.gpus}" for one in job.options)
            there = [
                f"{accelerator}:{gpus} on {cluster.cluster_id}"
                for cluster in fleet
                if job.allows(cluster)
                for accelerator, gpus in cluster.capacity
            ]
            return "resources", asked, f"there are {', '.join(there) or 'no clusters'}"
        case UnplacedReason.OVER_LIMIT:
            limits = {name: getattr(job.limits, name) for name in _LIMITS}
            name, value = next((name, value) for name, value in limits.items() if value is not None)
            return name, f"{value:g}", None
        case UnplacedReason.PAST_HORIZON:
            shortest_s = min(choice.duration_s for choice in request.choices)
            return "duration", format_duration(shortest_s), "shorter runs, or a longer horizon"
        case _:
            return "deadline", format_instant(request.deadline_at), None
