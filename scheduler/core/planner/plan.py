"""The planner: every waiting job a cluster, hardware and window, jointly, under capacity, with a certificate.

    snapshot ─► instance ─► prices (with the bound) ─► soft placing ─► firm placing ─► finer slots ─► seconds ─► plan

Where capacity does not bind, the cheapest window of each job is the optimum and the rest is left out.
"""

from collections.abc import Callable
from dataclasses import replace

from scheduler.core.job import JobId, Placement
from scheduler.core.planner.columns import within_cost
from scheduler.core.planner.joint import build_problem, place_jointly
from scheduler.core.planner.kernels import Floats
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import Plan, PlanRequest, PlanSnapshot, Unplaced


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
        problem = build_problem(snapshot, asked)
        found = problem.prices(start_prices, is_over)
        prices, bound_g = found.prices, found.bound_g
        placements, capacity = place_jointly(problem, found, seed=seed, is_over=is_over).settle()
    left = [one for one in snapshot.requests if one.job_id not in placements]
    unplaced = _place_left(replace(snapshot, capacity=capacity), left, placements)
    if prices is not None and len(placements) < len(asked):
        kept = [request for request in asked if request.job_id in placements]
        bound_g = build_problem(snapshot, kept).bound(prices) if kept else 0.0
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
