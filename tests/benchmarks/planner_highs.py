"""The time-indexed model, solved by HiGHS: what the planner's bound and small plans are held against."""

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array, csr_array, eye_array, hstack, vstack

from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.joint import build_problem
from scheduler.core.planner.plan import build_plan
from tests.benchmarks.measure import seeds
from tests.benchmarks.planner_instances import as_snapshot, draw

Floats = NDArray[np.float64]
LIMIT_S = 60
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


@dataclass(frozen=True)
class Proven:
    """An optimum: most jobs placed, then least grams."""

    placed: int
    grams: float


def solve(cells: Cells) -> Proven | None:
    """The proven optimum; None where the time is over before."""
    n_jobs, n_cells = cells.of_job.shape
    penalty = 2.0 * float(cells.costs.max())
    nowhere = csr_array(eye_array(n_jobs))
    sums = vstack([hstack([cells.of_job, nowhere]), hstack([cells.of_slot, 0 * _pad(cells)])])
    found = milp(
        np.concatenate((cells.costs, np.full(n_jobs, penalty * n_jobs))),
        constraints=LinearConstraint(
            csr_array(sums),
            np.concatenate((np.ones(n_jobs), np.full(len(cells.free), -np.inf))),
            np.concatenate((np.ones(n_jobs), cells.free)),
        ),
        integrality=np.ones(n_cells + n_jobs),
        bounds=Bounds(0, 1),
        options={"time_limit": LIMIT_S, "mip_rel_gap": 1e-7},
    )
    if found.status != 0:
        return None
    chosen = np.rint(found.x[:n_cells])
    return Proven(int(chosen.sum()), float(chosen @ cells.costs))


def _pad(cells: Cells) -> csr_array:
    return csr_array((len(cells.free), cells.of_job.shape[0]))


def against_optima() -> dict[str, float]:
    """Plans of 60 jobs over proven optima, and jobs that those place and the planner does not."""
    over, behind, n_proven = [], 0, 0
    for seed in seeds(20):
        for utilisation in (EASY, SCARCE[seed % len(SCARCE)]):
            snapshot = as_snapshot(draw(seed, jobs=60, rows=4, hours=48, utilisation=utilisation))
            best = solve(build_cells(build_instance(snapshot, snapshot.requests)))
            if best is None:
                continue
            plan = build_plan(snapshot)
            n_proven += 1
            behind += max(0, best.placed - len(plan.placements))
            if len(plan.placements) == best.placed and utilisation == EASY:
                over.append(plan.emissions_g / best.grams - 1)
    return {
        "over_highs_60_median": statistics.median(over),
        "over_highs_60_worst": max(over),
        "unplaced_vs_highs": behind,
        "highs_60_proven": n_proven,
    }
