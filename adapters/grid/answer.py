"""What a provider answered about the intensity of a zone: checks times, makes a series of points."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import numpy as np

from adapters.grid.intervals import with_gaps
from adapters.reply import Reply
from scheduler.core.errors import InvalidInputError
from scheduler.core.forecast import MAX_G_PER_KWH, IntensitySeries, Provenance, Quality, Scope
from scheduler.core.names import suggest
from scheduler.core.timegrid import Window, format_instant, parse_instant
from scheduler.ports import SourceInfo

_PAST: Final = frozenset({Quality.MEASURED, Quality.ESTIMATED})
_NEAR: Final = timedelta(days=1)
"""Some providers are asked for whole days around the window."""


@dataclass(frozen=True, slots=True)
class Point:
    """Intensity on `[start_s, stop_s)` in epoch seconds; None where the provider has no value."""

    start_s: int
    stop_s: int
    g_per_kwh: float | None


@dataclass(frozen=True, slots=True)
class Answer(Reply):
    """A reply about the intensity of a zone."""

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

    def interval(self, start_s: int, length_s: int, g_per_kwh: float | None) -> Point:
        """The point of a provider whose intervals all begin at multiples of their length."""
        if start_s % length_s:
            raise self.rejected(f"{instant_text(start_s)} is not the start of {length_s} s")
        return Point(start_s, start_s + length_s, g_per_kwh)

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

        Order does not matter, and a point may come twice. What is past may have no value yet, which
        is a gap as long as the window where no point touches it; a forecast must have one.

        Raises:
            ForecastRejectedError: none is about the window (or, for the past, a day around it),
                two contradict each other or overlap, or a value cannot be.
            ForecastUnavailableError: there is no point, or a forecast without a value.
        """
        known = self._distinct(points)
        if not known:
            raise self.unavailable("the reply is empty")
        inside = [point for point in known if _touches(point, asked)]
        is_past = provenance.quality in _PAST
        if not (inside or (is_past and _is_any_near(known, asked))):
            raise self.rejected(
                f"asked for {format_instant(asked.start_at)} to {format_instant(asked.end_at)}, "
                f"answered for {instant_text(known[0].start_s)} to {instant_text(known[-1].stop_s)}"
            )
        inside = inside or [_all_of(asked)]
        if not is_past and all(point.g_per_kwh is None for point in inside):
            raise self.unavailable(
                f"no value from {format_instant(asked.start_at)} to {instant_text(inside[-1].stop_s)}"
            )
        starts_s = np.array([point.start_s for point in inside], dtype=np.int64)
        stops_s = np.array([point.stop_s for point in inside], dtype=np.int64)
        grams = np.array([np.nan if one.g_per_kwh is None else one.g_per_kwh for one in inside])
        return IntensitySeries.from_g_per_kwh(
            self.zone_id, *with_gaps(starts_s, stops_s, grams), provenance
        )

    def _distinct(self, points: Iterable[Point]) -> list[Point]:
        """The points by time, each once."""
        distinct: list[Point] = []
        for point in sorted(points, key=lambda point: point.start_s):
            self._require_possible(point)
            before = distinct[-1] if distinct else None
            if before is None or point.start_s >= before.stop_s:
                distinct.append(point)
            elif (point.start_s, point.stop_s) != (before.start_s, before.stop_s):
                raise self.rejected(f"two intervals overlap at {instant_text(point.start_s)}")
            elif before.g_per_kwh is None:
                distinct[-1] = point
            elif point.g_per_kwh not in {None, before.g_per_kwh}:
                raise self.rejected(
                    f"two values for {instant_text(point.start_s)}: {before.g_per_kwh} and {point.g_per_kwh}"
                )
        return distinct

    def _require_possible(self, point: Point) -> None:
        if point.g_per_kwh is not None and not 0 <= point.g_per_kwh <= MAX_G_PER_KWH:
            raise self.rejected(
                f"intensity {point.g_per_kwh:g} g/kWh at {instant_text(point.start_s)} cannot be true"
            )


def require_served(info: SourceInfo, zone_id: str, scope: Scope) -> None:
    """Refuses a zone or scope that the source does not declare, with the nearest names."""
    scopes = info.scopes.get(zone_id)
    if scopes is None or scope not in scopes:
        known = f"it has {' and '.join(sorted(scopes))} values" if scopes else ""
        raise Answer(info.name, zone_id).unavailable(
            f"no {scope} values for zone {zone_id!r}; " + (known or suggest(zone_id, info.zone_ids))
        )


def instant_text(at_s: int) -> str:
    """ISO 8601 of an instant in epoch seconds, for messages, however far away it is."""
    try:
        return format_instant(datetime.fromtimestamp(at_s, UTC))
    except (ValueError, OverflowError, OSError):
        return "a time beyond the calendar"


def pages(asked: Window, *, step_s: int, longest: timedelta) -> list[tuple[str, str]]:
    """First and last second, as texts in UTC, of parts of the window that are at most `longest`.

    The start goes back to a whole step, so that the interval that holds it is in. No step begins
    in two parts, whether the provider takes the end as inclusive or not.
    """
    start_s = int(asked.start_at.timestamp())
    # A window of no length still has its instant in it.
    stop_s = max(math.ceil(asked.end_at.timestamp()), start_s + 2)
    starts_s = range(start_s // step_s * step_s, stop_s, int(longest.total_seconds()))
    return [
        (instant_text(first), instant_text(after - 1))
        for first, after in pairwise([*starts_s, stop_s])
    ]


def _touches(point: Point, asked: Window) -> bool:
    low_s, high_s = asked.start_at.timestamp(), asked.end_at.timestamp()
    # A window of no length touches what holds its instant.
    return point.stop_s > low_s and (point.start_s < high_s or point.start_s <= low_s)


def _is_any_near(points: list[Point], asked: Window) -> bool:
    around = Window(asked.start_at - _NEAR, asked.end_at + _NEAR)
    return any(_touches(point, around) for point in points)


def _all_of(asked: Window) -> Point:
    """The whole window, of whose values none is known."""
    start_s = math.floor(asked.start_at.timestamp())
    return Point(start_s, max(math.ceil(asked.end_at.timestamp()), start_s + 1), None)
