"""The planner: every waiting job a cluster, hardware and window, jointly, under capacity, with a certificate.

    snapshot ─► instance ─► prices (with the bound) ─► soft placing ─► firm placing ─► finer slots ─► seconds ─► plan

Where capacity does not bind, the cheapest window of each job is the optimum and the rest is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scheduler.core.capacity import CapacityLedger
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.arrays import Floats
from scheduler.core.planner.chains import (
    Chains,
    build_chains,
    drop_orphans,
    in_spite_of_followers,
    use_slack,
    within_neighbours,
)
from scheduler.core.planner.columns import has_price, money_weight, within_cost
from scheduler.core.planner.joint import Problem, build_problem, place_jointly
from scheduler.core.planner.prices import Prices
from scheduler.core.planner.regret import keep_what_holds
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.shaking import Shaking
from scheduler.core.planner.snapshot import (
    NOBODY,
    Memory,
    Plan,
    PlanRequest,
    PlanSnapshot,
    Unplaced,
    Watch,
)
from scheduler.core.planner.stubborn import Places, better, place_first, stubborn


def build_plan(
    snapshot: PlanSnapshot,
    *,
    seed: int = 0,
    start_prices: Floats | None = None,
    shaking: Shaking | None = None,
    watch: Watch = NOBODY,
) -> Plan:
    """A placement, or the reason against one, for every request of the snapshot.

    Deterministic: the same snapshot, seed and `start_prices` give the same plan, in whatever order the requests are.

    Args:
        snapshot: what there is and what is asked.
        seed: of the order in which jobs move.
        start_prices: of an earlier plan on the same grid and rows.
        shaking: how long small plans are shaken; None for what suits the number of jobs.
        watch: who looks on, and may end the search.
    """
    chains = build_chains(snapshot.requests, snapshot.now, snapshot.pause_slot_s)
    requests = _in_chains(snapshot.requests, chains.split if chains else {})
    asked = [one for one in requests if any(within_cost(one, c) for c in one.choices)]
    placements: dict[JobId, Placement] = {}
    prices, bound_g = None, 0.0
    capacity = snapshot.capacity
    if asked:
        problem = build_problem(snapshot, asked)
        found = problem.prices(start_prices, watch)
        prices, bound_g = found.proven, found.bound_g
        placements, capacity = _place(problem, found, shaking=shaking, seed=seed, watch=watch)
    unplaced, left = _finish(replace(snapshot, capacity=capacity), requests, placements, chains)
    is_weighed = any(money_weight(one) > 0 for one in asked)
    if prices is not None and (chains or is_weighed or len(placements) < len(asked)):
        kept = [one for one in snapshot.requests if one.job_id in placements]
        kept_chains = build_chains(kept, snapshot.now, snapshot.pause_slot_s)
        tight = _in_chains(kept, kept_chains.tight if kept_chains else {})
        kept = [one for one in tight if any(within_cost(one, c) for c in one.choices)]
        # Prices of a plan with more jobs than have a place prove little of those that have one.
        is_whole = not is_weighed and len(placements) == len(asked)
        bound_g = _bound_of_grams(snapshot, kept, prices if is_whole else None)
    ids = [request.job_id for request in requests]
    placed = tuple(placements[one] for one in ids if one in placements)
    planned_g = sum(placement.planned_g or 0.0 for placement in placed)
    if planned_g < bound_g <= planned_g * (1 + 1e-9):
        bound_g = planned_g  # the same sum, added in another order
    return Plan(
        placements=placed,
        unplaced=tuple(unplaced[one] for one in ids if one in unplaced),
        lower_bound_g=max(0.0, bound_g),
        prices=prices,
        memory=Memory(snapshot, left),
    )


def _place(
    problem: Problem, found: Prices, *, shaking: Shaking | None, seed: int, watch: Watch
) -> Places:
    """Places of all jobs, and what they leave free; those left out that may fit in another way go first in a second try."""
    best = place_jointly(problem, found, shaking=shaking, seed=seed, watch=watch)
    places = best.settle()
    first = stubborn(problem, places[0], best.stage.instance.grid.slot_s)
    if not first or watch.is_over():
        return places
    again = place_first(problem, first, found, shaking=shaking, seed=seed, watch=watch)
    return better(problem.instance.requests, places, again)


def _bound_of_grams(
    snapshot: PlanSnapshot, requests: Sequence[PlanRequest], prices: Floats | None
) -> float:
    """What any plan of these jobs emits at least; where money guided the plan, by prices in grams alone."""
    if not requests:
        return 0.0
    unweighed = [
        one
        if one.limits.carbon_price is None
        else replace(
            one,
            choices=tuple(choice for choice in one.choices if has_price(one, choice)),
            limits=replace(one.limits, carbon_price=None),
        )
        for one in requests
    ]
    problem = build_problem(snapshot, unweighed)
    return problem.prices(None).bound_g if prices is None else problem.bound(prices)


def _in_chains(
    requests: Sequence[PlanRequest], windows: Mapping[JobId, PlanRequest]
) -> Sequence[PlanRequest]:
    return [windows.get(one.job_id, one) for one in requests] if windows else requests


def _finish(
    snapshot: PlanSnapshot,
    requests: Sequence[PlanRequest],
    placements: dict[JobId, Placement],
    chains: Chains | None,
) -> tuple[dict[JobId, Unplaced], CapacityLedger]:
    """The last steps, job by job on what is free: places for those left, slack of chains, what need not move.

    Returns:
        Why the rest has no place, and what is still free.
    """
    movable = [one for one in requests if one.held or snapshot.forecast.error_mg is not None]
    left = [one for one in requests if one.job_id not in placements]
    if not (left or chains or movable):
        return {}, snapshot.capacity
    search = WindowSearch(snapshot)
    if chains is not None:
        drop_orphans(chains, placements, search)  # what they wait for looks for its place first
        left = [one for one in requests if one.job_id not in placements]
    order = {} if chains is None else {job_id: n for n, job_id in enumerate(chains.order)}
    left.sort(
        key=lambda one: (order.get(one.job_id, -1), -one.priority, one.deadline_at, one.job_id)
    )
    unplaced: dict[JobId, Unplaced] = {}
    for request in left:
        answer = _place_left(request, placements, search, chains)
        if isinstance(answer, Placement):
            placements[request.job_id] = answer
        else:
            unplaced[request.job_id] = answer
    if chains is not None:
        unplaced |= drop_orphans(chains, placements, search)
        use_slack(chains, placements, search)
    in_chains = chains.tight if chains else {}
    keep_what_holds(
        snapshot, [one for one in movable if one.job_id not in in_chains], placements, search
    )
    return unplaced, replace(snapshot.capacity, free=search.free.copy())


def _place_left(
    request: PlanRequest,
    placements: Mapping[JobId, Placement],
    search: WindowSearch,
    chains: Chains | None,
) -> Placement | Unplaced:
    """A place in what is free for a job that was left out, which is then taken, or why it has none."""
    if chains is None or request.job_id not in chains.own:
        return search.place(request)
    answer = search.place(within_neighbours(chains, request, placements))
    if isinstance(answer, Placement):
        return answer
    return search.place(in_spite_of_followers(chains, request, placements))
