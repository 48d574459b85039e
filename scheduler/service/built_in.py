"""The built-in forecast of each zone: made anew every hour, and whenever a source brought something new."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from scheduler.core.errors import ForecastUnavailableError, UpstreamError
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.forecasting.hourly import HOUR_S, HourlySeries
from scheduler.core.forecasting.model import HourlyForecast, Known
from scheduler.core.forecasting.scores import Score, score
from scheduler.core.forecasting.vintages import Vintage, Vintages
from scheduler.core.forecasting.weather import WeatherRuns
from scheduler.core.forecasting.zone_forecaster import ZoneForecaster
from scheduler.ports import (
    Clock,
    ForecastSource,
    IntensityArchive,
    SeriesKey,
    WeatherSource,
)
from scheduler.service.fetching import Link

_log = structlog.get_logger(__name__)

NAME: Final = "built-in"
_ENOUGH_DAYS: Final = 28.0
"""A history of so many days is preferred to a longer one of a source that comes later."""
_WEATHER_EVERY_S: Final = 6 * 3600
"""Global weather models run four times a day."""
_WEATHER_GAP_S: Final = 2 * 86_400
_LATELY: Final = timedelta(days=1)
TRACK: Final = timedelta(days=70)
"""Published forecasts of so long ago still count for the blend and for scores."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A forecast, and what it was made from."""

    stamp: tuple[object, ...]
    series: IntensitySeries | None
    error: str | None


class BuiltIn:
    """Forecasts from history, weather and published forecasts in the archive."""

    def __init__(
        self,
        *,
        archive: IntensityArchive,
        clock: Clock,
        level: NDArray[np.float64],
        kind: tuple[SignalKind, Scope],
        weather: Mapping[str, WeatherSource],
        history: timedelta,
    ) -> None:
        self._archive = archive
        self._clock = clock
        self._level = level
        self._kind = kind
        self._weather = weather
        self.history: Final = history
        self._forecasters: dict[str, ZoneForecaster] = {}
        self._made: dict[str, _Made] = {}

    def series(self, zone_id: str) -> IntensitySeries | None:
        """The forecast made last; None where there is none."""
        made = self._made.get(zone_id)
        return made.series if made else None

    def error(self, zone_id: str) -> str | None:
        """Why there is none."""
        made = self._made.get(zone_id)
        return made.error if made else None

    def key(self, zone_id: str) -> SeriesKey:
        """Under which its forecasts are archived."""
        return SeriesKey(NAME, zone_id, *self._kind)

    def remake(self, zone_id: str, links: Sequence[Link], horizon: timedelta) -> bool:
        """Makes the forecast where the hour or the data changed. True where there is a new one."""
        now = self._clock.now()
        hour = int(now.timestamp()) // HOUR_S
        states = tuple(self._archive.state(link.key).fetched_s for link in links)
        stamp = (hour, *states)
        before = self._made.get(zone_id)
        if before is not None and before.stamp == stamp:
            return False
        try:
            series = self._forecast(zone_id, links, -(-int(horizon.total_seconds()) // HOUR_S) + 1)
        except ForecastUnavailableError as error:
            self._made[zone_id] = _Made(stamp, None, error.message)
            return False
        self._made[zone_id] = _Made(stamp, series, None)
        self._archive.add_vintage(self.key(zone_id), Vintage(int(now.timestamp()), series))
        return True

    def _forecast(self, zone_id: str, links: Sequence[Link], n_hours: int) -> IntensitySeries:
        now_s = int(self._clock.now().timestamp())
        key, history = self._history(zone_id, links, now_s)
        published = self._published(links, now_s)
        runs = (
            self._archive.runs(zone_id, since_s=now_s - int(self.history.total_seconds()))
            if zone_id in self._weather
            else []
        )
        known = Known(
            history=history,
            level=self._level,
            weather=WeatherRuns(runs) if runs else None,
            published=Vintages(published) if published else None,
        )
        forecaster = self._forecasters.setdefault(zone_id, ZoneForecaster(zone_id, known))
        forecaster.learn(known)
        return self._as_series(zone_id, key, forecaster.forecast(now_s // HOUR_S, n_hours))

    def _history(
        self, zone_id: str, links: Sequence[Link], now_s: int
    ) -> tuple[SeriesKey, HourlySeries]:
        """The first history that is long enough, or the longest; those that were ingested come last."""
        keys = [link.key for link in links if link.source.info.history_s > 0]
        keys += [
            key
            for key in self._archive.known_series()
            if key.zone_id == zone_id and (key.signal, key.scope) == self._kind and key not in keys
        ]
        since_s = now_s - int(self.history.total_seconds())
        found = list[tuple[SeriesKey, HourlySeries]]()
        for key in keys:
            series = self._archive.actuals(key, since_s=since_s, until_s=now_s)
            if series is None:
                continue
            found.append((key, HourlySeries.of([series])))
            if found[-1][1].known_days >= _ENOUGH_DAYS:
                return found[-1]
        if not found:
            raise ForecastUnavailableError(
                f"zone {zone_id}: no source has brought any history yet", zone=zone_id, source=NAME
            )
        return max(found, key=lambda one: one[1].known_days)

    def _published(self, links: Sequence[Link], now_s: int) -> list[Vintage]:
        """Forecasts of the first source that published lately, or else of the first that ever did.

        Of one source only: those of two are not comparable.
        """
        since_s = now_s - int(TRACK.total_seconds())
        found = [
            vintages
            for link in links
            if isinstance(link.source, ForecastSource)
            and (vintages := self._archive.vintages(link.key, since_s=since_s))
        ]
        lately_s = now_s - int(_LATELY.total_seconds())
        return next(
            (one for one in found if one[-1].issued_s >= lately_s), found[0] if found else []
        )

    def _as_series(self, zone_id: str, key: SeriesKey, made: HourlyForecast) -> IntensitySeries:
        signal, scope = self._kind
        edges_s = (made.first_hour + np.arange(len(made.logs) + 1)) * HOUR_S
        plain = IntensitySeries.from_g_per_kwh(
            zone_id,
            edges_s,
            made.g_per_kwh,
            Provenance(
                source=f"{NAME} ({made.method}, history of {key.source})",
                signal=signal,
                scope=scope,
                quality=Quality.FORECAST,
                issued_at=self._clock.now().astimezone(UTC),
            ),
        )
        return replace(plain, low_mg=_mg(made.quantile(0.1)), high_mg=_mg(made.quantile(0.9)))

    # ------------------------------------------------------------------------- weather, scores

    def fetch_weather(self) -> bool:
        """Fetches the weather of every zone that is due. True where any is new."""
        return sum(self._fetch_weather(zone_id) for zone_id in self._weather) > 0

    def _fetch_weather(self, zone_id: str) -> bool:
        source = self._weather[zone_id]
        key = SeriesKey(source.info.name, zone_id, *self._kind)
        now_s = int(self._clock.now().timestamp())
        state = self._archive.claim(key, now_s=now_s, until_s=now_s + 300)
        if state is None:
            return False
        since_s = now_s - int(self.history.total_seconds())
        if state.fetched_s is not None:
            # Runs kept when they were new are better to learn from than what is said of that day later.
            had_lately = now_s - state.fetched_s < _WEATHER_GAP_S
            since_s = now_s if had_lately else state.fetched_s
        since = datetime.fromtimestamp(since_s, UTC)
        try:
            self._archive.add_runs(zone_id, source.fetch_runs(zone_id, since))
        except UpstreamError as error:
            _log.warning("weather_fetch_failed", zone=zone_id, error=error.message)
            failures = state.failures + 1
            wait_s = min(300 * 2 ** min(failures - 1, 10), source.info.cadence_s)
            failed = replace(
                state, tried_s=now_s, failures=failures, error=error.message, next_s=now_s + wait_s
            )
            self._archive.put_state(key, failed)
            return False
        done = replace(
            state,
            tried_s=now_s,
            fetched_s=now_s,
            failures=0,
            error=None,
            next_s=now_s + max(source.info.cadence_s, _WEATHER_EVERY_S),
        )
        self._archive.put_state(key, done)
        return True

    def scores(self, zone_id: str, links: Sequence[Link]) -> dict[str, Score]:
        """How good our own forecasts of the zone were, and those of its sources, against its history."""
        now_s = int(self._clock.now().timestamp())
        try:
            _, truth = self._history(zone_id, links, now_s)
        except ForecastUnavailableError:
            return {}
        since_s = now_s - int(TRACK.total_seconds())
        keys = [self.key(zone_id), *(link.key for link in links)]
        return {
            key.source: score(vintages, truth)
            for key in keys
            if (vintages := self._archive.vintages(key, since_s=since_s))
        }


def _mg(grams: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(grams * 1000).astype(np.int64)
