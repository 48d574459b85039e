"""Reading a snapshot of a queue: `gridtide/snapshot/v1` becomes what the planner reads."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from scheduler.core.capacity import Reservation, build_capacity
from scheduler.core.data_moves import DataMoves
from scheduler.core.errors import (
    ForecastRejectedError,
    InvalidDataError,
    InvalidInputError,
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
from scheduler.core.job import JobId
from scheduler.core.names import suggest
from scheduler.core.planner.chains import find_cycle
from scheduler.core.planner.snapshot import (
    Choice,
    PlanRequest,
    PlanSnapshot,
    choices_of,
    request_of,
)
from scheduler.core.timegrid import SlotGrid, Window, format_instant, parse_instant
from scheduler.core.units import SECONDS_PER_HOUR
from scheduler.server.schemas import (
    DurationS,
    Instant,
    JobSpec,
    ZeroOrDurationS,
    build_job,
    describe_errors,
    parse_job_spec,
    require_prices,
)

SCHEMA: Final = "gridtide/snapshot/v1"
_MOST_DEVICES: Final = 1_000_000_000
_FINEST_S: Final = 60
"""Shortest slots on which reservations are counted."""
_SIGMAS_P10_P90: Final = 2.563
"""Standard deviations of a normal distribution between its 10 % and 90 % quantiles."""
_TIMES: Final[tuple[str, ...]] = ("deadline", "not_before", "start_by")
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Reserved(_Strict):
    accelerator: str
    gpus: int = Field(ge=0, le=_MOST_DEVICES)
    start: Instant
    end: Instant


class _Cluster(_Strict):
    id: str = Field(min_length=1)
    region: str = Field(min_length=1)
    zone: str = Field(min_length=1)
    pue: Pue | Annotated[list[Pue], Field(min_length=1)] = 1.2
    capacity: dict[str, Annotated[int, Field(ge=0, le=_MOST_DEVICES)]]
    reserved: list[_Reserved] = Field(default_factory=list)
    price_per_gpu_hour: Amount | None = None
    queue_wait: ZeroOrDurationS = 0


class _Intensity(_Strict):
    signal: SignalKind = SignalKind.AVERAGE
    scope: Scope = Scope.LIFECYCLE
    start: Instant
    step: DurationS
    g_per_kwh: Gapped = Field(min_length=1)
    p10: Gapped | None = None
    p90: Gapped | None = None
    renewable_share: Gapped | None = None


class _DataMoves(_Strict):
    kwh_per_gb: Amount = DataMoves().kwh_per_gb
    gb_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = DataMoves().gb_per_s
    price_per_gb: Amount = DataMoves().price_per_gb


class _Snapshot(_Strict):
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
    requests, refused = _Jobs(asked.now, fleet, known, moves).read(asked.jobs)
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


class _Jobs:
    """Reads jobs. Those that differ in id and times alone are looked into once."""

    def __init__(
        self, now: datetime, fleet: Fleet, hardware: HardwareTable, moves: DataMoves
    ) -> None:
        self._now: Final = now
        self._fleet: Final = fleet
        self._hardware: Final = hardware
        self._moves: Final = moves
        self._seen: Final[dict[object, PlanRequest]] = {}
        self._choices: Final[dict[object, tuple[Choice, ...]]] = {}
        self._instants: Final[dict[str, datetime]] = {}

    def read(self, jobs: list[Document]) -> tuple[tuple[PlanRequest, ...], list[Document]]:
        """The requests, and those past their deadline as `unplaced` entries."""
        requests, refused, ids = list[PlanRequest](), list[Document](), set[str]()
        for index, given in enumerate(jobs):
            job_id = given.get("id")
            is_text = isinstance(job_id, str) and job_id != "" and job_id.isprintable()
            if not isinstance(job_id, str) or not is_text or job_id in ids:
                why = "is used twice" if is_text else "must be a text of printable characters"
                raise InvalidDataError(
                    f"jobs.{index}.id: {job_id!r} {why}",
                    field=f"jobs.{index}.id",
                    value=str(job_id),
                )
            ids.add(job_id)
            try:
                found = self._request(job_id, given)
            except InvalidInputError as error:
                raise InvalidDataError(
                    f"jobs.{index} ({job_id}): {error.message}", **error.fields
                ) from error
            if isinstance(found, PlanRequest):
                requests.append(found)
            else:
                refused.append(found)
        _require_order(jobs, ids)
        return _without_orphans(requests, refused), refused

    def _request(self, job_id: str, given: Document) -> PlanRequest | Document:
        key = _key(given)
        like = self._seen.get(key)
        if like is not None:
            at = {name: self._instant(given[name], name) for name in _TIMES if name in given}
            past = self._past(job_id, at.get("deadline"), at.get("not_before"))
            return past or self._again(job_id, at, like)
        spec = parse_job_spec(
            {"name": "job", "command": ["true"]}
            | {name: value for name, value in given.items() if name != "id"}
        )
        past = self._past(job_id, spec.deadline, spec.not_before)
        if past is not None:
            return past
        self._seen[key] = request = self._first(job_id, spec)
        return request

    def _instant(self, value: object, field: str) -> datetime:
        """The instant of a text; most stand in many jobs."""
        known = self._instants.get(value) if isinstance(value, str) else None
        if known is None:
            if not isinstance(value, str):
                raise InvalidJobError(
                    f"{field}: {value!r} is not an ISO 8601 time", field=field, value=str(value)
                )
            known = self._instants[value] = parse_instant(value, field=field)
        return known

    def _past(
        self, job_id: str, deadline: datetime | None, not_before: datetime | None
    ) -> Document | None:
        """The `unplaced` entry of a job whose deadline is not after its earliest start."""
        if deadline is None or deadline > max(self._now, not_before or self._now):
            return None
        return {
            "job": job_id,
            "reason": "PAST_DEADLINE",
            "detail": f"the deadline {format_instant(deadline)} is not after the earliest start",
            "earliest_finish": None,
        }

    def _first(self, job_id: str, spec: JobSpec) -> PlanRequest:
        job = build_job(
            spec,
            job_id=job_id,
            now=self._now,
            hardware=self._hardware,
            region_ids=self._fleet.region_ids,
        )
        require_prices(job, self._fleet)
        key = (
            job.options,
            job.regions,
            job.forbid_regions,
            job.duration_p95_s,
            job.elastic,
            job.data,
        )
        if key not in self._choices:
            self._choices[key] = choices_of(job, self._fleet, self._moves)
        return request_of(job, self._choices[key])

    def _again(self, job_id: str, at: Mapping[str, datetime], like: PlanRequest) -> PlanRequest:
        """A job like another one, at other times."""
        earliest_at = max(self._now, at.get("not_before", self._now))
        start_by_at = at.get("start_by")
        if start_by_at is not None and start_by_at < earliest_at:
            raise InvalidJobError(
                f"start_by: {format_instant(start_by_at)!r} is not valid; it must be "
                f"{format_instant(earliest_at)} or later",
                field="start_by",
                value=format_instant(start_by_at),
            )
        return PlanRequest(
            job_id=JobId(job_id),
            choices=like.choices,
            earliest_at=earliest_at,
            deadline_at=at.get("deadline", like.deadline_at),
            start_by_at=start_by_at,
            priority=like.priority,
            interruptible=like.interruptible,
            elastic=like.elastic,
            limits=like.limits,
            after=like.after,
        )


def _without_orphans(
    requests: Sequence[PlanRequest], refused: list[Document]
) -> tuple[PlanRequest, ...]:
    """The requests less those that wait for a refused one, which are refused too."""
    gone = {one["job"] for one in refused}
    if not gone:
        return tuple(requests)
    while True:
        orphans = [one for one in requests if one.job_id not in gone and gone & set(one.after)]
        if not orphans:
            return tuple(one for one in requests if one.job_id not in gone)
        for one in orphans:
            missing = ", ".join(sorted(gone & set(one.after)))
            gone.add(one.job_id)
            refused.append(
                {
                    "job": one.job_id,
                    "reason": "AFTER_UNPLACED",
                    "detail": f"it waits for {missing}, which has no place",
                    "earliest_finish": None,
                }
            )


def _key(given: Document) -> tuple[object, ...]:
    """What two jobs share that differ in id and times alone; they state the same kinds of times."""
    return tuple(
        (name, "" if name in _TIMES else repr(value))
        for name, value in sorted(given.items())
        if name != "id"
    )


def _require_order(jobs: list[Document], ids: set[str]) -> None:
    """Refuses jobs that wait for others that are not in the file, or for each other."""
    after = {one["id"]: one["after"] for one in jobs if one.get("after")}
    for job_id, others in after.items():
        for other in others:
            if other not in ids:
                raise InvalidDataError(
                    f"after of {job_id}: {other!r} is not a job of this file; {suggest(other, ids)}",
                    field="after",
                    value=other,
                )
    circle = find_cycle(after)
    if circle is not None:
        named = " -> ".join(circle)
        raise InvalidDataError(
            f"after: jobs wait for each other in a circle: {named}", field="after", value=named
        )
