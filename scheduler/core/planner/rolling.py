"""Planning again: what has not changed stays, and prices carry over.

After a few arrivals and departures on the same forecast, only the new jobs are placed, at the prices of the plan before, into
what it leaves free; the bound changes by what the new jobs pay at these prices and the gone ones no longer do. A new
forecast, other capacity or many changes make a whole plan, which starts from the old prices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from scheduler.core.capacity import CapacityLedger
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.columns import within_cost
from scheduler.core.planner.exchanging import exchanged
from scheduler.core.planner.joint import build_problem, place_jointly
from scheduler.core.planner.kernels import Floats
from scheduler.core.planner.placing import Effort
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.prices import Prices
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.shaking import NO_SHAKING
from scheduler.core.planner.snapshot import NOBODY, Memory, Plan, PlanRequest, PlanSnapshot, Watch

MOST_CHANGED: Final = 0.1
"""Share of the jobs that may be new or gone in a plan that is only amended."""

_FEW: Final = 300
"""New jobs up to which each may force its way into the cells of old ones; more of them are placed anew with some old ones."""
_MOVING_FOR_FEW: Final = 16
_MOVING: Final = 5
"""Jobs of the earlier plan that may move, for each new one."""
_EFFORT: Final = Effort(starts=1, sweeps=8)


def replan(snapshot: PlanSnapshot, previous: Plan, *, seed: int = 0, watch: Watch = NOBODY) -> Plan:
    """A plan of the snapshot that makes use of an earlier one; every kept placement is where it was.

    Args:
        snapshot: what there is and what is asked now. Requests that are equal to those of the earlier plan are unchanged.
        previous: the earlier plan.
        seed: of the order in which jobs move.
        watch: who looks on, and may end the search.
    """
    return _amended(snapshot, previous, seed=seed, watch=watch) or build_plan(
        snapshot, seed=seed, start_prices=carried_prices(previous, snapshot), watch=watch
    )


def carried_prices(previous: Plan, snapshot: PlanSnapshot) -> Floats | None:
    """The prices of an earlier plan on the slots of this snapshot; None where its rows or slots are others."""
    memory, prices = previous.memory, previous.prices
    if memory is None or prices is None:
        return None
    old, new = memory.snapshot.forecast.grid, snapshot.forecast.grid
    if memory.snapshot.capacity.rows != snapshot.capacity.rows or old.slot_s != new.slot_s:
        return None
    late_s = (new.origin_at - old.origin_at).total_seconds()
    shift, part = divmod(round(late_s), new.slot_s)
    if part or not 0 <= shift < old.n_slots:
        return None
    carried = np.zeros((len(prices), new.n_slots))
    kept = min(old.n_slots - shift, new.n_slots)
    carried[:, :kept] = prices[:, shift : shift + kept]
    return carried


def _amended(snapshot: PlanSnapshot, previous: Plan, *, seed: int, watch: Watch) -> Plan | None:
    """The earlier plan without the jobs that are gone and with those that are new; None where that is no way."""
    memory = previous.memory
    if memory is None or previous.prices is None or not _is_same_market(memory.snapshot, snapshot):
        return None
    had = {one.job_id: one for one in memory.snapshot.requests}
    placed = {one.job_id: one for one in previous.placements}
    fresh, kept = list[PlanRequest](), dict[JobId, Placement]()
    for one in snapshot.requests:
        same = had.get(one.job_id)
        if one.job_id in placed and (same is one or same == one):
            kept[one.job_id] = placed[one.job_id]
        else:
            fresh.append(one)
    gone = [one for job_id, one in placed.items() if job_id not in kept]
    if not _is_small(snapshot, fresh, len(gone), len(placed)):
        return None
    few = len(fresh) <= _FEW
    moving = _moving(kept, had, (_MOVING_FOR_FEW if few else _MOVING) * len(fresh), seed)
    freed = gone if few else [*gone, *(kept.pop(one.job_id) for one in moving)]
    left = _given_back(memory, snapshot, freed)
    if fresh:
        asked = fresh if few else [*fresh, *moving]
        problem = build_problem(replace(snapshot, capacity=left), asked)
        found = Prices(previous.prices, 0.0)
        best = place_jointly(
            problem, found, effort=_EFFORT, shaking=NO_SHAKING, seed=seed, watch=watch
        )
        made, left = best.settle()
        if len(made) < len(asked):
            return None  # a whole plan may make room
        kept |= made
        if few:
            changed, left = exchanged(
                replace(snapshot, capacity=left),
                [*fresh, *moving],
                set(made),
                kept,
                previous.prices,
                seed=seed,
            )
            kept |= changed
    prices = previous.prices
    bound_g = previous.lower_bound_g + _paid(snapshot, fresh, prices)
    bound_g -= _paid(snapshot, [had[one.job_id] for one in gone], prices)
    return Plan(
        placements=tuple(kept[one.job_id] for one in snapshot.requests),
        unplaced=(),
        lower_bound_g=max(0.0, bound_g),
        prices=prices,
        memory=Memory(snapshot, left),
    )


def _is_small(snapshot: PlanSnapshot, fresh: Sequence[PlanRequest], gone: int, placed: int) -> bool:
    """Whether so few jobs are new or gone, none of them in a chain, that the plan need only be amended."""
    if len(fresh) + gone > MOST_CHANGED * placed:
        return False
    is_possible = all(any(within_cost(one, choice) for choice in one.choices) for one in fresh)
    return is_possible and not _has_chains(snapshot, fresh)


def _moving(
    kept: Mapping[JobId, Placement], had: Mapping[JobId, PlanRequest], count: int, seed: int
) -> list[PlanRequest]:
    """Whole jobs of the earlier plan that may make way for new ones: without them clean hours are mostly taken."""
    ids = list(kept)
    chosen = np.random.default_rng(seed).choice(len(ids), min(len(ids), count), replace=False)
    asked = [had[ids[index]] for index in np.sort(chosen).tolist()]
    waited_for = {other for one in had.values() for other in one.after}
    return [
        one
        for one in asked
        if not (one.is_flexible or one.held or one.after or one.job_id in waited_for)
    ]


def _is_same_market(old: PlanSnapshot, new: PlanSnapshot) -> bool:
    """Whether the forecast, the fleet and what is free are the same."""
    return (
        old.fleet == new.fleet
        and old.forecast.grid == new.forecast.grid
        and (
            old.forecast is new.forecast
            or (
                np.array_equal(old.forecast.mg_per_kwh, new.forecast.mg_per_kwh)
                and np.array_equal(old.forecast.layer, new.forecast.layer)
            )
        )
        and old.capacity.grid == new.capacity.grid
        and np.array_equal(old.capacity.free, new.capacity.free)
    )


def _has_chains(snapshot: PlanSnapshot, fresh: Sequence[PlanRequest]) -> bool:
    """Whether a new job waits for another, or one that stays for a new one."""
    waiting = [one for one in snapshot.requests if one.after]
    names = {one.job_id for one in fresh}
    return any(one.job_id in names or not names.isdisjoint(one.after) for one in waiting)


def _given_back(
    memory: Memory, snapshot: PlanSnapshot, gone: Sequence[Placement]
) -> CapacityLedger:
    """What the earlier plan leaves free without the jobs that are gone."""
    if not gone:
        return memory.left
    search = WindowSearch(replace(snapshot, capacity=memory.left))
    for one in gone:
        search.give_back(one)
    return replace(memory.left, free=search.free.copy())


def _paid(snapshot: PlanSnapshot, requests: Sequence[PlanRequest], prices: Floats) -> float:
    """What these jobs pay at least at these prices, devices included."""
    if not requests:
        return 0.0
    problem = build_problem(snapshot, requests)
    return problem.bound(prices) + float((prices * problem.instance.market.mean_free).sum())
