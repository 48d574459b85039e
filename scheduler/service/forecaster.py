"""Intensity for plans and accounts: sources in order, a cache with an age limit, marked fallbacks."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from scheduler.core.errors import UpstreamError
from scheduler.core.forecast import (
    GAP_MG,
    ForecastMatrix,
    IntensitySeries,
    Provenance,
    Scope,
    build_matrix,
)
from scheduler.core.ledger import Reading
from scheduler.core.timegrid import SlotGrid, Window
from scheduler.ports import Clock, ForecastSource, HistorySource, SourceInfo

_log = structlog.get_logger(__name__)

Source = ForecastSource | HistorySource


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How one source of one zone does, for `doctor` and the API."""

    zone_id: str
    source: str
    is_live: bool
    fetched_at: datetime | None
    age_s: float | None
    error: str | None
    is_usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What was last fetched from a live source, and how the last try ended."""

    forecast: IntensitySeries | None = None
    actuals: IntensitySeries | None = None
    fetched_at: datetime | None = None
    tried_at: datetime | None = None
    error: str | None = None


class Forecaster:
    """Serves intensity from the sources of each zone, preferred first.

    Live sources are fetched by `refresh` (on its own timer, never inside a plan) and served from
    memory until they are older than `max_age`; the next source then fills in, marked as a fallback.
    """

    def __init__(
        self,
        *,
        chains: Mapping[str, Sequence[Source]],
        scope: Scope,
        clock: Clock,
        max_age: timedelta,
    ) -> None:
        self._chains = chains
        self._scope = scope
        self._clock = clock
        self._max_age = max_age
        # By the source itself: two in one chain may have the same name (a mirror).
        self._held: dict[tuple[str, int], _Held] = {}
        self._lock = threading.Lock()
        self._version = 0
        self._matrices: tuple[object, ForecastMatrix] | None = None

    @property
    def version(self) -> int:
        """Rises whenever a source brought something new."""
        return self._version

    @property
    def infos(self) -> Mapping[str, Sequence[SourceInfo]]:
        """What the sources of each zone declare."""
        return {zone: [source.info for source in chain] for zone, chain in self._chains.items()}

    def refresh(self, *, since: datetime, horizon: timedelta) -> bool:
        """Fetches every live source that is due. True where anything new arrived.

        Args:
            since: actuals are fetched from here on, for accounts still to be settled.
            horizon: how far forecasts are asked for.
        """
        is_new = False
        for zone_id, chain in self._chains.items():
            for source in chain:
                if source.info.is_live and self._is_due(zone_id, source):
                    is_new |= self._fetch(zone_id, source, since=since, horizon=horizon)
        if is_new:
            self._version += 1
        return is_new

    def matrix(self, grid: SlotGrid) -> ForecastMatrix:
        """Intensity of every zone on the grid, each slot from the first source that covers it."""
        now = self._clock.now()
        usable = tuple(
            (zone, source.info.name, self._is_fresh(self._hold(zone, source), now))
            for zone, chain in self._chains.items()
            for source in chain
            if source.info.is_live
        )
        key = (grid, self._version, usable)
        cached = self._matrices
        if cached is not None and cached[0] == key:
            return cached[1]
        window = Window(grid.origin_at, grid.end_at)
        series = {
            zone: self._layers(zone, chain, window, now) for zone, chain in self._chains.items()
        }
        matrix = build_matrix(grid, series)
        self._matrices = (key, matrix)
        return matrix

    def read(self, zone_id: str, window: Window) -> Reading | None:
        """Best known intensity over a past window: measured before forecast, marked where second best."""
        for index, source in enumerate(self._chains.get(zone_id, ())):
            for series in self._past(zone_id, source, window):
                integral = series.integral_mg_s(window)
                if integral is not None:
                    provenance = replace(series.provenance, is_fallback=index > 0)
                    return Reading(integral_mg_s=integral, provenance=provenance)
        return None

    def series(self, zone_id: str, window: Window) -> IntensitySeries | None:
        """The first source's series that knows any of the window, for charts; None where none does."""
        for index, source in enumerate(self._chains.get(zone_id, ())):
            for series in self._past(zone_id, source, window):
                if _knows_any(series, window):
                    return _marked(series, is_fallback=index > 0)
        return None

    def statuses(self) -> list[SourceStatus]:
        """One line a zone and source."""
        now = self._clock.now()
        lines = []
        for zone_id, chain in self._chains.items():
            for source in chain:
                held = self._hold(zone_id, source)
                age = (now - held.fetched_at).total_seconds() if held.fetched_at else None
                lines.append(
                    SourceStatus(
                        zone_id=zone_id,
                        source=source.info.name,
                        is_live=source.info.is_live,
                        fetched_at=held.fetched_at,
                        age_s=age,
                        error=held.error,
                        is_usable=not source.info.is_live or self._is_fresh(held, now),
                    )
                )
        return lines

    def _hold(self, zone_id: str, source: Source) -> _Held:
        with self._lock:
            return self._held.get((zone_id, id(source)), _Held())

    def _is_due(self, zone_id: str, source: Source) -> bool:
        held, cadence_s = self._hold(zone_id, source), source.info.cadence_s
        if held.tried_at is None:
            return True
        waited_s = (self._clock.now() - held.tried_at).total_seconds()
        # After a failure the next try comes sooner than the cadence, but never in a hurry.
        return waited_s >= (min(cadence_s, 300) if held.error else cadence_s)

    def _is_fresh(self, held: _Held, now: datetime) -> bool:
        return (
            held.forecast is not None
            and held.fetched_at is not None
            and now - held.fetched_at <= self._max_age
        )

    def _fetch(self, zone_id: str, source: Source, *, since: datetime, horizon: timedelta) -> bool:
        before = held = self._hold(zone_id, source)
        now = self._clock.now()
        try:
            if isinstance(source, ForecastSource):
                window = Window(now, now + horizon)
                forecast = source.fetch_forecast(zone_id, self._scope, window)
                held = replace(held, forecast=forecast, fetched_at=now)
            if isinstance(source, HistorySource) and since < now:
                actuals = source.fetch_actuals(zone_id, self._scope, Window(since, now))
                held = replace(held, actuals=actuals)
            held = replace(held, tried_at=now, error=None)
        except UpstreamError as error:
            _log.warning(
                "forecast_fetch_failed", source=source.info.name, zone=zone_id, error=error.message
            )
            # A forecast that came before its actuals failed is kept, and counts as new.
            held = replace(held, tried_at=now, error=error.message)
        with self._lock:
            self._held[zone_id, id(source)] = held
        return held.forecast is not before.forecast or held.actuals is not before.actuals

    def _layers(
        self, zone_id: str, chain: Sequence[Source], window: Window, now: datetime
    ) -> list[IntensitySeries]:
        layers = []
        for index, source in enumerate(chain):
            series = self._future(zone_id, source, window, now)
            if series is not None:
                layers.append(_marked(series, is_fallback=index > 0))
        return layers

    def _future(
        self, zone_id: str, source: Source, window: Window, now: datetime
    ) -> IntensitySeries | None:
        if source.info.is_live:
            held = self._hold(zone_id, source)
            return held.forecast if self._is_fresh(held, now) else None
        if not isinstance(source, ForecastSource):
            return None
        try:
            return source.fetch_forecast(zone_id, self._scope, window)
        except UpstreamError as error:
            _log.warning("forecast_missing", source=source.info.name, error=error.message)
            return None

    def _past(self, zone_id: str, source: Source, window: Window) -> list[IntensitySeries]:
        if source.info.is_live:
            held = self._hold(zone_id, source)
            return [series for series in (held.actuals, held.forecast) if series is not None]
        if not isinstance(source, HistorySource):
            return []
        try:
            return [source.fetch_actuals(zone_id, self._scope, window)]
        except UpstreamError:
            return []


def _marked(series: IntensitySeries, *, is_fallback: bool) -> IntensitySeries:
    provenance: Provenance = replace(series.provenance, is_fallback=is_fallback)
    return replace(series, provenance=provenance)


def _knows_any(series: IntensitySeries, window: Window) -> bool:
    start_s, end_s = window.start_at.timestamp(), window.end_at.timestamp()
    touches = (series.edges_s[:-1] < end_s) & (series.edges_s[1:] > start_s)
    return bool((touches & (series.mg_per_kwh != GAP_MG)).any())
