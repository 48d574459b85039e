"""What a chart of a forecast shows, wherever the forecast comes from."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Final

from scheduler.core.units import parse_duration

if TYPE_CHECKING:
    from scheduler.core.forecast import IntensitySeries
    from scheduler.server.forecast_runs import MadeForecast

_CLEANEST_H: Final = 4
_NICE: Final = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Step:
    """A value that holds over `[start_s, stop_s)`, epoch seconds; in g/kWh."""

    start_s: float
    stop_s: float
    g_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Band(Step):
    """A forecast value, with its quantiles of 10 and 90 % where they are known."""

    low: float | None = None
    high: float | None = None
    is_fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastPicture:
    """A forecast and what surrounds it; each part in order of time, with gaps where nothing is known.

    Args:
        begins_s: when it was made, or its first slot.
        past: measured before it was made.
        came: measured after.
        published: what another had forecast by then.
        notes: lines that say where it comes from.
    """

    zone_id: str
    begins_s: float
    ahead: Sequence[Band]
    past: Sequence[Step] = ()
    came: Sequence[Step] = ()
    published: Sequence[Step] = ()
    notes: Sequence[str] = ()

    @property
    def span_s(self) -> tuple[float, float]:
        """From the first to the last instant shown; an hour where nothing is."""
        steps = [*self.past, *self.ahead]
        if not steps:
            return self.begins_s, self.begins_s + 3600
        return min(steps[0].start_s, self.begins_s), max(one.stop_s for one in steps)

    @property
    def ticks(self) -> list[float]:
        """Round intensities that enclose all that is shown, at most eight of them."""
        parts: tuple[Sequence[Step], ...] = (self.past, self.ahead, self.came, self.published)
        values = [one.g_per_kwh for part in parts for one in part]
        for band in self.ahead:
            values += [one for one in (band.low, band.high) if one is not None]
        low, high = min(values, default=0.0), max(values, default=1.0)
        reach = max(high - low, 0.02 * high, 0.01)
        least = reach / 6
        power = 10.0 ** math.floor(math.log10(least))
        step = next((nice * power for nice in _NICE if nice * power >= least), 10 * power)
        first, last = int(low // step), -int(-high // step)
        return [step * number for number in range(first, max(last, first + 1) + 1)]

    def facts(self) -> str:
        """Mean, range and the cleanest hours, in a line; the reader's own time."""
        if not self.ahead:
            return "nothing is known about these hours"
        values = [one.g_per_kwh for one in self.ahead]
        text = f"mean {sum(values) / len(values):.0f}, from {min(values):.0f} to {max(values):.0f} g/kWh"
        cleanest = _cleanest(self.ahead)
        if cleanest is None:
            return text
        start_s, mean = cleanest
        end = f"{here(start_s + _CLEANEST_H * 3600):%H:%M}"
        return f"{text}; cleanest {_CLEANEST_H} h: {here(start_s):%a %d %b %H:%M} to {end}, {mean:.0f} g/kWh"


def here(at_s: float) -> datetime:
    """The instant in the reader's own zone."""
    return datetime.fromtimestamp(at_s, UTC).astimezone()


def _cleanest(ahead: Sequence[Band]) -> tuple[float, float] | None:
    """When the cleanest whole stretch begins that is known throughout, and its mean."""
    step_s = ahead[0].stop_s - ahead[0].start_s
    count = round(_CLEANEST_H * 3600 / step_s)
    means = [
        (sum(one.g_per_kwh for one in part) / count, part[0].start_s)
        for part in (ahead[first : first + count] for first in range(len(ahead) - count + 1))
        if part[-1].stop_s - part[0].start_s == _CLEANEST_H * 3600
    ]
    if not means:
        return None
    mean, start_s = min(means)
    return start_s, mean


# ------------------------------------------------------------------------- from the service


def picture_of_document(document: Mapping[str, Any], zone: tzinfo | None = None) -> ForecastPicture:
    """The picture of what the service answered; notes tell times in `zone`, or the reader's own."""
    step_s = parse_duration(document["step"])
    points = document["points"]
    begins_s = datetime.fromisoformat(points[0]["time"]).timestamp()
    ahead = [
        Band(
            start_s=(at_s := datetime.fromisoformat(point["time"]).timestamp()),
            stop_s=at_s + step_s,
            g_per_kwh=point["g_per_kwh"],
            low=point["p10"],
            high=point["p90"],
            is_fallback=point["is_fallback"],
        )
        for point in points
        if point["g_per_kwh"] is not None
    ]
    return ForecastPicture(
        zone_id=document["zone"],
        begins_s=begins_s,
        ahead=ahead,
        notes=list(_origins(points, step_s, zone)),
    )


def _origins(
    points: Sequence[Mapping[str, Any]], step_s: int, zone: tzinfo | None
) -> Iterator[str]:
    """A line for each stretch of slots from one source."""
    names = ("source", "quality", "issued_at", "is_fallback")
    for origin, group in groupby(points, key=lambda point: tuple(point[name] for name in names)):
        stretch = list(group)
        source, quality, issued_at, is_fallback = origin
        begin = datetime.fromisoformat(stretch[0]["time"]).astimezone(zone)
        last = datetime.fromisoformat(stretch[-1]["time"]) + timedelta(seconds=step_s)
        end = last.astimezone(zone)
        text = f"{begin:%a %d %b %H:%M} to {end:%a %d %b %H:%M}: "
        if source is None:
            yield text + "no source covers it"
            continue
        text += source if quality in source else f"{source}, {quality}"
        if issued_at:
            text += f", issued {datetime.fromisoformat(issued_at).astimezone(zone):%a %d %b %H:%M}"
        yield text + (" (! fallback)" if is_fallback else "")


# ------------------------------------------------------------------------- from files


def picture_of_made(
    made: "MadeForecast",
    actual: "IntensitySeries",
    published: "IntensitySeries | None",
    *,
    past: timedelta,
    zone: tzinfo | None = None,
) -> ForecastPicture:
    """The picture of a forecast made from files, with what was measured in the time before it.

    Args:
        made: the forecast.
        actual: everything that was measured in its zone.
        published: what another had forecast for these hours.
        past: how much of the time before is shown.
        zone: for times in notes; None for the reader's own.
    """
    issued_s = made.issued_at.timestamp()
    first_s = made.first_hour * 3600
    columns = zip(made.g_per_kwh.tolist(), made.low.tolist(), made.high.tolist(), strict=True)
    ahead = [
        Band(
            start_s=first_s + 3600 * hour,
            stop_s=first_s + 3600 * (hour + 1),
            g_per_kwh=value,
            low=low,
            high=high,
        )
        for hour, (value, low, high) in enumerate(columns)
    ]
    end_s = ahead[-1].stop_s
    rests = f"built-in ({made.method}), issued {made.issued_at.astimezone(zone):%a %d %b %Y %H:%M}"
    return ForecastPicture(
        zone_id=made.zone_id,
        begins_s=issued_s,
        ahead=ahead,
        past=_steps(actual, issued_s - past.total_seconds(), issued_s),
        came=_steps(actual, first_s, end_s),
        published=_steps(published, first_s, end_s) if published else (),
        notes=[rests],
    )


def _steps(series: "IntensitySeries", low_s: float, high_s: float) -> list[Step]:
    """The known intervals that lie within, whole."""
    edges, values = series.edges_s.tolist(), series.mg_per_kwh.tolist()
    return [
        Step(start_s, stop_s, mg / 1000)
        for (start_s, stop_s), mg in zip(pairwise(edges), values, strict=True)
        if start_s >= low_s and stop_s <= high_s and mg >= 0
    ]
