"""JSON documents that the service answers with. Times in UTC with Z, intensities in g/kWh."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.cluster.kube_manifests import overruled, parse_manifest
from scheduler.core.forecast import IntensitySeries, Provenance, build_matrix
from scheduler.core.forecasting.scores import Score
from scheduler.core.job import Baseline, Job, JobRecord, Placement, Run
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.core.planner.explain import Explanation
from scheduler.core.slurm_terms import JobSlurm
from scheduler.core.timegrid import SlotGrid, Window, format_instant
from scheduler.core.units import format_duration
from scheduler.ports import Event, SourceInfo
from scheduler.service.forecaster import SourceStatus

Document = dict[str, Any]


def job_view(record: JobRecord) -> Document:
    """A job with its state, placement, runs and baseline."""
    job = record.job
    return {
        "schema": "gridtide/job/v1",
        "id": job.job_id,
        "name": job.name,
        "project": job.project,
        "state": str(record.state),
        "wanted": str(record.wanted),
        "reason": record.reason,
        "degraded": record.is_degraded,
        "command": list(job.command),
        "submitted_at": format_instant(job.submitted_at),
        "deadline": format_instant(job.deadline_at),
        "not_before": format_instant(job.earliest_start_at),
        "start_by": _instant(job.start_by_at),
        "priority": job.priority,
        "regions": list(job.regions),
        "forbid_regions": list(job.forbid_regions),
        "interruptible": job.interruptible is not None,
        **_terms(job),
        "native": {"ref": job.native.ref, "user": job.native.user} if job.native else None,
        "options": [
            {
                "accelerators": f"{option.accelerator}:{option.gpus}",
                "num_nodes": option.num_nodes,
                "duration": format_duration(option.duration_s),
                "power_w": option.power_w,
                "power_estimated": option.is_power_estimated,
            }
            for option in job.options
        ],
        "placement": placement_view(record.placement),
        "baseline": baseline_view(record.baseline),
        "runs": [_run_view(run) for run in record.runs],
        "started_at": _instant(record.started_at),
        "ended_at": _instant(record.ended_at),
        "missed_deadline": record.has_missed_deadline,
        "version": record.version,
        "updated_at": format_instant(record.updated_at),
    }


def _terms(job: Job) -> Document:
    """What the user asked for beside hardware, times and places; null or empty where nothing."""
    limits = job.limits
    return {
        "movable": job.interruptible is not None and job.interruptible.is_movable,
        "widths": [width.gpus for width in job.elastic.widths] if job.elastic else [],
        "data": {"gb": job.data.gb, "region": job.data.region_id} if job.data else None,
        "carbon_price": limits.carbon_price,
        "max_cost": limits.max_cost,
        "max_carbon_g": limits.max_carbon_g,
        "after": list(job.after),
        "slurm": _slurm_view(job.slurm) if job.slurm else None,
        "kubernetes": _kubernetes_view(job.kubernetes) if job.kubernetes else None,
    }


def listed_view(record: JobRecord) -> Document:
    """A job as one of many: without its manifest, which may be long."""
    view = job_view(record)
    if view["kubernetes"]:
        view["kubernetes"].pop("manifest", None)
    return view


def _kubernetes_view(asked: JobKubernetes) -> Document:
    if asked.manifest is None:
        return dict(asked.asked())
    manifest = parse_manifest(asked.manifest)
    return {**asked.asked(), "manifest": manifest, "overruled": overruled(manifest)}


def _slurm_view(slurm: JobSlurm) -> Document:
    stated: Document = dict(slurm.asked())
    return stated | ({"options": dict(slurm.options)} if slurm.options else {})


def placement_view(placement: Placement | None) -> Document | None:
    """Where and when, and what it is expected to emit."""
    if placement is None:
        return None
    return {
        "cluster": placement.cluster_id,
        "region": placement.region_id,
        "zone": placement.zone_id,
        "accelerator": placement.accelerator,
        "gpus": placement.gpus,
        "segments": [{**window_view(window), "gpus": gpus} for window, gpus in placement.stretches],
        "start": format_instant(placement.window.start_at),
        "end": format_instant(placement.window.end_at),
        "energy_kwh": placement.energy_kwh,
        "emissions_g": placement.planned_g,
        "cost": placement.cost,
        "intensity": provenance_view(placement.provenance),
    }


def baseline_view(baseline: Baseline) -> Document:
    """The frozen counterfactual."""
    return {
        "cluster": baseline.cluster_id,
        "region": baseline.region_id,
        "zone": baseline.zone_id,
        "start": format_instant(baseline.window.start_at),
        "end": format_instant(baseline.window.end_at),
        "power_w": baseline.power_w,
        "pue": baseline.pue,
        "emissions_g": baseline.planned_g,
    }


def provenance_view(provenance: Provenance | None) -> Document | None:
    """Source, kind and quality of an intensity."""
    if provenance is None:
        return None
    return {
        "source": provenance.source,
        "signal": str(provenance.signal),
        "scope": str(provenance.scope),
        "quality": str(provenance.quality),
        "issued_at": _instant(provenance.issued_at),
        "fallback": provenance.is_fallback,
    }


def window_view(window: Window) -> Document:
    """Start and end."""
    return {"start": format_instant(window.start_at), "end": format_instant(window.end_at)}


def explanation_view(job: Job, found: Explanation, *, note: str | None = None) -> Document:
    """Why there and then, and what else its user should know."""
    terms = _kubernetes_view(job.kubernetes) if job.kubernetes else {}
    return {
        "schema": "gridtide/explanation/v1",
        "job": job.job_id,
        "chosen": placement_view(found.chosen),
        "baseline": baseline_view(found.baseline),
        "runner_up": placement_view(found.runner_up),
        "run_now": placement_view(found.run_now),
        "six_more_hours": placement_view(found.with_more_slack),
        "reasons": list(found.reasons),
        "notes": [*([note] if note else []), *terms.get("overruled", [])],
    }


def event_view(event: Event) -> Document:
    """One event."""
    return {
        "seq": event.seq,
        "at": format_instant(event.at),
        "kind": event.kind,
        "job": event.job_id,
        "state": None if event.state is None else str(event.state),
        "detail": event.detail,
    }


def forecast_view(zone_id: str, grid: SlotGrid, layers: Sequence[IntensitySeries]) -> Document:
    """Intensity of a zone, slot by slot, with where each comes from; null where nothing covers it.

    Args:
        zone_id: of the series.
        grid: the slots.
        layers: preferred first.
    """
    matrix = build_matrix(grid, {zone_id: layers})
    bands = [series.band_mg(grid) for series in layers]
    points = []
    for slot, layer in enumerate(matrix.layer[0].tolist()):
        band = bands[layer] if layer >= 0 else None
        points.append(
            {
                "time": format_instant(grid.at(slot * grid.slot_s)),
                "g_per_kwh": float(matrix.mg_per_kwh[0, slot]) / 1000 if layer >= 0 else None,
                "p10": None if band is None else float(band[0][slot]) / 1000,
                "p90": None if band is None else float(band[1][slot]) / 1000,
                **_origin(layers[layer].provenance if layer >= 0 else None),
            }
        )
    return {
        "schema": "gridtide/forecast/v1",
        "zone": zone_id,
        "step": format_duration(grid.slot_s),
        "sources": [provenance_view(series.provenance) for series in layers],
        "points": points,
    }


def _origin(provenance: Provenance | None) -> Document:
    return {
        "source": provenance.source if provenance else None,
        "issued_at": _instant(provenance.issued_at) if provenance else None,
        "quality": str(provenance.quality) if provenance else None,
        "is_fallback": provenance.is_fallback if provenance else None,
    }


def score_views(scores: Iterable[tuple[str, str, Score]]) -> Document:
    """How good forecasts were: zone, source and score of each; null for what no truth tells yet."""
    return {
        "schema": "gridtide/forecast-scores/v1",
        "scores": [
            {
                "zone": zone_id,
                "source": source,
                "forecasts": score.forecasts,
                "mape": list(score.mape),
                "bias": score.bias,
                "coverage": score.coverage,
                "kept": score.kept,
            }
            for zone_id, source, score in scores
        ],
    }


def region_views(
    places: Iterable[tuple[str, str, list[Document]]],
    infos: Mapping[str, Iterable[SourceInfo]],
    statuses: Iterable[SourceStatus],
) -> Document:
    """Every region with its zone, clusters and sources of intensity."""
    listed = list(statuses)
    return {
        "schema": "gridtide/regions/v1",
        "regions": [
            {
                "region": region_id,
                "zone": zone_id,
                "clusters": clusters,
                "sources": [
                    _source_view(info, [one for one in listed if one.zone_id == zone_id])
                    for info in infos.get(zone_id, ())
                ],
            }
            for region_id, zone_id, clusters in places
        ],
    }


def _source_view(info: SourceInfo, statuses: list[SourceStatus]) -> Document:
    status = next((one for one in statuses if one.source == info.name), None)
    return {
        "name": info.name,
        "signal": str(info.signal),
        "live": info.is_live,
        "usable": status.is_usable if status else None,
        "age_s": status.age_s if status else None,
        "error": status.error if status else None,
        "attribution": info.attribution,
    }


def _run_view(run: Run) -> Document:
    return {
        "attempt": run.attempt,
        "segment": run.segment,
        "cluster": run.cluster_id,
        "cluster_ref": run.ref,
        "gpus": run.gpus,
        "power_w": run.power_w,
        "since": _instant(run.since),
        "spans": [window_view(span) for span in run.spans],
        "exit_code": run.exit_code,
        "ended": run.is_ended,
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)
