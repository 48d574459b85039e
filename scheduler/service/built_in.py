"""The built-in forecast of each zone: made anew every hour, and whenever a source brought something new."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from scheduler.core.errors import ForecastUnavailableError, GridtideError
from scheduler.core.forecast import (
    MAX_G_PER_KWH,
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
)
from scheduler.core.forecasting.hourly import HOUR_S, HourlySeries
from scheduler.core.forecasting.model import HourlyForecast, Known
from scheduler.core.forecasting.scores import Score, score
from scheduler.core.forecasting.vintages import Vintage, Vintages
from scheduler.core.forecasting.weather import WeatherRuns
from scheduler.core.forecasting.zone_forecaster import MAX_LAG_H, ZoneForecaster
from scheduler.ports import (
    Clock,
    ForecastSource,
    IntensityArchive,
    SeriesKey,
    WeatherSource,
)
from scheduler.service.fetching import CLAIM_S, Link, break_s

_log = structlog.get_logger(__name__)

NAME: Final = "built-in"
_ENOUGH_DAYS: Final = 28.0
"""A history of so many days is preferred to a longer one of a source that comes later."""
_FRESH_H: Final = 48
"""A history that ends longer ago is only used where there is no fresher one."""
_GROWN: Final = 1.25
"""A history that has grown by this factor is learned from anew: at first it comes piece by piece."""
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


@dataclass(frozen=True, slots=True)
class _Learned:
    """A forecaster, and the history that its models first learned from."""

    key: SeriesKey
    days: float
    forecaster: ZoneForecaster


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
        self._forecasters: dict[str, _Learned] = {}
        self._made: dict[str, _Made] = {}
        self._scores: dict[str, tuple[int, dict[str, Score]]] = {}
        self._tracks: dict[SeriesKey, list[Vintage]] = {}

    def series(self, zone_id: str) -> IntensitySeries | None:
        """The forecast made last; None where there is none."""
        made = self._made.get(zone_id)
        return made.series if made else None

    def error(self, zone_id: str) -> str | None:
        """Why there is none, or why it is without new weather."""
        made = self._made.get(zone_id)
        if made is not None and made.error is not None:
            return made.error
        if zone_id not in self._weather:
            return None
        error = self._archive.state(self._weather_key(zone_id)).error
        return None if error is None else f"without new weather: {error}"

    def key(self, zone_id: str) -> SeriesKey:
        """Under which its forecasts are archived."""
        return SeriesKey(NAME, zone_id, *self._kind)

    def restore(self, zone_id: str, *, since: datetime) -> None:
        """Takes the last forecast that was made since then from the archive: a restart loses none."""
        vintages = self._archive.vintages(self.key(zone_id), since_s=int(since.timestamp()))
        if vintages:
            self._made[zone_id] = _Made((), vintages[-1].series, None)

    def remake(self, zone_id: str, links: Sequence[Link], horizon: timedelta) -> bool:
        """Makes the forecast where the hour or the data changed. True where it is another now, or gone."""
        now_s = self._now_s()
        stamp = self._stamp(zone_id, links, now_s)
        before = self._made.get(zone_id, _Made((), None, None))
        if before.stamp == stamp:
            return False
        n_hours = -(-int(horizon.total_seconds()) // HOUR_S) + 1
        try:
            series = self._forecast(zone_id, links, n_hours)
            self._archive.add_vintage(self.key(zone_id), Vintage(now_s, series))
        except ForecastUnavailableError as error:
            self._made[zone_id] = _Made(stamp, None, error.message)
            return before.series is not None
        except Exception as error:  # noqa: BLE001 - what breaks in one zone must not stop the others
            _log.exception("forecast_broke", zone=zone_id)
            # The one made before serves until it is too old.
            why = f"{NAME}: {type(error).__name__}, the log has more"
            self._made[zone_id] = _Made(stamp, before.series, why)
            return False
        self._made[zone_id] = _Made(stamp, series, None)
        return True

    def _stamp(self, zone_id: str, links: Sequence[Link], now_s: int) -> tuple[object, ...]:
        """What the forecast depends on, as far as it changes."""
        keys = [link.key for link in links]
        if zone_id in self._weather:
            keys.append(self._weather_key(zone_id))
        states = [self._archive.state(key) for key in keys]
        return (now_s // HOUR_S, *((state.fetched_s, state.reached_s) for state in states))

    def _forecast(self, zone_id: str, links: Sequence[Link], n_hours: int) -> IntensitySeries:
        now_s = self._now_s()
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
            published=Vintages(_of_their_hours(published)) if published else None,
        )
        made = self._forecaster(zone_id, key, known).forecast(now_s // HOUR_S, n_hours)
        first = next((link.key for link in links if link.source.info.history_s > 0), key)
        return self._as_series(key, made, is_fallback=key != first)

    def _forecaster(self, zone_id: str, key: SeriesKey, known: Known) -> ZoneForecaster:
        """That of the zone; a new one where its models learned from too little, or from another source."""
        days = known.history.known_days
        learned = self._forecasters.get(zone_id)
        if learned is None or learned.key != key or days > _GROWN * learned.days:
            learned = _Learned(key, days, ZoneForecaster(zone_id, known))
            self._forecasters[zone_id] = learned
        learned.forecaster.learn(known)
        return learned.forecaster

    def _history(
        self, zone_id: str, links: Sequence[Link], now_s: int
    ) -> tuple[SeriesKey, HourlySeries]:
        """The first history that is long and fresh enough, or the best; those that were ingested come last."""
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
            hourly = HourlySeries.of([series])
            found.append((key, hourly))
            lag_h = now_s // HOUR_S - hourly.anchor_hour
            if hourly.known_days >= _ENOUGH_DAYS and lag_h <= _FRESH_H:
                return key, hourly
        if not found:
            raise ForecastUnavailableError(
                f"zone {zone_id}: no source has brought any history yet", zone=zone_id, source=NAME
            )
        last_h = now_s // HOUR_S - MAX_LAG_H
        return max(found, key=lambda one: (one[1].anchor_hour >= last_h, one[1].known_days))

    def _published(self, links: Sequence[Link], now_s: int) -> list[Vintage]:
        """Forecasts of the first source that published lately, or else of the first that ever did.

        Of one source only: those of two are not comparable.
        """
        found = [
            track
            for link in links
            if isinstance(link.source, ForecastSource) and (track := self._track(link.key, now_s))
        ]
        lately_s = now_s - int(_LATELY.total_seconds())
        return next(
            (one for one in found if one[-1].issued_s >= lately_s), found[0] if found else []
        )

    def _track(self, key: SeriesKey, now_s: int) -> list[Vintage]:
        """What was published, the last of every hour; only what is new is read again."""
        since_s = now_s - int(TRACK.total_seconds())
        had = [one for one in self._tracks.get(key, []) if since_s <= one.issued_s <= now_s]
        fresh = self._archive.vintages(key, since_s=had[-1].issued_s if had else since_s)
        hours = {-(-one.issued_s // HOUR_S): one for one in (*had, *fresh) if one.issued_s <= now_s}
        self._tracks[key] = list(hours.values())
        return self._tracks[key]

    def _as_series(
        self, key: SeriesKey, made: HourlyForecast, *, is_fallback: bool
    ) -> IntensitySeries:
        edges_s = (made.first_hour + np.arange(len(made.logs) + 1)) * HOUR_S
        plain = IntensitySeries.from_g_per_kwh(
            key.zone_id,
            edges_s,
            made.g_per_kwh,
            Provenance(
                source=f"{NAME} ({made.method}, history of {key.source})",
                signal=key.signal,
                scope=key.scope,
                quality=Quality.FORECAST,
                issued_at=self._clock.now().astimezone(UTC),
                is_fallback=is_fallback,
            ),
        )
        return replace(plain, low_mg=_mg(made.quantile(0.1)), high_mg=_mg(made.quantile(0.9)))

    # ------------------------------------------------------------------------- weather, scores

    def fetch_weather(self) -> bool:
        """Fetches the weather of every zone that is due. True where any is new."""
        return sum(self._fetch_weather(zone_id) for zone_id in self._weather) > 0

    def _fetch_weather(self, zone_id: str) -> bool:
        source, key, now_s = self._weather[zone_id], self._weather_key(zone_id), self._now_s()
        state = self._archive.claim(key, now_s=now_s, until_s=now_s + CLAIM_S)
        if state is None:
            return False
        since_s = now_s - int(self.history.total_seconds())
        if state.fetched_s is not None:
            # Runs kept when they were new are better to learn from than what is said of that day later.
            had_lately = now_s - state.fetched_s < _WEATHER_GAP_S
            since_s = now_s if had_lately else state.fetched_s
        try:
            runs = source.fetch_runs(zone_id, datetime.fromtimestamp(since_s, UTC))
            self._archive.add_runs(zone_id, runs)
        except Exception as error:  # noqa: BLE001 - weather only makes forecasts better; a fault in it stops none
            is_expected = isinstance(error, GridtideError)
            _log.warning(
                "weather_fetch_failed", zone=zone_id, error=str(error), exc_info=not is_expected
            )
            failures = state.failures + 1
            wait_s = break_s(failures, source.info.cadence_s)
            done = replace(state, failures=failures, error=str(error))
        else:
            wait_s = max(source.info.cadence_s, _WEATHER_EVERY_S)
            done = replace(state, failures=0, error=None, fetched_s=now_s)
        self._archive.put_state(key, replace(done, tried_s=now_s, next_s=now_s + wait_s))
        return done.error is None

    def _weather_key(self, zone_id: str) -> SeriesKey:
        return SeriesKey(self._weather[zone_id].info.name, zone_id, *self._kind)

    def scores(self, zone_id: str, links: Sequence[Link]) -> dict[str, Score]:
        """How good our own forecasts of the zone were, and those of its sources, against its history."""
        now_s = self._now_s()
        had = self._scores.get(zone_id)
        if had is not None and had[0] == now_s // HOUR_S:
            return had[1]
        try:
            _, truth = self._history(zone_id, links, now_s)
        except ForecastUnavailableError:
            return {}
        tracks = {
            key.source: self._track(key, now_s)
            for key in (self.key(zone_id), *(link.key for link in links))
        }
        found = {source: score(track, truth) for source, track in tracks.items() if track}
        self._scores[zone_id] = (now_s // HOUR_S, found)
        return found

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())


def _of_their_hours(published: Sequence[Vintage]) -> list[Vintage]:
    """Forecasts as if known when their hour began: what came a minute ago must not wait for the next."""
    return [Vintage(one.issued_s // HOUR_S * HOUR_S, one.series) for one in published]


def _mg(grams: NDArray[np.float64]) -> NDArray[np.int64]:
    milligrams: NDArray[np.int64] = np.rint(np.minimum(grams, MAX_G_PER_KWH) * 1000).astype(
        np.int64
    )
    return milligrams
