"""Elastic jobs beside all others: on whole slots of the plan, each slot at one of their widths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from scheduler.core.planner.columns import build_times, money_weight, now_s
from scheduler.core.planner.elastic import (
    MOST_LABELS,
    Machine,
    Widths,
    bound_elastic,
    build_free_machine,
    build_machine,
    cheapest_widths,
)
from scheduler.core.planner.instance import build_market
from scheduler.core.planner.kernels import INFINITE, Floats, Ints, Market
from scheduler.core.planner.placements import Stretch
from scheduler.core.planner.snapshot import Choice, PlanRequest, PlanSnapshot
from scheduler.core.terms import Elastic
from scheduler.core.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Line:
    """One choice of one elastic job: its row, the slots `[begin, end)` that it may run in, and what it must do."""

    position: int
    choice: Choice
    row: int
    mask: int
    begin: int
    end: int
    margin_slots: int
    work: float
    machine: Machine


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Where a job is: its line, the index of its width in each slot of the horizon (-1: idle), its cost in grams."""

    line: Line
    widths: Ints
    cost: float


class ElasticPlaces:
    """The elastic jobs of a snapshot, by id, and where they are."""

    def __init__(
        self, snapshot: PlanSnapshot, requests: Sequence[PlanRequest], floors: Sequence[float]
    ) -> None:
        self.requests: Final = tuple(sorted(requests, key=lambda one: one.job_id))
        self._slot_s: Final = snapshot.forecast.grid.slot_s
        self._market: Final = build_market(snapshot, snapshot.forecast.grid, floors)
        self._shut: Final = np.diff(self._market.closed_sum, axis=2) > 0
        self._lines: Final = self._build_lines(snapshot, floors)
        self._chosen: Final[list[_Chosen | None]] = [None] * len(self.requests)

    def _build_lines(self, snapshot: PlanSnapshot, floors: Sequence[float]) -> list[list[Line]]:
        rows = {row: index for index, row in enumerate(snapshot.capacity.rows)}
        times, first_s = build_times(snapshot, self.requests), now_s(snapshot)
        n_slots, lines = snapshot.forecast.grid.n_slots, []
        for job, request in enumerate(self.requests):
            earliest_s, deadline_s, _ = times[job].tolist()
            lines.append(
                [
                    Line(
                        position=position,
                        choice=choice,
                        row=rows[choice.cluster.cluster_id, choice.accelerator],
                        mask=floors.index(request.limits.min_renewable_share or 0.0),
                        begin=-(-max(earliest_s, first_s + choice.move.seconds) // self._slot_s),
                        end=min(n_slots, deadline_s // self._slot_s),
                        margin_slots=-(-choice.margin_s // self._slot_s),
                        work=self._elastic(job).throughput(choice.gpus)
                        * (choice.duration_s / SECONDS_PER_HOUR),
                        machine=self._machine(request),
                    )
                    for position, choice in enumerate(request.choices)
                ]
            )
        return lines

    def _machine(self, request: PlanRequest) -> Machine:
        how = request.interruptible
        assert request.elastic is not None
        if how is not None:
            return build_machine(
                most_segments=how.max_interruptions + 1,
                shortest=max(1, -(-how.min_chunk_s // self._slot_s)),
                checkpoint_slots=how.checkpoint_cost_s / self._slot_s,
            )
        return build_free_machine() if request.elastic.may_idle else build_machine()

    def _elastic(self, job: int) -> Elastic:
        elastic = self.requests[job].elastic
        assert elastic is not None
        return elastic

    def bound(self, market: Market, prices: Floats) -> float:
        """What they pay at least at these prices, in grams; jobs that fit nowhere pay nothing."""
        total = 0.0
        for job, lines in enumerate(self._lines):
            least = INFINITE
            for line in lines:
                if line.begin < line.end:
                    widths = self._widths(market, prices, job, line, end=line.end)
                    extra = self._extra(job, line)
                    if line.choice.move.kwh:
                        arrival = market.arrival[line.row, line.begin : line.end]
                        extra += line.choice.move.kwh * float(arrival.min())
                    least = min(least, extra + bound_elastic(widths, line.machine, line.work))
            total += least if least < INFINITE else 0.0
        return total

    def respond(self, order: Ints, prices: Floats, stiffness: float, load: Floats) -> None:
        """Jobs move in turn, where overrun costs; the load is that of all."""
        for job in order.tolist():
            load -= self._load_of(job)
            self._chosen[job] = self._best(job, prices, load, stiffness=stiffness)
            load += self._load_of(job)

    def place(self, order: Ints, prices: Floats, others: Floats) -> None:
        """Gives the jobs in turn the cheapest widths with room, without their margins if need be."""
        for job in order.tolist():
            taken = others + self.load()
            for keeps_margin in (True, False):
                if self._chosen[job] is None:
                    self._chosen[job] = self._best(job, prices, taken, keeps_margin=keeps_margin)
            found = self._chosen[job]
            if found is not None:
                self._chosen[job] = self._weighed(job, found)

    def improve(self, order: Ints, others: Floats) -> int:
        """Moves jobs in turn to cheaper widths with room; returns how many moved."""
        moved = 0
        for job in order.tolist():
            had = self._chosen[job]
            if had is None:
                continue
            taken = others + self.load() - self._load_of(job)
            found = self._best(job, np.zeros_like(taken), taken)
            if found is not None and found.cost < had.cost * (1 - 1e-12):
                self._chosen[job], moved = found, moved + 1
        return moved

    def is_placed(self, job: int) -> bool:
        """Whether the job has a place."""
        return self._chosen[job] is not None

    def clear(self) -> None:
        """Sends every job nowhere."""
        self._chosen[:] = [None] * len(self._chosen)

    def cost(self) -> float:
        """Grams, and money in grams, of the jobs that have a place."""
        return sum(one.cost for one in self._chosen if one is not None)

    def load(self) -> Floats:
        """Devices that they take, (rows, slots)."""
        load = np.zeros_like(self._market.free)
        for job in range(len(self.requests)):
            load += self._load_of(job)
        return load

    def choice(self, job: int) -> Choice | None:
        """What the job runs on; None where it has no place."""
        found = self._chosen[job]
        return None if found is None else found.line.choice

    def stretches(self, job: int) -> list[Stretch]:
        """The segments of a job that has a place: slots in a row of one width."""
        found, made = self._chosen[job], list[Stretch]()
        assert found is not None
        for slot in np.flatnonzero(found.widths >= 0).tolist():
            width = self._elastic(job).widths[found.widths[slot]]
            start_s = slot * self._slot_s
            if made and made[-1][1] == start_s and made[-1][2] == width.gpus:
                start_s = made.pop()[0]
            made.append((start_s, (slot + 1) * self._slot_s, width.gpus, width.power_w))
        return made

    def _load_of(self, job: int) -> Floats:
        load, found = np.zeros_like(self._market.free), self._chosen[job]
        if found is not None:
            gpus = np.array([0, *(width.gpus for width in self._elastic(job).widths)], dtype=float)
            load[found.line.row] = gpus[found.widths + 1]
        return load

    def _extra(self, job: int, line: Line) -> float:
        return money_weight(self.requests[job]) * line.choice.move.price

    def _widths(self, market: Market, prices: Floats, job: int, line: Line, *, end: int) -> Widths:
        """Costs of the slots that the line may use, at prices, with room everywhere."""
        here = slice(line.begin, end)
        price = line.choice.cluster.price_per_gpu_hour or 0.0
        rate = money_weight(self.requests[job]) * price * self._slot_s / SECONDS_PER_HOUR
        listed = self._elastic(job).widths
        costs = np.array(
            [
                one.power_w * market.grams[line.row, here]
                + one.gpus * (prices[line.row, here] + rate)
                for one in listed
            ]
        )
        closed = np.tile(self._shut[line.mask, line.row, here], (len(listed), 1))
        work = np.array([one.throughput for one in listed]) * (self._slot_s / SECONDS_PER_HOUR)
        return Widths(costs, closed, work)

    def _best(
        self,
        job: int,
        prices: Floats,
        taken: Floats,
        *,
        stiffness: float | None = None,
        keeps_margin: bool = True,
    ) -> _Chosen | None:
        """The cheapest line and widths; within what is free where `stiffness` is None, else at a charge for overrun."""
        best: _Chosen | None = None
        gpus = np.array([one.gpus for one in self._elastic(job).widths])
        for line in self._lines[job]:
            end = line.end - (line.margin_slots if keeps_margin else 0)
            if line.begin >= end:
                continue
            widths = self._widths(self._market, prices, job, line, end=end)
            here = (line.row, slice(line.begin, end))
            if stiffness is None:
                over = taken[here] + gpus[:, None] - self._market.free[here]
                widths = widths._replace(closed=widths.closed | (over > 1e-9))
            else:
                over = np.maximum(0.0, taken[here] + gpus[:, None] - self._market.mean_free[here])
                before = np.maximum(0.0, over - gpus[:, None])
                costs = widths.costs + 0.5 * stiffness * (over**2 - before**2)
                widths = widths._replace(costs=costs)
            found = self._search(job, line, widths, None if best is None else best.cost)
            best = found or best
        return best

    def _search(self, job: int, line: Line, widths: Widths, below: float | None) -> _Chosen | None:
        """The cheapest widths of a line, if they cost less than `below` and keep the job's limits."""
        extra = self._extra(job, line)
        if below is not None:
            least = extra + bound_elastic(widths, line.machine, line.work)
            if least >= below:
                return None
        chosen = np.empty(widths.costs.shape[1], dtype=np.int64)
        cost, _ = cheapest_widths(widths, line.machine, line.work, MOST_LABELS, chosen)
        if cost >= INFINITE:
            return None
        everywhere = np.full(self._market.grams.shape[1], -1, dtype=np.int64)
        everywhere[line.begin : line.begin + len(chosen)] = chosen
        first = int(np.flatnonzero(everywhere >= 0)[0])
        cost += extra + line.choice.move.kwh * float(self._market.arrival[line.row, first])
        found = _Chosen(line, everywhere, cost)
        is_better = below is None or cost < below * (1 - 1e-12)
        return found if is_better and self._keeps_limits(job, found) else None

    def _keeps_limits(self, job: int, found: _Chosen) -> bool:
        limits = self.requests[job].limits
        if limits.max_carbon_g is None and limits.max_cost is None:
            return True
        listed = self._elastic(job).widths
        slots = np.flatnonzero(found.widths >= 0)
        index = found.widths[slots]
        watts = np.array([one.power_w for one in listed])[index]
        gpus = np.array([one.gpus for one in listed])[index]
        row, move = found.line.row, found.line.choice.move
        grams = float((watts * self._market.grams[row, slots]).sum())
        grams += move.kwh * float(self._market.arrival[row, slots[0]])
        cost = found.line.choice.cost(float(gpus.sum()) * self._slot_s)
        is_affordable = limits.max_cost is None or (cost is not None and cost <= limits.max_cost)
        return is_affordable and (limits.max_carbon_g is None or grams <= limits.max_carbon_g)

    def _weighed(self, job: int, found: _Chosen) -> _Chosen:
        """The same at its cost without prices, which guided the placing."""
        free_of_charge = np.zeros_like(self._market.free)
        line, end = found.line, len(found.widths)
        widths = self._widths(self._market, free_of_charge, job, line, end=end)
        slots = np.flatnonzero(found.widths >= 0)
        cost = float(widths.costs[found.widths[slots], slots - line.begin].sum())
        cost += self._extra(job, line)
        cost += line.choice.move.kwh * float(self._market.arrival[line.row, slots[0]])
        return _Chosen(line, found.widths, cost)
