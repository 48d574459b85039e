"""Requests in columns: what they ask for in seconds and units of a job, before any slots are chosen.

Jobs lie in the order of their ids, so that the order of the requests changes nothing. Choices are stated per device of a
job's first choice (its *scale*), so that jobs which differ only in size share one *shape*.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from scheduler.core.job import Placement
from scheduler.core.planner.arrays import Floats, Ints
from scheduler.core.planner.snapshot import Choice, PlanRequest, PlanSnapshot
from scheduler.core.timegrid import SlotGrid
from scheduler.core.units import SECONDS_PER_HOUR

NEVER: Final = np.iinfo(np.int64).max // 4
LEAST_CARBON_PRICE: Final = 0.01
"""A lower carbon price counts as this one: money then decides, and grams between equal costs."""
GRAMS_PER_TONNE: Final = 1e6

Line = tuple[int, int, int, int, float, float, float, float, int, int]
"""Row, length_s, margin_s, ready_s, watts, devices, extra, moved, mask and position of a choice, per unit of scale."""
Shape = tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Shapes laid out in tables: one table for each (length, margin, readiness, mask) of each shape.

    Args:
        first_table: (shapes + 1,), tables `first_table[f]` to `first_table[f + 1]` belong to shape f.
        first: (tables + 1,), choices of each table.
        length_s, margin_s, ready_s, mask: (tables,).
        row, watts, gpus, extra, moved: (choices,), per unit of scale.
        position: (choices,), where the choice stands in its shape.
    """

    first_table: Ints
    first: Ints
    length_s: Ints
    margin_s: Ints
    ready_s: Ints
    mask: Ints
    row: Ints
    watts: Floats
    gpus: Floats
    extra: Floats
    moved: Floats
    position: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Requests in columns.

    Args:
        requests: by id.
        shapes: distinct ones; `family` says which is each job's, `scale` how many units of it, both (jobs,).
        now_s: second of the grid from which data can be moved.
        times: (jobs, 3), earliest start, deadline and latest start in seconds of the grid.
        limit: (jobs,), most grams.
        floors: least renewable share of each mask; mask 0 has none.
    """

    requests: tuple[PlanRequest, ...]
    shapes: tuple[Shape, ...]
    family: Ints
    scale: Floats
    now_s: int
    times: Ints
    limit: Floats
    priority: Ints
    floors: tuple[float, ...]


def build_columns(snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> Columns:
    """The columns of these requests. Every request needs at least one choice within its limits."""
    ordered = tuple(sorted(requests, key=lambda request: request.job_id))
    floors = tuple(sorted({one.limits.min_renewable_share or 0.0 for one in ordered} | {0.0}))
    shapes: dict[Shape, int] = {}
    shape_of = _shape_builder({row: i for i, row in enumerate(snapshot.capacity.rows)}, floors)
    # Requests often share one tuple of choices: seen by identity, it is not looked into again.
    seen: dict[tuple[object, ...], tuple[int, float]] = {}
    family = np.zeros(len(ordered), dtype=np.int64)
    scale = np.zeros(len(ordered))
    for index, request in enumerate(ordered):
        limits = request.limits
        key = (id(request.choices), limits)
        known = seen.get(key)
        if known is None:
            shape = shape_of(request)
            known = (shapes.setdefault(shape, len(shapes)), float(request.choices[0].gpus))
            seen[key] = known
        family[index], scale[index] = known
    limit = [request.limits.max_carbon_g for request in ordered]
    return Columns(
        requests=ordered,
        shapes=tuple(shapes),
        family=family,
        scale=scale,
        now_s=now_s(snapshot),
        times=build_times(snapshot, ordered),
        limit=np.array([np.inf if one is None else one for one in limit], dtype=np.float64),
        priority=np.array([request.priority for request in ordered], dtype=np.int64),
        floors=floors,
    )


def within_cost(request: PlanRequest, choice: Choice) -> bool:
    """Whether a whole run there costs no more than the job allows.

    A price that is not known is within no limit, and cannot be weighed against carbon.
    """
    if not has_price(request, choice):
        return False
    most, cost = request.limits.max_cost, choice.cost(choice.gpus * choice.duration_s)
    return most is None or (cost is not None and cost <= most)


def has_price(request: PlanRequest, choice: Choice) -> bool:
    """Whether the price is known there, or does not matter to the job."""
    limits = request.limits
    is_free = limits.max_cost is None and limits.carbon_price is None
    return is_free or choice.cluster.price_per_gpu_hour is not None


def money_weight(request: PlanRequest) -> float:
    """Grams that one unit of money is worth to the job; 0 where it states no carbon price."""
    price = request.limits.carbon_price
    return 0.0 if price is None else GRAMS_PER_TONNE / max(price, LEAST_CARBON_PRICE)


def weighed_g(request: PlanRequest, placement: Placement) -> float:
    """Grams of a placement, and money in the grams that it is worth to the job."""
    return (placement.planned_g or 0.0) + money_weight(request) * (placement.cost or 0.0)


def _shape_builder(
    rows: dict[tuple[str, str], int], floors: tuple[float, ...]
) -> Callable[[PlanRequest], Shape]:
    def build(request: PlanRequest) -> Shape:
        unit = request.choices[0].gpus
        weight = money_weight(request)
        mask = floors.index(request.limits.min_renewable_share or 0.0)
        lines = []
        for position, choice in enumerate(request.choices):
            if within_cost(request, choice):
                cost = choice.cost(choice.gpus * choice.duration_s) or 0.0
                row = rows[choice.cluster.cluster_id, choice.accelerator]
                lines.append(
                    (
                        row,
                        choice.duration_s,
                        choice.margin_s,
                        choice.move.seconds,
                        choice.power_w / unit,
                        choice.gpus / unit,
                        weight * cost / unit,
                        choice.move.kwh / unit,
                        mask,
                        position,
                    )
                )
        return tuple(lines)

    return build


def now_s(snapshot: PlanSnapshot) -> int:
    """The first second of the grid that is not past."""
    return max(0, snapshot.forecast.grid.offset_up_s(snapshot.now))


def build_times(snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> Ints:
    """Earliest start, deadline and latest start of each request in seconds of the grid, shape (jobs, 3)."""
    grid, earliest = snapshot.forecast.grid, now_s(snapshot)
    known: dict[object, int] = {None: NEVER}

    def down_s(at: object) -> int:
        found = known.get(at)
        if found is None:
            found = known[at] = grid.offset_down_s(at)  # type: ignore[arg-type]
        return found

    times = np.empty((len(requests), 3), dtype=np.int64)
    ups: dict[object, int] = {}
    for index, request in enumerate(requests):
        earliest_s = ups.get(request.earliest_at)
        if earliest_s is None:
            earliest_s = ups[request.earliest_at] = max(
                earliest, grid.offset_up_s(request.earliest_at)
            )
        times[index] = earliest_s, down_s(request.deadline_at), down_s(request.start_by_at)
    return times


def lay_out(shapes: Sequence[Shape]) -> Layout:
    """The tables of these shapes."""
    first, first_table, chosen = [0], [0], list[Line]()
    keys: list[tuple[int, int, int, int]] = []
    for shape in shapes:
        by_key: dict[tuple[int, int, int, int], list[Line]] = {}
        for line in shape:
            by_key.setdefault((line[1], line[2], line[3], line[8]), []).append(line)
        for key, lines in by_key.items():
            keys.append(key)
            chosen += lines
            first.append(len(chosen))
        first_table.append(len(keys))
    columns = np.array(chosen, dtype=np.float64).reshape(len(chosen), 10)
    length_s, margin_s, ready_s, mask = np.array(keys, dtype=np.int64).reshape(len(keys), 4).T
    return Layout(
        first_table=np.array(first_table, dtype=np.int64),
        first=np.array(first, dtype=np.int64),
        length_s=np.ascontiguousarray(length_s),
        margin_s=np.ascontiguousarray(margin_s),
        ready_s=np.ascontiguousarray(ready_s),
        mask=np.ascontiguousarray(mask),
        row=columns[:, 0].astype(np.int64),
        watts=columns[:, 4].copy(),
        gpus=columns[:, 5].copy(),
        extra=columns[:, 6].copy(),
        moved=columns[:, 7].copy(),
        position=columns[:, 9].astype(np.int64),
    )


def roughly(shapes: Sequence[Shape], grid: SlotGrid) -> tuple[tuple[Shape, ...], Ints]:
    """Fewer shapes that stand for these, and which stands for each: lengths to a quarter of a slot, the rest to 5 %.

    Enough to see how load follows prices; too rough to prove anything.
    """
    quarter_s = max(1, grid.slot_s // 4)

    def near(value: float) -> float:
        return float(1.05 ** round(np.log(value) / np.log(1.05))) if value > 0 else 0.0

    distinct: dict[Shape, int] = {}
    stands = np.zeros(len(shapes), dtype=np.int64)
    for index, shape in enumerate(shapes):
        rough = tuple(
            (
                row,
                max(1, length // quarter_s) * quarter_s,
                0,
                -(-ready // SECONDS_PER_HOUR) * SECONDS_PER_HOUR,
                near(watts),
                near(gpus),
                near(extra),
                near(moved),
                mask,
                position,
            )
            for row, length, _, ready, watts, gpus, extra, moved, mask, position in shape
        )
        stands[index] = distinct.setdefault(rough, len(distinct))
    return tuple(distinct), stands
