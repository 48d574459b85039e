"""How the demo's saving depends on the hour at which it begins: its jobs planned from every hour of its data."""

import statistics
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

from adapters.grid.trace import TraceSource
from adapters.hardware_tables import load_hardware
from scheduler.core.baseline import freeze_baseline
from scheduler.core.capacity import build_capacity
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.forecast import Scope, SignalKind, build_matrix
from scheduler.core.job import JobId
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import Choice, PlanRequest, PlanSnapshot
from scheduler.core.timegrid import SlotGrid, Window
from scheduler.server.demo import JOBS, OVERHEAD_HOURS, DemoJob
from tests.benchmarks.measure import write

FIRST, DAYS, HORIZON_S = datetime(2021, 4, 9, tzinfo=UTC), 8, 4 * 86_400
FLEET = Fleet(
    (
        Cluster(
            cluster_id="frankfurt",
            region_id="eu-de",
            zone_id="DE",
            pue=1.2,
            capacity=(("A100", 16),),
        ),
        Cluster(
            cluster_id="austin",
            region_id="us-tex",
            zone_id="US-TEX-ERCO",
            pue=1.3,
            capacity=(("A100", 16),),
        ),
    )
)


def run() -> None:
    """Writes the least, median and largest share saved over all hours of the first eight days."""
    path = Path(str(files("configs").joinpath("intensity/demo_2021.csv")))
    trace = TraceSource(path, name="demo", signal=SignalKind.AVERAGE, scope=Scope.LIFECYCLE)
    shares = [_saved_share(trace, FIRST + timedelta(hours=hour)) for hour in range(24 * DAYS)]
    write(
        "demo_hours",
        {"least": min(shares), "median": statistics.median(shares), "most": max(shares)},
        {"hours": len(shares), "from": FIRST.isoformat(), "forecast": "perfect"},
    )


def _saved_share(trace: TraceSource, origin: datetime) -> float:
    grid = SlotGrid.around(origin, slot_s=900, horizon_s=HORIZON_S)
    window = Window(grid.origin_at, grid.end_at)
    forecast = build_matrix(
        grid,
        {zone: [trace.fetch_forecast(zone, Scope.LIFECYCLE, window)] for zone in FLEET.zone_ids},
    )
    watts = load_hardware().power_w("A100", 1)
    possible = [job for job in JOBS if job.patience_hours > 0]
    snapshot = PlanSnapshot(
        now=origin,
        fleet=FLEET,
        forecast=forecast,
        capacity=build_capacity(grid, FLEET, []),
        requests=tuple(_request(job, origin, watts) for job in possible),
    )
    plan = build_plan(snapshot)
    placed = {placement.job_id for placement in plan.placements}
    # A job that found no room before its deadline is left out on both sides.
    asked = [request for request in snapshot.requests if request.job_id in placed]
    search = WindowSearch(snapshot)
    at_once = sum(freeze_baseline(search, request, now=origin).planned_g or 0 for request in asked)
    return 1 - sum(placement.planned_g or 0 for placement in plan.placements) / at_once


def _request(job: DemoJob, origin: datetime, watts: float) -> PlanRequest:
    duration_s = round((job.hours + OVERHEAD_HOURS) * 3600)
    earliest = origin + timedelta(hours=job.submit_at_hours)
    choice = Choice(
        cluster=FLEET.clusters[0],
        option=0,
        accelerator="A100",
        gpus=job.gpus,
        duration_s=duration_s,
        power_w=watts * job.gpus,
        margin_s=3600,
    )
    return PlanRequest(
        job_id=JobId(job.name),
        choices=tuple(replace(choice, cluster=cluster) for cluster in FLEET),
        earliest_at=earliest,
        deadline_at=earliest + timedelta(seconds=duration_s, hours=job.patience_hours),
    )
