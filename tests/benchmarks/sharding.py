"""Planning in shards: jobs dealt to several planners that share nothing but prices, against one planner of all jobs.

What it shows is in deploy/adr/0024. Each shard answers prices with the devices that its jobs want; the sum of the answers
moves the prices, so they are those of one planner. Then each shard gets of every row and slot what its
jobs want there, plans alone within it, and what found no place is placed, shard by shard, in what all have left. A round
of turns lets each shard plan once more in all that the others leave free.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scheduler.core.job import Placement
from scheduler.core.planner.arrays import Floats, Ints
from scheduler.core.planner.joint import build_problem
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.prices import (
    HEATS,
    PASSES,
    LoadAt,
    descend,
    load_of,
    mean_grams,
    prove,
)
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot
from tests.benchmarks.measure import seeds, write
from tests.benchmarks.planner_instances import as_snapshot, draw

SIZES = (2_000, 4_000)
ROWS, HOURS, UTILISATION = 10, 96, 0.4
SHARDS = (2, 4, 8)


@dataclass(frozen=True)
class Outcome:
    """What all shards came to together."""

    grams: float
    missing: int
    bound_g: float = 0.0


def run() -> None:
    """Measures gaps over the bound of one planner, by the number of shards, with prices and without."""
    rows: dict[str, list[float]] = {}
    for seed in seeds(3):
        for jobs in SIZES:
            drawn = draw(seed, jobs=jobs, rows=ROWS, hours=HOURS, utilisation=UTILISATION)
            for name, value in measure(as_snapshot(drawn), seed).items():
                rows.setdefault(f"{name}_of_{jobs}", []).append(value)
    metrics = {name: statistics.median(values) for name, values in rows.items()}
    write("sharding", metrics, {"rows": ROWS, "hours": HOURS, "seeds": len(seeds(3))})


def measure(snapshot: PlanSnapshot, seed: int) -> dict[str, float]:
    """Gaps of one planner, and of each number of shards; jobs without a place count twice the mean."""
    alone = build_plan(snapshot)
    bound_g = alone.lower_bound_g
    assert bound_g is not None
    found = {"single": _gap(_outcome(alone.placements, snapshot), bound_g, snapshot)}
    for shards in SHARDS:
        dealt = deal(snapshot.requests, shards, seed)
        (priced, turns), evenly = with_prices(snapshot, dealt), split_evenly(snapshot, dealt)
        found |= {
            f"priced_{shards}": _gap(priced, bound_g, snapshot),
            f"turns_{shards}": _gap(turns, bound_g, snapshot),
            f"evenly_{shards}": _gap(evenly, bound_g, snapshot),
            f"bound_{shards}": priced.bound_g / bound_g,
            f"missing_priced_{shards}": priced.missing,
            f"missing_turns_{shards}": turns.missing,
            f"missing_evenly_{shards}": evenly.missing,
        }
    return found


def deal(requests: Sequence[PlanRequest], shards: int, seed: int) -> list[tuple[PlanRequest, ...]]:
    """The requests, dealt at random."""
    hands = np.random.default_rng(seed).integers(0, shards, len(requests))
    return [
        tuple(one for one, hand in zip(requests, hands, strict=True) if hand == shard)
        for shard in range(shards)
    ]


def shared_load(loads: Sequence[LoadAt]) -> LoadAt:
    """The answers of all shards, added up: all that they tell each other."""

    def load_at(prices: Floats, heat_g: float) -> Floats:
        total = np.zeros_like(prices)
        for one in loads:
            total += one(prices, heat_g)
        return total

    return load_at


def with_prices(
    snapshot: PlanSnapshot, dealt: Sequence[Sequence[PlanRequest]]
) -> tuple[Outcome, Outcome]:
    """Shards that agree on prices, and get what their jobs want at these; and the same after a round of turns."""
    instances = [build_problem(snapshot, hand).instance for hand in dealt]
    market, loads = instances[0].market, [load_of(one) for one in instances]
    mean_g = float(np.average([mean_grams(one) for one in instances], weights=[*map(len, dealt)]))
    prices = np.zeros_like(market.free)
    for heat in HEATS:
        prices = descend(market, shared_load(loads), prices, heat_g=heat * mean_g, passes=PASSES)
    wanted = np.array([one(prices, HEATS[-1] * mean_g) for one in loads])
    quotas = divide(snapshot.capacity.free, wanted)
    # Each proves the sum of what its jobs would pay, less the price of all devices: that is to be taken off once.
    priced_g = float((prices * market.mean_free).sum())
    bound_g = sum(prove(one, prices) + priced_g for one in instances) - priced_g
    apart, turns = (
        replace(_plan_all(snapshot, dealt, quotas, prices, rounds=rounds), bound_g=bound_g)
        for rounds in (0, 1)
    )
    return apart, turns


def split_evenly(snapshot: PlanSnapshot, dealt: Sequence[Sequence[PlanRequest]]) -> Outcome:
    """Shards that get the same share of everything, and know nothing of each other."""
    free = snapshot.capacity.free
    quotas = divide(free, np.ones((len(dealt), *free.shape)))
    return _plan_all(snapshot, dealt, quotas, None)


def divide(free: Ints, wanted: Floats) -> Ints:
    """Whole devices for each shard, (shards, rows, slots): in proportion, the largest remainders rounded up."""
    total = wanted.sum(axis=0)
    share = np.where(total > 0, wanted / np.where(total > 0, total, 1), 1 / len(wanted))
    exact = share * free
    quotas: Ints = np.floor(exact + 1e-9).astype(np.int64)
    rank = np.argsort(np.argsort(-(exact - quotas), axis=0, kind="stable"), axis=0)
    quotas += rank < free - quotas.sum(axis=0)
    return quotas


def _plan_all(
    snapshot: PlanSnapshot,
    dealt: Sequence[Sequence[PlanRequest]],
    quotas: Ints,
    prices: Floats | None,
    *,
    rounds: int = 0,
) -> Outcome:
    plans = [
        list(build_plan(_part(snapshot, hand, quota), start_prices=prices).placements)
        for hand, quota in zip(dealt, quotas, strict=True)
    ]
    search = WindowSearch(snapshot)
    for one in (one for plan in plans for one in plan):
        search.take(one)
    for hand, plan in zip(dealt, plans, strict=True):
        plan.extend(_late(search, hand, plan))
    for _ in range(rounds):
        for shard, hand in enumerate(dealt):
            plans[shard] = _in_turn(snapshot, hand, plans[shard], search, prices)
    assert int(search.free.min()) >= 0
    return _outcome([one for plan in plans for one in plan], snapshot)


def _in_turn(
    snapshot: PlanSnapshot,
    hand: Sequence[PlanRequest],
    had: list[Placement],
    search: WindowSearch,
    prices: Floats | None,
) -> list[Placement]:
    """A plan of the shard in all that the others leave free, where that is better."""
    for one in had:
        search.give_back(one)
    again = build_plan(_part(snapshot, hand, search.free.copy()), start_prices=prices)
    before, after = _outcome(had, snapshot), _outcome(again.placements, snapshot)
    is_better = (after.missing, after.grams) < (before.missing, before.grams)
    best = list(again.placements) if is_better else had
    for one in best:
        search.take(one)
    return best


def _part(snapshot: PlanSnapshot, hand: Sequence[PlanRequest], quota: Ints) -> PlanSnapshot:
    return replace(snapshot, requests=tuple(hand), capacity=replace(snapshot.capacity, free=quota))


def _late(
    search: WindowSearch, hand: Sequence[PlanRequest], plan: Sequence[Placement]
) -> list[Placement]:
    """Places for those that a shard had no room for, in what all shards have left."""
    placed = {one.job_id for one in plan}
    found = [search.place(one) for one in hand if one.job_id not in placed]
    return [one for one in found if isinstance(one, Placement)]


def _outcome(placements: Sequence[Placement], snapshot: PlanSnapshot) -> Outcome:
    grams = sum(one.planned_g or 0.0 for one in placements)
    return Outcome(grams, len(snapshot.requests) - len(placements))


def _gap(outcome: Outcome, bound_g: float, snapshot: PlanSnapshot) -> float:
    """Over the bound; a job without a place counts as one of mean emissions, doubled."""
    missed_g = 2 * outcome.missing * bound_g / len(snapshot.requests)
    return (outcome.grams + missed_g) / bound_g - 1
