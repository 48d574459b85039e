"""Great Britain's intensity API on loopback: national forecasts and actuals, and its faults."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.fakes.loopback_http import Behaviour, Exchange, LoopbackServer

STEP = timedelta(minutes=30)
Period = dict[str, Any]
"""`from`, `to` and `intensity`, as the API writes them."""


class ApiError(Exception):
    """Answered as the API answers errors."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.document = {"error": {"code": f"{code} {reason}", "message": message}}


class FakeNationalGridGB(LoopbackServer):
    """The national part of the API: `/intensity/{from}/fw48h` and `/intensity/{from}/{to}`.

    Every half-hour has the forecast `forecast_g` and, once it has ended by `now`, an actual value
    5 g above it.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        super().__init__(self._answer)

    @staticmethod
    def forecast_g(begins: datetime) -> int:
        """100 to 147 g/kWh over the half-hours of a day, and 50 more each day after a Monday."""
        half_hour = (begins.hour * 60 + begins.minute) // 30
        return 100 + half_hour + 50 * begins.weekday()

    def serve_changed(self, change: Callable[[list[Period]], object]) -> None:
        """Answers with what `change` makes of the good list under `data`."""

        def changed(to: Exchange) -> None:
            to.reply(json.dumps({"data": change(self._periods(to.path))}).encode())

        self.misbehave(always=changed)

    def serve_intensity(self, index: int, **figures: object) -> None:
        """Answers with other figures in the period of that index."""

        def change(data: list[Period]) -> list[Period]:
            data[index]["intensity"].update(figures)
            return data

        self.serve_changed(change)

    def good_body(self, path: str) -> bytes:
        return json.dumps({"data": self._periods(path)}).encode()

    def _answer(self, to: Exchange) -> None:
        try:
            to.reply(self.good_body(to.path))
        except ApiError as error:
            to.reply(json.dumps(error.document).encode(), status=error.code)

    def _periods(self, path: str) -> list[Period]:
        match unquote(urlsplit(path).path).split("/"):
            case ["", "intensity", begins, "fw48h"]:
                low = first_period(instant(begins))
                # A 14:29 request yields 14:00 … +47.5 h.
                return self._between(low, low + timedelta(hours=47, minutes=30))
            case ["", "intensity", begins, ends]:
                low, high = instant(begins), instant(ends)
                if high < low:
                    raise ApiError(400, "Bad Request", "Please enter a from date before to.")
                if high - low > timedelta(days=14):
                    raise ApiError(400, "Bad Request", "The date range is 14 days.")
                return self._between(first_period(low), high)
        raise ApiError(404, "Not Found", "No such path.")

    def _between(self, low: datetime, high: datetime) -> list[Period]:
        count = -((low - high) // STEP)
        return [self._period(low + index * STEP) for index in range(count)]

    def _period(self, begins: datetime) -> Period:
        forecast = self.forecast_g(begins)
        return {
            "from": minute(begins),
            "to": minute(begins + STEP),
            "intensity": {
                "forecast": forecast,
                "actual": forecast + 5 if begins + STEP <= self.now else None,
                "index": "moderate",
            },
        }


def bad_request(message: str = "string") -> Behaviour:
    return _error(400, "Bad Request", message)


def internal_error(message: str = "string") -> Behaviour:
    return _error(500, "Internal Server Error", message)


def minute(at: datetime) -> str:
    """The API's form of an instant, without seconds."""
    return at.strftime("%Y-%m-%dT%H:%MZ")


def _error(code: int, reason: str, message: str) -> Behaviour:
    error = ApiError(code, reason, message)
    return lambda to: to.reply(json.dumps(error.document).encode(), status=code)


def first_period(at: datetime) -> datetime:
    """The half-hour that holds the instant; on a border also the one that ends there comes first."""
    into = (at - datetime(1970, 1, 1, tzinfo=UTC)) % STEP
    return at - into if into else at - STEP


def instant(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
    except ValueError:
        message = "Please enter a valid date in ISO8601 format YYYY-MM-DDThh:mmZ."
        raise ApiError(400, "Bad Request", message) from None
