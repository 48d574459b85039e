"""Open-Meteo: weather of the next days anywhere, hourly, no key for non-commercial use.

Whoever earns money with it needs a key for the host `COMMERCIAL_URL`, given to the HTTP client as
`secret_params={"apikey": ...}`. Each place of a zone counts as a request of the quota, and so do some
days of the past.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from adapters.http_client import HttpClient
from adapters.reply import Reply
from adapters.weather.possible import POSSIBLE
from scheduler.core.errors import ForecastUnavailableError, InvalidConfigError
from scheduler.core.forecasting.weather import VARIABLES, WeatherRun
from scheduler.core.names import suggest
from scheduler.core.timegrid import as_utc, format_instant
from scheduler.ports import Clock, Quota, WeatherInfo

DEFAULT_URL: Final = "https://api.open-meteo.com"
COMMERCIAL_URL: Final = "https://customer-api.open-meteo.com"
Places = Sequence[tuple[float, float]]
"""Latitudes and longitudes in degrees."""
_NAME: Final = "open_meteo"
_FIELDS: Final = {
    # At 10 m like the archives that the forecast model learns from. Turbines stand higher, but what
    # the model needs is the same quantity in every run, and it fits its own powers of it.
    "wind_speed_ms": "wind_speed_10m",
    "irradiance_wm2": "shortwave_radiation",
    "temperature_c": "temperature_2m",
    "dewpoint_c": "dew_point_2m",
    "precipitation_mm": "precipitation",
}
_OF_HOUR_BEFORE: Final = ("irradiance_wm2", "precipitation_mm")
_UNITS: Final = {
    "time": "unixtime",
    "wind_speed_10m": "m/s",
    "temperature_2m": "°C",
    "dew_point_2m": "°C",
    "precipitation": "mm",
}
"""Those that a request can change. Irradiance is in W/m² always."""
_AHEAD_DAYS: Final = 8
_MOST_PAST_DAYS: Final = 92
_PAST_RUN: Final = timedelta(days=4)
_DAY: Final = timedelta(days=1)
_HOUR_S: Final = 3600


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)


class _Hours(_Shape):
    model_config = ConfigDict(alias_generator=lambda name: _FIELDS.get(name, name))
    time: list[int]
    wind_speed_ms: list[float | None]
    irradiance_wm2: list[float | None]
    temperature_c: list[float | None]
    dewpoint_c: list[float | None]
    precipitation_mm: list[float | None]


class _Place(_Shape):
    hourly: _Hours
    units: dict[str, str] = Field(alias="hourly_units")


_PLACES: Final = TypeAdapter(list[_Place])


@dataclass(frozen=True, slots=True)
class HourlyWeather:
    """Weather of consecutive hours, past and to come.

    Args:
        times_s: int64, shape (hours,), epoch seconds at which each begins.
        values: float64, shape (hours, variables) in the order of `VARIABLES`, NaN where unknown;
            irradiance and precipitation are those of the hour that begins.
    """

    times_s: NDArray[np.int64]
    values: NDArray[np.float64]

    def run(self, issued_at: datetime, first_at: datetime, stop_at: datetime) -> WeatherRun:
        """The hours of `[first_at, stop_at)` as a run."""
        low, high = np.searchsorted(self.times_s, [first_at.timestamp(), stop_at.timestamp()])
        return WeatherRun(int(issued_at.timestamp()), self.times_s[low:high], self.values[low:high])


class OpenMeteo:
    """A `WeatherSource` for the zones whose places are given.

    Args:
        http: with the key where there is one.
        clock: tells which day it is.
        places: of each zone; its weather is their mean. Three months of the past of more than 30
            need a larger `Limits.max_body_bytes`.

    Raises:
        InvalidConfigError: a zone has no place, or one that is not on Earth.
    """

    def __init__(self, http: HttpClient, *, clock: Clock, places: Mapping[str, Places]) -> None:
        self._http = http
        self._clock = clock
        self._places = {zone_id: tuple(places[zone_id]) for zone_id in places}
        for zone_id, there in self._places.items():
            _require_on_earth(zone_id, there)

    @property
    def info(self) -> WeatherInfo:
        """The configured zones; its models run every one to six hours."""
        return WeatherInfo(
            name=_NAME,
            zone_ids=frozenset(self._places),
            cadence_s=3600,
            attribution="Weather data by Open-Meteo.com (https://open-meteo.com/, CC BY 4.0)",
            quota=Quota(requests=10_000, per_s=86_400),
        )

    def fetch_runs(self, zone_id: str, since: datetime) -> tuple[WeatherRun, ...]:
        """A run for each past day since then, of 92 at most, and the forecast of now.

        The runs of past days are *not* what was forecast then but what the models say today, put in
        the form of a run that was issued when the day began: it holds the day and the three after
        it. A model trained on them takes its weather for better than it will be.
        """
        reply = Reply(_NAME, zone_id)
        places = self._places.get(zone_id)
        if places is None:
            raise reply.unavailable(
                f"no weather of zone {zone_id!r}; {suggest(zone_id, self._places)}"
            )
        now = self._clock.now()
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        past_days = min(
            max((now.date() - as_utc(since, field="since").date()).days, 0), _MOST_PAST_DAYS
        )
        body = self._body(reply, places, past_days)
        hours = parse_forecast(body, zone_id=zone_id, count=len(places), now=now)
        days = [today - back * _DAY for back in range(past_days, 0, -1)]
        past = [hours.run(day, day, day + _PAST_RUN) for day in days]
        newest = hours.run(now, today, today + _AHEAD_DAYS * _DAY)
        return (*(run for run in past if not np.isnan(run.values).all()), newest)

    def _body(self, reply: Reply, places: Places, past_days: int) -> object:
        latitudes, longitudes = zip(*places, strict=True)
        try:
            return self._http.get_json(
                "/v1/forecast",
                {
                    "latitude": ",".join(f"{one:.4f}" for one in latitudes),
                    "longitude": ",".join(f"{one:.4f}" for one in longitudes),
                    "hourly": ",".join(_FIELDS.values()),
                    "wind_speed_unit": "ms",
                    "timeformat": "unixtime",
                    "timezone": "GMT",
                    "forecast_days": str(_AHEAD_DAYS),
                    "past_days": str(past_days),
                },
            )
        except ForecastUnavailableError as error:
            raise reply.failed(error) from error


def parse_forecast(body: object, *, zone_id: str, count: int, now: datetime) -> HourlyWeather:
    """The mean over the places of a reply; what one place does not know is the mean of the others.

    Args:
        body: one document for one place, a list of documents for several.
        zone_id: for errors.
        count: of the places that were asked for.
        now: must be among its hours.

    Raises:
        ForecastRejectedError: of another shape, unit, time or number of places, or values that
            cannot be.
        ForecastUnavailableError: an error instead of weather, or no value from now on.
    """
    reply = Reply(_NAME, zone_id)
    if isinstance(body, dict) and body.get("error"):
        raise reply.unavailable(f"the reply is an error: {body.get('reason')!r:.200}")
    places = reply.validated(_PLACES, body if isinstance(body, list) else [body])
    if len(places) != count:
        raise reply.rejected(f"asked for {count} places, answered for {len(places)}")
    times_s = _times_s(reply, places, now)
    values = _mean(np.stack([_values(reply, place) for place in places]))
    for variable in _OF_HOUR_BEFORE:
        column = VARIABLES.index(variable)
        values[:, column] = np.append(values[1:, column], np.nan)
    if np.isnan(values[times_s > now.timestamp() - _HOUR_S]).all():
        raise reply.unavailable(f"no value from {format_instant(now)} on")
    return HourlyWeather(times_s, values)


def _times_s(reply: Reply, places: Sequence[_Place], now: datetime) -> NDArray[np.int64]:
    """The one axis of all places."""
    first = places[0].hourly.time
    for number, place in enumerate(places):
        for name, unit in _UNITS.items():
            if place.units.get(name) != unit:
                given = place.units.get(name)
                raise reply.rejected(
                    f"{number}.hourly_units.{name} {given!r:.80} instead of {unit}"
                )
        if place.hourly.time != first:
            raise reply.rejected(f"{number}.hourly.time differs from that of the first place")
    if not first:
        raise reply.unavailable("the reply is empty")
    if any(at_s % _HOUR_S for at_s in first) or first != list(
        range(first[0], first[0] + len(first) * _HOUR_S, _HOUR_S)
    ):
        raise reply.rejected("hourly.time is not one whole hour after the other")
    if not first[0] <= now.timestamp() < first[-1] + _HOUR_S:
        raise reply.rejected(
            f"asked at {format_instant(now)}, answered for other hours, from {first[0]} to "
            f"{first[-1]} in Unix time"
        )
    return np.array(first, dtype=np.int64)


def _values(reply: Reply, place: _Place) -> NDArray[np.float64]:
    """Shape (hours, variables), as the provider states them."""
    columns = []
    for variable in VARIABLES:
        given: list[float | None] = getattr(place.hourly, variable)
        name = f"hourly.{_FIELDS[variable]}"
        if len(given) != len(place.hourly.time):
            raise reply.rejected(
                f"{len(given)} of {name} for {len(place.hourly.time)} of hourly.time"
            )
        column = np.array([math.nan if value is None else value for value in given])
        low, high = POSSIBLE[variable]
        wrong = np.flatnonzero((column < low) | (column > high))
        if len(wrong):
            at = datetime.fromtimestamp(place.hourly.time[wrong[0]], UTC)
            raise reply.rejected(
                f"{name} {column[wrong[0]]:g} at {format_instant(at)} cannot be true"
            )
        columns.append(column)
    return np.stack(columns, axis=1)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the places, the first axis; NaN where none has a value."""
    is_known = ~np.isnan(values)
    count = is_known.sum(axis=0)
    total = np.where(is_known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _require_on_earth(zone_id: str, places: Places) -> None:
    if not places:
        raise InvalidConfigError(
            f"places: zone {zone_id} has none; give latitude and longitude of one at least",
            field="places",
            zone=zone_id,
        )
    for latitude, longitude in places:
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            raise InvalidConfigError(
                f"places: {latitude}, {longitude} of zone {zone_id} is not a latitude from -90 to 90 "
                "and a longitude from -180 to 180",
                field="places",
                zone=zone_id,
            )
