"""Energi Data Service on loopback: two datasets, its default order and limit, and its quota."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from tests.fakes.clock import ManualClock
from tests.fakes.loopback_http import Exchange, LoopbackServer

DENMARK = ZoneInfo("Europe/Copenhagen")
STEP = timedelta(minutes=5)
MINUTE = timedelta(minutes=1)
WEEK = timedelta(days=7)
AREAS = ("DK1", "DK2")
DEFAULT_LIMIT = 100
FORMS = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M")
COLUMNS = ("Minutes5UTC", "Minutes5DK", "PriceArea", "CO2Emission")
NAIVE = "%Y-%m-%dT%H:%M:%S"
Record = dict[str, Any]
Query = dict[str, str]


class ApiError(Exception):
    """Answered with that status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeEnerginet(LoopbackServer):
    """`CO2EmisProg` to the end of the last known day, and `CO2Emis` up to `now`.

    By `clock` each dataset answers once a minute, and 429 in between. Tomorrow is known from 13:00 in
    Denmark on.
    """

    def __init__(self, now: datetime, clock: ManualClock) -> None:
        self.now = now
        self._clock = clock
        self._answered_at: dict[str, datetime] = {}
        super().__init__(self._answer)

    @staticmethod
    def forecast_g(area: str, at: datetime) -> float:
        """50 g/kWh and half a gram more each five minutes of the UTC day; 40 more in DK2."""
        return 50 + (at.hour * 60 + at.minute) // 5 / 2 + (40 if area == "DK2" else 0)

    @staticmethod
    def actual_g(area: str, at: datetime) -> float:
        """7 g above the forecast."""
        return FakeEnerginet.forecast_g(area, at) + 7

    @property
    def ends_at(self) -> datetime:
        """End of the last day with a forecast."""
        local = self.now.astimezone(DENMARK)
        day = local.date() + timedelta(days=2 if local.hour >= 13 else 1)
        return datetime.combine(day, time(), DENMARK).astimezone(UTC)

    def serve_changed(self, change: Callable[[list[Record]], object]) -> None:
        """Answers with what `change` makes of the good records."""

        def changed(to: Exchange) -> None:
            document = self.document(to.path)
            document["records"] = change(document["records"])
            to.reply(json.dumps(document).encode())

        self.misbehave(always=changed)

    def document(self, path: str) -> Record:
        """The answer, whatever the quota says."""
        name, query = self._asked(path)
        records = self._records(name, query)
        has_default = "limit" not in query and "start" not in query
        limit = DEFAULT_LIMIT if has_default else int(query.get("limit", "0"))
        echo = {key: query[key] for key in ("filter", "sort") if key in query}
        if "filter" in echo:
            echo["filters"] = echo.pop("filter")
        return {
            "total": len(records),
            **echo,
            "limit": limit,
            "dataset": name,
            "records": records[: limit or None],
        }

    def _answer(self, to: Exchange) -> None:
        try:
            name, _ = self._asked(to.path)
            before = self._answered_at.get(name)
            if before is not None and timedelta() <= self._clock.at - before < MINUTE:
                raise ApiError(429, "Too many requests for this dataset")  # noqa: TRY301
            self._answered_at[name] = self._clock.at
            headers = {"RemainingCalls": "0", "TotalCalls": "1"}
            to.reply(json.dumps(self.document(to.path)).encode(), headers=headers)
        except ApiError as error:
            body = json.dumps({"status": error.status, "detail": str(error)}).encode()
            to.reply(body, status=error.status)

    @staticmethod
    def _asked(path: str) -> tuple[str, Query]:
        parts = urlsplit(path)
        name = parts.path.removeprefix("/dataset/")
        if name not in {"CO2EmisProg", "CO2Emis"}:
            raise ApiError(404, f"no dataset {name}")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        unknown = query.keys() - {"start", "end", "filter", "columns", "sort", "limit", "offset"}
        if unknown:
            raise ApiError(400, f"unknown parameters {sorted(unknown)}")
        return name, query

    def _records(self, name: str, query: Query) -> list[Record]:
        known_until = self.ends_at if name == "CO2EmisProg" else self.now
        # Without a start the last week stands for all that was ever published.
        low = self._instant(query["start"]) if "start" in query else known_until - WEEK
        high = min(self._instant(query["end"]), known_until) if "end" in query else known_until
        count = max(0, -((low - high) // STEP))
        grams = self.forecast_g if name == "CO2EmisProg" else self.actual_g
        columns = query["columns"].split(",") if "columns" in query else COLUMNS
        if not set(columns) <= set(COLUMNS):
            raise ApiError(400, f"no such columns: {columns}")
        areas = _areas(query.get("filter"))
        records = [
            {column: record[column] for column in columns}
            for index in range(count)
            for area in areas
            for record in [_record(low + index * STEP, area, grams(area, low + index * STEP))]
        ]
        is_rising = _is_rising(query.get("sort"))
        return records if is_rising else records[::-1]

    def _instant(self, text: str) -> datetime:
        """What a time says in Denmark, whatever was meant by it."""
        if text == "now":
            return self.now
        for form in FORMS:
            try:
                return datetime.strptime(text, form).replace(tzinfo=DENMARK).astimezone(UTC)
            except ValueError:
                continue
        raise ApiError(400, f"time {text} cannot be read")


def _areas(text: str | None) -> list[str]:
    if text is None:
        return list(AREAS)
    try:
        wanted = json.loads(text)["PriceArea"]
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(400, f"filter {text} cannot be read") from error
    return [area for area in AREAS if area in ([wanted] if isinstance(wanted, str) else wanted)]


def _is_rising(sort: str | None) -> bool:
    if sort is None:
        return False
    match = re.fullmatch(r"Minutes5UTC( ASC| DESC)?", sort, re.IGNORECASE)
    if match is None:
        raise ApiError(400, f"cannot sort by {sort}")
    return (match[1] or "").strip().upper() != "DESC"


def _record(at: datetime, area: str, grams: float) -> Record:
    return {
        "Minutes5UTC": at.strftime(NAIVE),
        "Minutes5DK": at.astimezone(DENMARK).strftime(NAIVE),
        "PriceArea": area,
        "CO2Emission": grams,
    }
