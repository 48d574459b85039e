"""Sources in order, their age, and what is recorded when the first cannot serve."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from adapters.grid.national_grid_gb import NationalGridGB
from adapters.grid.typical_week import TypicalWeek
from adapters.http_client import HttpClient, Limits
from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.errors import ForecastRejectedError, InvalidInputError
from scheduler.core.forecast import ForecastMatrix, IntensitySeries, Provenance, Quality, Scope
from scheduler.core.timegrid import SlotGrid, Window
from scheduler.ports import SourceInfo
from scheduler.service.fetching import Source
from scheduler.service.forecaster import Forecaster
from tests.fakes.clock import ManualClock
from tests.fakes.loopback_http import json_reply
from tests.fakes.national_grid_gb import FakeNationalGridGB
from tests.unit.service.world import START, DailySource

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MAX_AGE = 6 * HOUR
LIVE_G, TYPICAL_G = 100.0, 400.0


class Live(DailySource):
    """A live source whose actuals are 10 g below its forecast and can fail on their own."""

    def __init__(self, grams: float = LIVE_G, *, name: str = "live", zone: str = "DE") -> None:
        super().__init__({zone: [grams] * 24}, name=name, is_live=True)
        self.has_actuals = True
        self.asked: list[tuple[str, Window]] = []

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        self.asked.append(("forecast", window))
        return super().fetch_forecast(zone_id, scope, window)

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        self.asked.append(("actuals", window))
        if not self.has_actuals:
            raise ForecastRejectedError("actuals are absurd", source=self.info.name)
        forecast = self.day_g
        self.day_g = {zone: [one - 10 for one in grams] for zone, grams in forecast.items()}
        try:
            return super().fetch_actuals(zone_id, scope, window)
        finally:
            self.day_g = forecast


class ForecastOnly:
    def __init__(self, source: DailySource) -> None:
        self._source = source

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        return self._source.fetch_forecast(zone_id, scope, window)


class HistoryOnly:
    def __init__(self, source: DailySource) -> None:
        self._source = source

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        return self._source.fetch_actuals(zone_id, scope, window)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def live() -> Live:
    return Live()


@pytest.fixture
def typical() -> DailySource:
    return DailySource({"DE": [TYPICAL_G] * 24, "FR": [TYPICAL_G] * 24}, name="typical")


@pytest.fixture
def forecaster(clock: ManualClock, live: Live, typical: DailySource) -> Forecaster:
    return make(clock, [live, typical])


def make(clock: ManualClock, *chain: list[Source], zones: tuple[str, ...] = ("DE",)) -> Forecaster:
    return Forecaster(
        chains=dict(zip(zones, chain, strict=True)),
        scope=Scope.LIFECYCLE,
        clock=clock,
        max_age=MAX_AGE,
        archive=SqliteIntensityArchive(None),
    )


def refresh(forecaster: Forecaster, clock: ManualClock, *, horizon: timedelta = 2 * DAY) -> bool:
    return forecaster.refresh(since=clock.now(), horizon=horizon)


def plan(forecaster: Forecaster, clock: ManualClock, *, hours: int = 24) -> ForecastMatrix:
    grid = SlotGrid.around(clock.now(), slot_s=3600, horizon_s=hours * 3600)
    return forecaster.matrix(grid)


def grams(matrix: ForecastMatrix, zone: str = "DE") -> set[float]:
    return {int(mg) / 1000 for mg in matrix.mg_per_kwh[matrix.zone(zone)]}


def origin(matrix: ForecastMatrix, zone: str = "DE", hours: int = 24) -> Provenance:
    at = matrix.grid.origin_at
    found = matrix.provenance(zone, Window(at, at + hours * HOUR))
    assert found is not None
    return found


# -------------------------------------------------------------------------------- order


def test_first_source_serves_and_is_no_fallback(forecaster: Forecaster, clock: ManualClock) -> None:
    assert refresh(forecaster, clock)
    matrix = plan(forecaster, clock)
    assert grams(matrix) == {LIVE_G}
    assert (origin(matrix).source, origin(matrix).is_fallback) == ("live", False)


def test_next_source_fills_in_before_the_first_was_fetched_and_is_marked(
    forecaster: Forecaster, clock: ManualClock
) -> None:
    matrix = plan(forecaster, clock)
    assert grams(matrix) == {TYPICAL_G}
    assert (origin(matrix).source, origin(matrix).is_fallback) == ("typical", True)


def test_next_source_fills_in_beyond_the_horizon_of_the_first_slot_by_slot(
    forecaster: Forecaster, clock: ManualClock
) -> None:
    refresh(forecaster, clock, horizon=10 * HOUR)
    matrix = plan(forecaster, clock)
    assert matrix.mg_per_kwh[0].tolist() == [100_000] * 10 + [400_000] * 14
    assert matrix.layer[0].tolist() == [0] * 10 + [1] * 14
    assert not origin(matrix, hours=10).is_fallback
    assert (origin(matrix, hours=11).source, origin(matrix, hours=11).is_fallback) == (
        "typical",
        True,
    )


def test_order_is_the_configured_one_not_the_better_number(
    clock: ManualClock, live: Live, typical: DailySource
) -> None:
    forecaster = make(clock, [typical, live])
    refresh(forecaster, clock)
    matrix = plan(forecaster, clock)
    assert grams(matrix) == {TYPICAL_G}
    assert not origin(matrix).is_fallback


def test_third_source_serves_when_the_first_two_cannot(
    clock: ManualClock, live: Live, typical: DailySource
) -> None:
    mirror = Live(150.0, name="mirror")
    live.fails = mirror.fails = True
    forecaster = make(clock, [live, mirror, typical])
    refresh(forecaster, clock)
    assert origin(plan(forecaster, clock)).source == "typical"
    mirror.fails = False
    clock.move(minutes=5)
    refresh(forecaster, clock)
    assert (origin(plan(forecaster, clock)).source, grams(plan(forecaster, clock))) == (
        "mirror",
        {150.0},
    )
    assert origin(plan(forecaster, clock)).is_fallback


def test_two_sources_of_one_name_are_kept_apart(clock: ManualClock, live: Live) -> None:
    mirror = Live(150.0, name="live")
    live.fails = True
    forecaster = make(clock, [live, mirror])
    assert refresh(forecaster, clock)
    matrix = plan(forecaster, clock)
    assert grams(matrix) == {150.0}
    assert origin(matrix).is_fallback
    assert [status.is_usable for status in forecaster.statuses()] == [False, True]


def test_zones_fail_apart(clock: ManualClock, live: Live) -> None:
    other = Live(50.0, name="other", zone="FR")
    live.fails = True
    forecaster = make(clock, [live], [other], zones=("DE", "FR"))
    assert refresh(forecaster, clock)
    matrix = plan(forecaster, clock)
    assert grams(matrix, "FR") == {50.0}
    assert set(matrix.layer[matrix.zone("DE")].tolist()) == {-1}


def test_nothing_at_all_leaves_slots_uncovered_never_zero_carbon(
    clock: ManualClock, live: Live, typical: DailySource
) -> None:
    live.fails = typical.fails = True
    forecaster = make(clock, [live, typical])
    with capture_logs() as logs:
        assert not refresh(forecaster, clock)
        matrix = plan(forecaster, clock)
    assert set(matrix.layer[0].tolist()) == {-1}
    assert matrix.provenance("DE", Window(START, START + HOUR)) is None
    assert [(log["event"], log["source"], log["log_level"]) for log in logs] == [
        ("forecast_fetch_failed", "live", "warning"),
        ("forecast_missing", "typical", "warning"),
    ]


def test_sources_of_two_scopes_are_never_mixed(clock: ManualClock, typical: DailySource) -> None:
    class Direct(DailySource):
        def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
            return TypicalWeek().fetch_forecast(zone_id, Scope.DIRECT, window)

    forecaster = make(clock, [Direct({"DE": [1.0] * 24}), typical])
    with pytest.raises(InvalidInputError, match="cannot be mixed in one plan"):
        plan(forecaster, clock)


# ------------------------------------------------------------------------ cache and age


def test_source_is_asked_once_a_cadence_for_now_until_the_horizon(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    assert refresh(forecaster, clock)
    clock.move(seconds=1799)
    assert not refresh(forecaster, clock)
    assert live.asked == [("forecast", Window(START, START + 2 * DAY))]
    clock.move(seconds=1)
    assert refresh(forecaster, clock)
    assert live.asked[1:] == [("forecast", Window(clock.now(), clock.now() + 2 * DAY))]


def test_plans_and_reads_ask_no_live_source(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    for _ in range(3):
        plan(forecaster, clock)
        forecaster.read("DE", Window(START - HOUR, START))
        forecaster.series("DE", Window(START - HOUR, START))
        forecaster.statuses()
        clock.move(hours=5)
    assert live.asked == []


def test_refresh_asks_only_live_sources(
    forecaster: Forecaster, clock: ManualClock, typical: DailySource
) -> None:
    refresh(forecaster, clock)
    assert typical.fetches == 0


def test_matrix_is_built_once_until_grid_data_or_freshness_change(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    refresh(forecaster, clock)
    first = plan(forecaster, clock)
    assert plan(forecaster, clock) is first
    assert plan(forecaster, clock, hours=12) is not first
    live.day_g = {"DE": [70.0] * 24}
    clock.move(minutes=30)
    refresh(forecaster, clock)
    assert grams(forecaster.matrix(first.grid)) == {70.0}
    clock.move(hours=7)
    assert grams(forecaster.matrix(first.grid)) == {TYPICAL_G}


def test_version_rises_with_new_data_only(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    before = forecaster.version
    refresh(forecaster, clock)
    after = forecaster.version
    assert after > before
    refresh(forecaster, clock)
    clock.move(minutes=30)
    live.fails = True
    assert not refresh(forecaster, clock)
    assert forecaster.version == after


def test_stale_forecast_serves_while_its_source_is_down_until_it_is_too_old(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    refresh(forecaster, clock)
    live.fails = True
    clock.move(hours=6)
    assert not refresh(forecaster, clock)
    assert (grams(plan(forecaster, clock)), origin(plan(forecaster, clock)).is_fallback) == (
        {LIVE_G},
        False,
    )
    clock.move(seconds=1)
    matrix = plan(forecaster, clock)
    assert (grams(matrix), origin(matrix).source, origin(matrix).is_fallback) == (
        {TYPICAL_G},
        "typical",
        True,
    )


def test_source_that_comes_back_is_first_again(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    live.fails = True
    refresh(forecaster, clock)
    assert grams(plan(forecaster, clock)) == {TYPICAL_G}
    live.fails = False
    clock.move(minutes=5)
    assert refresh(forecaster, clock)
    assert grams(plan(forecaster, clock)) == {LIVE_G}
    assert not origin(plan(forecaster, clock)).is_fallback


def test_failed_source_is_tried_again_after_five_minutes_not_before(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    live.fails = True
    refresh(forecaster, clock)
    clock.move(seconds=299)
    refresh(forecaster, clock)
    assert len(live.asked) == 1
    clock.move(seconds=1)
    refresh(forecaster, clock)
    assert len(live.asked) == 2


def test_forecast_that_came_before_its_actuals_failed_is_used(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    refresh(forecaster, clock)
    first = plan(forecaster, clock)
    live.has_actuals = False
    live.day_g = {"DE": [70.0] * 24}
    clock.move(minutes=30)
    assert forecaster.refresh(since=START, horizon=2 * DAY)
    assert grams(forecaster.matrix(first.grid)) == {70.0}
    (status, _) = forecaster.statuses()
    assert (status.error, status.is_usable) == ("actuals are absurd", True)


# --------------------------------------------------------------------------- statuses


def test_statuses_tell_age_error_and_use_of_each_source(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    first, second = forecaster.statuses()
    assert (first.source, first.is_live, first.is_usable) == ("live", True, False)
    assert (first.fetched_at, first.age_s, first.error) == (None, None, None)
    assert (second.source, second.is_live, second.is_usable) == ("typical", False, True)
    refresh(forecaster, clock)
    live.fails = True
    clock.move(hours=1)
    refresh(forecaster, clock)
    held = forecaster.statuses()[0]
    assert (held.fetched_at, held.age_s, held.error) == (START, 3600, "live is down")
    assert held.is_usable
    clock.move(hours=5, seconds=1)
    assert not forecaster.statuses()[0].is_usable
    live.fails = False
    refresh(forecaster, clock)
    assert (forecaster.statuses()[0].error, forecaster.statuses()[0].age_s) == (None, 0)


def test_infos_are_those_of_the_chain_in_order(
    forecaster: Forecaster, live: Live, typical: DailySource
) -> None:
    assert forecaster.infos == {"DE": [live.info, typical.info]}


# -------------------------------------------------------------------------------- past


PAST = Window(START, START + 2 * HOUR)
PAST_S = 7200


def test_past_is_read_from_actuals_before_the_forecast(
    forecaster: Forecaster, clock: ManualClock
) -> None:
    refresh(forecaster, clock)
    forecast = forecaster.read("DE", PAST)
    assert forecast is not None
    assert (forecast.integral_mg_s, forecast.provenance.quality) == (
        LIVE_G * 1000 * PAST_S,
        Quality.FORECAST,
    )
    clock.move(hours=2, minutes=30)
    forecaster.refresh(since=START, horizon=2 * DAY)
    # The hour that is running is covered by the new forecast too.
    for window in (PAST, Window(START + 2 * HOUR, clock.now())):
        actual = forecaster.read("DE", window)
        assert actual is not None
        assert (actual.integral_mg_s, actual.provenance.quality) == (
            (LIVE_G - 10) * 1000 * window.duration_s,
            Quality.MEASURED,
        )
        assert not actual.provenance.is_fallback


def test_actuals_are_asked_for_only_where_an_account_needs_them(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    refresh(forecaster, clock)
    clock.move(hours=2)
    forecaster.refresh(since=START, horizon=2 * DAY)
    assert [kind for kind, _ in live.asked] == ["forecast", "forecast", "actuals"]
    assert live.asked[-1][1] == Window(START, START + 2 * HOUR)


def test_past_that_the_first_does_not_know_in_full_is_read_from_the_next_and_marked(
    forecaster: Forecaster, clock: ManualClock
) -> None:
    refresh(forecaster, clock)
    reading = forecaster.read("DE", Window(START - HOUR, START + HOUR))
    assert reading is not None
    assert (reading.integral_mg_s, reading.provenance.source, reading.provenance.is_fallback) == (
        TYPICAL_G * 1000 * PAST_S,
        "typical",
        True,
    )


def test_past_stays_readable_from_a_source_that_has_gone_down(
    forecaster: Forecaster, clock: ManualClock, live: Live
) -> None:
    refresh(forecaster, clock)
    live.fails = True
    clock.move(hours=12)
    refresh(forecaster, clock)
    reading = forecaster.read("DE", PAST)
    assert reading is not None
    assert (reading.provenance.source, reading.provenance.is_fallback) == ("live", False)


def test_past_that_nobody_knows_is_none_and_never_zero(
    clock: ManualClock, live: Live, typical: DailySource
) -> None:
    live.fails = typical.fails = True
    forecaster = make(clock, [live, typical])
    assert forecaster.read("DE", PAST) is None
    assert forecaster.read("XX", PAST) is None
    assert forecaster.series("DE", PAST) is None
    assert forecaster.series("XX", PAST) is None


def test_source_without_forecasts_serves_the_past_only(
    clock: ManualClock, typical: DailySource
) -> None:
    measured = HistoryOnly(DailySource({"DE": [90.0] * 24}, name="measured"))
    forecaster = make(clock, [measured, typical])
    reading = forecaster.read("DE", PAST)
    assert reading is not None
    assert reading.provenance.source == "measured"
    assert grams(plan(forecaster, clock)) == {TYPICAL_G}


def test_source_without_history_serves_the_future_only(
    clock: ManualClock, typical: DailySource
) -> None:
    forecaster = make(clock, [ForecastOnly(DailySource({"DE": [90.0] * 24})), typical])
    assert grams(plan(forecaster, clock)) == {90.0}
    reading = forecaster.read("DE", PAST)
    assert reading is not None
    assert (reading.provenance.source, reading.provenance.is_fallback) == ("typical", True)


def test_chart_shows_the_first_source_that_knows_any_of_it_and_marks_a_fallback(
    forecaster: Forecaster, clock: ManualClock
) -> None:
    fallback = forecaster.series("DE", PAST)
    assert fallback is not None
    assert (fallback.provenance.source, fallback.provenance.is_fallback) == ("typical", True)
    refresh(forecaster, clock)
    first = forecaster.series("DE", PAST)
    assert first is not None
    assert (first.provenance.source, first.provenance.is_fallback) == ("live", False)
    earlier = forecaster.series("DE", Window(START - DAY, START))
    assert earlier is not None
    assert earlier.provenance.source == "typical"


# --------------------------------------------------------------- with the real adapters

MONDAY = datetime(2026, 1, 19, 14, tzinfo=UTC)
Gb = tuple[FakeNationalGridGB, Forecaster, ManualClock]


@pytest.fixture
def gb() -> Iterator[Gb]:
    clock = ManualClock(MONDAY)
    with FakeNationalGridGB(MONDAY) as api:
        limits = Limits(attempts=1)
        http = HttpClient(api.url, limits=limits)
        forecaster = Forecaster(
            chains={"GB": [NationalGridGB(http), TypicalWeek()]},
            scope=Scope.DIRECT,
            clock=clock,
            max_age=MAX_AGE,
            archive=SqliteIntensityArchive(None),
        )
        yield api, forecaster, clock
        http.close()


def test_great_britain_is_live_for_47_hours_and_typical_after_that(gb: Gb) -> None:
    _, forecaster, clock = gb
    assert refresh(forecaster, clock, horizon=4 * DAY)
    matrix = plan(forecaster, clock, hours=96)
    assert matrix.layer[0].tolist() == [0] * 47 + [1] * 49
    # Monday 14:00 and 14:30 are 100 + 28 and 100 + 29.
    assert int(matrix.mg_per_kwh[0, 0]) == 128_500
    assert origin(matrix, "GB", 47).source == "national_grid_gb"
    assert origin(matrix, "GB", 48).source == "typical_week (typical, not measured)"
    assert origin(matrix, "GB", 48).is_fallback


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda api: api.misbehave(always=json_reply({}, status=503)), "answered 503"),
        (lambda api: api.serve_intensity(3, forecast=0), "cannot be true"),
        (lambda api: api.serve_intensity(3, forecast=9999), "cannot be true"),
        (lambda api: api.serve_changed(lambda data: []), "the reply is empty"),
    ],
)
def test_absurd_or_missing_answer_is_not_used_and_its_reason_is_shown(
    gb: Gb, fault: Callable[[FakeNationalGridGB], None], says: str
) -> None:
    api, forecaster, clock = gb
    fault(api)
    assert not refresh(forecaster, clock)
    matrix = plan(forecaster, clock)
    assert origin(matrix, "GB").is_fallback
    assert origin(matrix, "GB").quality is Quality.TYPICAL
    status = forecaster.statuses()[0]
    assert says in (status.error or "")
    assert not status.is_usable


def test_actuals_of_great_britain_replace_its_forecast_in_accounts(gb: Gb) -> None:
    api, forecaster, clock = gb
    refresh(forecaster, clock)
    clock.move(hours=2, seconds=5)
    api.now = clock.now()
    window = Window(MONDAY, MONDAY + HOUR)
    forecaster.refresh(since=MONDAY, horizon=DAY)
    reading = forecaster.read("GB", window)
    assert reading is not None
    assert reading.provenance.quality is Quality.ESTIMATED
    # 133 and 134 g/kWh for half an hour each.
    assert reading.integral_mg_s == (133_000 + 134_000) * 1800


def test_account_that_begins_this_very_moment_gets_no_error_from_great_britain(gb: Gb) -> None:
    _, forecaster, clock = gb
    clock.move(seconds=10)
    assert forecaster.refresh(since=MONDAY, horizon=DAY)
    assert forecaster.statuses()[0].error is None
    chart = forecaster.series("GB", Window(MONDAY, MONDAY + HOUR))
    assert chart is not None
    assert chart.provenance.quality is Quality.FORECAST
