"""Whether what a source says can be true, judged by what it said before."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind

SKEW_S: Final = 300
"""A forecast made further in the future than this comes from a clock that is wrong, theirs or ours."""
_SHORT_S: Final = 2 * 86_400
"""So much of a past shows what is another unit, and what is stuck."""
_LONG_S: Final = 10 * 86_400
"""So much of it shows how high and how low a zone can be: calms and storms last a week."""
_UNIT: Final = 50.0
"""All values so many times above or below the usual one: kg for g."""
_LEVEL: Final = 3.0
"""Factor beyond the highest of the past from which a median is not believed."""
_ROOM_G: Final = 200.0
"""So far above the highest of the past may any zone be: a zone of water and wind that imports coal."""
_NEVER_LOW: Final = 0.1
"""A zone whose lowest is above this share of its usual value is never near zero."""
_CLEANEST_G: Final = 3.0
"""Nuclear, the lowest of all, is put at 3.7 to 12 g/kWh. Source: IPCC AR5 WG3 Annex III; UNECE 2021 says 5.3."""
_DIRTIEST_G: Final = 1600.0
"""Lignite, the highest, is put at up to 1,300 g/kWh."""
_STUCK_S: Final = 12 * 3600


def find_fault(
    series: IntensitySeries, *, zone_id: str, now_s: float, past: Sequence[IntensitySeries]
) -> str | None:
    """What is wrong with the series, as the end of a sentence; None where nothing is.

    What is refused does not become part of the past: a zone that really changed is believed once the
    past that speaks against it is over.

    Args:
        series: a forecast, or actual values.
        zone_id: the zone that was asked for.
        now_s: epoch seconds.
        past: what the same source said of the last weeks: actual values, or earlier forecasts.
    """
    issued_at = series.provenance.issued_at
    if series.zone_id != zone_id:
        return f"is about zone {series.zone_id}, not {zone_id}"
    if issued_at is not None and issued_at.timestamp() > now_s + SKEW_S:
        ahead_min = (issued_at.timestamp() - now_s) / 60
        return f"was made {ahead_min:.0f} min in the future: a clock is wrong"
    is_known = series.mg_per_kwh != GAP_MG
    known_s, span_s = _seconds(series), int(series.edges_s[-1] - series.edges_s[0])
    if series.provenance.quality is Quality.FORECAST and known_s * 2 < span_s:
        return f"has values for only {known_s / 3600:g} of {span_s / 3600:g} h"
    if not is_known.any():
        return None
    known = series.mg_per_kwh[is_known] / 1000.0
    return (
        _level_fault(series, known, past)
        or _stuck_fault(series, past)
        or _impossible(series, known)
    )


def _impossible(series: IntensitySeries, known: NDArray[np.float64]) -> str | None:
    """What no mix of plants can be, whatever the source said before: a first answer has no past to be judged by."""
    if series.provenance.signal is not SignalKind.AVERAGE:
        return None
    middle = float(np.median(known))
    if series.provenance.scope is Scope.LIFECYCLE and middle < _CLEANEST_G:
        return f"has a median of {middle:g} g/kWh, below any plant's life-cycle emissions: another unit"
    if middle > _DIRTIEST_G:
        return f"has a median of {middle:g} g/kWh, above any plant's emissions: another unit"
    return None


def _level_fault(
    series: IntensitySeries, known: NDArray[np.float64], past: Sequence[IntensitySeries]
) -> str | None:
    past_s = sum(map(_seconds, past))
    if past_s < _SHORT_S:
        return None
    before = np.concatenate([one.mg_per_kwh[one.mg_per_kwh != GAP_MG] for one in past]) / 1000.0
    usual, _, _ = _usual_low_high(before)
    middle = float(np.median(known))
    if usual > 0 and (known.min() > usual * _UNIT or 0 < known.max() < usual / _UNIT):
        return f"has a median of {middle:g} g/kWh, usual are {usual:g}: another unit"
    is_average = series.provenance.signal is SignalKind.AVERAGE
    return _range_fault(known, before, is_average=is_average) if past_s >= _LONG_S else None


def _range_fault(
    known: NDArray[np.float64], before: NDArray[np.float64], *, is_average: bool
) -> str | None:
    usual, low, high = _usual_low_high(before)
    middle = float(np.median(known))
    # A plant at the margin may emit nothing for the first time; the mix of a whole zone does not change so.
    if is_average and low > _NEVER_LOW * usual and known.min() < _NEVER_LOW * low:
        return f"falls to {known.min():g} g/kWh, in a zone that never was below {low:g}"
    if middle > max(high * _LEVEL, high + _ROOM_G):
        return f"has a median of {middle:g} g/kWh, seen were {low:g} to {high:g}"
    if known.max() > high + max(high - low + usual, _ROOM_G):
        return f"jumps to {known.max():g} g/kWh, seen were {low:g} to {high:g}"
    return None


def _usual_low_high(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(np.median(values)), float(values.min()), float(values.max())


def _stuck_fault(series: IntensitySeries, past: Sequence[IntensitySeries]) -> str | None:
    """Values that stand still where they never did; those of a plant at the margin may.

    Of actual values only the last ones: when a source has recovered, what it said before is let in.
    """
    runs_s = _runs(series)
    is_forecast = series.provenance.quality is Quality.FORECAST
    stuck_s = runs_s[-1] if len(runs_s) == 1 or not is_forecast else 0
    if series.provenance.signal is not SignalKind.AVERAGE or stuck_s < _STUCK_S:
        return None
    if sum(map(_seconds, past)) < _SHORT_S or 2 * max(max(_runs(one)) for one in past) >= stuck_s:
        return None
    last = series.mg_per_kwh[series.mg_per_kwh != GAP_MG][-1] / 1000.0
    return f"is {last:g} g/kWh for {stuck_s // 3600} h: stuck"


def _runs(series: IntensitySeries) -> list[int]:
    """Seconds of each run of equal values, gaps left out; one 0 where all is a gap."""
    is_known = series.mg_per_kwh != GAP_MG
    values = series.mg_per_kwh[is_known]
    lengths_s = np.diff(series.edges_s)[is_known]
    begins = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1]))[: len(values)])
    return [int(one) for one in np.add.reduceat(lengths_s, begins)] if len(values) else [0]


def _seconds(series: IntensitySeries) -> int:
    """How much of it is known."""
    return int(np.diff(series.edges_s)[series.mg_per_kwh != GAP_MG].sum())
