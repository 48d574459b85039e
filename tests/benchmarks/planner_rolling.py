"""Planning again after a few arrivals and departures, against planning afresh."""

import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.snapshot import Plan, PlanSnapshot
from tests.benchmarks.measure import seeds
from tests.benchmarks.planner_instances import as_snapshot, draw

CHANGED = 0.01
"""Share of the jobs that have gone since, and share that is new."""


def replanning() -> dict[str, float]:
    """CPU of planning again over that of planning afresh, and the points of gap that it costs, at 10,000 jobs."""
    try:
        replan = importlib.import_module("scheduler.core.planner.rolling").replan
    except ModuleNotFoundError:
        print("replan_cpu_ratio, replan_gap_points: skipped, there is no planner.rolling yet")
        return {}
    ratios, points = [], []
    for seed in seeds(3):
        before, after = _changed(seed)
        plan = build_plan(before)
        again, again_s = _timed(lambda after=after, plan=plan: replan(after, plan))
        afresh, afresh_s = _timed(lambda after=after: build_plan(after))
        ratios.append(again_s / afresh_s)
        points.append(100 * (again.emissions_g / afresh.lower_bound_g - 1 - afresh.gap))
        assert len(again.placements) >= len(afresh.placements)
    return {
        "replan_cpu_ratio": statistics.median(ratios),
        "replan_gap_points": statistics.median(points),
    }


def _changed(seed: int) -> tuple[PlanSnapshot, PlanSnapshot]:
    """A snapshot, and the same with a few jobs gone and a few new."""
    whole = as_snapshot(draw(seed, jobs=10_000, rows=20, hours=168, utilisation=0.4))
    count = round(CHANGED * len(whole.requests))
    order = np.random.default_rng(seed).permutation(len(whole.requests))
    gone, new = set(order[:count].tolist()), set(order[count : 2 * count].tolist())
    each = list(enumerate(whole.requests))
    return (
        replace(whole, requests=tuple(one for index, one in each if index not in new)),
        replace(whole, requests=tuple(one for index, one in each if index not in gone)),
    )


def _timed(work: Callable[[], Plan]) -> tuple[Plan, float]:
    began = time.process_time()
    return work(), time.process_time() - began
