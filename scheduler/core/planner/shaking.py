"""Shaking: the last gaps of small plans, and places for jobs that found none.

Prices and sweeps leave gaps that matter where jobs are few and big, and repairs leave jobs without a place where
they nearly fill the fleet. Both are closed by forcing jobs into cells that are taken: see `shaking_kernels`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from scheduler.core.planner.instance import Instance
from scheduler.core.planner.kernels import Cells, Floats, Ints, improve, running_sums
from scheduler.core.planner.placing import Placing, nowhere, place_in_order, size
from scheduler.core.planner.shaking_kernels import (
    Board,
    Manner,
    Options,
    count_cells,
    list_cells,
    restore,
    set_up,
    shake,
)

SMALL: Final = 400
"""Jobs up to which every plan is shaken, rather than only those with jobs that have no place."""
CHUNK: Final = 4000
"""Steps between two looks at the clock and at the bound."""


def worth(instance: Instance, placing: Placing) -> tuple[tuple[int, ...], float]:
    """Sort key, best first: jobs without a place by falling priority, then grams."""
    missing = placing.cells.choice < 0
    levels = np.unique(instance.priority)[::-1]
    return tuple(
        int((missing & (instance.priority == level)).sum()) for level in levels
    ), placing.grams


def board_of(instance: Instance, placing: Placing) -> Board:
    """A board with its own copy of the placing."""
    count, cells = len(instance.requests), placing.cells
    _, rank = np.unique(-instance.priority, return_inverse=True)
    has_margins = bool((instance.jobs.high < instance.easy.high).any())
    market = instance.market
    board = Board(
        market=market,
        tables=instance.tables,
        jobs=instance.jobs,
        easy=instance.easy,
        rank=rank.ravel().astype(np.int64),
        late_g=_most_grams(instance) if has_margins else 0.0,
        load=placing.load.copy(),
        cells=Cells(
            cells.choice.copy(), cells.link.copy(), cells.slot.copy(), cells.grams.copy()
        ),
        head=np.full(len(market.free), -1),
        after=np.full(count, -1),
        before=np.full(count, -1),
        noted=np.zeros(count, dtype=np.int64),
        old=nowhere(count),
        step_of=np.full(count, -1),
        held_of=np.full(count, -1),
        waiting=np.zeros(count, dtype=np.int64),
        missing=np.zeros(int(rank.max(initial=0)) + 1, dtype=np.int64),
        over=np.zeros(market.grams_sum.shape[1]),
    )
    set_up(board)
    return board


def _most_grams(instance: Instance) -> float:
    tables = instance.tables
    k = np.repeat(np.arange(len(tables.whole)), np.diff(tables.first))
    per_job = float((tables.watts * tables.touched[k]).max() * instance.market.grams.max())
    return (per_job + float(tables.extra.max())) * float(instance.jobs.scale.sum()) + 1.0


def no_options(jobs: int) -> Options:
    """Options of jobs that have none."""
    nothing = np.zeros(0, dtype=np.int64)
    return Options(np.zeros(jobs + 1, dtype=np.int64), nothing, nothing, nothing, np.zeros(0), nothing)


def find_options(instance: Instance, prices: Floats, most_g: float) -> tuple[Options, float]:
    """The cells of every job by falling promise, and a lower bound.

    Args:
        instance: jobs and market.
        prices: (rows, slots), grams a device and slot.
        most_g: cells that no plan below this can use are left out (reduced cost fixing); infinite to keep all.
    """
    market, count = instance.market, len(instance.requests)
    sums = np.zeros_like(market.grams_sum)
    running_sums(prices, sums)
    room = count_cells(market, instance.tables, instance.jobs)
    ints = [np.zeros(room, dtype=np.int64) for _ in range(4)]
    raw = Options(np.zeros(0, dtype=np.int64), *ints[:3], np.zeros(room), ints[3])
    owner, priced = ints[3], np.zeros(room)
    used = list_cells(market, instance.tables, instance.jobs, sums, owner, raw, priced)
    order = np.lexsort((priced[:used], owner[:used]))
    owner, priced = owner[order], priced[order]
    least = np.full(count, np.inf)
    np.minimum.at(least, owner, priced)
    bound_g = float(least[np.isfinite(least)].sum() - (prices * market.free).sum())
    kept = priced - least[owner] <= most_g - bound_g
    order, owner = order[kept], owner[kept]
    first = np.searchsorted(owner, np.arange(count + 1))
    by_grams = np.lexsort((raw.grams[order], owner))
    options = Options(
        first, raw.choice[order], raw.link[order], raw.slot[order], raw.grams[order], by_grams
    )
    return options, bound_g


@dataclass(frozen=True, slots=True)
class Shaking:
    """How to shake small plans.

    Args:
        rounds: annealings, each from another start.
        steps: of each.
        hot, cold: first and last temperature, in mean grams of a job.
        manner: of the steps.
    """

    rounds: int = 16
    steps: int = 12_000
    again: float = 0.5
    hot: float = 0.05
    cold: float = 0.0005
    manner: Manner = Manner(depth=2, turn=0.2, ruin=0.3, share=0.5, priced=0.3, blink=0.0)


def shaken(
    instance: Instance,
    prices: Floats,
    placings: Sequence[Placing],
    *,
    seed: int = 0,
    effort: Shaking | None = None,
    is_over: Callable[[], bool] = lambda: False,
) -> Placing:
    """The best of the placings, with places for jobs that had none, and shaken if it is small.

    Args:
        instance: jobs and market.
        prices: (rows, slots), of capacity: they tell which cells are worth trying.
        placings: starts.
        seed: of all chance.
        effort: of shaking; None for what suits the number of jobs.
        is_over: asked between chunks of steps.
    """
    def key(one: Placing) -> tuple[tuple[int, ...], float]:
        return worth(instance, one)

    effort = effort or Shaking()
    best = min(placings, key=key)
    chance = np.random.default_rng(seed)
    starts = sorted(placings, key=key)
    for turn in range(effort.rounds):
        most_g = best.grams if best.placed == len(instance.requests) else np.inf
        options, bound_g = find_options(instance, prices, most_g)
        if best.grams <= bound_g * (1 + 1e-9) and best.placed == len(instance.requests):
            break
        start = best if turn >= (1 - effort.again) * effort.rounds else starts[turn % len(starts)]
        found = anneal(instance, options, start, chance, effort, is_over)
        best = min(best, found, key=key)
        if is_over():
            break
    return best


def anneal(
    instance: Instance,
    options: Options,
    start: Placing,
    chance: np.random.Generator,
    effort: Shaking,
    is_over: Callable[[], bool] = lambda: False,
) -> Placing:
    """The best placing seen while the temperature falls."""
    board, count = board_of(instance, start), len(instance.requests)
    best, above_g = nowhere(count), 0.0
    mean_g = start.grams / max(1, start.placed)
    for begin in range(0, effort.steps, CHUNK):
        done = np.arange(begin, begin + CHUNK) / effort.steps
        heat = effort.hot * (effort.cold / effort.hot) ** done * mean_g
        picks = chance.integers(0, count, CHUNK)
        missing = np.flatnonzero(board.cells.choice < 0)
        if len(missing):
            picks[::2] = missing[chance.integers(0, len(missing), CHUNK // 2)]
        above_g = shake(
            picks,
            chance.random((CHUNK, 3)),
            heat * chance.exponential(size=CHUNK),
            effort.manner,
            options,
            board,
            above_g,
            best,
        )
        if is_over():
            break
    if above_g > 0.0:
        restore(board, best)
    return Placing(board.cells, board.load)
