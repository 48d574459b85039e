"""Planning a file without a service: `gridtide/snapshot/v1` in, `gridtide/plan/v1` out."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scheduler.core.data_moves import DataMoves
from scheduler.core.hardware import HardwareTable
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.crowd import Crowd
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.sentences import saving_sentence
from scheduler.core.planner.snapshot import (
    Plan,
    PlanRequest,
    PlanSnapshot,
    Unplaced,
    Watch,
)
from scheduler.core.timegrid import format_instant
from scheduler.server.snapshot_files import read_snapshot

Document = dict[str, Any]


def _tell_nobody(stage: str, share: float) -> None:
    """No progress is shown."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A limit in seconds on the search, the clock that it is measured on, and who is told how far it is."""

    limit_s: float | None = None
    monotonic: Callable[[], float] = time.monotonic
    tell: Callable[[str, float], None] = _tell_nobody


def plan_file(
    document: object, hardware: HardwareTable, *, seed: int = 0, timing: Timing | None = None
) -> Document:
    """The plan of a snapshot document.

    Raises:
        InvalidDataError: naming the first wrong field.
    """
    timing = timing or Timing()
    began = timing.monotonic()
    timing.tell("reading", 0.0)
    file = read_snapshot(document, hardware)
    read_s = timing.monotonic() - began

    def is_over() -> bool:
        return timing.limit_s is not None and timing.monotonic() - began > timing.limit_s

    plan = build_plan(file.snapshot, seed=seed, watch=Watch(is_over, timing.tell))
    planned_s = timing.monotonic() - began - read_s
    timing.tell("writing", 0.0)
    written = plan_document(file.snapshot, plan, file.moves)
    written["unplaced"] += file.refused
    total_s = timing.monotonic() - began
    written["seconds"] = {
        "total": total_s,
        "read": read_s,
        "plan": planned_s,
        "write": total_s - read_s - planned_s,
    }
    return written


def plan_document(snapshot: PlanSnapshot, plan: Plan, moves: DataMoves) -> Document:
    """The plan as users read it."""
    asked = {one.job_id: one for one in snapshot.requests}
    requests = [asked[one.job_id] for one in plan.placements]
    baselines = _baselines(snapshot, requests)
    crowd = Crowd(snapshot, plan)
    placements = [
        _placement(placement, baselines.get(placement.job_id), crowd, request)
        for placement, request in zip(plan.placements, requests, strict=True)
    ]
    return {
        "schema": "gridtide/plan/v1",
        "emissions_g": plan.emissions_g,
        "baseline_g": sum(one["baseline_g"] or 0.0 for one in placements),
        "lower_bound_g": plan.lower_bound_g,
        "gap": plan.gap if math.isfinite(plan.gap) else None,
        "assumptions": {
            "data_kwh_per_gb": moves.kwh_per_gb,
            "data_gb_per_s": moves.gb_per_s,
            "data_price_per_gb": moves.price_per_gb,
        },
        "placements": placements,
        "unplaced": [_unplaced(one) for one in plan.unplaced],
    }


def _baselines(snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> dict[JobId, Placement]:
    """Each job whole from its earliest start, on the first cluster that it may use; none where no forecast covers it."""
    grid, forecast = snapshot.forecast.grid, snapshot.forecast
    homes = [one.choices[0] for one in requests]
    start_s = np.array(
        [grid.offset_up_s(max(one.earliest_at, snapshot.now)) for one in requests], dtype=np.int64
    )
    made = Footprints(snapshot).place_runs(requests, homes, start_s)
    known = {
        zone: bool((forecast.layer[row] >= 0).all()) for row, zone in enumerate(forecast.zone_ids)
    }
    return {
        job_id: one
        for job_id, one in made.items()
        if one.window.end_at <= grid.end_at
        and (known[one.zone_id] or forecast.provenance(one.zone_id, one.window) is not None)
    }


def _placement(
    placement: Placement, home: Placement | None, crowd: Crowd, request: PlanRequest
) -> Document:
    return {
        "job": placement.job_id,
        "cluster": placement.cluster_id,
        "accelerator": placement.accelerator,
        "segments": [
            {
                "start": format_instant(window.start_at),
                "end": format_instant(window.end_at),
                "gpus": gpus,
            }
            for window, gpus in placement.stretches
        ],
        "energy_kwh": placement.energy_kwh,
        "emissions_g": placement.planned_g,
        "baseline_g": None if home is None else home.planned_g,
        "cost": placement.cost,
        "reasons": [
            saving_sentence(
                placement,
                None if home is None else home.planned_g,
                request.choices[0].cluster.cluster_id,
            ),
            *crowd.sentences(placement),
        ],
    }


def _unplaced(one: Unplaced) -> Document:
    return {
        "job": one.job_id,
        "reason": str(one.reason),
        "detail": one.detail,
        "earliest_finish": one.earliest_finish_at and format_instant(one.earliest_finish_at),
    }
