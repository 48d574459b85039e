"""WattTime v3 on loopback: logins that run out, regions that an account may read, lb/MWh."""

import base64
import json
import re
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.loopback_http import Exchange, LoopbackServer

STEP = timedelta(minutes=5)
TOKEN_LIFE = timedelta(minutes=30)
NGINX_403 = (
    b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 Forbidden"
    b"</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
Document = dict[str, Any]


class ApiError(Exception):
    """Answered with that status and document, or with the web server's own page."""

    def __init__(self, status: int, document: object | None) -> None:
        super().__init__(str(document))
        self.status = status
        self.document = document


class FakeWattTime(LoopbackServer):
    """One account. `now` may be moved: forecasts, tokens and quotas follow it.

    Args:
        now: the server's clock.
        regions: what the account may read beside CAISO_NORTH, which is open to all.
    """

    user, password = "operator", "correct horse: battery"

    def __init__(self, now: datetime, *, regions: frozenset[str] = frozenset()) -> None:
        self.now = now
        self.regions = regions | {"CAISO_NORTH"}
        self.model_date: str | None = "2023-03-01"
        self.refuses_by_page = False
        self.logins = 0
        self._tokens: dict[str, datetime] = {}
        self._calls: deque[datetime] = deque()
        self._login_calls: deque[datetime] = deque()
        self._serials = count(1)
        self._change: Callable[[Document], object] = lambda document: document
        super().__init__(self._answer)

    @staticmethod
    def moer_lb(at: datetime) -> int:
        """Pounds per MWh: 600 and 10 more for each hour of the day, 1 more for each step of it."""
        return 600 + 10 * at.hour + at.minute // 5

    def serve_changed(self, change: Callable[[Document], object]) -> None:
        """Answers every question about data with what `change` makes of the good document."""
        self._change = change

    def misbehave_no_more(self) -> None:
        self.misbehave()
        self.asked.clear()
        self._change = lambda document: document
        self._calls.clear()
        self._login_calls.clear()

    def forget_tokens(self) -> None:
        self._tokens.clear()

    @property
    def tokens(self) -> list[str]:
        return list(self._tokens)

    def _answer(self, to: Exchange) -> None:
        try:
            document = self._document(to)
        except ApiError as error:
            if error.document is None:
                to.reply(NGINX_403, status=error.status, content_type="text/html")
            else:
                to.reply(json.dumps(error.document).encode(), status=error.status)
        else:
            to.reply(json.dumps(document).encode())

    def _document(self, to: Exchange) -> object:
        url = urlsplit(to.path)
        given = to.headers.get("Authorization", "")
        if url.path == "/login":
            return self._login(given)
        self._require_token(given)
        self._require_quota(self._calls, 3000)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/v3/forecast":
                return self._change(self._forecast(query))
            case "/v3/historical":
                return self._change(self._historical(query))
            case "/v3/region-from-loc":
                return self._place(query)
        raise ApiError(404, {"detail": "Not Found"})

    def _login(self, given: str) -> Document:
        self._require_quota(self._login_calls, 100)
        wanted = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if given != f"Basic {wanted}":
            raise self._refused()
        self.logins += 1
        token = f"eyJ0.eyJu-{next(self._serials)}.c2ln_"
        self._tokens[token] = self.now + TOKEN_LIFE
        return {"token": token}

    def _require_token(self, given: str) -> None:
        kind, _, token = given.partition(" ")
        if kind != "Bearer" or self.now >= self._tokens.get(token, self.now):
            raise self._refused()

    def _refused(self) -> ApiError:
        if self.refuses_by_page:
            return ApiError(403, None)
        return ApiError(401, {"error": "Unauthorized", "message": "Invalid credentials"})

    def _require_quota(self, calls: deque[datetime], most: int) -> None:
        while calls and calls[0] <= self.now - timedelta(minutes=5):
            calls.popleft()
        if len(calls) >= most:
            raise ApiError(429, {"error": "Too Many Requests", "message": "Rate limit exceeded"})
        calls.append(self.now)

    def _forecast(self, query: dict[str, str]) -> Document:
        self._require_access(query)
        hours = _whole(query.get("horizon_hours", "24"), "horizon_hours")
        if not 0 <= hours <= 72:
            raise _invalid("horizon_hours", "ensure this value is less than or equal to 72")
        made_at = _floor(self.now)
        data = [self._point(made_at + index * STEP) for index in range(max(12 * hours, 1))]
        meta = {"generated_at_period_seconds": 300, "generated_at": made_at.isoformat()}
        return {"data": data, "meta": self._meta(query) | meta}

    def _historical(self, query: dict[str, str]) -> Document:
        self._require_access(query)
        low, high = _instant(query, "start"), _instant(query, "end")
        if high - low > timedelta(days=32):
            message = "Your query range exceeds 32 days."
            raise ApiError(400, {"error": "Bad Request", "message": message})
        first = _floor(low) if low == _floor(low) else _floor(low) + STEP
        # Both ends inclusive; what has not ended is not published.
        last = min(high, _floor(self.now) - STEP)
        count_of = max((last - first) // STEP + 1, 0)
        data = [self._point(first + index * STEP, add_lb=7) for index in range(count_of)]
        return {"data": data, "meta": self._meta(query)}

    def _point(self, at: datetime, *, add_lb: int = 0) -> Document:
        return {"point_time": at.isoformat(), "value": float(self.moer_lb(at) + add_lb)}

    def _meta(self, query: dict[str, str]) -> Document:
        warning = {"type": "EXAMPLE", "message": "There is a newer model."}
        model = {"model": {"date": self.model_date}} if self.model_date else {}
        return {
            "data_point_period_seconds": 300,
            "region": query["region"],
            "warnings": [warning],
            "signal_type": query["signal_type"],
            "units": "lbs_co2_per_mwh",
        } | model

    def _require_access(self, query: dict[str, str]) -> None:
        for field in ("region", "signal_type"):
            if field not in query:
                raise _invalid(field, "field required")
        if query["signal_type"] != "co2_moer" or query["region"] not in self.regions:
            message = "Invalid scope. You do not have sufficient access to this resource."
            raise ApiError(403, {"error": "Invalid query parameters", "message": message})

    def _place(self, query: dict[str, str]) -> Document:
        for field in ("signal_type", "latitude", "longitude"):
            if field not in query:
                raise _invalid(field, "field required")
        latitude, longitude = float(query["latitude"]), float(query["longitude"])
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
            raise _invalid("latitude", "ensure this value is less than or equal to 90")
        if 36 < latitude < 42 and -124 < longitude < -120:
            return {
                "region": "CAISO_NORTH",
                "region_full_name": "California ISO Northern",
                "signal_type": query["signal_type"],
            }
        message = "No coverage available for these coordinates and signal_type"
        raise ApiError(404, {"error": message, **query})


def _floor(at: datetime) -> datetime:
    return at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % STEP


def _invalid(field: str, message: str) -> ApiError:
    where = {"loc": ["query", field], "msg": message, "type": "value_error"}
    return ApiError(422, {"detail": [where]})


def _whole(text: str, field: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        raise _invalid(field, "value is not a valid integer")
    return int(text)


def _instant(query: dict[str, str], field: str) -> datetime:
    if field not in query:
        raise _invalid(field, "field required")
    at = datetime.fromisoformat(query[field])
    if at.tzinfo is None:
        raise ApiError(400, {"error": "Bad Request", "message": f"{field} has no time zone."})
    return at.astimezone(UTC)
