"""The shipped typical week, read a second time by other means."""

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from adapters.grid.typical_week import TypicalWeek
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window

FILE = Path(__file__).parents[3] / "configs" / "intensity" / "typical_week.csv.gz"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SEASON = {
    **dict.fromkeys(("Dec", "Jan", "Feb"), "DJF"),
    **dict.fromkeys(("Mar", "Apr", "May"), "MAM"),
    **dict.fromkeys(("Jun", "Jul", "Aug"), "JJA"),
    **dict.fromkeys(("Sep", "Oct", "Nov"), "SON"),
}
ZONES = {
    "DE", "FR", "GB", "PL", "SE",
    "US-CAL-CISO", "US-FLA-FPL", "US-MIDA-PJM", "US-MIDW-MISO", "US-NE-ISNE", "US-TEX-ERCO",
}  # fmt: skip
HOUR = timedelta(hours=1)
Table = dict[tuple[str, str, int], dict[str, str]]


@pytest.fixture(scope="module")
def table() -> Table:
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as file:
        return {
            (row["zone"], row["season"], int(row["hour_of_week_utc"])): row
            for row in csv.DictReader(file)
        }


@pytest.fixture(scope="module")
def source() -> TypicalWeek:
    return TypicalWeek()


def fetch(
    source: TypicalWeek,
    start_at: datetime,
    hours: float,
    *,
    zone: str = "DE",
    scope: Scope = Scope.LIFECYCLE,
) -> IntensitySeries:
    return source.fetch_forecast(zone, scope, Window(start_at, start_at + hours * HOUR))


def hours_of(series: IntensitySeries) -> Iterator[tuple[datetime, float]]:
    for edge, mg in zip(series.edges_s[:-1], series.mg_per_kwh, strict=True):
        yield datetime.fromtimestamp(int(edge), UTC), int(mg) / 1000


def expected(table: Table, zone: str, at: datetime, column: str) -> float:
    hour_of_week = DAYS.index(at.strftime("%A")) * 24 + at.hour
    return float(table[zone, SEASON[at.strftime("%b")], hour_of_week][column])


# -------------------------------------------------------------------------------- table


def test_table_is_complete_and_plausible(table: Table) -> None:
    assert len(table) == 11 * 4 * 168
    assert {zone for zone, _, _ in table} == ZONES
    for row in table.values():
        values = [float(row[name]) for name in ("g_lifecycle", "g_direct") if row[name]]
        assert values
        assert all(0 < value < 1200 for value in values)
        if len(values) == 2:
            assert values[1] < values[0]


def test_served_zones_and_scopes_are_those_of_the_table(source: TypicalWeek, table: Table) -> None:
    info = source.info
    assert info.zone_ids == ZONES
    for zone in ZONES:
        row = table[zone, "DJF", 0]
        has = {Scope.LIFECYCLE: row["g_lifecycle"], Scope.DIRECT: row["g_direct"]}
        assert info.scopes[zone] == {scope for scope in Scope if has[scope]}
    assert info.scopes["GB"] == {Scope.DIRECT}
    assert info.scopes["SE"] == {Scope.LIFECYCLE}
    assert not info.is_live
    assert "CC BY 4.0" in info.attribution
    assert "National Energy SO Open Data" in info.attribution


@pytest.mark.parametrize(
    ("zone", "scope", "at", "grams"),
    [
        # Mondays; the first and the fourth hour of the week, and the last second of the third.
        ("US-CAL-CISO", Scope.LIFECYCLE, datetime(2026, 1, 5, 0, tzinfo=UTC), 254.4),
        ("US-CAL-CISO", Scope.DIRECT, datetime(2026, 1, 5, 0, tzinfo=UTC), 181.5),
        ("US-CAL-CISO", Scope.LIFECYCLE, datetime(2026, 1, 5, 3, tzinfo=UTC), 329.3),
        ("US-CAL-CISO", Scope.DIRECT, datetime(2026, 2, 23, 2, 59, 59, tzinfo=UTC), 243.0),
    ],
)
def test_known_hours_have_the_grams_of_the_file(
    source: TypicalWeek, zone: str, scope: Scope, at: datetime, grams: float
) -> None:
    series = fetch(source, at, 0, zone=zone, scope=scope)
    assert [value for _, value in hours_of(series)] == [grams]


@pytest.mark.parametrize("zone", sorted(ZONES))
def test_every_hour_of_a_year_is_that_of_its_season_and_weekday(
    source: TypicalWeek, table: Table, zone: str
) -> None:
    for scope in source.info.scopes[zone]:
        series = fetch(source, datetime(2027, 11, 20, tzinfo=UTC), 366 * 24, zone=zone, scope=scope)
        assert len(series.mg_per_kwh) == 366 * 24
        wrong = [
            at
            for at, grams in hours_of(series)
            if abs(grams - expected(table, zone, at, f"g_{scope}")) > 5e-4
        ]
        assert wrong == []


# -------------------------------------------------------------------------------- times


def test_seasons_change_at_midnight_utc_of_the_first_of_the_month(
    source: TypicalWeek, table: Table
) -> None:
    for month, before, after in [
        (3, "DJF", "MAM"),
        (6, "MAM", "JJA"),
        (9, "JJA", "SON"),
        (12, "SON", "DJF"),
    ]:
        first = datetime(2026, month, 1, tzinfo=UTC)
        (last_at, last), (first_at, new) = hours_of(fetch(source, first - HOUR, 2))
        assert first_at == first
        in_week = [DAYS.index(at.strftime("%A")) * 24 + at.hour for at in (last_at, first_at)]
        assert last == float(table["DE", before, in_week[0]]["g_lifecycle"])
        assert new == float(table["DE", after, in_week[1]]["g_lifecycle"])


def test_turn_of_the_year_breaks_neither_week_nor_season(source: TypicalWeek, table: Table) -> None:
    series = fetch(source, datetime(2026, 12, 31, 20, tzinfo=UTC), 8)
    hours = list(hours_of(series))
    assert [at.strftime("%a %H") for at, _ in hours][3:5] == ["Thu 23", "Fri 00"]
    assert [grams for _, grams in hours] == [
        float(table["DE", "DJF", 3 * 24 + 20 + index]["g_lifecycle"]) for index in range(8)
    ]


def test_leap_day_belongs_to_winter(source: TypicalWeek, table: Table) -> None:
    leap_day = datetime(2028, 2, 29, 12, tzinfo=UTC)
    ((_, grams),) = hours_of(fetch(source, leap_day, 1))
    assert grams == float(table["DE", "DJF", 24 + 12]["g_lifecycle"])


@pytest.mark.parametrize("local", ["2026-03-29T00:00:00+01:00", "2026-10-25T00:00:00+02:00"])
def test_days_on_which_local_clocks_change_have_24_hours_in_utc(
    source: TypicalWeek, local: str
) -> None:
    series = fetch(source, datetime.fromisoformat(local), 24)
    times = [at for at, _ in hours_of(series)]
    assert times[0] == datetime.fromisoformat(local)
    assert [after - before for before, after in pairwise(times)] == [HOUR] * 23


@pytest.mark.parametrize(
    ("minutes", "length_min", "hours"),
    [
        (0, 60, 1),
        (0, 60.01, 2),
        (0, 61, 2),
        (30, 30, 1),
        (30, 31, 2),
        (59, 2, 2),
        (0, 0, 1),
        (30, 0, 1),
    ],
)
def test_series_is_the_whole_hours_that_the_window_touches(
    source: TypicalWeek, minutes: int, length_min: float, hours: int
) -> None:
    first = datetime(2026, 5, 4, 10, tzinfo=UTC)
    start_at = first + timedelta(minutes=minutes)
    series = source.fetch_forecast(
        "DE", Scope.LIFECYCLE, Window(start_at, start_at + timedelta(minutes=length_min))
    )
    assert [at for at, _ in hours_of(series)] == [first + index * HOUR for index in range(hours)]


# --------------------------------------------------------------------------- provenance


def test_it_is_marked_typical_not_measured_also_as_history(source: TypicalWeek) -> None:
    window = Window(datetime(2026, 5, 4, tzinfo=UTC), datetime(2026, 5, 5, tzinfo=UTC))
    for fetch_one in (source.fetch_forecast, source.fetch_actuals):
        provenance = fetch_one("DE", Scope.LIFECYCLE, window).provenance
        assert provenance.source == "typical_week (typical, not measured)"
        assert provenance.quality is Quality.TYPICAL
        assert provenance.signal is SignalKind.AVERAGE
        assert provenance.scope is Scope.LIFECYCLE


@pytest.mark.parametrize(
    ("zone", "scope", "hint"),
    [
        ("DEE", Scope.LIFECYCLE, "did you mean DE?"),
        ("US-TEX", Scope.LIFECYCLE, "US-TEX-ERCO"),
        ("GB", Scope.LIFECYCLE, "known: DE, FR, PL"),
        ("XX", Scope.DIRECT, "GB"),
    ],
)
def test_zone_without_values_in_the_scope_is_refused_with_those_that_have(
    source: TypicalWeek, zone: str, scope: Scope, hint: str
) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        fetch(source, datetime(2026, 5, 4, tzinfo=UTC), 1, zone=zone, scope=scope)
    assert caught.value.message.startswith(f"typical_week: zone {zone!r} has no {scope} values; ")
    assert hint in caught.value.message
    assert caught.value.fields == {"zone": zone, "source": "typical_week"}
