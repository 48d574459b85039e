"""The HTTP client against a server that misbehaves: bounds, retries, redirects, no secret leaks."""

import contextlib
import gzip
import json
import logging
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from adapters.http_client import HttpClient, HttpReply, Limits, NoReplyError, Stop
from scheduler.core.errors import ForecastUnavailableError, InvalidConfigError
from tests.fakes.loopback_http import (
    Behaviour,
    Exchange,
    LoopbackServer,
    cut_off,
    drip_body,
    drip_headers,
    gzip_bomb,
    hang_up,
    json_reply,
    raw_reply,
    redirect,
    refused_url,
    reply_and_stay,
    reset,
    silence,
)

GOOD = {"data": [1, 2, 3]}
PATIENT = Limits(connect_s=10, read_s=20, total_s=30, max_body_bytes=100_000, attempts=3)
NO_SILENCE = replace(PATIENT, read_s=0.1)
NO_DRIP = replace(PATIENT, total_s=0.3)
Make = Callable[..., HttpClient]


class Upper(random.Random):
    """Always the longest pause."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(json_reply(GOOD)) as made:
        yield made


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def make(server: LoopbackServer, waits: list[float]) -> Iterator[Make]:
    made: list[HttpClient] = []

    def build(url: str | None = None, **kwargs: object) -> HttpClient:
        options = {"limits": PATIENT, "wait": waits.append, **kwargs}
        made.append(HttpClient(url or server.url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for client in made:
        client.close()


def failure(client: HttpClient, path: str = "/x") -> str:
    with pytest.raises(ForecastUnavailableError) as caught:
        client.get_json(path)
    assert caught.value.retryable
    assert caught.value.fields["url"] == client.base_url + path
    return caught.value.message


def test_good_answer_is_its_document_after_one_request(
    server: LoopbackServer, make: Make, waits: list[float]
) -> None:
    assert make().get_json("/a/b", {"zone": "G B"}) == GOOD
    assert [asked.path for asked in server.asked] == ["/a/b?zone=G+B"]
    assert waits == []


def test_request_says_who_asks_for_what(server: LoopbackServer, make: Make) -> None:
    make(headers={"X-Key": "k"}).get_json("/x")
    headers = server.asked[0].headers
    assert headers["Accept"] == "application/json"
    assert headers["Accept-Encoding"] == "gzip"
    assert headers["User-Agent"].startswith("gridtide")
    assert headers["X-Key"] == "k"


@pytest.mark.parametrize(
    "kind", ["application/json", "APPLICATION/JSON; charset=utf-8", "a/b+json"]
)
def test_json_content_types_are_taken(server: LoopbackServer, make: Make, kind: str) -> None:
    server.misbehave(raw_reply(b"[1]", content_type=kind))
    assert make().get_json("/x") == [1]


def test_gzipped_answer_is_unpacked(server: LoopbackServer, make: Make) -> None:
    packed = gzip.compress(json.dumps(GOOD).encode())
    server.misbehave(raw_reply(packed, headers={"Content-Encoding": "gzip"}))
    assert make().get_json("/x") == GOOD


# --------------------------------------------------------------------------- tried again


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (json_reply({}, status=429), "answered 429 (3 tries)"),
        (json_reply({}, status=500), "answered 500 (3 tries)"),
        (json_reply({}, status=502), "answered 502 (3 tries)"),
        (json_reply({}, status=503), "answered 503 (3 tries)"),
        (json_reply({}, status=504), "answered 504 (3 tries)"),
        (reset, "no answer: ReadError (3 tries)"),
        (hang_up, "no answer: RemoteProtocolError (3 tries)"),
        (raw_reply(b"x", headers={"Bad Name": "x"}), "no answer: RemoteProtocolError (3 tries)"),
        (cut_off(b"[1, 2, 3, 4]"), "no answer: RemoteProtocolError (3 tries)"),
    ],
)
def test_passing_trouble_is_tried_three_times_and_named(
    server: LoopbackServer, make: Make, waits: list[float], behaviour: Behaviour, says: str
) -> None:
    server.misbehave(always=behaviour)
    assert failure(make()) == f"{server.url}/x {says}"
    assert len(server.asked) == 3
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("behaviour", "limits", "says"),
    [
        (silence, NO_SILENCE, "no answer: ReadTimeout (3 tries)"),
        (drip_body(), NO_DRIP, "took longer than 0.3 s (3 tries)"),
        (drip_headers, NO_DRIP, "took longer than 0.3 s (3 tries)"),
    ],
)
def test_slow_answer_is_cut_off_tried_again_and_named(
    server: LoopbackServer, make: Make, behaviour: Behaviour, limits: Limits, says: str
) -> None:
    server.misbehave(always=behaviour)
    assert failure(make(limits=limits)) == f"{server.url}/x {says}"
    assert len(server.asked) == 3


def test_second_call_is_cut_off_like_the_first(server: LoopbackServer, make: Make) -> None:
    server.misbehave(reply_and_stay(b"[1]"), always=drip_body())
    client = make(limits=replace(NO_DRIP, attempts=1))
    assert client.get_json("/x") == [1]
    assert "took longer than 0.3 s (1 tries)" in failure(client)


def test_time_that_is_up_before_the_connection_stands_counts_too(
    server: LoopbackServer, make: Make
) -> None:
    server.misbehave(always=silence)
    limits = replace(PATIENT, total_s=0, attempts=1)
    assert "took longer than 0 s (1 tries)" in failure(make(limits=limits))


def test_dripped_gzip_that_yields_no_byte_is_cut_off_too(
    server: LoopbackServer, make: Make
) -> None:
    packed = gzip.compress(random.Random(1).randbytes(50_000))

    def drip(to: Exchange) -> None:
        to.send_response(200)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Encoding", "gzip")
        to.end_headers()
        for byte in packed:
            to.wfile.write(bytes([byte]))
            if to.owner.closing.wait(0.01):
                return

    server.misbehave(always=drip)
    assert "took longer than 0.3 s (1 tries)" in failure(make(limits=replace(NO_DRIP, attempts=1)))


def test_refused_connection_is_tried_again(make: Make, waits: list[float]) -> None:
    assert "no answer: ConnectError (3 tries)" in failure(make(refused_url()))
    assert len(waits) == 2


def test_trouble_that_passes_is_invisible(
    server: LoopbackServer, make: Make, waits: list[float]
) -> None:
    server.misbehave(json_reply({}, status=503), reset)
    assert make().get_json("/x") == GOOD
    assert len(server.asked) == 3
    assert len(waits) == 2


def test_number_of_tries_is_the_configured_one(
    server: LoopbackServer, make: Make, waits: list[float]
) -> None:
    server.misbehave(always=json_reply({}, status=500))
    limits = Limits(attempts=1)
    assert "(1 tries)" in failure(make(limits=limits))
    assert len(server.asked) == 1
    assert waits == []


def test_pauses_are_random_below_a_doubling_ceiling(
    server: LoopbackServer, make: Make, waits: list[float]
) -> None:
    server.misbehave(always=json_reply({}, status=500))
    limits = Limits(attempts=9)
    failure(make(limits=limits, chance=Upper()))
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    waits.clear()
    failure(make(limits=limits, chance=random.Random(7)))
    assert len(set(waits)) == 8
    assert all(
        0 < wait < top for wait, top in zip(waits, [1, 2, 4, 8, 16, 30, 30, 30], strict=True)
    )


@pytest.mark.parametrize(
    ("after", "pause"),
    [
        ("7", 7.0),
        ("31", 30.0),
        ("9" * 400, 30.0),
        # Not usable, or already over: the longest pause of the first try.
        ("0", 1.0),
        ("-5", 1.0),
        ("1.5", 1.0),
        ("soon", 1.0),
        ("\xb2", 1.0),
        ("", 1.0),
        ("Wed, 32 Oct 2026 07:28:00 GMT", 1.0),
        ("Wed, 21 Oct 2026 07:28:00 +99999999999999", 1.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_honoured_up_to_a_cap(
    server: LoopbackServer, make: Make, waits: list[float], status: int, after: str, pause: float
) -> None:
    server.misbehave(json_reply({}, status=status, headers={"Retry-After": after}))
    assert make(chance=Upper()).get_json("/x") == GOOD
    assert waits == [pause]


@pytest.mark.parametrize(("after_s", "pause"), [(11, 11.0), (86_400, 30.0), (0, 1.0), (-60, 1.0)])
def test_retry_after_as_a_date_counts_from_the_servers_own_date(
    server: LoopbackServer, make: Make, waits: list[float], after_s: int, pause: float
) -> None:
    its_now = datetime(2011, 11, 11, 11, 11, tzinfo=UTC)
    after = format_datetime(its_now + timedelta(seconds=after_s), usegmt=True)

    def busy(to: Exchange) -> None:
        to.send_response_only(429)
        to.send_header("Date", format_datetime(its_now, usegmt=True))
        to.send_header("Retry-After", after)
        to.end_headers()

    server.misbehave(busy)
    assert make(chance=Upper()).get_json("/x") == GOOD
    assert waits == [pause]


@pytest.mark.parametrize("date", [None, "yesterday", "Fri, 11 Nov 2011 11:11:11"])
def test_retry_after_date_without_a_date_to_count_from_is_a_usual_pause(
    server: LoopbackServer, make: Make, waits: list[float], date: str | None
) -> None:
    def busy(to: Exchange) -> None:
        to.send_response_only(429)
        if date is not None:
            to.send_header("Date", date)
        to.send_header("Retry-After", "Fri, 11 Nov 2011 11:11:21 GMT")
        to.end_headers()

    server.misbehave(busy)
    assert make(chance=Upper()).get_json("/x") == GOOD
    assert waits == [1.0]


# ---------------------------------------------------------------------- not tried again


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        *((json_reply({}, status=code), f"answered {code}") for code in (400, 401, 403, 404, 422)),
        (json_reply({}, status=501), "answered 501"),
        (raw_reply(b"", status=304), "answered 304"),
        (
            raw_reply(b"<html>", content_type="text/html; charset=utf-8"),
            "answered with text/html instead of JSON",
        ),
        (raw_reply(b"[1]", content_type=None), "answered with no content type instead of JSON"),
        (raw_reply(b'{"data": ['), "answered with broken JSON"),
        (raw_reply(b""), "answered with broken JSON"),
        (raw_reply(b"\xff\xfe\xfa"), "answered with broken JSON"),
        (raw_reply(b"[" * 90_000), "answered with broken JSON"),
        (raw_reply(b"1" * 90_000), "answered with broken JSON"),
        (
            raw_reply(b"plain", headers={"Content-Encoding": "gzip"}),
            "cannot be decompressed",
        ),
        (
            raw_reply(gzip.compress(b"[1]")[:-4], headers={"Content-Encoding": "gzip"}),
            "cannot be decompressed: it ends early",
        ),
        (
            raw_reply(b"[1]", headers={"Content-Encoding": "br"}),
            "answered in encoding 'br', not in gzip",
        ),
    ],
)
def test_lasting_trouble_is_not_tried_again_and_named(
    server: LoopbackServer, make: Make, waits: list[float], behaviour: Behaviour, says: str
) -> None:
    server.misbehave(always=behaviour)
    assert failure(make()) == f"{server.url}/x {says}"
    assert len(server.asked) == 1
    assert waits == []


def test_refusal_carries_its_status_and_answer_without_our_secrets(
    server: LoopbackServer, make: Make
) -> None:
    server.misbehave(always=json_reply({"error": "key K3y and token T0k are no good"}, status=403))
    client = make(secret_params={"api_key": "K3y"})
    with pytest.raises(ForecastUnavailableError) as caught:
        client.get_json("/x", headers={"Authorization": "Bearer T0k"})
    assert caught.value.fields["status"] == 403
    assert caught.value.fields["answer"] == '{"error": "key *** and token *** are no good"}'
    assert "api_key=K3y" in server.asked[0].path
    assert server.asked[0].headers["Authorization"] == "Bearer T0k"
    assert "K3y" not in caught.value.message


def test_status_of_passing_trouble_is_in_the_fields_too(server: LoopbackServer, make: Make) -> None:
    server.misbehave(
        always=raw_reply(b"\x1f\x8b busy", status=429, headers={"Content-Encoding": "gzip"})
    )
    with pytest.raises(ForecastUnavailableError) as caught:
        make().get_json("/x")
    assert (caught.value.fields["status"], caught.value.fields["answer"]) == (429, "")
    assert "retry_after_s" not in caught.value.fields


@pytest.mark.parametrize(("after", "asked_s"), [("7200", 7200), ("9" * 400, 86_400)])
def test_when_to_come_again_is_in_the_fields_a_day_at_most(
    server: LoopbackServer, make: Make, after: str, asked_s: int
) -> None:
    server.misbehave(always=json_reply({}, status=429, headers={"Retry-After": after}))
    with pytest.raises(ForecastUnavailableError) as caught:
        make().get_json("/x")
    assert caught.value.fields["retry_after_s"] == asked_s


# ------------------------------------------------------------------------ other answers


def test_no_content_is_none(server: LoopbackServer, make: Make) -> None:
    server.misbehave(raw_reply(b"", status=204))
    assert make().get_json("/x") is None


def test_list_of_values_repeats_its_parameter(server: LoopbackServer, make: Make) -> None:
    make().get_json("/x", {"a": ["1", "2"], "b": "3"})
    assert server.asked[0].path == "/x?a=1&a=2&b=3"


def test_text_is_taken_in_its_media_types_only(server: LoopbackServer, make: Make) -> None:
    page = raw_reply("<é/>".encode(), content_type="text/xml; charset=utf-8")
    server.misbehave(
        page, raw_reply(b"\xff\xfe", content_type="application/xml"), always=json_reply({})
    )
    client = make()
    assert client.get_text("/x") == "<é/>"
    assert server.asked[0].headers["Accept"] == "application/xml, text/xml"
    for says in ("is not UTF-8", "answered with application/json instead of XML"):
        with pytest.raises(ForecastUnavailableError, match=says):
            client.get_text("/x")


# ------------------------------------------------------------------------------- bounds


def test_body_may_be_as_long_as_the_limit_and_not_a_byte_longer(
    server: LoopbackServer, make: Make
) -> None:
    fits = b"[1]" + b" " * (PATIENT.max_body_bytes - 3)
    server.misbehave(raw_reply(fits), raw_reply(fits + b" "))
    assert make().get_json("/x") == [1]
    assert failure(make()) == f"{server.url}/x answered with more than 100000 bytes"


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (raw_reply(b" " * 10_000_000), "answered with more than 100000 bytes"),
        (gzip_bomb(20_000_000), "answered with more than 100000 bytes"),
        (gzip_bomb(20_000_000, times=2), "answered in encoding 'gzip, gzip', not in gzip"),
        (
            raw_reply(
                gzip.compress(b"[1]") + b"\0" * 10_000_000, headers={"Content-Encoding": "gzip"}
            ),
            "answered with more than 100000 bytes",
        ),
    ],
    ids=["10 MB", "gzip bomb", "gzip bomb in gzip", "tail after gzip"],
)
def test_memory_stays_bounded_whatever_arrives(
    server: LoopbackServer, make: Make, behaviour: Behaviour, says: str
) -> None:
    server.misbehave(behaviour)
    client = make()
    tracemalloc.start()
    try:
        assert says in failure(client)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    assert len(server.asked) == 1


def test_no_timer_outlives_its_try(server: LoopbackServer, make: Make) -> None:
    client = make(limits=Limits(total_s=1000))
    client.get_json("/x")
    server.misbehave(raw_reply(b"", status=404))
    failure(client)
    timers = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    for timer in timers:
        timer.join(5)
    assert not any(timer.is_alive() for timer in timers)


# ---------------------------------------------------------------------------- redirects


def test_redirect_on_the_same_host_is_followed(server: LoopbackServer, make: Make) -> None:
    server.misbehave(redirect("/y?z=1"), redirect(f"{server.url}/w", status=308))
    assert make(headers={"X-Key": "k"}).get_json("/x") == GOOD
    assert [asked.path for asked in server.asked] == ["/x", "/y?z=1", "/w"]
    assert {asked.headers["X-Key"] for asked in server.asked} == {"k"}


def test_redirect_loop_ends_after_three(
    server: LoopbackServer, make: Make, waits: list[float]
) -> None:
    server.misbehave(always=redirect("/x"))
    assert failure(make()) == f"{server.url}/x redirects more than 3 times"
    assert len(server.asked) == 4
    assert waits == []


def test_redirects_share_the_time_of_one_try(server: LoopbackServer, make: Make) -> None:
    server.misbehave(redirect("/y"), always=drip_body())
    assert "took longer than 0.3 s" in failure(make(limits=replace(NO_DRIP, attempts=1)))


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://evil.example/steal?key=hush", "https://evil.example/"),
        ("http://user:hush@127.0.0.2/", "http://127.0.0.2/"),
        ("http://127.0.0.1:1/other-port", "http://127.0.0.1:1/"),
        ("//evil.example/x", "http://evil.example/"),
        ("ftp://127.0.0.1/x", "ftp://127.0.0.1/"),
    ],
)
def test_redirect_elsewhere_is_not_followed_and_says_what_to_do(
    server: LoopbackServer, make: Make, location: str, shown: str
) -> None:
    server.misbehave(redirect(location))
    message = failure(make(headers={"X-Key": "k"}))
    assert f"redirects to {shown}, which is not followed; configure the url" in message
    assert "hush" not in message
    assert len(server.asked) == 1


def test_redirect_from_http_to_https_of_the_same_host_is_followed(
    server: LoopbackServer, make: Make
) -> None:
    server.misbehave(redirect(server.url.replace("http", "https")))
    # The server speaks no TLS: that it was tried shows in the error.
    limits = replace(PATIENT, attempts=1)
    assert "no answer: ConnectError (1 tries)" in failure(make(limits=limits))


def test_broken_location_is_an_error_of_ours(server: LoopbackServer, make: Make) -> None:
    server.misbehave(always=redirect("http://[::1"))
    assert "no answer: RemoteProtocolError (3 tries)" in failure(make())


# --------------------------------------------------------------------- urls and secrets


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.org",
        "ftp://api.example.org",
        "file:///etc/passwd",
        "https://",
        "http://[::1",
        "https://api.example.org?key=hush",
        "https://api.example.org#hush",
        "https://user:hush@api.example.org",
        "https://hush@api.example.org:port",
    ],
)
def test_url_that_is_no_plain_http_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        HttpClient(url)
    assert caught.value.message.startswith("url: must ")
    assert "hush" not in f"{caught.value.message} {caught.value.fields}"
    assert caught.value.__cause__ is None


def test_secrets_go_over_plain_http_to_this_machine_only() -> None:
    with pytest.raises(InvalidConfigError, match="must be https"):
        HttpClient("http://api.example.org", headers={"X-Key": "hush"})
    for url in ("https://api.example.org", "http://localhost:1", "http://[::1]:1"):
        HttpClient(url, headers={"X-Key": "hush"}).close()
    HttpClient("http://api.example.org").close()


def test_secrets_of_single_requests_can_be_kept_off_plain_http_beforehand(make: Make) -> None:
    with pytest.raises(InvalidConfigError, match="must be https"):
        make("http://api.example.org").require_private()
    make("https://api.example.org").require_private()
    make().require_private()


def test_trailing_slash_of_the_url_is_dropped(server: LoopbackServer, make: Make) -> None:
    make(f"{server.url}/v1/").get_json("/x")
    assert server.asked[0].path == "/v1/x"


@pytest.mark.parametrize(
    "behaviour",
    [
        json_reply(GOOD),
        json_reply({}, status=401),
        json_reply({}, status=500),
        redirect("http://127.0.0.1:1/"),
        reset,
        raw_reply(b"hush, not JSON"),
    ],
)
def test_no_secret_shows_in_an_error_or_in_any_log(
    server: LoopbackServer,
    make: Make,
    behaviour: Behaviour,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.misbehave(always=behaviour)
    client = make(headers={"X-Key": "hush-1"})
    shown = ""
    with caplog.at_level(logging.DEBUG):
        try:
            client.get_json("/x", {"api_key": "hush-2"})
        except ForecastUnavailableError as error:
            shown = f"{error!r} {error.message} {error.fields} {error.__cause__!r}"
    output = capsys.readouterr()
    for secret in ("hush-1", "hush-2"):
        assert secret not in shown + caplog.text + output.out + output.err
    assert "hush-1" not in repr(client)


def test_secrets_that_a_good_answer_repeats_are_blanked(server: LoopbackServer, make: Make) -> None:
    client = make(secret_params={"securityToken": "T0k&n-secret"})
    said = "/api?securityToken=T0k%26n-secret and T0k&amp;n-secret"
    xml = raw_reply(f"<text>{said}</text>".encode(), content_type="text/xml")
    server.misbehave(xml, json_reply({"text": ["T0k&n-secret", "Bearer passing-1", "passing-1"]}))
    assert client.get_text("/x") == "<text>/api?securityToken=*** and ***</text>"
    answer = client.get_json("/x", headers={"Authorization": "Bearer passing-1"})
    assert answer == {"text": ["***", "***", "***"]}


def test_short_secrets_do_not_garble_the_values_of_an_answer(
    server: LoopbackServer, make: Make
) -> None:
    server.misbehave(json_reply({"g_per_kwh": 12345.5}))
    assert make(secret_params={"key": "12345"}).get_json("/x") == {"g_per_kwh": 12345.5}


# ---------------------------------------------------------------------------- told to stop


def test_request_under_way_ends_when_it_is_time_to_stop(server: LoopbackServer) -> None:
    stop = Stop()
    client = HttpClient(server.url, limits=Limits(read_s=60, total_s=60), stop=stop)

    def stop_and_be_silent(to: Exchange) -> None:
        stop.set()
        silence(to)

    server.misbehave(always=stop_and_be_silent)
    with contextlib.closing(client):
        assert "was given up: the service stops" in failure(client)
        assert "was given up: the service stops" in failure(client)
    assert len(server.asked) == 1


def test_pause_between_tries_ends_when_it_is_time_to_stop(server: LoopbackServer) -> None:
    stop = Stop()
    client = HttpClient(server.url, stop=stop)
    server.misbehave(always=json_reply({}, status=503, headers={"Retry-After": "30"}))
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    with contextlib.closing(client):
        assert "was given up: the service stops" in failure(client)
    timer.join()
    assert len(server.asked) == 1


# ----------------------------------------------------------------- requests whose refusals are read


def test_refusal_is_an_answer_and_is_not_tried_again() -> None:
    with LoopbackServer(json_reply({"why": "no"}, status=500)) as server:
        reply = HttpClient(server.url, limits=PATIENT).send(
            "POST", "/jobs", {"a": "b"}, document={"name": "ä"}
        )
        assert reply == HttpReply(500, '{"why": "no"}')
        (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/jobs?a=b", b'{"name": "\\u00e4"}')
    assert asked.headers["Content-Type"] == "application/json"


def test_request_without_a_document_has_no_body() -> None:
    with LoopbackServer(raw_reply(b"", status=304, content_type=None)) as server:
        reply = HttpClient(server.url, limits=PATIENT).send("DELETE", "/jobs/1")
        assert reply == HttpReply(304, "")
        (asked,) = server.asked
    assert (asked.method, asked.body) == ("DELETE", b"")
    assert "Content-Type" not in asked.headers


def test_secret_headers_are_blanked_in_an_answer_and_plain_ones_are_not() -> None:
    said = {"user": "scientist", "token": "secret-of-the-scientist"}
    with LoopbackServer(json_reply(said)) as server:
        reply = HttpClient(server.url, limits=PATIENT).send(
            "GET",
            "/",
            headers={"X-Token": said["token"]},
            plain_headers={"X-User": said["user"]},
        )
        assert json.loads(reply.text) == {"user": "scientist", "token": "***"}
        assert server.asked[0].headers["X-Token"] == said["token"]
        assert server.asked[0].headers["X-User"] == "scientist"


def test_redirect_of_a_change_is_not_followed() -> None:
    with LoopbackServer(redirect("/elsewhere")) as server:
        assert HttpClient(server.url, limits=PATIENT).send("POST", "/", document={}).status == 302
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("behaviour", "limits", "words"),
    [
        (silence, NO_SILENCE, "ReadTimeout"),
        (drip_body(), NO_DRIP, "longer than 0.3 s"),
        (drip_headers, NO_DRIP, "longer than 0.3 s"),
        (reset, PATIENT, "no answer"),
        (hang_up, PATIENT, "no answer"),
        (cut_off(b"x" * 100), PATIENT, "no answer"),
        (raw_reply(b"x" * 100_001), PATIENT, "more than 100000 bytes"),
        (gzip_bomb(1_000_000), PATIENT, "more than 100000 bytes"),
    ],
)
def test_request_that_was_sent_may_have_arrived(
    behaviour: Behaviour, limits: Limits, words: str
) -> None:
    with LoopbackServer(behaviour) as server:
        with pytest.raises(NoReplyError, match=words) as caught:
            HttpClient(server.url, limits=limits).send("POST", "/", document={})
        assert caught.value.was_sent
        assert len(server.asked) == 1


def test_request_that_was_not_sent_cannot_have_arrived() -> None:
    with pytest.raises(NoReplyError, match="ConnectError") as caught:
        HttpClient(refused_url(), limits=PATIENT).send("POST", "/", document={})
    assert not caught.value.was_sent


def test_nothing_is_sent_once_the_service_stops() -> None:
    stop = Stop()
    stop.set()
    with LoopbackServer(json_reply(GOOD)) as server:
        with pytest.raises(NoReplyError, match="the service stops") as caught:
            HttpClient(server.url, limits=PATIENT, stop=stop).send("GET", "/")
        assert server.asked == []
    assert not caught.value.was_sent
