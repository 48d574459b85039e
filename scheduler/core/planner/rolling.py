"""Planning again: what has not changed stays, and prices carry over.

After a few arrivals and departures on the same forecast, only the new jobs are placed, at the prices of the plan before, into
what it leaves free; the bound changes by what the new jobs pay at these prices and the gone ones no longer do. A new
forecast, other capacity or many changes make a whole plan, which starts from the old prices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import numpy as np

from scheduler.core.capacity import CapacityLedger
from scheduler.core.forecast import ForecastMatrix
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.arrays import Floats
from scheduler.core.planner.columns import within_cost
from scheduler.core.planner.exchanging import exchanged
from scheduler.core.planner.joint import build_problem, place_jointly
from scheduler.core.planner.placing import Effort
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.prices import Prices
from scheduler.core.planner.regret import keep_what_holds
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.shaking import NO_SHAKING
from scheduler.core.planner.snapshot import NOBODY, Memory, Plan, PlanRequest, PlanSnapshot, Watch

MOST_CHANGED: Final = 0.1
"""Share of the jobs that may be new or gone in a plan that is only amended."""

_FEW: Final = 300
"""New jobs up to which each may force its way into the cells of old ones; more of them are placed anew with some old ones."""
MOVING_FOR_FEW: Final = 16
_MOVING: Final = 5
"""Jobs of the earlier plan that may move, for each new one."""
_EFFORT: Final = Effort(starts=1, sweeps=8)

_Change = tuple[
    Sequence[PlanRequest], Sequence[PlanRequest], Sequence[Placement], dict[JobId, Placement]
]


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
        same, place = had.get(one.job_id), placed.get(one.job_id)
        is_ahead = place is not None and place.window.start_at >= snapshot.now
        if place is not None and is_ahead and (same is one or same == one):
            kept[one.job_id] = place
        else:
            fresh.append(one)
    gone = [one for job_id, one in placed.items() if job_id not in kept]
    dropped = [had[one.job_id] for one in gone]
    if not _is_small(snapshot, fresh, len(gone), len(placed)):
        return None
    changed = {one.job_id for one in (*fresh, *dropped)}
    chained = [one for one in snapshot.requests if one.after]
    chained += [one for one in dropped if one.after]
    if any(one.job_id in changed or not changed.isdisjoint(one.after) for one in chained):
        return None
    tied = {name for one in chained for name in (one.job_id, *one.after)}
    movable = [name for name in kept if name not in tied]
    moving = [had[name] for name in _drawn(movable, len(fresh), seed)]
    moving = [one for one in moving if not (one.is_flexible or one.held)]
    left = _place_new(snapshot, previous, (fresh, moving, gone, kept), seed=seed, watch=watch)
    if left is None:
        return None  # a whole plan may make room
    prices = previous.prices
    bound_g = previous.lower_bound_g + _paid(snapshot, fresh, prices)
    bound_g -= _paid(snapshot, dropped, prices)
    return Plan(
        placements=tuple(kept[one.job_id] for one in snapshot.requests),
        unplaced=(),
        lower_bound_g=max(0.0, bound_g),
        prices=prices,
        memory=Memory(snapshot, left),
    )


def _place_new(
    snapshot: PlanSnapshot,
    previous: Plan,
    change: _Change,
    *,
    seed: int,
    watch: Watch,
) -> CapacityLedger | None:
    """Adds places of the new jobs to those that are kept; what is free then, or None where one finds no place.

    Args:
        snapshot: what there is now.
        previous: the earlier plan.
        change: new requests, old ones that may move, placements that are gone, and those that are kept (changed).
        seed: of all chance.
        watch: who looks on.
    """
    (fresh, moving, gone, kept), memory = change, previous.memory
    assert memory is not None
    assert previous.prices is not None
    few = len(fresh) <= _FEW
    freed = [*gone] if few else [*gone, *(kept.pop(one.job_id) for one in moving)]
    left = _given_back(memory, freed)
    if not fresh:
        return left
    asked = fresh if few else [*fresh, *moving]
    problem = build_problem(replace(snapshot, capacity=left), asked)
    found = Prices(previous.prices, 0.0)
    best = place_jointly(problem, found, effort=_EFFORT, shaking=NO_SHAKING, seed=seed, watch=watch)
    made, left = best.settle()
    if len(made) < len(asked):
        return None
    left = _kept_from_moving(snapshot, asked, {one.job_id: one for one in freed}, made, left)
    kept |= made
    if few and snapshot.forecast.error_mg is None:
        now = replace(snapshot, capacity=left)
        both = [*fresh, *moving]
        changed, left = exchanged(now, both, set(made), kept, previous.prices, seed=seed)
        kept |= changed
    return left


def _is_small(snapshot: PlanSnapshot, fresh: Sequence[PlanRequest], gone: int, placed: int) -> bool:
    """Whether so few jobs are new or gone that the plan need only be amended, and the new ones can have a place."""
    if len(fresh) + gone > MOST_CHANGED * placed:
        return False
    return all(any(within_cost(one, choice) for choice in one.choices) for one in fresh)


def _kept_from_moving(  # noqa: PLR0917 - the plan before and after
    snapshot: PlanSnapshot,
    asked: Sequence[PlanRequest],
    before: Mapping[JobId, Placement],
    made: dict[JobId, Placement],
    left: CapacityLedger,
) -> CapacityLedger:
    """Undoes moves that the forecast's error outweighs; returns what is then free."""
    if snapshot.forecast.error_mg is None and not any(one.held for one in asked):
        return left
    search = WindowSearch(replace(snapshot, capacity=left))
    held = [replace(one, held=before.get(one.job_id, one.held)) for one in asked]
    keep_what_holds(snapshot, held, made, search)
    return replace(left, free=search.free.copy())


def _drawn(ids: Sequence[JobId], fresh: int, seed: int) -> list[JobId]:
    """Jobs of the earlier plan that may make way for new ones: without them clean hours are mostly taken."""
    count = min(len(ids), (MOVING_FOR_FEW if fresh <= _FEW else _MOVING) * fresh)
    chosen = np.random.default_rng(seed).choice(len(ids), count, replace=False)
    return [ids[index] for index in np.sort(chosen).tolist()]


def _is_same_market(old: PlanSnapshot, new: PlanSnapshot) -> bool:
    """Whether the forecast, the fleet and what is free are the same, and grams alone count."""
    is_weighed = any(
        one.limits.carbon_price is not None for one in (*old.requests, *new.requests)
    )  # prices then hold money too, and prove nothing in grams
    return (
        not is_weighed
        and old.fleet == new.fleet
        and old.pause_slot_s == new.pause_slot_s
        and (old.forecast is new.forecast or _is_same_forecast(old.forecast, new.forecast))
        and old.capacity.grid == new.capacity.grid
        and np.array_equal(old.capacity.free, new.capacity.free)
    )


def _is_same_forecast(old: ForecastMatrix, new: ForecastMatrix) -> bool:
    pairs = (
        (old.exact_mg, new.exact_mg),
        (old.layer, new.layer),
        (old.error_mg, new.error_mg),
        (old.renewable_share, new.renewable_share),
    )
    return old.grid == new.grid and all(
        one is other
        or (one is not None and other is not None and np.array_equal(one, other, equal_nan=True))
        for one, other in pairs
    )


def _given_back(memory: Memory, gone: Sequence[Placement]) -> CapacityLedger:
    """What the earlier plan leaves free without the jobs that are gone."""
    if not gone:
        return memory.left
    grid = memory.left.grid
    rows = {row: index for index, row in enumerate(memory.left.rows)}
    change = np.zeros((len(rows), grid.n_slots + 1), dtype=np.int64)
    slot = timedelta(seconds=grid.slot_s)
    for one in gone:
        row = rows[one.cluster_id, one.accelerator]
        for window, gpus in one.stretches:
            first = (window.start_at - grid.origin_at) // slot
            stop = -((grid.origin_at - window.end_at) // slot)
            change[row, min(max(first, 0), grid.n_slots)] += gpus
            change[row, min(max(stop, 0), grid.n_slots)] -= gpus
    return replace(memory.left, free=memory.left.free + np.cumsum(change, axis=1)[:, :-1])


def _paid(snapshot: PlanSnapshot, requests: Sequence[PlanRequest], prices: Floats) -> float:
    """What these jobs pay at least at these prices, devices included."""
    if not requests:
        return 0.0
    problem = build_problem(snapshot, requests)
    return problem.bound(prices) + float((prices * problem.instance.market.mean_free).sum())
