"""The adapter of Energy-Charts: two kinds of values in one reply, and steps that the axis shows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from adapters.grid.energy_charts import ZONES, EnergyCharts, parse_co2eq
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.fakes.energy_charts import Columns, FakeEnergyCharts

# A Tuesday, 15:29 in Germany; the fake has 256 g/kWh at 14:00 UTC (56 quarters into the day).
NOW = datetime(2026, 1, 20, 14, 29, 30, tzinfo=UTC)
TWO = datetime(2026, 1, 20, 14, tzinfo=UTC)
HALF_PAST_ONE_S = 1768915800  # 2026-01-20T13:30:00Z
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
AHEAD = Window(NOW, NOW + 3 * DAY)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FakeEnergyCharts, EnergyCharts]]:
    with FakeEnergyCharts(NOW) as api:
        http = HttpClient(api.url, limits=Limits(attempts=1))
        yield api, EnergyCharts(http)
        http.close()


@pytest.fixture
def api(served: tuple[FakeEnergyCharts, EnergyCharts]) -> FakeEnergyCharts:
    served[0].misbehave()
    served[0].asked.clear()
    served[0].now = NOW
    return served[0]


@pytest.fixture
def source(api: FakeEnergyCharts, served: tuple[FakeEnergyCharts, EnergyCharts]) -> EnergyCharts:
    return served[1]


def forecast(source: EnergyCharts, zone_id: str = "DE", window: Window = AHEAD) -> IntensitySeries:
    return source.fetch_forecast(zone_id, Scope.LIFECYCLE, window)


def actuals(source: EnergyCharts, window: Window, zone_id: str = "DE") -> IntensitySeries:
    return source.fetch_actuals(zone_id, Scope.LIFECYCLE, window)


def starts(series: IntensitySeries) -> list[datetime]:
    return [datetime.fromtimestamp(int(at), UTC) for at in series.edges_s[:-1]]


def grams(series: IntensitySeries) -> list[float | None]:
    """At every quarter of an hour."""
    quarters = np.repeat(series.mg_per_kwh, np.diff(series.edges_s) // 900)
    return [None if mg == GAP_MG else int(mg) / 1000 for mg in quarters]


def queries(api: FakeEnergyCharts) -> list[dict[str, str]]:
    return [
        {name: values[0] for name, values in parse_qs(urlsplit(one.path).query).items()}
        for one in api.asked
    ]


# -------------------------------------------------------------------------------- parsing


def parsed(
    reported: list[float | None] | None,
    foreseen: list[float | None] | None,
    *,
    is_forecast: bool = True,
    axis: list[int] | None = None,
    until: timedelta = 2 * HOUR,
) -> IntensitySeries:
    """A reply in quarters of an hour from 13:30 on, asked for from 14:00 on."""
    n_points = len(foreseen or reported or [])
    body = {
        "unix_seconds": axis or [HALF_PAST_ONE_S + 900 * index for index in range(n_points)],
        "co2eq": reported,
        "co2eq_forecast": foreseen,
        "deprecated": True,
    }
    return parse_co2eq(body, "DE", Window(TWO, TWO + until), is_forecast=is_forecast)


def test_reported_and_forecast_values_are_kept_apart() -> None:
    reported = [491.5, 497.4, 502.6, None, None]
    foreseen = [None, None, None, 505.0, 508.25]
    # 14:00 is reported, so that its forecast is a gap, and the other way round.
    assert grams(parsed(reported, foreseen)) == [None, 505, 508.25]
    past = parsed(reported, foreseen, is_forecast=False)
    assert grams(past) == [502.6, None, None]
    assert starts(past)[0] == TWO
    assert past.provenance.quality is Quality.ESTIMATED
    assert parsed(reported, foreseen).provenance.quality is Quality.FORECAST


def test_overlapping_kinds_do_not_mix() -> None:
    assert grams(parsed([1, 1, 1, 1], [2, 2, 3, 4])) == [3, 4]


def test_zeros_and_negative_values_are_gaps() -> None:
    assert grams(parsed(None, [9, 9, 0, -1, 7])) == [None, None, 7]


@pytest.mark.parametrize(
    ("hours", "until", "expected"),
    [
        # An hour's value fills its four quarters; the one at 13:00 is before the window.
        ([0, 1, 2], 2, [20] * 4 + [30] * 4),
        # Hours, then quarters from 15:00 on.
        ([0, 1, 2, 2.25, 2.5], 2, [20] * 4 + [30, 40, 50]),
        # Quarters, then hours: where the step changes the nearer neighbour decides.
        ([0.5, 0.75, 1, 2, 3], 3, [30, None, None, None, *[40] * 4, *[50] * 4]),
        # Quarters with a hole from 14:15 to 15:00, which nothing fills.
        ([0.75, 1, 2, 2.25], 2, [20, None, None, None, 30, 40]),
        # Hours with a hole: 15:00 is missing.
        ([0, 1, 3, 4], 4, [20] * 4 + [None] * 4 + [30] * 4 + [40] * 4),
        # Two hours apart, yet no value holds for longer than an hour.
        ([-1, 1], 2, [20] * 4),
        # A single one tells nothing about its step: the shortest.
        ([1], 2, [10]),
    ],
)
def test_axis_shows_how_long_values_hold(
    hours: list[float], until: int, expected: list[float | None]
) -> None:
    one_s = HALF_PAST_ONE_S - 1800
    axis = [one_s + round(hour * 3600) for hour in hours]
    values: list[float | None] = [10.0 * (index + 1) for index in range(len(axis))]
    series = parsed(None, values, axis=axis, until=until * HOUR)
    assert starts(series)[0] == TWO
    assert grams(series) == expected


@pytest.mark.parametrize("is_forecast", [True, False])
def test_rows_in_any_order_and_twice_are_one_series(is_forecast: bool) -> None:
    axis = [HALF_PAST_ONE_S + 900 * index for index in (4, 2, 3, 3, 1)]
    values: list[float | None] = [4, 2, 3, 3, 1]
    series = parsed(values, values, axis=axis, is_forecast=is_forecast)
    assert grams(series) == [2, 3, 4]


def body_with(**changed: object) -> Columns:
    return {
        "unix_seconds": [HALF_PAST_ONE_S + 1800, HALF_PAST_ONE_S + 2700],
        "co2eq": [None, None],
        "co2eq_forecast": [300.0, 310.0],
        **changed,
    }


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (body_with(co2eq_forecast=[1.0]), "1 values of co2eq_forecast for 2 unix_seconds"),
        (body_with(co2eq_forecast=[1.0, "2"]), "co2eq_forecast.1: Input should be a valid number"),
        (
            body_with(co2eq_forecast=[1.0, float("nan")]),
            "co2eq_forecast.1: Input should be a finite",
        ),
        (
            body_with(co2eq_forecast=[float("inf"), 1.0]),
            "co2eq_forecast.0: Input should be a finite",
        ),
        (body_with(co2eq_forecast=[1.0, True]), "co2eq_forecast.1: Input should be a valid number"),
        (body_with(co2eq_forecast=[1.0, 3001.0]), "intensity 3001 g/kWh at 2026-01-20T14:15:00Z"),
        (
            body_with(unix_seconds=["2026-01-20", 2]),
            "unix_seconds.0: Input should be a valid integer",
        ),
        (
            body_with(unix_seconds=[HALF_PAST_ONE_S + 1, HALF_PAST_ONE_S + 901]),
            "2026-01-20T13:30:01Z is not the start of 900 s",
        ),
        (
            body_with(unix_seconds=[HALF_PAST_ONE_S + 1800] * 2),
            "two values for 2026-01-20T14:00:00Z: 300.0 and 310.0",
        ),
        (
            body_with(unix_seconds=[HALF_PAST_ONE_S - 86_400, HALF_PAST_ONE_S - 85_500]),
            "asked for 2026-01-20T13:00:00Z to 2026-01-20T17:00:00Z, answered for "
            "2026-01-19T13:30:00Z to 2026-01-19T13:45:00Z: stale",
        ),
        (body_with(unix_seconds=[10**17, 10**17 + 900]), "answered for a time beyond the calendar"),
        ({"detail": "maintenance"}, "unix_seconds: Field required"),
        ([], "the reply: Input should be a valid dictionary"),
        (None, "the reply: Input should be a valid dictionary"),
    ],
)
def test_reply_that_cannot_be_is_rejected_and_named(body: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        parse_co2eq(body, "DE", Window(TWO, TWO + 2 * HOUR), is_forecast=True)
    assert says in caught.value.message
    assert caught.value.fields == {"zone": "DE", "source": "energy_charts"}
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (body_with(unix_seconds=[], co2eq_forecast=[]), "the reply is empty"),
        (body_with(unix_seconds=None, co2eq_forecast=[]), "the reply is empty"),
        (body_with(co2eq_forecast=None), "the reply has no co2eq_forecast"),
        (body_with(co2eq_forecast=[None, 0]), "no value from 2026-01-20T14:00:00Z"),
    ],
)
def test_reply_without_a_forecast_is_no_answer(body: object, says: str) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        parse_co2eq(body, "DE", Window(TWO, TWO + 2 * HOUR), is_forecast=True)
    assert says in caught.value.message
    assert caught.value.fields == {"zone": "DE", "source": "energy_charts"}


# ------------------------------------------------------------------------------- fetching


def test_forecast_is_asked_for_in_utc_from_the_hour_before(
    api: FakeEnergyCharts, source: EnergyCharts
) -> None:
    local = datetime.fromisoformat("2026-01-20T15:29:30+01:00")
    series = forecast(source, "DE", Window(local, local + 2 * HOUR))
    assert queries(api) == [
        {"country": "de", "start": "2026-01-20T13:00Z", "end": "2026-01-20T17:00Z"}
    ]
    # 14:15 is quarter 57 of the day, and half a gram is what tells the kinds apart.
    assert starts(series)[0] == TWO + QUARTER
    assert grams(series)[:2] == [257.5, 258.5]
    assert series.edges_s[-1] == (TWO + 2.5 * HOUR).timestamp()
    assert series.provenance.source == "energy_charts"
    assert series.provenance.signal is SignalKind.AVERAGE
    assert series.provenance.scope is Scope.LIFECYCLE


def test_forecast_ends_tomorrow_night_or_tonight_before_the_market_has_cleared(
    api: FakeEnergyCharts, source: EnergyCharts
) -> None:
    # Midnight in Germany is 23:00 UTC in winter.
    assert forecast(source).edges_s[-1] == datetime(2026, 1, 21, 23, tzinfo=UTC).timestamp()
    api.now = TWO - 4 * HOUR
    early = forecast(source, "DE", Window(api.now, api.now + 3 * DAY))
    assert early.edges_s[-1] == datetime(2026, 1, 20, 23, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("minute", [0, 20, 59])
def test_hourly_country_covers_a_short_window(
    api: FakeEnergyCharts, source: EnergyCharts, minute: int
) -> None:
    start_at = TWO + timedelta(minutes=minute)
    series = forecast(source, "FR", Window(start_at, start_at + QUARTER))
    assert series.integral_mg_s(Window(start_at, start_at + QUARTER)) is not None
    # 256.5 holds from 14:00 to 15:00 in hours.
    assert grams(series)[0] == 256.5


def test_switzerland_has_both_kinds_at_once_and_a_zero_that_is_a_gap(
    api: FakeEnergyCharts, source: EnergyCharts
) -> None:
    window = Window(TWO - 3 * HOUR, TWO - HOUR)
    assert grams(forecast(source, "CH", window)) == [244.5] * 4 + [248.5] * 4
    # Asked from 10:00 on, where the zero stands; from 11:00 on it is out of sight.
    assert grams(actuals(source, window, "CH")) == [244] * 4 + [248] * 4
    assert grams(actuals(source, Window(TWO - 2 * DAY, TWO - 2 * DAY + HOUR), "CH")) == [256] * 4


def test_what_is_not_reported_yet_is_a_gap(source: EnergyCharts) -> None:
    series = actuals(source, Window(TWO - 1.5 * HOUR, NOW))
    # Reported until 13:00; 12:30 and 12:45 are quarters 50 and 51.
    assert grams(series) == [250, 251, *[None] * 6]
    assert grams(actuals(source, Window(NOW - QUARTER, NOW))) == [None, None]


def test_long_history_is_asked_for_in_parts_and_joined(
    api: FakeEnergyCharts, source: EnergyCharts
) -> None:
    start_at = datetime(2025, 7, 1, 0, 10, tzinfo=UTC)
    end_at = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    series = actuals(source, Window(start_at, end_at))
    assert [(one["start"], one["end"]) for one in queries(api)] == [
        ("2025-06-30T23:00Z", "2025-10-01T01:00Z"),
        ("2025-09-30T23:00Z", "2026-01-01T01:00Z"),
        ("2025-12-31T23:00Z", "2026-01-01T02:00Z"),
    ]
    # 184 days of 96 quarters and the first of the next; clocks change on 26 October within.
    assert starts(series) == [datetime(2025, 7, 1, tzinfo=UTC) + n * QUARTER for n in range(17665)]
    assert grams(series) == [api.reported_g(at) for at in starts(series)]


def test_revision_between_two_parts_is_no_contradiction(
    api: FakeEnergyCharts, source: EnergyCharts
) -> None:
    def raised(columns: Columns) -> Columns:
        columns["co2eq"] = [len(api.asked) * 100.0] * len(columns["unix_seconds"])
        return columns

    api.serve_changed(raised)
    series = actuals(source, Window(TWO - 93 * DAY, TWO))
    assert set(grams(series)) == {100, 200}


@pytest.mark.parametrize(
    ("day", "n_quarters"),
    [((2026, 3, 29), 92), ((2026, 10, 25), 100), ((2026, 12, 31), 96)],
)
def test_local_day_of_23_24_or_25_hours_has_no_hole_and_no_repeat(
    api: FakeEnergyCharts, source: EnergyCharts, day: tuple[int, int, int], n_quarters: int
) -> None:
    summer = day == (2026, 10, 25)
    start_at = datetime(*day, tzinfo=UTC) - (2 if summer else 1) * HOUR
    api.now = start_at + 5 * DAY
    end_at = start_at + n_quarters * QUARTER
    series = actuals(source, Window(start_at, end_at))
    assert starts(series) == [start_at + index * QUARTER for index in range(n_quarters)]
    assert None not in grams(series)


def test_reply_to_an_older_question_is_stale(api: FakeEnergyCharts, source: EnergyCharts) -> None:
    def older(columns: Columns) -> Columns:
        columns["unix_seconds"] = [at_s - 7 * 86_400 for at_s in columns["unix_seconds"]]
        return columns

    api.serve_changed(older)
    fetches: list[Callable[[], IntensitySeries]] = [
        lambda: forecast(source),
        lambda: actuals(source, Window(TWO - DAY, TWO)),
    ]
    for fetch in fetches:
        with pytest.raises(ForecastRejectedError, match="stale"):
            fetch()


def test_country_that_has_no_data_is_no_answer(api: FakeEnergyCharts, source: EnergyCharts) -> None:
    api.serve_changed(
        lambda _: {"unix_seconds": [], "co2eq": [], "co2eq_forecast": [], "deprecated": False}
    )
    with pytest.raises(ForecastUnavailableError, match="energy_charts: the reply is empty"):
        forecast(source, "XK")


@pytest.mark.parametrize(
    ("zone_id", "scope", "says"),
    [
        ("de", Scope.LIFECYCLE, "did you mean DE?"),
        ("DK-DK1", Scope.LIFECYCLE, "known: AT, BA"),
        ("SE", Scope.LIFECYCLE, "known: AT, BA"),
        ("", Scope.LIFECYCLE, "known: AT, BA"),
        ("DE", Scope.DIRECT, "it has lifecycle values"),
    ],
)
def test_zone_or_scope_that_it_has_not_is_refused_without_asking(
    api: FakeEnergyCharts, source: EnergyCharts, zone_id: str, scope: Scope, says: str
) -> None:
    for fetch in (source.fetch_forecast, source.fetch_actuals):
        with pytest.raises(ForecastUnavailableError) as caught:
            fetch(zone_id, scope, AHEAD)
        assert f"no {scope} values for zone {zone_id!r}; {says}" in caught.value.message
        assert caught.value.fields == {"zone": zone_id, "source": "energy_charts"}
    assert api.asked == []


def test_every_zone_is_a_country_code() -> None:
    assert all(len(zone_id) == 2 and zone_id.isupper() for zone_id in ZONES)
    # These are several zones, or other ground than the zone of that name.
    assert not ZONES & {"DK", "NO", "SE", "UK", "GB", "EU"}
