"""Compiles the planner ahead of its first use: seconds on a new machine, once; afterwards a fraction of one."""

from datetime import UTC, datetime, timedelta

import numpy as np

from scheduler.core.capacity import build_capacity
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.forecast import (
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
    build_matrix,
)
from scheduler.core.job import JobId
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.snapshot import Choice, Plan, PlanRequest, PlanSnapshot
from scheduler.core.timegrid import SlotGrid

_START = datetime(2026, 1, 1, tzinfo=UTC)


def warm_up() -> Plan:
    """The plan of two jobs that want the same hour of the only device: it needs every kernel."""
    cluster = Cluster(
        cluster_id="warm", region_id="warm", zone_id="warm", pue=1.0, capacity=(("CPU", 1),)
    )
    fleet = Fleet((cluster,))
    grid = SlotGrid(_START, 3600, 3)
    known = Provenance(
        source="warm",
        signal=SignalKind.AVERAGE,
        scope=Scope.LIFECYCLE,
        quality=Quality.FORECAST,
    )
    edges_s = int(_START.timestamp()) + np.arange(4) * 3600
    series = IntensitySeries.from_g_per_kwh("warm", edges_s, np.array([3.0, 1.0, 2.0]), known)
    choice = Choice(
        cluster=cluster, option=0, accelerator="CPU", gpus=1, duration_s=3600, power_w=1000.0
    )
    requests = tuple(
        PlanRequest(
            job_id=JobId(name),
            choices=(choice,),
            earliest_at=_START,
            deadline_at=_START + timedelta(hours=3),
        )
        for name in ("a", "b")
    )
    return build_plan(
        PlanSnapshot(
            now=_START,
            fleet=fleet,
            forecast=build_matrix(grid, {"warm": [series]}),
            capacity=build_capacity(grid, fleet, []),
            requests=requests,
        )
    )
