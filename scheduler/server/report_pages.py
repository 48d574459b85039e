"""The service's own report page: its ledger, with the intensity behind it."""

from collections.abc import Sequence
from datetime import timedelta

from scheduler.core.hardware import UTILISATION
from scheduler.core.ledger import LedgerEntry, summarise
from scheduler.core.timegrid import Window, covering
from scheduler.server.report_html import render_report
from scheduler.server.wiring import Service


def build_report(service: Service, entries: Sequence[LedgerEntry]) -> str:
    """A self-contained HTML page over these entries."""
    now = service.clock.now()
    windows = [
        window
        for entry in entries
        for window in (entry.baseline.window, *(run.window for run in entry.runs))
    ]
    windows += [
        Window(entry.deadline_at, entry.deadline_at)
        for entry in entries
        if entry.runs
        and entry.deadline_at < max(window.end_at for window in windows) + timedelta(days=2)
    ]
    span = covering(windows or [Window(now - timedelta(days=1), now)])
    hour = timedelta(hours=1)
    window = Window(span.start_at.replace(minute=0, second=0, microsecond=0), span.end_at + hour)
    found = {zone: service.forecaster.series(zone, window) for zone in service.fleet.zone_ids}
    return render_report(
        title="Gridtide report",
        generated_at=now,
        entries=entries,
        summary=summarise(
            entries, refused=len(service.store.events(kind="refused", limit=1_000_000))
        ),
        intensity={zone: series for zone, series in found.items() if series is not None},
        regions={cluster.region_id: cluster.zone_id for cluster in service.fleet},
        notes=[
            f"Power that was not stated is estimated as TDP × {UTILISATION:.2f} (Dodge et al. 2022) and marked.",
        ],
        attributions=sorted(
            {info.attribution for infos in service.forecaster.infos.values() for info in infos}
        ),
        window=window,
    )
