"""The service's own report pages: its ledger, with the intensity behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.hardware import UTILISATION
from scheduler.core.ledger import LedgerEntry, summarise
from scheduler.core.timegrid import Window, covering
from scheduler.ports import JobStore
from scheduler.server.refusals import Refusals, count_refusals
from scheduler.server.report_html import render_report
from scheduler.server.wiring import Service

_DAY: Final = timedelta(days=1)
_HOME_DAYS: Final = 31
MOST_LISTED: Final = 2_000
"""Jobs that the page at `/` lists at most; its sums are over all of its time."""
MOST_READ: Final = 50_000
"""Once it has read so many, the page at `/` goes back no further: reading them takes one to two seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recent:
    """The entries of jobs submitted since an instant."""

    since: datetime
    entries: list[LedgerEntry]
    is_cut: bool


def build_home(
    service: Service, *, most_listed: int = MOST_LISTED, most_read: int = MOST_READ
) -> str:
    """The page at `/`: what was submitted in the last 31 days; the work is bounded, however much that was."""
    now = service.clock.now()
    recent = _recent(service.store, now, most_read)
    period = f"Jobs submitted in the last {_HOME_DAYS} days"
    if recent.is_cut:
        period = (
            f"Jobs submitted since {recent.since:%A %d %B, %H:%M}: there are more than {most_read:,} "
            f"of the last {_HOME_DAYS} days, and earlier ones are left out"
        )
    return build_report(
        service,
        recent.entries,
        refused=count_refusals(service.store, from_at=recent.since),
        period=f"{period}. For others: gridtide report --from TIME --to TIME.",
        most_listed=most_listed,
    )


def build_report(
    service: Service,
    entries: Sequence[LedgerEntry],
    *,
    refused: Refusals,
    period: str = "",
    most_listed: int | None = None,
) -> str:
    """A self-contained HTML page over these entries, and the refusals of the same period.

    The period is a sentence on what is shown, where that is not all. Of more entries than `most_listed` the
    newest are listed, and the sums are over all.
    """
    now = service.clock.now()
    listed = entries if most_listed is None else entries[-most_listed:]
    window = _window(listed, now)
    found = {zone: service.forecaster.series(zone, window) for zone in service.fleet.zone_ids}
    return render_report(
        title="Gridtide report",
        generated_at=now,
        entries=listed,
        unlisted=entries[: len(entries) - len(listed)],
        summary=summarise(entries, refused=refused.count),
        is_refused_complete=refused.is_complete,
        period=period,
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


def _recent(store: JobStore, now: datetime, most_read: int) -> _Recent:
    """Read a day at a time from the newest back, so that a busy month is not read whole."""
    entries = store.entries(from_at=now)  # of a clock that was set back
    since = now
    for _ in range(_HOME_DAYS):
        if len(entries) > most_read:
            return _Recent(since=since, entries=entries, is_cut=True)
        entries = store.entries(from_at=since - _DAY, to_at=since) + entries
        since -= _DAY
    return _Recent(since=since, entries=entries, is_cut=False)


def _window(entries: Sequence[LedgerEntry], now: datetime) -> Window:
    """The full hours that the entries span; deadlines too, unless they are far off."""
    windows = [
        window
        for entry in entries
        for window in (entry.baseline.window, *(run.window for run in entry.runs))
    ]
    if windows:
        latest = max(window.end_at for window in windows) + timedelta(days=2)
        windows += [
            Window(entry.deadline_at, entry.deadline_at)
            for entry in entries
            if entry.runs and entry.deadline_at < latest
        ]
    span = covering(windows or [Window(now - _DAY, now)])
    hour = timedelta(hours=1)
    return Window(span.start_at.replace(minute=0, second=0, microsecond=0), span.end_at + hour)
