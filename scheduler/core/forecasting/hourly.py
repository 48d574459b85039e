"""Hourly series, the form in which the forecast model sees intensity."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecast import IntensitySeries

HOUR_S: Final = 3600
LEAST_G: Final = 1.0
"""Floor in g/kWh before logarithms: below it a relative error says nothing."""
_LEAST_KNOWN: Final = 0.5
"""Share of an hour that must be known for its mean to stand for it."""


@dataclass(frozen=True, slots=True)
class HourlySeries:
    """Mean intensity of whole UTC hours.

    Args:
        first_hour: hours since the Unix epoch; value i is the mean over `[first_hour + i, + 1)`.
        g_per_kwh: float64, shape (hours,), NaN where unknown.
    """

    first_hour: int
    g_per_kwh: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.g_per_kwh.setflags(write=False)

    @classmethod
    def of(cls, parts: Iterable[IntensitySeries]) -> "HourlySeries":
        """The series of hours; where parts overlap, an earlier part goes before a later one."""
        listed = list(parts)
        if not listed:
            return cls(0, np.empty(0))
        first = min(part.coverage_s[0] for part in listed) // HOUR_S
        stop = -(-max(part.coverage_s[1] for part in listed) // HOUR_S)
        values = np.full(stop - first, np.nan)
        for part in reversed(listed):
            mean = _hourly_mean(part, first, stop)
            values = np.where(np.isnan(mean), values, mean)
        return cls(int(first), values)

    @property
    def stop_hour(self) -> int:
        """First hour after the series."""
        return self.first_hour + len(self.g_per_kwh)

    @property
    def anchor_hour(self) -> int:
        """First hour after the last known value; forecasts start from here."""
        known = np.flatnonzero(~np.isnan(self.g_per_kwh))
        return self.first_hour + (int(known[-1]) + 1 if len(known) else 0)

    @property
    def known_days(self) -> float:
        """How many days' worth of values are known."""
        return float((~np.isnan(self.g_per_kwh)).sum()) / 24

    def until(self, stop_hour: int) -> "HourlySeries":
        """Only the hours that have ended by `stop_hour`."""
        return HourlySeries(self.first_hour, self.g_per_kwh[: max(0, stop_hour - self.first_hour)])

    def since(self, first_hour: int) -> "HourlySeries":
        """Only the hours from `first_hour` on."""
        drop = min(max(0, first_hour - self.first_hour), len(self.g_per_kwh))
        return HourlySeries(self.first_hour + drop, self.g_per_kwh[drop:])

    def logs(self) -> NDArray[np.float64]:
        """Natural logarithms, shape (hours,), of intensities of at least `LEAST_G`."""
        return np.log(np.maximum(self.g_per_kwh, LEAST_G))

    def logs_at(self, hours: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log intensity at these hours, of their shape; NaN where unknown or outside."""
        return np.log(np.maximum(self.at(hours), LEAST_G))

    def at(self, hours: NDArray[np.int64]) -> NDArray[np.float64]:
        """Intensity at these hours, of their shape; NaN where unknown or outside."""
        return pick(padded(self.g_per_kwh), hours - self.first_hour)


def padded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values with NaN before and after, for `pick`."""
    return np.concatenate(([np.nan], values, [np.nan]))


def pick(values: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values at these indices (before they were padded), NaN outside; shape of `index`."""
    return values[np.minimum(np.maximum(index + 1, 0), len(values) - 1)]


def _hourly_mean(part: IntensitySeries, first: int, stop: int) -> NDArray[np.float64]:
    edges_s = np.arange(first, stop + 1, dtype=np.float64) * HOUR_S
    mg_s, gap_s = part.cumulative(edges_s)
    known_s = HOUR_S - np.diff(gap_s)
    mean = np.diff(mg_s) / np.maximum(known_s, 1) / 1000
    return np.where(known_s >= _LEAST_KNOWN * HOUR_S, mean, np.nan)
