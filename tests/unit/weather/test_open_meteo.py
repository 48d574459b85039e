"""The adapter of Open-Meteo: one request a zone, means over its places, values at their hours."""

import copy
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from adapters.http_client import HttpClient, Limits
from adapters.weather.open_meteo import COMMERCIAL_URL, DEFAULT_URL, OpenMeteo, parse_forecast
from scheduler.core.errors import (
    ForecastRejectedError,
    ForecastUnavailableError,
    GridtideError,
    InvalidConfigError,
    InvalidInputError,
    UpstreamError,
)
from scheduler.core.forecasting.weather import VARIABLES, WeatherRun, WeatherRuns
from tests.fakes.clock import ManualClock
from tests.fakes.loopback_http import (
    Behaviour,
    cut_off,
    drip_body,
    gzip_bomb,
    json_reply,
    raw_reply,
    redirect,
    reset,
    silence,
)
from tests.fakes.open_meteo import FakeOpenMeteo

NOW = datetime(2026, 1, 20, 14, 29, 30, tzinfo=UTC)
TODAY = datetime(2026, 1, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BERLIN, MUNICH = (52.5, 13.4), (48.1, 11.6)
PLACES = {"DE": [BERLIN, MUNICH], "FR": [(48.9, 2.4)], "AU": [(-33.9, 151.2)]}
WIND, SUN, WARMTH, DEW, RAIN = range(5)
FIELDS = {"zone": "DE", "source": "open_meteo"}
PATIENT = Limits(connect_s=10, read_s=20, total_s=30, attempts=1)


class World:
    """The API, the adapter, and the time that both go by."""

    def __init__(self, now: datetime, *, limits: Limits = PATIENT, **fake: Any) -> None:
        self.clock = ManualClock(now)
        self.api = FakeOpenMeteo(now, **fake)
        self.waits: list[float] = []
        self.http = HttpClient(self.api.url, limits=limits, wait=self.waits.append)
        self.source = OpenMeteo(self.http, clock=self.clock, places=PLACES)

    def close(self) -> None:
        self.http.close()
        self.api.close()

    @property
    def queries(self) -> list[dict[str, str]]:
        return [
            {name: values[0] for name, values in parse_qs(urlsplit(one.path).query).items()}
            for one in self.api.asked
        ]


@pytest.fixture(scope="module")
def opened() -> Iterator[World]:
    made = World(NOW)
    yield made
    made.close()


@pytest.fixture
def world(opened: World) -> World:
    opened.api.misbehave()
    opened.api.asked.clear()
    opened.api.quota = 10_000
    return opened


def times(run: WeatherRun) -> list[datetime]:
    return [datetime.fromtimestamp(int(at), UTC) for at in run.times_s]


def column(run: WeatherRun, variable: int) -> list[float | None]:
    return [None if math.isnan(one) else round(float(one), 6) for one in run.values[:, variable]]


# -------------------------------------------------------------------------------- parsing


def body(hours: int = 4, *, start_at: datetime = TODAY, **changed: object) -> dict[str, Any]:
    start_s = int(start_at.timestamp())
    return {
        "latitude": 52.5,
        "utc_offset_seconds": 0,
        "hourly_units": {
            "time": "unixtime",
            "wind_speed_10m": "m/s",
            "shortwave_radiation": "W/m²",
            "temperature_2m": "°C",
            "dew_point_2m": "°C",
            "precipitation": "mm",
        },
        "hourly": {
            "time": [start_s + 3600 * index for index in range(hours)],
            "wind_speed_10m": [float(index) for index in range(hours)],
            "shortwave_radiation": [100.0 * index for index in range(hours)],
            "temperature_2m": [-5 + index for index in range(hours)],
            "dew_point_2m": [-9.5 + index for index in range(hours)],
            "precipitation": [index / 10 for index in range(hours)],
            **changed,
        },
    }


def parsed(document: object, *, count: int = 1, now: datetime = TODAY) -> Any:
    return parse_forecast(document, zone_id="DE", count=count, now=now)


def columns(document: object, *, count: int = 1) -> list[list[float | None]]:
    hours = parsed(document, count=count)
    run = WeatherRun(0, hours.times_s, hours.values)
    return [column(run, index) for index in range(5)]


def test_radiation_and_precipitation_move_to_the_hour_that_they_are_about() -> None:
    # Stated at 01:00 is what fell from 00:00 to 01:00. Of the last hour nothing is stated.
    assert columns(body()) == [
        [0, 1, 2, 3],
        [100, 200, 300, None],
        [-5, -4, -3, -2],
        [-9.5, -8.5, -7.5, -6.5],
        [0.1, 0.2, 0.3, None],
    ]
    assert parsed(body()).times_s.tolist() == [TODAY.timestamp() + 3600 * n for n in range(4)]


def test_columns_are_those_of_the_core() -> None:
    assert VARIABLES == (
        "wind_speed_ms",
        "irradiance_wm2",
        "temperature_c",
        "dewpoint_c",
        "precipitation_mm",
    )


def test_list_of_one_and_bare_object_are_the_same() -> None:
    assert columns([body()]) == columns(body())


def test_places_count_the_same_and_null_leaves_the_mean_to_the_others() -> None:
    first = body(wind_speed_10m=[1.0, None, None, 4.0])
    second = body(wind_speed_10m=[2.0, 6.0, None, None])
    third = body(wind_speed_10m=[6.0, 7.0, None, 5.0])
    assert columns([first, second, third], count=3)[WIND] == [3, 6.5, None, 4.5]


def test_null_of_the_hour_before_is_unknown_in_the_hour_before() -> None:
    found = columns(body(shortwave_radiation=[1.0, None, 3.0, 4.0]))
    assert found[SUN] == [None, 3, 4, None]


def with_unit(name: str, unit: str | None) -> dict[str, Any]:
    document = copy.deepcopy(body())
    document["hourly_units"][name] = unit
    if unit is None:
        del document["hourly_units"][name]
    return document


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (with_unit("wind_speed_10m", "km/h"), "wind_speed_10m 'km/h' instead of m/s"),
        (with_unit("time", "iso8601"), "hourly_units.time 'iso8601' instead of unixtime"),
        (with_unit("temperature_2m", "°F"), "temperature_2m '°F' instead of °C"),
        (with_unit("dew_point_2m", "°F"), "dew_point_2m '°F' instead of °C"),
        (with_unit("precipitation", "inch"), "precipitation 'inch' instead of mm"),
        (with_unit("precipitation", None), "precipitation None instead of mm"),
        (body(time=["2026-01-20T00:00"] * 4), "0.hourly.time.0: Input should be a valid integer"),
        (body(wind_speed_10m=[1.0] * 3), "3 of hourly.wind_speed_10m for 4 of hourly.time"),
        (body(wind_speed_10m=[1.0] * 3 + ["2"]), "hourly.wind_speed_10m.3: Input should be a"),
        (body(wind_speed_10m=[1.0] * 3 + [math.nan]), "hourly.wind_speed_10m.3: Input should be a"),
        (body(wind_speed_10m=[1.0] * 3 + [math.inf]), "hourly.wind_speed_10m.3: Input should be a"),
        (body(wind_speed_10m=None), "hourly.wind_speed_10m: Input should be a valid list"),
        (
            body(wind_speed_10m=[1.0, -0.5, 1.0, 1.0]),
            "hourly.wind_speed_10m -0.5 at 2026-01-20T01:00:00Z cannot be true",
        ),
        (body(wind_speed_10m=[121.0] * 4), "hourly.wind_speed_10m 121 at 2026-01-20T00:00:00Z"),
        (body(shortwave_radiation=[1501.0] * 4), "hourly.shortwave_radiation 1501 at"),
        (body(temperature_2m=[273.15] * 4), "hourly.temperature_2m 273.15 at"),
        (body(dew_point_2m=[-121.0] * 4), "hourly.dew_point_2m -121 at"),
        (body(precipitation=[-1.0] * 4), "hourly.precipitation -1 at"),
        (body(time=[0, 3600, 7200, 10_800]), "answered for other hours, from 0 to 10800"),
        (body(start_at=TODAY + HOUR), "asked at 2026-01-20T00:00:00Z, answered for other hours"),
        (body(start_at=TODAY - 4 * HOUR), "answered for other hours"),
        (body(start_at=TODAY + timedelta(seconds=1)), "is not one whole hour after the other"),
        (body(time=[int(TODAY.timestamp())] * 4), "is not one whole hour after the other"),
        (
            body(time=[int(TODAY.timestamp()) + 10_800 * n for n in range(4)]),
            "is not one whole hour after the other",
        ),
        ([body(), body()], "asked for 1 places, answered for 2"),
        ([], "asked for 1 places, answered for 0"),
        ({"hourly": {}}, "0.hourly.time: Field required"),
        (7, "0: Input should be a valid dictionary"),
        (None, "0: Input should be a valid dictionary"),
    ],
)
def test_reply_that_cannot_be_is_rejected_and_named(document: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        parsed(document)
    assert says in caught.value.message
    assert caught.value.message.startswith("open_meteo: ")
    assert caught.value.fields == FIELDS
    assert len(caught.value.message) < 300


def test_places_with_other_hours_are_rejected() -> None:
    with pytest.raises(ForecastRejectedError, match=r"1\.hourly\.time differs"):
        parsed([body(), body(start_at=TODAY - HOUR)], count=2)


NOTHING: dict[str, object] = {name: [None] * 4 for name in body()["hourly"] if name != "time"}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"error": True, "reason": "No luck"}, "open_meteo: the reply is an error: 'No luck'"),
        (body(0), "open_meteo: the reply is empty"),
        (body(**NOTHING), "open_meteo: no value from 2026-01-20T00:00:00Z on"),
    ],
)
def test_reply_without_use_is_no_answer(document: object, says: str) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        parsed(document)
    assert caught.value.message == says
    assert caught.value.fields == FIELDS


def test_past_alone_is_no_forecast() -> None:
    past = {name: [1.0, 1.0, None, None] for name in NOTHING}
    with pytest.raises(ForecastUnavailableError, match="no value from 2026-01-20T02:00:00Z on"):
        parsed(body(**past), now=TODAY + 2 * HOUR)


# ------------------------------------------------------------------------------- fetching


def test_zone_is_one_request_for_all_its_places(world: World) -> None:
    world.source.fetch_runs("DE", NOW)
    assert [urlsplit(one.path).path for one in world.api.asked] == ["/v1/forecast"]
    assert world.queries == [
        {
            "latitude": "52.5000,48.1000",
            "longitude": "13.4000,11.6000",
            "hourly": "wind_speed_10m,shortwave_radiation,temperature_2m,dew_point_2m,precipitation",
            "wind_speed_unit": "ms",
            "timeformat": "unixtime",
            "timezone": "GMT",
            "forecast_days": "8",
            "past_days": "0",
        }
    ]


def test_newest_run_is_of_now_and_goes_from_midnight_through_the_eighth_day(world: World) -> None:
    (run,) = world.source.fetch_runs("DE", NOW)
    assert run.issued_s == int(NOW.timestamp())
    assert times(run) == [TODAY + index * HOUR for index in range(8 * 24)]
    # Berlin has 2 + 1.4 + 1.34 m/s at 14:00 on the 20th, Munich 2 + 1.4 + 1.16, to a tenth.
    assert column(run, WIND)[14] == pytest.approx((4.7 + 4.6) / 2)
    # The sun of 14:00 to 15:00: 700 and the latitude.
    assert column(run, SUN)[14] == pytest.approx(700 + (52.5 + 48.1) / 2)
    # 7 - 5.25 and 7 - 4.81, each to a tenth.
    assert column(run, WARMTH)[14] == pytest.approx((1.8 + 2.2) / 2)
    assert column(run, DEW)[14] == pytest.approx((1.8 + 2.2) / 2 - 5)
    assert column(run, RAIN)[14] == pytest.approx(1.4)


def test_hours_past_the_range_of_the_model_are_unknown(world: World) -> None:
    (run,) = world.source.fetch_runs("FR", NOW)
    known = [variable.count(None) for variable in (column(run, index) for index in range(5))]
    # The last day; and of its first hour what would have been stated there about the one before.
    assert known == [24, 25, 24, 24, 25]


def test_south_and_east_are_asked_for_with_their_signs(world: World) -> None:
    (run,) = world.source.fetch_runs("AU", NOW)
    assert world.queries[0]["latitude"] == "-33.9000"
    assert column(run, RAIN)[0] == 1


def test_past_days_are_runs_of_analyses_that_hold_their_day_and_three_more(world: World) -> None:
    runs = world.source.fetch_runs("FR", NOW - 2 * DAY)
    assert world.queries[0]["past_days"] == "2"
    issued = [datetime.fromtimestamp(run.issued_s, UTC) for run in runs]
    assert issued == [TODAY - 2 * DAY, TODAY - DAY, NOW.replace(microsecond=0)]
    for run, day in zip(runs[:2], issued[:2], strict=True):
        assert times(run) == [day + index * HOUR for index in range(96)]
    # The same hour is the same in all: the mean of 23:00 to 24:00 crosses into the next run.
    yesterday_23 = [column(runs[0], index)[47] for index in range(5)]
    assert yesterday_23 == [column(runs[1], index)[23] for index in range(5)]
    assert yesterday_23[SUN] == pytest.approx(50 * 23 + 48.9)
    assert column(runs[1], WIND)[24] == column(runs[2], WIND)[0]


@pytest.mark.parametrize(
    ("since", "past_days"),
    [
        (NOW + 9 * DAY, 0),
        (TODAY, 0),
        (TODAY - timedelta(seconds=1), 1),
        (NOW - 92 * DAY, 92),
        (NOW - 4000 * DAY, 92),
    ],
)
def test_past_goes_back_to_the_day_of_since_but_no_more_than_92_days(
    world: World, since: datetime, past_days: int
) -> None:
    runs = world.source.fetch_runs("FR", since)
    assert world.queries[0]["past_days"] == str(past_days)
    assert len(runs) == past_days + 1


def test_offset_of_since_does_not_matter_and_none_is_refused(world: World) -> None:
    eastern = timezone(timedelta(hours=5, minutes=30))
    runs = world.source.fetch_runs("FR", (NOW - DAY).astimezone(eastern))
    assert [run.issued_s for run in runs] == [
        run.issued_s for run in world.source.fetch_runs("FR", NOW - DAY)
    ]
    with pytest.raises(InvalidInputError, match="since"):
        world.source.fetch_runs("FR", datetime(2026, 1, 19))


def test_days_of_which_nothing_is_known_are_no_runs(world: World) -> None:
    def forgotten(document: dict[str, Any]) -> dict[str, Any]:
        for name, values in document["hourly"].items():
            if name != "time":
                values[: 10 * 24 + 1] = [None] * (10 * 24 + 1)
        return document

    world.api.serve_changed(forgotten)
    runs = world.source.fetch_runs("FR", NOW - 12 * DAY)
    # 12 and 11 days ago reach to the 9th and 8th day back, of which hours are known from the 2nd on.
    issued = [(TODAY - datetime.fromtimestamp(run.issued_s, UTC)) // DAY for run in runs[:-1]]
    assert issued == [5, 4, 3, 2, 1]


def test_days_at_the_end_of_the_year_are_24_hours() -> None:
    world = World(datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC))
    try:
        *past, newest = world.source.fetch_runs("FR", datetime(2026, 12, 30, 23, tzinfo=UTC))
        first = datetime(2026, 12, 30, tzinfo=UTC)
        assert [times(run)[0] for run in past] == [first, first + DAY]
        assert times(past[0]) == [first + index * HOUR for index in range(96)]
        assert times(newest)[0] == datetime(2027, 1, 1, tzinfo=UTC)
        assert column(past[1], SUN)[23] == pytest.approx(50 * 23 + 48.9)
    finally:
        world.close()


def test_core_takes_the_runs_hour_by_hour(world: World) -> None:
    runs = WeatherRuns(world.source.fetch_runs("FR", NOW - 3 * DAY))
    assert len(runs) == 4
    at = int(TODAY.timestamp()) // 3600 + 20
    found = runs.at(np.array([at]), np.array([at]))[0]
    # 20:00 on the 20th: 2 + 2 + 0.24 m/s; the sun of the hour is 1000 + 48.9.
    assert found[WIND] == pytest.approx(4.2)
    assert found[SUN] == pytest.approx(1048.9)


# ------------------------------------------------------------------------- configuration


def test_declaration_names_quota_and_licence(world: World) -> None:
    info = world.source.info
    assert info.zone_ids == {"DE", "FR", "AU"}
    assert info.quota is not None
    assert (info.quota.requests, info.quota.per_s) == (10_000, 86_400)
    assert "https://open-meteo.com/" in info.attribution
    assert "CC BY 4.0" in info.attribution
    assert {DEFAULT_URL, COMMERCIAL_URL} == {
        "https://api.open-meteo.com",
        "https://customer-api.open-meteo.com",
    }


@pytest.mark.parametrize(
    ("zone_id", "says"),
    [("DEE", "no weather of zone 'DEE'; did you mean DE?"), ("XX", "known: AU, DE, FR")],
)
def test_unknown_zone_is_refused_without_asking(world: World, zone_id: str, says: str) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        world.source.fetch_runs(zone_id, NOW)
    assert says in caught.value.message
    assert caught.value.fields == {"zone": zone_id, "source": "open_meteo"}
    assert world.api.asked == []


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ([], "places: zone DE has none"),
        ([BERLIN, (91.0, 0.0)], "places: 91.0, 0.0 of zone DE"),
        ([(0.0, -180.5)], "places: 0.0, -180.5 of zone DE"),
        ([(math.nan, 0.0)], "places: nan, 0.0 of zone DE"),
    ],
)
def test_place_that_is_none_is_a_configuration_error(
    world: World, places: list[tuple[float, float]], says: str
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        OpenMeteo(world.http, clock=world.clock, places={"DE": places})
    assert says in caught.value.message
    assert caught.value.fields == {"field": "places", "zone": "DE"}


def test_key_goes_with_the_query_and_is_never_shown() -> None:
    clock = ManualClock(NOW)
    with FakeOpenMeteo(NOW, key="s3cret") as api:
        for key, is_good in (("s3cret", True), ("wr0ng", False)):
            http = HttpClient(api.url, secret_params={"apikey": key}, limits=PATIENT)
            source = OpenMeteo(http, clock=clock, places=PLACES)
            if is_good:
                assert source.fetch_runs("FR", NOW)
            else:
                with pytest.raises(ForecastUnavailableError, match="API key is invalid") as caught:
                    source.fetch_runs("FR", NOW)
                assert key not in repr(caught.value) + repr(caught.value.fields) + repr(source)
            http.close()


# ------------------------------------------------------------------------ no usable answer


def test_spent_quota_is_told_in_the_servers_words() -> None:
    world = World(NOW, quota=3)
    try:
        world.source.fetch_runs("DE", NOW)
        with pytest.raises(ForecastUnavailableError) as caught:
            world.source.fetch_runs("DE", NOW)
        assert caught.value.message.endswith(
            "answered 429 (1 tries): Daily API request limit exceeded. Please try again tomorrow."
        )
        assert caught.value.fields == FIELDS
    finally:
        world.close()


def test_refusal_is_told_in_the_servers_words(world: World) -> None:
    reason = "Forecast days is invalid. Allowed range 0 to 16. Given 17."
    world.api.misbehave(json_reply({"error": True, "reason": reason}, status=400))
    with pytest.raises(ForecastUnavailableError) as caught:
        world.source.fetch_runs("DE", NOW)
    assert caught.value.message.endswith(f"/v1/forecast answered 400: {reason}")
    assert len(world.api.asked) == 1


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (reset, "no answer: ReadError (1 tries)"),
        (cut_off(b'{"hourly": {}, "hourly_units": {}}'), "no answer: RemoteProtocolError"),
        (json_reply({}, status=401), "answered 401"),
        (raw_reply(b"<html>", status=403, content_type="text/html"), "answered 403"),
        (json_reply({}, status=500), "answered 500 (1 tries)"),
        (raw_reply(b"<html>", status=503, content_type="text/html"), "answered 503"),
        (raw_reply(b"<html>", content_type="text/html"), "text/html instead of JSON"),
        (redirect("http://elsewhere.example/"), "redirects to http://elsewhere.example/"),
        (raw_reply(b""), "answered with broken JSON"),
        (raw_reply(b'{"hourly": '), "answered with broken JSON"),
        (gzip_bomb(50_000_000), "answered with more than"),
        (raw_reply(b"", status=204), "0: Input should be a valid dictionary"),
    ],
)
def test_fault_of_server_or_network_is_named(world: World, behaviour: Behaviour, says: str) -> None:
    world.api.misbehave(always=behaviour)
    with pytest.raises(UpstreamError) as caught:
        world.source.fetch_runs("DE", NOW)
    assert says in caught.value.message
    assert caught.value.fields == FIELDS


@pytest.mark.parametrize("behaviour", [silence, drip_body()])
def test_slow_server_is_left(behaviour: Behaviour) -> None:
    world = World(NOW, limits=Limits(read_s=0.2, total_s=0.3, attempts=1))
    try:
        world.api.misbehave(always=behaviour)
        with pytest.raises(ForecastUnavailableError) as caught:
            world.source.fetch_runs("DE", NOW)
        assert caught.value.fields == FIELDS
    finally:
        world.close()


def test_busy_server_is_asked_again_after_the_time_it_names() -> None:
    world = World(NOW, limits=Limits(attempts=2))
    try:
        busy = {"error": True, "reason": "Too many concurrent requests"}
        world.api.misbehave(json_reply(busy, status=429, headers={"Retry-After": "7"}))
        assert world.source.fetch_runs("FR", NOW)
        assert world.waits == [7]
    finally:
        world.close()


def test_every_error_is_one_of_ours_whatever_json_arrives(world: World) -> None:
    strange: list[object] = [
        [[body()]],
        {"error": True},
        {"error": {"reason": 7}},
        {**body(), "hourly_units": []},
        {**body(), "hourly": [1]},
        body(time=[10**30 + 3600 * n for n in range(4)]),
        body(time=[-(10**30)] * 4),
        body(wind_speed_10m=[10**400] * 4),
        body(wind_speed_10m=[True] * 4),
    ]
    for document in strange:
        world.api.misbehave(json_reply(document))
        with pytest.raises(GridtideError):
            world.source.fetch_runs("FR", NOW)


# ---------------------------------------------------------------------------- the fake itself


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ({"latitude": "1,2"}, 400, "must have the same number of elements"),
        ({"latitude": "", "longitude": ""}, 400, "must have the same number of elements"),
        ({"latitude": "91"}, 400, "Latitude must be in range"),
        ({"longitude": "181"}, 400, "Longitude must be in range"),
        (
            {"forecast_days": "17"},
            400,
            "Forecast days is invalid. Allowed range 0 to 16. Given 17.",
        ),
        ({"past_days": "93"}, 400, "Past days is invalid. Allowed range 0 to 92. Given 93."),
        ({"hourly": "wind_speed"}, 400, "invalid String value wind_speed"),
        ({"wind_speed_unit": "m/s"}, 400, "Invalid String value m/s"),
        ({"timeformat": "unix"}, 400, "Invalid String value unix"),
        ({"timezone": "Mars/Base"}, 400, "Invalid timezone"),
    ],
)
def test_fake_refuses_what_the_real_one_refuses(
    world: World, query: dict[str, str], status: int, reason: str
) -> None:
    good = {"latitude": "1", "longitude": "2", "hourly": "wind_speed_10m"}
    with pytest.raises(ForecastUnavailableError) as caught:
        world.http.get_json("/v1/forecast", {**good, **query})
    assert caught.value.fields["status"] == status
    assert reason in str(caught.value.fields["answer"])


def test_fake_has_the_traps_of_the_defaults(world: World) -> None:
    get: Callable[..., Any] = world.http.get_json
    asked = {"latitude": "1", "longitude": "0", "hourly": "wind_speed_10m"}
    default = get("/v1/forecast", asked)
    assert default["hourly_units"] == {"time": "iso8601", "wind_speed_10m": "km/h"}
    assert default["hourly"]["time"][0] == "2026-01-20T00:00"
    assert default["hourly"]["wind_speed_10m"][0] == 7.2
    local = get("/v1/forecast", {**asked, "timezone": "Europe/Berlin", "timeformat": "unixtime"})
    assert local["hourly"]["time"][0] == int((TODAY - HOUR).timestamp())
