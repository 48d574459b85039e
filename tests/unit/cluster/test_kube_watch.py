"""The copy that list and watch keep: whatever the stream does, it ends up as the server says."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from adapters.cluster.kube_client import path_of
from adapters.cluster.kube_records import KubePod, parse_pod
from adapters.cluster.kube_refusals import KubeRefusedError
from adapters.cluster.kube_watch import KubeMirror, WatchPace
from adapters.http_client import Stop
from tests.fakes.loopback_http import Behaviour, Exchange, LoopbackServer
from tests.unit.cluster.kube_api import (
    Document,
    ScriptedLists,
    ScriptedLogin,
    bookmark,
    client_to,
    error_event,
    event,
    pod,
    status_reply,
)
from tests.unit.cluster.runs import wait_until

PACE = WatchPace(relist_s=300.0, watch_s=60, least_s=0.0, most_s=0.02)


@contextmanager
def mirrored(
    answers: Behaviour,
    *first: Behaviour,
    pace: WatchPace = PACE,
    login: ScriptedLogin | None = None,
) -> Iterator[tuple[KubeMirror[KubePod], LoopbackServer, Stop]]:
    """A copy of what the server answers, but for its first answers."""
    with LoopbackServer(answers) as server:
        server.misbehave(*first)
        stop = Stop()
        if login is not None:
            login.server = server.url
        client = client_to(server, login=login, stop=stop)
        mirror = KubeMirror(
            client,
            path_of("pods", "ml"),
            selector="app=x",
            parse=parse_pod,
            pace=pace,
            chance=random.Random(1),
        )
        mirror.start()
        try:
            yield mirror, server, stop
        finally:
            stop.set()
            server.closing.set()
            mirror.join(10)
            client.link.close()


def names(mirror: KubeMirror[KubePod]) -> list[str]:
    return sorted(one.name for one in mirror.items())


def test_list_and_events_make_the_copy_and_what_left_is_remembered() -> None:
    gone = pod("b", 12)
    gone["status"] = {
        "phase": "Failed",
        "containerStatuses": [{"state": {"terminated": {"exitCode": 75}}}],
    }
    script = ScriptedLists(
        [pod("a"), pod("b")], [[event("ADDED", pod("c", 11)), event("DELETED", gone)]]
    )
    with mirrored(script) as (mirror, _, _):
        script.is_quiet.wait(10)
        assert names(mirror) == ["a", "c"]
        assert mirror.trouble() is None
        assert sorted(one.name for one in mirror.members("job-1")) == ["a", "c"]
        # Its exit code stands in the last word on it.
        assert [(one.name, one.code) for one in mirror.gone("job-1")] == [("b", 75)]


def test_watch_that_ends_goes_on_from_the_last_event_or_bookmark_without_another_list() -> None:
    script = ScriptedLists(
        [pod("a")], [[event("MODIFIED", pod("a", 14))], [bookmark(19)], [], [bookmark(23)]]
    )
    with mirrored(script):
        script.is_quiet.wait(10)
    assert script.watched_from == ["10", "14", "19", "19", "23"]
    assert script.lists == 1


@pytest.mark.parametrize(
    "error",
    [
        error_event(410, "Expired", message="too old resource version"),
        error_event(504, "Timeout", details={"retryAfterSeconds": 0}),
        error_event(429, "TooManyRequests"),
        error_event(500, "InternalError"),
    ],
)
def test_error_inside_the_stream_is_followed_by_another_list(error: Document) -> None:
    script = ScriptedLists([pod("a")], [[event("ADDED", pod("b", 11)), error]])
    with mirrored(script) as (mirror, _, _):
        script.is_quiet.wait(10)
        wait_until(lambda: mirror.trouble() is None, "it is well again")
        assert names(mirror) == ["a"]
    assert script.lists == 2
    assert script.watched_from == ["10", "10"]


@pytest.mark.parametrize(
    "broken", [None, b"{nonsense\n", b'{"type": "ADDED"}\n', b"[]\n", b"x" * 30_000]
)
def test_stream_that_breaks_goes_on_from_where_it_was(broken: bytes | None) -> None:
    script = ScriptedLists([pod("a")], [[event("ADDED", pod("b", 11)), broken]])
    with mirrored(script) as (mirror, _, _):
        script.is_quiet.wait(10)
        wait_until(lambda: mirror.trouble() is None, "it is well again")
        assert names(mirror) == ["a", "b"]
    assert script.watched_from == ["10", "11"]


def test_everything_is_listed_again_after_a_while_however_well_the_watch_does() -> None:
    script = ScriptedLists([pod("a")], [[], [], []])
    with mirrored(script, pace=WatchPace(relist_s=0.0, least_s=0.0)):
        script.is_quiet.wait(10)
    assert script.lists == 4


def test_answer_that_comes_after_the_watch_has_told_more_is_not_taken_for_news() -> None:
    script = ScriptedLists([pod("a", 7)], [[event("MODIFIED", pod("a", 12))]])
    with mirrored(script) as (mirror, _, _):
        script.is_quiet.wait(10)
        assert mirror.put(pod("a", 11)).version == "12"
        assert [one.version for one in mirror.items()] == ["12"]
        assert mirror.put(pod("a", 13)).version == "13"


def test_event_that_is_older_than_an_answer_of_ours_does_not_undo_it() -> None:
    go = threading.Event()
    script = ScriptedLists(
        [pod("a", 7)], [[event("MODIFIED", pod("a", 9)), event("ADDED", pod("b", 14))]]
    )

    def late(to: Exchange) -> None:
        go.wait(10)
        script(to)

    with mirrored(script, script, late) as (mirror, _, _):
        wait_until(lambda: mirror.find("a") is not None, "it is listed")
        mirror.put(pod("a", 12))
        go.set()
        wait_until(lambda: mirror.find("b") is not None, "the events have come")
        assert {one.name: one.version for one in mirror.items()} == {"a": "12", "b": "14"}


def test_deletion_of_a_former_object_of_that_name_leaves_the_new_one() -> None:
    new = pod("a", 12, **{"batch.kubernetes.io/controller-uid": "job-2"})
    script = ScriptedLists([pod("a")], [[event("ADDED", new), event("DELETED", pod("a", 13))]])
    with mirrored(script) as (mirror, _, _):
        script.is_quiet.wait(10)
        assert names(mirror) == ["a"]
        assert [one.name for one in mirror.members("job-2")] == ["a"]
        assert [one.name for one in mirror.gone("job-1")] == ["a"]


def odd(name: str, version: int = 10) -> Document:
    return pod(name, version) | {"status": {"conditions": [1]}}


def test_object_that_cannot_be_read_is_left_out_and_the_others_are_followed() -> None:
    script = ScriptedLists([odd("x"), pod("a")], [[event("ADDED", pod("b", 11))]])
    with structlog.testing.capture_logs() as logs, mirrored(script) as (mirror, _, _):
        script.is_quiet.wait(10)
        assert (names(mirror), mirror.trouble()) == (["a", "b"], None)
        assert "pods/x cannot be read" in str(mirror.unread("x"))
        assert mirror.unread("a") is None
    assert [one["name"] for one in logs if one["event"] == "object_unreadable"] == ["x"]


def test_object_that_cannot_be_read_any_more_stays_as_it_was_until_it_can() -> None:
    first = ScriptedLists([pod("a"), pod("b")])
    events = [
        event("MODIFIED", odd("a", 11)),
        event("ADDED", pod("c", 12)),
        error_event(410, "Expired"),
    ]
    watch = ScriptedLists([], [events])
    then = ScriptedLists([odd("a", 11), pod("c", 12)], [[event("MODIFIED", pod("a", 14))]])
    go = threading.Event()

    def late(to: Exchange) -> None:
        go.wait(10)
        then(to)

    with mirrored(then, first, watch, then, late) as (mirror, _, _):
        wait_until(lambda: mirror.lists == 2 and names(mirror) == ["a", "c"], "it is listed again")
        assert mirror.unread("a") is not None
        assert [one.version for one in mirror.items() if one.name == "a"] == ["1"]
        assert [one.name for one in mirror.gone("job-1")] == ["b"]
        go.set()
        then.is_quiet.wait(10)
        assert mirror.unread("a") is None
        assert [one.version for one in mirror.items() if one.name == "a"] == ["14"]


def test_deletion_that_cannot_be_read_is_followed_by_another_list_and_not_by_itself() -> None:
    first = ScriptedLists([pod("a"), pod("b")])
    watch = ScriptedLists([], [[event("DELETED", odd("a", 12))]])
    then = ScriptedLists([pod("b")])
    with mirrored(then, first, watch) as (mirror, _, _):
        then.is_quiet.wait(10)
        assert (mirror.lists, names(mirror), mirror.trouble()) == (2, ["b"], None)
    assert then.lists == 1


def test_watch_that_is_refused_for_its_version_is_followed_by_another_list() -> None:
    script = ScriptedLists([pod("a")])
    with mirrored(script, script, status_reply(410, reason="Expired")) as (mirror, _, _):
        script.is_quiet.wait(10)
        assert (script.lists, names(mirror)) == (2, ["a"])


def test_what_the_next_list_lacks_has_gone() -> None:
    first, then = ScriptedLists([pod("a"), pod("b")]), ScriptedLists([pod("a")])
    expired = ScriptedLists([], [[error_event(410, "Expired")]])
    with mirrored(then, first, expired) as (mirror, _, _):
        then.is_quiet.wait(10)
        assert names(mirror) == ["a"]
        assert [one.name for one in mirror.gone("job-1")] == ["b"]


def test_refused_list_is_a_trouble_with_its_reason_until_it_is_granted() -> None:
    script = ScriptedLists([pod("a")])
    refused = status_reply(403, reason="Forbidden", message="no")
    with mirrored(script, refused) as (mirror, server, _):
        server.misbehave(always=refused)
        trouble = mirror.trouble(within_s=10)
        assert isinstance(trouble, KubeRefusedError)
        assert trouble.code == 403
        server.misbehave()
        wait_until(lambda: mirror.trouble() is None, "it is well again")
        assert names(mirror) == ["a"]


def test_login_that_was_rotated_is_read_again() -> None:
    login = ScriptedLogin("", tokens=["old", "new"])
    script = ScriptedLists([pod("a")])

    def guarded(to: Exchange) -> None:
        is_known = to.headers["Authorization"] == "Bearer new"
        (script if is_known else status_reply(401, reason="Unauthorized"))(to)

    with mirrored(guarded, login=login) as (mirror, _, _):
        script.is_quiet.wait(10)
        assert (names(mirror), mirror.trouble(), login.reads) == (["a"], None, 2)


def test_stopping_ends_a_quiet_watch_at_once() -> None:
    script = ScriptedLists([])
    with mirrored(script) as (mirror, _, stop):
        script.is_quiet.wait(10)
        stop.set()
        mirror.join(10)
        assert not any(one.name.startswith("watch") for one in threading.enumerate())


def test_what_was_put_stays_although_a_list_that_was_asked_for_before_lacks_it() -> None:
    script, is_asked, is_put = ScriptedLists([]), threading.Event(), threading.Event()

    def late(to: Exchange) -> None:
        is_asked.set()
        is_put.wait(10)
        script(to)

    with mirrored(script, late) as (mirror, _, _):
        is_asked.wait(10)
        mirror.put(pod("mine", 11))
        is_put.set()
        script.is_quiet.wait(10)
        assert names(mirror) == ["mine"]
