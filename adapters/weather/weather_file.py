"""Weather from a file: CSV (also gzipped) or Parquet with the columns of `COLUMNS`."""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.issued_runs import issued_runs
from adapters.table_files import Table, read_table
from adapters.weather.possible import KELVIN, POSSIBLE
from scheduler.core.forecasting.weather import VARIABLES, WeatherRun

COLUMNS: Final = (
    "zone",
    "issued_at",
    "time",
    "wind_speed_ms",
    "irradiance_wm2",
    ("temperature_k", "temperature_c"),
    ("dewpoint_k", "dewpoint_c"),
    "precipitation_mm",
)
"""Where there are two, one is enough. Irradiance and precipitation are means, and sums an hour, of
the time that begins at `time`; all others are values at it. An empty cell is unknown."""


def load_weather(path: Path, zones: Collection[str]) -> dict[str, tuple[WeatherRun, ...]]:
    """The runs of each of these zones that the file has, in the order of their issue.

    Args:
        path: the file; its times carry an offset.
        zones: others are left out.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """
    table = read_table(path, COLUMNS)
    values = np.stack([_values(table, variable) for variable in VARIABLES], axis=1)
    found: dict[str, list[WeatherRun]] = defaultdict(list)
    for run in issued_runs(table, zones, values):
        found[run.zone_id].append(WeatherRun(run.issued_s, run.times_s, run.values))
    return {zone_id: tuple(runs) for zone_id, runs in found.items()}


def _values(table: Table, variable: str) -> NDArray[np.float64]:
    low, high = POSSIBLE[variable]
    if variable in table.columns:
        return table.numbers(variable, low, high)
    kelvin = variable.removesuffix("_c") + "_k"
    return table.numbers(kelvin, low + KELVIN, high + KELVIN) - KELVIN
