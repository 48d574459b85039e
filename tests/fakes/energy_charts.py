"""Energy-Charts on loopback: `/co2eq` with reported and forecast values, and its ways with time."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from tests.fakes.loopback_http import Exchange, LoopbackServer

LOCAL = ZoneInfo("Europe/Berlin")
"""For every country here."""
COUNTRIES = frozenset(
    [
        "de",
        "ch",
        "eu",
        "all",
        "al",
        "am",
        "at",
        "az",
        "ba",
        "be",
        "bg",
        "by",
        "cy",
        "cz",
        "dk",
        "ee",
        "es",
        "fi",
        "fr",
        "ge",
        "gr",
        "hr",
        "hu",
        "ie",
        "it",
        "lt",
        "lu",
        "lv",
        "md",
        "me",
        "mk",
        "mt",
        "nie",
        "nl",
        "no",
        "pl",
        "pt",
        "ro",
        "rs",
        "ru",
        "se",
        "si",
        "sk",
        "tr",
        "ua",
        "uk",
        "xk",
    ]
)
QUARTERLY = frozenset({"de", "at"})
Columns = dict[str, Any]


class ApiError(Exception):
    """Answered as the framework behind the API answers errors."""

    def __init__(self, status: int, detail: object) -> None:
        super().__init__(status)
        self.status = status
        self.document = {"detail": detail}


class FakeEnergyCharts(LoopbackServer):
    """Germany and Austria in quarters of an hour, all other countries in hours.

    Values are reported up to an hour before `now` and forecast from there to the end of tomorrow, or
    of today as long as the day-ahead market has not cleared (at 13:00 local time). Switzerland's
    forecast also stands beside what is reported, and its first reported value is a zero.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        super().__init__(self._answer)

    @staticmethod
    def reported_g(at: datetime) -> float:
        """200 g/kWh and one more each quarter of an hour of the UTC day, in every country."""
        return 200 + (at.hour * 60 + at.minute) // 15

    @staticmethod
    def forecast_g(at: datetime) -> float:
        """Half a gram above what will be reported."""
        return FakeEnergyCharts.reported_g(at) + 0.5

    @property
    def reported_until(self) -> datetime:
        return self.now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)

    @property
    def ends_at(self) -> datetime:
        local = self.now.astimezone(LOCAL)
        days = 2 if local.hour >= 13 else 1
        return _midnight(local.date() + timedelta(days=days))

    def serve_changed(self, change: Callable[[Columns], object]) -> None:
        """Answers with what `change` makes of the good columns."""

        def changed(to: Exchange) -> None:
            to.reply(json.dumps(change(self.columns(to.path))).encode())

        self.misbehave(always=changed)

    def columns(self, path: str) -> Columns:
        parts = urlsplit(path)
        if parts.path != "/co2eq":
            raise ApiError(404, "Not Found")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        country = query.get("country", "de")
        if country not in COUNTRIES:
            raise ApiError(404, f"no data for {country}")
        start = query.get("start") or self.now.astimezone(LOCAL).date().isoformat()
        low, _ = _instants(start, "start")
        _, high = _instants(query.get("end") or start, "end")
        if high < low:
            raise ApiError(422, "end lies before start")
        return self._between(country, low, high)

    def _answer(self, to: Exchange) -> None:
        try:
            to.reply(json.dumps(self.columns(to.path)).encode())
        except ApiError as error:
            to.reply(json.dumps(error.document).encode(), status=error.status)

    def _between(self, country: str, low: datetime, high: datetime) -> Columns:
        step_s = 900 if country in QUARTERLY else 3600
        first_s = -(-int(low.timestamp()) // step_s) * step_s
        stop_s = min(int(high.timestamp()) + 1, int(self.ends_at.timestamp()))
        axis = list(range(first_s, stop_s, step_s))
        times = [datetime.fromtimestamp(at_s, UTC) for at_s in axis]
        is_reported = [at < self.reported_until for at in times]
        overlaps = country == "ch"
        reported: list[float | None] = [
            self.reported_g(at) if known else None
            for at, known in zip(times, is_reported, strict=True)
        ]
        if overlaps and reported and reported[0] is not None:
            reported[0] = 0
        return {
            "unix_seconds": axis,
            "co2eq": reported,
            "co2eq_forecast": [
                self.forecast_g(at) if overlaps or not known else None
                for at, known in zip(times, is_reported, strict=True)
            ],
            "deprecated": False,
        }


def _instants(text: str, name: str) -> tuple[datetime, datetime]:
    """When a time begins and ends: an instant, or from midnight to the last minute of a local day."""
    try:
        if text.isdigit():
            at = datetime.fromtimestamp(int(text), UTC)
            return at, at
        if len(text) == 10:
            day = date.fromisoformat(text)
            return _midnight(day), _midnight(day + timedelta(days=1)) - timedelta(minutes=1)
        at = datetime.fromisoformat(text)
    except ValueError as error:
        detail = [{"loc": ["query", name], "msg": str(error), "type": "value_error"}]
        raise ApiError(422, detail) from error
    # Without an offset it is taken for local time: the trap for those who mean UTC.
    at = at if at.tzinfo else at.replace(tzinfo=LOCAL)
    return at, at


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), LOCAL).astimezone(UTC)
