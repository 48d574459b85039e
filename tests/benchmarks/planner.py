"""The joint planner: gaps to its proven bound, against greedies, HiGHS and its own certificate; CPU and memory."""

import itertools
import statistics
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array

from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.kernels import Floats, Ints
from scheduler.core.planner.placing import place_in_order, size
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.prices import find_prices
from scheduler.core.planner.snapshot import Plan, PlanSnapshot
from tests.benchmarks.measure import write
from tests.benchmarks.planner_instances import as_snapshot, draw

SEEDS = (11, 12, 13, 14, 15)
UTILISATIONS = (0.2, 0.4, 0.6)


def run() -> None:
    """Measures every size and writes the keys of interfaces.md that this planner has."""
    build_plan(as_snapshot(draw(0, jobs=60, rows=4, hours=48, utilisation=0.5)))
    metrics: dict[str, float] = {"violations": 0}
    ratios: list[float] = []
    for name, jobs, hours in (("2k", 2_000, 96), ("10k", 10_000, 168)):
        gaps = []
        for seed, utilisation in zip(SEEDS, itertools.cycle(UTILISATIONS), strict=False):
            snapshot = _drawn(seed, jobs, hours, utilisation)
            plan = build_plan(snapshot)
            metrics["violations"] += _violations(snapshot, plan)
            gaps.append(plan.gap)
            ratios.append(plan.gap / _best_greedy_gap(snapshot, plan))
        metrics |= {f"gap_{name}_median": statistics.median(gaps), f"gap_{name}_worst": max(gaps)}
    metrics["gap_vs_best_greedy"] = statistics.median(ratios)
    metrics |= _large() | _against_highs()
    metrics["peak_mib_100k"] = _peak_mib()
    write("planner", metrics, {"seeds": len(SEEDS), "utilisations": list(UTILISATIONS)})


def _drawn(seed: int, jobs: int, hours: int, utilisation: float, rows: int = 20) -> PlanSnapshot:
    return as_snapshot(draw(seed, jobs=jobs, rows=rows, hours=hours, utilisation=utilisation))


def _large() -> dict[str, float]:
    """100,000 jobs: gap, and CPU seconds of prices and placing over those of one greedy pass by arrival."""
    gaps, over = [], []
    for seed in SEEDS[:3]:
        snapshot = _drawn(seed, 100_000, 168, 0.4)
        instance = build_instance(snapshot, snapshot.requests)
        arrival = np.argsort(
            [one.earliest_at.timestamp() for one in instance.requests], kind="stable"
        )
        greedy_s = _cpu_s(
            lambda instance=instance, arrival=arrival: place_in_order(instance, arrival)
        )
        began = time.process_time()
        prices = find_prices(instance)
        placing = best_placing(instance, prices)
        over.append((time.process_time() - began) / greedy_s)
        gaps.append(placing.grams / prices.bound_g - 1)
    return {"gap_100k": statistics.median(gaps), "cpu_vs_greedy_100k": statistics.median(over)}


def _cpu_s(work: "object") -> float:
    began = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - began


def _best_greedy_gap(snapshot: PlanSnapshot, plan: Plan) -> float:
    """The gap of the best of five greedies that places every job; of all, where none does."""
    instance = build_instance(snapshot, snapshot.requests)
    first = instance.jobs.first[:-1]
    low, high = instance.jobs.low[first], instance.jobs.high[first]
    sized = size(instance)
    orders = (low, high, -sized, high - low, (high - low) - sized / sized.max())
    found = [place_in_order(instance, np.argsort(order, kind="stable")) for order in orders]
    most = max(one.placed for one in found)
    best = min(one.grams for one in found if one.placed == most)
    return max(best / plan.lower_bound_g - 1, 1e-12)


def _violations(snapshot: PlanSnapshot, plan: Plan) -> int:
    """Broken promises, counted from the placements alone, second by second at every start."""
    asked = {one.job_id: one for one in snapshot.requests}
    broken = 0
    by_row: dict[tuple[str, str], list[tuple[float, float, int]]] = defaultdict(list)
    for one in plan.placements:
        request = asked[one.job_id]
        broken += one.window.start_at < max(request.earliest_at, snapshot.now)
        broken += one.window.end_at > request.deadline_at
        broken += one.window.duration_s not in {choice.duration_s for choice in request.choices}
        span = one.window.start_at.timestamp(), one.window.end_at.timestamp(), one.gpus
        by_row[one.cluster_id, one.accelerator].append(span)
    for row, spans in by_row.items():
        room = snapshot.fleet.get(row[0]).gpus(row[1])
        changes = sorted(
            [(start, 1, gpus) for start, _, gpus in spans]
            + [(end, 0, -gpus) for _, end, gpus in spans]
        )
        used = itertools.accumulate(change[2] for change in changes)
        broken += sum(one > room for one in used)
    return broken + (len(asked) - len(plan.placements) - len(plan.unplaced))


def _against_highs() -> dict[str, float]:
    """Our bound over HiGHS' LP at 200 jobs; our plan over HiGHS' optimum, or its best in a minute, at 60."""
    snapshot = _drawn(21, 200, 72, 0.5, rows=10)
    instance = build_instance(snapshot, snapshot.requests)
    costs, sums, limits, _ = _cells(instance)
    ones, n_jobs = np.ones(len(snapshot.requests)), len(snapshot.requests)
    lp = linprog(
        costs, A_ub=sums[n_jobs:], b_ub=limits, A_eq=sums[:n_jobs], b_eq=ones, method="highs"
    )
    over = []
    for seed in SEEDS:
        small = _drawn(seed, 60, 48, 0.3, rows=4)
        columns = build_instance(small, small.requests)
        costs, sums, limits, _ = _cells(columns)
        best = milp(
            costs,
            constraints=[
                LinearConstraint(sums[:60], 1, 1),
                LinearConstraint(sums[60:], -np.inf, limits),
            ],
            integrality=np.ones(len(costs)),
            bounds=Bounds(0, 1),
            options={"time_limit": 60},
        )
        if best.x is not None:
            over.append(build_plan(small).emissions_g / best.fun - 1)
    return {
        "bound_vs_lp": find_prices(instance).bound_g / lp.fun,
        "over_highs_60_median": statistics.median(over),
        "over_highs_60_worst": max(over),
    }


def _cells(instance: Instance) -> tuple[Floats, "coo_array", Floats, Ints]:
    """The time-indexed model: cost of each cell, rows of jobs and of (row, slot), and what is free."""
    market, tables, jobs = instance.market, instance.tables, instance.jobs
    n_jobs, slots = len(instance.requests), market.grams.shape[1]
    costs, at, of, values = [], [], [], []
    for j in range(n_jobs):
        for link in range(jobs.first[j], jobs.first[j + 1]):
            k = jobs.table[link]
            n = int(tables.touched[k])
            for c in range(tables.first[k], tables.first[k + 1]):
                r = int(tables.row[c])
                for slot in range(jobs.low[link], jobs.high[link] + 1):
                    cell = len(costs)
                    grams = market.grams[r, slot : slot + n].sum()
                    costs.append(jobs.scale[j] * tables.watts[c] * grams)
                    at += [j, *(n_jobs + r * slots + t for t in range(slot, slot + n))]
                    of += [cell] * (n + 1)
                    values += [1.0] + [jobs.scale[j] * tables.gpus[c]] * n
    sums = coo_array((values, (at, of)), shape=(n_jobs + market.grams.size, len(costs))).tocsr()
    return np.array(costs), sums, market.free.ravel(), np.array(at)


def _peak_mib() -> float:
    """Peak memory of a process that plans 100,000 jobs, objects and all."""
    script = (
        "import resource\n"
        "from tests.benchmarks.planner import _drawn, build_plan\n"
        "build_plan(_drawn(11, 100_000, 168, 0.4))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return float(done.stdout)
