"""Scores of forecasts, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.forecasting.hourly import HourlySeries
from scheduler.core.forecasting.scores import MAX_DAYS, score
from scheduler.core.forecasting.vintages import Vintage
from tests.unit.core.forecasting.builders import FIRST, NAN, hours, steps, vintage

NO_LEADS = (None,) * (MAX_DAYS - 1)


def test_error_is_a_share_of_the_truth_by_lead_day() -> None:
    said = vintage(FIRST, [110.0] * 24 + [150.0] * 24, FIRST)
    found = score([said], hours([100.0] * 48))
    assert found.forecasts == 1
    assert found.mape[:3] == (pytest.approx(0.1), pytest.approx(0.5), None)
    assert found.bias == pytest.approx(0.3)
    assert found.coverage is None


def test_bias_keeps_its_sign_where_errors_cancel() -> None:
    found = score([vintage(FIRST, [90.0, 130.0], FIRST)], hours([100.0, 100.0]))
    # 0.1 too low, 0.3 too high.
    assert (found.mape[0], found.bias) == (pytest.approx(0.2), pytest.approx(0.1))


def test_lead_counts_from_the_issue_not_from_the_first_value() -> None:
    tomorrow = vintage(FIRST, [120.0] * 24, FIRST + 24)
    assert score([tomorrow], hours([100.0] * 48)).mape[:2] == (None, pytest.approx(0.2))


def test_hours_that_had_begun_at_the_issue_do_not_count() -> None:
    # Issued at half past: the hour that was running and the one before are left out.
    said = vintage(FIRST + 1.5, [900.0, 900.0, 110.0], FIRST)
    assert score([said], hours([100.0] * 3)).mape == (pytest.approx(0.1), *NO_LEADS)


def test_beyond_a_week_nothing_counts() -> None:
    said = vintage(FIRST, [100.0] * 168 + [900.0] * 24, FIRST)
    assert score([said], hours([100.0] * 192)).mape == (pytest.approx(0.0),) * MAX_DAYS


def test_forecast_of_which_nothing_came_true_yet_is_not_counted() -> None:
    late = vintage(FIRST + 48, [100.0] * 24, FIRST + 48)
    over = vintage(FIRST + 9, [100.0] * 3, FIRST)
    found = score([late, over], hours([100.0] * 24))
    assert (found.forecasts, found.mape, found.bias) == (0, (None, *NO_LEADS), None)
    assert (found.coverage, found.kept) == (None, None)
    assert score([], HourlySeries(0, np.empty(0))).forecasts == 0


def test_truth_of_zero_makes_no_error_without_bounds() -> None:
    # At the margin often nothing is emitted: 5 g for 0 counts as 5 g for 1.
    found = score([vintage(FIRST, [5.0, 0.0], FIRST)], hours([0.0, 0.0]))
    assert found.mape[0] == pytest.approx(2.5)


def test_coverage_is_the_share_of_hours_between_the_quantiles() -> None:
    series = steps([100.0] * 5, start_s=FIRST * 3600)
    low, high = np.array([90, 90, 90, 90, 99]) * 1000, np.array([110, 110, 110, 110, 101]) * 1000
    said = Vintage(FIRST * 3600, replace(series, low_mg=low, high_mg=high))
    # In, on the edge, above, below, and one that is not known yet.
    found = score([said], hours([100.0, 110.0, 111.0, 89.0, NAN]))
    assert found.coverage == pytest.approx(0.5)
    half = Vintage(FIRST * 3600, replace(series, low_mg=low))
    assert score([half], hours([100.0] * 5)).coverage is None


def test_plan_on_a_perfect_forecast_keeps_all_and_on_a_reversed_one_less_than_nothing() -> None:
    truth = [100.0] * 8 + [50.0] * 4 + [150.0] * 12
    perfect = score([vintage(FIRST, truth, FIRST)], hours(truth))
    assert perfect.kept == pytest.approx(1.0)
    wrong = score([vintage(FIRST, [200.0 - one for one in truth], FIRST)], hours(truth))
    assert wrong.kept is not None
    assert wrong.kept < 0


def test_kept_is_the_part_of_the_best_saving_that_the_plan_had() -> None:
    # Two levels of 12 h: all starts mean 21 windows: 9 of 100, 9 of 200, and 175, 150, 125 between.
    truth = [200.0] * 12 + [100.0] * 12
    # Planned at hour 9, the first of the lowest: 3 h at 200 and one at 100.
    said = [300.0] * 9 + [90.0] * 4 + [300.0] * 11
    mean = (9 * 100 + 9 * 200 + 175 + 150 + 125) / 21
    found = score([vintage(FIRST, said, FIRST)], hours(truth))
    assert found.kept == pytest.approx((mean - 175) / (mean - 100))


@pytest.mark.parametrize(
    ("said", "truth"),
    [
        ([100.0] * 23, [100.0] * 12 + [50.0] * 12),
        ([100.0] * 12 + [50.0] * 12, [100.0] * 12 + [50.0] * 11 + [NAN]),
        ([100.0] * 24, [100.0] * 24),
    ],
    ids=["forecast too short", "truth not all known", "nothing to save"],
)
def test_nothing_is_kept_where_no_plan_can_be_judged(said: list[float], truth: list[float]) -> None:
    assert score([vintage(FIRST, said, FIRST)], hours(truth)).kept is None
