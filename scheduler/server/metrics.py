"""Prometheus metrics, read from the store and the cycle at the moment they are asked for."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from scheduler.ports import JobStore
from scheduler.service.cycle import Cycle
from scheduler.service.forecaster import Forecaster
from scheduler.service.ledger_totals import LedgerTotals, read_totals


def render_metrics(
    store: JobStore, cycle: Cycle, forecaster: Forecaster, *, now: datetime
) -> bytes:
    """The exposition text. It asks the store for active jobs and one document, however many jobs there were."""
    registry = CollectorRegistry()
    _add_sources(registry, forecaster)
    _add_scores(registry, forecaster)
    active = Gauge("gridtide_active_jobs", "Jobs that have not ended", ["state"], registry=registry)
    for record in store.active_jobs():
        active.labels(state=str(record.state)).inc()
    _add_ledger(registry, read_totals(store), now)
    ticks = Counter("gridtide_ticks", "Passes of the cycle", registry=registry)
    ticks.inc(cycle.report.ticks)
    leads = Gauge("gridtide_leads", "1 where this process plans", registry=registry)
    leads.set(cycle.is_leading)
    failures = Counter("gridtide_stage_failures", "Stages that failed", registry=registry)
    failures.inc(cycle.report.failures)
    return generate_latest(registry)


def _add_ledger(registry: CollectorRegistry, totals: LedgerTotals | None, now: datetime) -> None:
    """Nothing before the first totals: a zero would be taken for a figure."""
    if totals is None:
        return
    figures = {
        "gridtide_emissions_grams": totals.emissions_g,
        "gridtide_baseline_grams": totals.baseline_g,
        "gridtide_missed_deadlines": totals.missed_deadlines,
        "gridtide_accounted_jobs": totals.jobs,
        "gridtide_ledger_totals_age_seconds": max(0.0, (now - totals.at).total_seconds()),
    }
    for name, value in figures.items():
        Gauge(name, name.replace("_", " "), registry=registry).set(value)


def _add_sources(registry: CollectorRegistry, forecaster: Forecaster) -> None:
    labels = ["zone", "source"]
    usable = Gauge("gridtide_source_usable", "1 where plans may use it", labels, registry=registry)
    age = Gauge("gridtide_source_age_seconds", "Since it was fetched", labels, registry=registry)
    for status in forecaster.statuses():
        usable.labels(status.zone_id, status.source).set(status.is_usable)
        if status.age_s is not None:
            age.labels(status.zone_id, status.source).set(status.age_s)


def _add_scores(registry: CollectorRegistry, forecaster: Forecaster) -> None:
    """The track record of forecasts; shares, not percent."""
    labels = ["zone", "source"]
    error = Gauge(
        "gridtide_forecast_error_ratio",
        "Mean absolute error over the truth",
        [*labels, "lead_day"],
        registry=registry,
    )
    figures = {
        "bias": Gauge("gridtide_forecast_bias_ratio", "Mean error", labels, registry=registry),
        "coverage": Gauge(
            "gridtide_forecast_coverage_ratio", "Truth from p10 to p90", labels, registry=registry
        ),
        "kept": Gauge(
            "gridtide_forecast_kept_ratio",
            "Share of the possible saving",
            labels,
            registry=registry,
        ),
    }
    for zone_id in forecaster.infos:
        for source, score in forecaster.scores(zone_id).items():
            for day, value in enumerate(score.mape, start=1):
                if value is not None:
                    error.labels(zone_id, source, str(day)).set(value)
            for name, gauge in figures.items():
                value = getattr(score, name)
                if value is not None:
                    gauge.labels(zone_id, source).set(value)
