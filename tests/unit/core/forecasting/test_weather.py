"""Weather runs brought to whole hours, and which run is read when."""

import numpy as np
import pytest

from scheduler.core.forecasting.features import weekday_of
from scheduler.core.forecasting.hourly import HOUR_S
from scheduler.core.forecasting.weather import (
    COMFORT_C,
    VARIABLES,
    WeatherRun,
    WeatherRuns,
    weather_features,
)
from tests.unit.core.forecasting.builders import FIRST, NAN, weather_run

WIND, SUN, WARMTH, DEW, RAIN = range(len(VARIABLES))


def _at(runs: WeatherRuns, hours: list[int], known_by: int, variable: int = WIND) -> list[float]:
    """Weather at hours from `FIRST` on, as known that many hours after it."""
    asked = FIRST + np.array(hours)
    found = runs.at(asked, np.full_like(asked, FIRST + known_by))[..., variable]
    return [float(value) for value in found]


def test_without_runs_nothing_is_known() -> None:
    runs = WeatherRuns([])
    assert len(runs) == 0
    assert runs.newest_hour(FIRST) is None
    assert runs.count_between(0, 10**9) == 0
    assert np.isnan(runs.at(np.full((2, 3), FIRST), np.full((2, 3), FIRST))).all()
    assert runs.at(np.full((2, 3), FIRST), np.full((2, 3), FIRST)).shape == (2, 3, 5)


def test_three_hourly_values_are_joined_by_straight_lines() -> None:
    run = weather_run(FIRST, [0.0, 3.0, 9.0], step_h=3)
    assert _at(WeatherRuns([run]), [0, 1, 2, 3, 4, 5, 6], 0) == [0, 1, 2, 3, 5, 7, 9]


def test_mean_over_an_interval_is_right_in_its_middle() -> None:
    # Means of 0, 300, 600 over hours 0-3, 3-6, 6-9, so right at 1.5, 4.5, 7.5; hour h stands for h + 0.5:
    # hour 1 is 0, hour 2 is 100, hour 4 is 300, hour 7 would be 600. Before the first middle its value holds.
    run = weather_run(FIRST, [[0.0] * 5, [300.0] * 5, [600.0] * 5], step_h=3)
    runs = WeatherRuns([run])
    for variable in (SUN, RAIN):
        assert _at(runs, [0, 1, 2, 3, 4, 5, 6], 0, variable) == [0, 0, 100, 200, 300, 400, 500]
    for variable in (WIND, WARMTH, DEW):
        assert _at(runs, [0, 1, 2, 3, 4, 5, 6], 0, variable) == [0, 100, 200, 300, 400, 500, 600]


def test_hourly_means_stay_in_their_hour() -> None:
    run = weather_run(FIRST, [[1.0] * 5, [2.0] * 5, [4.0] * 5])
    assert _at(WeatherRuns([run]), [0, 1, 2], 0, SUN) == [1, 2, 4]


def test_times_between_hours_are_read_at_whole_hours() -> None:
    # Wind 0 at 00:30, 2 at 02:30: 0.5 at 01, 1.5 at 02; the run has no other whole hour.
    runs = WeatherRuns([weather_run(FIRST, [0.0, 2.0], first=FIRST + 0.5, step_h=2)])
    assert _at(runs, [1, 2], 0) == [0.5, 1.5]


def test_run_of_one_time_holds() -> None:
    runs = WeatherRuns([weather_run(FIRST, [7.0], first=FIRST + 0.25)])
    assert _at(runs, [0, 1, 2, 30], 0) == [7, 7, 7, 7]


def test_run_without_times_is_left_out() -> None:
    empty = WeatherRun(FIRST * HOUR_S, np.empty(0, dtype=np.int64), np.empty((0, 5)))
    runs = WeatherRuns([weather_run(FIRST - 24, [3.0]), empty])
    assert len(runs) == 1
    assert _at(runs, [0], 0) == [3]


def test_gap_in_a_variable_is_bridged_and_a_variable_never_known_stays_unknown() -> None:
    table = np.tile(np.arange(5.0)[:, None], 5)
    table[1:3, WIND] = NAN
    table[:, DEW] = NAN
    runs = WeatherRuns([weather_run(FIRST, table)])
    assert _at(runs, [0, 1, 2, 3, 4], 0) == [0, 1, 2, 3, 4]
    assert np.isnan(_at(runs, [0, 3], 0, DEW)).all()


def test_beyond_its_end_a_run_repeats_its_last_day_and_before_its_begin_it_holds() -> None:
    runs = WeatherRuns([weather_run(FIRST, np.arange(30.0))])
    assert _at(runs, [29, 30, 31, 53, 54, 78], 0) == [29, 6, 7, 29, 6, 6]
    assert _at(runs, [-1, -50], 0) == [0, 0]


@pytest.mark.parametrize("length", [1, 10, 23, 24, 25, 40])
def test_what_a_run_says_does_not_depend_on_the_length_of_others(length: int) -> None:
    run = weather_run(FIRST, np.arange(float(length)))
    hours = list(range(-5, 100))
    alone = _at(WeatherRuns([run]), hours, 0)
    for other in (3, 35, 96):
        later = weather_run(FIRST + 24, np.full(other, 50.0))
        assert _at(WeatherRuns([run, later]), hours, 0) == alone


def test_newest_run_known_is_read_and_none_before_its_hour() -> None:
    # The second is out at 06:10, known from the whole hour 07 on.
    first, second = weather_run(FIRST, [1.0] * 48), weather_run(FIRST + 6 + 1 / 6, [2.0] * 48)
    runs = WeatherRuns([second, first])
    assert np.isnan(_at(runs, [0, 10], -1)).all()
    assert [_at(runs, [10], by) for by in (0, 6, 7, 100)] == [[1], [1], [2], [2]]
    assert [runs.newest_hour(FIRST + by) for by in (-1, 0, 6, 7)] == [
        None,
        FIRST,
        FIRST,
        FIRST + 7,
    ]


def test_of_two_runs_issued_together_the_last_counts() -> None:
    runs = WeatherRuns([weather_run(FIRST, [1.0]), weather_run(FIRST, [2.0])])
    assert len(runs) == 1
    assert _at(runs, [0], 0) == [2]


def test_runs_are_counted_in_half_open_hours() -> None:
    runs = WeatherRuns([weather_run(FIRST + day * 24, [1.0]) for day in range(5)])
    assert runs.count_between(FIRST, FIRST + 96) == 4
    assert runs.count_between(FIRST + 1, FIRST + 97) == 4


class _Slow:
    """Runs as plain dictionaries, read hour by hour."""

    def __init__(self, runs: list[WeatherRun]) -> None:
        self._runs = runs

    def at(self, hour: int, now: int) -> np.ndarray:
        known = [run for run in self._runs if run.issued_s <= now * HOUR_S]
        if not known:
            return np.full(5, NAN)
        run = max(known, key=lambda one: one.issued_s)
        first = int(run.times_s[0]) // HOUR_S
        last = first + len(run.times_s) - 1
        while hour > last:
            hour -= 24
        return run.values[max(hour, first) - first]

    def past(self, hour: int) -> np.ndarray:
        return self.at(hour, hour)

    def features(self, anchor: int, now: int, lead: int) -> list[float]:
        target = anchor + lead
        wind, sun, warmth, dew, rain = self.at(target, now)
        near = np.mean([self.at(target + apart, now) for apart in (-6, -3, 3, 6)], axis=0)
        past = np.array([self.past(anchor - 24 + lead % 24 - 24 * back) for back in range(7)])
        warm, was_warm = warmth - COMFORT_C, past[0, WARMTH] - COMFORT_C
        is_weekend = weekday_of(np.array(target)) >= 5
        return [
            *(wind, wind**2, wind**3, sun, sun**2, warmth, warm**2, warm**3, dew, rain),
            *(wind * sun, wind * warmth, sun * warmth, is_weekend * warmth, near[WIND], near[SUN]),
            *(past[0, WIND], past[0, WIND] ** 3, past[0, SUN], past[0, WARMTH], was_warm**2),
            *(past[0, DEW], past[1, WIND], past[:, WIND].mean(), (past[:, WIND] ** 3).mean()),
            *(past[:, SUN].mean(), past[:, WARMTH].mean()),
        ]


@pytest.mark.parametrize("day", [0, 1, 6])
def test_features_are_those_of_the_loops(day: int) -> None:
    generator = np.random.default_rng(4)
    made = [
        weather_run(FIRST + 24 * one, generator.uniform(0, 9, (length, 5)))
        for one, length in enumerate([96, 30, 96, 24, 60, 96, 48, 96, 96, 12, 96])
    ]
    runs, slow = WeatherRuns(made), _Slow(made)
    anchors = FIRST + np.array([-3, 5, 60, 9 * 24 + 7, 12 * 24])
    now = anchors + np.array([0, 3, 30, 0, 1])
    features = weather_features(runs, anchors, now, day)
    for row, (anchor, known_by) in enumerate(zip(anchors, now, strict=True)):
        for hour in range(24):
            expected = slow.features(int(anchor), int(known_by), 24 * day + hour)
            assert features[row, hour].tolist() == pytest.approx(expected, nan_ok=True)


def test_features_read_no_run_issued_later() -> None:
    generator = np.random.default_rng(4)
    made = [weather_run(FIRST + 6 * one, generator.uniform(0, 9, (30, 5))) for one in range(60)]
    anchors = np.array([FIRST + 10 * 24])
    known = WeatherRuns(run for run in made if run.issued_s <= anchors[0] * HOUR_S)
    np.testing.assert_array_equal(
        weather_features(WeatherRuns(made), anchors, anchors, 2),
        weather_features(known, anchors, anchors, 2),
    )
