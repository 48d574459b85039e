"""Margins from earlier runs."""

import pytest

from scheduler.core.job import JobState
from scheduler.core.run_times import learned_margin_s, long_run, ratio_of
from tests.unit.core.builders import HOUR, record, run


@pytest.mark.parametrize(
    ("ratios", "factor"),
    [
        ([], 1.0),
        ([2.0] * 4, 1.0),  # too few
        ([1.0, 1.1, 1.2, 1.3, 1.4], 1.4),  # of five, the longest
        ([1.5] * 19 + [9.0], 1.5),  # one of twenty is above
        ([1.5] * 18 + [2.0, 2.0], 2.0),
        ([0.5] * 10, 1.0),  # never below what was stated
        ([7.0] * 5, 3.0),  # never beyond three times
    ],
)
def test_long_run_is_the_95th_percentile_within_bounds(ratios: list[float], factor: float) -> None:
    assert long_run(ratios) == factor
    assert long_run(reversed(ratios)) == factor


def test_margin_is_what_the_long_run_takes_more() -> None:
    assert learned_margin_s(4 * HOUR, 1.5) == 2 * HOUR
    assert learned_margin_s(4 * HOUR, 1.0) == 0
    assert learned_margin_s(10, 1.01) == 1


def test_only_success_with_measured_work_tells_something() -> None:
    made = [run(0, 5, work_s=5.0 * HOUR)]
    assert ratio_of(record(runs=made)) == 1.25
    assert ratio_of(record(JobState.FAILED, made)) is None
    assert ratio_of(record(runs=[run(0, 0)])) is None
