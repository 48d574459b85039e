"""The planner: every waiting job a cluster, hardware and window, jointly, under capacity, with a certificate.

    snapshot ─► instance ─► prices (with the bound) ─► soft placing ─► firm placing ─► finer slots ─► seconds ─► plan

Where capacity does not bind, the cheapest window of each job is the optimum and the rest is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from scheduler.core.capacity import CapacityLedger
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.columns import within_cost
from scheduler.core.planner.finer import Run, Stage, finer_stage
from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.kernels import Floats
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.placing import (
    Placing,
    place_softly,
)
from scheduler.core.planner.prices import Prices, find_prices, prove
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import Plan, PlanRequest, PlanSnapshot, Unplaced

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
    asked = [one for one in snapshot.requests if any(within_cost(one, c) for c in one.choices)]
    placements: dict[JobId, Placement] = {}
    prices, bound_g = None, 0.0
    capacity = snapshot.capacity
    if asked:
        instance = build_instance(snapshot, asked)
        found = find_prices(instance, start=start_prices, is_over=is_over)
        prices, bound_g = found.prices, found.bound_g
        placements, capacity = _place(snapshot, instance, found, seed=seed, is_over=is_over)
    left = [one for one in snapshot.requests if one.job_id not in placements]
    unplaced = _place_left(replace(snapshot, capacity=capacity), left, placements)
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


def _place(
    snapshot: PlanSnapshot,
    instance: Instance,
    found: Prices,
    *,
    seed: int,
    is_over: Callable[[], bool],
) -> tuple[dict[JobId, Placement], CapacityLedger]:
    """Placements of whole runs, and what they leave free."""
    stage = finer_stage(snapshot, instance)
    run = stage.run(best_placing(stage, found, seed=seed, is_over=is_over))
    return _placements(snapshot, instance, run), run.left(snapshot)


def _placements(snapshot: PlanSnapshot, instance: Instance, run: Run) -> dict[JobId, Placement]:
    """The runs as placements."""
    has_place = np.flatnonzero(run.choice >= 0)
    position = instance.layout.position[run.choice[has_place]].tolist()
    requests = [instance.requests[index] for index in has_place.tolist()]
    choices = [one.choices[at] for one, at in zip(requests, position, strict=True)]
    return Footprints(snapshot).place_runs(requests, choices, run.start_s[has_place])


def _place_left(
    snapshot: PlanSnapshot, left: list[PlanRequest], placements: dict[JobId, Placement]
) -> dict[JobId, Unplaced]:
    """Tries what is left second by second, adds what finds room to the placements, and says why the rest does not."""
    unplaced: dict[JobId, Unplaced] = {}
    search = WindowSearch(snapshot) if left else None
    for request in sorted(left, key=lambda one: (-one.priority, one.deadline_at, one.job_id)):
        assert search is not None
        answer = search.place(request)
        if isinstance(answer, Placement):
            placements[request.job_id] = answer
        else:
            unplaced[request.job_id] = answer
    return unplaced


def best_placing(
    stage: Stage,
    found: Prices,
    *,
    seed: int = 0,
    is_over: Callable[[], bool] = lambda: False,
) -> Placing:
    """The best of a few placings: most jobs of the highest priority first, then least grams."""
    instance = stage.instance
    count = len(instance.requests)
    best = stage.greedy()
    if best.placed == count and best.grams <= found.bound_g * (1 + 1e-9):
        return best
    effort = effort_for(count)
    for start in range(effort.starts):
        wanted = place_softly(
            stage.room,
            found.prices,
            sweeps=effort.sweeps,
            growth=effort.growth,
            seed=seed + start,
            is_over=is_over,
        )
        best = min(best, stage.firm(wanted), key=lambda one: _worth(instance, one))
        if is_over():
            break
    return best


def _worth(instance: Instance, placing: Placing) -> tuple[tuple[int, ...], float]:
    """Sort key: jobs without a place by falling priority, then grams."""
    missing = placing.cells.choice < 0
    levels = np.unique(instance.priority)[::-1]
    return tuple(
        int((missing & (instance.priority == level)).sum()) for level in levels
    ), placing.grams
