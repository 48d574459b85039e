"""Five greedy orders on the planner's own compiled scan, and grams that are comparable where jobs have no place."""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from scheduler.core.planner.instance import Instance
from scheduler.core.planner.placing import Placing, place_in_order, size
from tests.benchmarks.planner_instances import Drawn

UNPLACED_PAYS = 1.5
"""Times the dirtiest cell in every hour: what a job without a place is counted with."""


def arrival_order(drawn: Drawn) -> NDArray[np.int64]:
    """Jobs as they come."""
    return np.argsort(drawn.arrival, kind="stable")


def greedies(drawn: Drawn, instance: Instance) -> Iterator[Placing]:
    """By arrival, deadline, size, regret x size, and slack."""
    sized = size(instance)
    slack = drawn.deadline - drawn.arrival - drawn.duration
    for key in (drawn.arrival, drawn.deadline, -sized, -_regret(drawn) * sized, slack):
        yield place_in_order(instance, np.argsort(key, kind="stable"))


def _regret(drawn: Drawn) -> NDArray[np.float64]:
    """What the second best row costs more than the best, capacity ignored, a device and slot."""
    costs = drawn.g_per_kwh * drawn.pue[:, None]
    regret = np.zeros(len(drawn.arrival))
    for length in np.unique(drawn.duration):
        sums = sliding_window_view(costs, int(length), axis=1).mean(axis=2)
        for job in np.flatnonzero(drawn.duration == length).tolist():
            last = drawn.deadline[job] - length
            least = np.sort(sums[:, drawn.arrival[job] : last + 1].min(axis=1))
            regret[job] = least[min(1, len(least) - 1)] - least[0]
    return regret


def grams_with_penalty(instance: Instance, placing: Placing) -> float:
    """Grams where jobs without a place pay for the dirtiest cell and half of it again."""
    missing = placing.cells.choice < 0
    tables, jobs = instance.tables, instance.jobs
    first = tables.first[jobs.table[jobs.first[:-1]]]
    watt_slots = jobs.scale * tables.watts[first] * tables.touched[jobs.table[jobs.first[:-1]]]
    dirtiest = UNPLACED_PAYS * float(instance.market.grams.max())
    return placing.grams + dirtiest * float(watt_slots[missing].sum())
