"""Features of the past against explicit loops over single hours."""

import math

import numpy as np
import pytest

from scheduler.core.forecasting.features import N_LEVEL, history_features, weekday_of
from scheduler.core.forecasting.hourly import HourlySeries
from tests.unit.core.forecasting.builders import FIRST, NAN, hours, wave

SUNDAY = 2 * 24
"""Hours from `FIRST`, a Friday, to the first Sunday."""


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else NAN


def _slow(series: HourlySeries, anchor: int, lead: int) -> tuple[list[float], float]:
    """Features and base of one hour, written out; nothing at or after the anchor is ever read."""

    def log(hour: int) -> float:
        assert hour < anchor
        index = hour - series.first_hour
        inside = 0 <= index < len(series.g_per_kwh)
        return math.log(max(float(series.g_per_kwh[index]), 1.0)) if inside else NAN

    def between(begin_back: int, end_back: int) -> float:
        return _mean([log(anchor - back) for back in range(begin_back, end_back, -1)])

    target = anchor + lead
    weeks = 1
    while 168 * weeks <= 24 * (lead // 24):
        weeks += 1
    yesterday = anchor - 24 + lead % 24
    same_hour = [log(yesterday - 24 * back) for back in range(28)]
    four_weeks = _mean(same_hour)
    base = _mean(same_hour[:7])
    base = four_weeks if math.isnan(base) else base
    weekly = _mean([log(target - 168 * (weeks + back)) for back in range(4)]) - four_weeks
    neighbours = []
    for shift in (1, -1, 2, -2):
        hour = yesterday + shift
        neighbours.append(log(hour - 24 if hour >= anchor else hour) - base)
    weekday, last_weekday = (target // 24 + 3) % 7, (yesterday // 24 + 3) % 7
    angle = 2 * math.pi * target / (24 * 365.25)
    return [
        four_weeks - base,
        weekly,
        same_hour[0] - base,
        same_hour[1] - base,
        between(24, 0) - between(168, 0),
        between(72, 24) - between(168, 0),
        log(anchor - 1) - between(24, 0),
        between(3, 0) - between(27, 24),
        base,
        between(168, 0),
        between(6, 0) - between(30, 24),
        same_hour[2] - base,
        same_hour[5] - base,
        same_hour[6] - base,
        *neighbours,
        float(weekday >= 5),
        float(last_weekday >= 5),
        float(weekday == 0),
        float(weekday == 6),
        (weekday >= 5) * weekly,
        math.sin(angle),
        math.cos(angle),
    ], base


def _holed(n_hours: int) -> HourlySeries:
    values = np.array(wave(n_hours).g_per_kwh)
    generator = np.random.default_rng(3)
    values[generator.random(n_hours) < 0.2] = NAN
    values[40 * 24 : 49 * 24] = NAN
    values[7] = 0.0
    return hours(values)


@pytest.mark.parametrize("day", [0, 1, 5, 6, 7, 13, 14])
def test_features_are_those_of_the_loops(day: int) -> None:
    series = _holed(70 * 24)
    # Before the history, at its begin, inside, in and after the long gap, at its end, and after it.
    anchors = FIRST + np.array(
        [-30, 0, 5, 300, 41 * 24, 48 * 24 + 3, 49 * 24 + 1, 70 * 24, 71 * 24]
    )
    features, base = history_features(series, anchors, day)
    for row, anchor in enumerate(anchors):
        for hour in range(24):
            slow, slow_base = _slow(series, int(anchor), 24 * day + hour)
            assert base[row, hour] == pytest.approx(slow_base, nan_ok=True)
            assert features[row, hour].tolist() == pytest.approx(slow, abs=1e-9, nan_ok=True)


def test_what_lies_at_or_after_the_anchor_changes_nothing() -> None:
    series = wave(40 * 24)
    anchors = FIRST + np.array([20 * 24, 30 * 24 + 7])
    values = np.array(series.g_per_kwh)
    values[30 * 24 + 7 :] = 2999.0
    for day in range(15):
        truth, _ = history_features(series, anchors, day)
        made, _ = history_features(hours(values), anchors, day)
        np.testing.assert_array_equal(made, truth)


def test_constant_series_has_no_differences_of_levels() -> None:
    features, base = history_features(hours([250.0] * 24 * 40), np.array([FIRST + 24 * 40]), 3)
    np.testing.assert_allclose(base, np.log(250))
    np.testing.assert_allclose(features[..., :N_LEVEL], 0, atol=1e-9)


@pytest.mark.parametrize("series", [hours([]), hours([NAN] * 1000)])
def test_without_a_value_only_the_calendar_is_known(series: HourlySeries) -> None:
    features, base = history_features(series, np.array([FIRST + 1000]), 0)
    assert np.isnan(base).all()
    calendar = [18, 19, 20, 21, 23, 24]
    assert not np.isnan(features[..., calendar]).any()
    assert np.isnan(np.delete(features, calendar, axis=-1)).all()


def test_one_value_is_the_base_of_its_hour_alone() -> None:
    features, base = history_features(hours([math.e]), np.array([FIRST + 1]), 0)
    assert base[0].tolist() == pytest.approx([NAN] * 23 + [1.0], nan_ok=True)
    assert features[0, 23, :4].tolist() == pytest.approx([0.0, NAN, 0.0, NAN], nan_ok=True)


def test_base_is_that_of_four_weeks_after_a_gap_of_more_than_one() -> None:
    # 20 days of e, 8 of nothing, then one hour of e**3: only that hour has a value within 7 days.
    series = hours([math.e] * 480 + [NAN] * 192 + [math.e**3])
    _, base = history_features(series, np.array([series.anchor_hour]), 0)
    # The anchor is 01 UTC, so the known hour is the last of the 24.
    assert base[0].tolist() == pytest.approx([1.0] * 23 + [3.0])


def test_no_anchors_have_no_features() -> None:
    features, base = history_features(wave(100), np.empty(0, dtype=np.int64), 2)
    assert features.shape[:2] == base.shape == (0, 24)


def test_days_of_the_week_are_those_of_the_calendar() -> None:
    # 1 January 1970 was a Thursday, 1 January 2021 a Friday; the day changes at 00 UTC.
    asked = np.array([0, -1, FIRST, FIRST + SUNDAY - 1, FIRST + SUNDAY, FIRST + SUNDAY + 24])
    assert weekday_of(asked).tolist() == [3, 2, 4, 5, 6, 0]
