"""The joint planner: gaps to its proven bound, against greedies, HiGHS and its own certificate; CPU and memory."""

import itertools
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from adapters.hardware_tables import load_hardware
from scheduler.core.job import Placement
from scheduler.core.planner.instance import build_instance
from scheduler.core.planner.joint import build_problem, place_jointly
from scheduler.core.planner.placing import place_in_order
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.snapshot import PlanSnapshot
from scheduler.server.plan_documents import plan_file
from tests.benchmarks.measure import cpu_s, seeds, write
from tests.benchmarks.planner_flexible import elastic_vector_g, pauses_vs_contiguous
from tests.benchmarks.planner_greedies import arrival_order, grams_with_penalty, greedies
from tests.benchmarks.planner_highs import against_optima, bound_vs_lp
from tests.benchmarks.planner_instances import as_document, as_snapshot, draw
from tests.benchmarks.planner_rolling import replanning
from tests.verifier import verify

UTILISATIONS = (0.2, 0.4, 0.6)
SCARCE = (0.8, 0.9, 0.95)
ROWS = 20
LEAST_GAP = 0.01
"""The gap whose CPU time is told."""


def run() -> None:
    """Measures every size and writes the keys of interfaces.md."""
    build_plan(as_snapshot(draw(0, jobs=60, rows=4, hours=48, utilisation=0.5)))
    metrics: dict[str, float] = {}
    held: list[Held] = []
    for name, jobs, hours in (("2k", 2_000, 96), ("10k", 10_000, 168)):
        here = [
            _held_against_greedies(seed, jobs, hours, utilisation)
            for seed, utilisation in zip(seeds(6), itertools.cycle(UTILISATIONS), strict=False)
        ]
        gaps = [one.gap for one in here]
        metrics |= {f"gap_{name}_median": statistics.median(gaps), f"gap_{name}_worst": max(gaps)}
        held += here
    ratios = [one.gap / one.greedy_gap for one in held]
    metrics["gap_vs_best_greedy"] = statistics.median(ratios)
    metrics["gap_vs_best_greedy_worst"] = max(ratios)
    held += [
        _held_against_greedies(seed, 2_000, 96, utilisation)
        for seed, utilisation in zip(seeds(6, first=31), itertools.cycle(SCARCE), strict=False)
    ]
    metrics["unplaced_vs_greedy"] = sum(one.behind for one in held)
    large = _large()
    metrics["violations"] = sum(one.violations for one in held) + large.pop("violations")
    metrics |= large | against_optima()
    metrics["bound_vs_lp"] = bound_vs_lp()
    metrics["peak_mib_100k"] = _peak_mib()
    metrics |= replanning()
    metrics["pauses_vs_contiguous_max"] = pauses_vs_contiguous()
    metrics["elastic_vector_g"] = elastic_vector_g()
    conditions = {"seeds": len(seeds(6)), "utilisations": list(UTILISATIONS), "scarce": SCARCE}
    write("planner", metrics, conditions)


@dataclass(frozen=True)
class Held:
    """A plan beside the best of five greedies: its gap, broken rules, and how many jobs fewer it places."""

    gap: float
    greedy_gap: float
    behind: int
    violations: int


def _held_against_greedies(seed: int, jobs: int, hours: int, utilisation: float) -> Held:
    drawn = draw(seed, jobs=jobs, rows=ROWS, hours=hours, utilisation=utilisation)
    document, snapshot = as_document(drawn), as_snapshot(drawn)
    plan = plan_file(document, load_hardware())
    instance = build_instance(snapshot, snapshot.requests)
    found = list(greedies(drawn, instance))
    best_g = min(grams_with_penalty(instance, one) for one in found)
    most = max(one.placed for one in found)
    return Held(
        gap=plan["gap"],
        # Beside a plan that leaves jobs out, greedies may look better than the bound.
        greedy_gap=max(best_g / plan["lower_bound_g"] - 1, 1e-12),
        behind=max(0, most - len(plan["placements"])),
        violations=len(verify(document, plan)),
    )


def _large() -> dict[str, float]:
    """100,000 jobs: gap, broken rules, and CPU of prices and placing over that of one greedy pass by arrival."""
    gaps, over, broken = [], [], 0
    for seed in seeds(3):
        drawn = draw(seed, jobs=100_000, rows=ROWS, hours=168, utilisation=0.4)
        snapshot = as_snapshot(drawn)
        problem = build_problem(snapshot, snapshot.requests)
        order = arrival_order(drawn)
        greedy_s = cpu_s(lambda p=problem, o=order: place_in_order(p.instance, o))
        began = time.process_time()
        prices = problem.prices(None)
        placed = place_jointly(problem, prices, seed=0)
        took_s = time.process_time() - began
        missing, grams = int((placed.whole.cells.choice < 0).sum()), placed.whole.grams
        gaps.append(grams / prices.bound_g - 1)
        over.append(took_s / greedy_s if gaps[-1] <= LEAST_GAP else float("inf"))
        placements, _ = placed.settle()
        broken += _violations(snapshot, placements.values())
        broken += len(drawn.arrival) - len(placements) - missing
    return {
        "gap_100k": statistics.median(gaps),
        "cpu_vs_greedy_100k": statistics.median(over),
        "violations": broken,
    }


def _violations(snapshot: PlanSnapshot, placements: Iterable[Placement]) -> int:
    """Broken promises where there are too many jobs for the checker: times, and devices at every start and end."""
    asked = {one.job_id: one for one in snapshot.requests}
    broken = 0
    by_row: dict[tuple[str, str], list[tuple[float, int, int]]] = defaultdict(list)
    for one in placements:
        request = asked[one.job_id]
        broken += one.window.start_at < max(request.earliest_at, snapshot.now)
        broken += one.window.end_at > request.deadline_at
        broken += one.window.duration_s not in {choice.duration_s for choice in request.choices}
        row = by_row[one.cluster_id, one.accelerator]
        row.append((one.window.start_at.timestamp(), 1, one.gpus))
        row.append((one.window.end_at.timestamp(), 0, -one.gpus))
    for (cluster_id, accelerator), changes in by_row.items():
        room = snapshot.fleet.get(cluster_id).gpus(accelerator)
        used = itertools.accumulate(change[2] for change in sorted(changes))
        broken += sum(one > room for one in used)
    return broken


def _peak_mib() -> float:
    """Peak memory of a process that plans 100,000 jobs, objects and all."""
    script = (
        "import resource\n"
        "from scheduler.core.planner.plan import build_plan\n"
        "from tests.benchmarks.planner_instances import as_snapshot, draw\n"
        "build_plan(as_snapshot(draw(11, jobs=100_000, rows=20, hours=168, utilisation=0.4)))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return float(done.stdout)
