"""Intensity from a file: CSV, gzip and Parquet give the same; a bad file is refused where it is bad."""

import gzip
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.grid.trace import TraceSource
from scheduler.core.errors import ForecastUnavailableError, InvalidDataError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window

START = datetime(2021, 4, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
HEADER = "zone,time,g_per_kwh\n"
ROWS: list[tuple[str, datetime, float | None]] = [
    ("DE", START, 400.0),
    ("DE", START + HOUR, 0.0),
    ("DE", START + 2 * HOUR, 123.4565),
    ("FR", START, 56.0),
    ("FR", START + timedelta(minutes=15), 57.0),
]
Write = Callable[[Path, list[tuple[str, datetime, float | None]]], Path]


def csv_text(rows: list[tuple[str, datetime, float | None]]) -> str:
    lines = (
        f"{zone},{at.isoformat()},{'' if value is None else value}\n" for zone, at, value in rows
    )
    return HEADER + "".join(lines)


def write_csv(folder: Path, rows: list[tuple[str, datetime, float | None]]) -> Path:
    path = folder / "trace.csv"
    path.write_text(csv_text(rows), encoding="utf-8")
    return path


def write_excel_csv(folder: Path, rows: list[tuple[str, datetime, float | None]]) -> Path:
    path = folder / "trace-excel.csv"
    path.write_bytes(csv_text(rows).replace("\n", "\r\n").encode("utf-8-sig"))
    return path


def write_gzip(folder: Path, rows: list[tuple[str, datetime, float | None]]) -> Path:
    path = folder / "trace.csv.gz"
    path.write_bytes(gzip.compress(csv_text(rows).encode()))
    return path


def write_parquet(folder: Path, rows: list[tuple[str, datetime, float | None]]) -> Path:
    path = folder / "trace.parquet"
    columns: dict[str, list[object]] = {
        "g_per_kwh": [value for _, _, value in rows],
        "zone": [zone for zone, _, _ in rows],
        "time": [at for _, at, _ in rows],
    }
    parquet.write_table(pa.table(columns), path)
    return path


def write_parquet_text(folder: Path, rows: list[tuple[str, datetime, float | None]]) -> Path:
    path = folder / "trace-text.parquet"
    columns: dict[str, list[object]] = {
        "zone": [zone for zone, _, _ in rows],
        "time": [at.astimezone().isoformat() for _, at, _ in rows],
        "g_per_kwh": [value for _, _, value in rows],
        "note": [None for _ in rows],
    }
    parquet.write_table(pa.table(columns), path)
    return path


FORMATS = [write_csv, write_excel_csv, write_gzip, write_parquet, write_parquet_text]


def load(path: Path) -> TraceSource:
    return TraceSource(path, name="mine", signal=SignalKind.AVERAGE, scope=Scope.LIFECYCLE)


def load_text(folder: Path, text: str) -> TraceSource:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return load(path)


def fetch(source: TraceSource, hours: float = 3, *, zone: str = "DE") -> IntensitySeries:
    return source.fetch_forecast(zone, Scope.LIFECYCLE, Window(START, START + hours * HOUR))


def hourly(values: list[float | None]) -> list[tuple[str, datetime, float | None]]:
    return [("DE", START + index * HOUR, value) for index, value in enumerate(values)]


def milligrams(series: IntensitySeries) -> list[int]:
    return [int(value) for value in series.mg_per_kwh]


def edges_h(series: IntensitySeries) -> list[float]:
    return [(int(at) - START.timestamp()) / 3600 for at in series.edges_s]


# ------------------------------------------------------------------------------ formats


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_times_and_milligrams(tmp_path: Path, write: Write) -> None:
    source = load(write(tmp_path, ROWS))
    de, fr = fetch(source), fetch(source, zone="FR")
    assert (edges_h(de), milligrams(de)) == ([0, 1, 2, 3], [400_000, 0, 123_456])
    assert (edges_h(fr), milligrams(fr)) == ([0, 0.25, 0.5], [56_000, 57_000])
    assert source.info.zone_ids == {"DE", "FR"}
    assert source.info.step_s == 900


@pytest.mark.parametrize("write", FORMATS)
def test_order_of_rows_and_exact_repeats_do_not_matter(tmp_path: Path, write: Write) -> None:
    series = fetch(load(write(tmp_path, [*reversed(ROWS), ROWS[1]])))
    assert milligrams(series) == [400_000, 0, 123_456]


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("gap", [None, math.nan])
def test_empty_and_nan_values_are_gaps_never_numbers(
    tmp_path: Path, write: Write, gap: float | None
) -> None:
    series = fetch(load(write(tmp_path, hourly([400.0, gap, 300.0]))))
    assert milligrams(series) == [400_000, GAP_MG, 300_000]
    assert series.integral_mg_s(Window(START, START + 3 * HOUR)) is None


@pytest.mark.parametrize("write", FORMATS)
def test_missing_rows_are_a_gap_of_their_length(tmp_path: Path, write: Write) -> None:
    rows = hourly([1.0, 2.0, 3.0, None, None, 6.0])
    series = fetch(load(write(tmp_path, rows[:3] + rows[5:])), 6)
    assert edges_h(series) == [0, 1, 2, 3, 5, 6]
    assert milligrams(series) == [1000, 2000, 3000, GAP_MG, 6000]


@pytest.mark.parametrize("write", FORMATS)
def test_conflicting_values_are_refused_with_line_zone_and_time(
    tmp_path: Path, write: Write
) -> None:
    path = write(tmp_path, [*ROWS, ("DE", START, 401.0)])
    with pytest.raises(InvalidDataError) as caught:
        load(path)
    line = 6 if path.suffix == ".parquet" else 7
    assert caught.value.message == (
        f"{path}:{line}: zone DE has 400.0 and 401.0 g/kWh for 2021-04-09T00:00:00Z"
    )


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("value", [-0.001, -5.0, 3000.001, math.inf, -math.inf])
def test_value_that_cannot_be_is_refused_with_line_value_and_range(
    tmp_path: Path, write: Write, value: float
) -> None:
    path = write(tmp_path, hourly([400.0, value]))
    with pytest.raises(InvalidDataError) as caught:
        load(path)
    line = 2 if path.suffix == ".parquet" else 3
    assert caught.value.message.startswith(f"{path}:{line}: g_per_kwh ")
    assert str(value) in caught.value.message
    assert caught.value.message.endswith("is not from 0 to 3000")
    assert caught.value.fields == {"field": "g_per_kwh", "value": str(value)}


# ---------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ": column 'zone' is missing; needed are zone, time, g_per_kwh"),
        (HEADER, ": no rows"),
        ("zone,time\nDE,2021-04-09T00:00Z\n", ": column 'g_per_kwh' is missing"),
        ("zone,time,g_per_mwh\nDE,2021-04-09T00:00Z,1\n", ": column 'g_per_kwh' is missing"),
        ("zone,time,G_PER_KWH\nDE,2021-04-09T00:00Z,1\n", ": column 'g_per_kwh' is missing"),
        ("zone;time;g_per_kwh\nDE;2021-04-09T00:00Z;1\n", ": column 'zone' is missing"),
        (
            HEADER + "DE,2021-04-09T00:00:00,1\n",
            ":2: time '2021-04-09T00:00:00' must be ISO 8601 with an offset, such as 2026-01-31T14:00:00Z",
        ),
        (HEADER + "DE,2021-04-09 00:00,1\n", ":2: time '2021-04-09 00:00' must be"),
        (HEADER + "DE,2021-04-09,1\n", ":2: time '2021-04-09' must be"),
        (HEADER + "DE,1617926400,1\n", ":2: time '1617926400' must be"),
        (HEADER + "DE,,1\n", ":2: time '' must be"),
        (HEADER + "DE,2021-04-09T00:00Z,many\n", ":2: g_per_kwh 'many' is not from 0 to 3000"),
        (HEADER + "DE,2021-04-09T00:00Z,1 g\n", ":2: g_per_kwh '1 g' is not from 0 to 3000"),
        (HEADER + ",2021-04-09T00:00Z,1\n", ":2: zone '' must be a name"),
        (HEADER + "DE,2021-04-09T00:00Z\n", ":2: 2 cells under 3 columns"),
        (
            HEADER + "DE,2021-04-09T00:00Z,123,4\n",
            ":2: 4 cells under 3 columns: 'DE,2021-04-09T00:00Z,123,4'; write decimals with a point",
        ),
        (HEADER + "\n\nDE,2021-04-09T00:00Z,-1\n", ":4: g_per_kwh '-1' is not from 0 to 3000"),
        (HEADER + '"D\nE",2021-04-09T00:00Z,1\nDE,x,1\n', ":4: time 'x' must be"),
        (HEADER + f"DE,2021-04-09T00:00Z,{'1' * 200_000}\n", ": not CSV: field larger"),
    ],
)
def test_bad_text_is_refused_with_file_line_column_value_and_valid_form(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(InvalidDataError) as caught:
        load_text(tmp_path, text)
    assert caught.value.message.startswith(str(tmp_path / "trace.csv"))
    assert says in caught.value.message
    assert "field" in caught.value.fields


def test_file_of_mixed_steps_is_refused_where_the_step_breaks(tmp_path: Path) -> None:
    rows = [*hourly([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), ("DE", START + 1.5 * HOUR, 7.0)]
    with pytest.raises(InvalidDataError) as caught:
        load(write_csv(tmp_path, rows))
    assert "zone DE mixes steps: time 2021-04-09T01:30:00Z comes 1800 s" in caught.value.message


def test_value_is_not_stretched_over_a_step_longer_than_usual(tmp_path: Path) -> None:
    rows = [("DE", START + minutes * timedelta(minutes=1), 1.0) for minutes in (0, 15, 30, 90)]
    series = fetch(load(write_csv(tmp_path, rows)))
    assert edges_h(series) == [0, 0.25, 0.5, 0.75, 1.5, 1.75]
    assert milligrams(series)[3:] == [GAP_MG, 1000]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.csv", None),
        ("gone.csv.gz", None),
        ("gone.parquet", None),
        ("latin.csv", HEADER.encode() + "Österreich,2021-04-09T00:00Z,1\n".encode("latin-1")),
        ("plain.csv.gz", csv_text(ROWS).encode()),
        ("short.csv.gz", gzip.compress(csv_text(ROWS).encode())[:-12]),
        ("rotten.csv.gz", gzip.compress(csv_text(ROWS).encode())[:10] + b"\xff" * 40),
        ("packed.csv", gzip.compress(csv_text(ROWS).encode())),
        ("plain.parquet", csv_text(ROWS).encode()),
        ("empty.parquet", b""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidDataError) as caught:
        load(path)
    assert caught.value.message.startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"zone": ["DE"], "time": [START]}, ": column 'g_per_kwh' is missing"),
        (
            {"zone": ["DE"], "time": [START.replace(tzinfo=None)], "g_per_kwh": [1.0]},
            "must be ISO 8601 with an offset",
        ),
        ({"zone": ["DE"], "time": [1617926400], "g_per_kwh": [1.0]}, ":1: time 1617926400 must be"),
        ({"zone": ["DE"], "time": [START], "g_per_kwh": ["many"]}, ":1: g_per_kwh 'many' is not"),
        (
            {"zone": ["DE", None], "time": [START, START], "g_per_kwh": [1.0, 1.0]},
            ":2: zone None must be",
        ),
        ({"zone": [7], "time": [START], "g_per_kwh": [1.0]}, ":1: zone 7 must be a name"),
    ],
)
def test_bad_parquet_is_refused_with_row_column_value_and_valid_form(
    tmp_path: Path, columns: dict[str, list[object]], says: str
) -> None:
    path = tmp_path / "trace.parquet"
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(InvalidDataError) as caught:
        load(path)
    assert caught.value.message.startswith(str(path))
    assert says in caught.value.message


# -------------------------------------------------------------------------------- times


def test_local_times_across_the_change_to_summer_time_are_consecutive_hours(
    tmp_path: Path,
) -> None:
    text = HEADER + (
        "DE,2021-03-28T01:00:00+01:00,1\n"
        "DE,2021-03-28T03:00:00+02:00,2\n"
        "DE,2021-03-28T04:00:00+02:00,3\n"
    )
    at = datetime(2021, 3, 28, tzinfo=UTC)
    series = load_text(tmp_path, text).fetch_forecast(
        "DE", Scope.LIFECYCLE, Window(at, at + 3 * HOUR)
    )
    assert [int(edge) - int(at.timestamp()) for edge in series.edges_s] == [0, 3600, 7200, 10_800]
    assert milligrams(series) == [1000, 2000, 3000]


def test_both_hours_of_the_change_to_winter_time_are_kept(tmp_path: Path) -> None:
    text = HEADER + (
        "DE,2021-10-31T02:00:00+02:00,1\n"
        "DE,2021-10-31T02:00:00+01:00,2\n"
        "DE,2021-10-31T03:00:00+01:00,3\n"
    )
    at = datetime(2021, 10, 31, tzinfo=UTC)
    series = load_text(tmp_path, text).fetch_forecast(
        "DE", Scope.LIFECYCLE, Window(at, at + 3 * HOUR)
    )
    assert milligrams(series) == [1000, 2000, 3000]


@pytest.mark.parametrize(
    ("from_h", "to_h", "edges", "values"),
    [
        (0, 3, [0, 1, 2, 3], [1000, 2000, 3000]),
        (0.5, 1.5, [0, 1, 2], [1000, 2000]),
        (1, 2, [1, 2], [2000]),
        (1, 1, [1, 2], [2000]),
        (2.5, 9, [2, 3], [3000]),
        (-9, 0.5, [0, 1], [1000]),
        (-9, 9, [0, 1, 2, 3], [1000, 2000, 3000]),
    ],
)
def test_window_gets_the_hours_that_it_touches_and_none_beyond_the_file(
    tmp_path: Path, from_h: float, to_h: float, edges: list[float], values: list[int]
) -> None:
    source = load(write_csv(tmp_path, hourly([1.0, 2.0, 3.0])))
    series = source.fetch_actuals(
        "DE", Scope.LIFECYCLE, Window(START + from_h * HOUR, START + to_h * HOUR)
    )
    assert (edges_h(series), milligrams(series)) == (edges, values)


@pytest.mark.parametrize(("from_h", "to_h"), [(3, 9), (-9, 0), (100, 101)])
def test_window_outside_the_file_is_an_error_that_says_what_is_known(
    tmp_path: Path, from_h: float, to_h: float
) -> None:
    source = load(write_csv(tmp_path, hourly([1.0, 2.0, 3.0])))
    with pytest.raises(ForecastUnavailableError) as caught:
        source.fetch_forecast(
            "DE", Scope.LIFECYCLE, Window(START + from_h * HOUR, START + to_h * HOUR)
        )
    assert (
        "zone DE is known from 2021-04-09T00:00:00Z to 2021-04-09T03:00:00Z, not at"
        in caught.value.message
    )


def test_single_value_holds_for_an_hour(tmp_path: Path) -> None:
    assert edges_h(fetch(load(write_csv(tmp_path, hourly([7.0]))))) == [0, 1]


# --------------------------------------------------------------------------- provenance


def test_replay_says_that_it_is_known_ahead_and_history_that_it_is_measured(
    tmp_path: Path,
) -> None:
    source = load(write_csv(tmp_path, ROWS))
    window = Window(START, START + HOUR)
    ahead = source.fetch_forecast("DE", Scope.LIFECYCLE, window).provenance
    past = source.fetch_actuals("DE", Scope.LIFECYCLE, window).provenance
    assert (ahead.source, ahead.quality) == ("mine (replay, known ahead)", Quality.FORECAST)
    assert (past.source, past.quality) == ("mine", Quality.MEASURED)


def test_signal_and_scope_are_the_configured_ones(tmp_path: Path) -> None:
    source = TraceSource(
        write_csv(tmp_path, ROWS), name="mine", signal=SignalKind.MARGINAL, scope=Scope.DIRECT
    )
    provenance = source.fetch_forecast("DE", Scope.DIRECT, Window(START, START)).provenance
    assert (provenance.signal, provenance.scope) == (SignalKind.MARGINAL, Scope.DIRECT)
    assert source.info.signal is SignalKind.MARGINAL
    with pytest.raises(ForecastUnavailableError, match="no lifecycle values for zone 'DE'"):
        source.fetch_forecast("DE", Scope.LIFECYCLE, Window(START, START))


def test_change_of_the_file_after_loading_changes_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path, ROWS)
    source = load(path)
    path.unlink()
    assert milligrams(fetch(source)) == [400_000, 0, 123_456]
