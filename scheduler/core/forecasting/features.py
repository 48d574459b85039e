"""What the past says about the hours to come: features of a linear model on log intensity.

Source: the set of features was measured against others on CarbonCast's zones; deploy/adr/0012.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecasting.hourly import HourlySeries, padded, pick

DAY: Final = 24
WEEK: Final = 168
BACK_DAYS: Final = 28
"""How far back features look."""
_BACK: Final = DAY * np.arange(BACK_DAYS)[:, None, None]
_LAGS: Final = (1, 2, 3, 6, 7)
_NEIGHBOURS: Final = (1, -1, 2, -2)
_MONDAY: Final = 4
"""Day number of the first Monday of the Unix epoch, whose day 0 was a Thursday."""
N_LEVEL: Final = 8
"""The first features: differences of levels, which mean the same in any zone."""


def history_features(
    history: HourlySeries, anchors: NDArray[np.int64], day: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features of the 24 hours from `anchor + 24 * day` on, using only hours before the anchor.

    Args:
        history: known intensity; what lies at or after an anchor is not looked at.
        anchors: hours since the epoch, shape (n,).
        day: lead day, 0 for the first.

    Returns:
        features, shape (n, 24, features), NaN where the past has a gap, and the base from which the target
        is counted: the mean log intensity of the last seven same hours, or of all 28 looked at where those are
        unknown, shape (n, 24).
    """
    logs = history.logs()
    lookup = padded(logs)
    targets = anchors[:, None] + day * DAY + np.arange(DAY)
    last = targets - DAY * (day + 1)

    def at(hours: NDArray[np.int64]) -> NDArray[np.float64]:
        return pick(lookup, hours - history.first_hour)

    same_hour = at(last - _BACK)
    one_week, four_weeks = _mean(same_hour[:7]), _mean(same_hour)
    base = np.where(np.isnan(one_week), four_weeks, one_week)
    weeks_back = WEEK * (-(-(day + 1) // 7) + np.arange(4))
    same_weekday = _mean(at(targets - weeks_back[:, None, None]))
    recent = _RecentMeans(logs, anchors - history.first_hour)
    day_mean, week_mean = recent.mean(DAY, 0), recent.mean(WEEK, 0)
    last_value = at(anchors - 1)
    columns = [
        four_weeks - base,
        same_weekday - four_weeks,
        same_hour[0] - base,
        same_hour[1] - base,
        day_mean - week_mean,
        recent.mean(3 * DAY, DAY) - week_mean,
        last_value - day_mean,
        recent.mean(3, 0) - recent.mean(DAY + 3, DAY),
        base,
        week_mean,
        recent.mean(6, 0) - recent.mean(DAY + 6, DAY),
        *(same_hour[lag - 1] - base for lag in _LAGS[2:]),
        *(at(_kept_back(last + shift, anchors)) - base for shift in _NEIGHBOURS),
        *_calendar(targets, last, same_weekday - four_weeks),
    ]
    shape = targets.shape
    return np.stack(
        [np.broadcast_to(one if one.ndim == 2 else one[:, None], shape) for one in columns], axis=-1
    ), base


def _kept_back(hours: NDArray[np.int64], anchors: NDArray[np.int64]) -> NDArray[np.int64]:
    """The hours, a day earlier where they would not lie before the anchor."""
    return np.where(hours < anchors[:, None], hours, hours - DAY)


def _calendar(
    targets: NDArray[np.int64], last: NDArray[np.int64], weekly: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    weekday, last_weekday = weekday_of(targets), weekday_of(last)
    is_weekend = (weekday >= 5).astype(np.float64)
    angle = 2 * np.pi * targets / (DAY * 365.25)
    return [
        is_weekend,
        (last_weekday >= 5).astype(np.float64),
        (weekday == 0).astype(np.float64),
        (weekday == 6).astype(np.float64),
        is_weekend * weekly,
        np.sin(angle),
        np.cos(angle),
    ]


def weekday_of(hours: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 for Monday, in UTC."""
    return (hours // DAY - _MONDAY) % 7


class _RecentMeans:
    """Means over hours counted back from each anchor, from running sums; NaN where nothing is known."""

    def __init__(self, logs: NDArray[np.float64], anchor_index: NDArray[np.int64]) -> None:
        known = ~np.isnan(logs)
        self._sums = np.concatenate(([0.0], np.cumsum(np.where(known, logs, 0.0))))
        self._counts = np.concatenate(([0], np.cumsum(known)))
        self._index = anchor_index

    def mean(self, begin_back: int, end_back: int) -> NDArray[np.float64]:
        """Mean over `[anchor - begin_back, anchor - end_back)`, shape (n,)."""
        last = len(self._counts) - 1
        low = np.minimum(np.maximum(self._index - begin_back, 0), last)
        high = np.minimum(np.maximum(self._index - end_back, 0), last)
        count = self._counts[high] - self._counts[low]
        total = self._sums[high] - self._sums[low]
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean(stacked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is known; NaN where nothing is."""
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
