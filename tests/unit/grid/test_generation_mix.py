"""Intensity from megawatts by fuel: numbers by hand, and hours in which too much is missing."""

import csv
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from adapters.grid.generation_mix import (
    FACTORS_VERSION,
    Fuel,
    GenerationMix,
    build_series,
    intensity_g_per_kwh,
    is_whole,
    load_factors,
    renewable_share,
)
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import GAP_MG, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window

CONFIGS = Path(__file__).parents[3] / "configs" / "intensity"
DATA = Path(__file__).parents[4] / "shared" / "data"
START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIFECYCLE = load_factors(Scope.LIFECYCLE)
NAN = float("nan")
FUELS = {
    "coal": Fuel.COAL,
    "gas": Fuel.GAS,
    "hydro": Fuel.HYDRO,
    "solar": Fuel.SOLAR,
    "wind": Fuel.WIND,
    "pumped": Fuel.STORAGE,
}


def mix(**mw: list[float]) -> GenerationMix:
    """Hourly generation by type."""
    return GenerationMix(
        start_s=int(START.timestamp()),
        step_s=3600,
        mw={kind: np.array(values, dtype=np.float64) for kind, values in mw.items()},
        fuels=FUELS,
    )


def days(hour_mw: float, count: int = 9) -> list[float]:
    """The same for so many days."""
    return [hour_mw] * (24 * count)


def changed(values: list[float], index: int, mw: float) -> list[float]:
    return [*values[:index], mw, *values[index + 1 :]]


# ----------------------------------------------------------------------------- intensity


def test_intensity_is_the_mean_of_the_factors_by_generation() -> None:
    ran = mix(coal=[100.0, 0.0], wind=[300.0, 50.0])
    # (100 * 820 + 300 * 11) / 400; wind alone.
    assert intensity_g_per_kwh(ran, LIFECYCLE).tolist() == pytest.approx([213.25, 11])
    # (100 * 760 + 0) / 400; nothing burnt.
    assert intensity_g_per_kwh(ran, load_factors(Scope.DIRECT)).tolist() == [190, 0]


def test_type_that_is_not_listed_is_of_unknown_fuel() -> None:
    # Half of 700 and half of 11.
    assert intensity_g_per_kwh(mix(fusion=[1.0], wind=[1.0]), LIFECYCLE).tolist() == [355.5]


def test_hour_without_any_generation_is_a_gap() -> None:
    grams = intensity_g_per_kwh(mix(coal=[0.0, NAN, 5.0], wind=[0.0, NAN, 0.0]), LIFECYCLE)
    assert np.isnan(grams).tolist() == [True, True, False]


def test_storage_gives_at_the_mean_of_the_day_before() -> None:
    # 24 h: 12 of 100 MW coal, 12 of 300 MW wind: (1200 * 820 + 3600 * 11) / 4800 = 213.25.
    coal = [100.0] * 12 + [0.0] * 12 + [0.0]
    wind = [0.0] * 12 + [300.0] * 12 + [100.0]
    ran = mix(coal=coal, wind=wind, pumped=[0.0] * 24 + [300.0])
    # A quarter of wind at 11, three quarters of storage at 213.25.
    assert intensity_g_per_kwh(ran, LIFECYCLE)[24] == pytest.approx(162.6875)


def test_storage_without_a_day_before_counts_as_the_hour_itself() -> None:
    grams = intensity_g_per_kwh(mix(coal=[10.0], wind=[10.0], pumped=[500.0]), LIFECYCLE)
    assert grams.tolist() == [415.5]
    assert np.isnan(intensity_g_per_kwh(mix(coal=[0.0], pumped=[5.0]), LIFECYCLE)).all()


def test_storage_alone_gives_at_the_mean_of_the_day_before() -> None:
    ran = mix(coal=[10.0, 0.0], wind=[10.0, 0.0], pumped=[0.0, 7.0])
    assert intensity_g_per_kwh(ran, LIFECYCLE).tolist() == [415.5, 415.5]


def test_renewable_share_leaves_storage_out() -> None:
    ran = mix(coal=[50.0], hydro=[10.0], solar=[20.0], wind=[20.0], pumped=[100.0])
    assert renewable_share(ran).tolist() == [0.5]


# ---------------------------------------------------------------------------- plausibility


@pytest.mark.parametrize(("coal_mw", "passes"), [(52.0, True), (54.0, False)])
def test_missing_type_makes_a_gap_where_it_usually_makes_more_than_a_twentieth(
    coal_mw: float, passes: bool
) -> None:
    # 52 of 1052 MW are 4.9 %, 54 of 1054 are 5.1 %.
    ran = mix(coal=changed(days(coal_mw), 200, NAN), wind=days(1000.0))
    whole = is_whole(ran)
    assert whole[200] == passes
    assert np.delete(whole, 200).all()
    assert np.isnan(intensity_g_per_kwh(ran, LIFECYCLE)[200]) != passes
    assert np.isnan(renewable_share(ran)[200]) != passes


def test_solar_that_is_left_out_at_night_is_not_missed() -> None:
    sun = [0.0] * 8 + [600.0] * 8 + [0.0] * 8
    night_left_out = [mw or NAN for mw in sun]
    assert is_whole(mix(gas=days(500.0), solar=sun * 8 + night_left_out)).all()
    noon_left_out = changed(sun * 9, 8 * 24 + 12, NAN)
    assert np.flatnonzero(~is_whole(mix(gas=days(500.0), solar=noon_left_out))).tolist() == [204]


def test_hour_with_less_than_half_of_everything_is_a_gap() -> None:
    # As with a report of 2 % of the usual generation.
    ran = mix(gas=changed(days(1000.0), 200, 499.0), wind=changed(days(100.0), 200, 40.0))
    assert np.flatnonzero(~is_whole(ran)).tolist() == [200]
    assert is_whole(mix(gas=changed(days(1000.0), 200, 520.0), wind=days(100.0))).all()


def test_calm_night_of_a_windy_zone_passes() -> None:
    ran = mix(gas=days(300.0), wind=changed(days(3000.0), 200, 10.0))
    assert is_whole(ran).all()


def test_sunny_hour_that_needs_few_other_plants_passes() -> None:
    ran = mix(gas=changed(days(800.0), 200, 100.0), solar=changed(days(0.0), 200, 700.0))
    assert is_whole(ran).all()


def test_hydro_that_was_as_low_on_two_days_of_the_week_passes() -> None:
    hydro = days(1000.0)
    for day in (5, 7):
        hydro[day * 24] = 300.0
    assert is_whole(mix(hydro=changed(hydro, 8 * 24, 200.0)))[8 * 24]
    assert not is_whole(mix(hydro=hydro))[5 * 24]


def test_one_broken_hour_does_not_hide_the_next() -> None:
    gas = days(1000.0)
    for day in (7, 8):
        gas[day * 24 + 3] = 20.0
    assert np.flatnonzero(~is_whole(mix(gas=gas))).tolist() == [171, 195]


def test_first_days_have_nothing_to_be_judged_by() -> None:
    assert is_whole(mix(gas=[1000.0] * 24 + [1.0])).all()


# ---------------------------------------------------------------------------------- series


def series_of(ran: GenerationMix, start_at: datetime, end_at: datetime) -> list[float | None]:
    provenance = Provenance(
        source="mine (production, derived)",
        signal=SignalKind.AVERAGE,
        scope=Scope.LIFECYCLE,
        quality=Quality.ESTIMATED,
    )
    series = build_series("XX", ran, Window(start_at, end_at), provenance)
    assert series.edges_s[0] <= start_at.timestamp() < series.edges_s[0] + 3600
    return [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]


def test_series_holds_the_hours_that_the_window_touches() -> None:
    ran = mix(wind=[1.0, 1.0, 0.0, 1.0, 1.0], coal=[1.0, 0.0, 1.0, 0.0, 1.0])
    assert series_of(ran, START + HOUR, START + 3 * HOUR) == [11, 820]
    assert series_of(ran, START + 1.5 * HOUR, START + 3.5 * HOUR) == [11, 820, 11]
    assert series_of(ran, START + 2.5 * HOUR, START + 2.5 * HOUR) == [820]
    assert series_of(ran, START, START + 99 * HOUR) == [415.5, 11, 820, 11, 415.5]


def test_series_keeps_gaps_but_ends_with_its_last_value() -> None:
    ran = mix(wind=[NAN, 1.0, NAN, 1.0, NAN])
    assert series_of(ran, START, START + 5 * HOUR) == [None, 11, None, 11]


def test_window_without_a_value_is_no_answer() -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        series_of(mix(wind=[1.0, NAN, NAN]), START + HOUR, START + 3 * HOUR)
    assert caught.value.fields == {"zone": "XX", "source": "mine"}
    assert caught.value.message == (
        "mine: no usable generation of zone XX from 2026-03-01T01:00:00Z to 2026-03-01T03:00:00Z"
    )


# --------------------------------------------------------------------------------- factors


def test_every_fuel_but_storage_has_a_factor_in_both_scopes() -> None:
    for scope in Scope:
        assert set(load_factors(scope)) == set(Fuel) - {Fuel.STORAGE}
    direct, lifecycle = load_factors(Scope.DIRECT), load_factors(Scope.LIFECYCLE)
    assert all(0 <= direct[fuel] < lifecycle[fuel] for fuel in direct)
    assert (lifecycle[Fuel.COAL], direct[Fuel.COAL]) == (820, 760)


def test_every_factor_states_its_source_once() -> None:
    with (CONFIGS / "emission_factors.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["fuel"], row["scope"]) for row in rows}) == len(rows)
    assert all(row["source"] for row in rows)


def test_version_of_the_factors_changes_with_them() -> None:
    # Where this fails, the table was edited: give it a new version, here and in ATTRIBUTION.md.
    digest = hashlib.sha256((CONFIGS / "emission_factors.csv").read_bytes()).hexdigest()
    assert (FACTORS_VERSION, digest[:12]) == ("2026-08", "34f1cdbdf9b0")
    assert f"version {FACTORS_VERSION}" in (CONFIGS / "ATTRIBUTION.md").read_text(encoding="utf-8")


# --------------------------------------------------------------------------------- reality


@pytest.mark.skipif(not DATA.exists(), reason="needs the development data in ../shared/data")
@pytest.mark.parametrize("zone_id", ["DE", "US-CAL-CISO", "US-MIDA-PJM"])
def test_intensity_of_real_generation_is_that_of_a_published_series(zone_id: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    generation, published = (
        parquet.read_table(DATA / path, filters=[("zone", "=", zone_id)]).sort_by("time")
        for path in (
            "mix/carboncast_generation_mw_2020_2021q3.parquet",
            "carbon/carboncast_2020_2021q3.parquet",
        )
    )
    assert generation["time"] == published["time"]
    named = {name: Fuel(name) for name in Fuel} | {"nat_gas": Fuel.GAS, "other": Fuel.UNKNOWN}
    names = [name for name in generation.column_names if name in named]
    mw = {name: generation[name].to_numpy().astype(np.float64) for name in names}
    ran = GenerationMix(
        start_s=int(START.timestamp()),
        step_s=3600,
        # A fuel that the zone has not is empty.
        mw={name: values for name, values in mw.items() if not np.isnan(values).all()},
        fuels=named,
    )
    for scope, column in ((Scope.LIFECYCLE, "g_per_kwh"), (Scope.DIRECT, "g_direct")):
        derived = intensity_g_per_kwh(ran, load_factors(scope))
        known = ~np.isnan(derived)
        expected = published[column].to_numpy().astype(np.float64)[known]
        assert known.mean() > 0.999
        assert np.corrcoef(derived[known], expected)[0, 1] > 0.999
        assert derived[known].mean() / expected.mean() == pytest.approx(1, abs=0.005)
    share = published["renewable_share"].to_numpy()
    assert np.nanmax(np.abs(renewable_share(ran) - share)) < 0.001
