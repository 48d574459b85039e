"""Faults of the servers and networks behind the sources that need no key: none is taken for data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from adapters.grid.energinet import Energinet
from adapters.grid.energy_charts import EnergyCharts
from adapters.grid.neso_regions_gb import NesoRegionsGB
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastUnavailableError, GridtideError, UpstreamError
from scheduler.core.forecast import IntensitySeries, Scope
from scheduler.core.timegrid import Window
from scheduler.ports import ForecastSource
from tests.fakes.clock import ManualClock
from tests.fakes.energinet import FakeEnerginet
from tests.fakes.energy_charts import FakeEnergyCharts
from tests.fakes.loopback_http import (
    Behaviour,
    LoopbackServer,
    cut_off,
    drip_body,
    gzip_bomb,
    json_reply,
    raw_reply,
    redirect,
    reset,
    silence,
)
from tests.fakes.neso_regions_gb import FakeNesoRegionsGB

NOW = datetime(2026, 1, 20, 14, tzinfo=UTC)
WINDOW = Window(NOW, NOW + timedelta(hours=6))
HTML = "text/html"


@dataclass(frozen=True)
class Served:
    """A source, and the server that it asks."""

    api: LoopbackServer
    zone_id: str
    scope: Scope
    open_source: Callable[[HttpClient], ForecastSource]

    def fetch(self, limits: Limits, waits: list[float] | None = None) -> IntensitySeries:
        """One forecast by an adapter of its own."""
        http = HttpClient(self.api.url, limits=limits, wait=(waits or []).append)
        try:
            return self.open_source(http).fetch_forecast(self.zone_id, self.scope, WINDOW)
        finally:
            http.close()


def energy_charts() -> Served:
    return Served(FakeEnergyCharts(NOW), "DE", Scope.LIFECYCLE, EnergyCharts)


def energinet() -> Served:
    clock = ManualClock(NOW)
    api = FakeEnerginet(NOW, clock)
    return Served(api, "DK-DK1", Scope.DIRECT, lambda http: Energinet(http, clock=clock))


def neso_regions_gb() -> Served:
    return Served(FakeNesoRegionsGB(NOW), "GB-London", Scope.DIRECT, NesoRegionsGB)


@pytest.fixture(scope="module", params=[energy_charts, energinet, neso_regions_gb])
def opened(request: pytest.FixtureRequest) -> Iterator[Served]:
    served: Served = request.param()
    yield served
    served.api.close()


@pytest.fixture
def served(opened: Served) -> Served:
    opened.api.misbehave()
    opened.api.asked.clear()
    return opened


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (reset, "no answer: ReadError (1 tries)"),
        (cut_off(b'{"data": [], "records": []}'), "no answer: RemoteProtocolError"),
        (json_reply({"detail": "no"}, status=400), "answered 400"),
        (json_reply({}, status=401), "answered 401"),
        (raw_reply(b"<html>", status=403, content_type=HTML), "answered 403"),
        (raw_reply(b"<html>", status=404, content_type=HTML), "answered 404"),
        (json_reply({}, status=429), "answered 429 (1 tries)"),
        (json_reply({}, status=500), "answered 500 (1 tries)"),
        (raw_reply(b"<html>", status=503, content_type=HTML), "answered 503 (1 tries)"),
        (redirect("http://elsewhere.example/"), "redirects to http://elsewhere.example/"),
        (raw_reply(b"<html>maintenance", content_type=HTML), "text/html instead of JSON"),
        (raw_reply(b'{"data": [{"fr'), "broken JSON"),
        (raw_reply(b""), "broken JSON"),
        (gzip_bomb(20_000_000), "more than 200000 bytes"),
    ],
)
def test_fault_is_no_answer_and_named(served: Served, behaviour: Behaviour, says: str) -> None:
    served.api.misbehave(always=behaviour)
    limits = Limits(attempts=1, max_body_bytes=200_000)
    with pytest.raises(ForecastUnavailableError) as caught:
        served.fetch(limits)
    assert says in caught.value.message
    assert caught.value.message.startswith(served.api.url)
    assert len(served.api.asked) == 1


@pytest.mark.parametrize(
    ("behaviour", "limits", "says"),
    [
        (silence, Limits(attempts=1, read_s=0.1), "no answer: ReadTimeout"),
        (drip_body(), Limits(attempts=1, total_s=0.3), "took longer than 0.3 s"),
    ],
)
def test_server_that_is_too_slow_is_no_answer(
    served: Served, behaviour: Behaviour, limits: Limits, says: str
) -> None:
    served.api.misbehave(always=behaviour)
    with pytest.raises(ForecastUnavailableError) as caught:
        served.fetch(limits)
    assert says in caught.value.message


def test_retry_after_is_waited_for_where_tries_are_allowed(served: Served) -> None:
    served.api.misbehave(json_reply({}, status=429, headers={"Retry-After": "4"}))
    waits = [0.0]
    assert served.fetch(Limits(attempts=2), waits).integral_mg_s(WINDOW) is not None
    assert waits == [0.0, 4.0]


@pytest.mark.parametrize(
    "document",
    [
        None,
        7,
        "ok",
        [],
        {},
        {"data": 0, "records": 0, "unix_seconds": 0},
        {"data": [[]], "records": [[]], "unix_seconds": [[]], "co2eq_forecast": [[]]},
        {"data": {}, "records": [{}], "unix_seconds": [1], "co2eq_forecast": [10**400]},
        {
            "data": [{"regionid": 13, "data": [{}]}],
            "unix_seconds": [10**400],
            "co2eq_forecast": [1],
        },
        {
            "data": {"regionid": 13, "data": [{"from": "\0", "to": "", "intensity": {}}]},
            "records": [{"Minutes5UTC": "\0", "PriceArea": "DK1", "CO2Emission": 1}],
            "unix_seconds": [-(10**15), 0],
            "co2eq_forecast": [1, 1],
        },
    ],
)
def test_every_error_is_one_of_ours_whatever_json_arrives(served: Served, document: object) -> None:
    served.api.misbehave(json_reply(document))
    with pytest.raises(GridtideError) as caught:
        served.fetch(Limits(attempts=1))
    assert isinstance(caught.value, UpstreamError)
    assert len(caught.value.message) < 500
