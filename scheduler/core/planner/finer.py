"""From slots to seconds: capacity holds at every instant, so that runs which fill no whole slots share them.

Whole slots place most jobs and keep what they place feasible. Here their cells are carried to finer slots, on which jobs
without a place look again and every job moves to where it is cheapest; then each start goes to its exact second.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.capacity import CapacityLedger
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.arrays import Cells, Floats, Ints
from scheduler.core.planner.columns import NEVER
from scheduler.core.planner.flexible import FlexibleJobs
from scheduler.core.planner.instance import Instance, refined
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.placing import (
    Placing,
    by_priority,
    fill,
    nowhere,
    place_firmly,
    place_in_order,
)
from scheduler.core.planner.snapshot import PlanSnapshot
from scheduler.core.planner.starting_kernels import settle_starts

_FINEST_S: Final = ((5_000, 60), (50_000, 300), (500_000, 900))
"""Shortest slots by the number of jobs: every one of them is scanned for every job."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where whole runs are: (jobs,) choice (-1: nowhere) and first second; and their load on slots of `instance`."""

    instance: Instance
    placing: Placing
    start_s: Ints

    @property
    def choice(self) -> Ints:
        """Choices of the tables, shape (jobs,)."""
        return self.placing.cells.choice

    def placements(self, footprints: Footprints) -> dict[JobId, Placement]:
        """The jobs that have a place, as placements."""
        instance = self.instance
        has_place = np.flatnonzero(self.choice >= 0)
        position = instance.layout.position[self.choice[has_place]].tolist()
        requests = [instance.requests[index] for index in has_place.tolist()]
        choices = [one.choices[at] for one, at in zip(requests, position, strict=True)]
        return footprints.place_runs(requests, choices, self.start_s[has_place])

    def left(self, snapshot: PlanSnapshot) -> CapacityLedger:
        """What they leave free."""
        free = np.floor(self.instance.market.free - self.placing.load + 1e-9).astype(np.int64)
        return CapacityLedger(grid=self.instance.grid, rows=snapshot.capacity.rows, free=free)


def finer_slot_s(snapshot: PlanSnapshot, instance: Instance) -> int:
    """The length of finer slots that pays; that of the plan where all lengths and times are whole slots."""
    columns, slot_s = instance.columns, instance.grid.slot_s
    times = columns.times[columns.times < NEVER // 2]
    exact_s = math.gcd(
        slot_s,
        snapshot.capacity.grid.slot_s,
        int(np.gcd.reduce(instance.layout.length_s)),
        int(np.gcd.reduce(instance.layout.ready_s)),
        int(np.gcd.reduce(times)),
    )
    finest_s = next((s for n, s in _FINEST_S if len(columns.requests) <= n), slot_s)
    if exact_s >= min(finest_s, slot_s):
        return exact_s
    return max(s for s in range(1, finest_s + 1) if slot_s % s == 0)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where firm placings are made of the wishes of whole slots.

    Args:
        instance: on finer slots.
        tight: (jobs,), those too tight for whole slots: they go first, having next to no choice.
        first: where those are.
        room: the instance on whole slots, less what those take.
    """

    instance: Instance
    tight: NDArray[np.bool_]
    first: Placing
    room: Instance

    def firm(self, wanted: Cells) -> Placing:
        """A placing within capacity at every instant, as near to these wishes as there is room."""
        if self.instance is self.room:
            return place_firmly(self.instance, wanted)
        here = wanted.choice >= 0
        cells = Cells(*_copies(self.first.cells))
        starts = _settled(self.room, Placing(wanted, np.zeros_like(self.room.market.free)), False)
        cells.choice[here], cells.link[here] = wanted.choice[here], wanted.link[here]
        cells.slot[here] = starts.start_s[here] // self.instance.grid.slot_s
        return place_firmly(self.instance, cells, first=self.tight)

    def greedy(self) -> Placing:
        """Each job in turn in its cheapest cell with room, biggest first."""
        return place_in_order(self.instance, by_priority(self.instance, self.tight))

    def finer_prices(self, prices: Floats) -> Floats:
        """Prices of whole slots as those of their parts here."""
        parts = self.room.grid.slot_s // self.instance.grid.slot_s
        finer: Floats = np.repeat(prices, parts, axis=1) / parts
        return finer

    def run(self, placing: Placing) -> Run:
        """The placing with the exact second of every start."""
        return _settled(self.instance, placing, True)


def finer_stage(
    snapshot: PlanSnapshot, instance: Instance, flexible: FlexibleJobs | None = None
) -> Stage:
    """The stage on slots as fine as pays; on whole slots where all lengths and times are such."""
    slot_s = finer_slot_s(snapshot, instance)
    if flexible is not None:
        slot_s = math.gcd(slot_s, flexible.unit_s)
    count = len(instance.requests)
    if slot_s == instance.grid.slot_s:
        nobody = np.zeros(count, dtype=np.bool_)
        return Stage(
            instance, nobody, Placing(nowhere(count), np.zeros_like(instance.market.free)), instance
        )
    fine = refined(instance, snapshot, slot_s)
    placing = Placing(nowhere(count), np.zeros_like(fine.market.free))
    is_tight = ~_has_cell(instance)
    tight = np.flatnonzero(is_tight)
    order = np.lexsort((tight, instance.columns.times[tight, 1], -instance.priority[tight]))
    fill(fine, placing, tight[order])
    return Stage(fine, is_tight, placing, _less(instance, placing))


def _has_cell(instance: Instance) -> NDArray[np.bool_]:
    jobs = instance.easy
    found = np.zeros(len(jobs.scale), dtype=np.bool_)
    owner = np.repeat(np.arange(len(found)), np.diff(jobs.first))
    np.logical_or.at(found, owner, jobs.low <= jobs.high)
    return found


def _less(instance: Instance, placing: Placing) -> Instance:
    """The instance less what is taken on finer slots."""
    market = instance.market
    taken = placing.load.reshape(*market.free.shape, -1)
    return replace(
        instance,
        market=market._replace(
            free=np.maximum(0.0, market.free - taken.max(axis=2)),
            mean_free=np.maximum(0.0, market.mean_free - taken.mean(axis=2)),
        ),
    )


def _settled(instance: Instance, placing: Placing, has_rims: bool) -> Run:
    """The placing with the exact second of every start."""
    jobs, layout, columns = instance.jobs, instance.layout, instance.columns
    owner = np.repeat(np.arange(len(jobs.scale)), np.diff(jobs.first))
    earliest, deadline, start_by = columns.times[owner].T
    earliest = np.maximum(earliest, columns.now_s + layout.ready_s[jobs.table])
    margin = layout.margin_s[jobs.table]
    latest = np.minimum(deadline - layout.length_s[jobs.table] - margin, start_by)
    start_s = np.zeros(len(jobs.scale), dtype=np.int64)
    settle_starts(
        instance.market,
        instance.tables,
        jobs,
        layout.length_s,
        np.stack((earliest, latest if has_rims else earliest - 1), axis=1),
        instance.grid.slot_s,
        placing.load,
        placing.cells,
        start_s,
    )
    return Run(instance, placing, start_s)


def _copies(cells: Cells) -> tuple[Ints, Ints, Ints, Floats]:
    return cells.choice.copy(), cells.link.copy(), cells.slot.copy(), cells.grams.copy()
