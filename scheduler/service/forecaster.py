"""Intensity for plans and accounts: sources in order, an age limit, the built-in forecast, marked fallbacks."""

import random
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

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
from scheduler.core.forecasting.scores import Score
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.ledger import Reading
from scheduler.core.plausibility import SKEW_S
from scheduler.core.timegrid import SlotGrid, Window
from scheduler.ports import (
    Clock,
    FetchState,
    ForecastSource,
    HistorySource,
    IntensityArchive,
    SeriesKey,
    SourceInfo,
)
from scheduler.service.built_in import NAME as BUILT_IN
from scheduler.service.built_in import BuiltIn
from scheduler.service.fetching import Fetcher, FetchPlan, Link, Source

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How one source of one zone does, for `doctor` and the API.

    Args:
        issued_at: when its newest forecast was made, by the source's own account.
        claimed_until: until then at the latest another process fetches from it.
    """

    zone_id: str
    source: str
    is_live: bool
    fetched_at: datetime | None
    age_s: float | None
    error: str | None
    is_usable: bool
    issued_at: datetime | None = None
    claimed_until: datetime | None = None


_NEVER: Final = FetchState()
_KEPT_FORECASTS: Final = timedelta(days=90)
_KEPT_ACTUALS: Final = timedelta(days=3 * 366)
_TIDIED_EVERY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Held:
    """The newest forecast of a live source, and how its fetches went."""

    state: FetchState = _NEVER
    newest: Vintage | None = None


class Forecaster:
    """Serves intensity from the sources of each zone, preferred first.

    Live sources are fetched by `refresh` (on timers, never inside a plan) and served from memory
    until they are older than `max_age`; then the built-in forecast serves, then the next source,
    each marked as a fallback. What the archive holds of before a restart serves at once.
    """

    def __init__(  # noqa: PLR0913 - named, each once, in the wiring
        self,
        *,
        chains: Mapping[str, Sequence[Source]],
        scope: Scope,
        clock: Clock,
        max_age: timedelta,
        archive: IntensityArchive,
        built_in: BuiltIn | None = None,
        chance: random.Random | None = None,
        skipped: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._scope = scope
        self._clock = clock
        self._max_age = max_age
        self._archive = archive
        self._built_in = built_in
        self._links = {zone_id: _linked(zone_id, chain, scope) for zone_id, chain in chains.items()}
        self._fetcher = Fetcher(
            links=self._links, scope=scope, clock=clock, archive=archive, chance=chance
        )
        self.skipped: Final = skipped or {}
        """By zone, names of configured sources that do not serve it."""
        self._held: dict[SeriesKey, _Held] = {}
        # Two, so that what was fetched serves while forecasts are still being made. Plans take neither.
        self._taking_in, self._making = threading.Lock(), threading.Lock()
        self._counting = threading.Lock()
        self._version = 0
        self._matrices: tuple[object, ForecastMatrix] | None = None
        self._tidied_at: datetime | None = None
        self._take_in()
        if built_in is not None:
            for zone_id in self._links:
                built_in.restore(zone_id, since=clock.now() - max_age)

    @property
    def version(self) -> int:
        """Rises whenever a source brought something new."""
        return self._version

    @property
    def infos(self) -> Mapping[str, Sequence[SourceInfo]]:
        """What the sources of each zone declare."""
        return {zone: [link.source.info for link in links] for zone, links in self._links.items()}

    # ------------------------------------------------------------------------- fetching

    @property
    def live_names(self) -> tuple[str, ...]:
        """Names of the live sources, for timers of their own: a slow one must not keep the others waiting."""
        return self._fetcher.names

    def refresh(self, *, since: datetime, horizon: timedelta, name: str | None = None) -> bool:
        """Fetches every live source that is due (or those of that name), and makes forecasts anew.

        Args:
            since: actuals are fetched from here on, for accounts still to be settled.
            horizon: how far forecasts are asked for.
            name: of a source.

        Returns:
            True where anything new arrived.
        """
        history = self._built_in.history if self._built_in else timedelta()
        plan = FetchPlan(since=since, horizon=horizon, history=history)
        is_new = self._fetcher.fetch(plan, name=name)
        return self.remake(horizon) or is_new

    def refresh_weather(self) -> bool:
        """Fetches weather that is due. True where any is new."""
        return self._built_in is not None and self._built_in.fetch_weather()

    def remake(self, horizon: timedelta) -> bool:
        """Takes in what any process fetched, and makes the built-in forecasts that are out of date."""
        is_new = self._take_in()
        if self._built_in is not None:
            with self._making:
                for zone_id in self._links:
                    live = self._live_in(zone_id)
                    if live and self._built_in.remake(zone_id, live, horizon):
                        is_new = True
                        self._raise_version()
        return is_new

    def tidy(self) -> None:
        """Drops from the archive, once a day, what is too old to be of use."""
        now = self._clock.now()
        if self._tidied_at is not None and abs(now - self._tidied_at) < _TIDIED_EVERY:
            return
        self._tidied_at = now
        history = self._built_in.history if self._built_in else timedelta()
        self._archive.forget(
            vintages_before_s=int((now - _KEPT_FORECASTS).timestamp()),
            actuals_before_s=int((now - max(_KEPT_ACTUALS, history)).timestamp()),
        )

    def _take_in(self) -> bool:
        with self._taking_in:
            is_new = False
            for link in self._live_links():
                state, held = self._archive.state(link.key), self._hold(link)
                if state == held.state:
                    continue
                newest = self._newest(link) or held.newest
                # Actual values come without a forecast too, and accounts wait for them.
                is_new |= state.fetched_s != held.state.fetched_s
                self._held[link.key] = _Held(state, newest)
            if is_new:
                self._raise_version()
            return is_new

    def _newest(self, link: Link) -> Vintage | None:
        """The last forecast in the archive that can still serve; none from a clock that ran ahead."""
        now = self._clock.now()
        since_s = int((now - self._max_age).timestamp())
        until_s = now.timestamp() + SKEW_S
        vintages = self._archive.vintages(link.key, since_s=since_s)
        return next((one for one in reversed(vintages) if one.issued_s <= until_s), None)

    def _raise_version(self) -> None:
        with self._counting:
            self._version += 1

    # ------------------------------------------------------------------------- serving

    def matrix(self, grid: SlotGrid) -> ForecastMatrix:
        """Intensity of every zone on the grid, each slot from the first source that covers it."""
        now = self._clock.now()
        fresh = [self._fresh(link, now) is not None for link in self._live_links()]
        fresh += [self._built(zone_id, now) is not None for zone_id in self._links]
        key = (grid, self._version, tuple(fresh))
        cached = self._matrices
        if cached is not None and cached[0] == key:
            return cached[1]
        window = Window(grid.origin_at, grid.end_at)
        matrix = build_matrix(grid, {zone: self._layers(zone, window, now) for zone in self._links})
        self._matrices = (key, matrix)
        return matrix

    def layers(self, zone_id: str, window: Window) -> list[IntensitySeries]:
        """The zone's series now, preferred first, each marked where it is a fallback."""
        return self._layers(zone_id, window, self._clock.now())

    def _layers(self, zone_id: str, window: Window, now: datetime) -> list[IntensitySeries]:
        """The zone's series, preferred first; the built-in forecast comes where the live ones stand."""
        links = self._links[zone_id]
        layers, is_degraded = list[IntensitySeries](), False
        built = self._built(zone_id, now)
        last_live = max((i for i, link in enumerate(links) if link.source.info.is_live), default=-1)
        for index, link in enumerate(links):
            series = self._future(link, window, now)
            is_forecast = isinstance(link.source, ForecastSource)
            is_serving = series is not None and link.source.info.is_live
            if built is not None and (is_serving or index == last_live):
                # Blended with what this source published; or, where no live one serves, in their place.
                is_missing = is_forecast and series is None
                is_fallback = is_degraded or is_missing or built.provenance.is_fallback
                layers.append(_marked(built, is_fallback=is_fallback))
                built = None
            if series is not None:
                layers.append(_marked(series, is_fallback=index > 0))
            is_degraded |= is_forecast
        return layers

    def _future(self, link: Link, window: Window, now: datetime) -> IntensitySeries | None:
        if link.source.info.is_live:
            return self._fresh(link, now)
        if not isinstance(link.source, ForecastSource):
            return None
        try:
            return link.source.fetch_forecast(link.key.zone_id, self._scope, window)
        except UpstreamError as error:
            _log.warning("forecast_missing", source=link.key.source, error=error.message)
            return None

    def read(self, zone_id: str, window: Window) -> Reading | None:
        """Best known intensity over a past window: measured before forecast, marked where second best."""
        for index, link in enumerate(self._links.get(zone_id, ())):
            for series in self._past(link, window):
                integral = series.integral_mg_s(window)
                if integral is not None:
                    provenance = replace(series.provenance, is_fallback=index > 0)
                    return Reading(integral_mg_s=integral, provenance=provenance)
        return None

    def series(self, zone_id: str, window: Window) -> IntensitySeries | None:
        """The first source's series that knows any of the window, for charts; None where none does."""
        for index, link in enumerate(self._links.get(zone_id, ())):
            for series in self._past(link, window):
                if _knows_any(series, window):
                    return _marked(series, is_fallback=index > 0)
        return None

    def _past(self, link: Link, window: Window) -> list[IntensitySeries]:
        if link.source.info.is_live:
            actuals = self._archive.actuals(
                link.key,
                since_s=int(window.start_at.timestamp()),
                until_s=int(window.end_at.timestamp()) + 1,
            )
            newest = self._hold(link).newest
            forecast = None if newest is None else newest.series
            return [series for series in (actuals, forecast) if series is not None]
        if not isinstance(link.source, HistorySource):
            return []
        try:
            return [link.source.fetch_actuals(link.key.zone_id, self._scope, window)]
        except UpstreamError:
            return []

    # ------------------------------------------------------------------------- telling

    def statuses(self) -> list[SourceStatus]:
        """One line a zone and source, and one for the built-in forecast of a zone."""
        now = self._clock.now()
        lines = []
        for zone_id, links in self._links.items():
            lines += [self._status(link, now) for link in links]
            if self._built_in is not None and self._live_in(zone_id):
                lines.append(self._built_in_status(self._built_in, zone_id, now))
        return lines

    def serving(self, zone_id: str) -> Provenance | None:
        """What plans of the coming hour rest on in this zone; None where nothing covers it."""
        grid = SlotGrid.around(self._clock.now(), slot_s=3600, horizon_s=3600)
        window = Window(grid.origin_at, grid.at(3600))
        layers = self._layers(zone_id, window, self._clock.now())
        return build_matrix(grid, {zone_id: layers}).provenance(zone_id, window)

    def scores(self, zone_id: str) -> dict[str, Score]:
        """How good the forecasts of the zone were, by source; empty where no truth is known."""
        if self._built_in is None:
            return {}
        return self._built_in.scores(zone_id, self._live_in(zone_id))

    def _status(self, link: Link, now: datetime) -> SourceStatus:
        held, info = self._hold(link), link.source.info
        newest, at_s = held.newest, held.state.fetched_s
        if isinstance(link.source, ForecastSource):
            # Actual values may have come without a forecast.
            at_s = None if newest is None else newest.issued_s
            is_fresh = self._fresh(link, now) is not None
        else:
            is_fresh = at_s is not None and self._is_young(at_s, now)
        fetched_at = None if at_s is None else datetime.fromtimestamp(at_s, UTC)
        return SourceStatus(
            zone_id=link.key.zone_id,
            source=info.name,
            is_live=info.is_live,
            fetched_at=fetched_at,
            age_s=(now - fetched_at).total_seconds() if fetched_at else None,
            error=held.state.error,
            is_usable=not info.is_live or is_fresh,
            issued_at=None if newest is None else newest.series.provenance.issued_at,
            claimed_until=self._fetcher.claimed_until(link) if info.is_live else None,
        )

    def _built_in_status(self, built_in: BuiltIn, zone_id: str, now: datetime) -> SourceStatus:
        made = built_in.series(zone_id)
        issued_at = None if made is None else made.provenance.issued_at
        return SourceStatus(
            zone_id=zone_id,
            source=BUILT_IN if made is None else made.provenance.source,
            is_live=True,
            fetched_at=issued_at,
            age_s=(now - issued_at).total_seconds() if issued_at else None,
            error=built_in.error(zone_id),
            is_usable=self._built(zone_id, now) is not None,
            issued_at=issued_at,
        )

    # ------------------------------------------------------------------------- inside

    def _live_links(self) -> list[Link]:
        return [link for zone_id in self._links for link in self._live_in(zone_id)]

    def _live_in(self, zone_id: str) -> list[Link]:
        return [link for link in self._links[zone_id] if link.source.info.is_live]

    def _hold(self, link: Link) -> _Held:
        return self._held.get(link.key, _Held())

    def _fresh(self, link: Link, now: datetime) -> IntensitySeries | None:
        """The forecast of a live source that is not too old, whichever clock is asked for its age."""
        newest = self._hold(link).newest
        if newest is None:
            return None
        issued_at = newest.series.provenance.issued_at
        made_s = (
            newest.issued_s if issued_at is None else min(newest.issued_s, issued_at.timestamp())
        )
        return newest.series if self._is_young(made_s, now) else None

    def _built(self, zone_id: str, now: datetime) -> IntensitySeries | None:
        """The built-in forecast, unless it could not be made anew for too long."""
        series = self._built_in.series(zone_id) if self._built_in else None
        if series is None or series.provenance.issued_at is None:
            return None
        return series if self._is_young(series.provenance.issued_at.timestamp(), now) else None

    def _is_young(self, made_s: float, now: datetime) -> bool:
        return -SKEW_S <= now.timestamp() - made_s <= self._max_age.total_seconds()


def _linked(zone_id: str, chain: Sequence[Source], scope: Scope) -> list[Link]:
    """The chain with a key for each source; two of one name (a mirror) get keys of their own."""
    seen: Counter[str] = Counter()
    links = []
    for source in chain:
        name = source.info.name
        seen[name] += 1
        label = name if seen[name] == 1 else f"{name}#{seen[name]}"
        links.append(Link(source, SeriesKey(label, zone_id, source.info.signal, scope)))
    return links


def _marked(series: IntensitySeries, *, is_fallback: bool) -> IntensitySeries:
    return replace(series, provenance=replace(series.provenance, is_fallback=is_fallback))


def _knows_any(series: IntensitySeries, window: Window) -> bool:
    start_s, end_s = window.start_at.timestamp(), window.end_at.timestamp()
    touches = (series.edges_s[:-1] < end_s) & (series.edges_s[1:] > start_s)
    return bool((touches & (series.mg_per_kwh != GAP_MG)).any())
