"""Published forecasts from a file: series by zone and issue, each with what it stands on."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.grid.vintage_file import load_vintages
from scheduler.core.errors import InvalidDataError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.forecasting.vintages import Vintage, Vintages

NOON = datetime(2026, 12, 31, 12, tzinfo=UTC)
NOON_S = int(NOON.timestamp())
HOUR = timedelta(hours=1)
HEADER = "zone,issued_at,time,g_per_kwh\n"


def row(issued_h: float, at_h: float, grams: object, zone: str = "DE") -> str:
    issued_at, at = (NOON + hours * HOUR for hours in (issued_h, at_h))
    return f"{zone},{issued_at.isoformat()},{at.isoformat()},{grams}\n"


def load(path: Path, *zones: str) -> dict[str, tuple[Vintage, ...]]:
    return load_vintages(path, zones or ("DE",), signal=SignalKind.AVERAGE, scope=Scope.LIFECYCLE)


def load_rows(folder: Path, *rows: str) -> dict[str, tuple[Vintage, ...]]:
    path = folder / "published.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "".join(rows)).encode()))
    return load(path)


def shape(series: IntensitySeries) -> list[tuple[float, float, float | None]]:
    """Hours after noon of each interval's edges, and its grams."""
    hours = [(int(edge) - NOON_S) / 3600 for edge in series.edges_s]
    grams = [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]
    return list(zip(hours[:-1], hours[1:], grams, strict=True))


def test_forecasts_are_by_issue_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = [row(1, 1, 30), row(0, 1, 20.5), row(0, 0, 10), row(1, 2, 40), row(0, 0, 10)]
    first, second = load_rows(tmp_path, *rows, row(0, 0, 7, "FR"))["DE"]
    assert (first.issued_s, second.issued_s) == (NOON_S, NOON_S + 3600)
    assert shape(first.series) == [(0, 1, 10), (1, 2, 20.5)]
    assert shape(second.series) == [(1, 2, 30), (2, 3, 40)]
    provenance = first.series.provenance
    assert first.series.zone_id == "DE"
    assert provenance.source == "published.csv.gz"
    assert provenance.quality is Quality.FORECAST
    assert (provenance.signal, provenance.scope) == (SignalKind.AVERAGE, Scope.LIFECYCLE)
    assert provenance.issued_at == NOON


def test_each_forecast_has_a_step_of_its_own_and_gaps_stay_gaps(tmp_path: Path) -> None:
    rows = [row(0, quarter / 4, 10 + quarter) for quarter in (0, 1, 2, 5)]
    quarters, hours = load_rows(tmp_path, *rows, row(6, 6, ""), row(6, 7, "nan"), row(6, 8, 5))[
        "DE"
    ]
    assert shape(quarters.series) == [
        (0, 0.25, 10),
        (0.25, 0.5, 11),
        (0.5, 0.75, 12),
        (0.75, 1.25, None),
        (1.25, 1.5, 15),
    ]
    assert shape(hours.series) == [(6, 7, None), (7, 8, None), (8, 9, 5)]


def test_core_sees_the_newest_forecast_known(tmp_path: Path) -> None:
    vintages = Vintages(load_rows(tmp_path, row(0, 12, 100), row(1, 12, 200))["DE"])
    noon = NOON_S // 3600
    midnight = np.array([[noon + 12]])
    for known_by, grams in ((noon, 100), (noon + 1, 200)):
        found = vintages.logs_at(midnight, np.array([known_by]))
        assert np.exp(found) == pytest.approx(grams)


def test_parquet_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "published.parquet"
    columns = {
        "zone": ["DE", "DE"],
        "issued_at": [NOON, NOON],
        "time": [NOON, NOON + HOUR],
        "g_per_kwh": [10.0, None],
    }
    parquet.write_table(pa.table(columns), path)
    (vintage,) = load(path)["DE"]
    assert shape(vintage.series) == [(0, 1, 10), (1, 2, None)]
    assert vintage.series.provenance.source == "published.parquet"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([row(0, 0, -1)], ":2: g_per_kwh '-1' is not from 0 to 3000"),
        ([row(0, 0, 1), "DE,now,2026-12-31T12:00Z,1\n"], ":3: issued_at 'now' must be ISO 8601"),
        (
            [row(0, 0, 1), row(0, 0, 2)],
            ":3: zone DE has two values for time 2026-12-31T12:00:00Z, issued at 2026-12-31T12:00:00Z",
        ),
        (
            [row(0, 0, 1), row(0, 1, 1), row(0, 2, 1), row(0, 2.5, 1)],
            ": zone DE, issued at 2026-12-31T12:00:00Z, mixes steps: time 2026-12-31T14:30:00Z comes 1800 s",
        ),
        ([row(0, 0, 1, "DEE")], ": no rows of zone DE; did you mean DEE?"),
        ([], ": no rows"),
    ],
)
def test_bad_rows_are_refused_with_line_column_and_value(
    tmp_path: Path, rows: list[str], says: str
) -> None:
    with pytest.raises(InvalidDataError) as caught:
        load_rows(tmp_path, *rows)
    assert caught.value.message.startswith(str(tmp_path / "published.csv.gz") + says)
