"""Instances of the planning problem: real intensity, jobs by the recipe of the planning-limits study."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from scheduler.core.planner.snapshot import Choice, PlanRequest, PlanSnapshot
from scheduler.core.timegrid import SlotGrid, format_instant

START = datetime(2022, 3, 1, tzinfo=UTC)
KNOWN = Provenance(
    source="instance",
    signal=SignalKind.AVERAGE,
    scope=Scope.LIFECYCLE,
    quality=Quality.FORECAST,
)
CARBON = Path(__file__).parents[3] / "shared" / "data" / "carbon" / "emaps_2022.parquet"


@dataclass(frozen=True)
class Drawn:
    """One instance in columns; times in whole hours, one row a region."""

    g_per_kwh: NDArray[np.float64]  # (rows, hours)
    pue: NDArray[np.float64]  # (rows,)
    capacity: NDArray[np.int64]  # (rows,)
    arrival: NDArray[np.int64]
    duration: NDArray[np.int64]
    gpus: NDArray[np.int64]
    deadline: NDArray[np.int64]
    watts_per_gpu: float = 700.0


def draw(seed: int, *, jobs: int, rows: int, hours: int, utilisation: float) -> Drawn:
    """Durations lognormal (median 4 h, at most 24 h), 1 to 32 GPUs, slack 6, 12, 24 or 48 h, PUE 1.08 to 1.45."""
    rng = np.random.default_rng(seed)
    table = pd.read_parquet(CARBON).pivot_table(
        index="time", columns="zone", values="g_per_kwh", observed=True
    )
    zones = rng.choice(table.shape[1], rows, replace=rows > table.shape[1])
    start = int(rng.integers(0, len(table) - hours))
    g_per_kwh = table.to_numpy()[start : start + hours, zones].T
    duration = np.clip(np.rint(rng.lognormal(np.log(4), 0.9, jobs)), 1, 24).astype(np.int64)
    gpus = 2 ** rng.integers(0, 6, jobs)
    slack = rng.choice([6, 12, 24, 48], jobs)
    arrival = rng.integers(0, max(1, int(hours * 0.6)), jobs)
    deadline = np.minimum(arrival + duration + slack, hours)
    arrival = np.minimum(arrival, deadline - duration)
    asked = float((duration * gpus).sum())
    share = rng.dirichlet(np.full(rows, 2.0))
    capacity = np.maximum(32, np.rint(share * asked / utilisation / hours)).astype(np.int64)
    return Drawn(
        g_per_kwh=np.ascontiguousarray(g_per_kwh, dtype=np.float64),
        pue=rng.uniform(1.08, 1.45, rows),
        capacity=capacity,
        arrival=arrival,
        duration=duration,
        gpus=gpus.astype(np.int64),
        deadline=deadline,
    )


def as_snapshot(drawn: Drawn) -> PlanSnapshot:
    """The instance as the planner gets it."""
    rows, hours = drawn.g_per_kwh.shape
    clusters = tuple(
        Cluster(
            cluster_id=f"c{row:02}",
            region_id=f"r{row:02}",
            zone_id=f"Z{row:02}",
            pue=float(drawn.pue[row]),
            capacity=(("H100", int(drawn.capacity[row])),),
        )
        for row in range(rows)
    )
    fleet = Fleet(clusters)
    grid = SlotGrid(START, 3600, hours)
    edges_s = int(START.timestamp()) + np.arange(hours + 1) * 3600
    forecast = build_matrix(
        grid,
        {
            cluster.zone_id: [
                IntensitySeries.from_g_per_kwh(cluster.zone_id, edges_s, g_per_kwh, KNOWN)
            ]
            for cluster, g_per_kwh in zip(clusters, drawn.g_per_kwh, strict=True)
        },
    )
    shared: dict[tuple[int, int], tuple[Choice, ...]] = {}
    requests = []
    for index in range(len(drawn.arrival)):
        key = int(drawn.duration[index]), int(drawn.gpus[index])
        if key not in shared:
            shared[key] = _choices(clusters, *key, drawn.watts_per_gpu)
        requests.append(
            PlanRequest(
                job_id=JobId(f"j{index:07}"),
                choices=shared[key],
                earliest_at=START + timedelta(hours=int(drawn.arrival[index])),
                deadline_at=START + timedelta(hours=int(drawn.deadline[index])),
            )
        )
    return PlanSnapshot(
        now=START,
        fleet=fleet,
        forecast=forecast,
        capacity=build_capacity(grid, fleet, []),
        requests=tuple(requests),
    )


def _choices(
    clusters: tuple[Cluster, ...], hours: int, gpus: int, watts: float
) -> tuple[Choice, ...]:
    return tuple(
        Choice(
            cluster=cluster,
            option=0,
            accelerator="H100",
            gpus=gpus,
            duration_s=hours * 3600,
            power_w=watts * gpus,
        )
        for cluster in clusters
    )


def as_document(drawn: Drawn) -> dict[str, Any]:
    """The instance as a snapshot file."""
    rows, hours = drawn.g_per_kwh.shape

    def at(hour: int) -> str:
        return format_instant(START + timedelta(hours=hour))

    return {
        "schema": "gridtide/snapshot/v1",
        "now": at(0),
        "slot": "1h",
        "horizon": f"{hours}h",
        "clusters": [
            {
                "id": f"c{row:02}",
                "region": f"r{row:02}",
                "zone": f"Z{row:02}",
                "pue": float(drawn.pue[row]),
                "capacity": {"H100": int(drawn.capacity[row])},
            }
            for row in range(rows)
        ],
        "intensity": {
            f"Z{row:02}": {"start": at(0), "step": "1h", "g_per_kwh": values.tolist()}
            for row, values in enumerate(drawn.g_per_kwh)
        },
        "jobs": [
            {
                "id": f"j{index:07}",
                "duration": f"{drawn.duration[index]}h",
                "not_before": at(int(drawn.arrival[index])),
                "deadline": at(int(drawn.deadline[index])),
                "resources": {"accelerators": f"H100:{drawn.gpus[index]}"},
                "power_w": drawn.watts_per_gpu * int(drawn.gpus[index]),
            }
            for index in range(len(drawn.arrival))
        ],
    }
