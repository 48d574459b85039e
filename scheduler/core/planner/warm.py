"""Compiles the planner ahead of its first use: seconds on a new machine, once; afterwards a fraction of one."""

from dataclasses import replace
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
from scheduler.core.terms import Elastic, Interruptible, Width
from scheduler.core.timegrid import SlotGrid

_START = datetime(2026, 1, 1, tzinfo=UTC)


def warm_up() -> Plan:
    """The plan of jobs of every kind that want the same hour of the only device: it needs every kernel."""
    cluster = Cluster(
        cluster_id="warm", region_id="warm", zone_id="warm", pue=1.0, capacity=(("CPU", 1),)
    )
    fleet = Fleet((cluster,))
    grid = SlotGrid(_START, 3600, 6)
    known = Provenance(
        source="warm",
        signal=SignalKind.AVERAGE,
        scope=Scope.LIFECYCLE,
        quality=Quality.FORECAST,
    )
    edges_s = int(_START.timestamp()) + np.arange(7) * 3600
    series = IntensitySeries.from_g_per_kwh(
        "warm", edges_s, np.array([3.0, 1.0, 2.0, 1.0, 3.0, 2.0]), known
    )
    choice = Choice(
        cluster=cluster, option=0, accelerator="CPU", gpus=1, duration_s=4500, power_w=1000.0
    )
    whole = PlanRequest(
        job_id=JobId("whole"),
        choices=(choice,),
        earliest_at=_START,
        deadline_at=_START + timedelta(hours=6),
    )
    pauses = Interruptible(min_chunk_s=1800, checkpoint_cost_s=900)
    grows = Elastic(widths=(Width(gpus=1, throughput=1.0, power_w=1000.0),))
    requests = (
        whole,
        replace(whole, job_id=JobId("whole-too")),
        replace(whole, job_id=JobId("pauses"), interruptible=pauses),
        replace(whole, job_id=JobId("grows"), elastic=grows),
        # More than there is room for: someone has to make room.
        replace(whole, job_id=JobId("more"), deadline_at=_START + timedelta(hours=3)),
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
