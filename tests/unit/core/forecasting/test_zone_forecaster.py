"""Forecasts of a zone at any hour: what they need, and which model serves them."""

import numpy as np
import pytest

from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecasting.hourly import HourlySeries
from scheduler.core.forecasting.model import HourlyForecast, Known, fit_model
from scheduler.core.forecasting.weather import WeatherRuns
from scheduler.core.forecasting.zone_forecaster import (
    LEAST_RUNS,
    MAX_LAG_H,
    MAX_WEATHER_AGE_H,
    REFIT_DAYS,
    ZoneForecaster,
)
from tests.unit.core.forecasting.builders import (
    FIRST,
    NAN,
    hours,
    level_table,
    wave,
    weather_run,
)

LEVEL = level_table(3)
DAYS = 60
NOW = FIRST + DAYS * 24


def _forecaster(history: HourlySeries, weather: WeatherRuns | None = None) -> ZoneForecaster:
    return ZoneForecaster("DE", Known(history, LEVEL, weather))


def _by_model_of(history: HourlySeries, fitted_at: int, issued: int) -> HourlyForecast:
    """The forecast of two days by a model that saw nothing after it was fitted."""
    model = fit_model(
        Known(history.until(fitted_at), LEVEL), anchor=fitted_at, n_days=2, has_weather=False
    )
    return model.forecast(Known(history.until(issued), LEVEL), issued, issued)


def _same(one: HourlyForecast, other: HourlyForecast) -> None:
    assert (one.first_hour, one.method) == (other.first_hour, other.method)
    np.testing.assert_array_equal(one.logs, other.logs)
    np.testing.assert_array_equal(one.errors, other.errors)


@pytest.mark.parametrize(
    ("history", "issued"),
    [
        (hours([]), FIRST),
        (hours([100.0]), FIRST + 1),
        (hours([100.0] * 23), FIRST + 23),
        (hours([NAN] * 100), FIRST + 100),
        (hours([100.0] * 100), FIRST - 5),
        (hours([100.0] * 100), FIRST + 23),
    ],
)
def test_less_than_a_day_of_history_is_refused(history: HourlySeries, issued: int) -> None:
    with pytest.raises(ForecastUnavailableError, match=r"zone DE: .* at least 1 day") as refused:
        _forecaster(history).forecast(issued, 24)
    assert refused.value.fields["zone"] == "DE"


def test_a_day_of_history_is_enough() -> None:
    made = _forecaster(hours([100.0] * 24)).forecast(FIRST + 24, 30)
    assert made.g_per_kwh.tolist() == pytest.approx([100.0] * 30)


def test_history_may_end_a_week_ago_and_no_earlier() -> None:
    forecaster = _forecaster(hours([100.0] * 48))
    made = forecaster.forecast(FIRST + 48 + MAX_LAG_H, 96)
    assert made.g_per_kwh.tolist() == pytest.approx([100.0] * 96)
    with pytest.raises(ForecastUnavailableError, match="end 169 h before"):
        forecaster.forecast(FIRST + 48 + MAX_LAG_H + 1, 96)


@pytest.mark.parametrize("lag", [0, 1, 23, 24, 61, 168])
def test_late_history_is_forecast_from_its_last_value_on(lag: int) -> None:
    history = wave(DAYS * 24)
    made = _forecaster(history).forecast(NOW + lag, 30)
    n_days = -(-(lag + 30) // 24)
    model = fit_model(Known(history, LEVEL), anchor=NOW, n_days=n_days, has_weather=False)
    whole = model.forecast(Known(history, LEVEL), NOW, NOW + lag)
    assert made.first_hour == NOW + lag
    assert len(made.logs) == 30
    np.testing.assert_array_equal(made.logs, whole.logs[lag : lag + 30])
    np.testing.assert_array_equal(made.errors, whole.errors[:, lag : lag + 30])


def test_gap_up_to_now_is_lag_and_not_history() -> None:
    values = np.array(wave(DAYS * 24 + 100).g_per_kwh)
    values[DAYS * 24 - 5 : DAYS * 24 + 40] = NAN
    made = _forecaster(hours(values)).forecast(NOW, 20)
    _same(made, _forecaster(hours(values[: DAYS * 24 - 5])).forecast(NOW, 20))


def test_horizon_may_be_longer_than_the_common_coefficients() -> None:
    made = _forecaster(wave(DAYS * 24)).forecast(NOW + MAX_LAG_H, 21 * 24)
    assert len(made.logs) == 21 * 24
    assert np.isfinite(made.logs).all()


def _fit_hour(anchor: int) -> int:
    """Days whose number since 1970 is a multiple of 14 are for fits, once 60 days lie before them."""
    aligned = anchor - 24 * (anchor // 24 % 14)
    return aligned if aligned - FIRST >= 60 * 24 else anchor


def test_models_are_fitted_on_days_of_the_calendar() -> None:
    assert REFIT_DAYS == 14
    history = wave((DAYS + 40) * 24)
    forecaster = _forecaster(history)
    issues = [NOW + 24 * day for day in (0, 1, 5, 20, 21, 30, 31, 39)]
    assert len({_fit_hour(issued) for issued in issues}) == 5
    for issued in issues:
        _same(forecaster.forecast(issued, 48), _by_model_of(history, _fit_hour(issued), issued))


def test_every_hour_of_the_day_has_its_own_model() -> None:
    history = wave((DAYS + 32) * 24)
    forecaster = _forecaster(history)
    for hour in (0, 1, 23, 25):
        issued = NOW + 30 * 24 + hour
        _same(forecaster.forecast(issued, 48), _by_model_of(history, _fit_hour(issued), issued))


def test_model_fitted_later_does_not_serve_an_earlier_issue() -> None:
    history = wave((DAYS + 10) * 24)
    forecaster = _forecaster(history)
    forecaster.forecast(NOW + 9 * 24, 48)
    _same(forecaster.forecast(NOW, 48), _by_model_of(history, NOW, NOW))


def test_model_that_does_not_reach_far_enough_is_fitted_anew() -> None:
    history = wave((DAYS + 33) * 24)
    forecaster = _forecaster(history)
    issued = NOW + 30 * 24
    forecaster.forecast(issued, 24)
    expected = _by_model_of(history, _fit_hour(issued), issued)
    _same(forecaster.forecast(issued, 48), expected)
    # A shorter one afterwards is served by the longer model.
    np.testing.assert_array_equal(forecaster.forecast(issued, 24).logs, expected.logs[:24])


def _runs(first_day: int, stop_day: int) -> WeatherRuns:
    generator = np.random.default_rng(7)
    return WeatherRuns(
        weather_run(FIRST + 24 * day, generator.uniform(0, 9, (96, 5)))
        for day in range(first_day, stop_day)
    )


@pytest.mark.parametrize(
    ("runs", "is_used"),
    [
        (_runs(0, 131), True),
        (_runs(58, 131), True),
        (_runs(59, 131), False),
        (_runs(0, 0), False),
        (_runs(0, 129), True),
        (_runs(0, 128), False),
        (_runs(120, 260), False),
    ],
    ids=["every day", "60", "59", "none", "48 h old", "72 h old", "to come"],
)
def test_weather_is_used_from_60_fresh_runs_on(runs: WeatherRuns, is_used: bool) -> None:
    assert (LEAST_RUNS, MAX_WEATHER_AGE_H) == (60, 48)
    # The model of day 130 was fitted on day 118, and counts runs before then.
    assert _fit_hour(FIRST + 130 * 24) == FIRST + 118 * 24
    made = _forecaster(wave(140 * 24), runs).forecast(FIRST + 130 * 24, 24)
    assert made.method == ("ridge+weather" if is_used else "ridge")


def test_weather_that_went_stale_and_came_back_has_a_model_of_its_own() -> None:
    weather = _runs(0, 131)
    forecaster = _forecaster(wave(140 * 24), weather)
    methods = [forecaster.forecast(FIRST + day * 24, 24).method for day in (130, 135, 131)]
    assert methods == ["ridge+weather", "ridge", "ridge+weather"]
