"""The planning problem on slots of one length: what the compiled loops read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.planner.arrays import Families, Floats, Ints, Jobs, Market, Tables
from scheduler.core.planner.columns import (
    NEVER,
    Columns,
    Layout,
    build_columns,
    lay_out,
    roughly,
)
from scheduler.core.planner.kernels import running_sums
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot
from scheduler.core.timegrid import SlotGrid
from scheduler.core.units import MG_PER_G, WATT_SECONDS_PER_KWH

_ROUGH_FROM: Final = 64
"""Shapes from which the search for prices looks at rougher ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Jobs that ask for the same, taken together.

    Their windows hold, for every real start that is allowed, a cell that costs no more.
    """

    tables: Tables
    families: Families
    groups: Jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The planning problem of one snapshot on one grid.

    Args:
        columns: the jobs, in the order of all that follows.
        jobs: with windows in which every cell keeps the request's times; what is placed.
        easy: the same without the margins before deadlines, for jobs that find no room with them.
        exact: what is bounded.
        rough: what prices are searched on; the same, or few groups that stand for many.
    """

    grid: SlotGrid
    columns: Columns
    layout: Layout
    market: Market
    tables: Tables
    jobs: Jobs
    easy: Jobs
    exact: Demand
    rough: Demand

    @property
    def requests(self) -> tuple[PlanRequest, ...]:
        """In the order of the jobs."""
        return self.columns.requests

    @property
    def priority(self) -> Ints:
        """Shape (jobs,)."""
        return self.columns.priority


def build_instance(snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> Instance:
    """These requests on the slots of the forecast. Every request needs at least one choice within its limits."""
    grid = snapshot.forecast.grid
    columns = build_columns(snapshot, requests)
    layout = lay_out(columns.shapes)
    links = _links(layout, columns.family)
    lengths = _on_slots(layout, grid)
    strict, easy, wide = (
        _windows(grid, layout, lengths, links, columns, keeps)
        for keeps in (_Keep.MARGINS, _Keep.TIMES, _Keep.BOUND)
    )
    tables = _reach(lengths, links, (strict, easy, wide))
    jobs = Jobs(links.first, links.table, *strict, columns.scale, columns.limit)
    exact = _demand(grid, tables, layout, columns.family, columns, links, wide)
    return Instance(
        grid=grid,
        columns=columns,
        layout=layout,
        market=build_market(snapshot, grid, columns.floors),
        tables=tables,
        jobs=jobs,
        easy=jobs._replace(low=easy[0], high=easy[1]),
        exact=exact,
        rough=_rough(grid, columns) or exact,
    )


def refined(instance: Instance, snapshot: PlanSnapshot, slot_s: int) -> Instance:
    """The same problem on slots of this length, which divides those of the forecast; what is bounded stays as it is."""
    whole = instance.grid
    grid = SlotGrid(whole.origin_at, slot_s, whole.horizon_s // slot_s)
    layout, columns = instance.layout, instance.columns
    links = _Links(instance.jobs.first, instance.jobs.table)
    lengths = _on_slots(layout, grid)
    strict, easy = (
        _windows(grid, layout, lengths, links, columns, keeps)
        for keeps in (_Keep.MARGINS, _Keep.TIMES)
    )
    jobs = instance.jobs._replace(low=strict[0], high=strict[1])
    return Instance(
        grid=grid,
        columns=columns,
        layout=layout,
        market=build_market(snapshot, grid, columns.floors),
        tables=_reach(lengths, links, (strict, easy)),
        jobs=jobs,
        easy=jobs._replace(low=easy[0], high=easy[1]),
        exact=instance.exact,
        rough=instance.rough,
    )


def build_market(
    snapshot: PlanSnapshot, grid: SlotGrid, floors: Sequence[float] = (0.0,)
) -> Market:
    """Grams of a watt and free devices of every row of the snapshot, on these slots.

    Args:
        snapshot: its forecast and capacity lie on slots that are multiples and parts of those of `grid`.
        grid: slots of the market.
        floors: least renewable share of each mask; below it, or where it is not known, slots are closed.
    """
    forecast = snapshot.forecast
    clusters = [snapshot.fleet.get(cluster_id) for cluster_id, _ in snapshot.capacity.rows]
    zones = [forecast.zone(cluster.zone_id) for cluster in clusters]
    parts = forecast.grid.slot_s // grid.slot_s
    intensity = np.repeat(forecast.exact_mg[zones], parts, axis=1) / MG_PER_G
    pue = np.array([cluster.pue_on(grid) for cluster in clusters])
    grams = _summable(intensity * pue * (grid.slot_s / WATT_SECONDS_PER_KWH))
    closed = np.repeat(forecast.layer[zones] < 0, parts, axis=1)
    masks = [
        closed if floor <= 0 else closed | np.repeat(forecast.is_below(zones, floor), parts, axis=1)
        for floor in floors
    ]
    closed_sum = np.zeros((len(floors), len(zones), grid.n_slots + 1), dtype=np.int64)
    np.cumsum(np.array(masks), axis=2, out=closed_sum[:, :, 1:])
    grams_sum = np.zeros((len(zones), grid.n_slots + 1))
    running_sums(grams, grams_sum)
    cheapest = np.where(closed, np.inf, grams).min(axis=1, initial=np.inf)
    by_slot = _free_by_slot(snapshot, grid)
    return Market(
        grams=grams,
        grams_sum=grams_sum,
        closed_sum=closed_sum,
        free=np.ascontiguousarray(by_slot.min(axis=2)),
        mean_free=np.ascontiguousarray(by_slot.mean(axis=2)),
        arrival=np.ascontiguousarray(intensity),
        cheapest=np.where(np.isfinite(cheapest), cheapest, 0.0),
    )


def coarser(market: Market, parts: int) -> Market:
    """The market on slots of so many of its own."""
    if parts == 1:
        return market
    rows = len(market.grams)

    def by_slot(values: Floats) -> Floats:
        return values.reshape(rows, -1, parts)

    return Market(
        grams=by_slot(market.grams).sum(axis=2),
        grams_sum=np.ascontiguousarray(market.grams_sum[:, ::parts]),
        closed_sum=np.ascontiguousarray(market.closed_sum[:, :, ::parts]),
        free=by_slot(market.free).min(axis=2),
        mean_free=by_slot(market.mean_free).mean(axis=2),
        arrival=np.ascontiguousarray(market.arrival[:, ::parts]),
        cheapest=market.cheapest * parts,
    )


def _summable(values: Floats) -> Floats:
    """The values rounded to multiples of a power of two, so that their sums are exact and equal windows cost the same."""
    top = float(values.sum(axis=1).max(initial=0.0))
    if top <= 0:
        return np.ascontiguousarray(values)
    quantum = 2.0 ** (np.ceil(np.log2(top)) - 50)
    return np.ascontiguousarray(np.rint(values / quantum) * quantum)


def _free_by_slot(snapshot: PlanSnapshot, grid: SlotGrid) -> Floats:
    """Free devices in the parts of each slot, shape (rows, slots, parts)."""
    free = np.maximum(snapshot.capacity.free, 0).astype(np.float64)
    has_s = snapshot.capacity.grid.slot_s
    parts_s = math.gcd(has_s, grid.slot_s)
    free = np.repeat(free, has_s // parts_s, axis=1)
    return free.reshape(len(free), grid.n_slots, -1)


@dataclass(frozen=True, slots=True)
class _Links:
    """Links of the jobs to their tables: `first` (jobs + 1,) and `table` (links,)."""

    first: Ints
    table: Ints

    @property
    def owner(self) -> Ints:
        """The job of each link."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))


class _Keep:
    """What windows of first slots keep."""

    MARGINS: Final = 0  # all times, and the margins before deadlines
    TIMES: Final = 1  # all times
    BOUND: Final = 2  # a cell for any allowed start that costs no more than it


def _links(layout: Layout, family: Ints) -> _Links:
    widths = np.diff(layout.first_table)[family]
    first = np.concatenate(([0], np.cumsum(widths)))
    table = np.repeat(layout.first_table[family] - first[:-1], widths) + np.arange(first[-1])
    return _Links(first, table)


def _on_slots(layout: Layout, grid: SlotGrid) -> Tables:
    """The tables with their lengths in slots."""
    whole, rest_s = np.divmod(layout.length_s, grid.slot_s)
    nothing = np.zeros(len(whole), dtype=np.int64)
    return Tables(
        first=layout.first,
        row=layout.row,
        watts=layout.watts,
        gpus=layout.gpus,
        extra=layout.extra,
        moved=layout.moved,
        mask=layout.mask,
        whole=whole,
        rest=rest_s / grid.slot_s,
        touched=whole + (rest_s > 0),
        low=nothing,
        high=nothing,
    )


def _windows(
    grid: SlotGrid, layout: Layout, tables: Tables, links: _Links, columns: Columns, keeps: int
) -> tuple[Ints, Ints]:
    """First and last first slot of each link.

    Where times are kept, both ways of lying in the touched slots keep them. Of any allowed start, the cell of its
    slot or the next one costs no more: between two borders the cost is linear in the start.
    """
    table, slot_s = links.table, grid.slot_s
    earliest, deadline, start_by = columns.times[links.owner].T
    earliest = np.maximum(earliest, columns.now_s + layout.ready_s[table])
    touched, length = tables.touched[table], layout.length_s[table]
    if keeps == _Keep.BOUND:
        latest = np.minimum(deadline - length, start_by)
        low = np.minimum(earliest // slot_s, grid.n_slots)
        high = np.minimum(-(-latest // slot_s), grid.n_slots - touched)
        return low, np.where(latest < earliest, low - 1, high)
    if keeps == _Keep.MARGINS:
        deadline = deadline - layout.margin_s[table]
    low = -(-earliest // slot_s)
    end = np.minimum(deadline // slot_s, grid.n_slots)
    # A run that ends on a border starts this much after the border of its first slot.
    late_s = touched * slot_s - length
    return low, np.minimum(end - touched, (start_by - late_s) // slot_s)


def _reach(tables: Tables, links: _Links, windows: Sequence[tuple[Ints, Ints]]) -> Tables:
    """The tables with the first and last first slot that any window asks for."""
    low = np.full(len(tables.whole), NEVER, dtype=np.int64)
    high = np.full(len(tables.whole), -1, dtype=np.int64)
    for lows, highs in windows:
        is_asked = lows <= highs
        np.minimum.at(low, links.table[is_asked], lows[is_asked])
        np.maximum.at(high, links.table[is_asked], highs[is_asked])
    return tables._replace(low=np.where(high < 0, 0, low), high=high)


def _rough(grid: SlotGrid, columns: Columns) -> Demand | None:
    """Few shapes that stand for many; None where that would not spare much."""
    if len(columns.shapes) < _ROUGH_FROM:
        return None
    shapes, stands = roughly(columns.shapes, grid)
    if len(shapes) > len(columns.shapes) / 2:
        return None
    layout = lay_out(shapes)
    family = stands[columns.family]
    links = _links(layout, family)
    lengths = _on_slots(layout, grid)
    wide = _windows(grid, layout, lengths, links, columns, _Keep.BOUND)
    tables = _reach(lengths, links, [wide])
    return _demand(grid, tables, layout, family, columns, links, wide)


def _demand(
    grid: SlotGrid,
    tables: Tables,
    layout: Layout,
    family: Ints,
    columns: Columns,
    links: _Links,
    wide: tuple[Ints, Ints],
) -> Demand:
    jobs = Jobs(links.first, links.table, *wide, columns.scale, columns.limit)
    is_aligned = not (tables.rest.any() or (columns.times % grid.slot_s).any())
    times = columns.times // grid.slot_s if is_aligned else columns.times
    groups, first_job = _grouped(jobs, family, len(layout.first_table) - 1, times)
    first_table = layout.first_table
    families = Families(
        first_table,
        first_job,
        int(np.diff(first_table).max(initial=1)),
        int(np.diff(tables.first[first_table]).max(initial=1)),
    )
    return Demand(tables=tables, families=families, groups=groups)


def _grouped(jobs: Jobs, family: Ints, n_families: int, times: Ints) -> tuple[Jobs, Ints]:
    """Jobs of one family with the same windows as one, by family; and where each family begins.

    Limits on grams are left out: without them a bound is only lower.
    """
    n_links = np.diff(jobs.first)
    start = jobs.first[:-1]
    # Windows follow from the family and the times; those of a single link are all there is to know.
    keys: NDArray[np.int64] = np.stack(
        (family, *times.T) if (n_links > 1).any() else (family, jobs.low[start], jobs.high[start])
    )
    _, representative, group = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    scale: Floats = np.bincount(group.ravel(), jobs.scale, minlength=len(representative)).astype(
        np.float64
    )
    widths = n_links[representative]
    first = np.concatenate(([0], np.cumsum(widths)))
    links = np.repeat(start[representative] - first[:-1], widths) + np.arange(first[-1])
    grouped = Jobs(
        first,
        jobs.table[links],
        jobs.low[links],
        jobs.high[links],
        scale,
        np.full(len(scale), np.inf),
    )
    return grouped, np.searchsorted(family[representative], np.arange(n_families + 1))
