"""How good forecasts were, once the truth is known."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecasting.features import DAY
from scheduler.core.forecasting.hourly import HOUR_S, LEAST_G, HourlySeries
from scheduler.core.forecasting.vintages import Vintage

_JOB_H: Final = 4
"""Length of the job whose plan is judged; data/README of the reference uses the same."""
MAX_DAYS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What became of a number of forecasts of one zone.

    Args:
        forecasts: how many had begun to come true.
        mape: mean absolute error by lead day, share of the truth; None for a day that none reached.
        bias: mean of forecast less truth over truth, all leads. A truth below 1 g/kWh counts as that.
        coverage: share of hours between the quantiles of 10 and 90 %; None where none were stated.
        kept: share of the saving of a perfect forecast that a 4 h job keeps which may wait 24 h and is
            planned on these; against the mean of all starts. None where nothing could be saved.
    """

    forecasts: int
    mape: tuple[float | None, ...]
    bias: float | None
    coverage: float | None
    kept: float | None


def score(vintages: Iterable[Vintage], truth: HourlySeries) -> Score:
    """The score of forecasts against what came; hours that are not known yet do not count."""
    errors, inside, plans = list[NDArray[np.float64]](), list[NDArray[np.float64]](), list[_Plan]()
    for vintage in vintages:
        hours, said, quantiles = _hours_said(vintage)
        came = truth.at(hours)
        # Below the floor, as where nothing is emitted at the margin, a relative error says nothing.
        error = (said - came) / np.maximum(came, LEAST_G)
        if np.isnan(error).all():
            continue
        errors.append(error)
        if quantiles:
            is_in = (quantiles[0] <= came) & (came <= quantiles[1])
            inside.append(np.where(np.isnan(error), np.nan, is_in.astype(np.float64)))
        plans.append(_planned(said[:DAY], came[:DAY]))
    table = np.array(errors).reshape(len(errors), MAX_DAYS, DAY)
    return Score(
        forecasts=len(errors),
        mape=tuple(_mean(np.abs(table[:, day])) for day in range(MAX_DAYS)),
        bias=_mean(table),
        coverage=_mean(np.array(inside)),
        kept=_kept(plans),
    )


_Plan = tuple[float, float, float]
"""Mean over all starts, as planned, and at best, in g/kWh."""


def _hours_said(
    vintage: Vintage,
) -> tuple[NDArray[np.int64], NDArray[np.float64], tuple[NDArray[np.float64], ...]]:
    """Hours from the first that had not begun when it was issued, what it says, and its quantiles.

    Hours of shape (MAX_DAYS * 24,); what it says in g/kWh, NaN where it says nothing.
    """
    series = vintage.series
    hours = -(-vintage.issued_s // HOUR_S) + np.arange(MAX_DAYS * DAY, dtype=np.int64)
    said = HourlySeries.of([series]).at(hours)
    if series.low_mg is None or series.high_mg is None:
        return hours, said, ()
    index = np.searchsorted(series.edges_s, hours * HOUR_S, side="right") - 1
    index = np.clip(index, 0, len(series.mg_per_kwh) - 1)
    quantiles = (series.low_mg[index] / 1000.0, series.high_mg[index] / 1000.0)
    return hours, said, quantiles


def _planned(said: NDArray[np.float64], came: NDArray[np.float64]) -> _Plan:
    if np.isnan(said).any() or np.isnan(came).any():
        return 0.0, 0.0, 0.0
    cost = _means(came)
    return float(cost.mean()), float(cost[np.argmin(_means(said))]), float(cost.min())


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(values, np.full(_JOB_H, 1.0 / _JOB_H), "valid")


def _kept(plans: list[_Plan]) -> float | None:
    mean, planned, best = (sum(one[part] for one in plans) for part in range(3))
    return (mean - planned) / (mean - best) if mean - best > 1e-9 else None


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
