"""Shaking: the last gaps of small plans, and places for jobs that found none.

Prices and sweeps leave gaps that matter where jobs are few and big, and repairs leave jobs without a place where
they nearly fill the fleet. Both are closed by forcing jobs into cells that are taken: see `shaking_kernels`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.planner.arrays import INFINITE, Cells, Floats, Ints
from scheduler.core.planner.board import Board, Manner, Options
from scheduler.core.planner.instance import Instance
from scheduler.core.planner.kernels import admit, improve, running_sums
from scheduler.core.planner.placing import Placing, fill, nowhere, place_in_order, size
from scheduler.core.planner.shaking_kernels import count_cells, list_cells, restore, set_up, shake
from scheduler.core.planner.snapshot import NOBODY, Watch

SMALL: Final = 400
"""Jobs up to which every plan is shaken, rather than only those with jobs that have no place."""
CHUNK: Final = 2000
"""Steps between two questions whether the search is over."""
MANNER: Final = Manner(depth=2, turn=0.2, ruin=0.3, share=0.5, priced=0.3)
INSISTING: Final = Manner(depth=2, turn=0.2, ruin=0.0, share=0.0, priced=0.3)
INSISTENCE: Final = 40
"""Tries of a new job to force its way into the cells of others."""
MOST_STEPS: Final = 15_000
"""Tries of all of them."""
ROOM: Final = Manner(depth=2, turn=0.0, ruin=0.0, share=0.0, priced=0.0)
"""Chains of three: those in the way of those in the way may send others away."""


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
        cells=_copied(cells),
        head=np.full(len(market.free), -1),
        after=np.full(count, -1),
        before=np.full(count, -1),
        noted=np.zeros(count, dtype=np.int64),
        old=nowhere(count),
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
    return Options(
        np.zeros(jobs + 1, dtype=np.int64), nothing, nothing, nothing, np.zeros(0), nothing
    )


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
    choice, link, slot, owner = (np.zeros(room, dtype=np.int64) for _ in range(4))
    raw, priced = Options(owner, choice, link, slot, np.zeros(room), owner), np.zeros(room)
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
    """How hard to shake.

    Args:
        rounds: annealings, each from another start.
        steps: of each; of every other four `slow` times as many, since some plans need long annealings and some many.
        hot: first temperature of one round after the other, in mean grams of a job.
        cold: last temperature, in the same.
        tries: for each job without a place, how often room is made for it.
        cells: where all jobs together may be in more than so many cells, none is annealed: listing them takes too long.
    """

    rounds: int
    steps: int
    slow: int = 1
    hot: tuple[float, ...] = (0.05, 0.3, 0.05, 1.0)
    cold: float = 0.0005
    tries: int = 100
    cells: int = 50_000_000


NO_SHAKING: Final = Shaking(rounds=0, steps=0)
"""Only places for jobs that have none."""


def shaking_for(jobs: int) -> Shaking:
    """What pays, by the number of jobs."""
    if jobs <= 80:
        return Shaking(rounds=min(24, 2 * jobs), steps=200 * jobs, slow=4, tries=400)
    if jobs <= SMALL:
        return Shaking(rounds=4, steps=60_000, tries=200)
    return Shaking(rounds=0, steps=0)


def shaken(
    instance: Instance,
    prices: Floats,
    placings: Sequence[Placing],
    *,
    seed: int = 0,
    effort: Shaking | None = None,
    watch: Watch = NOBODY,
) -> Placing:
    """The best of the placings, with places for jobs that had none, and shaken if it is small.

    Args:
        instance: jobs and market.
        prices: (rows, slots), of capacity: they tell which cells are worth trying.
        placings: starts.
        seed: of all chance.
        effort: None for what suits the number of jobs.
        watch: asked between chunks of steps whether the search is over.
    """
    count = len(instance.requests)
    effort = effort or shaking_for(count)
    chance = np.random.default_rng(seed)
    starts = sorted(placings, key=lambda one: worth(instance, one))
    if starts[0].placed < count:
        starts += greedies(instance)
        starts.sort(key=lambda one: worth(instance, one))
        starts[0] = make_room(instance, starts[0], chance=chance, effort=effort, watch=watch)
    best = starts[0]
    if count_cells(instance.market, instance.tables, instance.jobs) > effort.cells:
        return best
    for turn in range(effort.rounds):
        watch.tell("shaking", turn / effort.rounds)
        hot = effort.hot[turn % len(effort.hot)]
        if watch.is_over():
            break
        is_whole = best.placed == count
        options, bound_g = find_options(instance, prices, best.grams if is_whole else np.inf)
        if is_whole and best.grams <= bound_g * (1 + 1e-9):
            break
        found = anneal(
            instance,
            options,
            starts[turn % len(starts)],
            chance=chance,
            effort=replace(
                effort, hot=(hot,), steps=effort.steps * (effort.slow if turn % 8 >= 4 else 1)
            ),
            watch=watch,
        )
        best = min(best, found, key=lambda one: worth(instance, one))
    return best


def insisted(
    instance: Instance, start: Placing, askers: Ints, prices: Floats, *, seed: int
) -> Placing:
    """The placing in which these jobs have forced their way into promising cells, wherever that costs no more in all.

    Args:
        instance: jobs and market.
        start: where they are; not changed.
        askers: (n,), who forces.
        prices: (rows, slots), of capacity.
        seed: of all chance.
    """
    chance, count = np.random.default_rng(seed), len(instance.requests)
    is_asker = np.zeros(count, dtype=np.bool_)
    is_asker[askers] = True
    jobs = instance.jobs
    owner = np.repeat(np.arange(count), np.diff(jobs.first))
    listed = jobs._replace(high=np.where(is_asker[owner], jobs.high, -1))
    options, _ = find_options(replace(instance, jobs=listed), prices, np.inf)
    board, best = board_of(instance, start), nowhere(count)
    steps = min(INSISTENCE * len(askers), MOST_STEPS)
    # Nothing that costs more is kept, so that where it ends is the best.
    shake(
        askers[chance.integers(0, len(askers), steps)],
        chance.random((steps, 3)),
        np.zeros(steps),
        INSISTING,
        options,
        board,
        0.0,
        best,
    )
    return Placing(board.cells, board.load)


def greedies(instance: Instance) -> list[Placing]:
    """Placings job by job: by arrival, deadline, size both ways, and slack, the highest priority first."""
    first, sized = instance.jobs.first[:-1], size(instance)
    low, high = instance.easy.low[first], instance.easy.high[first]
    keys = (low, high, sized, -sized, high - low)
    return [place_in_order(instance, np.lexsort((key, -instance.priority))) for key in keys]


def make_room(
    instance: Instance,
    start: Placing,
    *,
    chance: np.random.Generator,
    effort: Shaking,
    watch: Watch = NOBODY,
) -> Placing:
    """Places for jobs that have none where those in the way find others; for the highest priority as if it were alone."""
    best = start
    for level in np.unique(instance.priority)[::-1]:
        is_above = instance.priority >= level
        if not (is_above & (best.cells.choice < 0)).any():
            continue
        alone = _only(instance, best, is_above)
        found = _seat_missing(instance, alone, is_above, chance=chance, effort=effort, watch=watch)
        _return_others(instance, best, found)
        best = min(best, found, key=lambda one: worth(instance, one))
    order = np.lexsort((-size(instance), -instance.priority))
    improve(order, instance.market, instance.tables, instance.jobs, best.load, best.cells)
    return best


def _only(instance: Instance, placing: Placing, kept: NDArray[np.bool_]) -> Placing:
    """The placing of some of the jobs."""
    cells = _copied(placing.cells)
    cells.choice[~kept], cells.grams[~kept] = -1, INFINITE
    load = np.zeros_like(placing.load)
    admit(np.flatnonzero(kept), instance.market, instance.tables, instance.jobs, load, cells)
    return Placing(cells, load)


def _return_others(instance: Instance, before: Placing, placing: Placing) -> None:
    """Puts the jobs that have no place back to where they were, or where there is room."""
    cells = placing.cells
    order = np.lexsort((-size(instance), -instance.priority))
    order = order[cells.choice[order] < 0]
    for now, then in zip(cells, before.cells, strict=True):
        now[order] = then[order]
    admit(order, instance.market, instance.tables, instance.jobs, placing.load, cells)
    fill(instance, placing, order)


def _seat_missing(
    instance: Instance,
    start: Placing,
    asked: NDArray[np.bool_],
    *,
    chance: np.random.Generator,
    effort: Shaking,
    watch: Watch,
) -> Placing:
    board, count = board_of(instance, start), len(instance.requests)
    options, best, above_g = no_options(count), nowhere(count), 0.0
    allowance_g = start.grams / max(1, start.placed)
    left = effort.tries * int((asked & (start.cells.choice < 0)).sum())
    while left > 0 and not watch.is_over():
        missing = np.flatnonzero(asked & (board.cells.choice < 0))
        if not len(missing):
            break
        n = min(CHUNK, left)
        left -= n
        above_g = shake(
            missing[chance.integers(0, len(missing), n)],
            chance.random((n, 3)),
            allowance_g * chance.exponential(size=n),
            ROOM,
            options,
            board,
            above_g,
            best,
        )
    if above_g > 0.0:
        restore(board, best)
    return Placing(board.cells, board.load)


def anneal(
    instance: Instance,
    options: Options,
    start: Placing,
    *,
    chance: np.random.Generator,
    effort: Shaking,
    watch: Watch = NOBODY,
) -> Placing:
    """The best placing seen while the temperature falls."""
    board, count = board_of(instance, start), len(instance.requests)
    best, above_g = nowhere(count), 0.0
    mean_g = start.grams / max(1, start.placed)
    hot = effort.hot[0]
    for begin in range(0, effort.steps, CHUNK):
        n = min(CHUNK, effort.steps - begin)
        done = np.arange(begin, begin + n) / effort.steps
        heat_g = hot * (effort.cold / hot) ** done * mean_g
        picks = chance.integers(0, count, n)
        missing = np.flatnonzero(board.cells.choice < 0)
        if len(missing):
            picks[::2] = missing[chance.integers(0, len(missing), len(picks[::2]))]
        above_g = shake(
            picks,
            chance.random((n, 3)),
            heat_g * chance.exponential(size=n),
            MANNER,
            options,
            board,
            above_g,
            best,
        )
        if watch.is_over():
            break
    if above_g > 0.0:
        restore(board, best)
    return Placing(board.cells, board.load)


def _copied(cells: Cells) -> Cells:
    return Cells(cells.choice.copy(), cells.link.copy(), cells.slot.copy(), cells.grams.copy())
