"""The counterfactual of a job: run whole, at once, at home."""

from dataclasses import replace
from datetime import datetime, timedelta

from scheduler.core.errors import InfeasibleError
from scheduler.core.job import Baseline
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import PlanRequest
from scheduler.core.timegrid import Window


def freeze_baseline(search: WindowSearch, request: PlanRequest, *, now: datetime) -> Baseline:
    """Run-now at home, from the job's earliest start (or now), capacity ignored.

    Home is the first cluster of the fleet that the first usable option may use.

    Raises:
        InfeasibleError: no cluster may run the job at all.
    """
    if not request.choices:
        raise InfeasibleError(f"job {request.job_id}: no cluster may run it", job_id=request.job_id)
    home = request.choices[0]
    start_at = max(now, request.earliest_at)
    if start_at != request.earliest_at:
        request = replace(request, earliest_at=start_at)
    placed = search.at(request, home)
    window = Window(start_at, start_at + timedelta(seconds=home.duration_s))
    return Baseline(
        cluster_id=home.cluster.cluster_id,
        region_id=home.cluster.region_id,
        zone_id=home.cluster.zone_id,
        accelerator=home.accelerator,
        gpus=home.gpus,
        power_w=home.power_w,
        pue=home.cluster.pue,
        window=window,
        planned_g=placed.planned_g if placed else None,
    )
