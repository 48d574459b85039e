"""The time-indexed model, solved by HiGHS: what the planner's bound and small plans are held against."""

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array, csr_array

from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.joint import build_problem
from scheduler.core.planner.plan import build_plan
from tests.benchmarks.measure import seeds
from tests.benchmarks.planner_instances import as_snapshot, draw

Floats = NDArray[np.float64]
LIMIT_S = 30
EASY, SCARCE = 0.3, (0.8, 0.9, 0.95)
"""Utilisations."""


@dataclass(frozen=True)
class Cells:
    """Cost of each cell, which job each is of, and its devices in each (row, slot)."""

    costs: Floats
    of_job: csr_array
    of_slot: csr_array
    free: Floats


def build_cells(instance: Instance) -> Cells:
    """The model of an instance whose times and lengths are whole slots."""
    market, tables, jobs = instance.market, instance.tables, instance.jobs
    n_jobs, slots = len(instance.requests), market.grams.shape[1]
    costs, owner, used = list[float](), list[int](), list[tuple[int, int, float]]()
    for j in range(n_jobs):
        for link in range(jobs.first[j], jobs.first[j + 1]):
            k = jobs.table[link]
            for c in range(tables.first[k], tables.first[k + 1]):
                r, n = int(tables.row[c]), int(tables.touched[k])
                for slot in range(jobs.low[link], jobs.high[link] + 1):
                    grams = market.grams[r, slot : slot + n].sum()
                    gpus = float(jobs.scale[j] * tables.gpus[c])
                    used += [(r * slots + t, len(costs), gpus) for t in range(slot, slot + n)]
                    costs.append(float(jobs.scale[j] * tables.watts[c] * grams))
                    owner.append(j)
    at, cell, gpus_of = (np.array(column) for column in zip(*used, strict=True))
    shape = market.grams.size, len(costs)
    ones = np.ones(len(costs)), (np.array(owner), np.arange(len(costs)))
    return Cells(
        costs=np.array(costs),
        of_job=coo_array(ones, shape=(n_jobs, len(costs))).tocsr(),
        of_slot=coo_array((gpus_of, (at, cell)), shape=shape).tocsr(),
        free=market.free.ravel(),
    )


def bound_vs_lp() -> float:
    """The planner's bound over the optimum of the linear relaxation, at 200 jobs: median of seeds."""
    ratios = []
    for seed in seeds(3, first=21):
        snapshot = as_snapshot(draw(seed, jobs=200, rows=10, hours=72, utilisation=0.5))
        problem = build_problem(snapshot, snapshot.requests)
        cells = build_cells(problem.instance)
        relaxed = linprog(
            cells.costs,
            A_ub=cells.of_slot,
            b_ub=cells.free,
            A_eq=cells.of_job,
            b_eq=np.ones(cells.of_job.shape[0]),
            method="highs",
        )
        if relaxed.status == 0:
            ratios.append(problem.prices(None).bound_g / relaxed.fun)
    return statistics.median(ratios)


def least_grams(cells: Cells) -> float | None:
    """The proven least grams with a place for every job; None where that is not possible or the time is over before."""
    return _solve(cells, cells.costs, least=1)


def most_placed(cells: Cells) -> int | None:
    """The proven greatest number of jobs that have a place; None where the time is over before."""
    found = _solve(cells, -np.ones(len(cells.costs)), least=0)
    return None if found is None else round(-found)


def _solve(cells: Cells, costs: Floats, *, least: int) -> float | None:
    """The proven optimum; `least` is 1 where every job must have a place."""
    found = milp(
        costs,
        constraints=[
            LinearConstraint(cells.of_job, least, 1),
            LinearConstraint(cells.of_slot, -np.inf, cells.free),
        ],
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        options={"time_limit": LIMIT_S},
    )
    return float(found.fun) if found.status == 0 else None


def against_optima() -> dict[str, float]:
    """Plans of 60 jobs over proven optima, and jobs that have a place where most have and the planner gives them none."""
    over, behind, n_most = [], 0, 0
    for seed in seeds(20):
        snapshot = as_snapshot(draw(seed, jobs=60, rows=4, hours=48, utilisation=EASY))
        least = least_grams(build_cells(build_instance(snapshot, snapshot.requests)))
        if least is not None:
            over.append(build_plan(snapshot).emissions_g / least - 1)
        scarce = SCARCE[seed % len(SCARCE)]
        snapshot = as_snapshot(draw(seed, jobs=60, rows=4, hours=48, utilisation=scarce))
        most = most_placed(build_cells(build_instance(snapshot, snapshot.requests)))
        if most is not None:
            n_most += 1
            behind += max(0, most - len(build_plan(snapshot).placements))
    return {
        "over_highs_60_median": statistics.median(over) if over else float("nan"),
        "over_highs_60_worst": max(over, default=float("nan")),
        "over_highs_60_proven": len(over),
        "unplaced_vs_highs": behind,
        "unplaced_vs_highs_proven": n_most,
    }
