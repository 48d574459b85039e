"""Small fleets, forecasts and requests for tests of the core."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from scheduler.core.capacity import Reservation, build_capacity
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.forecast import (
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
    build_matrix,
)
from scheduler.core.job import Baseline, Job, JobId, JobRecord, JobState, Placement, Run
from scheduler.core.planner.snapshot import Choice, Plan, PlanRequest, PlanSnapshot
from scheduler.core.terms import ResourceOption
from scheduler.core.timegrid import SlotGrid, Window

T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = 3600


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def provenance(source: str = "made", **fields: object) -> Provenance:
    known: dict[str, object] = {
        "signal": SignalKind.AVERAGE,
        "scope": Scope.LIFECYCLE,
        "quality": Quality.FORECAST,
    }
    return Provenance(source=source, **(known | fields))  # type: ignore[arg-type]


def series(
    g_per_kwh: Sequence[float],
    *,
    zone: str = "DE",
    step_s: int = HOUR,
    start: datetime = T0,
    source: str = "made",
    **fields: object,
) -> IntensitySeries:
    edges_s = int(start.timestamp()) + np.arange(len(g_per_kwh) + 1) * step_s
    return IntensitySeries.from_g_per_kwh(
        zone, edges_s, np.array(g_per_kwh, dtype=float), provenance(source, **fields)
    )


def cluster(
    zone: str = "DE",
    *,
    gpus: int = 1,
    pue: float = 1.0,
    name: str | None = None,
    **fields: object,
) -> Cluster:
    return Cluster(
        cluster_id=name or f"c-{zone.lower()}",
        region_id=f"r-{zone.lower()}",
        zone_id=zone,
        pue=pue,
        capacity=(("H100", gpus),),
        **fields,  # type: ignore[arg-type]
    )


def request(
    name: str = "job",
    clusters: Sequence[Cluster] = (cluster(),),
    *,
    hours: float = 2,
    earliest: float = 0,
    deadline: float = 24,
    start_by: float | None = None,
    gpus: int = 1,
    margin_h: float = 0,
    power_w: float = 1000.0,
    **fields: object,
) -> PlanRequest:
    """A job on one option; `power_w` is that of a device, `fields` are the other terms of the request."""
    return PlanRequest(
        job_id=JobId(name),
        choices=tuple(
            Choice(
                cluster=one,
                option=0,
                accelerator="H100",
                gpus=gpus,
                duration_s=round(hours * HOUR),
                power_w=power_w * gpus,
                margin_s=round(margin_h * HOUR),
            )
            for one in clusters
        ),
        earliest_at=at(earliest),
        deadline_at=at(deadline),
        start_by_at=None if start_by is None else at(start_by),
        **fields,  # type: ignore[arg-type]
    )


def snapshot(
    g_by_zone: Mapping[str, Sequence[float]],
    requests: Sequence[PlanRequest] = (),
    *,
    clusters: Sequence[Cluster] | None = None,
    reserved: Sequence[Reservation] = (),
    hours: int = 48,
    slot_s: int = HOUR,
    now: float = 0,
    is_fail_open: bool = False,
) -> PlanSnapshot:
    fleet = Fleet(tuple(clusters or (cluster(zone) for zone in g_by_zone)))
    grid = SlotGrid(T0, slot_s, hours * HOUR // slot_s)
    forecast = build_matrix(
        grid, {zone: [series(g, zone=zone)] if len(g) else [] for zone, g in g_by_zone.items()}
    )
    return PlanSnapshot(
        now=at(now),
        fleet=fleet,
        forecast=forecast,
        capacity=build_capacity(grid, fleet, reserved),
        requests=tuple(requests),
        is_fail_open=is_fail_open,
    )


def with_errors(made: PlanSnapshot, *g_by_slot: Sequence[float]) -> PlanSnapshot:
    """The snapshot with standard deviations of the forecast's errors in g/kWh, zone by zone; 0 in slots not named."""
    error_mg = np.zeros(made.forecast.mg_per_kwh.shape)
    for zone, values in enumerate(g_by_slot):
        error_mg[zone, : len(values)] = np.array(values) * 1000
    return replace(made, forecast=replace(made.forecast, error_mg=error_mg))


def hours_of(placement: Placement) -> list[tuple[float, float]]:
    """Start and end of each segment in hours from the beginning."""
    return [
        ((one.start_at - T0) / timedelta(hours=1), (one.end_at - T0) / timedelta(hours=1))
        for one in placement.segments
    ]


def place_of(plan: Plan, name: str) -> Placement:
    """Where a job of the plan is."""
    return next(one for one in plan.placements if one.job_id == name)


def reservation(start: float, end: float, *, gpus: int = 1, name: str = "c-de") -> Reservation:
    return Reservation(
        cluster_id=name, accelerator="H100", gpus=gpus, window=Window(at(start), at(end))
    )


def option(**fields: object) -> ResourceOption:
    known: dict[str, object] = {
        "accelerator": "H100",
        "gpus": 1,
        "duration_s": 4 * HOUR,
        "power_w": 1000.0,
        "is_power_estimated": False,
    }
    return ResourceOption(**(known | fields))  # type: ignore[arg-type]


def job(**fields: object) -> Job:
    known: dict[str, object] = {
        "job_id": JobId("j"),
        "name": "train",
        "command": ("true",),
        "submitted_at": T0,
        "earliest_start_at": T0,
        "deadline_at": at(24),
        "options": (option(),),
    }
    return Job(**(known | fields))  # type: ignore[arg-type]


def baseline(**fields: object) -> Baseline:
    known: dict[str, object] = {
        "cluster_id": "c-de",
        "region_id": "r-de",
        "zone_id": "DE",
        "accelerator": "H100",
        "gpus": 1,
        "power_w": 1000.0,
        "pue": 1.0,
        "window": Window(T0, at(4)),
        "planned_g": 1600.0,
    }
    return Baseline(**(known | fields))  # type: ignore[arg-type]


def record(
    state: JobState = JobState.SUCCEEDED, runs: Sequence[Run] = (), **fields: object
) -> JobRecord:
    known: dict[str, object] = {
        "job": job(),
        "state": state,
        "version": 1,
        "updated_at": T0,
        "baseline": baseline(),
        "runs": tuple(runs),
    }
    return JobRecord(**(known | fields))  # type: ignore[arg-type]


def run(start: float, end: float, **fields: object) -> Run:
    known: dict[str, object] = {
        "attempt": 1,
        "segment": 0,
        "cluster_id": "c-de",
        "option": 0,
        "power_w": 1000.0,
        "pue": 1.0,
        "spans": (Window(at(start), at(end)),),
        "is_ended": True,
        "exit_code": 0,
    }
    return Run(**(known | fields))  # type: ignore[arg-type]
