"""Reading a snapshot of a queue: `gridtide/snapshot/v1` becomes what the planner reads."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationError

from scheduler.core.capacity import Reservation, build_capacity
from scheduler.core.data_moves import DataMoves
from scheduler.core.errors import (
    ForecastRejectedError,
    InvalidDataError,
    InvalidJobError,
)
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.forecast import (
    ForecastMatrix,
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
    build_matrix,
)
from scheduler.core.hardware import Accelerator, HardwareTable
from scheduler.core.names import suggest
from scheduler.core.planner.snapshot import (
    PlanSnapshot,
)
from scheduler.core.timegrid import SlotGrid, Window, format_instant
from scheduler.core.units import SECONDS_PER_HOUR
from scheduler.server.document_errors import describe_errors
from scheduler.server.fields import DurationS, Instant, Strict, ZeroOrDurationS
from scheduler.server.snapshot_jobs import SnapshotJobs

SCHEMA: Final = "gridtide/snapshot/v1"
_MOST_DEVICES: Final = 1_000_000_000
_FINEST_S: Final = 60
"""Shortest slots on which reservations are counted."""
_SIGMAS_P10_P90: Final = 2.563
"""Standard deviations of a normal distribution between its 10 % and 90 % quantiles."""
Document = dict[str, Any]
Floats = NDArray[np.float64]


def _gaps(value: object) -> object:
    """Gaps as NaN: null means unknown, never zero; a NaN in the file is a mistake."""
    if not isinstance(value, list):
        return value
    for index, one in enumerate(value):
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError(f"value {index} is {one}; write null where it is not known")
    return [math.nan if one is None else one for one in value]


Gapped = Annotated[list[float], BeforeValidator(_gaps)]
Pue = Annotated[float, Field(ge=1, le=5, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Reserved(Strict):
    accelerator: str
    gpus: int = Field(ge=0, le=_MOST_DEVICES)
    start: Instant
    end: Instant


class _Cluster(Strict):
    id: str = Field(min_length=1)
    region: str = Field(min_length=1)
    zone: str = Field(min_length=1)
    pue: Pue | Annotated[list[Pue], Field(min_length=1)] = 1.2
    capacity: dict[str, Annotated[int, Field(ge=0, le=_MOST_DEVICES)]]
    reserved: list[_Reserved] = Field(default_factory=list)
    price_per_gpu_hour: Amount | None = None
    queue_wait: ZeroOrDurationS = 0


class _Intensity(Strict):
    signal: SignalKind = SignalKind.AVERAGE
    scope: Scope = Scope.LIFECYCLE
    start: Instant
    step: DurationS
    g_per_kwh: Gapped = Field(min_length=1)
    p10: Gapped | None = None
    p90: Gapped | None = None
    renewable_share: Gapped | None = None


class _DataMoves(Strict):
    kwh_per_gb: Amount = DataMoves().kwh_per_gb
    gb_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = DataMoves().gb_per_s
    price_per_gb: Amount = DataMoves().price_per_gb


class _Snapshot(Strict):
    now: Instant
    slot: DurationS
    horizon: DurationS
    clusters: list[_Cluster]
    intensity: dict[str, _Intensity]
    jobs: list[Document]
    data_moves: _DataMoves = Field(default_factory=_DataMoves)


class _FileHardware(HardwareTable):
    """The hardware table, and the names that only the file knows: jobs on those must state their power."""

    def __init__(self, table: HardwareTable, names: Iterable[str]) -> None:
        super().__init__(table.accelerators)
        self._others = frozenset(names) - {name for name in names if self.has(name)}

    def get(self, name: str, *, field: str = "resources.accelerators") -> Accelerator:
        if name in self._others:
            return Accelerator(name=name, tdp_w=1.0, source="the file; power unknown")
        return super().get(name, field=field)

    def power_w(self, name: str, gpus: int) -> float:
        if name in self._others:
            raise InvalidJobError(
                f"power_w: {name!r} is not in the hardware table; state the watts of all devices",
                field="power_w",
                valid="watts",
            )
        return super().power_w(name, gpus)


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """What a document holds: the planner's snapshot, the jobs that are past their deadline, what was assumed."""

    snapshot: PlanSnapshot
    refused: tuple[Document, ...]
    moves: DataMoves


def read_snapshot(document: object, hardware: HardwareTable) -> SnapshotFile:
    """The snapshot of a document.

    Raises:
        InvalidDataError: naming the first wrong field.
    """
    asked = _checked(document)
    known = _FileHardware(hardware, [name for one in asked.clusters for name in one.capacity])
    slots = SlotGrid.around(asked.now, slot_s=asked.slot, horizon_s=asked.horizon)
    grid = slots.finer(_step_s(asked, slots))
    fleet = _fleet(asked, known, grid)
    moves = DataMoves(**asked.data_moves.model_dump())
    requests, refused = SnapshotJobs(asked.now, fleet, known, moves).read(asked.jobs)
    snapshot = PlanSnapshot(
        now=asked.now,
        fleet=fleet,
        forecast=_forecast(asked, grid, fleet),
        capacity=build_capacity(*_reservations(asked, grid, fleet, known)),
        requests=requests,
        rhythm_s=asked.slot,
    )
    return SnapshotFile(snapshot, tuple(refused), moves)


def _checked(document: object) -> _Snapshot:
    if not isinstance(document, dict) or document.get("schema", SCHEMA) != SCHEMA:
        raise InvalidDataError(
            f"snapshot: a mapping with schema {SCHEMA}, now, slot, horizon, clusters, intensity and jobs is needed",
            field="schema",
            valid=SCHEMA,
        )
    given = {key: value for key, value in document.items() if key != "schema"}
    try:
        return _Snapshot.model_validate(given)
    except ValidationError as error:
        lines = "; ".join(describe_errors(error, _Snapshot)[:5])
        raise InvalidDataError(f"snapshot: {lines}", field="snapshot") from error


def _step_s(asked: _Snapshot, slots: SlotGrid) -> int:
    """Seconds in which no intensity changes, a minute at least: parts of slots where these are longer."""
    zones = {one.zone for one in asked.clusters} & asked.intensity.keys()
    found = [asked.intensity[zone] for zone in zones]
    offsets = [slots.offset_down_s(one.start) for one in found]
    return max(_FINEST_S, math.gcd(slots.slot_s, *(one.step for one in found), *offsets))


def _fleet(asked: _Snapshot, hardware: HardwareTable, grid: SlotGrid) -> Fleet:
    hours = -(-grid.horizon_s // SECONDS_PER_HOUR)
    clusters = []
    for index, one in enumerate(asked.clusters):
        values = one.pue if isinstance(one.pue, list) else []
        if values and len(values) != 24 and len(values) < hours:
            raise InvalidDataError(
                f"clusters.{index}.pue: {len(values)} values; give one number, 24 for the hours of the UTC day, "
                f"or at least {hours} for the hours of the horizon",
                field=f"clusters.{index}.pue",
                value=len(values),
            )
        mean = float(np.mean(one.pue))
        clusters.append(
            Cluster(
                cluster_id=one.id,
                region_id=one.region,
                zone_id=one.zone,
                pue=mean,
                capacity=tuple(
                    (hardware.get(name, field=f"clusters.{index}.capacity").name, gpus)
                    for name, gpus in one.capacity.items()
                ),
                pue_by_hour=tuple(values),
                pue_from_at=None if len(values) in (0, 24) else grid.origin_at,
                price_per_gpu_hour=one.price_per_gpu_hour,
                queue_wait_s=one.queue_wait,
            )
        )
    return Fleet(tuple(clusters))


def _reservations(
    asked: _Snapshot, grid: SlotGrid, fleet: Fleet, hardware: HardwareTable
) -> tuple[SlotGrid, Fleet, list[Reservation]]:
    """On slots as fine as their times, a minute at least."""
    made = []
    for index, one in enumerate(asked.clusters):
        for number, held in enumerate(one.reserved):
            field = f"clusters.{index}.reserved.{number}"
            if held.end < held.start:
                raise InvalidDataError(
                    f"{field}.end: {format_instant(held.end)} is before the start, {format_instant(held.start)}",
                    field=f"{field}.end",
                    value=format_instant(held.end),
                )
            made.append(
                Reservation(
                    cluster_id=one.id,
                    accelerator=hardware.get(held.accelerator, field=f"{field}.accelerator").name,
                    gpus=held.gpus,
                    window=Window(held.start, held.end),
                )
            )
    times = {at for one in made for at in (one.window.start_at, one.window.end_at)}
    exact_s = math.gcd(grid.slot_s, *(grid.offset_down_s(at) for at in times))
    return grid.finer(max(exact_s, _FINEST_S)), fleet, made


def _forecast(asked: _Snapshot, grid: SlotGrid, fleet: Fleet) -> ForecastMatrix:
    matrix = build_matrix(grid, {zone: [_series(asked, zone)] for zone in fleet.zone_ids})
    found = [asked.intensity[zone] for zone in fleet.zone_ids]
    errors, shares = None, None
    if any(one.p10 is not None or one.p90 is not None for one in found):
        errors = np.array([_errors(asked, zone, grid) for zone in fleet.zone_ids])
    if any(one.renewable_share is not None for one in found):
        shares = np.array(
            [_on_grid(asked, zone, "renewable_share", grid, most=1.0) for zone in fleet.zone_ids]
        )
    exact = [_on_grid(asked, zone, "g_per_kwh", grid, most=math.inf) for zone in fleet.zone_ids]
    return replace(
        matrix,
        error_mg=errors,
        renewable_share=shares,
        unrounded_mg=np.nan_to_num(np.array(exact)) * 1000,
    )


def _series(asked: _Snapshot, zone_id: str) -> IntensitySeries:
    given = asked.intensity.get(zone_id)
    if given is None:
        raise InvalidDataError(
            f"intensity: zone {zone_id!r} is missing; {suggest(zone_id, asked.intensity)}",
            field="intensity",
            value=zone_id,
        )
    known = Provenance(
        source="snapshot", signal=given.signal, scope=given.scope, quality=Quality.FORECAST
    )
    edges_s = int(given.start.timestamp()) + np.arange(len(given.g_per_kwh) + 1) * given.step
    try:
        return IntensitySeries.from_g_per_kwh(zone_id, edges_s, np.array(given.g_per_kwh), known)
    except ForecastRejectedError as error:
        raise InvalidDataError(
            f"intensity.{zone_id}.g_per_kwh: {error.message}", field=f"intensity.{zone_id}"
        ) from error


def _errors(asked: _Snapshot, zone_id: str, grid: SlotGrid) -> Floats:
    """Standard deviation of the forecast in mg/kWh, from its quantiles; 0 where they are not known."""
    low = _on_grid(asked, zone_id, "p10", grid, most=math.inf)
    high = _on_grid(asked, zone_id, "p90", grid, most=math.inf)
    if (high < low).any():
        raise InvalidDataError(
            f"intensity.{zone_id}.p90: below p10 in slot {int((high < low).argmax())}",
            field=f"intensity.{zone_id}.p90",
        )
    return np.nan_to_num((high - low) * 1000 / _SIGMAS_P10_P90)


def _on_grid(asked: _Snapshot, zone_id: str, name: str, grid: SlotGrid, *, most: float) -> Floats:
    """A column beside g_per_kwh as means of slots, NaN where it is not known."""
    given = asked.intensity[zone_id]
    values = getattr(given, name)
    if values is None:
        return np.full(grid.n_slots, np.nan)
    column = np.array(values)
    if len(column) != len(given.g_per_kwh) or (column < 0).any() or (column > most).any():
        raise InvalidDataError(
            f"intensity.{zone_id}.{name}: it must have {len(given.g_per_kwh)} values, as g_per_kwh has, "
            f"from 0{'' if math.isinf(most) else f' to {most:g}'}",
            field=f"intensity.{zone_id}.{name}",
            value=len(column),
        )
    edges_s = int(given.start.timestamp()) + np.arange(len(column) + 1) * given.step
    known = np.concatenate(([0.0], np.cumsum(np.nan_to_num(column) * given.step)))
    gaps = np.concatenate(([0.0], np.cumsum(np.isnan(column) * given.step)))
    at_s = int(grid.origin_at.timestamp()) + np.arange(grid.n_slots + 1) * grid.slot_s
    inside = (at_s[:-1] >= edges_s[0]) & (at_s[1:] <= edges_s[-1])
    means = np.diff(np.interp(at_s, edges_s, known)) / grid.slot_s
    is_known = inside & (np.diff(np.interp(at_s, edges_s, gaps)) == 0)
    return np.where(is_known, means, np.nan)
