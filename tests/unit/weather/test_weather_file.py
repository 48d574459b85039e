"""Weather from a file: every format gives the same runs, and a bad cell is named by where it stands."""

import gzip
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.weather.weather_file import load_weather
from scheduler.core.errors import InvalidDataError
from scheduler.core.forecasting.weather import WeatherRun, WeatherRuns

START = datetime(2026, 12, 31, 18, tzinfo=UTC)
START_S = int(START.timestamp())
HOUR = timedelta(hours=1)
HEADER = (
    "zone,issued_at,time,wind_speed_ms,temperature_k,dewpoint_k,irradiance_wm2,precipitation_mm\n"
)
Row = tuple[str, datetime, datetime, float | None, float | None, float | None, float | None, float]
ROWS: list[Row] = [
    ("DE", START, START, 5.5, 283.15, 278.15, 120.0, 0.5),
    ("DE", START, START + 6 * HOUR, 6.5, 284.15, None, 0.0, 0.0),
    ("DE", START + 6 * HOUR, START + 6 * HOUR, 7.5, 285.15, 280.15, 0.0, 1.5),
    ("FR", START, START, 1.0, None, 273.15, 200.0, 0.0),
]
Write = Callable[[Path, list[Row]], Path]


def csv_text(rows: list[Row]) -> str:
    return HEADER + "".join(
        ",".join(
            "" if cell is None else cell.isoformat() if isinstance(cell, datetime) else str(cell)
            for cell in row
        )
        + "\n"
        for row in rows
    )


def write_csv(folder: Path, rows: list[Row]) -> Path:
    path = folder / "weather.csv"
    path.write_text(csv_text(rows), encoding="utf-8")
    return path


def write_gzip(folder: Path, rows: list[Row]) -> Path:
    path = folder / "weather.csv.gz"
    path.write_bytes(gzip.compress(csv_text(rows).encode()))
    return path


def write_parquet(folder: Path, rows: list[Row]) -> Path:
    path = folder / "weather.parquet"
    names = HEADER.strip().split(",")
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    parquet.write_table(pa.table(columns), path)
    return path


FORMATS = [write_csv, write_gzip, write_parquet]


def load_text(folder: Path, text: str, *zones: str) -> dict[str, tuple[WeatherRun, ...]]:
    path = folder / "weather.csv"
    path.write_text(text, encoding="utf-8")
    return load_weather(path, zones or ("DE",))


def rounded(run: WeatherRun) -> list[list[float | None]]:
    return [
        [None if math.isnan(value) else round(float(value), 9) for value in row]
        for row in run.values
    ]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_runs_of_each_zone_in_order(tmp_path: Path, write: Write) -> None:
    runs = load_weather(write(tmp_path, [*reversed(ROWS), ROWS[0]]), ["DE", "FR", "PL"])
    assert list(runs) == ["DE", "FR"]
    first, second = runs["DE"]
    assert (first.issued_s, second.issued_s) == (START_S, START_S + 6 * 3600)
    assert first.times_s.tolist() == [START_S, START_S + 6 * 3600]
    assert first.times_s.dtype == np.int64
    # Wind, irradiance, temperature, dew point, precipitation; 283.15 K are 10 °C.
    assert rounded(first) == [[5.5, 120, 10, 5, 0.5], [6.5, 0, 11, None, 0]]
    assert rounded(second) == [[7.5, 0, 12, 7, 1.5]]
    assert rounded(runs["FR"][0]) == [[1, 200, None, 0, 0]]


def test_only_the_zones_asked_for_are_loaded(tmp_path: Path) -> None:
    assert list(load_weather(write_csv(tmp_path, ROWS), ["FR"])) == ["FR"]


def test_celsius_is_taken_where_the_column_says_so(tmp_path: Path) -> None:
    text = (
        "time,zone,issued_at,dewpoint_c,temperature_c,wind_speed_ms,irradiance_wm2,precipitation_mm,more\n"
        "2026-12-31T19:00:00+01:00,DE,2026-12-31T18:00:00Z,-3.5,7,2,nan,,x\n"
    )
    (run,) = load_text(tmp_path, text)["DE"]
    assert run.times_s.tolist() == [START_S]
    assert rounded(run) == [[2, None, 7, -3.5, None]]


def test_three_hourly_runs_feed_the_core(tmp_path: Path) -> None:
    rows = [
        ("DE", START, START + step * 3 * HOUR, 3.0 + step, 283.15, 278.15, 0.0, 0.0)
        for step in range(4)
    ]
    runs = WeatherRuns(load_weather(write_csv(tmp_path, [*rows]), ["DE"])["DE"])
    first = START_S // 3600
    found = runs.at(np.arange(first, first + 4), np.full(4, first))
    # 3 m/s at 18:00, 4 at 21:00, a straight line between.
    assert found[:, 0] == pytest.approx([3, 3 + 1 / 3, 3 + 2 / 3, 4])


GOOD = "DE,2026-12-31T18:00Z,2026-12-31T18:00Z,5,283,278,100,0\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ": column 'zone' is missing"),
        (HEADER, ": no rows"),
        (
            HEADER.replace("temperature_k", "temperature_f") + GOOD,
            ": column 'temperature_k' or 'temperature_c' is missing; needed are zone, issued_at, time, "
            "wind_speed_ms, irradiance_wm2, temperature_k or temperature_c, dewpoint_k or dewpoint_c, "
            "precipitation_mm",
        ),
        (
            HEADER + GOOD + GOOD.replace("2026-12-31T18:00Z,5", "2026-12-31T18:00,5"),
            ":3: time '2026-12-31T18:00' must be ISO 8601 with an offset",
        ),
        (HEADER + GOOD.replace("DE,2026-12-31", "DE,31.12.2026"), ":2: issued_at '31.12.2026T18"),
        (HEADER + GOOD.replace("DE", " "), ":2: zone ' ' must be a name"),
        (HEADER + GOOD.replace(",5,", ",-1,"), ":2: wind_speed_ms '-1' is not from 0 to 120"),
        (HEADER + GOOD.replace(",5,", ",strong,"), ":2: wind_speed_ms 'strong' is not from"),
        (HEADER + GOOD.replace(",5,", ",inf,"), ":2: wind_speed_ms 'inf' is not from"),
        (
            HEADER + GOOD.replace(",283,", ",10,"),
            ":2: temperature_k '10' is not from 173.15 to 343.15",
        ),
        (
            HEADER.replace("dewpoint_k", "dewpoint_c") + GOOD,
            ":2: dewpoint_c '278' is not from -120 to 50",
        ),
        (HEADER + GOOD.replace(",100,", ",9999,"), ":2: irradiance_wm2 '9999' is not from -5"),
        (HEADER + GOOD.replace(",0\n", ",-3\n"), ":2: precipitation_mm '-3' is not from -0.1"),
        (
            HEADER + GOOD + "\n" + GOOD.replace(",5,", ",6,"),
            ":4: zone DE has two values for time 2026-12-31T18:00:00Z, issued at 2026-12-31T18:00:00Z",
        ),
        (HEADER + GOOD.replace(",5,", ",5,5,"), ":2: 9 cells under 8 columns"),
        (HEADER + GOOD.replace("DE", "FR"), ": no rows of zone DE; known: FR"),
    ],
)
def test_bad_file_is_refused_with_line_column_and_value(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(InvalidDataError) as caught:
        load_text(tmp_path, text)
    assert caught.value.message.startswith(str(tmp_path / "weather.csv") + says)
    assert "field" in caught.value.fields
