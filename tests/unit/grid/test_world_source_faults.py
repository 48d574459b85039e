"""The same faults before WattTime, Electricity Maps and the Carbon Aware SDK: each is named."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from adapters.grid.carbon_aware_sdk import CarbonAwareSdk
from adapters.grid.electricity_maps import ElectricityMaps
from adapters.grid.watttime import WattTime
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastUnavailableError, GridtideError, UpstreamError
from scheduler.core.forecast import IntensitySeries, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.fakes.carbon_aware_sdk import FakeCarbonAwareSdk
from tests.fakes.clock import ManualClock
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.loopback_http import (
    Behaviour,
    LoopbackServer,
    cut_off,
    drip_body,
    gzip_bomb,
    json_reply,
    raw_reply,
    redirect,
    refused_url,
    reset,
    silence,
)
from tests.fakes.watttime import FakeWattTime

NOW = datetime(2026, 1, 20, 14, tzinfo=UTC)
AHEAD = Window(NOW, NOW + timedelta(hours=12))
PAST = Window(NOW - timedelta(hours=12), NOW)
PATIENT = Limits(connect_s=10, read_s=20, total_s=30, max_body_bytes=200_000)
CLOCK = ManualClock(NOW)
HTML = "text/html"
Source = WattTime | ElectricityMaps | CarbonAwareSdk


@dataclass(frozen=True)
class World:
    """One source and the fake that it asks."""

    api: LoopbackServer
    waits: list[float]
    build: Callable[[HttpClient], Source]
    zone_id: str
    headers: dict[str, str]

    def source(self, limits: Limits = PATIENT, url: str | None = None) -> Source:
        http = HttpClient(
            url or self.api.url, headers=self.headers, limits=limits, wait=self.waits.append
        )
        return self.build(http)

    def fetches(self, source: Source) -> list[Callable[[], IntensitySeries]]:
        return [
            lambda: source.fetch_forecast(self.zone_id, Scope.DIRECT, AHEAD),
            lambda: source.fetch_actuals(self.zone_id, Scope.DIRECT, PAST),
        ]


def watttime(http: HttpClient) -> Source:
    return WattTime(
        http,
        clock=CLOCK,
        user=FakeWattTime.user,
        password=FakeWattTime.password,
        regions={"US-CAL-CISO": "CAISO_NORTH"},
    )


def electricity_maps(http: HttpClient) -> Source:
    return ElectricityMaps(http, clock=CLOCK, zones=frozenset({"DE"}))


def carbon_aware_sdk(http: HttpClient) -> Source:
    return CarbonAwareSdk(
        http,
        locations={"IE": "northeurope"},
        signal=SignalKind.MARGINAL,
        scope=Scope.DIRECT,
    )


TOKEN = {"auth-token": FakeElectricityMaps.token}
WORLDS: dict[
    str,
    tuple[
        Callable[[datetime], LoopbackServer], Callable[[HttpClient], Source], str, dict[str, str]
    ],
] = {
    "watttime": (FakeWattTime, watttime, "US-CAL-CISO", {}),
    "electricity_maps": (FakeElectricityMaps, electricity_maps, "DE", TOKEN),
    "carbon_aware_sdk": (FakeCarbonAwareSdk, carbon_aware_sdk, "IE", {}),
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    fake, build, zone_id, headers = WORLDS[request.param]
    with fake(NOW) as api:
        yield World(api, [], build, zone_id, headers)


@pytest.mark.parametrize(
    ("behaviour", "says", "tries"),
    [
        (reset, "no answer: ReadError (3 tries)", 3),
        (cut_off(b'{"data": []}'), "no answer: RemoteProtocolError (3 tries)", 3),
        (json_reply({"error": "oops"}, status=500), "answered 500 (3 tries): oops", 3),
        (raw_reply(b"<html>", status=502, content_type=HTML), "answered 502 (3 tries)", 3),
        (raw_reply(b"<html>", status=503, content_type=HTML), "answered 503 (3 tries)", 3),
        (json_reply({}, status=504), "answered 504 (3 tries)", 3),
        (json_reply({"message": "slow down"}, status=429), "429 (3 tries): slow down", 3),
        (json_reply({"title": "bad"}, status=400), "answered 400: bad", 1),
        (raw_reply(b"<html>", status=404, content_type=HTML), "answered 404", 1),
        (json_reply({"detail": [{"msg": "no"}]}, status=422), "answered 422: [{'msg': 'no'}]", 1),
        (redirect("/elsewhere"), "redirects more than 3 times", 4),
        (raw_reply(b"<html>", content_type=HTML), "text/html instead of JSON", 1),
        (raw_reply(b'{"data": [{"point_time": "2026-'), "broken JSON", 1),
        (raw_reply(b""), "broken JSON", 1),
        (raw_reply(b"[" * 90_000), "broken JSON", 1),
        (gzip_bomb(20_000_000), "more than 200000 bytes", 1),
        (raw_reply(b'{"data": [' + b" " * 10_000_000), "more than 200000 bytes", 1),
    ],
)
def test_fault_of_the_server_is_no_answer_and_named(
    world: World, behaviour: Behaviour, says: str, tries: int
) -> None:
    source = world.source()
    for fetch in world.fetches(source):
        fetch()
        world.api.asked.clear()
        world.api.misbehave(always=behaviour)
        tracemalloc.start()
        try:
            with pytest.raises(ForecastUnavailableError) as caught:
                fetch()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        world.api.misbehave()
        assert says in caught.value.message
        assert caught.value.fields == {"zone": world.zone_id, "source": source.info.name}
        assert len(world.api.asked) == tries
        assert peak < 4_000_000


@pytest.mark.parametrize(
    ("behaviour", "limits", "says"),
    [
        (silence, Limits(read_s=0.1, attempts=2), "no answer: ReadTimeout (2 tries)"),
        (drip_body(), Limits(total_s=0.2, attempts=2), "took longer than 0.2 s (2 tries)"),
    ],
)
def test_server_that_is_too_slow_is_no_answer(
    world: World, behaviour: Behaviour, limits: Limits, says: str
) -> None:
    world.api.misbehave(always=behaviour)
    for fetch in world.fetches(world.source(limits)):
        with pytest.raises(ForecastUnavailableError) as caught:
            fetch()
        assert says in caught.value.message


def test_server_that_is_not_there_is_no_answer(world: World) -> None:
    for fetch in world.fetches(world.source(url=refused_url())):
        with pytest.raises(ForecastUnavailableError, match=r"no answer: ConnectError \(3 tries\)"):
            fetch()


def test_retry_after_is_waited_for_and_the_good_answer_taken(world: World) -> None:
    for fetch in world.fetches(world.source()):
        world.waits.clear()
        world.api.misbehave(
            json_reply({}, status=429, headers={"Retry-After": "4"}),
            json_reply({}, status=503, headers={"Retry-After": "3600"}),
        )
        assert fetch().zone_id == world.zone_id
        assert world.waits == [4, 30]


def test_too_many_requests_without_a_time_to_wait_are_tried_again(world: World) -> None:
    for fetch in world.fetches(world.source()):
        world.waits.clear()
        world.api.misbehave(json_reply({}, status=429))
        assert fetch().zone_id == world.zone_id
        assert len(world.waits) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_page_in_place_of_a_refusal_is_an_error_without_its_text(world: World, status: int) -> None:
    page = raw_reply(b"<html>secret page</html>", status=status, content_type=HTML)
    for fetch in world.fetches(world.source()):
        world.api.misbehave(always=page)
        world.api.asked.clear()
        with pytest.raises(ForecastUnavailableError, match=str(status)) as caught:
            fetch()
        assert "secret page" not in caught.value.message
        # WattTime logs in once more; nobody else asks again.
        assert len({urlsplit(one.path).path for one in world.api.asked}) == len(world.api.asked)


def test_every_error_is_one_of_ours_whatever_json_arrives(world: World) -> None:
    strange: list[object] = [
        None,
        7,
        "ok",
        [],
        {},
        [[]],
        [{}],
        [None],
        {"data": [[]], "meta": []},
        {"zone": "DE", "data": {}, "meta": {"region": 1}},
        {"zone": "DE", "forecast": [{"datetime": "", "carbonIntensity": 1}]},
        {"zone": "DE", "forecast": [{"datetime": "\x00", "carbonIntensity": 10**400}]},
        [{"location": "northeurope", "forecastData": [{"timestamp": "", "value": 1}]}],
        [{"time": "9999-12-31T23:59:59Z", "rating": 1, "duration": "23:59:59"}],
        [{"time": "0001-01-01T00:00:00+09:00", "rating": 1, "duration": "00:05:00"}],
    ]
    for fetch in world.fetches(world.source()):
        fetch()
        for document in strange:
            world.api.misbehave(always=json_reply(json.loads(json.dumps(document))))
            with pytest.raises(GridtideError) as caught:
                fetch()
            assert isinstance(caught.value, UpstreamError)
            assert caught.value.fields == {
                "zone": world.zone_id,
                "source": WORLD_NAMES[type(world.api)],
            }
        world.api.misbehave()


WORLD_NAMES = {
    FakeWattTime: "watttime",
    FakeElectricityMaps: "electricity_maps",
    FakeCarbonAwareSdk: "carbon_aware_sdk",
}
