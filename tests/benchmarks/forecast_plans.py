"""What plans made on a forecast achieve: the share of a perfect forecast's saving that they keep."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

JOB_H = 4


@dataclass
class Outcome:
    """Sums over jobs, in g/kWh: mean over all starts, as planned, and with a perfect forecast."""

    mean: float = 0.0
    planned: float = 0.0
    perfect: float = 0.0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.mean + other.mean,
            self.planned + other.planned,
            self.perfect + other.perfect,
        )

    @property
    def kept(self) -> float:
        """Share of the oracle saving, 0 to 1 (negative where the plans are worse than chance)."""
        return (self.mean - self.planned) / (self.mean - self.perfect)


Forecast = Callable[[int, int], np.ndarray]
"""Intensity of the hours `[issued, issued + count)` as known at `issued`."""


def simulate(
    truth: Callable[[int, int], np.ndarray],
    forecast: Forecast,
    submits: Iterable[int],
    window_h: int,
    *,
    is_replanned: bool,
) -> Outcome:
    """Jobs of 4 h that must end within the window; re-planned every hour, or planned once."""
    total = Outcome()
    for submit in submits:
        cost = _means(truth(submit, window_h))
        start = 0
        if is_replanned:
            last = len(cost) - 1
            while start < last and np.argmin(_means(forecast(submit + start, window_h - start))):
                start += 1
        else:
            start = int(np.argmin(_means(forecast(submit, window_h))))
        total += Outcome(cost.mean(), cost[start], cost.min())
    return total


def _means(values: np.ndarray) -> np.ndarray:
    """Mean of every run of 4 hours."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[JOB_H:] - sums[:-JOB_H]) / JOB_H
