"""Weights of a published forecast, against least squares and by hand."""

import numpy as np
import pytest

from scheduler.core.forecasting.blend import PRIOR_DAYS, PRIOR_WEIGHT, blended
from tests.unit.core.forecasting.builders import NAN

ROWS, HOURS = 20, 48


def _made(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Our own forecasts, published ones, and a truth between them; the last row is now."""
    generator = np.random.default_rng(seed)
    own = generator.normal(6, 0.2, (ROWS, HOURS))
    day_level = np.repeat(generator.normal(0, 0.2, (ROWS, 2)), 24, axis=1)
    published = own + day_level + generator.normal(0, 0.1, (ROWS, HOURS))
    truth = own + 0.5 * (published - own) + generator.normal(0, 0.05, (ROWS, HOURS))
    truth[-1] = NAN
    truth[-2, 24:] = NAN
    return own, published, truth


def _weight(apart: np.ndarray, error: np.ndarray, hour: int, age_h: int) -> float:
    """Least squares of errors on distances near an hour; the prior as one more equation."""
    near = [min(max(one, 0), HOURS - 1) for one in range(hour - 6, hour + 7)]
    x, y = apart[:, near].ravel(), error[:, near].ravel()
    x, y = x[x != 0], y[x != 0]
    prior = PRIOR_WEIGHT * np.exp(-max(age_h + hour, 0) / 24)
    strength = PRIOR_DAYS * 13 * (np.mean(x**2) if len(x) else 1.0)
    rows = np.append(x, np.sqrt(strength))[:, None]
    solved = np.linalg.lstsq(rows, np.append(y, np.sqrt(strength) * prior), rcond=None)[0]
    return float(np.clip(solved[0], 0, 1))


def _slow(own: np.ndarray, published: np.ndarray, truth: np.ndarray, age_h: int) -> np.ndarray:
    """The blend day by day: levels are means over a day, shapes what is left of them."""
    empty = np.zeros((ROWS, HOURS))
    level, shape = empty.copy(), empty.copy()
    seen_level, seen_shape, error_level, error_shape = (empty.copy() for _ in range(4))
    for row in range(ROWS):
        for first in (0, 24):
            day = np.arange(first, first + 24)
            said = day[~np.isnan(published[row, day])]
            if not len(said):
                continue
            apart = published[row, said] - own[row, said]
            level[row, said], shape[row, said] = apart.mean(), apart - apart.mean()
            error = truth[row, said] - own[row, said]
            if np.isnan(error).any():
                continue
            seen_level[row, day], seen_shape[row, said] = apart.mean(), apart - apart.mean()
            error_level[row, day], error_shape[row, said] = error.mean(), error - error.mean()
    made = own.copy()
    for hour in range(HOURS):
        made[:, hour] += level[:, hour] * _weight(seen_level, error_level, hour, age_h)
        made[:, hour] += shape[:, hour] * _weight(seen_shape, error_shape, hour, age_h)
    return made


@pytest.mark.parametrize("age_h", [-30, 0, 7, 200])
def test_blend_is_that_of_least_squares(age_h: int) -> None:
    own, published, truth = _made()
    published[4, 30:] = NAN
    published[-1, 40:] = NAN
    truth[6, 3] = NAN
    np.testing.assert_allclose(
        blended(own, published, truth, age_h=age_h), _slow(own, published, truth, age_h)
    )


def test_where_nothing_is_published_it_is_our_own() -> None:
    own, published, truth = _made()
    published[:, 24:] = NAN
    made = blended(own, published, truth, age_h=0)
    np.testing.assert_array_equal(made[:, 24:], own[:, 24:])
    assert (made[:, :24] != own[:, :24]).all()
    np.testing.assert_array_equal(blended(own, np.full_like(own, NAN), truth, age_h=0), own)


def test_without_a_record_the_weight_is_the_prior_that_fades() -> None:
    own = np.full((1, HOURS), 6.0)
    made = blended(own, own + 1.0, np.full_like(own, NAN), age_h=12)
    # One above everywhere is level alone: 0.3 of it, times exp(-1/2) after 12 hours and exp(-3/2) after 36.
    assert made[0, [0, 24]] - 6 == pytest.approx([0.3 * np.exp(-0.5), 0.3 * np.exp(-1.5)])


def test_forecast_issued_after_the_first_hour_is_fresh_until_then() -> None:
    own = np.full((1, HOURS), 6.0)
    made = blended(own, own + 1.0, np.full_like(own, NAN), age_h=-10)
    assert made[0, [0, 10, 34]] - 6 == pytest.approx([0.3, 0.3, 0.3 / np.e])


def _record(days: int) -> tuple[np.ndarray, np.ndarray]:
    """Our own at 6 for so many days, and a shape that the day really has."""
    shape = np.sin(2 * np.pi * np.arange(24) / 24) + 0.01
    return np.full((days, 24), 6.0), np.tile(shape - shape.mean(), (days, 1))


def test_good_shape_at_a_wrong_level_is_taken_and_the_level_left() -> None:
    own, shape = _record(400)
    truth = own + shape
    truth[-1] = NAN
    # Published is two too high on even days, two too low on odd ones: a level that says nothing.
    level = np.where(np.arange(400) % 2, 2.0, -2.0)[:, None]
    made = blended(own, own + shape + level, truth, age_h=0)[-1]
    # 8 days of prior at 0.3 and less against 399 of 1 and of 0: within 2 % and 1 %.
    assert made - 6 == pytest.approx(shape[-1], abs=0.02 + 2 * 0.01)


def test_weights_stay_between_none_and_all() -> None:
    own, shape = _record(400)
    for worth in (3.0, -3.0):
        truth = own + worth * shape
        truth[-1] = NAN
        made = blended(own, own + shape, truth, age_h=0)[-1]
        np.testing.assert_allclose(made, own[-1] + (shape[-1] if worth > 0 else 0), atol=1e-12)


def test_truth_of_hours_that_are_not_over_is_not_needed_and_a_day_half_over_does_not_count() -> (
    None
):
    own, published, truth = _made()
    half = truth.copy()
    half[3, 12:24] = NAN
    none = truth.copy()
    none[3, :24] = NAN
    np.testing.assert_array_equal(
        blended(own, published, half, age_h=0), blended(own, published, none, age_h=0)
    )


def test_equal_forecasts_blend_to_themselves() -> None:
    own, _, truth = _made()
    np.testing.assert_array_equal(blended(own, own.copy(), truth, age_h=0), own)


def test_unknown_forecasts_of_the_past_do_not_count() -> None:
    own, published, truth = _made()
    own[5] = NAN
    truth_gone = truth.copy()
    truth_gone[5] = NAN
    made = blended(own, published, truth, age_h=0)
    np.testing.assert_array_equal(made, blended(own, published, truth_gone, age_h=0))
    assert np.isnan(made[5]).all()
    assert not np.isnan(np.delete(made, 5, axis=0)).any()
