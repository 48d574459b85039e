"""The adapter of Energinet: one request for both areas, a minute apart, in Danish time."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.grid.energinet import LIMITS, Energinet, parse_emissions
from adapters.http_client import HttpClient
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.fakes.clock import ManualClock
from tests.fakes.energinet import FakeEnerginet, Record
from tests.fakes.loopback_http import Exchange, json_reply

# 15:02 in Denmark. The fake has 134 g/kWh in DK1 at 14:00 UTC (168 times 5 min into the day).
NOW = datetime(2026, 1, 20, 14, 2, tzinfo=UTC)
TWO = datetime(2026, 1, 20, 14, tzinfo=UTC)
FIVE = timedelta(minutes=5)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
AHEAD = Window(NOW, NOW + 3 * DAY)
FIELDS = {"zone": "DK-DK1", "source": "energinet"}


class World:
    """The API, the adapter, and the time that both go by."""

    def __init__(self, now: datetime) -> None:
        self.clock = ManualClock(now)
        self.api = FakeEnerginet(now, self.clock)
        self.http = HttpClient(self.api.url, limits=LIMITS)
        self.source = Energinet(self.http, clock=self.clock)

    def close(self) -> None:
        self.http.close()
        self.api.close()

    def forecast(self, zone_id: str = "DK-DK1", window: Window = AHEAD) -> IntensitySeries:
        return self.source.fetch_forecast(zone_id, Scope.DIRECT, window)

    def actuals(self, window: Window, zone_id: str = "DK-DK1") -> IntensitySeries:
        return self.source.fetch_actuals(zone_id, Scope.DIRECT, window)

    @property
    def asked(self) -> list[tuple[str, dict[str, str]]]:
        parts = [urlsplit(one.path) for one in self.api.asked]
        return [
            (part.path, {name: values[0] for name, values in parse_qs(part.query).items()})
            for part in parts
        ]


@pytest.fixture
def world() -> Iterator[World]:
    made = World(NOW)
    yield made
    made.close()


def starts(series: IntensitySeries) -> list[datetime]:
    return [datetime.fromtimestamp(int(at), UTC) for at in series.edges_s[:-1]]


def grams(series: IntensitySeries) -> list[float | None]:
    return [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]


# -------------------------------------------------------------------------------- parsing


def record(begins: str, value: object, area: str = "DK1") -> Record:
    return {"Minutes5UTC": begins, "PriceArea": area, "CO2Emission": value}


GOOD = [
    record("2026-01-20T14:00:00", 160.0),
    record("2026-01-20T14:00:00", 90.5, "DK2"),
    record("2026-01-20T14:05:00", 161),
]


def parsed(
    records: object, zone_id: str = "DK-DK1", *, is_forecast: bool = True, **fields: object
) -> IntensitySeries:
    body = {"total": 3, "limit": 0, "records": records, **fields}
    return parse_emissions(body, zone_id, Window(NOW, NOW + HOUR), is_forecast=is_forecast)


def test_each_area_gets_its_own_records_in_utc() -> None:
    series = parsed(GOOD, dataset="CO2EmisProg")
    assert starts(series) == [TWO, TWO + FIVE]
    assert grams(series) == [160, 161]
    assert grams(parsed(GOOD, "DK-DK2")) == [90.5]
    assert series.provenance.quality is Quality.FORECAST
    assert parsed(GOOD, is_forecast=False).provenance.quality is Quality.ESTIMATED
    assert series.provenance.scope is Scope.DIRECT
    assert series.provenance.signal is SignalKind.AVERAGE


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (GOOD[::-1], [160, 161]),
        (GOOD + GOOD, [160, 161]),
        ([*GOOD, record("2026-01-20T14:05:00", None)], [160, 161]),
        ([record("2026-01-20T14:00:00", None), GOOD[2]], [None, 161]),
        ([*GOOD, record("2026-01-20T14:15:00", 0)], [160, 161, None, 0]),
        ([record("2026-01-20T13:55:00", 1), *GOOD, record("2026-01-20T15:05:00", 2)], [160, 161]),
        ([{**GOOD[0], "Minutes5DK": "2026-01-20T15:00:00", "More": 1}], [160]),
    ],
    ids=["falling", "twice", "null beside value", "null", "hole", "clipped", "more fields"],
)
def test_records_become_a_series(records: list[Record], expected: list[float | None]) -> None:
    assert grams(parsed(records)) == expected


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (
            [record("2026-01-20T14:00:00Z", 1.0)],
            "Minutes5UTC '2026-01-20T14:00:00Z' is not of the form YYYY-MM-DDThh:mm:ss",
        ),
        ([record("2026-01-20", 1.0)], "is not of the form YYYY-MM-DDThh:mm:ss"),
        ([record("2026-02-30T00:00:00", 1.0)], "is not of the form YYYY-MM-DDThh:mm:ss"),
        ([record("2026-01-20T14:02:00", 1.0)], "2026-01-20T14:02:00Z is not the start of 300 s"),
        ([record("2026-01-20T14:00:00", -1.0)], "intensity -1 g/kWh at 2026-01-20T14:00:00Z"),
        ([record("2026-01-20T14:00:00", float("nan"))], "records.0.CO2Emission: Input should be a"),
        ([record("2026-01-20T14:00:00", float("inf"))], "records.0.CO2Emission: Input should be a"),
        ([record("2026-01-20T14:00:00", "160")], "records.0.CO2Emission: Input should be a valid"),
        ([record("2026-01-20T14:00:00", 3001)], "intensity 3001 g/kWh at 2026-01-20T14:00:00Z"),
        (
            [*GOOD, record("2026-01-20T14:05:00", 9)],
            "two values for 2026-01-20T14:05:00Z: 161.0 and 9.0",
        ),
        ([*GOOD, record("2026-01-20T14:05:00", 9, "SE4")], "answered with area 'SE4'"),
        ([*GOOD, record("2026-01-20T14:05:00", 9, "x" * 999)], "answered with area 'xxx"),
        (
            [record("2026-01-19T14:00:00", 1)],
            "asked for 2026-01-20T14:02:00Z to 2026-01-20T15:02:00Z, "
            "answered for 2026-01-19T14:00:00Z to 2026-01-19T14:05:00Z",
        ),
        (
            [{"Minutes5UTC": "2026-01-20T14:00:00", "PriceArea": "DK1"}],
            "CO2Emission: Field required",
        ),
        ([{"PriceArea": "DK1", "CO2Emission": 1}], "records.0.Minutes5UTC: Field required"),
        ("none", "records: Input should be a valid list"),
        (None, "records: Input should be a valid list"),
    ],
)
def test_records_that_cannot_be_are_rejected_and_named(records: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        parsed(records)
    assert says in caught.value.message
    assert caught.value.fields == FIELDS
    assert len(caught.value.message) < 300


def test_answer_of_the_other_dataset_is_rejected() -> None:
    with pytest.raises(ForecastRejectedError, match="answered with dataset 'CO2Emis'"):
        parsed(GOOD, dataset="CO2Emis")
    with pytest.raises(ForecastRejectedError, match="answered with dataset 'CO2EmisProg'"):
        parsed(GOOD, dataset="CO2EmisProg", is_forecast=False)


@pytest.mark.parametrize("records", [[], [GOOD[1]], [record("2026-01-20T14:05:00", None)]])
def test_records_without_the_area_are_no_answer(records: list[Record]) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        parsed(records)
    assert caught.value.fields == FIELDS


# ------------------------------------------------------------------------------- fetching


def test_both_areas_come_with_one_request(world: World) -> None:
    first, second = world.forecast(), world.forecast("DK-DK2")
    assert world.asked == [
        (
            "/dataset/CO2EmisProg",
            {
                "start": "2026-01-20",
                "filter": '{"PriceArea": ["DK1", "DK2"]}',
                "columns": "Minutes5UTC,PriceArea,CO2Emission",
                "sort": "Minutes5UTC ASC",
                "limit": "0",
            },
        )
    ]
    assert starts(first)[0] == starts(second)[0] == TWO
    assert grams(first)[:2] == [134, 134.5]
    assert grams(second)[:2] == [174, 174.5]
    # Tomorrow's end in Denmark is 23:00 UTC.
    assert first.edges_s[-1] == datetime(2026, 1, 21, 23, tzinfo=UTC).timestamp()


def test_reply_is_kept_for_the_cadence_and_then_asked_for_again(world: World) -> None:
    world.forecast()
    world.clock.move(minutes=14, seconds=59)
    world.forecast("DK-DK2", Window(world.clock.at, world.clock.at + HOUR))
    assert len(world.asked) == 1
    world.clock.move(seconds=1)
    world.forecast("DK-DK2")
    world.forecast()
    assert len(world.asked) == 2


def test_datasets_are_asked_independently(world: World) -> None:
    past = Window(NOW - HOUR, NOW)
    for zone_id in ("DK-DK1", "DK-DK2"):
        world.forecast(zone_id)
        world.actuals(past, zone_id)
    assert [path for path, _ in world.asked] == ["/dataset/CO2EmisProg", "/dataset/CO2Emis"]


def test_second_request_waits_for_a_minute_to_pass(world: World) -> None:
    world.forecast()
    earlier = Window(NOW - 2 * DAY, NOW)
    world.clock.move(seconds=59)
    with pytest.raises(ForecastUnavailableError) as caught:
        world.forecast("DK-DK2", earlier)
    assert caught.value.message == (
        "energinet: CO2EmisProg may be asked once a minute; other days, from 2026-01-20, were "
        "asked for 59 s ago"
    )
    assert caught.value.fields == {"zone": "DK-DK2", "source": "energinet"}
    assert caught.value.retryable
    assert len(world.asked) == 1
    world.clock.move(seconds=1)
    assert starts(world.forecast("DK-DK2", earlier))[0] == TWO - 2 * DAY
    assert world.asked[1][1]["start"] == "2026-01-18"


def test_failure_is_not_tried_again_within_the_minute(world: World) -> None:
    world.api.misbehave(json_reply({}, status=503))
    with pytest.raises(ForecastUnavailableError, match=r"answered 503 \(1 tries\)"):
        world.forecast()
    with pytest.raises(ForecastUnavailableError, match=r"it failed with .*answered 503") as caught:
        world.forecast("DK-DK2")
    assert caught.value.fields == {"zone": "DK-DK2", "source": "energinet"}
    assert len(world.asked) == 1
    world.clock.move(minutes=1)
    assert grams(world.forecast("DK-DK2"))[0] == 174


def test_refusal_for_asking_too_often_is_told(world: World) -> None:
    # Another program behind the same address has just asked.
    other = HttpClient(world.api.url, limits=LIMITS)
    other.get_json("/dataset/CO2EmisProg")
    other.close()
    with pytest.raises(ForecastUnavailableError, match="answered 429") as caught:
        world.forecast()
    assert caught.value.fields["status"] == 429


def test_clock_that_was_set_back_does_not_stop_the_requests(world: World) -> None:
    world.forecast()
    world.clock.move(days=-1)
    world.forecast("DK-DK1", Window(world.clock.at, world.clock.at + DAY))
    assert len(world.asked) == 2


def test_many_at_once_make_one_request(world: World) -> None:
    together = threading.Barrier(8)

    def fetch(number: int) -> float | None:
        together.wait()
        return grams(world.forecast(f"DK-DK{1 + number % 2}"))[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fetch, range(8))) == [134, 174] * 4
    assert len(world.asked) == 1


def test_actuals_are_those_of_the_other_dataset_to_the_present(world: World) -> None:
    series = world.actuals(Window(TWO - 3 * FIVE, NOW + HOUR))
    # Up to the interval that has begun, as the fake publishes it.
    assert grams(series) == [139.5, 140, 140.5, 141]
    assert series.provenance.quality is Quality.ESTIMATED
    assert "end" not in world.asked[0][1]


def test_days_that_are_over_are_asked_for_with_an_end(world: World) -> None:
    window = Window(
        datetime(2026, 1, 10, 22, 30, tzinfo=UTC), datetime(2026, 1, 12, 23, 40, tzinfo=UTC)
    )
    series = world.actuals(window)
    assert (world.asked[0][1]["start"], world.asked[0][1]["end"]) == ("2026-01-10", "2026-01-14")
    assert starts(series)[0] == window.start_at
    assert series.edges_s[-1] == window.end_at.timestamp()
    assert series.integral_mg_s(window) is not None
    # Within, on other days, and beyond: only the last needs another request.
    world.actuals(Window(window.start_at + DAY, window.end_at - DAY), "DK-DK2")
    with pytest.raises(ForecastUnavailableError, match="may be asked once a minute"):
        world.actuals(Window(window.start_at, window.end_at + DAY))


def test_midnight_between_two_areas_needs_no_second_request() -> None:
    world = World(datetime(2026, 1, 20, 23, 59, 59, tzinfo=UTC))
    try:
        since = world.clock.at - HOUR
        world.actuals(Window(since, world.clock.at))
        world.clock.move(seconds=2)
        assert grams(world.actuals(Window(since, world.clock.at), "DK-DK2"))
        assert len(world.asked) == 1
    finally:
        world.close()


def test_history_beyond_one_reply_is_the_newest_part_of_it(world: World) -> None:
    series = world.actuals(Window(NOW - 60 * DAY, NOW))
    assert starts(series)[0] == TWO - 45 * DAY
    assert len(world.asked) == 1
    assert world.source.info.history_s == 45 * 86_400


@pytest.mark.parametrize(
    ("start_at", "n_steps"),
    [
        # 29 March 2026 has 23 h, 25 October 25 h; midnight is 23:00 UTC in winter, 22:00 in summer.
        (datetime(2026, 3, 28, 23, tzinfo=UTC), 23 * 12),
        (datetime(2026, 10, 24, 22, tzinfo=UTC), 25 * 12),
        (datetime(2025, 12, 31, 23, tzinfo=UTC), 24 * 12),
    ],
)
def test_danish_day_of_any_length_has_no_hole_and_no_repeat(
    start_at: datetime, n_steps: int
) -> None:
    world = World(start_at + 3 * DAY)
    try:
        end_at = start_at + n_steps * FIVE
        series = world.actuals(Window(start_at, end_at))
        assert starts(series) == [start_at + index * FIVE for index in range(n_steps)]
        assert grams(series) == [world.api.actual_g("DK1", at) for at in starts(series)]
    finally:
        world.close()


@pytest.mark.parametrize("hour", range(24))
def test_first_interval_is_there_at_every_hour_of_a_summer_day(hour: int) -> None:
    # A start in UTC that is read as Danish time would lose two hours, or bring two too many.
    at = datetime(2026, 7, 1, hour, 3, tzinfo=UTC)
    world = World(at)
    try:
        series = world.forecast("DK-DK1", Window(at, at + HOUR))
        assert starts(series)[0] == at - timedelta(minutes=3)
        assert grams(series)[0] == 50 + hour * 6
    finally:
        world.close()


def test_newest_hundred_first_are_seen_to_be_another_time(world: World) -> None:
    def default(to: Exchange) -> None:
        to.reply(json.dumps(world.api.document("/dataset/CO2EmisProg")).encode())

    world.api.misbehave(always=default)
    with pytest.raises(ForecastRejectedError, match=r"asked for .* answered for 2026-01-21T18"):
        world.forecast("DK-DK1", Window(NOW, NOW + HOUR))


def test_stale_reply_is_rejected(world: World) -> None:
    def older(records: list[Record]) -> list[Record]:
        yesterday = "2026-01-19"
        return [
            {**one, "Minutes5UTC": yesterday + one["Minutes5UTC"][10:]} for one in records[:200]
        ]

    world.api.serve_changed(older)
    with pytest.raises(
        ForecastRejectedError, match=r"asked for 2026-01-20T14:02:00Z to .* answered for"
    ):
        world.forecast()


@pytest.mark.parametrize(
    ("zone_id", "scope", "says"),
    [
        ("DK", Scope.DIRECT, "known: DK-DK1, DK-DK2"),
        ("DK1", Scope.DIRECT, "did you mean DK-DK1?"),
        ("dk-dk1", Scope.DIRECT, "did you mean DK-DK1"),
        ("DK-DK1", Scope.LIFECYCLE, "it has direct values"),
    ],
)
def test_zone_or_scope_that_it_has_not_is_refused_without_asking(
    world: World, zone_id: str, scope: Scope, says: str
) -> None:
    for fetch in (world.source.fetch_forecast, world.source.fetch_actuals):
        with pytest.raises(ForecastUnavailableError) as caught:
            fetch(zone_id, scope, AHEAD)
        assert f"no {scope} values for zone {zone_id!r}; {says}" in caught.value.message
    assert world.asked == []


# ------------------------------------------------------- the fake is as strict as the provider


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"start": "2026-01-20T14:00:00Z"}, 400),
        ({"start": "2026-01-20T14:00:00+01:00"}, 400),
        ({"filter": "DK1"}, 400),
        ({"sort": "PriceArea"}, 400),
        ({"columns": "Minutes5UTC,Price"}, 400),
        ({"area": "DK1"}, 400),
    ],
)
def test_fake_refuses_what_the_provider_does(
    world: World, params: dict[str, str], status: int
) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        world.http.get_json("/dataset/CO2EmisProg", params)
    assert caught.value.fields["status"] == status


def test_fake_reads_times_as_danish_and_defaults_to_the_newest_hundred(world: World) -> None:
    def records(params: dict[str, str]) -> list[Record]:
        world.clock.move(minutes=1)
        body: Any = world.http.get_json("/dataset/CO2EmisProg", params)
        return list(body["records"])

    fetched: Callable[[dict[str, str]], list[Record]] = records
    newest = fetched({})
    assert len(newest) == 100
    assert newest[0]["Minutes5UTC"] == "2026-01-21T22:55:00"
    summer = fetched({"start": "2025-07-01T12:00", "end": "2025-07-01T12:05", "limit": "0"})
    assert [one["Minutes5UTC"] for one in summer] == ["2025-07-01T10:00:00"] * 2
