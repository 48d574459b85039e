"""New jobs change places with old ones where both together emit less."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from scheduler.core.capacity import CapacityLedger
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.arrays import Cells, Floats, Ints
from scheduler.core.planner.finer import Stage, finer_stage
from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.kernels import weigh
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.placing import Placing, improve_all, nowhere
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.shaking import insisted
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot


def exchanged(  # noqa: PLR0917 - what there is, who asks, at what prices
    snapshot: PlanSnapshot,
    requests: Sequence[PlanRequest],
    askers: Collection[JobId],
    placements: Mapping[JobId, Placement],
    prices: Floats,
    *,
    seed: int,
) -> tuple[dict[JobId, Placement], CapacityLedger]:
    """Better places of some jobs, and what all of them then leave free.

    Args:
        snapshot: its capacity is what all placements leave free.
        requests: jobs that may move, all placed.
        askers: those that ask for the places of others.
        placements: of all jobs.
        prices: (rows, slots), grams a device and slot: they tell which cells are worth asking for.
        seed: of all chance.
    """
    search = WindowSearch(snapshot)
    whole = [one for one in requests if not one.is_flexible]
    for one in whole:
        search.give_back(placements[one.job_id])
    free = replace(snapshot.capacity, free=search.free.copy())
    stage = finer_stage(
        replace(snapshot, capacity=free), build_instance(replace(snapshot, capacity=free), whole)
    )
    instance = stage.instance
    cells, load = _cells_of(stage, placements)
    priced = stage.finer_prices(prices)
    weigh(instance.market, instance.tables, instance.jobs, cells)
    best = insisted(instance, Placing(cells, load), _askers(instance, askers), priced, seed=seed)
    improve_all(instance, best, np.flatnonzero(best.cells.choice >= 0))
    run = stage.run(best)
    return run.placements(Footprints(snapshot)), run.left(snapshot)


def _cells_of(stage: Stage, placements: Mapping[JobId, Placement]) -> tuple[Cells, Floats]:
    """The cells of the jobs where they are (choice -1 for what fills no cell, and then stays as it is), and their load."""
    instance = stage.instance
    cells, load = nowhere(len(instance.requests)), np.zeros_like(instance.market.free)
    for index, request in enumerate(instance.requests):
        placed = placements[request.job_id]
        row, slots = _fill(instance, index, placed, cells)
        load[row, slots] += placed.gpus
    return cells, load


def _fill(instance: Instance, index: int, placed: Placement, cells: Cells) -> tuple[int, slice]:
    """Writes the cell of a job, if it fills one from the border of its first slot or to that of its last."""
    layout, jobs, slot_s = instance.layout, instance.easy, instance.grid.slot_s
    request, slots = instance.requests[index], instance.grid.slots_touched(placed.window)
    start_s = instance.grid.offset_down_s(placed.window.start_at)
    row = -1
    for link in range(jobs.first[index], jobs.first[index + 1]):
        table = jobs.table[link]
        is_open = jobs.low[link] <= slots.start <= jobs.high[link]
        on_border = start_s % slot_s == 0 or (start_s + layout.length_s[table]) % slot_s == 0
        for c in range(layout.first[table], layout.first[table + 1]):
            choice = request.choices[layout.position[c]]
            if (choice.cluster.cluster_id, choice.option) == (placed.cluster_id, placed.option):
                row = int(layout.row[c])
                if is_open and on_border:
                    cells.choice[index], cells.link[index] = c, link
                    cells.slot[index] = slots.start
    return row, slots


def _askers(instance: Instance, askers: Collection[JobId]) -> Ints:
    """Their positions."""
    found = [index for index, one in enumerate(instance.requests) if one.job_id in askers]
    return np.array(found, dtype=np.int64)
