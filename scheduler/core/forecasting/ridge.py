"""Weighted ridge regression, one model per hour of a lead day, with honest errors for free."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PENALTY: Final = 0.05
"""Per unit of total weight, on standardised features; flat between 0.02 and 0.3 (deploy/adr/0012)."""
_CLIP: Final = 4.0
"""Standard deviations beyond which a feature is cut off: one wild value must not steer a forecast."""
_CONSTANT: Final = 1e-6
_MAX_LEVERAGE: Final = 0.9


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """Coefficients for the hours of one lead day.

    Args:
        mean, scale: shape (hours, features); features are standardised by them, unknown ones count as mean.
        coefficients: shape (hours, features); intercept: shape (hours,).
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predictions, shape (n, hours), for features of shape (n, hours, features)."""
        scaled = _scaled(features, self.mean, self.scale)
        predicted: NDArray[np.float64] = (scaled * self.coefficients).sum(-1) + self.intercept
        return predicted


def fit_ridge(
    features: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[RidgeFit, NDArray[np.float64]]:
    """The fit of every hour at once, by its normal equations, and honest predictions for its samples.

    Those are by the model fitted without the sample, in closed form from the leverages: so errors are
    honest without a second fit.

    Args:
        features: shape (samples, hours, features), NaN where unknown.
        targets: shape (samples, hours), NaN where a sample does not count for that hour.
        weights: shape (samples,), positive.

    Returns:
        the fit, and predictions of shape (samples, hours).
    """
    counts = ~np.isnan(targets)
    share = np.where(counts, weights[:, None], 0.0)
    share /= np.maximum(share.sum(axis=0), 1e-300)
    known = np.where(np.isnan(features), 0.0, share[..., None])
    total = np.maximum(known.sum(axis=0), 1e-300)
    mean = (np.nan_to_num(features) * known).sum(axis=0) / total
    apart = np.where(np.isnan(features), 0.0, features - mean)
    spread = np.sqrt((known * apart**2).sum(axis=0) / total)
    scale = np.where(spread < _CONSTANT, np.inf, spread)
    scaled = _scaled(features, mean, scale).transpose(1, 0, 2)
    weighted = scaled * share.T[..., None]
    goal = np.where(counts, targets, 0.0)
    intercept = (share * goal).sum(axis=0)
    normal = weighted.transpose(0, 2, 1) @ scaled + PENALTY * np.eye(features.shape[2])
    inverse = np.linalg.inv(normal)
    moment = weighted.transpose(0, 2, 1) @ (goal - intercept).T[..., None]
    coefficients = (inverse @ moment)[..., 0]
    fitted = (scaled @ coefficients[..., None])[..., 0].T + intercept
    leverage = share * (1.0 + ((scaled @ inverse) * scaled).sum(-1).T)
    error = (targets - fitted) / (1.0 - np.minimum(leverage, _MAX_LEVERAGE))
    left_out = np.where(counts, targets - error, fitted)
    return RidgeFit(mean, scale, coefficients, intercept), left_out


def _scaled(
    features: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    scaled = np.clip((features - mean) / scale, -_CLIP, _CLIP)
    return np.where(np.isnan(scaled), 0.0, scaled)
