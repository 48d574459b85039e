"""Elastic jobs beside all others: on whole slots of the plan, each slot at one of their widths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from scheduler.core.planner.arrays import INFINITE, Floats, Ints
from scheduler.core.planner.columns import build_times, has_price, money_weight, now_s
from scheduler.core.planner.elastic import (
    MOST_LABELS,
    Machine,
    Widths,
    bound_elastic,
    build_free_machine,
    build_machine,
    cheapest_widths,
)
from scheduler.core.planner.found import Found
from scheduler.core.planner.instance import build_market, coarser
from scheduler.core.planner.pauses import PriceRow, Run, bound_segments
from scheduler.core.planner.placements import Stretch
from scheduler.core.planner.snapshot import Choice, PlanRequest, PlanSnapshot
from scheduler.core.terms import Elastic
from scheduler.core.units import SECONDS_PER_HOUR

_EXACT_UP_TO: Final = 100
"""Elastic jobs up to which their bound is their proven optimum."""


@dataclass(frozen=True, slots=True)
class Line:
    """One choice of one elastic job: its row, the slots `[begin, end)` that it may run in, and what it must do."""

    position: int
    choice: Choice
    row: int
    mask: int
    earliest_s: int
    deadline_s: int
    begin: int
    end: int
    margin_slots: int
    work: float
    machine: Machine


class ElasticSearch:
    """The elastic jobs of a snapshot, by id, and searches for their widths."""

    def __init__(
        self, snapshot: PlanSnapshot, requests: Sequence[PlanRequest], floors: Sequence[float]
    ) -> None:
        self.requests: Final = tuple(sorted(requests, key=lambda one: one.job_id))
        grid = snapshot.forecast.grid
        self._slot_s: Final = snapshot.pause_slot_s
        self._parts: Final = self._slot_s // grid.slot_s
        self._fine: Final = build_market(snapshot, grid, floors)
        self._market: Final = coarser(self._fine, self._parts)
        self._shut: Final = np.diff(self._market.closed_sum, axis=2) > 0
        self._fine_shut: Final = np.diff(self._fine.closed_sum, axis=2) > 0
        self._lines: Final = self._build_lines(snapshot, floors)

    def _build_lines(self, snapshot: PlanSnapshot, floors: Sequence[float]) -> list[list[Line]]:
        rows = {row: index for index, row in enumerate(snapshot.capacity.rows)}
        times, first_s = build_times(snapshot, self.requests), now_s(snapshot)
        n_slots, lines = self._market.grams.shape[1], []
        for job, request in enumerate(self.requests):
            earliest_s, deadline_s, _ = times[job].tolist()
            lines.append(
                [
                    Line(
                        position=position,
                        choice=choice,
                        row=rows[choice.cluster.cluster_id, choice.accelerator],
                        mask=floors.index(request.limits.min_renewable_share or 0.0),
                        earliest_s=max(earliest_s, first_s + choice.move.seconds),
                        deadline_s=deadline_s,
                        begin=-(-max(earliest_s, first_s + choice.move.seconds) // self._slot_s),
                        end=min(n_slots, deadline_s // self._slot_s),
                        margin_slots=-(-choice.margin_s // self._slot_s),
                        work=self._elastic(job).throughput(choice.gpus)
                        * (choice.duration_s / SECONDS_PER_HOUR),
                        machine=self._machine(request),
                    )
                    for position, choice in enumerate(request.choices)
                    if has_price(request, choice)
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

    def bound(self, prices: Floats) -> float:
        """What they pay at least at these prices, in grams; jobs that fit nowhere pay nothing."""
        total, by_slot = 0.0, self._by_slot(prices)
        for job, lines in enumerate(self._lines):
            least = INFINITE
            for line in lines:
                if line.begin < line.end:
                    widths = self._widths(by_slot, job, line, end=line.end)
                    extra = self._extra(job, line)
                    if line.choice.move.kwh:
                        arrival = self._market.arrival[line.row, line.begin : line.end]
                        extra += line.choice.move.kwh * float(arrival.min())
                    least = min(least, extra + self._least(widths, line))
                least = min(least, self._extra(job, line) + self._whole(prices, job, line))
            total += least if least < INFINITE else 0.0
        return total

    def _whole(self, prices: Floats, job: int, line: Line) -> float:
        """The cost of the job at the width of its duration throughout: it may then begin anywhere."""
        choice, price = line.choice, line.choice.cluster.price_per_gpu_hour or 0.0
        slot_s = self._slot_s // self._parts
        rate = money_weight(self.requests[job]) * price * slot_s / SECONDS_PER_HOUR
        costs = choice.power_w * self._fine.grams[line.row] + choice.gpus * (
            prices[line.row] + rate
        )
        row = PriceRow(costs, self._fine_shut[line.mask, line.row], slot_s)
        run = Run(
            duration_s=choice.duration_s, earliest_s=line.earliest_s, deadline_s=line.deadline_s
        )
        return bound_segments(row, run)

    def _least(self, widths: Widths, line: Line) -> float:
        """A cost that no widths are under: the optimum, where there are few jobs and it can be proven."""
        least = bound_elastic(widths, line.machine, line.work)
        if least >= INFINITE or len(self.requests) > _EXACT_UP_TO:
            return least
        chosen = np.empty(widths.costs.shape[1], dtype=np.int64)
        cost, is_proven = cheapest_widths(widths, line.machine, line.work, MOST_LABELS, chosen)
        return max(least, cost * (1 - 1e-12)) if is_proven else least

    def answer(self, prices: Floats) -> tuple[Floats, float]:
        """Their load when each takes what is cheapest at these prices, whatever the others take; and what they pay."""
        load, paid, by_slot = np.zeros_like(self._market.free), 0.0, self._by_slot(prices)
        for job in range(len(self.requests)):
            found = self._best(job, by_slot, None)
            if found is not None:
                paid += found.cost
                for start_s, stop_s, gpus, _ in found.stretches:
                    load[found.row, start_s // self._slot_s : stop_s // self._slot_s] += gpus
        return np.repeat(load, self._parts, axis=1), paid

    def _by_slot(self, prices: Floats) -> Floats:
        """Prices of whole slots, from those of their parts."""
        sums: Floats = prices.reshape(len(prices), -1, self._parts).sum(axis=2)
        return sums

    def find(self, job: int, load: Floats) -> Found | None:
        """The cheapest widths that have room beside this load, without the margin if need be."""
        free_of_charge = np.zeros_like(load)
        return self._best(job, free_of_charge, load) or self._best(
            job, free_of_charge, load, keeps_margin=False
        )

    def _extra(self, job: int, line: Line) -> float:
        return money_weight(self.requests[job]) * line.choice.move.price

    def _widths(self, prices: Floats, job: int, line: Line, *, end: int) -> Widths:
        """Costs of the slots that the line may use, at prices, with room everywhere."""
        here = slice(line.begin, end)
        price = line.choice.cluster.price_per_gpu_hour or 0.0
        rate = money_weight(self.requests[job]) * price * self._slot_s / SECONDS_PER_HOUR
        listed = self._elastic(job).widths
        costs = np.array(
            [
                one.power_w * self._market.grams[line.row, here]
                + one.gpus * (prices[line.row, here] + rate)
                for one in listed
            ]
        )
        closed = np.tile(self._shut[line.mask, line.row, here], (len(listed), 1))
        work = np.array([one.throughput for one in listed]) * (self._slot_s / SECONDS_PER_HOUR)
        return Widths(costs, closed, work)

    def _best(
        self, job: int, prices: Floats, taken: Floats | None, *, keeps_margin: bool = True
    ) -> Found | None:
        """The cheapest line and widths at these prices, within what is left beside `taken`, if that is given."""
        best: Found | None = None
        gpus = np.array([one.gpus for one in self._elastic(job).widths])
        for line in self._lines[job]:
            end = line.end - (line.margin_slots if keeps_margin else 0)
            if line.begin >= end:
                continue
            widths = self._widths(prices, job, line, end=end)
            if taken is not None:
                here = (line.row, slice(line.begin, end))
                over = taken[here] + gpus[:, None] - self._market.free[here]
                widths = widths._replace(closed=widths.closed | (over > 1e-9))
            best = self._search(job, line, widths, None if best is None else best.cost) or best
        return best

    def _search(self, job: int, line: Line, widths: Widths, below: float | None) -> Found | None:
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
        first = line.begin + int(np.flatnonzero(chosen >= 0)[0])
        cost += extra + line.choice.move.kwh * float(self._market.arrival[line.row, first])
        if below is not None and cost >= below * (1 - 1e-12):
            return None
        found = Found(line.choice, line.row, self._stretches(job, line, chosen), cost)
        return found if self._keeps_limits(job, found) else None

    def _stretches(self, job: int, line: Line, chosen: Ints) -> tuple[Stretch, ...]:
        """Slots in a row of one width."""
        made = list[Stretch]()
        for slot in np.flatnonzero(chosen >= 0).tolist():
            width = self._elastic(job).widths[chosen[slot]]
            start_s = (line.begin + slot) * self._slot_s
            stop_s = start_s + self._slot_s
            if made and made[-1][1] == start_s and made[-1][2] == width.gpus:
                start_s = made.pop()[0]
            made.append((start_s, stop_s, width.gpus, width.power_w))
        return tuple(made)

    def _keeps_limits(self, job: int, found: Found) -> bool:
        limits, move = self.requests[job].limits, found.choice.move
        if limits.max_carbon_g is None and limits.max_cost is None:
            return True
        market, slot_s = self._market, self._slot_s
        first = found.stretches[0][0] // slot_s
        grams, gpu_s = move.kwh * float(market.arrival[found.row, first]), 0.0
        for start_s, stop_s, gpus, watts in found.stretches:
            here = market.grams_sum[found.row]
            grams += watts * float(here[stop_s // slot_s] - here[start_s // slot_s])
            gpu_s += gpus * (stop_s - start_s)
        cost = found.choice.cost(gpu_s)
        is_affordable = limits.max_cost is None or (cost is not None and cost <= limits.max_cost)
        return is_affordable and (limits.max_carbon_g is None or grams <= limits.max_carbon_g)
