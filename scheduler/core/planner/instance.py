"""A snapshot in columns: what the compiled loops read.

Jobs lie in the order of their ids, so that the order of the requests changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.planner.kernels import (
    Families,
    Floats,
    Ints,
    Jobs,
    Market,
    Tables,
    running_sums,
)
from scheduler.core.planner.snapshot import Choice, PlanRequest, PlanSnapshot
from scheduler.core.timegrid import SlotGrid
from scheduler.core.units import MG_PER_G, WATT_SECONDS_PER_KWH

_NEVER: Final = np.iinfo(np.int64).max // 4
_Shape = tuple[tuple[int, int, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The planning problem of one snapshot.

    Args:
        requests: in the order of `jobs`.
        jobs: with windows in which every cell keeps the request's times; what is placed.
        easy: the same without the margins before deadlines, for jobs that find no room with them.
        groups: jobs that ask for the same, taken together, with windows that hold every cell that any real
            start could be compared with; what is bounded.
        choice: (choices,), position in the choices of the request.
    """

    grid: SlotGrid
    requests: tuple[PlanRequest, ...]
    market: Market
    tables: Tables
    families: Families
    jobs: Jobs
    easy: Jobs
    groups: Jobs
    choice: Ints
    priority: Ints


def build_instance(snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> Instance:
    """The columns of these requests on the snapshot's market. Every request needs at least one choice."""
    grid = snapshot.forecast.grid
    market = build_market(snapshot)
    ordered = tuple(sorted(requests, key=lambda request: request.job_id))
    shapes, family, scale = _families(snapshot, ordered)
    tables, first_table, choice = _tables(shapes, grid)
    times = _times(snapshot, ordered)
    widths = np.diff(first_table)[family]
    first = np.concatenate(([0], np.cumsum(widths)))
    table = np.repeat(first_table[family] - first[:-1], widths) + np.arange(first[-1])
    owner = np.repeat(np.arange(len(ordered)), widths)
    length = tables.whole * grid.slot_s + np.rint(tables.rest * grid.slot_s).astype(np.int64)
    margin = np.array([request.choices[0].margin_s for request in ordered], dtype=np.int64)
    # Margins scale with the length, as `Job.margin_s` does.
    first_length = np.array([request.choices[0].duration_s for request in ordered], dtype=np.int64)
    margins = -(-margin[owner] * length[table] // first_length[owner])
    strict = _windows(grid, tables, table, length, times[owner], margins)
    easy = _windows(grid, tables, table, length, times[owner], np.zeros_like(margins))
    wide = _wide_windows(grid, tables, table, length, times[owner])
    jobs = Jobs(first, table, *strict, scale)
    groups, first_group = _grouped(
        Jobs(first, table, *wide, scale), family, len(shapes), times // grid.slot_s
    )
    low, high = _reach(tables, (strict, easy, wide), table)
    offsets = tables._replace(low=low, high=high)
    return Instance(
        grid=grid,
        requests=ordered,
        market=market,
        tables=offsets,
        families=Families(
            first_table,
            first_group,
            int(np.diff(first_table).max(initial=1)),
            int(np.diff(tables.first[first_table]).max(initial=1)),
        ),
        jobs=jobs,
        easy=jobs._replace(low=easy[0], high=easy[1]),
        groups=groups,
        choice=choice,
        priority=np.array([request.priority for request in ordered], dtype=np.int64),
    )


def build_market(snapshot: PlanSnapshot) -> Market:
    """Grams of a watt and free devices of every row of the snapshot."""
    forecast, fleet, grid = snapshot.forecast, snapshot.fleet, snapshot.forecast.grid
    clusters = [fleet.get(cluster_id) for cluster_id, _ in snapshot.capacity.rows]
    zones = [forecast.zone(cluster.zone_id) for cluster in clusters]
    pue = np.array([cluster.pue for cluster in clusters])
    per_watt = grid.slot_s / WATT_SECONDS_PER_KWH / MG_PER_G
    grams = np.ascontiguousarray(forecast.mg_per_kwh[zones] * pue[:, None] * per_watt)
    is_closed = forecast.layer[zones] < 0
    closed_sum = np.zeros((len(zones), grid.n_slots + 1), dtype=np.int64)
    np.cumsum(is_closed, axis=1, out=closed_sum[:, 1:])
    grams_sum = np.zeros((len(zones), grid.n_slots + 1))
    running_sums(grams, grams_sum)
    cheapest = np.where(is_closed, np.inf, grams).min(axis=1, initial=np.inf)
    return Market(
        grams=grams,
        grams_sum=grams_sum,
        closed_sum=closed_sum,
        free=np.maximum(snapshot.capacity.free, 0).astype(np.float64),
        cheapest=np.where(np.isfinite(cheapest), cheapest, 0.0),
    )


def _families(
    snapshot: PlanSnapshot, requests: Sequence[PlanRequest]
) -> tuple[list[_Shape], Ints, Floats]:
    """Distinct shapes of choices per device of the first one; the shape and the scale of each request."""
    rows = {row: index for index, row in enumerate(snapshot.capacity.rows)}
    shapes: dict[_Shape, int] = {}
    # Requests often share one tuple of choices: seen by identity, it is not looked into again.
    seen: dict[int, tuple[int, float]] = {}
    family = np.zeros(len(requests), dtype=np.int64)
    scale = np.zeros(len(requests))
    for index, request in enumerate(requests):
        known = seen.get(id(request.choices))
        if known is None:
            shape = _shape(request.choices, rows)
            known = (shapes.setdefault(shape, len(shapes)), float(request.choices[0].gpus))
            seen[id(request.choices)] = known
        family[index], scale[index] = known
    return list(shapes), family, scale


def _shape(choices: Sequence[Choice], rows: dict[tuple[str, str], int]) -> _Shape:
    unit = choices[0].gpus
    return tuple(
        (
            rows[choice.cluster.cluster_id, choice.accelerator],
            choice.duration_s,
            choice.power_w / unit,
            choice.gpus / unit,
        )
        for choice in choices
    )


def _tables(shapes: Sequence[_Shape], grid: SlotGrid) -> tuple[Tables, Ints, Ints]:
    """One table for each distinct length of each shape."""
    first, first_table, positions = [0], [0], list[int]()
    chosen: list[tuple[int, int, float, float]] = []
    lengths: list[int] = []
    for shape in shapes:
        by_length: dict[int, list[int]] = {}
        for position, (_, duration_s, _, _) in enumerate(shape):
            by_length.setdefault(duration_s, []).append(position)
        for duration_s, members in by_length.items():
            lengths.append(duration_s)
            positions += members
            chosen += [shape[position] for position in members]
            first.append(len(chosen))
        first_table.append(len(lengths))
    length = np.array(lengths, dtype=np.int64)
    whole, rest_s = np.divmod(length, grid.slot_s)
    row, _, watts, gpus = zip(*chosen, strict=True) if chosen else ((), (), (), ())
    nothing = np.zeros(len(length), dtype=np.int64)
    tables = Tables(
        first=np.array(first, dtype=np.int64),
        row=np.array(row, dtype=np.int64),
        watts=np.array(watts, dtype=np.float64),
        gpus=np.array(gpus, dtype=np.float64),
        extra=np.zeros(len(chosen)),
        whole=whole,
        rest=rest_s / grid.slot_s,
        touched=whole + (rest_s > 0),
        low=nothing,
        high=nothing,
    )
    return tables, np.array(first_table, dtype=np.int64), np.array(positions, dtype=np.int64)


def _times(snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> Ints:
    """Earliest start, deadline and latest start of each request in seconds of the grid, shape (jobs, 3)."""
    grid = snapshot.forecast.grid
    now_s = max(0, grid.offset_up_s(snapshot.now))
    return np.array(
        [
            (
                max(now_s, grid.offset_up_s(request.earliest_at)),
                grid.offset_down_s(request.deadline_at),
                _NEVER if request.start_by_at is None else grid.offset_down_s(request.start_by_at),
            )
            for request in requests
        ],
        dtype=np.int64,
    ).reshape(len(requests), 3)


def _windows(
    grid: SlotGrid, tables: Tables, table: Ints, length: Ints, times: Ints, margins: Ints
) -> tuple[Ints, Ints]:
    """First slots for which both ways of lying in the touched slots keep the request's times."""
    earliest, deadline, start_by = times.T
    low = -(-earliest // grid.slot_s)
    end = np.minimum((deadline - margins) // grid.slot_s, grid.n_slots)
    touched = tables.touched[table]
    # A run that ends on a border starts this much after the border of its first slot.
    late_s = touched * grid.slot_s - length[table]
    high = np.minimum(end - touched, (start_by - late_s) // grid.slot_s)
    return low, high


def _wide_windows(
    grid: SlotGrid, tables: Tables, table: Ints, length: Ints, times: Ints
) -> tuple[Ints, Ints]:
    """First slots that hold, for any allowed start, a cell that costs no more.

    Between two borders of a window's cost it is linear in the start, so one of its ends is no dearer.
    """
    earliest, deadline, start_by = times.T
    latest = np.minimum(deadline - length[table], start_by)
    low = np.minimum(earliest // grid.slot_s, grid.n_slots)
    high = np.minimum(-(-latest // grid.slot_s), grid.n_slots - tables.touched[table])
    return low, np.where(latest < earliest, low - 1, high)


def _reach(tables: Tables, windows: Sequence[tuple[Ints, Ints]], table: Ints) -> tuple[Ints, Ints]:
    """For each table the first and last first slot that any window asks for."""
    low = np.full(len(tables.whole), _NEVER, dtype=np.int64)
    high = np.full(len(tables.whole), -1, dtype=np.int64)
    for lows, highs in windows:
        is_asked = lows <= highs
        np.minimum.at(low, table[is_asked], lows[is_asked])
        np.maximum.at(high, table[is_asked], highs[is_asked])
    return np.where(high < 0, 0, low), high


def _grouped(jobs: Jobs, family: Ints, n_families: int, times: Ints) -> tuple[Jobs, Ints]:
    """Jobs of one family with the same windows as one, by family; and where each family begins."""
    n_links = np.diff(jobs.first)
    start = jobs.first[:-1]
    # Windows follow from the family and the times, so that the first and last link tell them apart.
    stop = jobs.first[1:] - 1
    keys: NDArray[np.int64] = np.stack(
        (family, jobs.low[start], jobs.high[start], jobs.high[stop], times[:, 1], times[:, 2])
        if (n_links > 1).any()
        else (family, jobs.low[start], jobs.high[start])
    )
    _, representative, group = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    scale: Floats = np.bincount(group.ravel(), jobs.scale, minlength=len(representative)).astype(
        np.float64
    )
    widths = n_links[representative]
    first = np.concatenate(([0], np.cumsum(widths)))
    links = np.repeat(start[representative] - first[:-1], widths) + np.arange(first[-1])
    grouped = Jobs(first, jobs.table[links], jobs.low[links], jobs.high[links], scale)
    first_group = np.searchsorted(family[representative], np.arange(n_families + 1))
    return grouped, first_group
