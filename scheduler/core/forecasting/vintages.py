"""Forecasts that others published, each with the time at which it was known."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecast import IntensitySeries
from scheduler.core.forecasting.hourly import HourlySeries
from scheduler.core.forecasting.issues import Issues, in_order


@dataclass(frozen=True, slots=True)
class Vintage:
    """One published forecast of one zone.

    Args:
        issued_s: when it was known, epoch seconds.
        series: what it says.
    """

    issued_s: int
    series: IntensitySeries


class Vintages:
    """All published forecasts of one zone, hour by hour."""

    def __init__(self, vintages: Iterable[Vintage]) -> None:
        """Of two issued together the last one counts."""
        ordered = in_order(vintages)
        hourly = [HourlySeries.of([one.series]) for one in ordered]
        length = max((len(one.g_per_kwh) for one in hourly), default=1)
        self._issues = Issues(ordered)
        self._first_hour = np.array([one.first_hour for one in hourly], dtype=np.int64)
        self._logs = np.full((len(ordered), length), np.nan)
        for row, one in enumerate(hourly):
            self._logs[row, : len(one.g_per_kwh)] = one.logs()

    def newest_hour(self, known_by: int) -> int | None:
        """When the newest forecast known by that hour was issued; None where there is none."""
        return self._issues.newest_hour(known_by)

    def logs_at(self, hours: NDArray[np.int64], known_by: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log intensity at these hours by the newest forecast known; NaN where it says nothing.

        Args:
            hours: hours since the epoch, shape (n, hours).
            known_by: hour at which it had to be known, shape (n,).
        """
        if not len(self._issues):
            return np.full(hours.shape, np.nan)
        row = self._issues.rows(known_by)[:, None]
        lead = hours - self._first_hour[row]
        length = self._logs.shape[1]
        found = self._logs[row, np.clip(lead, 0, length - 1)]
        return np.where((row >= 0) & (lead >= 0) & (lead < length), found, np.nan)
