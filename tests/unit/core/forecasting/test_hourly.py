"""Hourly means of step functions, and looking hours up."""

import numpy as np
import pytest

from scheduler.core.forecasting.hourly import HOUR_S, HourlySeries
from tests.unit.core.forecasting.builders import FIRST, NAN, hours, steps

QUARTER = HOUR_S // 4


def _values(series: HourlySeries) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in series.g_per_kwh]


def test_no_parts_are_no_hours() -> None:
    empty = HourlySeries.of([])
    assert (empty.first_hour, empty.stop_hour, empty.anchor_hour, empty.known_days) == (0, 0, 0, 0)
    assert np.isnan(empty.at(np.array([[-1, 0], [1, 10**9]]))).all()


def test_whole_hours_stay_as_they_are() -> None:
    made = HourlySeries.of([steps([100, 200, NAN, 0])])
    assert made.first_hour == FIRST
    assert _values(made) == [100, 200, None, 0]


def test_quarter_hours_become_their_mean() -> None:
    made = HourlySeries.of([steps([100, 200, 300, 400, 7, 7, 7, 7], step_s=QUARTER)])
    assert _values(made) == [250, 7]


@pytest.mark.parametrize(
    ("quarters", "mean"),
    [
        ([NAN, 200, 300, 400], 300),  # (200 + 300 + 400) / 3
        ([NAN, 200, NAN, 400], 300),  # half is known: enough
        ([NAN, NAN, NAN, 400], None),
        ([NAN, NAN, NAN, NAN], None),
    ],
)
def test_hour_counts_when_at_least_half_of_it_is_known(
    quarters: list[float], mean: float | None
) -> None:
    assert _values(HourlySeries.of([steps(quarters, step_s=QUARTER)])) == [mean]


def test_one_second_short_of_half_an_hour_is_unknown() -> None:
    assert _values(HourlySeries.of([steps([100], step_s=1800)])) == [100]
    assert _values(HourlySeries.of([steps([100], step_s=1799)])) == [None]


def test_steps_across_hours_are_shared_out_by_time() -> None:
    # From 00:45 on 90 minutes of 100 and 90 of 400: hour 0 is known for a quarter, hour 1 is all 100,
    # hour 2 is 100 for a quarter and 400 for the rest, hour 3 is 400 for 45 minutes.
    made = HourlySeries.of([steps([100, 400], start_s=FIRST * HOUR_S + 3 * QUARTER, step_s=5400)])
    assert made.first_hour == FIRST
    assert _values(made) == [None, 100, 325, 400]


def test_earlier_part_goes_before_a_later_one_and_the_later_fills_its_gaps() -> None:
    preferred = steps([1, NAN, 3], start_s=(FIRST + 1) * HOUR_S)
    other = steps([10, 20, 30, 40, 50, 60])
    assert _values(HourlySeries.of([preferred, other])) == [10, 1, 30, 3, 50, 60]
    assert _values(HourlySeries.of([other, preferred])) == [10, 20, 30, 40, 50, 60]


def test_parts_far_apart_leave_a_gap_of_years() -> None:
    years = 3 * 365 * 24
    made = HourlySeries.of([steps([5], start_s=(FIRST + years) * HOUR_S), steps([4])])
    assert len(made.g_per_kwh) == years + 1
    assert made.known_days == 2 / 24
    assert made.at(np.array([FIRST, FIRST + 1, FIRST + years])).tolist() == pytest.approx(
        [4, NAN, 5], nan_ok=True
    )


def test_anchor_is_the_hour_after_the_last_known_value() -> None:
    assert hours([1, NAN, 2, NAN, NAN]).anchor_hour == FIRST + 3
    assert hours([NAN, NAN]).anchor_hour == FIRST
    assert hours([5]).anchor_hour == FIRST + 1


def test_until_keeps_hours_that_have_ended_and_since_those_that_begin_later() -> None:
    series = hours([1, 2, 3])
    assert [_values(series.until(FIRST + end)) for end in (-5, 0, 1, 3, 9)] == [
        [],
        [],
        [1],
        [1, 2, 3],
        [1, 2, 3],
    ]
    later = [series.since(FIRST + begin) for begin in (-5, 0, 1, 3, 9)]
    assert [_values(one) for one in later] == [[1, 2, 3], [1, 2, 3], [2, 3], [], []]
    assert [one.first_hour - FIRST for one in later] == [0, 0, 1, 3, 3]


def test_nothing_outside_is_known() -> None:
    asked = np.array([[FIRST - 1, FIRST], [FIRST + 1, FIRST + 2]])
    found = hours([7, 8]).at(asked)
    assert found.tolist() == [
        pytest.approx([NAN, 7], nan_ok=True),
        pytest.approx([8, NAN], nan_ok=True),
    ]


def test_logarithm_has_a_floor_at_one_gram() -> None:
    logs = hours([0, 0.5, 1, np.e, NAN]).logs()
    assert logs.tolist() == pytest.approx([0, 0, 0, 1, NAN], nan_ok=True)


def test_values_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        hours([1, 2]).g_per_kwh[0] = 3
