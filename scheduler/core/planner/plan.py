"""The planner: every waiting job a cluster, hardware and window, jointly, under capacity, with a certificate.

    snapshot ─► instance ─► prices (with the bound) ─► soft placing ─► firm placing ─► exact windows ─► plan

Where capacity does not bind, the cheapest window of each job is the optimum and the rest is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from scheduler.core.job import Placement
from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.kernels import Floats
from scheduler.core.planner.placing import (
    Placing,
    place_firmly,
    place_in_order,
    place_softly,
    size,
)
from scheduler.core.planner.prices import Prices, find_prices, prove
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.shaking import shaken
from scheduler.core.planner.snapshot import Plan, PlanSnapshot, Unplaced

EXACT_UP_TO: Final = 2000
"""Jobs up to which every placement is moved to its exact best second; beyond it only those that fit no slot."""
_STIFFENING: Final = 300.0
"""How much stiffer the last sweep is than the first: enough that hardly anything is overrun at the end."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to search: placings from how many seeds, and sweeps for each."""

    starts: int
    sweeps: int

    @property
    def growth(self) -> float:
        """Factor of the stiffness from one sweep to the next."""
        return float(_STIFFENING ** (1 / self.sweeps))


def effort_for(jobs: int) -> Effort:
    """What pays, by the number of jobs: more sweeps where each is cheap and every job weighs more."""
    for up_to, effort in (
        (200, Effort(starts=8, sweeps=60)),
        (5_000, Effort(starts=2, sweeps=100)),
        (30_000, Effort(starts=1, sweeps=40)),
        (300_000, Effort(starts=1, sweeps=8)),
    ):
        if jobs <= up_to:
            return effort
    return Effort(starts=1, sweeps=5)


def build_plan(
    snapshot: PlanSnapshot,
    *,
    seed: int = 0,
    start_prices: Floats | None = None,
    is_over: Callable[[], bool] = lambda: False,
) -> Plan:
    """A placement, or the reason against one, for every request of the snapshot.

    Deterministic: the same snapshot, seed and `start_prices` give the same plan, in whatever order the requests are.

    Args:
        snapshot: what there is and what is asked.
        seed: of the order in which jobs move.
        start_prices: of an earlier plan on the same grid and rows.
        is_over: asked now and then; True ends the search with the best plan so far.
    """
    search = WindowSearch(snapshot)
    asked = [request for request in snapshot.requests if request.choices]
    placements: dict[str, Placement] = {}
    prices, bound_g = None, 0.0
    if asked:
        instance = build_instance(snapshot, asked)
        placements |= _place_rigid(search, instance)
        found = find_prices(instance, start=start_prices, is_over=is_over)
        prices = found.prices
        room = _less(instance, search)
        placing = best_placing(room, found, seed=seed, is_over=is_over)
        placements |= _placements(snapshot, room, placing, search)
        if len(asked) <= EXACT_UP_TO and not _is_aligned(instance, snapshot):
            _move_exactly(search, instance, placements)
        bound_g = found.bound_g
    unplaced: dict[str, Unplaced] = {}
    for request in sorted(snapshot.requests, key=lambda one: (-one.priority, one.job_id)):
        if request.job_id not in placements:
            answer = search.place(request)
            if isinstance(answer, Placement):
                placements[request.job_id] = answer
            else:
                unplaced[request.job_id] = answer
    if prices is not None and len(placements) < len(asked):
        kept = [request for request in asked if request.job_id in placements]
        bound_g = prove(build_instance(snapshot, kept), prices) if kept else 0.0
    ids = [request.job_id for request in snapshot.requests]
    placed = tuple(placements[one] for one in ids if one in placements)
    planned_g = sum(placement.planned_g or 0.0 for placement in placed)
    if planned_g < bound_g <= planned_g * (1 + 1e-9):
        bound_g = planned_g  # the same sum, added in another order
    return Plan(
        placements=placed,
        unplaced=tuple(unplaced[one] for one in ids if one in unplaced),
        lower_bound_g=max(0.0, bound_g),
        prices=prices,
    )


def _place_rigid(search: WindowSearch, instance: Instance) -> dict[str, Placement]:
    """Placements of the jobs that have next to no choice: too tight for any cell of whole slots."""
    jobs = instance.easy
    has_cell = np.zeros(len(instance.requests), dtype=bool)
    np.logical_or.at(
        has_cell, np.repeat(np.arange(len(has_cell)), np.diff(jobs.first)), jobs.low <= jobs.high
    )
    rigid = [instance.requests[index] for index in np.flatnonzero(~has_cell)]
    found: dict[str, Placement] = {}
    for request in sorted(rigid, key=lambda one: (-one.priority, one.deadline_at, one.job_id)):
        placement = search.best(request)
        if placement is not None:
            search.take(placement)
            found[request.job_id] = placement
    return found


def _less(instance: Instance, search: WindowSearch) -> Instance:
    """The instance with what is still free in the search."""
    free = np.maximum(search.free, 0).astype(np.float64)
    return replace(instance, market=instance.market._replace(free=free))


def best_placing(
    instance: Instance,
    found: Prices,
    *,
    seed: int = 0,
    is_over: Callable[[], bool] = lambda: False,
) -> Placing:
    """The best of a few placings, shaken: most jobs of the highest priority first, then least grams."""
    count = len(instance.requests)
    first = place_in_order(instance, np.lexsort((-size(instance), -instance.priority)))
    if first.placed == count and first.grams <= found.bound_g * (1 + 1e-9):
        return first
    placings, effort = [first], effort_for(count)
    for start in range(effort.starts):
        wanted = place_softly(
            instance,
            found.prices,
            sweeps=effort.sweeps,
            growth=effort.growth,
            seed=seed + start,
            is_over=is_over,
        )
        placings.append(place_firmly(instance, wanted))
        if is_over():
            break
    return shaken(instance, found.prices, placings, seed=seed, is_over=is_over)


def _placements(
    snapshot: PlanSnapshot, instance: Instance, placing: Placing, search: WindowSearch
) -> dict[str, Placement]:
    """The cells as placements, which are then taken in the search."""
    cells, tables = placing.cells, instance.tables
    made: dict[str, Placement] = {}
    for index in np.flatnonzero(cells.choice >= 0).tolist():
        request, slot = instance.requests[index], int(cells.slot[index])
        choice = request.choices[instance.choice[cells.choice[index]]]
        late_s = int(tables.touched[instance.jobs.table[cells.link[index]]]) * instance.grid.slot_s
        start_s = slot * instance.grid.slot_s
        placement = search.fixed(request, choice, (start_s, start_s + late_s - choice.duration_s))
        search.take(placement)
        made[request.job_id] = placement
    return made


def _is_aligned(instance: Instance, snapshot: PlanSnapshot) -> bool:
    """Whether all lengths and times are whole slots, so that cells hold every start worth trying."""
    slot_s = instance.grid.slot_s
    return not instance.tables.rest.any() and all(
        instance.grid.offset_up_s(at) % slot_s == 0
        for request in instance.requests
        for at in (max(request.earliest_at, snapshot.now), request.deadline_at)
    )


def _move_exactly(
    search: WindowSearch, instance: Instance, placements: dict[str, Placement]
) -> None:
    """Moves each job in turn to its exact best second under what is free."""
    for request in instance.requests:
        had = placements.get(request.job_id)
        if had is None:
            continue
        search.give_back(had)
        better = search.best(request)
        if better is not None and (better.planned_g or 0.0) < (had.planned_g or 0.0):
            placements[request.job_id] = better
        search.take(placements[request.job_id])
