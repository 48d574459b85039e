"""The Carbon Aware SDK's WebAPI on loopback: .NET's times, durations, problems and empty answers."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.fakes.loopback_http import Exchange, LoopbackServer

Document = dict[str, Any]


class ProblemError(Exception):
    """Answered as ProblemDetails."""

    def __init__(self, status: int, title: str, detail: str, **errors: list[str]) -> None:
        super().__init__(detail)
        self.status = status
        self.document = {"title": title, "status": status, "detail": detail, "errors": errors}


class FakeCarbonAwareSdk(LoopbackServer):
    """`/emissions/forecasts/current` and `/emissions/bylocation` of the locations that it knows.

    Args:
        now: the server's clock.
        step: of its source's values.
    """

    locations: ClassVar = {"northeurope": "IE", "westeurope": "NL"}

    def __init__(self, now: datetime, *, step: timedelta = timedelta(minutes=5)) -> None:
        self.now = now
        self.step = step
        self.is_pascal = False
        self.spells_singular = False
        self.can_forecast = True
        self._change: Callable[[Any], object] = lambda document: document
        super().__init__(self._answer)

    @staticmethod
    def grams(at: datetime) -> float:
        """400.5 g/kWh, and 2 more for each hour of the day."""
        return 400.5 + 2 * at.hour

    def serve_changed(self, change: Callable[[Any], object]) -> None:
        """Answers with what `change` makes of the good list."""
        self._change = change

    def misbehave_no_more(self) -> None:
        self.misbehave()
        self.asked.clear()
        self.is_pascal = self.spells_singular = False
        self.can_forecast = True
        self._change = lambda document: document

    def _answer(self, to: Exchange) -> None:
        try:
            document = self._change(self._document(to))
        except ProblemError as problem:
            body = json.dumps({**problem.document, "traceId": "00-4bf9-00f0-00"}).encode()
            to.reply(body, status=problem.status, content_type="application/problem+json")
            return
        if not document:
            to.send_response(204)
            to.end_headers()
            return
        to.reply(json.dumps(_pascal(document) if self.is_pascal else document).encode())

    def _document(self, to: Exchange) -> list[Document]:
        url = urlsplit(to.path)
        query = parse_qs(url.query)
        match url.path:
            case "/emissions/forecasts/current":
                if not self.can_forecast:
                    raise ProblemError(
                        501, "NotImplementedException", "The method is not implemented."
                    )
                return [self._forecast(name, query) for name in self._asked(query)]
            case "/emissions/bylocation":
                return self._past(self._asked(query)[-1], query)
        raise ProblemError(404, "Not Found", "No such path.")

    def _asked(self, query: dict[str, list[str]]) -> list[str]:
        names = query.get("location", [])
        if not names:
            text = "The location field is required."
            raise ProblemError(400, "ArgumentException", "Invalid parameters", location=[text])
        for name in names:
            if name not in self.locations:
                raise ProblemError(400, "ArgumentException", f"Location {name} is not known")
        return names

    def _forecast(self, name: str, query: dict[str, list[str]]) -> Document:
        first = self._floor(self.now)
        starts = [first + index * self.step for index in range(timedelta(days=1) // self.step)]
        low = _instant(query, "dataStartAt", first)
        high = _instant(query, "dataEndAt", starts[-1] + self.step)
        if low < first or high > starts[-1] + self.step:
            text = "dataStartAt must be within the forecast"
            raise ProblemError(400, "ArgumentException", "Invalid parameters", dataStartAt=[text])
        minutes = int(query.get("windowSize", ["0"])[0])
        data = [self._value(name, at, minutes) for at in starts if low <= at < high]
        best = min(data, key=lambda one: float(one["value"]))
        return {
            # With ticks of 100 ns, as .NET writes them.
            "generatedAt": first.strftime("%Y-%m-%dT%H:%M:%S.1234567+00:00"),
            "requestedAt": self.now.isoformat(),
            "location": name,
            "dataStartAt": low.isoformat(),
            "dataEndAt": high.isoformat(),
            "windowSize": minutes,
            **(
                {"optimalDataPoint": best}
                if self.spells_singular
                else {"optimalDataPoints": [best]}
            ),
            "forecastData": data,
        }

    def _value(self, name: str, at: datetime, window_min: int) -> Document:
        """A rolling mean over the window, where one is asked for."""
        parts = max(timedelta(minutes=window_min) // self.step, 1)
        mean = sum(self.grams(at + index * self.step) for index in range(parts)) / parts
        return {
            "location": self.locations[name],
            "timestamp": at.isoformat(),
            "duration": int(max(self.step, timedelta(minutes=window_min)).total_seconds()) // 60,
            "value": mean,
        }

    def _past(self, name: str, query: dict[str, list[str]]) -> list[Document]:
        low = _instant(query, "time", self.now)
        high = _instant(query, "toTime", low)
        if high < low:
            text = "time must be before toTime"
            raise ProblemError(400, "ArgumentException", "Invalid parameters", time=[text])
        first = self._floor(low) if low == self._floor(low) else self._floor(low) + self.step
        last = min(high, self._floor(self.now) - self.step)
        return [
            {
                "location": self.locations[name],
                "time": (first + index * self.step).isoformat(),
                "rating": self.grams(first + index * self.step) + 1,
                "duration": time_span(self.step),
            }
            for index in range((last - first) // self.step + 1)
        ]

    def _floor(self, at: datetime) -> datetime:
        return at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % self.step


def time_span(length: timedelta) -> str:
    """As .NET writes it: `[d.]hh:mm:ss`."""
    hours, rest_s = divmod(length.seconds, 3600)
    days = f"{length.days}." if length.days else ""
    return f"{days}{hours:02}:{rest_s // 60:02}:{rest_s % 60:02}"


def _pascal(document: Any) -> Any:
    if isinstance(document, dict):
        return {name[:1].upper() + name[1:]: _pascal(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_pascal(one) for one in document]
    return document


def _instant(query: dict[str, list[str]], field: str, otherwise: datetime) -> datetime:
    if field not in query:
        return otherwise
    at = datetime.fromisoformat(query[field][0])
    if at.tzinfo is None:
        raise ProblemError(
            400, "ArgumentException", "Invalid parameters", **{field: ["has no offset"]}
        )
    return at.astimezone(UTC)
