"""What a provider answered about one zone: checks its shape and times, makes a series of its points."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from scheduler.core.errors import (
    ForecastRejectedError,
    ForecastUnavailableError,
    InvalidInputError,
)
from scheduler.core.forecast import MAX_G_PER_KWH, IntensitySeries, Provenance
from scheduler.core.timegrid import Window, format_instant, parse_instant

_SAYS: Final = ("error", "message", "msg", "title", "detail", "errors")
_Shape = TypeVar("_Shape")


@dataclass(frozen=True, slots=True)
class Point:
    """Intensity on `[start_s, stop_s)` in epoch seconds; None where the provider has no value."""

    start_s: int
    stop_s: int
    g_per_kwh: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of `source` about `zone_id`; every refusal of it names both."""

    source: str
    zone_id: str

    def validated(self, shape: TypeAdapter[_Shape], body: object) -> _Shape:
        """The body in that shape. Raises ForecastRejectedError, naming the first field that is not."""
        try:
            return shape.validate_python(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the reply"
            raise self.rejected(f"{where}: {first['msg']}, not {first['input']!r:.80}") from error

    def instant(self, text: str, *, step_s: int = 1) -> datetime:
        """The UTC instant of an ISO 8601 text, refused without an offset or between two steps."""
        try:
            at = parse_instant(text)
        except (InvalidInputError, OverflowError) as error:
            raise self.rejected(f"time {text!r:.80} is not ISO 8601 with an offset") from error
        if not 1970 <= at.year < 2200:
            raise self.rejected(f"time {text!r:.80} cannot be true")
        if step_s > 1 and at.timestamp() % step_s:
            raise self.rejected(f"time {text!r:.80} is not on a multiple of {step_s} s")
        return at

    def require_young(self, made_at: datetime, now: datetime, limit: timedelta) -> None:
        """Refuses a forecast that was made longer ago than the limit."""
        if now - made_at > limit:
            hours = (now - made_at) / timedelta(hours=1)
            raise self.rejected(
                f"the forecast was made at {format_instant(made_at)}, {hours:.0f} h ago: stale"
            )

    def series(
        self, points: Iterable[Point], asked: Window, provenance: Provenance
    ) -> IntensitySeries:
        """The series of the points that share time with the window; gaps where none is.

        Order does not matter, and a point may come twice.

        Raises:
            ForecastRejectedError: none is about the window, two contradict each other or overlap,
                or a value cannot be.
            ForecastUnavailableError: there is no value.
        """
        known = self._distinct(points)
        if not known:
            raise self.unavailable("the reply is empty")
        inside = [point for point in known if _touches(point, asked)]
        if not inside:
            raise self.rejected(
                f"asked for {format_instant(asked.start_at)} to {format_instant(asked.end_at)}, "
                f"answered for {_text(known[0].start_s)} to {_text(known[-1].stop_s)}"
            )
        if all(point.g_per_kwh is None for point in inside):
            raise self.unavailable("every value is null")
        edges, grams = [inside[0].start_s], list[float | None]()
        for point in inside:
            if point.start_s > edges[-1]:
                edges.append(point.start_s)
                grams.append(None)
            edges.append(point.stop_s)
            grams.append(point.g_per_kwh)
        return IntensitySeries.from_g_per_kwh(
            self.zone_id,
            np.array(edges, dtype=np.int64),
            np.array([np.nan if value is None else value for value in grams]),
            provenance,
        )

    def rejected(self, why: str) -> ForecastRejectedError:
        """The error for an answer that cannot be true."""
        return ForecastRejectedError(f"{self.source}: {why}", zone=self.zone_id, source=self.source)

    def unavailable(self, why: str) -> ForecastUnavailableError:
        """The error for an answer without use."""
        return ForecastUnavailableError(
            f"{self.source}: {why}", zone=self.zone_id, source=self.source
        )

    def failed(
        self, error: ForecastUnavailableError, meaning: str | None = None
    ) -> ForecastUnavailableError:
        """The HTTP client's error about this zone: what it means, and what the server says."""
        return self.unavailable(": ".join(filter(None, (meaning or error.message, _said(error)))))

    def _distinct(self, points: Iterable[Point]) -> list[Point]:
        """The points by time, each once."""
        distinct: list[Point] = []
        for point in sorted(points, key=lambda point: point.start_s):
            self._require_possible(point)
            before = distinct[-1] if distinct else None
            if before is None or point.start_s >= before.stop_s:
                distinct.append(point)
            elif (point.start_s, point.stop_s) != (before.start_s, before.stop_s):
                raise self.rejected(f"two intervals overlap at {_text(point.start_s)}")
            elif before.g_per_kwh is None:
                distinct[-1] = point
            elif point.g_per_kwh not in {None, before.g_per_kwh}:
                raise self.rejected(f"two values for {_text(point.start_s)}")
        return distinct

    def _require_possible(self, point: Point) -> None:
        if point.g_per_kwh is not None and not 0 <= point.g_per_kwh <= MAX_G_PER_KWH:
            raise self.rejected(
                f"intensity {point.g_per_kwh:g} g/kWh at {_text(point.start_s)} cannot be true"
            )


def pages(asked: Window, *, step_s: int, longest: timedelta) -> list[tuple[str, str]]:
    """First and last second, as texts in UTC, of parts of the window that are at most `longest`.

    The start goes back to a whole step, so that the interval that holds it is in. No step begins
    in two parts, whether the provider takes the end as inclusive or not.
    """
    start_s = int(asked.start_at.timestamp())
    # A window of no length still has its instant in it.
    stop_s = max(math.ceil(asked.end_at.timestamp()), start_s + 2)
    starts_s = range(start_s // step_s * step_s, stop_s, int(longest.total_seconds()))
    return [(_text(first), _text(after - 1)) for first, after in pairwise([*starts_s, stop_s])]


def _touches(point: Point, asked: Window) -> bool:
    low_s, high_s = asked.start_at.timestamp(), asked.end_at.timestamp()
    # A window of no length touches what holds its instant.
    return point.stop_s > low_s and (point.start_s < high_s or point.start_s <= low_s)


def _said(error: ForecastUnavailableError) -> str:
    """What the JSON of a refusal says, in one short line; empty where there is none."""
    try:
        document = json.loads(str(error.fields.get("answer", "")))
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    return ": ".join(str(document[key]) for key in _SAYS if document.get(key))[:300]


def _text(at_s: int) -> str:
    return format_instant(datetime.fromtimestamp(at_s, UTC))
