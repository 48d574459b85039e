"""Past intensity from files: steps, gaps, kinds, and what was seen when."""

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.grid.history_file import HistoryFile, unit_doubt
from scheduler.core.errors import InvalidDataError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Scope, SignalKind

NOW_S = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp())
DAY_S = NOW_S - 86_400
HEAD = "zone,time,g_per_kwh\n"


def at(clock: str) -> str:
    return f"2026-01-01T{clock}Z"


def csv_file(folder: Path, *rows: str, head: str = HEAD) -> Path:
    path = folder / "past.csv"
    path.write_text(head + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def series(path: Path, zone: str = "DE", seen_by_s: float | None = None) -> IntensitySeries:
    found = HistoryFile(path).series(zone, scope=Scope.LIFECYCLE, seen_by_s=seen_by_s)
    assert found is not None
    return found


def test_an_interval_ends_at_the_next_one_and_after_the_usual_step_at_the_latest(
    tmp_path: Path,
) -> None:
    clocks = ("00:00", "00:15", "00:30", "01:00", "01:30", "02:00", "03:00")
    path = csv_file(tmp_path, *(f"DE,{at(clock)},{n}" for n, clock in enumerate(clocks)))
    found = series(path)
    edges_min = [0, 15, 30, 60, 90, 120, 150, 180, 210]
    assert (found.edges_s - DAY_S).tolist() == [60 * minutes for minutes in edges_min]
    assert found.mg_per_kwh.tolist() == [0, 1000, 2000, 3000, 4000, 5000, GAP_MG, 6000]


def test_rows_may_come_in_any_order_repeat_and_be_empty(tmp_path: Path) -> None:
    rows = (f"DE,{at('02:00')},3", f"FR,{at('00:00')},9", f"DE,{at('00:00')},1")
    path = csv_file(tmp_path, *rows, f"DE,{at('01:00')},", f"DE,{at('02:00')},3")
    assert series(path).mg_per_kwh.tolist() == [1000, GAP_MG, 3000]
    assert HistoryFile(path).zone_ids == ["DE", "FR"]


def test_parquet_with_extra_columns_and_one_kind_is_read(tmp_path: Path) -> None:
    path = tmp_path / "past.parquet"
    columns = {
        "zone": ["DE", "DE"],
        "time": pa.array([datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (0, 1)]),
        "g_per_kwh": pa.array([1.5, 2.5], pa.float32()),
        "renewable_share": [0.1, 0.2],
        "kind": ["marginal", "marginal"],
    }
    parquet.write_table(pa.table(columns), path)
    found = series(path)
    assert found.mg_per_kwh.tolist() == [1500, 2500]
    assert found.provenance.signal is SignalKind.MARGINAL


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (("average", "marginal"), "past.csv:3: kind 'marginal' stands beside 'average'"),
        (("average", "mean"), "past.csv:3: kind 'mean' is not average or marginal"),
        (("", ""), "past.csv:2: kind '' is not average or marginal"),
    ],
)
def test_a_file_of_two_kinds_is_refused(tmp_path: Path, kinds: tuple[str, str], says: str) -> None:
    rows = [f"DE,{at(f'0{hour}:00')},1,{kind}" for hour, kind in enumerate(kinds)]
    path = csv_file(tmp_path, *rows, head="zone,time,g_per_kwh,kind\n")
    with pytest.raises(InvalidDataError) as caught:
        HistoryFile(path)
    assert says in caught.value.message


def test_two_values_for_one_interval_are_refused(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"DE,{at('00:00')},1", f"DE,{at('00:00')},2")
    with pytest.raises(InvalidDataError) as caught:
        series(path)
    assert "past.csv:3: g_per_kwh '2' is the second value of zone DE" in caught.value.message


def test_an_unknown_zone_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"DE,{at('00:00')},1", f"FR,{at('00:00')},1")
    with pytest.raises(InvalidDataError, match=r"no rows of zone 'DEE'; did you mean DE\?"):
        series(path, "DEE")


FEED = "zone,fetched_at,time,g_per_kwh\n"


def feed(folder: Path) -> Path:
    rows = (
        f"DE,{at('01:05')},{at('00:00')},10",
        f"DE,{at('02:05')},{at('00:00')},12",
        f"DE,{at('02:05')},{at('01:00')},20",
        f"DE,{at('02:35')},{at('01:00')},20",
    )
    return csv_file(folder, *rows, head=FEED)


def test_a_feed_is_known_as_it_was_seen_by_a_time(tmp_path: Path) -> None:
    path = feed(tmp_path)
    assert series(path).mg_per_kwh.tolist() == [12_000, 20_000]
    assert series(path, seen_by_s=DAY_S + 2 * 3600).mg_per_kwh.tolist() == [10_000]
    early = HistoryFile(path).series("DE", scope=Scope.LIFECYCLE, seen_by_s=DAY_S + 3600)
    assert early is None


def test_sightings_are_all_rows_with_when_they_were_seen(tmp_path: Path) -> None:
    seen = HistoryFile(feed(tmp_path)).sightings("DE", now_s=NOW_S)
    assert ((seen.seen_s - DAY_S) // 60).tolist() == [65, 125, 125, 155]
    assert ((seen.start_s - DAY_S) // 3600).tolist() == [0, 0, 1, 1]
    assert np.unique(seen.stop_s - seen.start_s).tolist() == [3600]
    assert seen.mg_per_kwh.tolist() == [10_000, 12_000, 20_000, 20_000]


def test_without_that_column_everything_is_seen_now(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"DE,{at('00:00')},1", f"DE,{at('01:00')},")
    seen = HistoryFile(path).sightings("DE", now_s=NOW_S)
    assert (seen.seen_s.tolist(), seen.mg_per_kwh.tolist()) == ([NOW_S], [1000])


@pytest.mark.parametrize(
    ("rows", "head", "says"),
    [
        ([f"DE,2026-01-03T00:00:00Z,{at('00:00')},1"], FEED, ":2: fetched_at '2026-01-03T"),
        ([f"DE,{at('00:59')},{at('01:00')},1"], FEED, "had not begun when it was seen"),
        (["DE,2026-01-02T00:01:00Z,1"], HEAD, ":2: time '2026-01-02T00:01:00Z' had not begun"),
        (
            [f"DE,{at('02:00')},{at('00:00')},1", f"DE,{at('02:00')},{at('00:00')},2"],
            FEED,
            ":3: g_per_kwh '2' is the second value",
        ),
    ],
)
def test_sightings_that_cannot_be_are_refused(
    tmp_path: Path, rows: list[str], head: str, says: str
) -> None:
    file = HistoryFile(csv_file(tmp_path, *rows, head=head))
    with pytest.raises(InvalidDataError) as caught:
        file.sightings("DE", now_s=NOW_S)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("grams", "doubt"),
    [
        ([0.3, 0.32, 0.5, math.nan], "median of 0.32 g/kWh: is the unit g/kWh?"),
        ([0.0, 0.0, math.nan], "all 2 values are zero: is something missing?"),
        ([0.0, 0.0, 1.0], "median of 0 g/kWh: is the unit g/kWh?"),
        ([0.0, 1.0, 30.0], None),
        ([math.nan], None),
        ([], None),
    ],
)
def test_values_of_another_unit_raise_a_doubt(grams: list[float], doubt: str | None) -> None:
    assert unit_doubt(np.array(grams)) == doubt
