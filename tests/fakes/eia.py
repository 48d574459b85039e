"""EIA's hourly generation by fuel on loopback: keys, pages, order, hours named by their end, and lag."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.loopback_http import Exchange, LoopbackServer

HOUR = timedelta(hours=1)
LAG = timedelta(hours=5)
PATH = "/v2/electricity/rto/fuel-type-data/data/"
NAMES = {"PJM": "PJM Interconnection, LLC", "CISO": "California Independent System Operator"}
FUELS = {
    "COL": "Coal",
    "NG": "Natural Gas",
    "NUC": "Nuclear",
    "OTH": "Other",
    "PS": "Pumped storage",
    "SUN": "Solar",
    "WAT": "Hydro",
    "WND": "Wind",
}
Row = dict[str, Any]


class FakeEia(LoopbackServer):
    """`/v2/electricity/rto/fuel-type-data/data/` for every respondent, up to `LAG` before now.

    Of the newest hour only coal and wind are there. Values are texts, the total too.
    """

    key = "k3y"

    def __init__(self, now: datetime, *, allowed: int = 10_000) -> None:
        self.now = now
        self.allowed = allowed
        super().__init__(self._answer)

    @staticmethod
    def mw(fuel: str, begins: datetime) -> int:
        """Mean MW of the hour that begins then; pumped storage takes at night and never gives."""
        hour = begins.hour
        return {
            "COL": 1000,
            "NG": 3000 + 100 * hour,
            "NUC": 2000,
            "OTH": 50 - 60 * (hour == 5),
            "PS": -300 * (hour < 6),
            "SUN": 400 * max(0, 6 - abs(hour - 18)),
            "WAT": 400,
            "WND": 800 + 70 * begins.weekday(),
        }[fuel]

    def _answer(self, to: Exchange) -> None:
        url = urlsplit(to.path)
        status, document = self._checked(url.path, parse_qs(url.query))
        to.reply(json.dumps(document).encode(), status=status)

    def _checked(self, path: str, query: dict[str, list[str]]) -> tuple[int, object]:
        key = query.get("api_key", [""])[0]
        if not key:
            return 403, _gateway("API_KEY_MISSING", "No api_key was supplied.")
        if key != self.key:
            return 403, _gateway("API_KEY_INVALID", "An invalid api_key was supplied.")
        self.allowed -= 1
        if self.allowed < 0:
            return 429, _gateway("OVER_RATE_LIMIT", "You have exceeded your rate limit.")
        if path != PATH:
            return 404, {"error": "Not found.", "code": 404}
        try:
            return 200, self._document(query)
        except (ValueError, KeyError, IndexError) as error:
            return 400, {"error": f"Invalid parameter: {error}", "code": 400}

    def _document(self, query: dict[str, list[str]]) -> object:
        if query["frequency"] != ["hourly"] or query["data[0]"] != ["value"]:
            raise ValueError("data or frequency")
        if "sort" in query or "data[]" in query:
            raise ValueError("v1 style")
        first, last = (
            datetime.strptime(query[name][0], "%Y-%m-%dT%H").replace(tzinfo=UTC)
            for name in ("start", "end")
        )
        offset, length = int(query["offset"][0]), min(int(query["length"][0]), 5000)
        rows = self.rows(query["facets[respondent][]"][0], first, last)
        total = len(rows)
        return self.page(_ordered(rows, query, offset)[offset : offset + length], total)

    def rows(self, respondent: str, first: datetime, last: datetime) -> list[Row]:
        """Both periods are inside."""
        newest = self.now.replace(minute=0, second=0, microsecond=0) - LAG
        return [
            _row(respondent, f"{ends:%Y-%m-%dT%H}", fuel, self.mw(fuel, ends - HOUR))
            for ends in _hours(first, min(last, newest))
            for fuel in (("COL", "WND") if ends == newest else sorted(FUELS))
        ]

    def page(self, rows: list[Row], total: int | None = None) -> Row:
        """A whole document."""
        return {
            "response": {
                "total": str(len(rows) if total is None else total),
                "dateFormat": 'YYYY-MM-DD"T"HH24',
                "frequency": "hourly",
                "data": rows,
                "description": "Hourly net generation by balancing authority and energy source.",
            },
            "request": {"command": PATH, "params": {}},
            "apiVersion": "2.1.0",
        }


def _row(respondent: str, period: str, fuel: str, mw: int) -> Row:
    return {
        "period": period,
        "respondent": respondent,
        "respondent-name": NAMES.get(respondent, respondent),
        "fueltype": fuel,
        "type-name": FUELS[fuel],
        "value": str(mw),
        "value-units": "megawatthours",
    }


def _hours(first: datetime, last: datetime) -> list[datetime]:
    return [first + index * HOUR for index in range((last - first) // HOUR + 1)]


def _ordered(rows: list[Row], query: dict[str, list[str]], offset: int) -> list[Row]:
    """In the order asked for; where that leaves ties, each page sees them in another one."""
    columns = [query[f"sort[{index}][column]"][0] for index in range(2) if _asks_sort(query, index)]
    if columns == ["period", "fueltype"]:
        return rows
    turned = rows[offset % 7 :] + rows[: offset % 7]
    return sorted(turned, key=lambda row: [row[column] for column in columns])


def _asks_sort(query: dict[str, list[str]], index: int) -> bool:
    direction = query.get(f"sort[{index}][direction]", ["asc"])[0]
    if direction != "asc":
        raise ValueError(f"sort[{index}][direction]")
    return f"sort[{index}][column]" in query


def _gateway(code: str, message: str) -> object:
    return {"error": {"code": code, "message": message}}
