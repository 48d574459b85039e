"""Faults of the servers behind derived intensity: each is no answer, named, within bounds."""

import gzip
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from adapters.grid.eia import Eia
from adapters.grid.entsoe import Entsoe
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import Scope
from scheduler.core.timegrid import Window
from scheduler.ports import HistorySource
from tests.fakes.clock import ManualClock
from tests.fakes.eia import FakeEia
from tests.fakes.entsoe import FakeEntsoe
from tests.fakes.loopback_http import (
    Behaviour,
    Exchange,
    LoopbackServer,
    hang_up,
    raw_reply,
    redirect,
    refused_url,
    reset,
    silence,
)

NOW = datetime(2026, 1, 20, 14, tzinfo=UTC)
WINDOW = Window(NOW - timedelta(hours=12), NOW - timedelta(hours=9))
PATIENT = Limits(connect_s=10, read_s=20, total_s=30, max_body_bytes=1_000_000)
HTML = "text/html"
FLOOD = b" " * 5_000_000
BOMB = gzip.compress(FLOOD * 4, 9)


def wanted(to: Exchange) -> str:
    """The media type that the source asked for."""
    return to.headers["Accept"].partition(",")[0]


def cut(to: Exchange) -> None:
    to.reply(b"<a>12345</a>", content_type=wanted(to), length=99)


def bomb(to: Exchange) -> None:
    to.reply(BOMB, content_type=wanted(to), headers={"Content-Encoding": "gzip"})


def flood(to: Exchange) -> None:
    to.reply(FLOOD, content_type=wanted(to))


def drip(to: Exchange) -> None:
    to.send_response(200)
    to.send_header("Content-Type", wanted(to))
    to.end_headers()
    while not to.owner.closing.wait(0.01):
        to.wfile.write(b" ")


class Bench:
    """A source, its fake, and the pauses between its tries."""

    def __init__(
        self,
        api: LoopbackServer,
        zone_id: str,
        secrets: dict[str, str],
        build: Callable[[HttpClient], HistorySource],
    ) -> None:
        self.api = api
        self.waits: list[float] = []
        self._zone_id, self._secrets, self._build = zone_id, secrets, build

    def fetch(self, limits: Limits = PATIENT, url: str | None = None) -> int:
        """Number of intervals."""
        http = HttpClient(
            url or self.api.url,
            secret_params=self._secrets,
            limits=limits,
            wait=self.waits.append,
        )
        try:
            series = self._build(http).fetch_actuals(self._zone_id, Scope.LIFECYCLE, WINDOW)
            return len(series.mg_per_kwh)
        finally:
            http.close()


@contextmanager
def entsoe_bench() -> Iterator[Bench]:
    with FakeEntsoe(NOW) as api:
        secrets = {"securityToken": FakeEntsoe.token}
        yield Bench(api, "FR", secrets, lambda http: Entsoe(http, clock=ManualClock(NOW)))


@contextmanager
def eia_bench() -> Iterator[Bench]:
    with FakeEia(NOW) as api:
        yield Bench(api, "US-TEX-ERCO", {"api_key": FakeEia.key}, Eia)


@pytest.fixture(params=[entsoe_bench, eia_bench], ids=["entsoe", "eia"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with request.param() as made:
        yield made


@pytest.mark.parametrize(
    ("behaviour", "says", "tries"),
    [
        (reset, "no answer: ReadError (3 tries)", 3),
        (hang_up, "no answer: RemoteProtocolError (3 tries)", 3),
        (cut, "no answer: RemoteProtocolError (3 tries)", 3),
        (raw_reply(b"<html>", status=500, content_type=HTML), "answered 500 (3 tries)", 3),
        (raw_reply(b"<html>", status=503, content_type=HTML), "answered 503 (3 tries)", 3),
        (raw_reply(b"slow down", status=429, content_type="text/plain"), "answered 429 (3", 3),
        (raw_reply(b"<html>", status=401, content_type=HTML), "answered 401", 1),
        (raw_reply(b"<html>403 Forbidden", status=403, content_type=HTML), "answered 403", 1),
        (raw_reply(b"page not found", status=404, content_type="text/plain"), "answered 404", 1),
        (redirect("/elsewhere"), "redirects more than 3 times", 4),
        (raw_reply(b"<html>", content_type=HTML), "text/html instead of", 1),
        (raw_reply(b"", content_type=None), "no content type instead of", 1),
        (bomb, "more than 1000000 bytes", 1),
        (flood, "more than 1000000 bytes", 1),
    ],
)
def test_fault_of_the_server_is_no_answer_and_named(
    bench: Bench, behaviour: Behaviour, says: str, tries: int
) -> None:
    bench.api.misbehave(always=behaviour)
    tracemalloc.start()
    try:
        with pytest.raises(ForecastUnavailableError) as caught:
            bench.fetch()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert says in caught.value.message
    assert len(bench.api.asked) == tries
    assert len(bench.waits) == (2 if tries == 3 else 0)
    assert peak < 4_000_000


@pytest.mark.parametrize(
    ("behaviour", "limits", "says"),
    [
        (silence, Limits(read_s=0.1, attempts=2), r"no answer: ReadTimeout \(2 tries\)"),
        (drip, Limits(total_s=0.3, attempts=2), r"took longer than 0.3 s \(2 tries\)"),
    ],
)
def test_server_that_is_too_slow_is_no_answer(
    bench: Bench, behaviour: Behaviour, limits: Limits, says: str
) -> None:
    bench.api.misbehave(always=behaviour)
    with pytest.raises(ForecastUnavailableError, match=says):
        bench.fetch(limits)


def test_server_that_is_not_there_is_no_answer(bench: Bench) -> None:
    with pytest.raises(ForecastUnavailableError, match=r"no answer: ConnectError \(3 tries\)"):
        bench.fetch(url=refused_url())


def test_retry_after_is_waited_for_and_the_good_answer_taken(bench: Bench) -> None:
    bench.api.misbehave(
        raw_reply(b"", status=429, headers={"Retry-After": "4"}),
        raw_reply(b"", status=503, headers={"Retry-After": "3600"}),
    )
    assert bench.fetch() in {3, 12}
    assert bench.waits == [4, 30]
