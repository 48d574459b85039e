"""One suite for every `ForecastSource` and `HistorySource`. A new one joins by an entry in `CASES`."""

import csv
import gzip
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from adapters.grid.national_grid_gb import NationalGridGB
from adapters.grid.trace import TraceSource
from adapters.grid.typical_week import TypicalWeek
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import (
    GAP_MG,
    MAX_G_PER_KWH,
    IntensitySeries,
    Quality,
    Scope,
    SignalKind,
)
from scheduler.core.timegrid import SlotGrid, Window
from scheduler.ports import ForecastSource, HistorySource
from tests.conformance.cases_carbon_aware_sdk import carbon_aware_sdk
from tests.conformance.cases_eia import eia
from tests.conformance.cases_electricity_maps import electricity_maps
from tests.conformance.cases_energinet import energinet
from tests.conformance.cases_energy_charts import energy_charts
from tests.conformance.cases_entsoe import entsoe
from tests.conformance.cases_neso_regions_gb import neso_regions_gb
from tests.conformance.cases_watttime import watttime
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.national_grid_gb import FakeNationalGridGB


@contextmanager
def typical_week(_: Path) -> Iterator[Case]:
    packed = files("configs").joinpath("intensity/typical_week.csv.gz").read_bytes()
    rows = csv.DictReader(gzip.decompress(packed).decode().splitlines())
    winter = {
        int(row["hour_of_week_utc"]): float(row["g_lifecycle"])
        for row in rows
        if (row["zone"], row["season"]) == ("FR", "DJF")
    }

    def grams(at: datetime) -> float:
        return winter[at.weekday() * 24 + at.hour]

    yield Case(
        source=TypicalWeek(),
        zone_id="FR",
        scope=Scope.LIFECYCLE,
        signal=SignalKind.AVERAGE,
        qualities=(Quality.TYPICAL, Quality.TYPICAL),
        ahead=Window(NOW, NOW + 8 * 24 * HOUR),
        past=Window(NOW - 8 * 24 * HOUR, NOW),
        ends=None,
        settled_until=None,
        forecast_g=grams,
        actual_g=grams,
        misspelt="Fr",
    )


@contextmanager
def trace(folder: Path) -> Iterator[Case]:
    path = folder / "trace.csv"
    hours = [NOW + index * HOUR for index in range(-72, 72)]

    def grams(at: datetime) -> float:
        return 200 + 3 * ((at - NOW) // HOUR) / 4

    lines = [f"PL,{at.isoformat()},{grams(at)}\n" for at in hours]
    path.write_text("zone,time,g_per_kwh\n" + "".join(lines), encoding="utf-8")
    yield Case(
        source=TraceSource(path, name="mine", signal=SignalKind.MARGINAL, scope=Scope.DIRECT),
        zone_id="PL",
        scope=Scope.DIRECT,
        signal=SignalKind.MARGINAL,
        qualities=(Quality.FORECAST, Quality.MEASURED),
        ahead=Window(NOW, NOW + 72 * HOUR),
        past=Window(NOW - 72 * HOUR, NOW),
        ends=Window(hours[0], hours[-1] + HOUR),
        settled_until=hours[-1] + HOUR,
        forecast_g=grams,
        actual_g=grams,
        misspelt="PLL",
    )


@contextmanager
def national_grid_gb(_: Path) -> Iterator[Case]:
    with FakeNationalGridGB(NOW) as api:
        http = HttpClient(api.url, limits=Limits(attempts=1))
        yield Case(
            source=NationalGridGB(http),
            zone_id="GB",
            scope=Scope.DIRECT,
            signal=SignalKind.AVERAGE,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            ahead=Window(NOW, NOW + 47 * HOUR),
            past=Window(NOW - 20 * 24 * HOUR, NOW),
            ends=Window(NOW, NOW + 48 * HOUR),
            settled_until=NOW,
            forecast_g=api.forecast_g,
            actual_g=lambda at: api.forecast_g(at) + 5,
            misspelt="GBR",
        )
        http.close()


CASES: dict[str, Callable[[Path], AbstractContextManager[Case]]] = {
    "typical_week": typical_week,
    "trace": trace,
    "national_grid_gb": national_grid_gb,
    "energinet": energinet,
    "energy_charts": energy_charts,
    "neso_regions_gb": neso_regions_gb,
    "watttime": watttime,
    "electricity_maps": electricity_maps,
    "carbon_aware_sdk": carbon_aware_sdk,
    "eia": eia,
    "entsoe": entsoe,
}


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    with CASES[request.param](tmp_path_factory.mktemp("source")) as made:
        yield made


def values(series: IntensitySeries) -> dict[datetime, int]:
    """Milligrams at the start of every interval that has a value."""
    return {
        datetime.fromtimestamp(int(at), UTC): int(mg)
        for at, mg in zip(series.edges_s[:-1], series.mg_per_kwh, strict=True)
        if mg != GAP_MG
    }


def test_it_is_the_ports_that_it_declares_and_declares_the_same_every_time(case: Case) -> None:
    assert isinstance(case.source, ForecastSource) == (case.ahead is not None)
    assert isinstance(case.source, HistorySource) == (case.past is not None)
    assert (case.source.info.history_s > 0) == (case.past is not None)
    assert case.sides
    assert case.source.info == case.source.info


def test_declaration_is_complete(case: Case) -> None:
    info = case.source.info
    assert info.name
    assert info.attribution
    assert case.zone_id in info.zone_ids
    assert set(info.scopes) == info.zone_ids
    assert all(info.scopes.values())
    assert case.scope in info.scopes[case.zone_id]
    assert info.signal is case.signal
    assert min(info.step_s, info.cadence_s) > 0
    assert (info.horizon_s > 0) == (case.ahead is not None)


def test_every_declared_zone_and_scope_is_served(case: Case) -> None:
    side = case.sides[0]
    window = Window(side.window.start_at, side.window.start_at + HOUR)
    for zone_id, scopes in case.source.info.scopes.items():
        for scope in scopes:
            series = side.fetch(zone_id, scope, window)
            assert series.zone_id == zone_id
            assert series.provenance.scope is scope
            assert series.integral_mg_s(window) is not None


def test_series_covers_what_was_promised_without_a_gap(case: Case) -> None:
    for side in case.sides:
        assert side.series().integral_mg_s(side.window) is not None


def test_series_begins_at_the_interval_that_holds_the_start(case: Case) -> None:
    step_s = case.source.info.step_s
    for side in case.sides:
        for offset in (timedelta(), timedelta(minutes=1), timedelta(minutes=29, seconds=59)):
            start_at = side.window.start_at + offset
            series = side.series(Window(start_at, start_at + HOUR))
            assert series.edges_s[0] <= start_at.timestamp() < series.edges_s[0] + step_s


def test_times_are_utc_on_multiples_of_the_declared_step(case: Case) -> None:
    step_s = case.source.info.step_s
    for side in case.sides:
        series = side.series()
        assert series.edges_s.dtype == np.int64
        assert set(np.diff(series.edges_s)) == {step_s}
        assert not (series.edges_s % step_s).any()


def test_values_are_positive_plausible_milligrams(case: Case) -> None:
    for side in case.sides:
        series = side.series()
        known = series.mg_per_kwh[series.mg_per_kwh != GAP_MG]
        assert len(known)
        assert known.dtype == np.int64
        # Grams taken for milligrams would be below 1 g/kWh everywhere.
        assert known.min() > 1000
        assert known.max() < MAX_G_PER_KWH * 1000


def test_values_are_those_known_by_other_means_each_at_its_time(case: Case) -> None:
    for side in case.sides:
        known = values(side.series())
        assert known == {at: pytest.approx(side.grams(at) * 1000, abs=0.5) for at in known}


def test_provenance_is_filled(case: Case) -> None:
    for side in case.sides:
        series = side.series()
        provenance = series.provenance
        assert series.zone_id == case.zone_id
        assert provenance.source.startswith(case.source.info.name)
        assert provenance.signal is case.signal
        assert provenance.scope is case.scope
        assert provenance.quality is side.quality
        assert not provenance.is_fallback
        assert provenance.issued_at is None or provenance.issued_at.utcoffset() == timedelta()


def test_forecast_is_never_called_measured(case: Case) -> None:
    assert case.ahead is None or case.forecast().provenance.quality is not Quality.MEASURED


def test_unknown_zone_is_an_error_with_the_nearest_name(case: Case) -> None:
    for side in case.sides:
        with pytest.raises(ForecastUnavailableError) as caught:
            side.fetch(case.misspelt, case.scope, side.window)
        assert repr(case.misspelt) in caught.value.message
        assert case.zone_id in caught.value.message.replace(case.misspelt, "")
        assert caught.value.fields["zone"] == case.misspelt
        assert caught.value.fields["source"] == case.source.info.name


def test_scope_that_no_zone_has_is_an_error(case: Case) -> None:
    for side in case.sides:
        for zone_id, scopes in case.source.info.scopes.items():
            for scope in set(Scope) - scopes:
                with pytest.raises(ForecastUnavailableError, match=f"no {scope} values"):
                    side.fetch(zone_id, scope, side.window)


def test_nothing_is_made_up_beyond_the_data(case: Case) -> None:
    if case.ahead is None or case.ends is None:
        return  # no forecasts, or forecasts for any time
    low, high = case.ends.start_at.timestamp(), case.ends.end_at.timestamp()
    reach = timedelta(days=6)
    series = case.forecast(Window(case.ahead.start_at, case.ahead.end_at + reach))
    assert low <= series.edges_s[0]
    assert series.edges_s[-1] <= high
    grid = SlotGrid(case.ends.end_at, 3600, 24)
    assert not series.resampled(grid)[1].any()
    assert series.integral_mg_s(Window(case.ahead.start_at, case.ends.end_at + HOUR)) is None


def test_no_actual_value_lies_after_the_last_settled_one(case: Case) -> None:
    if case.past is None or case.settled_until is None:
        return  # no actual values, or values for any time
    series = case.actuals(Window(case.past.start_at, case.settled_until + 9 * HOUR))
    assert series.integral_mg_s(case.past) is not None
    assert max(values(series)) < case.settled_until


def test_part_of_a_window_has_the_values_of_the_whole(case: Case) -> None:
    for side in case.sides:
        whole = values(side.series())
        start_at = side.window.start_at + HOUR
        middle = side.window.start_at + (side.window.end_at - side.window.start_at) / 2
        part = values(side.series(Window(start_at, middle)))
        common = part.keys() & whole.keys()
        assert len(common) >= (middle - start_at) // HOUR
        assert {at: part[at] for at in common} == {at: whole[at] for at in common}


def test_offset_of_the_window_does_not_matter(case: Case) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    for side in case.sides:
        at, until = side.window.start_at, side.window.end_at
        local = Window(at.astimezone(zone), until.astimezone(zone))
        assert values(side.series(local)) == values(side.series())


def test_window_of_no_length_gets_the_interval_that_holds_it(case: Case) -> None:
    for side in case.sides:
        at = side.window.start_at + timedelta(minutes=10)
        series = side.series(Window(at, at))
        assert series.edges_s[0] <= at.timestamp() < series.edges_s[-1]


def test_asking_twice_gives_the_same_and_neither_can_be_changed(case: Case) -> None:
    for side in case.sides:
        first, second = side.series(), side.series()
        assert values(first) == values(second)
        assert first.provenance == second.provenance
        for array in (first.edges_s, first.mg_per_kwh):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 7
