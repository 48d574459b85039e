"""Tomorrow's mix from load, wind and sun: the split by hand, and against persistence on real days."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.grid.generation_mix import Fuel, GenerationMix, intensity_g_per_kwh, load_factors
from adapters.grid.residual_dispatch import HISTORY_DAYS, Outlook, forecast_mix
from scheduler.core.forecast import Scope

DATA = Path(__file__).parents[4] / "shared" / "data"
FUELS = {
    "coal": Fuel.COAL,
    "gas": Fuel.GAS,
    "nuclear": Fuel.NUCLEAR,
    "pumped": Fuel.STORAGE,
    "solar": Fuel.SOLAR,
    "wind": Fuel.WIND,
}
PAST = 24 * HISTORY_DAYS
AHEAD = 30
NAN = float("nan")
Values = NDArray[np.float64]


def outlook(
    past: dict[str, Values], load_mw: Values, coming_load_mw: Values, **coming_mw: Values
) -> Outlook:
    """Fourteen days of hours, and thirty hours ahead."""

    def shown(values: Values, first: int) -> Values:
        whole = np.full(PAST + AHEAD, NAN)
        whole[first : first + len(values)] = values
        return whole

    return Outlook(
        ran=GenerationMix(
            start_s=0,
            step_s=3600,
            mw={kind: shown(mw, 0) for kind, mw in past.items()},
            fuels=FUELS,
        ),
        load_mw=shown(load_mw, 0),
        coming_load_mw=shown(coming_load_mw, PAST),
        coming_mw={kind: shown(mw, PAST) for kind, mw in coming_mw.items()},
        steady=frozenset({"nuclear"}),
    )


def always(mw: float, count: int = PAST) -> Values:
    return np.full(count, float(mw))


def ahead(mw: float) -> Values:
    return always(mw, AHEAD)


def at(made: GenerationMix, index: int) -> dict[str, float]:
    return {kind: float(mw[index]) for kind, mw in made.mw.items()}


def test_rest_of_the_load_is_split_as_it_was_and_imports_go_on() -> None:
    past = {
        "coal": always(100),
        "gas": always(300),
        "nuclear": always(50),
        "wind": always(150),
    }
    # 600 ran, 700 were used: 100 come from outside. Ahead 900 - 100 - 50 - 350 = 400 are left.
    made = forecast_mix(outlook(past, always(700), ahead(900), wind=ahead(350)))
    expected = {"coal": 100, "gas": 300, "nuclear": 50, "wind": 350}
    assert at(made, PAST) == pytest.approx(expected)
    assert at(made, PAST + AHEAD - 1) == pytest.approx(expected)
    # What ran is kept.
    assert at(made, PAST - 1) == {"coal": 100, "gas": 300, "nuclear": 50, "wind": 150}


def test_split_follows_hours_whose_rest_was_alike() -> None:
    # Every second day has a rest of 400 with coal alone, the others one of 1000 with gas besides.
    is_high = np.arange(PAST) // 24 % 2 == 1
    past = {"coal": always(400), "gas": np.where(is_high, 600.0, 0.0), "wind": always(0)}
    load = np.where(is_high, 1000.0, 400.0)
    low = forecast_mix(outlook(past, load, ahead(410), wind=ahead(10)))
    high = forecast_mix(outlook(past, load, ahead(1010), wind=ahead(10)))
    assert at(low, PAST) == pytest.approx({"coal": 400, "gas": 0, "wind": 10})
    assert at(high, PAST) == pytest.approx({"coal": 400, "gas": 600, "wind": 10})


def test_split_follows_the_time_of_day() -> None:
    is_day = np.isin(np.arange(PAST) % 24, range(8, 20))
    past = {"coal": np.where(is_day, 0.0, 500.0), "gas": np.where(is_day, 500.0, 0.0)}
    made = forecast_mix(outlook(past, always(500), ahead(500)))
    assert at(made, PAST + 2) == pytest.approx({"coal": 500, "gas": 0})
    assert at(made, PAST + 12) == pytest.approx({"coal": 0, "gas": 500})


def test_steady_types_go_on_as_in_the_last_day() -> None:
    nuclear = always(900)
    nuclear[-24:] = 600
    past = {"gas": always(1000) - nuclear + 100, "nuclear": nuclear}
    made = forecast_mix(outlook(past, always(1100), ahead(1000)))
    assert at(made, PAST + 5) == pytest.approx({"nuclear": 600, "gas": 400})


def test_imports_are_those_of_the_time_of_day_in_the_last_week() -> None:
    # 300 come in at noon of the last week, 900 in the week before, nothing at other times.
    load = always(1000)
    load[12 : PAST // 2 : 24] = 1900
    load[PAST // 2 + 12 :: 24] = 1300
    made = forecast_mix(outlook({"gas": always(1000)}, load, ahead(1300)))
    assert at(made, PAST + 11) == pytest.approx({"gas": 1300})
    assert at(made, PAST + 12) == pytest.approx({"gas": 1000})


def test_storage_that_gave_gives_again() -> None:
    past = {"gas": always(300), "pumped": always(100)}
    made = forecast_mix(outlook(past, always(400), ahead(800)))
    assert at(made, PAST) == pytest.approx({"gas": 600, "pumped": 200})


def test_more_wind_than_load_leaves_nothing_for_others() -> None:
    past = {"gas": always(300), "wind": always(100)}
    made = forecast_mix(outlook(past, always(400), ahead(400), wind=ahead(5000)))
    assert at(made, PAST) == pytest.approx({"gas": 0, "wind": 5000})


def test_rest_at_hours_that_never_had_one_is_split_as_on_the_whole() -> None:
    is_day = np.isin(np.arange(PAST) % 24, range(8, 20))
    past = {
        "coal": np.where(is_day, 100.0, 0.0),
        "gas": np.where(is_day, 300.0, 0.0),
        "wind": always(50),
    }
    load = np.where(is_day, 450.0, 50.0)
    made = forecast_mix(outlook(past, load, ahead(250), wind=ahead(50)))
    assert at(made, PAST + 2) == pytest.approx({"coal": 50, "gas": 150, "wind": 50})


def test_rest_that_no_plant_ever_served_is_a_gap() -> None:
    past = {"gas": always(0), "wind": always(50)}
    made = forecast_mix(outlook(past, always(50), ahead(250), wind=ahead(50)))
    assert np.isnan(made.mw["gas"][PAST:]).all()


def test_hours_without_one_of_the_forecasts_are_gaps() -> None:
    past = {"gas": always(300), "wind": always(100)}
    load, wind = ahead(400), ahead(100)
    load[3], wind[5] = NAN, NAN
    made = forecast_mix(outlook(past, always(400), load[:20], wind=wind))
    grams = intensity_g_per_kwh(made, load_factors(Scope.LIFECYCLE))[PAST:]
    assert np.flatnonzero(np.isnan(grams)).tolist() == [3, 5, *range(20, AHEAD)]
    # Three quarters of gas at 490, one of wind at 11.
    assert grams[0] == pytest.approx(370.25)


def test_without_actual_load_or_generation_there_is_no_forecast() -> None:
    made = forecast_mix(outlook({"gas": always(300)}, always(NAN), ahead(400)))
    assert np.isnan(made.mw["gas"][PAST:]).all()
    made = forecast_mix(outlook({"gas": always(NAN)}, always(400), ahead(400)))
    assert np.isnan(made.mw["gas"]).all()


def test_broken_hours_are_no_model_of_coming_ones() -> None:
    past = {"coal": always(100), "gas": always(300)}
    past["gas"][8 * 24 :: 24] = NAN
    made = forecast_mix(outlook(past, always(400), ahead(400)))
    assert at(made, PAST) == pytest.approx({"coal": 100, "gas": 300})


@pytest.mark.skipif(not DATA.exists(), reason="needs the development data in ../shared/data")
def test_with_good_weather_and_load_forecasts_real_days_are_met_within_a_few_percent() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(
        DATA / "mix/carboncast_generation_mw_2020_2021q3.parquet", filters=[("zone", "=", "DE")]
    ).sort_by("time")
    fuels = {name: Fuel(name) for name in Fuel} | {"nat_gas": Fuel.GAS, "other": Fuel.UNKNOWN}
    mw = {
        name: table[name].to_numpy().astype(float) for name in table.column_names if name in fuels
    }
    mw = {name: values for name, values in mw.items() if not np.isnan(values).all()}
    factors, errors, persistence_errors = load_factors(Scope.LIFECYCLE), [], []
    for first in range(24 * 380 + 18, 24 * 600, 24 * 11):
        part = {name: values[first : first + PAST + AHEAD] for name, values in mw.items()}
        total = np.sum(list(part.values()), axis=0)
        is_past = np.arange(PAST + AHEAD) < PAST
        true = GenerationMix(start_s=0, step_s=3600, mw=part, fuels=fuels)
        made = forecast_mix(
            Outlook(
                ran=GenerationMix(
                    start_s=0,
                    step_s=3600,
                    mw={name: np.where(is_past, values, NAN) for name, values in part.items()},
                    fuels=fuels,
                ),
                load_mw=np.where(is_past, total, NAN),
                coming_load_mw=np.where(is_past, NAN, total),
                coming_mw={name: np.where(is_past, NAN, part[name]) for name in ("solar", "wind")},
                steady=frozenset({"nuclear"}),
            )
        )
        truth, grams = intensity_g_per_kwh(true, factors), intensity_g_per_kwh(made, factors)
        errors.append(np.mean(np.abs(grams / truth - 1)[PAST:]))
        persistence_errors.append(np.mean(np.abs(np.roll(truth, 24) / truth - 1)[PAST : PAST + 24]))
    assert np.mean(errors) < 0.04
    assert np.mean(persistence_errors) > 0.12
