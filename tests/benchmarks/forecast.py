"""The built-in forecast on real data: errors, quantiles, and what plans made on it keep of the possible saving."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from scheduler.core.forecasting.model import HourlyForecast, Known
from scheduler.core.forecasting.zone_forecaster import ZoneForecaster
from tests.benchmarks.forecast_data import DATA, ZONES, history, hour, known, published
from tests.benchmarks.forecast_plans import Forecast, Outcome, simulate
from tests.benchmarks.measure import cpu_s, write

FIRST, LAST = hour(2021, 7, 1), hour(2021, 9, 26)
"""Daily issues; four days after the last one the truth ends."""
HORIZON_H = 96
WEATHER_LATE_H = 6
"""The weather model runs at 00 UTC, and its forecast is out some hours later."""
SUBMIT_EVERY_H = 6


@dataclass
class Zone:
    """What was measured in one zone: error and coverage by lead day, outcomes of plans."""

    mape: dict[str, list[float]] = field(default_factory=dict)
    covered: dict[str, list[float]] = field(default_factory=dict)
    plans: dict[str, Outcome] = field(default_factory=dict)


def run() -> None:
    """Measures all zones, and writes the figures of the issue."""
    if not DATA.exists():
        print(f"forecast: skipped, {DATA} is not there", file=sys.stderr)
        return
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        zones = dict(zip(ZONES, pool.map(measure, ZONES), strict=True))
    alone, weather, naive, vintage = (
        np.mean([zone.mape[name] for zone in zones.values()], axis=0)
        for name in ("history", "weather", "persistence", "vintage")
    )
    metrics = {f"mape_d{day + 1}": value for day, value in enumerate(alone)}
    metrics |= {f"mape_weather_d{day + 1}": value for day, value in enumerate(weather)}
    metrics |= {
        "mape_vs_persistence": alone.mean() / naive.mean(),
        "mape_weather_vs_persistence": weather.mean() / naive.mean(),
        "mape_weather_vs_vintage": weather.mean() / vintage.mean(),
        "coverage_p10_p90": _mean_coverage(zones, "history"),
        "coverage_weather_p10_p90": _mean_coverage(zones, "weather"),
    }
    for name in next(iter(zones.values())).plans:
        metrics[name] = sum((zone.plans[name] for zone in zones.values()), Outcome()).kept
        metrics[f"{name}_worst_zone"] = min(zone.plans[name].kept for zone in zones.values())
    for blend, parts in BLENDS.items():
        metrics |= _blend_gain(zones, blend, parts)
    metrics |= cost()
    write("forecast", metrics, {"zones": len(ZONES), "by_zone": _by_zone(zones)})


BLENDS = {
    "kept24_blend": ("kept24_own", "kept24_vintage"),
    "kept24_blend_weather": ("kept24_own_weather", "kept24_vintage"),
}


def _blend_gain(zones: dict[str, Zone], blend: str, parts: tuple[str, str]) -> dict[str, float]:
    """Points above the better of its parts: of the means over zones, and in the worst zone."""
    kept = {
        name: np.array([100 * zone.plans[name].kept for zone in zones.values()])
        for name in (blend, *parts)
    }
    best = np.maximum(*(kept[name] for name in parts))
    return {
        f"{blend}_gain_points": kept[blend].mean() - max(kept[name].mean() for name in parts),
        f"{blend}_worst_zone_points": float((kept[blend] - best).min()),
    }


def _mean_coverage(zones: dict[str, Zone], name: str) -> float:
    return float(np.mean([zone.covered[name] for zone in zones.values()]))


def _by_zone(zones: dict[str, Zone]) -> dict[str, dict[str, float]]:
    return {
        zone_id: {
            **{f"mape_{name}": float(np.mean(values)) for name, values in zone.mape.items()},
            **{f"coverage_{name}": float(np.mean(values)) for name, values in zone.covered.items()},
            **{name: outcome.kept for name, outcome in zone.plans.items()},
        }
        for zone_id, zone in zones.items()
    }


def measure(zone_id: str) -> Zone:
    """Everything about one zone."""
    result = Zone()
    truth = history(zone_id)
    vintages = published(zone_id)

    def actual(first: int, count: int) -> np.ndarray:
        return truth.at(np.arange(first, first + count))

    def newest(issued: int, count: int) -> np.ndarray:
        made = max(one for one in vintages if one <= issued)
        return vintages[made][issued - made : issued - made + count]

    def last_day(issued: int, count: int) -> np.ndarray:
        return np.resize(actual(issued - 24, 24), count)

    def week_mean(issued: int, count: int) -> np.ndarray:
        return np.resize(actual(issued - 168, 168).reshape(7, 24).mean(axis=0), count)

    days = range(FIRST, LAST, 24)
    result.mape["persistence"] = _mape(last_day, actual, days)
    result.mape["vintage"] = _mape(newest, actual, vintages)
    singles = {"vintage": newest, "mean7d": week_mean}
    for name, has_weather in (("history", False), ("weather", True)):
        fresh = Made(known(zone_id, has_weather=has_weather))
        result.mape[name] = _mape(fresh.g_per_kwh, actual, days)
        result.covered[name] = _covered(fresh, actual, days)
        late_h = WEATHER_LATE_H if has_weather else 0
        own = Made(known(zone_id, has_weather=has_weather, late_h=late_h))
        blend = Made(known(zone_id, has_weather=has_weather, has_published=True, late_h=late_h))
        for window_h in (24, HORIZON_H):
            submits = range(FIRST, LAST - HORIZON_H, SUBMIT_EVERY_H)
            result.plans[f"kept{window_h}_{name}"] = simulate(
                actual, own.g_per_kwh, submits, window_h, is_replanned=True
            )
        suffix = "_weather" if has_weather else ""
        singles |= {f"own{suffix}": own.g_per_kwh, f"blend{suffix}": blend.g_per_kwh}
    for name, forecast in singles.items():
        result.plans[f"kept24_{name}"] = simulate(
            actual, forecast, range(FIRST + 24, LAST), 24, is_replanned=False
        )
    return result


class Made:
    """Forecasts of one zone; of each only the expected intensity is kept."""

    def __init__(self, what: Known) -> None:
        self._forecaster = ZoneForecaster("zone", what)
        self._expected = lru_cache(None)(lambda issued: self.at(issued).g_per_kwh)

    def at(self, issued: int) -> HourlyForecast:
        """The forecast made at that hour."""
        return self._forecaster.forecast(issued, HORIZON_H)

    def g_per_kwh(self, issued: int, count: int) -> np.ndarray:
        """Expected intensity of the hours from then on."""
        return self._expected(issued)[:count]


def _mape(forecast: Forecast, actual: Forecast, issues: Iterable[int]) -> list[float]:
    """Mean absolute error in percent, by lead day."""
    return _by_day(
        [100 * abs(forecast(at, HORIZON_H) / actual(at, HORIZON_H) - 1) for at in issues]
    )


def _covered(made: Made, actual: Forecast, issues: Iterable[int]) -> list[float]:
    """Share of hours between the quantiles of 10 and 90 %, by lead day."""
    rows = []
    for issued in issues:
        forecast, came = made.at(issued), actual(issued, HORIZON_H)
        rows.append((forecast.quantile(0.1) <= came) & (came <= forecast.quantile(0.9)))
    return _by_day(rows)


def _by_day(rows: list[np.ndarray]) -> list[float]:
    return [float(day.mean()) for day in np.split(np.array(rows), HORIZON_H // 24, axis=1)]


def _cost_at(forecaster: ZoneForecaster, issued: int) -> tuple[float, list[float]]:
    """CPU of the first forecast above the others, in which a model is fitted; and of the others."""

    def make() -> None:
        forecaster.forecast(issued, HORIZON_H)

    first, again = cpu_s(make), [cpu_s(make) for _ in range(9)]
    return first - float(np.median(again)), again


def cost() -> dict[str, float]:
    """CPU of a fit and of a forecast, median over zones and hours of the day, and the peak of memory."""
    fits, weather_fits, forecasts = [], [], []
    for has_weather, taken in ((False, fits), (True, weather_fits)):
        what = known("DE", has_weather=has_weather)
        what = replace(what, history=what.history.since(FIRST - 365 * 24))
        for phase in range(6):
            fit_s, again = _cost_at(ZoneForecaster("DE", what), FIRST + phase)
            taken.append(fit_s)
            forecasts += again
    peak = subprocess.run([sys.executable, "-m", __name__], capture_output=True, check=True)
    return {
        "peak_mib": float(peak.stdout),
        "fit_cpu_s": float(np.median(fits)),
        "fit_weather_cpu_s": float(np.median(weather_fits)),
        "forecast_cpu_ms": 1000 * float(np.median(forecasts)),
    }


def main() -> None:
    """Prints the peak of memory, in MiB, of a process that forecasts one zone at every hour of a day."""
    what = known("DE", has_weather=True, has_published=True)
    what = replace(what, history=what.history.since(FIRST - 365 * 24))
    forecaster = ZoneForecaster("DE", what)
    for phase in range(24):
        forecaster.forecast(FIRST + phase, 168)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
