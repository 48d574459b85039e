"""Requests: what is sent, what is tried again, how long for, and what each refusal is taken for."""

import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_link import KubeLink
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError, Refusal
from adapters.http_client import Limits, Stop
from tests.fakes.loopback_http import (
    Behaviour,
    LoopbackServer,
    cut_off,
    drip_body,
    hang_up,
    json_reply,
    raw_reply,
    refused_url,
    reset,
    silence,
)
from tests.unit.cluster.kube_api import LIMITS, ScriptedLogin, client_to, close_all, status_reply

JOBS = path_of("jobs", "ml")
GOOD = json_reply({"kind": "Job", "metadata": {"name": "a"}})


@pytest.fixture(autouse=True)
def _closed_afterwards() -> Iterator[None]:
    yield
    close_all()


def refusal(client: KubeClient, method: str = "create") -> KubeRefusedError:
    with pytest.raises(KubeRefusedError) as caught:
        client.create(JOBS, {}) if method == "create" else client.get(JOBS)
    return caught.value


def test_creation_is_strict_and_carries_the_login() -> None:
    with LoopbackServer(GOOD) as server:
        client_to(server).create(JOBS, {"kind": "Job", "text": "ä"})
        (asked,) = server.asked
    query = parse_qs(urlsplit(asked.path).query)
    assert (asked.method, urlsplit(asked.path).path) == (
        "POST",
        "/apis/batch/v1/namespaces/ml/jobs",
    )
    assert query == {"fieldValidation": ["Strict"], "fieldManager": ["gridtide"]}
    assert asked.headers["Authorization"] == "Bearer token-1"
    assert json.loads(asked.body) == {"kind": "Job", "text": "ä"}


def test_trial_is_not_kept() -> None:
    with LoopbackServer(GOOD) as server:
        client_to(server).create(JOBS, {}, is_dry=True)
        assert "dryRun=All" in server.asked[0].path


def test_trial_before_a_submission_is_asked_once_and_tells_what_the_server_warns_of() -> None:
    warning = '299 - "would violate PodSecurity \\"restricted:latest\\": privileged"'
    good = json_reply({"kind": "Job"}, headers={"Warning": warning})
    with LoopbackServer(good) as server:
        said = client_to(server).try_create(JOBS, {"a": 1}, within_s=2.0)
        query = parse_qs(urlsplit(server.asked[0].path).query)
    with LoopbackServer(status_reply(500)) as server:
        with pytest.raises(KubeSilentError):
            client_to(server).try_create(JOBS, {}, within_s=2.0)
        assert len(server.asked) == 1
    assert said == ('would violate PodSecurity "restricted:latest": privileged',)
    assert (query["dryRun"], query["fieldValidation"]) == (["All"], ["Strict"])


def test_refusal_tells_the_first_field_that_is_wrong() -> None:
    causes = [{"field": "spec.a", "reason": "FieldValueInvalid"}, {"field": "spec.b"}]
    for told, field in ((causes, "spec.a"), ([], ""), ("odd", ""), ([{"field": None}], "")):
        with LoopbackServer(status_reply(422, reason="Invalid", causes=told)) as server:
            assert refusal(client_to(server)).field == field


def test_patch_is_a_merge_patch() -> None:
    with LoopbackServer(GOOD) as server:
        client_to(server).merge_patch(f"{JOBS}/a", {"spec": {"suspend": True}})
        (asked,) = server.asked
    assert asked.headers["Content-Type"] == "application/merge-patch+json"
    assert json.loads(asked.body) == {"spec": {"suspend": True}}


def test_deletion_says_of_which_object_and_what_becomes_of_its_pods() -> None:
    with LoopbackServer(GOOD) as server:
        client_to(server).delete(f"{JOBS}/a", uid="u-1", grace_s=5)
        assert json.loads(server.asked[0].body) == {
            "propagationPolicy": "Background",
            "preconditions": {"uid": "u-1"},
            "gracePeriodSeconds": 5,
        }


def test_deletion_of_what_is_gone_is_no_error() -> None:
    with LoopbackServer(status_reply(404, reason="NotFound")) as server:
        client_to(server).delete(f"{JOBS}/a")
        assert len(server.asked) == 1


def test_list_is_read_page_by_page() -> None:
    pages = [
        json_reply({"metadata": {"resourceVersion": "7", "continue": "x/y="}, "items": [{"n": 1}]}),
        json_reply({"metadata": {"resourceVersion": "7"}, "items": [{"n": 2}]}),
    ]
    with LoopbackServer(GOOD) as server:
        server.misbehave(*pages)
        listing = client_to(server).list_all(JOBS, selector="a=b")
        queries = [parse_qs(urlsplit(one.path).query) for one in server.asked]
    assert (listing.items, listing.version) == ([{"n": 1}, {"n": 2}], "7")
    assert queries[0] == {"limit": ["500"], "labelSelector": ["a=b"]}
    assert queries[1] == queries[0] | {"continue": ["x/y="]}


@pytest.mark.parametrize(
    ("code", "reason", "message", "kind"),
    [
        (400, "BadRequest", 'unknown field "suspendd"', Refusal.INVALID),
        (403, "Forbidden", 'jobs "a" is forbidden: exceeded quota: q, used: 1', Refusal.QUOTA),
        (403, "Forbidden", 'User "u" cannot create resource "jobs" in API group', Refusal.RIGHT),
        (403, "Forbidden", "admission webhook denied the request: image", Refusal.POLICY),
        (404, "NotFound", 'namespaces "ml" not found', Refusal.MISSING),
        (409, "AlreadyExists", "already exists", Refusal.EXISTS),
        (409, "Conflict", "the UID in the precondition", Refusal.CONFLICT),
        (410, "Expired", "too old", Refusal.EXPIRED),
        (415, "UnsupportedMediaType", "", Refusal.INVALID),
        (422, "Invalid", "spec.template: field is immutable", Refusal.INVALID),
        (418, "", "", Refusal.OTHER),
    ],
)
def test_refusal_is_told_apart_by_code_reason_and_words_and_is_not_tried_again(
    code: int, reason: str, message: str, kind: Refusal
) -> None:
    with LoopbackServer(status_reply(code, reason=reason, message=message)) as server:
        error = refusal(client_to(server))
        assert (error.kind, error.reason, len(server.asked)) == (kind, reason, 1)


def test_missing_right_is_named_with_who_lacks_it() -> None:
    said = 'jobs.batch is forbidden: User "system:serviceaccount:a:b" cannot create resource "jobs" in API group "batch"'
    with LoopbackServer(status_reply(403, reason="Forbidden", message=said)) as server:
        right = refusal(client_to(server)).missing_right
    assert right == 'system:serviceaccount:a:b may not create resource "jobs"'


def test_refusal_without_a_status_is_quoted() -> None:
    with LoopbackServer(
        raw_reply(b"404 page\nnot found\n", status=404, content_type="text/plain")
    ) as server:
        error = refusal(client_to(server))
    assert (error.kind, error.said) == (Refusal.MISSING, "404 page not found")


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["create", "get"])
def test_what_may_pass_is_tried_again_with_jitter(code: int, method: str) -> None:
    waits = list[float]()
    with LoopbackServer(GOOD) as server:
        server.misbehave(*[status_reply(code)] * 2)
        client = client_to(server, waits=waits)
        client.create(JOBS, {}) if method == "create" else client.get(JOBS)
        assert len(server.asked) == 3
    assert len(waits) == 2
    assert all(0 < one <= 1.0 for one in waits)


def test_server_that_says_when_to_come_again_is_left_alone_so_long() -> None:
    waits = list[float]()
    with LoopbackServer(GOOD) as server:
        server.misbehave(
            status_reply(429, headers={"Retry-After": "2"}), status_reply(500, retryAfterSeconds=3)
        )
        client_to(server, waits=waits).get(JOBS)
    assert 2 <= waits[0] <= 3
    assert 3 <= waits[1] <= 4


def test_server_that_wants_to_be_left_alone_for_long_is_not_waited_for() -> None:
    waits = list[float]()
    with LoopbackServer(status_reply(429, headers={"Retry-After": "60"})) as server:
        error = refusal(client_to(server, waits=waits), "get")
        assert (error.kind, error.retry_after_s, len(server.asked)) == (Refusal.THROTTLED, 60, 1)
    assert waits == []


@pytest.mark.parametrize(
    "behaviour", [reset, hang_up, cut_off(b"{}" * 50), raw_reply(b"{nonsense")]
)
def test_answer_that_cannot_be_read_may_have_been_acted_upon(behaviour: object) -> None:
    with LoopbackServer(behaviour) as server, pytest.raises(KubeSilentError) as caught:  # type: ignore[arg-type]
        client_to(server).create(JOBS, {})
    assert caught.value.was_sent


QUOTA = status_reply(403, reason="Forbidden", message="exceeded quota: q")


@pytest.mark.parametrize("first", [reset, status_reply(500)])
@pytest.mark.parametrize("then", [status_reply(429), QUOTA, status_reply(422, reason="Invalid")])
def test_creation_that_may_have_been_acted_upon_stays_so_whatever_is_said_of_another_one(
    first: Behaviour, then: Behaviour
) -> None:
    with LoopbackServer(then) as server:
        server.misbehave(first)
        with pytest.raises(KubeSilentError) as caught:
            client_to(server).create(JOBS, {})
    assert caught.value.was_sent


def test_creation_that_may_have_been_acted_upon_stays_so_when_the_server_is_gone_afterwards() -> (
    None
):
    with LoopbackServer(reset) as server:
        login = ScriptedLogin(server.url)
        link = KubeLink(login, limits=LIMITS)

        def move_away(seconds: float) -> None:
            login.server = refused_url()
            link.forget_login()

        with pytest.raises(KubeSilentError) as caught:
            KubeClient(link, wait=move_away).create(JOBS, {})
        link.close()
        assert len(server.asked) == 1
    assert caught.value.was_sent


def test_creation_that_was_acted_upon_is_told_by_the_name_that_is_taken() -> None:
    with LoopbackServer(status_reply(409, reason="AlreadyExists")) as server:
        server.misbehave(reset)
        assert refusal(client_to(server)).kind is Refusal.EXISTS


def test_patch_that_may_have_been_acted_upon_is_told_by_the_next_answer() -> None:
    with LoopbackServer(status_reply(404, reason="NotFound")) as server:
        server.misbehave(reset)
        with pytest.raises(KubeRefusedError):
            client_to(server).merge_patch(f"{JOBS}/a", {})


def test_throttled_creation_was_not_acted_upon() -> None:
    with LoopbackServer(status_reply(429)) as server:
        assert refusal(client_to(server)).kind is Refusal.THROTTLED


def test_nobody_listening_was_not_sent() -> None:
    with LoopbackServer(GOOD) as server, pytest.raises(KubeSilentError) as caught:
        client_to(server, login=ScriptedLogin(refused_url())).create(JOBS, {})
    assert not caught.value.was_sent


@pytest.mark.parametrize("behaviour", [silence, drip_body()])
def test_answer_that_does_not_come_is_given_up(behaviour: object) -> None:
    limits = Limits(connect_s=2.0, read_s=0.2, total_s=0.2, attempts=2)
    with LoopbackServer(behaviour) as server:  # type: ignore[arg-type]
        with pytest.raises(KubeSilentError):
            client_to(server, limits=limits).get(JOBS)
        server.closing.set()
        assert len(server.asked) == 2


def test_answer_without_end_is_given_up() -> None:
    endless = json_reply({"long": "x" * 50_000})
    says = "more than 20000 bytes"
    with LoopbackServer(endless) as server, pytest.raises(KubeSilentError, match=says):
        client_to(server).get(JOBS)


def test_login_that_was_refused_is_read_again_once() -> None:
    unauthorized = status_reply(401, reason="Unauthorized")
    with LoopbackServer(GOOD) as server:
        login = ScriptedLogin(server.url, tokens=["old", "new"])
        server.misbehave(unauthorized)
        client_to(server, login=login).get(JOBS)
        tokens = [one.headers["Authorization"] for one in server.asked]
        assert tokens == ["Bearer old", "Bearer new"]
        server.misbehave(always=unauthorized)
        assert refusal(client_to(server, login=login), "get").kind is Refusal.LOGIN
        assert len(server.asked) == 4


def test_login_is_read_again_when_it_expires_and_not_before() -> None:
    now = [100.0]
    with LoopbackServer(GOOD) as server:
        login = ScriptedLogin(server.url, tokens=["one", "two"], expires_s=160.0)
        client = client_to(server, login=login, wall=lambda: now[0])
        for now[0] in (100.0, 159.0, 161.0):
            client.get(JOBS)
        tokens = [one.headers["Authorization"] for one in server.asked]
    assert tokens == ["Bearer one", "Bearer one", "Bearer two"]


def test_login_that_cannot_be_read_says_why_and_nothing_is_sent() -> None:
    with LoopbackServer(GOOD) as server:
        client = client_to(server, login=ScriptedLogin(server.url, tokens=[]))
        with pytest.raises(KubeSilentError, match="nobody can log in: /no/token") as caught:
            client.create(JOBS, {})
        assert server.asked == []
    assert not caught.value.was_sent


def test_nothing_is_sent_once_it_is_time_to_stop() -> None:
    with LoopbackServer(GOOD) as server:
        stop = Stop()
        client = client_to(server, stop=stop)
        stop.set()
        with pytest.raises(KubeSilentError, match="the service stops"):
            client.get(JOBS)
        assert server.asked == []


def test_secret_is_in_no_error() -> None:
    with LoopbackServer(status_reply(403, reason="Forbidden", message="no")) as server:
        client = client_to(server)
        assert "token-1" not in str(refusal(client)) + repr(client.link._login)
