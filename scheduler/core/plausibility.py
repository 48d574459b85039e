"""Whether what a source says can be true, judged by what it said before."""

from typing import Final

import numpy as np

from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality

SKEW_S: Final = 300
"""A forecast made further in the future than this comes from a clock that is wrong, theirs or ours."""
_MIN_HISTORY: Final = 48
"""Values from which on a series is judged by its past."""
_UNIT: Final = 50.0
"""A median so many times above or below the past's is another unit: kg for g, or lb for kg."""
_LEVEL: Final = 3.0
"""Factor beyond the extremes of the past from which a median is not believed."""
_STUCK_S: Final = 12 * 3600
_VARIES: Final = 0.01
"""Standard deviation over mean from which a past is not constant by nature."""


def find_fault(
    series: IntensitySeries, *, zone_id: str, now_s: float, past: IntensitySeries | None
) -> str | None:
    """What is wrong with the series, as the end of a sentence; None where nothing is.

    Args:
        series: a forecast, or actual values.
        zone_id: the zone that was asked for.
        now_s: epoch seconds.
        past: actual values of the last weeks from the same source, where there are any.
    """
    issued_at = series.provenance.issued_at
    if series.zone_id != zone_id:
        return f"is about zone {series.zone_id}, not {zone_id}"
    if issued_at is not None and issued_at.timestamp() > now_s + SKEW_S:
        ahead_min = (issued_at.timestamp() - now_s) / 60
        return f"was made {ahead_min:.0f} min in the future: a clock is wrong"
    known = series.mg_per_kwh[series.mg_per_kwh != GAP_MG] / 1000.0
    is_forecast = series.provenance.quality is Quality.FORECAST
    if is_forecast and len(known) * 2 < len(series.mg_per_kwh):
        return f"has no value for {len(series.mg_per_kwh) - len(known)} of {len(series.mg_per_kwh)} intervals"
    before = np.empty(0) if past is None else past.mg_per_kwh[past.mg_per_kwh != GAP_MG] / 1000.0
    if len(before) < _MIN_HISTORY or not len(known):
        return None
    return _against_past(series, known, before)


def _against_past(series: IntensitySeries, known: np.ndarray, before: np.ndarray) -> str | None:
    middle, usual = float(np.median(known)), float(np.median(before))
    low, high = float(before.min()), float(before.max())
    zeros = int((known == 0).sum())
    if zeros and low > 0:
        return f"holds {zeros} zeros, in a zone that never was below {low:.0f} g/kWh"
    if low > 0 and not usual / _UNIT <= middle <= usual * _UNIT:
        return f"has a median of {middle:g} g/kWh, usual are {usual:g}: another unit"
    if not low / _LEVEL <= middle <= high * _LEVEL:
        return f"has a median of {middle:g} g/kWh, seen were {low:g} to {high:g}"
    room = (high - low) + usual
    if not low - room <= known[0] <= high + room:
        return f"begins with {known[0]:g} g/kWh, seen were {low:g} to {high:g}: a jump"
    span_s = int(series.edges_s[-1] - series.edges_s[0])
    is_constant = len(known) > 1 and known.min() == known.max()
    if is_constant and span_s >= _STUCK_S and before.std() > _VARIES * before.mean():
        return f"is {known[0]:g} g/kWh for {span_s // 3600} h: stuck"
    return None
