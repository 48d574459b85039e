"""What shaking works on: see `shaking_kernels`."""

from typing import NamedTuple

from scheduler.core.planner.arrays import Cells, Floats, Ints, Jobs, Market, Tables


class Options(NamedTuple):
    """Cells worth forcing a job into, the most promising first.

    Args:
        first: (jobs + 1,), those of job j are `first[j]` to `first[j + 1]`.
        choice, link, slot: (cells,).
        grams: (cells,), at the scale of the job.
        by_grams: (cells,), the same cells of each job, the cheapest first.
    """

    first: Ints
    choice: Ints
    link: Ints
    slot: Ints
    grams: Floats
    by_grams: Ints


class Manner(NamedTuple):
    """How steps are made.

    Args:
        depth: how many of those sent away may send others away.
        turn: share of those sent away that try a promising cell rather than a free one.
        ruin: share of steps that send more jobs away than are in the way.
        share: most of the jobs nearby that those send away.
        priced: share of steps in which jobs look for promising cells rather than cheap ones.
    """

    depth: int
    turn: float
    ruin: float
    share: float
    priced: float


class Board(NamedTuple):
    """What is placed where, and room to note what a step changes.

    Args:
        market, tables: what there is.
        jobs, easy: windows with margins, and without.
        rank: (jobs,), 0 for the highest priority.
        late_g: what it costs that a margin is not kept: more than all grams.
        load, cells: what is taken, and where each job is.
        head: (rows,), some job on each row, or -1.
        after, before: (jobs,), the next and the last job on the same row, or -1.
        noted: (jobs,), jobs that the step has touched, in order.
        old: (jobs,), where those were, in the same order.
        held_of: (jobs,), the last step that forced a job into a cell, where it stays to the end of the step.
        waiting: (jobs,), jobs that look for a place.
        missing: (ranks,), by how many more jobs have no place than before the step.
        over: (slots + 1,), room for sums.
    """

    market: Market
    tables: Tables
    jobs: Jobs
    easy: Jobs
    rank: Ints
    late_g: float
    load: Floats
    cells: Cells
    head: Ints
    after: Ints
    before: Ints
    noted: Ints
    old: Cells
    held_of: Ints
    waiting: Ints
    missing: Ints
    over: Floats
