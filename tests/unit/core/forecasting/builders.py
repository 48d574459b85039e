"""Synthetic hours, weather and published forecasts for tests of the forecast."""

from collections.abc import Sequence

import numpy as np

from scheduler.core.forecast import IntensitySeries
from scheduler.core.forecasting.hourly import HOUR_S, HourlySeries
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.forecasting.weather import VARIABLES, WeatherRun
from tests.unit.core.builders import provenance

FIRST = 24 * 18_628
"""1 January 2021, 00 UTC, a Friday, in hours since the epoch."""
NAN = float("nan")
N_LEVEL = 8


def hours(values: Sequence[float] | np.ndarray, first: int = FIRST) -> HourlySeries:
    return HourlySeries(first, np.array(values, dtype=float))


def wave(n_hours: int, seed: int = 1, first: int = FIRST) -> HourlySeries:
    """Day and week as sines around 300 g/kWh, and noise that lasts some hours."""
    at = np.arange(first, first + n_hours)
    noise = np.convolve(
        np.random.default_rng(seed).normal(0, 0.04, n_hours + 11), np.ones(12), "valid"
    )
    logs = 0.3 * np.sin(2 * np.pi * at / 24) + 0.1 * np.sin(2 * np.pi * at / 168) + noise
    return HourlySeries(first, 300 * np.exp(logs))


def level_table(days: int = 2, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.2, 0.6, (24 * days, N_LEVEL))


def steps(
    g_per_kwh: Sequence[float] | np.ndarray, *, start_s: int = FIRST * HOUR_S, step_s: int = HOUR_S
) -> IntensitySeries:
    edges_s = start_s + np.arange(len(g_per_kwh) + 1) * step_s
    return IntensitySeries.from_g_per_kwh(
        "DE", edges_s, np.array(g_per_kwh, dtype=float), provenance()
    )


def vintage(issued_hour: float, values: Sequence[float] | np.ndarray, first: int) -> Vintage:
    return Vintage(round(issued_hour * HOUR_S), steps(values, start_s=first * HOUR_S))


def weather_run(
    issued_hour: float,
    values: Sequence[float] | np.ndarray,
    *,
    first: float | None = None,
    step_h: float = 1,
) -> WeatherRun:
    """A run of the values; a plain list is wind, and the other variables are ten times as much."""
    table = np.array(values, dtype=float)
    if table.ndim == 1:
        table = np.stack([table, *[10 * table] * (len(VARIABLES) - 1)], axis=1)
    begin = issued_hour if first is None else first
    times_s = np.rint((begin + step_h * np.arange(len(table))) * HOUR_S).astype(np.int64)
    return WeatherRun(round(issued_hour * HOUR_S), times_s, table)
