"""Electricity Maps on loopback: tokens with plans, zones answered with the caller's own, estimates."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.loopback_http import Exchange, LoopbackServer

HOUR = timedelta(hours=1)
ALL = frozenset({"latest", "history", "past", "past-range", "forecast"})
FREE = frozenset({"latest", "history"})
KNOWN_ZONES = frozenset({"DE", "FR", "DK-DK1", "US-CAL-CISO"})
Document = dict[str, Any]


class ApiError(Exception):
    """Answered as the API answers errors."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Plan:
    """What a token may read: which endpoints, and of which zones."""

    endpoints: frozenset[str] = ALL
    zones: frozenset[str] = KNOWN_ZONES


class FakeElectricityMaps(LoopbackServer):
    """`/v3` and `/v4`, `carbon-intensity/{history,past-range,forecast}`.

    Args:
        now: the server's clock; may be moved.
        plans: of each token.
        requests: how many it answers before it refuses tokens that are good (401).
    """

    caller_zone = "US-CAL-CISO"
    token = "tok-0123456789"

    def __init__(
        self,
        now: datetime,
        *,
        plans: dict[str, Plan] | None = None,
        requests: int = 1_000_000,
    ) -> None:
        self.now = now
        self.plans = plans or {self.token: Plan()}
        self.requests = requests
        self._change: Callable[[Document], object] = lambda document: document
        super().__init__(self._answer)

    @staticmethod
    def lifecycle_g(at: datetime) -> int:
        """200 g/kWh and 3 more for each hour of the day, 10 more for each day of the month."""
        return 200 + 3 * at.hour + 10 * at.day

    @classmethod
    def direct_g(cls, at: datetime) -> int:
        return cls.lifecycle_g(at) - 60

    def serve_changed(self, change: Callable[[Document], object]) -> None:
        """Answers with what `change` makes of the good document."""
        self._change = change

    def misbehave_no_more(self) -> None:
        self.misbehave()
        self.asked.clear()
        self.plans = {self.token: Plan()}
        self.requests = 1_000_000
        self._change = lambda document: document

    def _answer(self, to: Exchange) -> None:
        try:
            document = self._change(self._document(to))
        except ApiError as error:
            to.reply(json.dumps({"error": str(error)}).encode(), status=error.status)
        else:
            to.reply(json.dumps(document).encode())

    def _document(self, to: Exchange) -> Document:
        url = urlsplit(to.path)
        match url.path.split("/"):
            case ["", ("v3" | "v4") as version, "carbon-intensity", endpoint] if endpoint in ALL:
                query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            case _:
                raise ApiError(404, "Not found")
        plan = self._plan(to.headers.get("auth-token"))
        if endpoint not in plan.endpoints:
            raise ApiError(403, "Endpoint not available for this token")
        zone = self._zone(version, query)
        if zone not in plan.zones:
            raise ApiError(403, f"Token unauthorized for zoneKey={zone}")
        factors = query.get("emissionFactorType", "lifecycle")
        if factors not in {"lifecycle", "direct"}:
            raise ApiError(400, "Invalid emissionFactorType")
        if endpoint == "forecast":
            return self._forecast(zone, factors, query)
        if endpoint == "history":
            last = _floor(self.now)
            return {"zone": zone, "history": self._hours(zone, factors, last - 23 * HOUR, last)}
        if endpoint == "past-range":
            return {"zone": zone, "data": self._past_range(zone, factors, query)}
        raise ApiError(404, "Not found")

    def _plan(self, token: str | None) -> Plan:
        if token not in self.plans:
            raise ApiError(401, "Invalid auth-token")
        self.requests -= 1
        if self.requests < 0:
            raise ApiError(401, "Invalid auth-token")
        return self.plans[token]

    def _zone(self, version: str, query: dict[str, str]) -> str:
        zone = query.get("zone", "")
        if zone in KNOWN_ZONES:
            return zone
        switch = {
            "v3": ("shouldUseFallbackCallerLookup", "false"),
            "v4": ("disableCallerLookup", "true"),
        }
        name, value = switch[version]
        if query.get(name) == value:
            raise ApiError(404, f'No recent data for zone "{zone}"')
        return self.caller_zone

    def _forecast(self, zone: str, factors: str, query: dict[str, str]) -> Document:
        horizon = query.get("horizonHours", "24")
        if horizon not in {"6", "24", "48", "72"}:
            raise ApiError(400, "horizonHours must be one of 6, 24, 48, 72")
        first = _floor(self.now)
        hours = [first + index * HOUR for index in range(int(horizon) + 1)]
        return {
            "zone": zone,
            "forecast": [
                {"carbonIntensity": self._grams(factors, at), "datetime": instant(at)}
                for at in hours
            ],
            "updatedAt": instant(first - timedelta(minutes=11)),
            "temporalGranularity": "hourly",
        }

    def _past_range(self, zone: str, factors: str, query: dict[str, str]) -> list[Document]:
        low, high = _instant(query, "start"), _instant(query, "end")
        if high - low > timedelta(days=10):
            raise ApiError(400, "The range is limited to 10 days for hourly granularity")
        first = low if low == _floor(low) else _floor(low) + HOUR
        return self._hours(zone, factors, first, min(high, _floor(self.now)))

    def _hours(self, zone: str, factors: str, first: datetime, last: datetime) -> list[Document]:
        """Hours from `first` to `last`, which is included; the newest three are estimates."""
        hours = [first + index * HOUR for index in range((last - first) // HOUR + 1)]
        return [self._hour(zone, factors, at) for at in hours]

    def _hour(self, zone: str, factors: str, at: datetime) -> Document:
        is_estimated = at > self.now - 4 * HOUR
        return {
            "zone": zone,
            "carbonIntensity": self._grams(factors, at) + 5,
            "datetime": instant(at),
            "updatedAt": instant(at + HOUR),
            "createdAt": instant(at - 72 * HOUR),
            "emissionFactorType": factors,
            "isEstimated": is_estimated,
            "estimationMethod": "TIME_SLICER_AVERAGE" if is_estimated else None,
        }

    def _grams(self, factors: str, at: datetime) -> int:
        return self.direct_g(at) if factors == "direct" else self.lifecycle_g(at)


def instant(at: datetime) -> str:
    """The API's form: milliseconds and Z."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _floor(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _instant(query: dict[str, str], field: str) -> datetime:
    try:
        at = datetime.fromisoformat(query[field])
    except (KeyError, ValueError):
        raise ApiError(400, f"{field} must be an ISO 8601 datetime") from None
    if at.tzinfo is None:
        raise ApiError(400, f"{field} must be in UTC")
    return at.astimezone(UTC)
