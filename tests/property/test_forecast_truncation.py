"""A forecast knows nothing that came after it was issued: not by data, and not by models kept from other issues."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scheduler.core.forecasting.hourly import HOUR_S, HourlySeries
from scheduler.core.forecasting.model import HourlyForecast, Known
from scheduler.core.forecasting.vintages import Vintage, Vintages
from scheduler.core.forecasting.weather import WeatherRun, WeatherRuns
from scheduler.core.forecasting.zone_forecaster import ZoneForecaster
from tests.unit.core.forecasting.builders import (
    FIRST,
    NAN,
    level_table,
    vintage,
    wave,
    weather_run,
)

DAYS = 190
EARLIEST, LATEST = FIRST + 150 * 24, FIRST + 175 * 24
LEVEL = level_table(4)


@dataclass(frozen=True)
class World:
    """Everything about a zone, known or still to come."""

    history: HourlySeries
    runs: tuple[WeatherRun, ...]
    vintages: tuple[Vintage, ...]

    def known(self) -> Known:
        weather = WeatherRuns(self.runs) if self.runs else None
        published = Vintages(self.vintages) if self.vintages else None
        return Known(self.history, LEVEL, weather, published)

    def cut(self, hour: int) -> "World":
        """Without all that came after the hour."""
        return World(
            self.history.until(hour),
            tuple(run for run in self.runs if run.issued_s <= hour * HOUR_S),
            tuple(one for one in self.vintages if one.issued_s <= hour * HOUR_S),
        )

    def spoilt(self, hour: int, seed: int) -> "World":
        """With garbage instead of all that came after the hour."""
        generator = np.random.default_rng(seed)
        grams = np.array(self.history.g_per_kwh)
        after = len(grams[hour - self.history.first_hour :])
        garbage = generator.uniform(0, 3000, after)
        garbage[generator.random(after) < 0.3] = NAN
        grams[hour - self.history.first_hour :] = garbage
        kept = self.cut(hour)
        issues = hour + np.cumsum(generator.integers(1, 20, 10)) - 0.5
        runs = [
            weather_run(issued, generator.normal(0, 1e4, (generator.integers(1, 300), 5)))
            for issued in issues
        ]
        vintages = [
            vintage(issued, generator.uniform(0, 3000, generator.integers(1, 300)), hour - 30)
            for issued in issues
        ]
        return World(
            HourlySeries(self.history.first_hour, grams),
            (*runs, *kept.runs),
            (*vintages, *kept.vintages),
        )


@cache
def _world(days_back: int, *, has_weather: bool, has_published: bool) -> World:
    """History from so many days before the earliest issue, with gaps; runs and vintages of uneven length."""
    generator = np.random.default_rng(11)
    whole = np.array(wave(DAYS * 24).g_per_kwh)
    whole[generator.random(len(whole)) < 0.02] = NAN
    for begin in generator.integers(0, len(whole), 20):
        whole[begin : begin + generator.integers(2, 30)] = NAN
    issues = [FIRST + 24 * day + float(generator.uniform(-3, 3)) for day in range(DAYS)]
    runs = [
        weather_run(issued, generator.uniform(0, 9, (generator.integers(5, 120), 5)))
        for issued in issues
    ]
    vintages = [
        vintage(issued, generator.uniform(200, 400, generator.integers(5, 100)), int(issued) + 1)
        for issued in issues
    ]
    return World(
        HourlySeries(FIRST, whole).since(EARLIEST - 24 * days_back),
        tuple(runs) if has_weather else (),
        tuple(vintages) if has_published else (),
    )


worlds = st.builds(
    _world,
    st.sampled_from([2, 20, 45, 150]),
    has_weather=st.booleans(),
    has_published=st.booleans(),
)


def _forecast(world: World, hour: int, n_hours: int) -> HourlyForecast:
    return ZoneForecaster("DE", world.known()).forecast(hour, n_hours)


def _same(one: HourlyForecast, other: HourlyForecast) -> None:
    assert (one.first_hour, one.method) == (other.first_hour, other.method)
    assert one.logs.tobytes() == other.logs.tobytes()
    assert one.errors.tobytes() == other.errors.tobytes()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    world=worlds,
    hour=st.integers(EARLIEST, LATEST),
    n_hours=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_comes_after_the_issue_changes_nothing(
    world: World, hour: int, n_hours: int, seed: int
) -> None:
    made = _forecast(world, hour, n_hours)
    _same(made, _forecast(world.cut(hour), hour, n_hours))
    _same(made, _forecast(world.spoilt(hour, seed), hour, n_hours))


issue_lists = st.lists(
    st.integers(EARLIEST // 8, LATEST // 8).map(lambda third: 8 * third),
    min_size=2,
    max_size=4,
    unique=True,
)
"""At three hours of the day, so that models are kept, outdated, and too new."""


@settings(max_examples=25, deadline=None, derandomize=True)
@given(world=worlds, issues=issue_lists, n_hours=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
def test_models_kept_from_earlier_issues_know_nothing_of_later_ones(
    world: World, issues: list[int], n_hours: int, seed: int
) -> None:
    issues.sort()
    others = [world.cut(issues[-1]), world.spoilt(issues[-1], seed)]
    forecasters = [ZoneForecaster("DE", one.known()) for one in (world, *others)]
    for hour in issues:
        made, *again = [one.forecast(hour, n_hours) for one in forecasters]
        for other in again:
            _same(made, other)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(world=worlds, issues=issue_lists, n_hours=st.integers(1, 50))
def test_models_fitted_later_do_not_serve_earlier_issues(
    world: World, issues: list[int], n_hours: int
) -> None:
    anchors = {hour: world.history.until(hour).anchor_hour for hour in issues}
    assume(len(set(anchors.values())) == len(issues))
    forecaster = ZoneForecaster("DE", world.known())
    for hour in sorted(issues, reverse=True):
        _same(forecaster.forecast(hour, n_hours), _forecast(world.cut(hour), hour, n_hours))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    world=worlds,
    hour=st.integers(EARLIEST, LATEST - 13 * 24),
    days=st.integers(1, 13),
    n_hours=st.integers(1, 50),
)
def test_forecast_does_not_depend_on_those_made_before_it(
    world: World, hour: int, days: int, n_hours: int
) -> None:
    later = hour + 24 * days
    forecaster = ZoneForecaster("DE", world.known())
    forecaster.forecast(hour, n_hours)
    second = forecaster.forecast(later, n_hours)
    expected = ZoneForecaster("DE", world.cut(later).known()).forecast(later, n_hours)
    assert second.method == expected.method
    assert second.logs.tobytes() == expected.logs.tobytes()
    assert second.errors.tobytes() == expected.errors.tobytes()
