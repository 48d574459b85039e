"""Places every job in a cell: soft sweeps on prices, then a repair that keeps capacity, then improvement.

At the best prices most jobs are indifferent between many cells, so that prices alone place badly. Sweeps break
the ties: job by job moves to its cheapest cell, where overrunning capacity costs the square of the overrun, ever more
stiffly, and prices follow the load (an augmented Lagrangian, by Gauss-Seidel). What still overruns is sent away, biggest
last, and placed anew where there is room.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.planner.arrays import INFINITE, Cells, Floats, Ints, Jobs
from scheduler.core.planner.instance import Instance
from scheduler.core.planner.kernels import admit, improve, sweep, weigh
from scheduler.core.planner.snapshot import NOBODY, Watch

STIFFNESS: Final = 0.5
"""First weight of squared overrun, in mean price over mean capacity."""
PRICE_STEP: Final = 0.3
"""How far prices follow the load after a sweep, in parts of the stiffness."""
STIFFENING: Final = 300.0
"""How much stiffer the last sweep is than the first: enough that hardly anything is overrun at the end."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to search: placings from how many seeds, and sweeps for each."""

    starts: int
    sweeps: int

    @property
    def growth(self) -> float:
        """Factor of the stiffness from one sweep to the next."""
        return float(STIFFENING ** (1 / self.sweeps))


@dataclass(frozen=True, slots=True)
class Placing:
    """Where the jobs are, the devices that they take, and their sum of grams (of those that have a place)."""

    cells: Cells
    load: Floats

    @property
    def grams(self) -> float:
        """Grams of the jobs that have a place."""
        return float(self.cells.grams[self.cells.choice >= 0].sum())

    @property
    def placed(self) -> int:
        """How many jobs have a place."""
        return int((self.cells.choice >= 0).sum())


def nowhere(jobs: int) -> Cells:
    """Cells of jobs that have no place."""
    return Cells(
        choice=np.full(jobs, -1),
        link=np.full(jobs, -1),
        slot=np.full(jobs, -1),
        grams=np.full(jobs, INFINITE),
    )


def size(instance: Instance) -> Floats:
    """Device-slots of each job in its first choice."""
    tables, jobs = instance.tables, instance.jobs
    k = jobs.table[jobs.first[:-1]]
    sized: Floats = jobs.scale * tables.gpus[tables.first[k]] * tables.touched[k]
    return sized


def place_softly(
    instance: Instance,
    prices: Floats,
    *,
    effort: Effort,
    seed: int,
    watch: Watch = NOBODY,
) -> Cells:
    """Cells after sweeps with growing stiffness; capacity may still be overrun somewhat."""
    market, count = instance.market, len(instance.requests)
    chance = np.random.default_rng(seed)
    cells, load = nowhere(count), np.zeros_like(market.free)
    order: Ints = np.arange(count)
    asked = prices[prices > 0]
    stiffness = STIFFNESS * float(asked.mean() if len(asked) else 1e-9)
    stiffness /= max(float(market.mean_free.mean()), 1e-9)
    prices = prices.copy()
    for index in range(effort.sweeps):
        chance.shuffle(order)
        sweep(order, market, instance.tables, instance.jobs, prices, stiffness, load, cells)
        prices = np.maximum(0.0, prices + PRICE_STEP * stiffness * (load - market.mean_free))
        stiffness *= effort.growth
        watch.tell("places", (index + 1) / effort.sweeps)
        if watch.is_over():
            break
    return cells


def place_firmly(
    instance: Instance, wanted: Cells, *, first: NDArray[np.bool_] | None = None, passes: int = 2
) -> Placing:
    """A placing within capacity: wishes in order of priority and size where there is room, the rest where there is any.

    Args:
        instance: the jobs and what is free.
        wanted: their wishes.
        first: (jobs,), whose wishes come before all others.
        passes: of improvement, at most.
    """
    jobs = instance.jobs
    cells = Cells(wanted.choice.copy(), wanted.link.copy(), wanted.slot.copy(), wanted.grams.copy())
    weigh(instance.market, instance.tables, jobs, cells)
    placing = Placing(cells, np.zeros_like(instance.market.free))
    order = by_priority(instance, first)
    admit(order, instance.market, instance.tables, jobs, placing.load, cells)
    fill(instance, placing, order)
    improve_all(instance, placing, order, passes=passes)
    return placing


def by_priority(instance: Instance, first: NDArray[np.bool_] | None = None) -> Ints:
    """Jobs by falling priority, then size; those that come `first` before."""
    keys: list[NDArray[np.generic]] = [-size(instance), -instance.priority]
    return np.lexsort(keys if first is None else [*keys, ~first])


def improve_all(instance: Instance, placing: Placing, order: Ints, *, passes: int = 2) -> None:
    """Moves each job in turn to its cheapest cell with room, until none moves or the passes are over."""
    for _ in range(passes):
        if not _improve(instance, placing, order, instance.jobs):
            break


def place_in_order(instance: Instance, order: Ints) -> Placing:
    """A greedy placing: each job in turn in its cheapest cell with room."""
    placing = Placing(nowhere(len(instance.requests)), np.zeros_like(instance.market.free))
    fill(instance, placing, order)
    return placing


def fill(instance: Instance, placing: Placing, order: Ints) -> None:
    """Gives the jobs without a place the cheapest cell that has room, without their margins if need be."""
    for jobs in (instance.jobs, instance.easy):
        waiting = order[placing.cells.choice[order] < 0]
        _improve(instance, placing, waiting, jobs)


def _improve(instance: Instance, placing: Placing, order: Ints, jobs: Jobs) -> int:
    return int(improve(order, instance.market, instance.tables, jobs, placing.load, placing.cells))
