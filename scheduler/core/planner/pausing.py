"""Jobs with pauses beside those that run whole: how they answer to prices, where they lie, what they prove."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from scheduler.core.planner.arrays import INFINITE, Floats, Ints, Market
from scheduler.core.planner.columns import build_times, has_price, money_weight, now_s
from scheduler.core.planner.found import Found
from scheduler.core.planner.instance import build_market
from scheduler.core.planner.pauses import PriceRow, Run, bound_segments
from scheduler.core.planner.pausing_kernels import Pausing, Pieces, respond
from scheduler.core.planner.placements import Stretch
from scheduler.core.planner.segments import scratch_size
from scheduler.core.planner.snapshot import Choice, PlanRequest, PlanSnapshot
from scheduler.core.timegrid import SlotGrid
from scheduler.core.units import SECONDS_PER_HOUR

_MOST_CELLS: Final = 4_000_000
"""Cells (units x run units x segments) of one search: some 100 MB and 10 ms."""
_ALL_CELLS: Final = 2_000_000_000
"""Cells of one pass over all jobs: some seconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """One choice of one job with pauses."""

    job: int
    position: int
    choice: Choice
    row: int
    mask: int
    run: Run
    margin_s: int
    weight: float


class PausingJobs:
    """The jobs of a snapshot that may pause, by id."""

    def __init__(
        self, snapshot: PlanSnapshot, requests: Sequence[PlanRequest], floors: Sequence[float]
    ) -> None:
        self._snapshot: Final = snapshot
        self.requests: Final = tuple(sorted(requests, key=lambda one: one.job_id))
        self.floors: Final = tuple(floors)
        self.lines: Final = self._lines()
        self.limit: Final = np.array(
            [
                INFINITE if one.limits.max_carbon_g is None else one.limits.max_carbon_g
                for one in self.requests
            ]
        )

    def _lines(self) -> list[Line]:
        rows = {row: index for index, row in enumerate(self._snapshot.capacity.rows)}
        times, first_s = build_times(self._snapshot, self.requests), now_s(self._snapshot)
        lines = []
        for job, request in enumerate(self.requests):
            how = request.interruptible
            assert how is not None
            earliest_s, deadline_s, _ = times[job].tolist()
            for position, choice in enumerate(request.choices):
                if not has_price(request, choice):
                    continue
                run = Run(
                    duration_s=choice.duration_s,
                    earliest_s=max(earliest_s, first_s + choice.move.seconds),
                    deadline_s=deadline_s,
                    min_chunk_s=how.min_chunk_s,
                    checkpoint_cost_s=how.checkpoint_cost_s,
                    max_interruptions=how.max_interruptions,
                )
                lines.append(
                    Line(
                        job=job,
                        position=position,
                        choice=choice,
                        row=rows[choice.cluster.cluster_id, choice.accelerator],
                        mask=self.floors.index(request.limits.min_renewable_share or 0.0),
                        run=run,
                        margin_s=choice.margin_s,
                        weight=money_weight(request),
                    )
                )
        return lines

    def unit_s(self, slot_s: int) -> int:
        """The length of units for firm places: all lengths and times are multiples of it, if that can be afforded."""
        runs = [line.run for line in self.lines]
        values = [
            value
            for run in runs
            for value in (
                run.duration_s,
                run.earliest_s,
                run.deadline_s,
                run.min_chunk_s,
                run.checkpoint_cost_s,
            )
        ]
        exact_s = int(np.gcd.reduce([slot_s, *values]))
        for unit_s in range(max(exact_s, 60), slot_s):
            cells = [self._cells(run, unit_s) for run in runs]
            if slot_s % unit_s == 0 and max(cells) <= _MOST_CELLS and sum(cells) <= _ALL_CELLS:
                return unit_s
        return slot_s

    @staticmethod
    def _cells(run: Run, unit_s: int) -> int:
        span = max(0, run.deadline_s - run.earliest_s) // unit_s
        longest = run.duration_s + run.chunk_s + run.max_interruptions * run.checkpoint_cost_s
        return span * (longest // unit_s + 1) * (run.max_interruptions + 1)

    def bound(self, market: Market, prices: Floats) -> float:
        """What they pay at least at these prices, in grams; jobs that fit nowhere pay nothing."""
        least = np.full(len(self.requests), INFINITE)
        slot_s = self._snapshot.forecast.grid.slot_s
        shut = np.diff(market.closed_sum, axis=2) > 0
        anywhere: dict[int, tuple[Run, PriceRow]] = {}
        for line in self.lines:
            choice, r = line.choice, line.row
            begin, end = (
                max(0, line.run.earliest_s // slot_s),
                min(market.grams.shape[1], -(-line.run.deadline_s // slot_s)),
            )
            if begin >= end:
                continue
            costs = (
                choice.power_w * market.grams[r]
                + choice.gpus * prices[r]
                + self._rate(line, slot_s)
            )
            more = line.weight * choice.move.price
            if choice.move.kwh:
                more += choice.move.kwh * float(market.arrival[r, begin:end].min())
            row = PriceRow(costs, shut[line.mask, r], slot_s)
            value = more + bound_segments(row, line.run, below=least[line.job] - more)
            least[line.job] = min(least[line.job], value)
            if self._is_movable(line.job):
                anywhere[line.job] = _merged(anywhere.get(line.job), line.run, row)
        for job, (run, row) in anywhere.items():
            least[job] = min(least[job], bound_segments(row, run, below=least[job]))
        return float(least[least < INFINITE].sum())

    def _is_movable(self, job: int) -> bool:
        how = self.requests[job].interruptible
        return how is not None and how.is_movable

    @staticmethod
    def _rate(line: Line, unit_s: int) -> float:
        """Money of a unit, in the grams that it is worth."""
        price = line.choice.cluster.price_per_gpu_hour
        return line.weight * (price or 0.0) * line.choice.gpus * unit_s / SECONDS_PER_HOUR

    def columns(self, grid: SlotGrid, *, keeps_margins: bool) -> Pausing:
        """The columns of the jobs on these units; windows are rounded inward."""
        unit_s, slot_s = grid.slot_s, self._snapshot.pause_slot_s
        lines = self.lines
        width = max((line.run.max_interruptions + 1 for line in lines), default=1)
        need = np.ones((len(lines), width), dtype=np.int64)
        surplus = np.zeros((len(lines), width))
        most = np.zeros(len(lines), dtype=np.int64)
        begin, end = most.copy(), most.copy()
        for index, line in enumerate(lines):
            run = line.run
            begin[index] = max(0, -(-run.earliest_s // unit_s))
            until_s = run.deadline_s - (line.margin_s if keeps_margins else 0)
            end[index] = max(begin[index], min(grid.n_slots, until_s // unit_s))
            lengths_s = run.lengths_s(slot_s)
            lengths_s = lengths_s[[self._is_affordable(line, int(one)) for one in lengths_s]]
            units = -(-lengths_s // unit_s)
            fits = units <= end[index] - begin[index]
            most[index] = int(np.argmin([*fits, False]))
            need[index, : len(units)] = units
            surplus[index, : len(units)] = (units * unit_s - lengths_s) / unit_s
        chunk_s = np.array([line.run.chunk_s for line in lines], dtype=np.int64)
        return Pausing(
            first=np.searchsorted([line.job for line in lines], np.arange(len(self.requests) + 1)),
            row=np.array([line.row for line in lines], dtype=np.int64),
            mask=np.array([line.mask for line in lines], dtype=np.int64),
            watts=np.array([line.choice.power_w for line in lines], dtype=np.float64),
            gpus=np.array([line.choice.gpus for line in lines], dtype=np.float64),
            rate=np.array([self._rate(line, unit_s) for line in lines], dtype=np.float64),
            extra=np.array(
                [line.weight * line.choice.move.price for line in lines], dtype=np.float64
            ),
            moved=np.array([line.choice.move.kwh for line in lines], dtype=np.float64),
            begin=begin,
            end=end,
            most=most,
            need=need,
            surplus=surplus,
            shortest=-(-chunk_s // unit_s),
            chunk=chunk_s / unit_s,
            gap=np.full(len(lines), -(-slot_s // unit_s), dtype=np.int64),
            limit=self.limit,
        )

    def _is_affordable(self, line: Line, length_s: int) -> bool:
        most = self.requests[line.job].limits.max_cost
        if most is None:
            return True
        cost = line.choice.cost(line.choice.gpus * length_s)
        return cost is not None and cost <= most


def _merged(had: tuple[Run, PriceRow] | None, run: Run, row: PriceRow) -> tuple[Run, PriceRow]:
    """A place that is at every instant as cheap as the cheapest of both, and a run that asks for no more than either."""
    if had is None:
        return run, row
    other, there = had
    costs = np.minimum(
        np.where(row.closed, np.inf, row.costs), np.where(there.closed, np.inf, there.costs)
    )
    is_closed = row.closed & there.closed
    both = PriceRow(np.where(is_closed, 0.0, costs), is_closed, row.slot_s)
    least = replace(
        run,
        duration_s=min(run.duration_s, other.duration_s),
        earliest_s=min(run.earliest_s, other.earliest_s),
        deadline_s=max(run.deadline_s, other.deadline_s),
    )
    return least, both


class PausingSearch:
    """Finds pieces for the jobs with pauses, on units of one length.

    Args:
        jobs: which.
        snapshot: what there is.
        grid: units.
    """

    def __init__(self, jobs: PausingJobs, snapshot: PlanSnapshot, grid: SlotGrid) -> None:
        self.jobs: Final = jobs
        self.grid: Final = grid
        self.market: Final = build_market(snapshot, grid, jobs.floors)
        self._strict: Final = jobs.columns(grid, keeps_margins=True)
        self._easy: Final = jobs.columns(grid, keeps_margins=False)
        self._scratch: Final = np.zeros(_scratch(self._strict, self._easy))

    def answer(self, prices: Floats) -> tuple[Floats, float]:
        """Their load when each takes what is cheapest at these prices, whatever the others take; and what they pay."""
        count = len(self.jobs.requests)
        pieces, load = nowhere(count, self._strict.need.shape[1]), np.zeros_like(prices)
        self._respond(np.arange(count), self._strict, prices, load, pieces, is_firm=False)
        return load, float(pieces.cost[pieces.line >= 0].sum())

    def find(self, job: int, load: Floats) -> Found | None:
        """The cheapest pieces that have room beside this load, without the margin if need be."""
        for columns in (self._strict, self._easy):
            pieces = nowhere(len(self.jobs.requests), columns.need.shape[1])
            free_of_charge = np.zeros_like(load)
            self._respond(
                np.array([job]), columns, free_of_charge, load.copy(), pieces, is_firm=True
            )
            if pieces.line[job] >= 0:
                line = self.jobs.lines[pieces.line[job]]
                stretches = self._stretches(line, pieces, job)
                return Found(line.choice, line.row, stretches, float(pieces.cost[job]))
        return None

    def _respond(  # noqa: PLR0917 - what the kernel takes
        self,
        order: Ints,
        columns: Pausing,
        prices: Floats,
        load: Floats,
        pieces: Pieces,
        *,
        is_firm: bool,
    ) -> None:
        respond(order, self.market, columns, prices, is_firm, load, pieces, self._scratch)

    def _stretches(self, line: Line, pieces: Pieces, job: int) -> tuple[Stretch, ...]:
        """The segments of a job in seconds."""
        unit_s, number = self.grid.slot_s, int(pieces.number[job])
        starts = (pieces.start[job, :number] * unit_s).tolist()
        stops = (pieces.stop[job, :number] * unit_s).tolist()
        if pieces.piece[job] >= 0:
            length_s = line.run.duration_s + (number - 1) * line.run.checkpoint_cost_s
            surplus_s = sum(stops) - sum(starts) - length_s
            if pieces.side[job] == 0:
                starts[pieces.piece[job]] += surplus_s
            else:
                stops[pieces.piece[job]] -= surplus_s
        choice = line.choice
        return tuple(
            (start, stop, choice.gpus, choice.power_w)
            for start, stop in zip(starts, stops, strict=True)
        )


def nowhere(jobs: int, most: int) -> Pieces:
    """Pieces of jobs that have no place."""
    return Pieces(
        line=np.full(jobs, -1),
        number=np.zeros(jobs, dtype=np.int64),
        piece=np.full(jobs, -1),
        side=np.zeros(jobs, dtype=np.int64),
        cost=np.full(jobs, INFINITE),
        start=np.zeros((jobs, most), dtype=np.int64),
        stop=np.zeros((jobs, most), dtype=np.int64),
    )


def _scratch(*columns: Pausing) -> int:
    """Floats that the largest search needs."""
    size = 1
    for one in columns:
        for index in np.flatnonzero(one.most > 0).tolist():
            most = int(one.most[index])
            size = max(
                size,
                int(
                    scratch_size(
                        int(one.end[index] - one.begin[index]),
                        one.need[index, :most],
                        one.surplus[index, :most],
                        int(one.shortest[index]),
                    )
                ),
            )
    return size
