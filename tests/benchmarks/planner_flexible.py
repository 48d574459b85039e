"""Jobs that pause or change their width: never worse than in one piece, and a published profile."""

from itertools import product

import numpy as np
import pandas as pd

from scheduler.core.planner.elastic import MOST_LABELS, Widths, build_free_machine, cheapest_widths
from scheduler.core.planner.pauses import PriceRow, Run, exact_segments
from tests.benchmarks.planner_instances import CARBON

HOUR_S = 3600
# Hours of job, slack, overhead and shortest segment. Source: the planning-limits study, section 5.
SETTINGS = (
    (6, 24, 0.0, 1),
    (6, 24, 1.0, 3),
    (24, 24, 0.25, 1),
    (24, 24, 1.0, 3),
    (24, 168, 0.25, 3),
    (24, 168, 1.0, 3),
)
ZONES, STARTS = 8, 25


def pauses_vs_contiguous() -> float:
    """The worst ratio of grams with pauses to those of the cleanest whole hours in one piece; 1 at most."""
    rng = np.random.default_rng(5)
    table = pd.read_parquet(CARBON).pivot_table(
        index="time", columns="zone", values="g_per_kwh", observed=True
    )
    zones = table.to_numpy()[:, rng.choice(table.shape[1], ZONES, replace=False)].T
    starts = rng.integers(0, table.shape[0] - 200, STARTS)
    worst = 0.0
    for (job, slack, overhead, shortest), zone, start in product(SETTINGS, zones, starts):
        costs = np.ascontiguousarray(zone[start : start + job + slack], dtype=np.float64)
        row = PriceRow(costs, np.zeros(len(costs), dtype=np.bool_), HOUR_S)
        run = Run(
            duration_s=job * HOUR_S,
            earliest_s=0,
            deadline_s=len(costs) * HOUR_S,
            min_chunk_s=shortest * HOUR_S,
            checkpoint_cost_s=round(overhead * HOUR_S),
            max_interruptions=job // shortest - 1,
        )
        found = exact_segments(row, run)
        assert found is not None
        worst = max(worst, found.cost / float(np.convolve(costs, np.ones(job), "valid").min()))
    return worst


def elastic_vector_g() -> float:
    """Grams of four node-hours of CarbonScaler's profile nbody100k in six hours on up to four nodes: 26.706 is optimal."""
    work = np.array([1757.89, 3496.40, 5104.39, 6661.95])
    watts = np.array([54.780, 109.805, 161.224, 217.607])
    costs = np.outer(watts, [420.0, 310.0, 150.0, 90.0, 130.0, 280.0]) / 1000
    widths = Widths(costs, np.zeros(costs.shape, dtype=np.bool_), work)
    chosen = np.zeros(costs.shape[1], dtype=np.int64)
    grams, _ = cheapest_widths(widths, build_free_machine(), 4 * work[0], MOST_LABELS, chosen)
    return float(grams)
