"""The model of a zone: what it adds to the base, what its errors are, and how far it may go."""

from statistics import NormalDist

import numpy as np
import pytest

from scheduler.core.forecasting.features import N_LEVEL, history_features
from scheduler.core.forecasting.hourly import HourlySeries
from scheduler.core.forecasting.model import (
    ERROR_DAYS,
    OWN_FROM_DAYS,
    OWN_FULL_DAYS,
    FittedModel,
    HourlyForecast,
    Known,
    fit_model,
)
from scheduler.core.forecasting.ridge import fit_ridge
from scheduler.core.forecasting.vintages import Vintages
from scheduler.core.forecasting.weather import WeatherRuns
from tests.unit.core.forecasting.builders import (
    FIRST,
    NAN,
    hours,
    level_table,
    vintage,
    wave,
    weather_run,
)

LEVEL = level_table(2)
NO_LEVEL = np.zeros((24, N_LEVEL))


def _fit(known: Known, days: int = 2) -> FittedModel:
    return fit_model(known, anchor=known.history.anchor_hour, n_days=days, has_weather=False)


def _forecast(known: Known, days: int = 2) -> HourlyForecast:
    anchor = known.history.anchor_hour
    return _fit(known, days).forecast(known, anchor, anchor)


def _by_level(history: HourlySeries, anchors: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Base and common coefficients alone, hour by hour."""
    made = np.empty((len(anchors), len(level)))
    for day in range(len(level) // 24):
        features, base = history_features(history, anchors, day)
        for row, hour in np.ndindex(len(anchors), 24):
            terms = [
                float(value) * weight
                for value, weight in zip(
                    features[row, hour, :N_LEVEL], level[24 * day + hour], strict=True
                )
                if not np.isnan(value)
            ]
            made[row, 24 * day + hour] = base[row, hour] + sum(terms)
    return made


def test_short_history_rests_on_the_common_coefficients() -> None:
    history = wave(20 * 24)
    made = _forecast(Known(history, LEVEL))
    assert made.method == "level"
    assert made.first_hour == FIRST + 480
    np.testing.assert_allclose(made.logs, _by_level(history, np.array([FIRST + 480]), LEVEL)[0])
    np.testing.assert_allclose(made.g_per_kwh, np.exp(made.logs))


def test_without_coefficients_it_is_the_geometric_mean_of_the_last_seven_same_hours() -> None:
    grams = np.array([100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0])
    made = _forecast(Known(hours(np.repeat(grams, 24)), NO_LEVEL), 1)
    # 2 * 3 * ... * 8 = 40320, and exp(ln(40320) / 7) = exp(10.6046 / 7) = 4.5492.
    assert made.g_per_kwh.tolist() == pytest.approx([454.92] * 24, abs=0.01)


def test_days_beyond_the_common_coefficients_use_those_of_their_last_day() -> None:
    history = wave(20 * 24)
    made = _forecast(Known(history, LEVEL), 16)
    repeated = np.concatenate([LEVEL, *[LEVEL[-24:]] * 14])
    expected = _by_level(history, np.array([FIRST + 480]), repeated)[0]
    low, high = np.log(history.g_per_kwh.min() / 1.15), np.log(history.g_per_kwh.max() * 1.15)
    np.testing.assert_allclose(made.logs, np.clip(expected, low, high))


@pytest.mark.parametrize(
    ("days", "share"), [(30, 0.0), (67, 0.1), (215, 0.5), (400, 1.0), (450, 1.0)]
)
def test_own_coefficients_count_by_days_of_history(days: int, share: float) -> None:
    # (67 - 30) / (400 - 30) = 0.1, (215 - 30) / 370 = 0.5.
    assert (OWN_FROM_DAYS, OWN_FULL_DAYS) == (30, 400)
    history = wave(days * 24)
    known = Known(history, LEVEL[:24])
    model = _fit(known, 1)
    assert model.own_share == pytest.approx(share)
    made = model.forecast(known, history.anchor_hour, history.anchor_hour)
    common = _by_level(history, np.array([history.anchor_hour]), LEVEL[:24])[0]
    assert made.method == ("ridge" if share else "level")
    if not share:
        np.testing.assert_allclose(made.logs, common)
        return
    features, base = history_features(history, np.array([history.anchor_hour]), 0)
    own = (base + model.fits[0].predict(features))[0]
    np.testing.assert_allclose(made.logs, share * own + (1 - share) * common)


def _sample_days(history: HourlySeries, days: list[int], lead: int) -> tuple[np.ndarray, ...]:
    """Features, targets above the base, and bases of the forecasts made at the begin of these days."""
    anchors = FIRST + 24 * np.array(days)
    features, base = history_features(history, anchors, lead)
    truth = np.full(base.shape, NAN)
    for row, anchor in enumerate(anchors):
        for hour in range(24):
            at = anchor + 24 * lead + hour
            if at < history.stop_hour:
                truth[row, hour] = np.log(history.g_per_kwh[at - history.first_hour])
    return features, truth - base, base


@pytest.mark.parametrize(("days", "first"), [(50, 1), (57, 28), (90, 28)])
def test_training_starts_when_features_reach_back_enough(days: int, first: int) -> None:
    history = wave(days * 24)
    known = Known(history, LEVEL)
    model = _fit(known)
    # The last 68 samples are kept for their errors, all of them teach.
    anchors = list(range(first, days))
    assert ((model.anchors - FIRST) / 24).tolist() == anchors[-68:]
    weights = 0.5 ** ((days - np.array(anchors)) / 400)
    share = (days - 30) / 370
    common = _by_level(history, model.anchors, LEVEL)
    for lead in (0, 1):
        features, targets, base = _sample_days(history, anchors, lead)
        fit, left_out = fit_ridge(features, targets, weights)
        np.testing.assert_allclose(model.fits[lead].coefficients, fit.coefficients)
        day = slice(24 * lead, 24 * lead + 24)
        np.testing.assert_allclose(
            model.past[:, day],
            (share * (base + left_out))[-68:] + (1 - share) * common[:, day],
        )
    assert not np.isnan(model.past).any()


def test_training_looks_back_three_years_at_most() -> None:
    history = wave(4 * 365 * 24)
    model = _fit(Known(history, NO_LEVEL), 1)
    same = _fit(Known(history.since(history.stop_hour - 3 * 365 * 24), NO_LEVEL), 1)
    less = _fit(Known(history.since(history.stop_hour - 2 * 365 * 24), NO_LEVEL), 1)
    np.testing.assert_allclose(
        model.fits[0].coefficients, same.fits[0].coefficients, rtol=1e-5, atol=1e-9
    )
    assert not np.allclose(model.fits[0].coefficients, less.fits[0].coefficients, rtol=1e-2)
    assert model.anchors[-1] == history.stop_hour - 24


def test_fit_does_not_see_what_lies_after_its_anchor() -> None:
    values = np.array(wave(80 * 24).g_per_kwh)
    values[70 * 24 :] = 2500.0
    whole, cut = (
        fit_model(Known(history, LEVEL), anchor=FIRST + 70 * 24, n_days=2, has_weather=False)
        for history in (hours(values), hours(values[: 70 * 24]))
    )
    np.testing.assert_array_equal(whole.past, cut.past)
    assert whole.bounds == cut.bounds
    assert whole.own_share == cut.own_share
    for one, other in zip(whole.fits, cut.fits, strict=True):
        np.testing.assert_array_equal(one.coefficients, other.coefficients)


def test_forecast_does_not_look_at_what_lies_at_or_after_its_anchor() -> None:
    values = np.array(wave(80 * 24).g_per_kwh)
    anchor = FIRST + 70 * 24
    said = values[:-24] * 1.1
    published = Vintages(
        vintage(FIRST + 24 * day, said[24 * day :][:48], FIRST + 24 * day) for day in range(71)
    )
    cut = Known(hours(values[: 70 * 24]), LEVEL, published=published)
    values[70 * 24 :] = 2500.0
    whole = Known(hours(values), LEVEL, published=published)
    model = fit_model(cut, anchor=anchor - 48, n_days=2, has_weather=False)
    made, expected = (model.forecast(known, anchor, anchor) for known in (whole, cut))
    np.testing.assert_array_equal(made.logs, expected.logs)
    np.testing.assert_array_equal(made.errors, expected.errors)


def _slow_samples(
    past: dict[int, np.ndarray], history: HourlySeries, anchor: int, hour: int
) -> list[float]:
    """Errors of the last 60 forecasts that are over, of one hour ahead."""
    found = []
    for back in range(ERROR_DAYS):
        made = anchor - 24 * (hour // 24 + 1) - 24 * back
        if made in past:
            found.append(np.log(history.at(np.array([made + hour]))[0]) - past[made][hour])
    return [error for error in found if not np.isnan(error)]


def _assumed(history: HourlySeries, missing: int, day: int) -> list[float]:
    """What stands in for errors that are not known: normal, 0.6 and 0.85 of the spread of the zone."""
    logs = np.log(history.g_per_kwh)
    width = (0.6, 0.85)[day] * (1 + 24 / len(logs)) * logs.std()
    return [width * NormalDist().inv_cdf((rank + 0.5) / missing) for rank in range(max(missing, 0))]


@pytest.mark.parametrize("days", [3, 20, 110])
@pytest.mark.parametrize("later", [0, 5])
def test_errors_are_those_of_past_forecasts_and_of_neighbouring_hours(
    days: int, later: int
) -> None:
    history = wave((days + later) * 24)
    known = Known(history, LEVEL)
    model = fit_model(known, anchor=FIRST + days * 24, n_days=2, has_weather=False)
    anchor = history.anchor_hour
    made = model.forecast(known, anchor, anchor)
    past = dict(zip(model.anchors.tolist(), model.past, strict=True))
    for since in range(FIRST + days * 24, anchor, 24):
        past[since] = model.forecast(Known(history.until(since), LEVEL), since, since).logs
    for hour in (0, 1, 22, 23, 24, 25, 47):
        near = [min(max(one, 0), 47) for one in (hour - 1, hour, hour + 1)]
        expected = sorted(
            error for one in near for error in _slow_samples(past, history, anchor, one)
        )
        expected = sorted([*expected, *_assumed(history, 60 - len(expected), hour // 24)])
        room = np.log(1.15)
        lowest = np.log(history.g_per_kwh.min()) - room - made.logs[hour]
        highest = np.log(history.g_per_kwh.max()) + room - made.logs[hour]
        found = made.errors[:, hour]
        assert found[~np.isnan(found)].tolist() == pytest.approx(
            np.clip(expected, lowest, highest).tolist(), abs=1e-2
        )


def _with_errors(errors: np.ndarray) -> HourlyForecast:
    n_hours = errors.shape[1]
    return HourlyForecast(FIRST, np.linspace(5, 6, n_hours), np.sort(errors, axis=0), "ridge")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_those_of_known_errors_taken_further_out(share: float) -> None:
    errors = np.random.default_rng(6).normal(0, 0.2, (50, 4))
    errors[:20, 1] = NAN
    errors[1:, 2] = NAN
    errors[:, 3] = NAN
    made = _with_errors(errors)
    outwards = min(max(0.5 + 1.04 * (share - 0.5), 0.0), 1.0)
    for hour in range(4):
        known = errors[:, hour][~np.isnan(errors[:, hour])]
        error = np.quantile(known, outwards) if len(known) else 0.0
        error = min(error, 0.0) if share < 0.5 else max(error, 0.0) if share > 0.5 else 0.0
        assert made.quantile(share)[hour] == pytest.approx(np.exp(made.logs[hour] + error))


def test_quantiles_do_not_cross_the_expected_intensity() -> None:
    made = _with_errors(np.full((30, 2), 0.4))
    np.testing.assert_array_equal(made.quantile(0.1), made.g_per_kwh)
    np.testing.assert_allclose(made.quantile(0.9), made.g_per_kwh * np.exp(0.4))


def test_without_any_errors_quantiles_are_the_expected_intensity() -> None:
    made = _with_errors(np.empty((0, 3)))
    np.testing.assert_array_equal(made.quantile(0.1), made.g_per_kwh)


@pytest.mark.parametrize("days", [2, 40, 420])
def test_constant_series_is_forecast_exactly(days: int) -> None:
    made = _forecast(Known(hours([250.0] * 24 * days), LEVEL))
    np.testing.assert_allclose(made.g_per_kwh, 250)
    # Of a few days it is not known yet that nothing ever changes.
    tolerance = 0.15 if days < 21 else 1e-7
    np.testing.assert_allclose(made.quantile(0.1), 250, rtol=tolerance)
    np.testing.assert_allclose(made.quantile(0.9), 250, rtol=tolerance)


def test_band_of_a_zone_known_for_a_day_is_as_wide_as_its_day_and_more() -> None:
    history = wave(24)
    made = _forecast(Known(history, LEVEL), 4)
    ratio = np.log(made.quantile(0.9) / made.quantile(0.1))
    # Twice 0.6 to 1.0 of the spread, from the 8 % to the 92 % quantile of a normal distribution.
    spread = np.log(history.g_per_kwh).std()
    assert (ratio > 1.5 * spread).all()
    seen = history.g_per_kwh
    assert (made.quantile(0.9) <= 1.1501 * seen.max()).all()
    assert (made.quantile(0.1) >= seen.min() / 1.1501).all()


def test_zero_intensity_counts_as_one_gram() -> None:
    made = _forecast(Known(hours([0.0] * 24 * 40), LEVEL))
    np.testing.assert_allclose(made.g_per_kwh, 1.0)


def test_forecast_stays_near_what_was_ever_seen() -> None:
    wild = np.full((48, N_LEVEL), 50.0)
    history = wave(10 * 24)
    made = _forecast(Known(history, wild))
    assert made.g_per_kwh.max() == pytest.approx(1.15 * history.g_per_kwh.max())
    assert made.g_per_kwh.min() == pytest.approx(history.g_per_kwh.min() / 1.15)


def test_what_was_seen_since_the_fit_widens_the_bounds() -> None:
    # Fitted on two days of 100, used after eight of 400.
    history = hours([100.0] * 48 + [400.0] * 24 * 8)
    model = fit_model(
        Known(history.until(FIRST + 48), NO_LEVEL), anchor=FIRST + 48, n_days=1, has_weather=False
    )
    anchor = history.anchor_hour
    made = model.forecast(Known(history, NO_LEVEL), anchor, anchor)
    np.testing.assert_allclose(made.g_per_kwh, 400)


@pytest.mark.parametrize("days", [20, 60])
def test_gaps_of_hours_and_weeks_leave_no_hole(days: int) -> None:
    values = np.array(wave(days * 24).g_per_kwh)
    values[np.random.default_rng(8).random(len(values)) < 0.2] = NAN
    values[-15 * 24 : -1] = NAN
    values[-1] = 300.0
    made = _forecast(Known(hours(values), LEVEL))
    assert np.isfinite(made.logs).sum() >= 46  # an hour may lack all of its five days
    assert np.isfinite(made.quantile(0.9)).sum() == np.isfinite(made.logs).sum()


def _windy(n_days: int) -> tuple[HourlySeries, list[np.ndarray]]:
    """Intensity that falls with the wind of each day, which no history foretells; and the wind of the days."""
    wind = np.random.default_rng(9).uniform(3, 12, n_days + 4)
    at = np.arange(n_days * 24)
    logs = 6 - 0.1 * wind[at // 24] + 0.2 * np.sin(2 * np.pi * at / 24)
    runs = [np.repeat(wind[day : day + 4], 24) for day in range(n_days + 1)]
    return hours(np.exp(logs)), runs


@pytest.mark.parametrize("lag", [0, 3])
def test_weather_tells_what_history_does_not(lag: int) -> None:
    history, winds = _windy(215)
    runs = WeatherRuns(
        weather_run(FIRST + 24 * day, np.tile(wind[:, None], 5)) for day, wind in enumerate(winds)
    )
    anchor = FIRST + 200 * 24
    known = Known(history.until(anchor), NO_LEVEL, runs)
    truth = history.logs()[200 * 24 : 202 * 24]
    errors = {}
    for has_weather in (False, True):
        model = fit_model(known, anchor=anchor, n_days=2, has_weather=has_weather)
        made = model.forecast(known, anchor, anchor + lag)
        errors[made.method] = abs(made.errors[np.isfinite(made.errors)]).mean()
        assert abs(made.logs - truth).max() < 1.0
    assert set(errors) == {"ridge", "ridge+weather"}
    # Half of it is own coefficients: the other half still errs by all of the wind.
    assert errors["ridge+weather"] < 0.65 * errors["ridge"]


def test_weather_is_not_used_where_there_are_no_own_coefficients() -> None:
    history, winds = _windy(20)
    runs = WeatherRuns(weather_run(FIRST + 24 * day, wind) for day, wind in enumerate(winds))
    known = Known(history, LEVEL, runs)
    model = fit_model(known, anchor=history.anchor_hour, n_days=1, has_weather=True)
    assert not model.has_weather
    assert model.forecast(known, history.anchor_hour, history.anchor_hour).method == "level"


@pytest.mark.parametrize("missing", [[1], [0, 3], [0, 1, 2, 3, 4]])
def test_runs_that_lack_a_variable_serve_by_the_others(missing: list[int]) -> None:
    history, winds = _windy(100)
    tables = [np.tile(wind[:, None], 5) for wind in winds]
    for table in tables:
        table[:, missing] = NAN
    runs = WeatherRuns(weather_run(FIRST + 24 * day, one) for day, one in enumerate(tables))
    known = Known(history, LEVEL, runs)
    model = fit_model(known, anchor=history.anchor_hour, n_days=2, has_weather=True)
    made = model.forecast(known, history.anchor_hour, history.anchor_hour)
    assert made.method == "ridge+weather"
    assert np.isfinite(made.logs).all()
    if len(missing) == 5:
        np.testing.assert_allclose(made.logs, _forecast(Known(history, LEVEL)).logs)


def _published(days: range, n_hours: int, grams: float) -> Vintages:
    return Vintages(vintage(FIRST + 24 * day, [grams] * n_hours, FIRST + 24 * day) for day in days)


def test_published_forecast_moves_ours_by_its_prior() -> None:
    # A constant 200 and a first forecast of 220: all level, no record, and ten days of history.
    known = Known(hours([200.0] * 240), NO_LEVEL, published=_published(range(10, 11), 24, 220))
    made = _forecast(known, 1)
    assert made.method == "level+published"
    weight = 0.7 * np.exp(-np.arange(24) / 24)
    np.testing.assert_allclose(made.logs, np.log(200) + weight * np.log(1.1))


def test_the_more_a_model_has_learned_the_less_it_takes_on_trust() -> None:
    # 215 days are half of the way from 30 to 400: between 0.7 and 0.3.
    known = Known(
        hours([200.0] * 215 * 24), NO_LEVEL, published=_published(range(215, 216), 24, 220)
    )
    made = _forecast(known, 1)
    assert made.method == "ridge+published"
    np.testing.assert_allclose(made.logs[0], np.log(200) + 0.5 * np.log(1.1), rtol=1e-6)


def test_published_forecast_fades_from_its_issue_on_and_not_from_the_last_value() -> None:
    # History ends 6 hours before now, when the forecast is issued: fresh at hour 6, a third of it a day later.
    history = hours([200.0] * 234)
    known = Known(history, NO_LEVEL, published=_published(range(10, 11), 48, 220))
    model = fit_model(known, anchor=FIRST + 234, n_days=2, has_weather=False)
    made = model.forecast(known, FIRST + 234, FIRST + 240)
    moved = (made.logs - np.log(200)) / np.log(1.1)
    assert moved[[0, 5, 6, 30]].tolist() == pytest.approx([0, 0, 0.7, 0.7 / np.e], abs=1e-9)


@pytest.mark.parametrize(
    "published",
    [Vintages([]), _published(range(11, 12), 24, 220), _published(range(8), 24, 220)],
    ids=["none", "not yet issued", "over"],
)
def test_published_forecast_that_says_nothing_of_these_hours_changes_nothing(
    published: Vintages,
) -> None:
    history = wave(240)
    made = _forecast(Known(history, LEVEL, published=published))
    alone = _forecast(Known(history, LEVEL))
    assert made.method == "level"
    np.testing.assert_array_equal(made.logs, alone.logs)
    np.testing.assert_array_equal(made.errors, alone.errors)


def test_published_forecast_with_a_good_record_is_followed() -> None:
    history = wave(60 * 24 + 24)
    anchor = FIRST + 60 * 24
    said = np.array(history.g_per_kwh)
    published = Vintages(
        vintage(FIRST + 24 * day, said[24 * day : 24 * day + 24], FIRST + 24 * day)
        for day in range(61)
    )
    known = Known(history.until(anchor), NO_LEVEL, published=published)
    truth = history.logs()[60 * 24 :]
    near = abs(_forecast(known, 1).logs - truth).mean()
    alone = abs(_forecast(Known(history.until(anchor), NO_LEVEL), 1).logs - truth).mean()
    # 32 days of evidence for all of it against 8 for 0.3 and less: at most 8 / 40 of the error is left.
    assert near < 0.25 * alone
