"""Tables read by columns: what Parquet can hold beyond text, and files of a season in moments."""

import gzip
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.grid.vintage_file import load_vintages
from adapters.table_files import Table, read_table
from adapters.weather.weather_file import load_weather
from scheduler.core.errors import InvalidDataError
from scheduler.core.forecast import Scope, SignalKind

START = datetime(2026, 1, 1, tzinfo=UTC)
START_S = int(START.timestamp())


def from_parquet(folder: Path, columns: dict[str, object], *needed: str) -> Table:
    path = folder / "table.parquet"
    parquet.write_table(pa.table(columns), path)
    return read_table(path, needed or tuple(columns))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_unit_and_zone_are_the_same_instant(tmp_path: Path, unit: str) -> None:
    times = pa.array([START, START + timedelta(hours=1)], pa.timestamp(unit, "Europe/Berlin"))
    table = from_parquet(tmp_path, {"time": times})
    assert table.instants_s("time").tolist() == [START_S, START_S + 3600]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([1, None], pa.int16()), [1, np.nan]),
        (pa.array([1.5, float("nan")], pa.float32()), [1.5, np.nan]),
        (pa.array([Decimal("1.25"), None]), [1.25, np.nan]),
        (pa.array(["1.5", " "]), [1.5, np.nan]),
        (pa.array(["2", "2", None]).dictionary_encode(), [2, 2, np.nan]),
        (pa.nulls(2), [np.nan, np.nan]),
        (pa.chunked_array([[1.0], [2.0]]), [1, 2]),
    ],
)
def test_numbers_of_every_type_are_read(
    tmp_path: Path, cells: object, expected: list[float]
) -> None:
    found = from_parquet(tmp_path, {"x": cells}).numbers("x", 0, 10)
    assert found.tolist() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    "cells", [pa.array([[1.0]]), pa.array([{"a": 1}]), pa.array([True]), pa.array([b"1"])]
)
def test_cells_that_are_no_numbers_are_refused(tmp_path: Path, cells: object) -> None:
    with pytest.raises(InvalidDataError):
        from_parquet(tmp_path, {"x": cells}).numbers("x", 0, 10)


def test_names_and_times_that_are_missing_are_named_by_row(tmp_path: Path) -> None:
    table = from_parquet(tmp_path, {"zone": ["DE", None], "time": [START, None]})
    with pytest.raises(InvalidDataError, match=r"table\.parquet:2: zone None must be a name"):
        table.names("zone")
    with pytest.raises(InvalidDataError, match=r"table\.parquet:2: time None must be ISO 8601"):
        table.instants_s("time")


def test_of_two_columns_the_first_named_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("b,a\n1,2\n", encoding="utf-8")
    assert read_table(path, (("a", "b"),)).columns == {"a": ["2"]}
    path.write_text("b\n1\n", encoding="utf-8")
    assert read_table(path, (("a", "b"),)).columns == {"b": ["1"]}


def test_long_cells_are_shown_in_short(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"x\n{'9' * 5000}\n", encoding="utf-8")
    with pytest.raises(InvalidDataError) as caught:
        read_table(path, ("x",)).numbers("x", 0, 1)
    assert len(caught.value.message) < 300 + len(str(path))
    assert len(str(caught.value.fields["value"])) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".csv.gz", ".parquet"])
def test_ten_times_the_rows_take_about_ten_times_as_long(tmp_path: Path, ending: str) -> None:
    # 700 days of 4 runs of 72 hours: 201,600 rows; and a tenth of them.
    tenth, whole = (_write_runs(tmp_path / f"{count}{ending}", count) for count in (280, 2800))
    _load_s(tenth, 280)
    of_tenth_s = min(_load_s(tenth, 280) for _ in range(3))
    # CPU time of the same process: a load that grows with the square would take a hundred times as long.
    assert _load_s(whole, 2800) < 40 * of_tenth_s


def _write_runs(path: Path, count: int) -> Path:
    runs = [START + timedelta(hours=6 * index) for index in range(count)]
    rows = [(issued, issued + timedelta(hours=lead)) for issued in runs for lead in range(72)]
    columns: dict[str, list[object]] = {
        "zone": ["DE"] * len(rows),
        "issued_at": [issued for issued, _ in rows],
        "time": [at for _, at in rows],
        **{name: [index % 97 / 7 for index in range(len(rows))] for name in NUMBERS},
    }
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
    else:
        lines = [",".join(map(str, cells)) for cells in zip(*columns.values(), strict=True)]
        path.write_bytes(gzip.compress("\n".join([",".join(columns), *lines]).encode(), 1))
    return path


def _load_s(path: Path, count: int) -> float:
    """CPU seconds that weather and vintages of that many runs take to load."""
    begun = time.process_time()
    assert len(load_weather(path, ["DE"])["DE"]) == count
    vintages = load_vintages(path, ["DE"], signal=SignalKind.AVERAGE, scope=Scope.DIRECT)
    assert len(vintages["DE"]) == count
    return time.process_time() - begun


NUMBERS = (
    "wind_speed_ms",
    "temperature_c",
    "dewpoint_c",
    "irradiance_wm2",
    "precipitation_mm",
    "g_per_kwh",
)
