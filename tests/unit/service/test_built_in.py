"""The built-in forecast in the chain: where it comes, how it is marked, when it is made anew."""

import threading
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from structlog.testing import capture_logs

from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.errors import ForecastUnavailableError, StoreError
from scheduler.core.forecast import (
    ForecastMatrix,
    IntensitySeries,
    Provenance,
    Scope,
    SignalKind,
)
from scheduler.core.forecasting.features import N_LEVEL
from scheduler.core.forecasting.weather import VARIABLES, WeatherRun
from scheduler.core.timegrid import SlotGrid, Window
from scheduler.ports import SeriesKey, SourceInfo, WeatherInfo
from scheduler.service.built_in import BuiltIn
from scheduler.service.fetching import Source
from scheduler.service.forecaster import Forecaster, SourceStatus
from tests.fakes.clock import ManualClock
from tests.unit.service.test_fetching import Watched
from tests.unit.service.world import START, DailySource

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START_S = int(START.timestamp())
KIND = (SignalKind.AVERAGE, Scope.LIFECYCLE)
TYPICAL_G = 500.0


class PastOnly:
    """The history of a source that publishes no forecast."""

    def __init__(self, source: Watched) -> None:
        self._source = source

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        return self._source.fetch_actuals(zone_id, scope, window)


class AheadOnly:
    """The forecasts of a source without any history."""

    def __init__(self, source: Watched) -> None:
        self._source = source
        self.info = replace(source.info, history_s=0)

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        return self._source.fetch_forecast(zone_id, scope, window)


class Weather:
    """A run a day, all alike; can fail."""

    def __init__(self) -> None:
        self.info = WeatherInfo(
            name="weather", zone_ids=frozenset({"DE"}), cadence_s=3600, attribution="made up"
        )
        self.error: Exception | None = None
        self.asked: list[datetime] = []

    def fetch_runs(self, zone_id: str, since: datetime) -> tuple[WeatherRun, ...]:
        self.asked.append(since)
        if self.error is not None:
            raise self.error
        first = int(since.timestamp()) // 86_400 * 86_400
        return tuple(
            WeatherRun(
                at_s,
                at_s + np.arange(24 * 8, dtype=np.int64) * 3600,
                np.full((24 * 8, len(VARIABLES)), 5.0),
            )
            for at_s in range(first, first + 100 * 86_400, 86_400)
            if at_s <= START_S + 86_400
        )


class Site:
    """A forecaster with the built-in forecast, on a clock."""

    def __init__(
        self,
        *chain: Source,
        archive: SqliteIntensityArchive | None = None,
        clock: ManualClock | None = None,
        weather: Weather | None = None,
        days: int = 40,
    ) -> None:
        self.clock = clock or ManualClock(START)
        self.archive = archive or SqliteIntensityArchive(None)
        self.built_in = BuiltIn(
            archive=self.archive,
            clock=self.clock,
            level=np.zeros((24, N_LEVEL)),
            kind=KIND,
            weather={"DE": weather} if weather else {},
            history=timedelta(days=days),
        )
        self.forecaster = Forecaster(
            chains={"DE": list(chain)},
            scope=Scope.LIFECYCLE,
            clock=self.clock,
            max_age=6 * HOUR,
            archive=self.archive,
            built_in=self.built_in,
        )

    def refresh(self) -> bool:
        return self.forecaster.refresh(since=self.clock.now(), horizon=2 * DAY)

    def settle(self) -> None:
        """Fetches for ten minutes: all of the history is there."""
        for _ in range(10):
            self.refresh()
            self.clock.move(minutes=1)

    def matrix(self, hours: int = 24) -> ForecastMatrix:
        return self.forecaster.matrix(
            SlotGrid.around(self.clock.now(), slot_s=3600, horizon_s=hours * 3600)
        )

    @property
    def now(self) -> Provenance:
        """What plans of the coming hour rest on."""
        found = self.forecaster.serving("DE")
        assert found is not None
        return found

    @property
    def status(self) -> SourceStatus:
        return next(one for one in self.forecaster.statuses() if one.source.startswith("built-in"))

    def vintages(self) -> list[int]:
        found = self.archive.vintages(self.built_in.key("DE"), since_s=0)
        return [one.issued_s for one in found]


def typical() -> DailySource:
    return DailySource({"DE": [TYPICAL_G] * 24}, name="typical")


# --------------------------------------------------------------------------- order and marks


def test_built_in_goes_first_where_the_first_source_publishes_and_is_blended_with_it() -> None:
    site = Site(Watched(cadence_s=3600), typical())
    site.settle()
    assert site.now.source.startswith("built-in (ridge+published, history of live)")
    assert not site.now.is_fallback
    layers = [(one.source.split(" ")[0], one.is_fallback) for one in site.matrix().layers[0]]
    assert layers == [("built-in", False), ("live", False), ("typical", True)]


def test_source_that_is_down_leaves_the_built_in_then_the_typical_week_each_marked() -> None:
    live = Watched(cadence_s=1800)
    site = Site(live, typical())
    site.settle()
    live.fails = True
    site.clock.move(hours=5)
    site.refresh()
    assert (site.now.source.split(" ")[0], site.now.is_fallback) == ("built-in", False)
    assert "live" in [one.source for one in site.matrix().layers[0]]
    # Beyond the age limit its forecast is gone; the built-in goes on from history.
    site.clock.move(hours=2)
    site.refresh()
    assert (site.now.source.split(" ")[0], site.now.is_fallback) == ("built-in", True)
    assert "live" not in [one.source for one in site.matrix().layers[0]]
    # A week after the last value of the past there is nothing to go on from.
    site.clock.move(days=7)
    site.refresh()
    assert (site.now.source, site.now.is_fallback) == ("typical", True)
    assert "days of history that end" in (site.status.error or "")
    assert not site.status.is_usable
    live.fails = False
    site.clock.move(hours=1)
    site.settle()
    assert (site.now.source.split(" ")[0], site.now.is_fallback) == ("built-in", False)


def test_built_in_of_a_source_without_forecasts_is_no_fallback() -> None:
    site = Site(PastOnly(Watched(cadence_s=3600)), typical())
    site.settle()
    assert site.now.source.startswith("built-in (ridge, history of live)")
    assert not site.now.is_fallback
    assert [one.source.split(" ")[0] for one in site.matrix().layers[0]] == ["built-in", "typical"]


def test_second_source_serves_with_the_built_in_before_it_as_fallbacks() -> None:
    first, second = Watched(name="first"), Watched(name="second", cadence_s=3600)
    first.fails = True
    site = Site(first, second, typical())
    site.settle()
    assert site.now.source.startswith("built-in (ridge+published, history of second)")
    layers = [(one.source.split(" ")[0], one.is_fallback) for one in site.matrix().layers[0]]
    assert layers == [("built-in", True), ("second", True), ("typical", True)]


def test_built_in_on_the_history_of_another_source_than_the_first_is_a_fallback() -> None:
    first, second = Watched(name="first", cadence_s=900), Watched(name="second", cadence_s=3600)
    first.says["actuals"] = broken
    site = Site(first, second)
    site.settle()
    assert site.now.source.startswith("built-in (ridge+published, history of second)")
    assert site.now.is_fallback
    # The first is there, and is none.
    assert [one.is_fallback for one in site.matrix().layers[0]] == [True, False, True]


def broken(_: IntensitySeries) -> IntensitySeries:
    raise ForecastUnavailableError("no actual values today", source="first")


def test_history_that_ended_long_ago_gives_way_to_a_fresher_one() -> None:
    first, second = Watched(name="first", cadence_s=900), Watched(name="second", cadence_s=3600)
    site = Site(first, second)
    site.settle()
    assert "history of first" in site.now.source
    first.fails = True
    for _ in range(3):
        site.clock.move(days=1)
        site.refresh()
    assert "history of second" in site.now.source
    assert site.now.is_fallback


def test_without_any_history_the_sources_serve_alone_and_doctor_says_why() -> None:
    site = Site(AheadOnly(Watched()), typical())
    site.refresh()
    assert (site.now.source, site.now.is_fallback) == ("live", False)
    assert "no source has brought any history yet" in (site.status.error or "")
    assert not site.status.is_usable


def test_ingested_history_is_used_where_no_source_has_any() -> None:
    site = Site(AheadOnly(Watched()), typical())
    key = SeriesKey("ingested", "DE", *KIND)
    window = Window(START - 40 * DAY, START)
    past = Watched().fetch_actuals("DE", Scope.LIFECYCLE, window)
    site.archive.add_actuals(key, past, seen_s=START_S)
    for other in (replace(key, zone_id="FR"), replace(key, signal=SignalKind.MARGINAL)):
        site.archive.add_actuals(other, past, seen_s=START_S)
    site.refresh()
    assert "history of ingested" in site.now.source


def test_published_forecast_that_is_old_is_blended_less_than_a_fresh_one() -> None:
    def grams(hours_ago: int) -> float:
        live = Watched(cadence_s=3600)
        live.says["forecast"] = lambda one: replace(one, mg_per_kwh=one.mg_per_kwh * 2)
        site = Site(live, clock=ManualClock(START - hours_ago * HOUR))
        site.settle()
        live.says["forecast"] = broken
        site.clock.at = START
        site.refresh()
        series = site.built_in.series("DE")
        assert series is not None
        return float(series.mg_per_kwh[3]) / 1000

    fresh, stale, own = grams(0), grams(30), 300.0 + 100 * np.sin(3 * 2 * np.pi / 24)
    # It doubles what comes: the blend lies between, and the nearer the fresher it is.
    assert own * 1.02 < stale < fresh < own * 2


# ------------------------------------------------------------------------------ when it is made


def test_it_is_made_anew_with_the_hour_and_with_new_data_only() -> None:
    site = Site(Watched(cadence_s=1800), typical())
    site.settle()
    made, version = site.vintages(), site.forecaster.version
    assert not site.refresh()
    site.clock.move(minutes=2)
    assert not site.forecaster.remake(2 * DAY)
    assert (site.vintages(), site.forecaster.version) == (made, version)
    site.clock.move(minutes=20)
    assert site.refresh()
    assert len(site.vintages()) == len(made) + 1
    site.clock.at = START + HOUR
    assert site.forecaster.remake(2 * DAY)
    assert site.vintages()[len(made) + 1 :] == [START_S + 3600]
    assert site.forecaster.version > version


def test_every_forecast_is_kept_with_its_quantiles_as_it_served() -> None:
    site = Site(Watched(cadence_s=3600))
    site.settle()
    kept, served = (
        site.archive.vintages(site.built_in.key("DE"), since_s=0)[-1].series,
        site.built_in.series("DE"),
    )
    assert served is not None
    assert kept.mg_per_kwh.tolist() == served.mg_per_kwh.tolist()
    assert kept.provenance == served.provenance
    assert kept.low_mg is not None
    assert kept.high_mg is not None
    assert (kept.low_mg <= kept.mg_per_kwh).all()
    assert (kept.high_mg >= kept.mg_per_kwh).all()


def test_models_learn_anew_when_more_history_has_come() -> None:
    site = Site(Watched(cadence_s=3600), days=100)
    site.refresh()
    assert "(level+published" in site.now.source
    for _ in range(6):
        site.clock.move(minutes=1)
        site.refresh()
    assert "(ridge+published" in site.now.source


def test_restart_serves_the_last_forecasts_at_once() -> None:
    live = Watched(cadence_s=3600)
    site = Site(live, typical())
    site.settle()
    before = site.matrix()
    live.fails = True
    again = Site(live, typical(), archive=site.archive, clock=site.clock)
    assert again.matrix().mg_per_kwh.tolist() == before.mg_per_kwh.tolist()
    assert again.matrix().layers == before.layers
    site.clock.move(hours=7)
    late = Site(live, typical(), archive=site.archive, clock=site.clock)
    assert late.now.source == "typical"


def test_forecast_that_cannot_be_made_anew_serves_until_it_is_too_old() -> None:
    class Failing(SqliteIntensityArchive):
        is_failing = False

        def runs(self, zone_id: str, *, since_s: int) -> list[WeatherRun]:
            if self.is_failing:
                raise StoreError("the disk is gone")
            return super().runs(zone_id, since_s=since_s)

    archive = Failing(None)
    site = Site(PastOnly(Watched(cadence_s=86_400)), typical(), archive=archive, weather=Weather())
    site.settle()
    archive.is_failing = True
    site.clock.move(hours=3)
    with capture_logs() as logs:
        assert not site.refresh()
    assert [log["event"] for log in logs] == ["forecast_broke"]
    assert site.now.source.startswith("built-in")
    assert "StoreError" in (site.status.error or "")
    assert site.status.is_usable
    site.clock.move(hours=4)
    assert site.now.source == "typical"
    assert not site.status.is_usable


def test_plans_do_not_wait_while_forecasts_are_made() -> None:
    class Slow(SqliteIntensityArchive):
        reached, may_go_on = threading.Event(), threading.Event()

        def known_series(self) -> list[SeriesKey]:
            self.reached.set()
            assert self.may_go_on.wait(10)
            return super().known_series()

    live = Watched()
    site = Site(live, typical(), archive=Slow(None))
    making = threading.Thread(target=site.refresh)
    making.start()
    try:
        assert Slow.reached.wait(10)
        # The forecast that was fetched serves already, before any of our own is made.
        assert site.matrix().layers[0][0].source == "live"
        assert site.forecaster.version > 0
        assert making.is_alive()
    finally:
        Slow.may_go_on.set()
        making.join()


# ------------------------------------------------------------------------------------- weather


def test_weather_that_came_makes_the_forecast_anew() -> None:
    weather = Weather()
    site = Site(Watched(cadence_s=3600), weather=weather, days=100)
    site.settle()
    assert "weather" not in site.now.source
    assert site.forecaster.refresh_weather()
    assert weather.asked == [site.clock.now() - 100 * DAY]
    assert site.forecaster.remake(2 * DAY)
    assert "ridge+weather+published" in site.now.source
    assert not site.forecaster.refresh_weather()
    site.clock.move(hours=6)
    assert site.forecaster.refresh_weather()
    assert weather.asked[1] == site.clock.now()


@pytest.mark.parametrize(
    "error", [ForecastUnavailableError("weather is down"), KeyError("wind")], ids=["down", "bug"]
)
def test_weather_that_fails_leaves_the_forecast_and_is_left_alone_for_longer(
    error: Exception,
) -> None:
    weather = Weather()
    weather.error = error
    site = Site(Watched(cadence_s=3600), weather=weather)
    site.settle()
    with capture_logs() as logs:
        for _ in range(4):
            assert not site.forecaster.refresh_weather()
            site.clock.move(minutes=5)
    # At 0, 5 and 15 minutes.
    assert [log["event"] for log in logs] == ["weather_fetch_failed"] * 3
    assert site.now.source.startswith("built-in (ridge+published")
    assert (site.status.error or "").startswith("without new weather: ")
    assert site.status.is_usable
    weather.error = None
    site.clock.move(hours=1)
    assert site.forecaster.refresh_weather()
    assert site.status.error is None


def test_without_weather_none_is_fetched() -> None:
    assert not Site(Watched()).forecaster.refresh_weather()


# --------------------------------------------------------------------------- scores and tidiness


def test_scores_of_our_own_and_published_forecasts_once_the_truth_is_known() -> None:
    live = Watched(cadence_s=3600)
    site = Site(live, typical())
    assert site.forecaster.scores("DE") == {}
    site.settle()
    site.clock.move(days=1)
    site.settle()
    scores = site.forecaster.scores("DE")
    assert set(scores) == {"built-in", "live"}
    # The source says what comes.
    assert scores["live"].mape[0] == pytest.approx(0.0, abs=1e-3)
    assert scores["built-in"].coverage is not None


def test_once_a_day_what_is_too_old_is_dropped() -> None:
    forgotten: list[tuple[int, int]] = []

    class Noting(SqliteIntensityArchive):
        def forget(self, *, vintages_before_s: int, actuals_before_s: int) -> None:
            forgotten.append((vintages_before_s, actuals_before_s))

    site = Site(typical(), archive=Noting(None))
    for _ in range(4):
        site.forecaster.tidy()
        site.clock.move(hours=13)
    day_s = 86_400
    assert forgotten == [
        (at_s - 90 * day_s, at_s - 3 * 366 * day_s) for at_s in (START_S, START_S + 26 * 3600)
    ]


def test_forecast_from_a_clock_that_ran_ahead_serves_nobody() -> None:
    live = Watched()
    site = Site(live, typical(), clock=ManualClock(START + 400 * DAY))
    site.refresh()
    site.clock.at = START
    assert site.now.source == "typical"
    assert [one.is_usable for one in site.forecaster.statuses()] == [False, True, False]
    again = Site(live, typical(), archive=site.archive, clock=site.clock)
    assert again.now.source == "typical"
    again.refresh()
    assert again.now.source != "typical"


def test_actual_values_alone_do_not_make_an_old_forecast_look_fresh() -> None:
    live = Watched(cadence_s=1800)
    site = Site(live, typical())
    site.settle()
    live.says["forecast"] = broken
    for _ in range(8):
        site.clock.move(hours=1)
        site.refresh()
    (status, *_) = site.forecaster.statuses()
    assert status.error == "no actual values today"
    assert not status.is_usable
    assert status.age_s is not None
    assert status.age_s > 8 * 3600 - 1
