"""Real intensity, weather forecasts and published forecasts for the benchmark of the forecast; not shipped."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from adapters.forecast_tables import load_level_coefficients
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.forecasting.hourly import HOUR_S, HourlySeries
from scheduler.core.forecasting.model import Known
from scheduler.core.forecasting.vintages import Vintage, Vintages
from scheduler.core.forecasting.weather import WeatherRun, WeatherRuns

DATA = Path(__file__).parents[3] / "shared" / "data"
ZONES = (
    "AU-QLD",
    "DE",
    "PL",
    "SE",
    "US-CAL-CISO",
    "US-FLA-FPL",
    "US-MIDA-PJM",
    "US-NE-ISNE",
    "US-TEX-ERCO",
)
_PROVENANCE = Provenance(
    source="published",
    signal=SignalKind.AVERAGE,
    scope=Scope.LIFECYCLE,
    quality=Quality.FORECAST,
)


def hour(year: int, month: int, day: int) -> int:
    """Hours from the epoch to 00 UTC of that day."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) // HOUR_S


def history(zone_id: str) -> HourlySeries:
    """Life-cycle intensity of the zone, 2020 to September 2021."""
    table = _rows("carbon/carboncast_2020_2021q3.parquet", zone_id)
    hours = _epoch_s(table["time"]) // HOUR_S
    values = np.full(int(hours[-1] - hours[0]) + 1, np.nan)
    values[hours - hours[0]] = table["g_per_kwh"]
    return HourlySeries(int(hours[0]), values)


def weather(zone_id: str, late_h: int) -> WeatherRuns:
    """Daily runs of a global weather model, averaged over the zone, each known that much later."""
    table = _rows("weather/gfs_vintages_2020_2021q3.parquet", zone_id)
    columns = ["wind_speed_ms", "irradiance_wm2", "temperature_k", "dewpoint_k", "precipitation_mm"]
    runs = []
    for issued_at, rows in table.sort_values("time").groupby("issued_at"):
        values = rows[columns].to_numpy().copy()
        values[:, 2:4] -= 273.15
        issued_s = int(issued_at.timestamp()) + late_h * HOUR_S
        runs.append(WeatherRun(issued_s, _epoch_s(rows["time"]), values))
    return WeatherRuns(runs)


def published(zone_id: str) -> dict[int, np.ndarray]:
    """CarbonCast's forecasts for 96 hours, by the hour at which they were issued."""
    table = _rows("forecasts/carboncast_vintages_2021q3.parquet", zone_id)
    return {
        int(issued_at.timestamp()) // HOUR_S: rows["g_per_kwh"].to_numpy()
        for issued_at, rows in table.sort_values("time").groupby("issued_at")
    }


def as_vintages(zone_id: str, by_hour: dict[int, np.ndarray]) -> Vintages:
    """The same for the model."""
    return Vintages(
        Vintage(
            issued * HOUR_S,
            IntensitySeries.from_g_per_kwh(
                zone_id,
                np.arange(issued, issued + len(values) + 1) * HOUR_S,
                values.astype(float),
                _PROVENANCE,
            ),
        )
        for issued, values in by_hour.items()
    )


def known(
    zone_id: str, *, has_weather: bool, has_published: bool = False, late_h: int = 0
) -> Known:
    """What a forecaster of the zone may use."""
    return Known(
        history=history(zone_id),
        level=load_level_coefficients(),
        weather=weather(zone_id, late_h) if has_weather else None,
        published=as_vintages(zone_id, published(zone_id)) if has_published else None,
    )


def _rows(name: str, zone_id: str) -> pd.DataFrame:
    table = pd.read_parquet(DATA / name)
    return table[table["zone"] == zone_id].sort_values("time")


def _epoch_s(times: pd.Series) -> np.ndarray:
    return times.dt.tz_convert("UTC").dt.as_unit("s").astype("int64").to_numpy()
