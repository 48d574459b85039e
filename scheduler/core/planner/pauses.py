"""Cheapest runs with pauses at real-valued times in one place, and bounds on what they cost.

A job cut into k segments runs for duration + (k - 1) x checkpoint_cost in all; segments are at least min_chunk long and at
least a slot apart, and the price of running is a step function, constant within each slot.

The constraints that hold with equality at an optimum join neighbouring boundaries, and the sum of the lengths fixes at most
one of the groups so joined. So some optimum has all boundaries on multiples of the greatest common divisor of slot,
min_chunk, checkpoint_cost, duration, earliest start and deadline, and a search of that grid is exact over all real times.

All times are whole seconds from the origin of the grid; costs are 0 or more and of any one unit, such as grams.
"""

from dataclasses import dataclass, replace
from functools import cache
from math import gcd
from typing import Final

import numpy as np

from scheduler.core.planner.arrays import INFINITE, Floats, Ints
from scheduler.core.planner.boundaries import least_fraction, polish
from scheduler.core.planner.segments import (
    SAME,
    Flags,
    cheapest_segments,
    least_segments,
    row_width,
    scratch_size,
)

_Times = tuple[Ints, Ints]

EXACT_CELLS: Final = 3_000_000
"""Cells of the search (positions x run units x segments) that an answer may take: some 10 ms and 50 to 100 MB."""
BOUND_CELLS: Final = 1_000_000
"""Cells that a bound may take: some 0.3 ms."""


@dataclass(frozen=True, slots=True)
class PriceRow:
    """What running costs in one place.

    Args:
        costs: (slots,), of running over the whole slot, 0 or more and finite, also where closed.
        closed: (slots,), no run may touch these.
        slot_s: length of a slot.
    """

    costs: Floats
    closed: Flags
    slot_s: int

    @property
    def horizon_s(self) -> int:
        """End of the last slot."""
        return len(self.costs) * self.slot_s

    def cost_of(self, start_s: Ints, stop_s: Ints) -> float:
        """Cost of running in all of these segments, (segments,) each."""
        return float(self.costs_of(start_s, stop_s).sum())

    def costs_of(self, start_s: Ints, stop_s: Ints) -> Floats:
        """Cost of running over each `[start_s, stop_s)`, (segments,) each."""
        sums = np.concatenate(([0.0], np.cumsum(self.costs)))
        ends = np.concatenate((self.costs, [0.0]))
        slot, into = np.divmod(np.stack((start_s, stop_s)), self.slot_s)
        until = sums[slot] + ends[slot] * into / self.slot_s
        costs: Floats = until[1] - until[0]
        return costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a job asks for: `duration_s` above 0 within `[earliest_s, deadline_s)`, in up to `max_interruptions` + 1 segments."""

    duration_s: int
    earliest_s: int
    deadline_s: int
    min_chunk_s: int = 0
    checkpoint_cost_s: int = 0
    max_interruptions: int = 0

    @property
    def chunk_s(self) -> int:
        """Least length of a segment; a job shorter than `min_chunk_s` has one segment."""
        return max(1, min(self.min_chunk_s, self.duration_s))

    @property
    def limits_s(self) -> tuple[int, int, int]:
        """Window and least length of a segment."""
        return self.earliest_s, self.deadline_s, self.chunk_s

    def within(self, horizon_s: int) -> "Run":
        """The same where prices are known."""
        return replace(
            self, earliest_s=max(0, self.earliest_s), deadline_s=min(horizon_s, self.deadline_s)
        )

    def lengths_s(self, slot_s: int) -> Ints:
        """Run time in 1, 2, … segments, as many as fit into job and window; none where the job does not fit."""
        room_s, lengths = self.deadline_s - self.earliest_s, []
        most = 0 if self.duration_s < self.min_chunk_s else self.max_interruptions
        for k in range(most + 1):
            length_s = self.duration_s + k * self.checkpoint_cost_s
            if length_s < (k + 1) * self.chunk_s or length_s + k * slot_s > room_s:
                break
            lengths.append(length_s)
        return np.array(lengths, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Segments:
    """When a job runs: segment i is `[start_s[i], stop_s[i])`. `is_exact`: no real-valued times cost less."""

    cost: float
    start_s: tuple[int, ...]
    stop_s: tuple[int, ...]
    is_exact: bool


def exact_segments(row: PriceRow, run: Run, *, most_cells: int = EXACT_CELLS) -> Segments | None:
    """The cheapest segments over all real-valued times, or None where the run is not possible.

    Where the exact grid has more than `most_cells` cells, the answer is the best of a coarser one with its boundaries
    moved to where that is cheaper, and `is_exact` is False. Lengths always add up to the second, and no answer costs
    more than the cheapest run in one piece.
    """
    run = run.within(row.horizon_s)
    lengths_s = run.lengths_s(row.slot_s)
    whole = _in_one_piece(row, run)
    times = [] if whole is None else [whole]
    is_exact = True
    if len(lengths_s) > 1:
        unit_s = _exact_unit(row, run)
        is_exact = _cells(row, run, lengths_s, unit_s) <= most_cells
        if not is_exact:
            unit_s = _coarse_unit(row, run, lengths_s, most_cells)
        pieces = _search(row, run, lengths_s, unit_s)
        times += [] if pieces is None else [pieces]
        if not is_exact:
            for start_s, stop_s in times:
                polish(row.costs, row.closed, row.slot_s, run.limits_s, start_s, stop_s)
    best = None
    for start_s, stop_s in times:
        cost = row.cost_of(start_s, stop_s)
        if best is None or cost < best.cost * (1.0 - SAME):
            best = Segments(cost, tuple(start_s.tolist()), tuple(stop_s.tolist()), is_exact)
    return best


def bound_segments(
    row: PriceRow, run: Run, *, below: float = INFINITE, most_cells: int = BOUND_CELLS
) -> float:
    """A cost that no real-valued schedule of the run is under; `INFINITE` where there is none.

    Args:
        row: prices.
        run: what is asked.
        below: stop once the bound is proven to reach this, as for a row that cannot win.
        most_cells: of the search. The bound is the optimum if the exact grid has no more; else that of a coarser grid
            on which lengths are rounded down and the window outward.
    """
    run = run.within(row.horizon_s)
    lengths_s = run.lengths_s(row.slot_s)
    if not len(lengths_s):
        return INFINITE
    quick = least_fraction(row.costs, row.closed, row.slot_s, run.limits_s, run.duration_s)
    if quick >= min(below, INFINITE):
        return quick
    unit_s = _exact_unit(row, run)
    if _cells(row, run, lengths_s, unit_s) > most_cells:
        unit_s = _coarse_unit(row, run, lengths_s, most_cells)
    need, left_s = np.divmod(lengths_s, unit_s)
    if need[0] == 0:
        return quick
    costs, closed = _units(row, unit_s, run.earliest_s // unit_s, -(-run.deadline_s // unit_s))
    shortest, gap = max(1, run.chunk_s // unit_s), row.slot_s // unit_s
    scratch = np.zeros(2 * (max(shortest, gap) + 1) * row_width(need, shortest))
    least = least_segments(
        costs, closed, need, np.zeros(len(need)), shortest, float(shortest), gap, scratch
    )
    if least >= INFINITE:
        return INFINITE
    # What was rounded off the lengths costs something too: no less than in the cheapest unit.
    least += left_s.min() / unit_s * costs[~closed].min()
    return max(quick, float(least) * (1.0 - SAME))


def _exact_unit(row: PriceRow, run: Run) -> int:
    return gcd(
        row.slot_s,
        run.duration_s,
        run.chunk_s,
        run.checkpoint_cost_s,
        run.earliest_s,
        run.deadline_s,
    )


@cache
def _divisors(slot_s: int) -> tuple[int, ...]:
    return tuple(unit_s for unit_s in range(1, slot_s + 1) if slot_s % unit_s == 0)


def _cells(row: PriceRow, run: Run, lengths_s: Ints, unit_s: int) -> int:
    longest_s = int(lengths_s.max()) + run.chunk_s
    return (run.deadline_s - run.earliest_s) // unit_s * len(lengths_s) * (longest_s // unit_s + 1)


def _coarse_unit(row: PriceRow, run: Run, lengths_s: Ints, most_cells: int) -> int:
    """The shortest part of a slot that keeps the search small enough; the slot where none does."""
    for unit_s in _divisors(row.slot_s):
        if _cells(row, run, lengths_s, unit_s) <= most_cells:
            return unit_s
    return row.slot_s


def _units(row: PriceRow, unit_s: int, first: int, stop: int) -> tuple[Floats, Flags]:
    """Cost and closedness of the units `[first, stop)`, both shape (units,)."""
    slot = np.arange(first, stop) * unit_s // row.slot_s
    return row.costs[slot] * (unit_s / row.slot_s), row.closed[slot]


def _search(row: PriceRow, run: Run, lengths_s: Ints, unit_s: int) -> _Times | None:
    """The cheapest segments on the grid, lengths rounded up and the window inward, then trimmed to length."""
    first = -(-run.earliest_s // unit_s)
    costs, closed = _units(row, unit_s, first, max(first, run.deadline_s // unit_s))
    need = -(-lengths_s // unit_s)
    surplus_s = need * unit_s - lengths_s
    surplus = surplus_s / unit_s
    shortest = -(-run.chunk_s // unit_s)
    starts, stops = np.zeros((2, len(need)), dtype=np.int64)
    _, count, trimmed, end = cheapest_segments(
        costs,
        closed,
        need,
        surplus,
        shortest,
        run.chunk_s / unit_s,
        row.slot_s // unit_s,
        np.zeros(scratch_size(len(costs), need, surplus, shortest)),
        starts,
        stops,
    )
    if not count:
        return None
    start_s, stop_s = (first + starts[:count]) * unit_s, (first + stops[:count]) * unit_s
    if trimmed >= 0:
        (start_s, stop_s)[end][trimmed] += (1 - 2 * end) * surplus_s[count - 1]
    return start_s, stop_s


def _in_one_piece(row: PriceRow, run: Run) -> _Times | None:
    """The cheapest run without a pause, the earliest of equal ones: it starts or ends on a border, or at a limit."""
    borders_s = np.arange(len(row.costs) + 1) * row.slot_s
    last_s = run.deadline_s - run.duration_s
    starts_s = np.unique(
        np.concatenate((borders_s, borders_s - run.duration_s, [run.earliest_s, last_s]))
    )
    starts_s = starts_s[(starts_s >= run.earliest_s) & (starts_s <= last_s)]
    shut = np.concatenate(([0], np.cumsum(row.closed)))
    touched = shut[-(-(starts_s + run.duration_s) // row.slot_s)] - shut[starts_s // row.slot_s]
    starts_s = starts_s[touched == 0]
    if not len(starts_s):
        return None
    costs = row.costs_of(starts_s, starts_s + run.duration_s)
    best = int((costs <= costs.min() * (1.0 + SAME)).argmax())
    return starts_s[best : best + 1], starts_s[best : best + 1] + run.duration_s
