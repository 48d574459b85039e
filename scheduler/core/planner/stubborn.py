"""A second try for jobs that the joint placing leaves out though nobody need: those that fit only with pauses, or to the second.

All jobs are first placed as if they ran whole, on slots. A job that fits only in pieces, or in no slot, then finds what the
others left. Here it goes first, and the others are placed around it; the better of both ways is kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from scheduler.core.capacity import CapacityLedger
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.columns import money_weight
from scheduler.core.planner.flexible import FlexibleJobs
from scheduler.core.planner.joint import Problem, build_problem, place_jointly
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.prices import Prices
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.shaking import Shaking
from scheduler.core.planner.snapshot import NOBODY, PlanRequest, Watch
from scheduler.core.timegrid import SlotGrid

MOST: Final = 100
"""Jobs that may go first."""

Places = tuple[dict[JobId, Placement], CapacityLedger]


def stubborn(
    problem: Problem, placements: Mapping[JobId, Placement], slot_s: int
) -> list[PlanRequest]:
    """Jobs without a place that may fit in pieces, or have less slack than two slots of `slot_s`."""
    columns = problem.instance.columns
    found = []
    for request, (earliest_s, deadline_s, _) in zip(
        columns.requests, columns.times.tolist(), strict=True
    ):
        if request.job_id not in placements:
            shortest_s = min(choice.duration_s for choice in request.choices)
            is_tight = 0 <= deadline_s - earliest_s - shortest_s < 2 * slot_s
            if request.is_flexible or is_tight:
                found.append(request)
    found.sort(key=lambda one: (-one.priority, one.deadline_at, one.job_id))
    return found[:MOST]


def place_first(
    problem: Problem,
    first: Sequence[PlanRequest],
    found: Prices,
    *,
    shaking: Shaking | None,
    seed: int,
    watch: Watch = NOBODY,
) -> Places:
    """Placements with these jobs placed before all others, and what they leave free."""
    snapshot = problem.snapshot
    search = WindowSearch(snapshot)
    made: dict[JobId, Placement] = {}
    flexible = [one for one in first if one.is_flexible]
    jobs = FlexibleJobs(snapshot, flexible) if flexible else None
    for one in first:
        placement = search.best(one)
        if placement is None and jobs is not None and one.is_flexible:
            placement = _in_pieces(problem, jobs, one, search)
        if placement is not None:
            search.take(placement)
            made[one.job_id] = placement
    rest = [one for one in problem.instance.requests if one.job_id not in made]
    capacity = replace(snapshot.capacity, free=search.free.copy())
    if not rest:
        return made, capacity
    around = build_problem(replace(snapshot, capacity=capacity), rest)
    guide = Prices(found.prices, 0.0)
    others, left = place_jointly(around, guide, shaking=shaking, seed=seed, watch=watch).settle()
    return made | others, left


def _in_pieces(
    problem: Problem, jobs: FlexibleJobs, request: PlanRequest, search: WindowSearch
) -> Placement | None:
    """The cheapest pieces or widths beside what is taken."""
    snapshot, capacity = problem.snapshot, problem.snapshot.capacity
    has = capacity.grid
    grid = SlotGrid(has.origin_at, math.gcd(has.slot_s, jobs.unit_s), 1)
    grid = replace(grid, n_slots=has.horizon_s // grid.slot_s)
    taken = np.repeat(capacity.free - search.free, has.slot_s // grid.slot_s, axis=1)
    index = [one.job_id for one in jobs.requests].index(request.job_id)
    found = jobs.on(grid).find(index, taken.astype(np.float64))
    if found is None:
        return None
    footprints = Footprints(snapshot)
    placement = footprints.place(request, found.choice, found.stretches, is_known=True)
    is_late = request.start_by_at is not None and placement.window.start_at > request.start_by_at
    return None if is_late else placement


def better(requests: Sequence[PlanRequest], one: Places, other: Places) -> Places:
    """The one with fewer jobs left out, the highest priority first, then with less grams (and money in grams)."""
    levels = sorted({request.priority for request in requests}, reverse=True)

    def worth(places: Places) -> tuple[tuple[int, ...], float]:
        made = places[0]
        missing = [
            sum(each.priority == level and each.job_id not in made for each in requests)
            for level in levels
        ]
        grams = sum(
            (made[each.job_id].planned_g or 0.0)
            + money_weight(each) * (made[each.job_id].cost or 0.0)
            for each in requests
            if each.job_id in made
        )
        return tuple(missing), grams

    return min(one, other, key=worth)
