"""Planning a file without a service: `gridtide/snapshot/v1` in, `gridtide/plan/v1` out."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from scheduler.core.baseline import freeze_baseline
from scheduler.core.capacity import Reservation, build_capacity
from scheduler.core.errors import (
    ForecastRejectedError,
    InvalidDataError,
    InvalidInputError,
    InvalidJobError,
)
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.forecast import (
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
    build_matrix,
)
from scheduler.core.hardware import Accelerator, HardwareTable
from scheduler.core.job import Placement
from scheduler.core.names import suggest
from scheduler.core.planner.explain import chosen_sentence
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import (
    Choice,
    PlanRequest,
    PlanSnapshot,
    choices_of,
    request_of,
)
from scheduler.core.timegrid import SlotGrid, Window, format_instant
from scheduler.server.schemas import (
    DurationS,
    Instant,
    JobSpec,
    build_job,
    describe_errors,
    parse_job_spec,
)

SCHEMA: Final = "gridtide/snapshot/v1"
Document = dict[str, Any]


def _grams(value: object) -> object:
    """Gaps as NaN: null means unknown, never zero."""
    return (
        [float("nan") if one is None else one for one in value]
        if isinstance(value, list)
        else value
    )


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Reserved(_Strict):
    accelerator: str
    gpus: int = Field(ge=0)
    start: Instant
    end: Instant


class _Cluster(_Strict):
    id: str = Field(min_length=1)
    region: str = Field(min_length=1)
    zone: str = Field(min_length=1)
    pue: float = Field(default=1.2, ge=1, le=5, allow_inf_nan=False)
    capacity: dict[str, Annotated[int, Field(ge=0)]]
    reserved: list[_Reserved] = Field(default_factory=list)
    price_per_gpu_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class _Intensity(_Strict):
    signal: SignalKind = SignalKind.AVERAGE
    scope: Scope = Scope.LIFECYCLE
    start: Instant
    step: DurationS
    g_per_kwh: Annotated[list[float], BeforeValidator(_grams)] = Field(min_length=1)


class _Snapshot(_Strict):
    now: Instant
    slot: DurationS
    horizon: DurationS
    clusters: list[_Cluster]
    intensity: dict[str, _Intensity]
    jobs: list[Document]


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
class Timing:
    """A limit in seconds on the search, and the clock that it is measured on."""

    limit_s: float | None = None
    monotonic: Callable[[], float] = time.monotonic


def plan_file(
    document: object, hardware: HardwareTable, *, seed: int = 0, timing: Timing | None = None
) -> Document:
    """The plan of a snapshot document.

    Raises:
        InvalidDataError: naming the first wrong field.
    """
    timing = timing or Timing()
    began = timing.monotonic()
    snapshot, refused = read_snapshot(document, hardware)
    read_s = timing.monotonic() - began
    plan = build_plan(
        snapshot,
        seed=seed,
        is_over=lambda: timing.limit_s is not None and timing.monotonic() - began > timing.limit_s,
    )
    planned_s = timing.monotonic() - began - read_s
    search, asked = WindowSearch(snapshot), {one.job_id: one for one in snapshot.requests}
    placements = [_placement(one, search, asked[one.job_id]) for one in plan.placements]
    return {
        "schema": "gridtide/plan/v1",
        "emissions_g": plan.emissions_g,
        "baseline_g": sum(one["baseline_g"] or 0.0 for one in placements),
        "lower_bound_g": plan.lower_bound_g,
        "gap": plan.gap,
        "placements": placements,
        "unplaced": [
            {
                "job": one.job_id,
                "reason": str(one.reason),
                "detail": one.detail,
                "earliest_finish": one.earliest_finish_at
                and format_instant(one.earliest_finish_at),
            }
            for one in plan.unplaced
        ]
        + refused,
        "seconds": {
            "total": timing.monotonic() - began,
            "read": read_s,
            "plan": planned_s,
        },
    }


def read_snapshot(document: object, hardware: HardwareTable) -> tuple[PlanSnapshot, list[Document]]:
    """The planner's snapshot, and the jobs that are past their deadline as `unplaced` entries.

    Raises:
        InvalidDataError: naming the first wrong field.
    """
    asked = _checked(document)
    known = _FileHardware(hardware, [name for one in asked.clusters for name in one.capacity])
    grid = SlotGrid.around(asked.now, slot_s=asked.slot, horizon_s=asked.horizon)
    fleet = Fleet(
        tuple(
            Cluster(
                cluster_id=one.id,
                region_id=one.region,
                zone_id=one.zone,
                pue=one.pue,
                capacity=tuple((known.get(name).name, gpus) for name, gpus in one.capacity.items()),
            )
            for one in asked.clusters
        )
    )
    reservations = [
        Reservation(
            cluster_id=one.id,
            accelerator=known.get(held.accelerator).name,
            gpus=held.gpus,
            window=Window(held.start, held.end),
        )
        for one in asked.clusters
        for held in one.reserved
    ]
    requests, refused = _requests(asked, fleet, known)
    snapshot = PlanSnapshot(
        now=asked.now,
        fleet=fleet,
        forecast=build_matrix(grid, {zone: _series(asked, zone) for zone in fleet.zone_ids}),
        capacity=build_capacity(grid, fleet, reservations),
        requests=requests,
    )
    return snapshot, refused


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


def _series(asked: _Snapshot, zone_id: str) -> list[IntensitySeries]:
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
        return [IntensitySeries.from_g_per_kwh(zone_id, edges_s, np.array(given.g_per_kwh), known)]
    except ForecastRejectedError as error:
        raise InvalidDataError(
            f"intensity.{zone_id}.g_per_kwh: {error.message}", field=f"intensity.{zone_id}"
        ) from error


def _requests(
    asked: _Snapshot, fleet: Fleet, hardware: HardwareTable
) -> tuple[tuple[PlanRequest, ...], list[Document]]:
    ids = Counter(str(one.get("id")) for one in asked.jobs)
    requests, refused = list[PlanRequest](), list[Document]()
    # Jobs that ask for the same hardware in the same places share one tuple of choices.
    shared: dict[object, tuple[Choice, ...]] = {}
    for index, given in enumerate(asked.jobs):
        job_id = given.get("id")
        if not isinstance(job_id, str) or not job_id or ids[job_id] > 1:
            why = "is used twice" if ids[str(job_id)] > 1 else "must be a text"
            raise InvalidDataError(
                f"jobs.{index}.id: {job_id!r} {why}", field=f"jobs.{index}.id", value=str(job_id)
            )
        try:
            spec = parse_job_spec(
                {"name": "job", "command": ["true"]}
                | {key: value for key, value in given.items() if key != "id"}
            )
            if spec.deadline is not None and spec.deadline <= max(
                asked.now, spec.not_before or asked.now
            ):
                refused.append(_past(job_id, spec))
                continue
            job = build_job(
                spec,
                job_id=job_id,
                now=asked.now,
                hardware=hardware,
                region_ids=fleet.region_ids,
            )
        except InvalidInputError as error:
            raise InvalidDataError(
                f"jobs.{index} ({job_id}): {error.message}", **error.fields
            ) from error
        key = (job.options, job.regions, job.forbid_regions, job.duration_p95_s)
        if key not in shared:
            shared[key] = choices_of(job, fleet)
        requests.append(request_of(job, shared[key]))
    return tuple(requests), refused


def _past(job_id: str, spec: JobSpec) -> Document:
    assert spec.deadline is not None
    return {
        "job": job_id,
        "reason": "PAST_DEADLINE",
        "detail": f"the deadline {format_instant(spec.deadline)} is not after the earliest start",
        "earliest_finish": None,
    }


def _placement(placement: Placement, search: WindowSearch, request: PlanRequest) -> Document:
    home = freeze_baseline(search, request, now=request.earliest_at)
    return {
        "job": placement.job_id,
        "cluster": placement.cluster_id,
        "accelerator": placement.accelerator,
        "segments": [
            {
                "start": format_instant(window.start_at),
                "end": format_instant(window.end_at),
                "gpus": placement.gpus,
            }
            for window in placement.segments
        ],
        "energy_kwh": placement.energy_kwh,
        "emissions_g": placement.planned_g,
        "baseline_g": home.planned_g,
        "reasons": [chosen_sentence(placement, home)],
    }
