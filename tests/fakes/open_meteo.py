"""Open-Meteo on loopback: `/v1/forecast` with its parameters, units, times, errors and quota."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tests.fakes.loopback_http import Exchange, LoopbackServer

HOUR = timedelta(hours=1)
Document = dict[str, Any]
Query = dict[str, str]
Chosen = TypeVar("Chosen")
_SPEEDS = {
    "kmh": ("km/h", 3.6),
    "ms": ("m/s", 1.0),
    "mph": ("mp/h", 2.23694),
    "kn": ("kn", 1.94384),
}


class ApiError(Exception):
    """Answered as the API answers errors."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.document = {"error": True, "reason": reason}


class FakeOpenMeteo(LoopbackServer):
    """Any place on Earth.

    Values are rounded to a tenth, and null from 7 days after today's midnight (GMT) on, the range of the
    model. Speeds are in km/h and times are local without an offset, unless asked for otherwise.

    Args:
        now: time of the server.
        quota: requests a day, of which each place is one.
        key: what `apikey` must be; None for the free host. How the real one answers a bad key is not
            known.
    """

    def __init__(self, now: datetime, *, quota: int = 10_000, key: str | None = None) -> None:
        self.now = now
        self.quota = quota
        self.key = key
        super().__init__(self._answer)

    @staticmethod
    def wind_ms(at: datetime, latitude: float, longitude: float) -> float:
        """At an instant, on which day of the month, and where: all of it shows in the number."""
        return at.day / 10 + at.hour / 10 + abs(longitude) / 10

    @staticmethod
    def temperature_c(at: datetime, latitude: float, longitude: float) -> float:
        return at.hour / 2 - latitude / 10

    @staticmethod
    def sun_wm2(begins: datetime, latitude: float, longitude: float) -> float:
        """The mean of the hour that begins."""
        return 50.0 * begins.hour + abs(latitude)

    @staticmethod
    def rain_mm(begins: datetime, latitude: float, longitude: float) -> float:
        """The sum of the hour that begins."""
        return begins.hour / 10 + (1 if latitude < 0 else 0)

    def serve_changed(self, change: Callable[[Any], object]) -> None:
        """Answers with what `change` makes of the good document."""

        def changed(to: Exchange) -> None:
            to.reply(json.dumps(change(self.document(to.path))).encode())

        self.misbehave(always=changed)

    def document(self, path: str) -> Document | list[Document]:
        parts = urlsplit(path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path != "/v1/forecast":
            raise ApiError(404, "Not Found")
        if self.key is not None and query.get("apikey") != self.key:
            raise ApiError(400, "The supplied API key is invalid.")
        places = _places(query)
        self.quota -= len(places)
        if self.quota < 0:
            raise ApiError(429, "Daily API request limit exceeded. Please try again tomorrow.")
        documents = [self._place(query, *place) for place in places]
        return documents if len(documents) > 1 else documents[0]

    def _answer(self, to: Exchange) -> None:
        try:
            to.reply(json.dumps(self.document(to.path)).encode())
        except ApiError as error:
            to.reply(json.dumps(error.document).encode(), status=error.status)

    def _place(self, query: Query, latitude: float, longitude: float) -> Document:
        zone = _zone(query.get("timezone", "GMT"))
        past = _whole(query, "past_days", default=0, highest=92)
        ahead = _whole(query, "forecast_days", default=7, highest=16)
        today = self.now.astimezone(zone).date()
        low = _midnight(today - timedelta(days=past), zone)
        n_hours = (_midnight(today + timedelta(days=ahead), zone) - low) // HOUR
        times = [low + index * HOUR for index in range(n_hours)]
        units, hourly = self._columns(query, times, (latitude, longitude))
        at_text = _choice(query, "timeformat", {"iso8601": "iso8601", "unixtime": "unixtime"})
        hourly["time"] = [
            int(at.timestamp())
            if at_text == "unixtime"
            else at.astimezone(zone).strftime("%Y-%m-%dT%H:%M")
            for at in times
        ]
        return {
            # The centre of the model's cell, near the place.
            "latitude": round(latitude * 8) / 8,
            "longitude": round(longitude * 8) / 8,
            "generationtime_ms": 0.3,
            "utc_offset_seconds": int(
                (self.now.astimezone(zone).utcoffset() or timedelta()).total_seconds()
            ),
            "timezone": query.get("timezone", "GMT"),
            "timezone_abbreviation": query.get("timezone", "GMT"),
            "elevation": 10.0,
            "hourly_units": {"time": at_text, **units},
            "hourly": hourly,
        }

    def _columns(
        self, query: Query, times: list[datetime], place: tuple[float, float]
    ) -> tuple[dict[str, str], dict[str, list[Any]]]:
        speed_unit, factor = _choice(query, "wind_speed_unit", _SPEEDS)
        known: dict[str, tuple[str, Callable[[datetime], float]]] = {
            "wind_speed_10m": (speed_unit, lambda at: self.wind_ms(at, *place) * factor),
            "wind_speed_100m": (speed_unit, lambda at: self.wind_ms(at, *place) * factor * 1.5),
            # Of the hour before.
            "shortwave_radiation": ("W/m²", lambda at: self.sun_wm2(at - HOUR, *place)),
            "precipitation": ("mm", lambda at: self.rain_mm(at - HOUR, *place)),
            "temperature_2m": ("°C", lambda at: self.temperature_c(at, *place)),
            "dew_point_2m": ("°C", lambda at: self.temperature_c(at, *place) - 5),
        }
        names = [name for name in query.get("hourly", "").split(",") if name]
        for name in names:
            if name not in known:
                raise ApiError(
                    400,
                    "Data corrupted at path ''. Cannot initialize weather variable from invalid "
                    f"String value {name}.",
                )
        end = self.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=7)
        columns: dict[str, list[Any]] = {
            name: [round(known[name][1](at), 1) if at < end else None for at in times]
            for name in names
        }
        return {name: known[name][0] for name in names}, columns


def _places(query: Query) -> list[tuple[float, float]]:
    latitudes, longitudes = (_degrees(query, name) for name in ("latitude", "longitude"))
    if len(latitudes) != len(longitudes) or not latitudes:
        raise ApiError(
            400, "Parameter 'latitude' and 'longitude' must have the same number of elements"
        )
    for latitude in latitudes:
        if abs(latitude) > 90:
            raise ApiError(400, f"Latitude must be in range of -90 to 90°. Given: {latitude}.")
    for longitude in longitudes:
        if abs(longitude) > 180:
            raise ApiError(400, f"Longitude must be in range of -180 to 180°. Given: {longitude}.")
    return list(zip(latitudes, longitudes, strict=True))


def _degrees(query: Query, name: str) -> list[float]:
    try:
        return [float(one) for one in query.get(name, "").split(",") if one]
    except ValueError as error:
        raise ApiError(400, f"Data corrupted at path '{name}'.") from error


def _whole(query: Query, name: str, *, default: int, highest: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit() or int(text) > highest:
        label = name.replace("_", " ").capitalize()
        raise ApiError(400, f"{label} is invalid. Allowed range 0 to {highest}. Given {text}.")
    return int(text)


def _choice(query: Query, name: str, choices: dict[str, Chosen]) -> Chosen:
    given = query.get(name, next(iter(choices)))
    if given not in choices:
        raise ApiError(400, f"Data corrupted at path '{name}'. Invalid String value {given}.")
    return choices[given]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ApiError(400, "Invalid timezone") from error


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
