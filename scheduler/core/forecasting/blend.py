"""Blending our own forecast with a published one, by what each was worth of late.

Level and shape of a day are weighed apart: plans follow the shape, and a published forecast may have a
good one at a wrong level. Source: measured in deploy/adr/0012.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecasting.features import DAY

PRIOR_DAYS: Final = 8.0
"""Days of evidence that the weight before any evidence counts for."""
PRIOR_WEIGHT: Final = 0.3
"""Of a published forecast that is fresh and has no record yet, beside a model that has learned enough."""
PRIOR_WEIGHT_UNLEARNED: Final = 0.7
"""The same beside one that knows next to nothing of the zone."""
_FADES_H: Final = 24.0
"""Hours after which that weight has fallen to a third."""
_REACH: Final = 6
"""Neighbouring hours whose record counts too, on each side."""


def blended(
    own: NDArray[np.float64],
    published: NDArray[np.float64],
    truth: NDArray[np.float64],
    *,
    age_h: int,
    prior_weight: float = PRIOR_WEIGHT,
) -> NDArray[np.float64]:
    """The blend of every row, in log intensity; where nothing is published, our own.

    Args:
        own: our forecasts made once a day, last row now, shape (rows, hours), hours in whole days. Those of
            the past must be honest: made without what came after.
        published: of the same shape, NaN where nothing is published.
        truth: what came, shape (rows, hours), NaN where not known yet.
        age_h: hours from the issue of the newest published forecast to the first hour; less than 0 where it came
            after hours that are over by now.
        prior_weight: of a published forecast that is fresh, before anything is known of its worth.
    """
    rows, hours = own.shape
    days = (rows, hours // DAY, DAY)
    apart = (published - own).reshape(days)
    is_known = ~np.isnan(apart)
    level = _mean(np.where(is_known, apart, 0.0), is_known)
    shape = np.where(is_known, apart - level, 0.0)
    error = (truth - own).reshape(days)
    is_judged = is_known & ~np.isnan(error)
    # A day can be judged only where the truth of all that was published of it is known.
    is_judged &= (is_judged == is_known).all(axis=2, keepdims=True)
    error_level = _mean(np.where(is_judged, error, 0.0), is_judged)
    error_shape = np.where(is_judged, error - error_level, 0.0)
    prior = prior_weight * np.exp(-np.maximum(age_h + np.arange(hours), 0) / _FADES_H)
    shape_weight = _weight(
        np.where(is_judged, shape, 0.0).reshape(rows, hours),
        error_shape.reshape(rows, hours),
        prior,
    )
    judged_level = np.where(is_judged.any(axis=2, keepdims=True), level, 0.0)
    level_weight = _weight(
        np.broadcast_to(judged_level, days).reshape(rows, hours),
        np.broadcast_to(error_level, days).reshape(rows, hours),
        prior,
    )
    move = (
        shape.reshape(rows, hours) * shape_weight
        + np.where(is_known, level, 0.0).reshape(rows, hours) * level_weight
    )
    return own + move


def _mean(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the hours of a day, kept as an axis; 0 where nothing is known."""
    count = known.sum(axis=2, keepdims=True)
    mean: NDArray[np.float64] = values.sum(axis=2, keepdims=True) / np.maximum(count, 1)
    return mean


def _weight(
    apart: NDArray[np.float64], error: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share from 0 to 1 of the way to the published forecast that would have been right, per hour."""
    judged = apart != 0
    agreement, power = _near((apart * error).sum(axis=0)), _near((apart**2).sum(axis=0))
    count = _near(judged.sum(axis=0).astype(np.float64))
    strength = (
        PRIOR_DAYS * np.where(count > 0, power / np.maximum(count, 1.0), 1.0) * (2 * _REACH + 1)
    )
    weight: NDArray[np.float64] = (agreement + strength * prior) / np.maximum(
        power + strength, 1e-300
    )
    return np.clip(weight, 0.0, 1.0)


def _near(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over each hour and its neighbours."""
    padded = np.pad(values, _REACH, mode="edge")
    return np.convolve(padded, np.ones(2 * _REACH + 1), "valid")
