"""Prometheus metrics, read from the store and the cycle at the moment they are asked for."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from scheduler.ports import JobStore
from scheduler.service.cycle import Cycle


def render_metrics(store: JobStore, cycle: Cycle) -> bytes:
    """The exposition text."""
    registry = CollectorRegistry()
    active = Gauge("gridtide_active_jobs", "Jobs that have not ended", ["state"], registry=registry)
    for record in store.active_jobs():
        active.labels(state=str(record.state)).inc()
    entries = store.entries()
    known = [entry for entry in entries if entry.saving_g is not None]
    figures = {
        "gridtide_emissions_grams": sum(entry.emissions_g or 0 for entry in known),
        "gridtide_baseline_grams": sum(entry.baseline.emissions_g or 0 for entry in known),
        "gridtide_missed_deadlines": sum(entry.has_missed_deadline for entry in entries),
        "gridtide_accounted_jobs": len(entries),
    }
    for name, value in figures.items():
        Gauge(name, name.replace("_", " "), registry=registry).set(value)
    ticks = Counter("gridtide_ticks", "Passes of the cycle", registry=registry)
    ticks.inc(cycle.report.ticks)
    failures = Counter("gridtide_stage_failures", "Stages that failed", registry=registry)
    failures.inc(cycle.report.failures)
    return generate_latest(registry)
