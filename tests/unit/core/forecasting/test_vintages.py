"""Published forecasts: the newest that was known, and nothing it does not say."""

import numpy as np
import pytest

from scheduler.core.forecasting.hourly import HOUR_S
from scheduler.core.forecasting.vintages import Vintage, Vintages
from tests.unit.core.forecasting.builders import FIRST, NAN, steps, vintage


def _grams(vintages: Vintages, hours: list[list[int]], known_by: list[int]) -> list[list[float]]:
    logs = vintages.logs_at(FIRST + np.array(hours), FIRST + np.array(known_by))
    return [[round(float(value), 3) for value in row] for row in np.exp(logs)]


def _same(found: list[list[float]], expected: list[list[float]]) -> None:
    assert found == [pytest.approx(row, nan_ok=True) for row in expected]


def test_nothing_published_says_nothing() -> None:
    vintages = Vintages([])
    assert vintages.newest_hour(FIRST) is None
    _same(_grams(vintages, [[0, 1]], [5]), [[NAN, NAN]])


def test_forecast_is_read_from_its_first_to_its_last_hour() -> None:
    vintages = Vintages([vintage(FIRST, [10, NAN, 30], FIRST + 1)])
    _same(_grams(vintages, [[0, 1, 2, 3, 4]], [0]), [[NAN, 10, NAN, 30, NAN]])


def test_shorter_forecast_is_not_continued_by_a_longer_one() -> None:
    vintages = Vintages([vintage(FIRST, [1, 2, 3, 4], FIRST), vintage(FIRST + 1, [9], FIRST + 1)])
    _same(_grams(vintages, [[0, 1, 2, 3]] * 2, [0, 1]), [[1, 2, 3, 4], [NAN, 9, NAN, NAN]])


def test_forecast_counts_from_the_whole_hour_after_its_issue() -> None:
    early, late = vintage(FIRST + 0.01, [1, 1, 1], FIRST), vintage(FIRST + 1.5, [2, 2, 2], FIRST)
    vintages = Vintages([late, early])
    rows = _grams(vintages, [[2]] * 4, [0, 1, 2, 50])
    _same(rows, [[NAN], [1], [2], [2]])
    assert [vintages.newest_hour(FIRST + by) for by in (0, 1, 2, 50)] == [
        None,
        FIRST + 1,
        FIRST + 2,
        FIRST + 2,
    ]


def test_later_of_two_within_an_hour_counts_and_so_does_the_last_of_two_issued_together() -> None:
    made = [vintage(FIRST + part, [grams], FIRST + 1) for part, grams in ((0.2, 1), (0.4, 2))]
    _same(_grams(Vintages(made[::-1]), [[1]], [1]), [[2]])
    same = [vintage(FIRST, [grams], FIRST + 1) for grams in (5, 6)]
    _same(_grams(Vintages(same), [[1]], [0]), [[6]])


def test_half_hours_become_hours_and_grams_below_one_count_as_one() -> None:
    half_hours = steps([100, 200, 0, 0], step_s=HOUR_S // 2)
    vintages = Vintages([Vintage(FIRST * HOUR_S, half_hours)])
    _same(_grams(vintages, [[0, 1]], [0]), [[150, 1]])
