"""Weather forecasts of a zone, and what they say about the intensity of the hours to come."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecasting.features import DAY, weekday_of
from scheduler.core.forecasting.hourly import HOUR_S
from scheduler.core.forecasting.issues import Issues, in_order

VARIABLES: Final = (
    "wind_speed_ms",
    "irradiance_wm2",
    "temperature_c",
    "dewpoint_c",
    "precipitation_mm",
)
"""The last axis of every weather array here."""
_WIND, _IRRADIANCE, _TEMPERATURE, _DEWPOINT, _RAIN = range(len(VARIABLES))
_MEANS: Final = (_IRRADIANCE, _RAIN)
"""Means over the interval that begins at their time; the others are values at that instant."""
COMFORT_C: Final = 15.0
"""Outdoor temperature at which neither heating nor cooling is needed: demand rises on both sides."""
_NEAR: Final = np.array([-6, -3, 3, 6])[:, None, None]


@dataclass(frozen=True, slots=True)
class WeatherRun:
    """One run of a weather model for one zone, or past weather put in that form.

    Args:
        issued_s: when it was known, epoch seconds.
        times_s: int64, shape (times,), epoch seconds, strictly increasing.
        values: float64, shape (times, variables) in the order of `VARIABLES`, NaN where unknown.
    """

    issued_s: int
    times_s: NDArray[np.int64]
    values: NDArray[np.float64]


class WeatherRuns:
    """All runs of one zone, hour by hour."""

    def __init__(self, runs: Iterable[WeatherRun]) -> None:
        """Brings every run to whole hours; of two runs issued together the last one counts."""
        ordered = in_order(run for run in runs if len(run.times_s))
        hourly = [_hourly(run) for run in ordered]
        self._length = np.array([len(values) for _, values in hourly], dtype=np.int64)
        self._issues = Issues(ordered)
        self._first_hour = np.array([first for first, _ in hourly], dtype=np.int64)
        self._values = np.full((len(ordered), self._length.max(initial=1), len(VARIABLES)), np.nan)
        for row, (_, values) in enumerate(hourly):
            self._values[row, : len(values)] = values

    def __len__(self) -> int:
        return len(self._issues)

    def newest_hour(self, known_by: int) -> int | None:
        """When the newest run known by that hour was issued; None where there is none."""
        return self._issues.newest_hour(known_by)

    def count_between(self, first_hour: int, stop_hour: int) -> int:
        """How many runs were issued in these hours."""
        return self._issues.count_between(first_hour, stop_hour)

    def at(self, hours: NDArray[np.int64], known_by: NDArray[np.int64]) -> NDArray[np.float64]:
        """Weather at these hours by the newest run known at each.

        Beyond its end a run repeats its last day; before its begin it holds its first value.

        Args:
            hours: hours since the epoch.
            known_by: of the same shape; no run issued after it is looked at.

        Returns:
            shape (*hours.shape, variables), NaN where no run is known.
        """
        if not len(self):
            return np.full((*hours.shape, len(VARIABLES)), np.nan)
        row = self._issues.rows(known_by)
        lead = hours - self._first_hour[row]
        beyond = lead - self._length[row] + 1
        lead = np.where(beyond > 0, lead - DAY * -(-beyond // DAY), lead)
        found = self._values[row, np.maximum(lead, 0)]
        return np.where((row < 0)[..., None], np.nan, found)


def weather_features(
    runs: WeatherRuns, anchors: NDArray[np.int64], known_by: NDArray[np.int64], day: int
) -> NDArray[np.float64]:
    """Features of the 24 hours from `anchor + 24 * day` on, shape (n, 24, features).

    The weather to come, and that of the hours whose intensity the other features know, for what
    matters is the difference.

    Args:
        runs: of the zone.
        anchors: first hour whose intensity is unknown, shape (n,).
        known_by: hour at which the forecast is made, shape (n,), not before the anchor.
        day: lead day, 0 for the first.
    """
    targets = anchors[:, None] + day * DAY + np.arange(DAY)
    now = np.broadcast_to(known_by[:, None], targets.shape)
    ahead = runs.at(targets, now)
    wind, sun, warmth = ahead[..., _WIND], ahead[..., _IRRADIANCE], ahead[..., _TEMPERATURE]
    same_hour = targets - DAY * (day + 1)
    past = _past(runs, same_hour - DAY * np.arange(7)[:, None, None], now)
    yesterday, week = past[0], past.mean(axis=0)
    near = runs.at(targets + _NEAR, np.broadcast_to(now, (len(_NEAR), *now.shape))).mean(axis=0)
    return np.stack(
        [
            wind,
            wind**2,
            wind**3,
            sun,
            sun**2,
            warmth,
            (warmth - COMFORT_C) ** 2,
            (warmth - COMFORT_C) ** 3,
            ahead[..., _DEWPOINT],
            ahead[..., _RAIN],
            wind * sun,
            wind * warmth,
            sun * warmth,
            (weekday_of(targets) >= 5) * warmth,
            near[..., _WIND],
            near[..., _IRRADIANCE],
            yesterday[..., _WIND],
            yesterday[..., _WIND] ** 3,
            yesterday[..., _IRRADIANCE],
            yesterday[..., _TEMPERATURE],
            (yesterday[..., _TEMPERATURE] - COMFORT_C) ** 2,
            yesterday[..., _DEWPOINT],
            past[1][..., _WIND],
            week[..., _WIND],
            (past[..., _WIND] ** 3).mean(axis=0),
            week[..., _IRRADIANCE],
            week[..., _TEMPERATURE],
        ],
        axis=-1,
    )


def _past(
    runs: WeatherRuns, hours: NDArray[np.int64], now: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weather of past hours by the run that was new then: the nearest to a measurement there is."""
    return runs.at(hours, np.minimum(hours, now))


def _hourly(run: WeatherRun) -> tuple[int, NDArray[np.float64]]:
    """First whole hour of the run, and values at whole hours by linear interpolation."""
    first, last = -(-int(run.times_s[0]) // HOUR_S), int(run.times_s[-1]) // HOUR_S
    at_s = np.arange(first, max(last, first) + 1) * HOUR_S
    step_s = int(np.median(np.diff(run.times_s))) if len(run.times_s) > 1 else HOUR_S
    values = np.empty((len(at_s), len(VARIABLES)))
    for variable in range(len(VARIABLES)):
        known = ~np.isnan(run.values[:, variable])
        if not known.any():
            values[:, variable] = np.nan
            continue
        # A mean over its interval is right in the middle of it; asked is the middle of the hour.
        shift_s = (step_s - HOUR_S) / 2 if variable in _MEANS else 0.0
        times_s = run.times_s[known] + shift_s
        values[:, variable] = np.interp(at_s, times_s, run.values[known, variable])
    return first, values
