"""100,000 jobs in one region without capacity: exact windows against bare numpy, loops and pandas."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scheduler.core.planner.windows import Profile, best_starts
from tests.benchmarks.measure import cpu_s, in_turn, write

N_JOBS, N_SLOTS, SLOT_S = 100_000, 168, 3600
N_LOOP, N_PANDAS = 10_000, 1_000
Jobs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def run() -> None:
    """Measures, checks that every way finds the same grams, and writes the result."""
    rng = np.random.default_rng(7)
    mg = rng.integers(50_000, 700_000, N_SLOTS)
    slots = rng.integers(1, 25, N_JOBS)
    low = rng.integers(0, N_SLOTS - 25, N_JOBS)
    high = np.minimum(low + rng.integers(0, 48, N_JOBS), N_SLOTS - slots)
    jobs = (slots, low, high)

    seconds = (slots * SLOT_S, low * SLOT_S, high * SLOT_S)

    _, ours = _gridtide(mg, seconds)
    floor = _numpy_floor(mg, jobs)
    exact = np.array([_loop_one(mg, *job) for job in zip(*jobs, strict=True)])
    assert (floor == exact).all()
    pandas_series = pd.Series(mg)
    sample = [tuple(int(v) for v in job) for job in zip(*(a[:N_PANDAS] for a in jobs), strict=True)]
    found = [_pandas_one(pandas_series, *job) for job in sample]
    assert [int(value) for value in found] == exact[:N_PANDAS].tolist()

    taken = in_turn(
        5,
        {
            "gridtide": lambda: cpu_s(lambda: _gridtide(mg, seconds)) / N_JOBS,
            "floor": lambda: cpu_s(lambda: _numpy_floor(mg, jobs)) / N_JOBS,
            "loop": lambda: (
                cpu_s(
                    lambda: [
                        _loop_one(mg, *job) for job in zip(*(a[:N_LOOP] for a in jobs), strict=True)
                    ]
                )
                / N_LOOP
            ),
            "pandas": lambda: (
                cpu_s(lambda: [_pandas_one(pandas_series, *job) for job in sample]) / N_PANDAS
            ),
        },
    )
    write(
        "windows",
        {
            "gap": float(ours.sum() / (exact.sum() * SLOT_S) - 1),
            "cpu_vs_numpy_floor": taken["gridtide"] / taken["floor"],
            "speedup_vs_numpy_loop": taken["loop"] / taken["gridtide"],
            "speedup_vs_pandas": taken["pandas"] / taken["gridtide"],
        },
        {
            "jobs": N_JOBS,
            "slots": N_SLOTS,
            "loop_jobs": N_LOOP,
            "pandas_jobs": N_PANDAS,
            "cpu_ns_per_job": taken["gridtide"] * 1e9,
        },
    )


def _gridtide(mg: NDArray[np.int64], jobs: Jobs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return best_starts(Profile.build(mg, SLOT_S), *jobs)


def _numpy_floor(mg: NDArray[np.int64], jobs: Jobs) -> NDArray[np.int64]:
    """The least that numpy can do: window sums a distinct length, sparse table of minima with argmin."""
    slots, low, high = jobs
    best = np.empty(len(slots), dtype=np.int64)
    prefix = np.concatenate(([0], np.cumsum(mg)))
    order = np.argsort(slots, kind="stable")
    edges = np.searchsorted(slots[order], np.arange(1, slots.max() + 2))
    for length in range(1, int(slots.max()) + 1):
        group = order[edges[length - 1] : edges[length]]
        sums = prefix[length:] - prefix[:-length]
        table = [np.arange(len(sums))]
        k = 0
        while 2 << k <= len(sums):
            a, b = table[k][: -(1 << k)], table[k][1 << k :]
            table.append(np.concatenate((np.where(sums[b] < sums[a], b, a), table[k][-(1 << k) :])))
            k += 1
        stacked = np.stack(table)
        lo, hi = low[group], high[group]
        level = np.frexp((hi - lo + 1).astype(np.float64))[1] - 1
        left, right = stacked[level, lo], stacked[level, hi + 1 - (1 << level)]
        best[group] = sums[np.where(sums[right] < sums[left], right, left)]
    return best


def _loop_one(mg: NDArray[np.int64], length: int, low: int, high: int) -> int:
    running = np.concatenate(([0], np.cumsum(mg[low : high + length])))
    sums = running[length:] - running[:-length]
    return int(sums[np.argmin(sums)])


def _pandas_one(series: "pd.Series[int]", length: int, low: int, high: int) -> float:
    sums = series.iloc[low : high + length].rolling(length).sum()
    return float(sums.loc[sums.idxmin()])
