"""Fills the archive of intensity with the past, from a file or from a provider."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from pydantic import ValidationError

from adapters.grid.history_file import HistoryFile
from adapters.region_tables import load_regions
from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.errors import (
    GridtideError,
    InvalidConfigError,
    InvalidDataError,
    InvalidInputError,
    UpstreamError,
)
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.names import suggest
from scheduler.core.timegrid import Window, format_instant, parse_instant
from scheduler.core.units import parse_duration
from scheduler.ports import HistorySource, SeriesKey, SightingCount, Sightings
from scheduler.server.forecast_runs import say_doubts
from scheduler.server.settings import Settings
from scheduler.server.source_settings import Kind, SourceSettings
from scheduler.server.sources import SourceBuilder
from scheduler.server.wiring import build_clock
from scheduler.service.built_in import NAME as BUILT_IN
from scheduler.service.fetching import HISTORY_PIECE, PAST, require_plausible

PROVIDERS: Final = tuple(kind for kind in get_args(Kind) if kind not in ("typical_week", "trace"))
_MOST_CHANGE: Final = 50.0
"""Kilograms for grams, or tonnes for megawatt-hours, are further off; no revision is."""
_LEAST_G: Final = 0.1
"""Medians below count as this: from nothing, every value is infinitely far."""

Track = Callable[[Sequence[Window], str], Iterable[Window]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What became of the rows of one zone.

    Args:
        first_s: when the first interval begins, epoch seconds; None where there was none.
        stop_s: when the last one ends.
    """

    zone_id: str
    rows: int
    count: SightingCount
    first_s: int | None
    stop_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """What became of a file or of fetches.

    Args:
        archive: the file it was written to.
        error: why a provider's history ends earlier than was asked for; None where it does not.
    """

    source: str
    signal: SignalKind
    scope: Scope
    archive: Path
    zones: tuple[Ingested, ...]
    error: GridtideError | None = None

    def document(self) -> dict[str, Any]:
        """All of it, for programs."""
        total = sum((one.count for one in self.zones), SightingCount())
        return {
            "schema": "gridtide/ingest/v1",
            "source": self.source,
            "signal": str(self.signal),
            "scope": str(self.scope),
            "archive": str(self.archive),
            "rows": sum(one.rows for one in self.zones),
            "new": total.new,
            "revised": total.revised,
            "repeated": total.repeated,
            "zones": [
                {
                    "zone": one.zone_id,
                    "rows": one.rows,
                    "new": one.count.new,
                    "revised": one.count.revised,
                    "repeated": one.count.repeated,
                    "from": _instant(one.first_s),
                    "to": _instant(one.stop_s),
                }
                for one in self.zones
            ],
            "error": self.error.message if self.error else None,
        }


def ingest_file(
    settings: Settings,
    path: Path,
    *,
    source: str,
    zones: Sequence[str],
    signal: SignalKind | None,
    scope: Scope,
) -> Ingestion:
    """Keeps the values of a file under the name of a source.

    Args:
        settings: whose archive is filled.
        path: CSV or Parquet; with `fetched_at` each value as it was seen then, else as seen now.
        source: how the source is called from now on.
        zones: of the file; none for all.
        signal: None for what the file says, or else average.
        scope: which emissions the values count.

    Raises:
        InvalidInputError: a name that is taken, or another signal than the file says.
        InvalidDataError: naming file, line, column and value; or the zone, where the values are of
            another order than those that the archive has.
        StoreError: the archive cannot be used.
    """
    _require_own_name(source)
    file = HistoryFile(path)
    if signal is not None and file.signal not in (None, signal):
        raise InvalidInputError(
            f"signal: {signal} was given, but column kind of {path} says {file.signal}",
            field="signal",
            value=str(signal),
            valid=str(file.signal),
        )
    signal = signal or file.signal or SignalKind.AVERAGE
    now_s = int(build_clock(settings).now().timestamp())
    # All of it is read before anything is written: a file with an error changes nothing.
    found = {
        SeriesKey(source, zone, signal, scope): file.sightings(zone, now_s=now_s)
        for zone in zones or file.zone_ids
    }
    say_doubts(path, file, [key.zone_id for key in found])
    archive = SqliteIntensityArchive(settings.store.intensity_path)
    try:
        for key, seen in found.items():
            _require_same_order(path, archive, key, seen)
        ingested = []
        for key, seen in found.items():
            count = archive.add_sightings(key, seen, quality=Quality.MEASURED)
            ingested.append(_ingested(key.zone_id, [(seen, count)]))
    finally:
        archive.close()
    return Ingestion(
        source=source,
        signal=signal,
        scope=scope,
        archive=settings.store.intensity_path,
        zones=tuple(ingested),
    )


def _require_own_name(source: str) -> None:
    """Refuses names that belong to what the service fetches or makes itself."""
    valid = "a name of your own, such as grid-operator"
    if not source.strip() or source == BUILT_IN:
        why = "cannot be the name of a source"
    elif source in PROVIDERS:
        why = "is a live source, whose own values a file must not mix with or revise"
        valid += f"; or fetch from it with --provider {source}"
    else:
        return
    raise InvalidInputError(
        f"source: {source!r} {why}; choose {valid}", field="source", value=source, valid=valid
    )


def _require_same_order(
    path: Path, archive: SqliteIntensityArchive, key: SeriesKey, seen: Sightings
) -> None:
    """Refuses values that say something quite different about hours that the archive knows."""
    medians = _medians(archive, key, seen)
    if medians is None:
        return
    before, after = medians
    low, high = sorted(max(one, _LEAST_G) for one in (before, after))
    if high > _MOST_CHANGE * low:
        raise InvalidDataError(
            f"{path}: zone {key.zone_id}: the median of the hours that source {key.source} has already would "
            f"change from {before:.3g} to {after:.3g} g/kWh, more than {_MOST_CHANGE:g}-fold: is the unit g/kWh? "
            "If these are right, ingest them under another name with --source",
            field="g_per_kwh",
            value=round(after, 3),
            valid=f"a median within {_MOST_CHANGE:g}-fold of {before:.3g}",
        )


def _medians(
    archive: SqliteIntensityArchive, key: SeriesKey, seen: Sightings
) -> tuple[float, float] | None:
    """Of the hours that both know, in g/kWh: what is archived, and what was seen last; None without any."""
    if not len(seen.start_s):
        return None
    known = archive.actuals(key, since_s=int(seen.start_s.min()), until_s=int(seen.stop_s.max()))
    if known is None:
        return None
    # Sightings of one interval stand in the order in which they were seen: the last one counts.
    is_last = np.append(seen.start_s[1:] != seen.start_s[:-1], True)
    starts_s, new_mg = seen.start_s[is_last], seen.mg_per_kwh[is_last]
    place = np.searchsorted(known.edges_s, starts_s, side="right") - 1
    is_within = (place >= 0) & (place < len(known.mg_per_kwh))
    old_mg = known.mg_per_kwh[place[is_within]]
    is_both = old_mg != GAP_MG
    if not is_both.any():
        return None
    before, after = np.median(old_mg[is_both]), np.median(new_mg[is_within][is_both])
    return float(before) / 1000, float(after) / 1000


def ingest_provider(
    settings: Settings, kind: str, *, zone: str, since: str, scope: Scope | None, track: Track
) -> Ingestion:
    """Fetches the history of a zone, newest first, as far back as asked or as the provider has it.

    Args:
        settings: whose archive is filled; a source of that kind is taken as they configure it.
        kind: of source.
        zone: by any name.
        since: how far back, or from when on.
        scope: None for that of the settings.
        track: shows how far it is.

    Raises:
        InvalidInputError: no such kind, it has no history, or it does not serve the zone so.
        UpstreamError: nothing at all could be fetched.
    """
    clock = build_clock(settings)
    now = clock.now()
    zone_id = load_regions().with_sites(settings.sites).resolve(zone).zone_id
    wanted = scope or settings.intensity.scope
    source = _provider(settings, kind, zone_id, wanted)
    key = SeriesKey(source.info.name, zone_id, source.info.signal, wanted)
    windows = _windows(_since(since, now), now)
    archive = SqliteIntensityArchive(settings.store.intensity_path)
    parts, error = list[tuple[Sightings, SightingCount]](), None
    try:
        for number, window in enumerate(track(windows, f"{source.info.name} {zone_id}")):
            if number:
                _pause(source)
            try:
                parts.append(_fetch(archive, source, key, (window, int(now.timestamp()))))
            except UpstreamError as failed:
                error = failed
                break
    finally:
        archive.close()
    if error is not None and not parts:
        raise error
    return Ingestion(
        source=key.source,
        signal=key.signal,
        scope=key.scope,
        archive=settings.store.intensity_path,
        zones=(_ingested(zone_id, parts),),
        error=error,
    )


def _provider(settings: Settings, kind: str, zone_id: str, scope: Scope) -> HistorySource:
    if kind not in PROVIDERS:
        raise InvalidInputError(
            f"provider: {kind!r} is no provider with a history; {suggest(kind, PROVIDERS)}",
            field="provider",
            value=kind,
            valid=", ".join(PROVIDERS),
        )
    intensity = settings.intensity
    configured = [
        *settings.placed_sources(zone_id),
        *settings.placed_sources(),
        *(one for other in intensity.zones for one in settings.placed_sources(other)),
    ]
    found = next((placed for placed in configured if placed[1].kind == kind), None)
    place, chosen = found or (f"provider {kind}", _by_default(kind))
    builder = SourceBuilder(
        kind=(intensity.signal, scope),
        zone_ids=frozenset({zone_id}),
        clock=build_clock(settings),
    )
    source = builder.build(chosen, place)
    if not isinstance(source, HistorySource) or source.info.history_s <= 0:
        raise InvalidInputError(
            f"provider: {kind} states no actual values", field="provider", value=kind
        )
    scopes = source.info.scopes.get(zone_id, frozenset())
    if scope not in scopes:
        offered = (
            f"it states {', '.join(sorted(scopes))}" if scopes else "it does not serve that zone"
        )
        raise InvalidInputError(
            f"provider: {kind} does not state zone {zone_id} in scope {scope}; {offered}",
            field="provider",
            value=kind,
            valid=", ".join(sorted(scopes)),
        )
    return source


def _by_default(kind: str) -> SourceSettings:
    try:
        return SourceSettings.model_validate({"kind": kind})
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise InvalidConfigError(
            f"provider: {kind} is not among intensity.sources, and cannot do without: {why}",
            field="provider",
            value=kind,
        ) from error


def _since(text: str, now: datetime) -> datetime:
    """From a duration back from now, or an instant in the past."""
    if text[:4].isdecimal() and "-" in text:
        since = parse_instant(text, field="since")
        if since >= now:
            raise InvalidInputError(
                f"since: {format_instant(since)} is not in the past", field="since", value=text
            )
        return since
    return now - timedelta(seconds=parse_duration(text, field="since"))


def _windows(since: datetime, now: datetime) -> list[Window]:
    """The time from then until now in pieces, newest first; none parts an hour."""
    windows, end = list[Window](), now
    while end > since:
        begin = (end - HISTORY_PIECE).replace(minute=0, second=0, microsecond=0)
        windows.append(Window(max(since, begin), end))
        end = windows[-1].start_at
    return windows


def _fetch(
    archive: SqliteIntensityArchive,
    source: HistorySource,
    key: SeriesKey,
    window_and_now_s: tuple[Window, int],
) -> tuple[Sightings, SightingCount]:
    window, now_s = window_and_now_s
    series = source.fetch_actuals(key.zone_id, key.scope, window)
    begin_s = int(window.start_at.timestamp())
    past = archive.actuals(key, since_s=begin_s - int(PAST.total_seconds()), until_s=begin_s)
    require_plausible(series, key, now_s=now_s, past=[] if past is None else [past])
    seen = _seen(series, now_s)
    return seen, archive.add_sightings(key, seen, quality=series.provenance.quality)


def _seen(series: IntensitySeries, now_s: int) -> Sightings:
    is_known = series.mg_per_kwh != GAP_MG
    count = int(is_known.sum())
    return Sightings(
        start_s=series.edges_s[:-1][is_known],
        stop_s=series.edges_s[1:][is_known],
        mg_per_kwh=series.mg_per_kwh[is_known],
        seen_s=np.full(count, now_s, dtype=np.int64),
    )


def _pause(source: HistorySource) -> None:
    """Keeps within what the provider allows."""
    quota = source.info.quota
    if quota is not None:
        threading.Event().wait(quota.per_s / quota.requests)


def _ingested(zone_id: str, parts: Sequence[tuple[Sightings, SightingCount]]) -> Ingested:
    known = [seen for seen, _ in parts if len(seen.start_s)]
    return Ingested(
        zone_id=zone_id,
        rows=sum(len(seen.start_s) for seen in known),
        count=sum((count for _, count in parts), SightingCount()),
        first_s=min((int(seen.start_s.min()) for seen in known), default=None),
        stop_s=max((int(seen.stop_s.max()) for seen in known), default=None),
    )


def _instant(at_s: int | None) -> str | None:
    return None if at_s is None else format_instant(datetime.fromtimestamp(at_s, UTC))
