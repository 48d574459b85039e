"""The forecast model of one zone: direct ridge regression in log space, for one hour of the day at a time."""

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecasting.blend import PRIOR_WEIGHT, PRIOR_WEIGHT_UNLEARNED, blended
from scheduler.core.forecasting.features import BACK_DAYS, DAY, N_LEVEL, history_features
from scheduler.core.forecasting.hourly import HourlySeries
from scheduler.core.forecasting.ridge import RidgeFit, fit_ridge
from scheduler.core.forecasting.vintages import Vintages
from scheduler.core.forecasting.weather import WeatherRuns, weather_features

HALF_LIFE_DAYS: Final = 400.0
"""After which a training sample counts half; flat from 120 to 400 (deploy/adr/0012)."""
MAX_TRAINING_DAYS: Final = 3 * 365
OWN_FROM_DAYS: Final = 30.0
OWN_FULL_DAYS: Final = 400.0
"""From so many days of history coefficients of its own begin to count, and from so many alone."""
ERROR_DAYS: Final = 60
"""Days whose errors give the quantiles."""
_ROWS: Final = ERROR_DAYS + 8
"""Past forecasts that are looked at: the last days of a forecast are over only a week later."""
_LOOKS_BACK_H: Final = max(BACK_DAYS * DAY + 12 * DAY, _ROWS * DAY)
"""History before a model's anchor that its forecasts need: features, and the truth of past forecasts."""
_STRETCH: Final = 1.04
"""Quantiles of past errors are taken this much further out: past errors are a little smaller than those to come."""
_ENOUGH_ERRORS: Final = 60
"""Known errors of an hour, three a day, from which on none is assumed."""
_ASSUMED: Final = (0.6, 0.85, 0.95, 1.0)
"""Standard deviation of a forecast's error by lead day, over that of the intensity itself (deploy/adr/0012)."""
_LEAST_SPREAD: Final = 0.03
_SHARES: Final = np.linspace(0.005, 0.995, 199)
_NORMAL: Final = np.array([NormalDist().inv_cdf(share) for share in _SHARES])
_ROOM: Final = np.log(1.15)
"""How far a forecast may lie outside what was ever seen."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about a zone.

    Args:
        level: shape (hours, `N_LEVEL`), hours in whole days, coefficients that hold in any zone, for where its
            history is short; those of the last day hold for all days after it.
        weather, published: None where there is none.
    """

    history: HourlySeries
    level: NDArray[np.float64]
    weather: WeatherRuns | None = None
    published: Vintages | None = None


@dataclass(frozen=True, slots=True)
class HourlyForecast:
    """Intensity of the hours to come.

    Args:
        first_hour: hours since the epoch.
        logs: shape (hours,), log intensity in g/kWh.
        errors: shape (samples, hours), past errors of the logs sorted by size, NaN last.
        method: what it rests on, such as `ridge+weather`.
    """

    first_hour: int
    logs: NDArray[np.float64]
    errors: NDArray[np.float64]
    method: str

    @property
    def g_per_kwh(self) -> NDArray[np.float64]:
        """The expected intensity, shape (hours,)."""
        return np.exp(self.logs)

    def quantile(self, share: float) -> NDArray[np.float64]:
        """Intensity that is not exceeded with that probability, shape (hours,), g/kWh.

        The median is the expected intensity; quantiles never cross it.
        """
        if share == 0.5 or not len(self.errors):
            return self.g_per_kwh
        outwards = np.clip(0.5 + _STRETCH * (share - 0.5), 0.0, 1.0)
        counts = (~np.isnan(self.errors)).sum(axis=0)
        position = outwards * np.maximum(counts - 1, 0)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(counts - 1, 0))
        columns = np.arange(len(self.logs))
        part = position - low
        error = (1 - part) * self.errors[low, columns] + part * self.errors[high, columns]
        away = np.minimum if share < 0.5 else np.maximum
        bounded: NDArray[np.float64] = away(np.nan_to_num(error), 0.0)
        return np.exp(self.logs + bounded)


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A model for forecasts that begin at one hour of the day.

    Args:
        anchor: first hour that the fit did not see.
        anchors: of the last training samples, shape (n,), a day apart.
        past: honest forecasts of theirs, log intensity, shape (n, hours).
        fits: per lead day; empty where the history is too short for coefficients of its own.
        own_share: how much these count against the common ones.
        bounds: least and greatest log intensity that the fit saw.
    """

    anchor: int
    n_days: int
    has_weather: bool
    anchors: NDArray[np.int64]
    past: NDArray[np.float64]
    fits: tuple[RidgeFit, ...]
    own_share: float
    bounds: tuple[float, float]

    def forecast(self, known: Known, anchor: int, now: int) -> HourlyForecast:
        """The forecast for the hours from `anchor` on.

        Args:
            known: only intensity before the anchor, and what else is known by `now`, is looked at.
            anchor: first hour whose intensity is unknown; whole days from the model's own.
            now: hour at which the forecast is made, not before the anchor.
        """
        known = replace(known, history=known.history.since(self.anchor - _LOOKS_BACK_H))
        lag = now - anchor
        since = np.arange(self.anchor, anchor + 1, DAY)
        recent = self._predicted(known, since, lag)
        anchors = np.concatenate([self.anchors, since])
        own = np.concatenate([self.past, recent])
        hours = anchors[:, None] + np.arange(own.shape[1])
        is_over = hours < anchor
        truth = np.where(is_over, known.history.logs_at(hours), np.nan)
        logs, method = self._with_published(known, anchors, lag, (own, truth))
        method = (
            ("ridge" if self.fits else "level") + ("+weather" if self.has_weather else "") + method
        )
        logs_since = known.history.until(anchor).logs()
        low = np.fmin.reduce(logs_since, initial=self.bounds[0]) - _ROOM
        high = np.fmax.reduce(logs_since, initial=self.bounds[1]) + _ROOM
        expected = np.clip(logs[-1], low, high)
        found = _error_samples((truth - logs)[:-1])
        errors = np.sort(np.concatenate([found, _assumed_errors(found, logs_since)]), axis=0)
        # Neither the forecast nor its quantiles leave what was ever seen by much.
        errors = np.clip(errors, low - expected, high - expected)
        return HourlyForecast(anchor, expected, errors, method)

    def _predicted(self, known: Known, anchors: NDArray[np.int64], lag: int) -> NDArray[np.float64]:
        days = []
        for day in range(self.n_days):
            features, base = history_features(known.history, anchors, day)
            common = base + _by_level(features, known.level, day)
            if self.fits:
                if self.has_weather:
                    features = _with_weather(features, known, anchors, anchors + lag, day)
                own = base + self.fits[day].predict(features)
                common = self.own_share * own + (1 - self.own_share) * common
            days.append(common)
        return np.concatenate(days, axis=1)

    def _with_published(
        self,
        known: Known,
        anchors: NDArray[np.int64],
        lag: int,
        own_and_truth: tuple[NDArray[np.float64], NDArray[np.float64]],
    ) -> tuple[NDArray[np.float64], str]:
        own, truth = own_and_truth
        now = int(anchors[-1]) + lag
        newest = None if known.published is None else known.published.newest_hour(now)
        if known.published is None or newest is None:
            return own, ""
        hours = anchors[:, None] + np.arange(own.shape[1])
        published = known.published.logs_at(hours, anchors + lag)
        if np.isnan(published[-1]).all():
            return own, ""
        unlearned = (1 - self.own_share) * (PRIOR_WEIGHT_UNLEARNED - PRIOR_WEIGHT)
        age_h = int(anchors[-1]) - newest
        prior = PRIOR_WEIGHT + unlearned
        return blended(own, published, truth, age_h=age_h, prior_weight=prior), "+published"


def fit_model(known: Known, *, anchor: int, n_days: int, has_weather: bool) -> FittedModel:
    """The model for forecasts at the anchor's hour of the day, trained on what lies before it.

    Args:
        known: history must hold at least a day.
        anchor: first hour whose intensity is unknown.
        n_days: how many days ahead it reaches.
        has_weather: whether to use the weather.
    """
    first = max(known.history.first_hour, anchor - MAX_TRAINING_DAYS * DAY)
    reach = BACK_DAYS if anchor - first > 2 * BACK_DAYS * DAY else 1
    count = max(0, (anchor - first) // DAY - reach)
    anchors = anchor - DAY * np.arange(count, 0, -1)
    weights = 0.5 ** ((anchor - anchors) / DAY / HALF_LIFE_DAYS)
    seen = known.history.until(anchor)
    learned = (seen.known_days - OWN_FROM_DAYS) / (OWN_FULL_DAYS - OWN_FROM_DAYS)
    own_share = float(np.clip(learned, 0, 1))
    fits, days = list[RidgeFit](), list[NDArray[np.float64]]()
    for day in range(n_days):
        features, base = history_features(known.history, anchors, day)
        past = base + _by_level(features, known.level, day)
        if own_share > 0:
            if has_weather:
                features = _with_weather(features, known, anchors, anchors, day)
            hours = anchors[:, None] + day * DAY + np.arange(DAY)
            target = np.where(hours < anchor, known.history.logs_at(hours) - base, np.nan)
            fit, left_out = fit_ridge(features, target, weights)
            past = own_share * (base + left_out) + (1 - own_share) * past
            fits.append(fit)
        days.append(past[-_ROWS:])
    logs = seen.logs()
    return FittedModel(
        anchor=anchor,
        n_days=n_days,
        has_weather=has_weather and own_share > 0,
        anchors=anchors[-_ROWS:],
        past=np.concatenate(days, axis=1),
        fits=tuple(fits),
        own_share=own_share,
        bounds=(float(np.nanmin(logs)), float(np.nanmax(logs))),
    )


def _by_level(
    features: NDArray[np.float64], level: NDArray[np.float64], day: int
) -> NDArray[np.float64]:
    """What the common coefficients add to the base; what is unknown adds nothing."""
    part = np.nan_to_num(features[..., :N_LEVEL])
    first = min(day * DAY, len(level) - DAY)
    added: NDArray[np.float64] = (part * level[first : first + DAY]).sum(-1)
    return added


def _with_weather(  # noqa: PLR0917 - hours and arrays
    features: NDArray[np.float64],
    known: Known,
    anchors: NDArray[np.int64],
    known_by: NDArray[np.int64],
    day: int,
) -> NDArray[np.float64]:
    assert known.weather is not None
    return np.concatenate(
        [features, weather_features(known.weather, anchors, known_by, day)], axis=-1
    )


def _error_samples(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """For every hour, errors of it and its two neighbours on the last days that are over.

    Args:
        errors: shape (rows, hours), oldest first, NaN where not over or not known.
    """
    recent = np.full((ERROR_DAYS, errors.shape[1]), np.nan)
    for day in range(errors.shape[1] // DAY):
        # The rows of a lead day are over that many days later.
        rows = errors[max(0, len(errors) - day - ERROR_DAYS) : len(errors) - day]
        columns = slice(day * DAY, (day + 1) * DAY)
        recent[: len(rows), columns] = rows[:, columns]
    padded = np.pad(recent, ((0, 0), (1, 1)), mode="edge")
    return np.concatenate([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]])


def _assumed_errors(found: NDArray[np.float64], logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors that stand in where too few are known yet: normal ones, as wide as the zone varies.

    Args:
        found: shape (samples, hours), NaN where unknown; each is one that need not be assumed.
        logs: log intensity that is known.

    Returns:
        shape (`_ENOUGH_ERRORS`, hours), NaN where there are enough.
    """
    missing = _ENOUGH_ERRORS - (~np.isnan(found)).sum(axis=0)
    known = logs[~np.isnan(logs)]
    # A zone shows the less of how it varies the shorter it is known.
    unseen = 1.0 + DAY / max(len(known), DAY)
    spread = unseen * max(float(known.std()) if len(known) else 0.0, _LEAST_SPREAD)
    by_day = np.array(_ASSUMED)[np.minimum(np.arange(found.shape[1]) // DAY, len(_ASSUMED) - 1)]
    rank = np.arange(_ENOUGH_ERRORS)[:, None]
    share = (rank + 0.5) / np.maximum(missing, 1)
    normal = np.interp(share, _SHARES, _NORMAL)
    return np.where(rank < missing, normal * by_day * spread, np.nan)
