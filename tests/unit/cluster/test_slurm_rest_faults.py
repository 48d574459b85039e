"""What goes wrong between us and slurmrestd, and what each failure is taken for."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.slurm_access import SlurmSubmission
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms
from adapters.cluster.slurm_rest_client import SlurmRestClient
from adapters.cluster.slurm_rest_link import LIMITS
from scheduler.core.errors import (
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
    UpstreamError,
)
from tests.fakes.loopback_http import (
    Behaviour,
    LoopbackServer,
    cut_off,
    drip_body,
    hang_up,
    json_reply,
    raw_reply,
    redirect,
    refused_url,
    reset,
    silence,
)
from tests.fakes.slurm.setting_up_rest import TOKEN, USER, running_rest
from tests.unit.cluster.rest_world import RestPlace, rest_access

PATIENT = replace(LIMITS, read_s=20, total_s=30)
VAGUE = {"description": "Failed while looking", "error_number": -1, "error": "Unspecified error"}
SUBMISSION = SlurmSubmission(
    name="gt-job.1.0",
    comment="k",
    workdir="/",
    output="/dev/null",
    error="/dev/null",
    device=SlurmDevice(),
    each=1,
    num_nodes=1,
    terms=SlurmTerms(partition="cpu"),
)
SCRIPT = b"#!/bin/sh\nexit 0\n"
OPENAPI = {
    "paths": {
        "/slurm/v0.0.38/jobs": {},
        "/slurm/v0.0.38/job/submit": {},
        "/slurm/v0.0.38/job/{job_id}": {},
    }
}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(json_reply(OPENAPI)) as server:
        yield server


@pytest.fixture
def access(server: LoopbackServer) -> Callable[..., SlurmRestClient]:
    def build(**limits: Any) -> SlurmRestClient:
        place = RestPlace(server.url, USER, TOKEN, "east")
        return rest_access(place, limits=replace(PATIENT, **limits))

    return build


def errors(*entries: dict[str, object], **more: object) -> dict[str, object]:
    return {"meta": {}, "errors": list(entries), **more}


HTML = raw_reply(b"<html>Bad gateway</html>", status=502, content_type="text/html")
FAULTS: dict[str, tuple[Behaviour, str]] = {
    "no headers": (raw_reply(b"Authentication failure", status=401), "access refused: 401 Authent"),
    "forbidden": (raw_reply(b"no", status=403), "renew the token"),
    "bad token, new": (
        json_reply(
            errors({"error_number": 1007, "error": "Protocol authentication error"}), status=511
        ),
        "access refused: 511 Protocol authentication error",
    ),
    "bad token, old": (
        json_reply(errors(VAGUE), status=500),
        "controller is down, or it refuses the token",
    ),
    "bad token, 200": (
        json_reply(
            errors({"error_number": 1007, "error": "Protocol authentication error"}, jobs=[])
        ),
        "access refused",
    ),
    "wrong version": (raw_reply(b"Unable find requested URL.", status=404), "404 Unable find"),
    "proxy": (HTML, "no JSON, but 502"),
    "not JSON": (raw_reply(b"{", content_type="application/json"), "no JSON"),
    "a list": (json_reply([1]), "no JSON"),
    "no jobs in it": (json_reply({"meta": {}, "errors": []}), "jobs"),
    "jobs that are none": (json_reply(errors(jobs={"a": 1})), "jobs"),
    "not UTF-8": (raw_reply(b"\xff\xfe\x00"), "no JSON"),
    "reset": (reset, "no answer"),
    "hung up": (hang_up, "no answer"),
    "cut off": (cut_off(json.dumps(errors(jobs=[])).encode()), "no answer"),
    "elsewhere": (redirect("http://elsewhere.example/"), "redirects"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_listing_that_fails_is_a_cluster_without_an_answer(
    server: LoopbackServer, access: Any, fault: str
) -> None:
    client = access()
    behaviour, words = FAULTS[fault]
    server.misbehave(json_reply(OPENAPI), behaviour)
    with pytest.raises(ClusterUnavailableError, match=words) as caught:
        client.find(["gt-job.1.0"])
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("behaviour", "limits", "words"),
    [
        (silence, {"read_s": 0.1}, "ReadTimeout"),
        (drip_body(), {"total_s": 0.3}, "longer than 0.3 s"),
    ],
)
def test_slow_peer_is_given_up(
    server: LoopbackServer, access: Any, behaviour: Behaviour, limits: dict[str, float], words: str
) -> None:
    server.misbehave(json_reply(OPENAPI), behaviour)
    with pytest.raises(ClusterUnavailableError, match=words):
        access(**limits).find(["gt-job.1.0"])


def test_answer_without_end_is_cut(server: LoopbackServer, access: Any) -> None:
    many = json_reply(errors(jobs=[{"name": "x" * 100}] * 1000))
    server.misbehave(json_reply(OPENAPI), many)
    with pytest.raises(ClusterUnavailableError, match="more than 50000 bytes"):
        access(max_body_bytes=50_000).find(["gt-job.1.0"])


def test_nobody_listens() -> None:
    client = rest_access(RestPlace(refused_url(), USER, TOKEN, "east"))
    with pytest.raises(ClusterUnavailableError, match=r"ConnectError.*check that slurmrestd runs"):
        client.find(["gt-job.1.0"])


SUBMISSIONS: dict[str, tuple[Behaviour, type[UpstreamError], str]] = {
    "reset": (reset, DispatchUncertainError, "looked up"),
    "hung up": (hang_up, DispatchUncertainError, "looked up"),
    "cut off": (cut_off(b'{"job_id": 7}'), DispatchUncertainError, "looked up"),
    "proxy": (HTML, DispatchUncertainError, "502"),
    "not JSON": (raw_reply(b"{"), DispatchUncertainError, "looked up"),
    "vague": (json_reply(errors(VAGUE), status=500), DispatchUncertainError, "Unspecified"),
    "token expired, as 22.05 puts it": (
        json_reply(
            errors({"error_code": 5005, "error": "Zero Bytes were transmitted or received"}),
            status=500,
        ),
        DispatchUncertainError,
        "Zero Bytes",
    ),
    "redirected": (redirect("/elsewhere"), DispatchUncertainError, "302"),
    "no headers": (
        raw_reply(b"Authentication failure", status=401),
        ClusterUnavailableError,
        "access refused",
    ),
    "bad token": (json_reply(errors(), status=511), ClusterUnavailableError, "access refused"),
    "wrong version": (raw_reply(b"Unable find", status=404), ClusterUnavailableError, "404"),
    "controller down": (
        json_reply(
            errors(
                {
                    "error_code": 1800,
                    "error": "Unable to contact slurm controller (connect failure)",
                }
            ),
            status=500,
        ),
        ClusterUnavailableError,
        "Unable to contact",
    ),
    "partition": (
        json_reply(
            errors({"error_code": 2000, "error": "Invalid partition name specified"}), status=500
        ),
        DispatchRejectedError,
        "Invalid partition name",
    ),
    "unknown key": (
        json_reply(errors({"description": 'Unknown key "x"'}), status=400),
        DispatchRejectedError,
        'Unknown key "x"',
    ),
    "broken JSON of ours": (
        raw_reply(b"Unable to parse query.", status=400),
        DispatchRejectedError,
        "parse",
    ),
    "no id": (json_reply(errors(job_id=0)), DispatchUncertainError, "no job id"),
}


@pytest.mark.parametrize("fault", SUBMISSIONS)
def test_failed_submission_says_whether_the_job_may_run(
    server: LoopbackServer, access: Any, fault: str
) -> None:
    client = access()
    behaviour, kind, words = SUBMISSIONS[fault]
    server.misbehave(json_reply(OPENAPI), behaviour)
    with pytest.raises(kind, match=words) as caught:
        client.submit(SUBMISSION, SCRIPT)
    assert type(caught.value) is kind
    assert [asked.path for asked in server.asked] == ["/openapi/v3", "/slurm/v0.0.38/job/submit"]


def test_submission_that_never_left_has_started_nothing(
    server: LoopbackServer, access: Any
) -> None:
    client = access()
    client._session.speak()
    server.close()
    with pytest.raises(ClusterUnavailableError, match="ConnectError"):
        client.submit(SUBMISSION, SCRIPT)


def test_submission_to_a_slow_peer_is_uncertain(server: LoopbackServer, access: Any) -> None:
    server.misbehave(json_reply(OPENAPI), silence)
    with pytest.raises(DispatchUncertainError, match="ReadTimeout"):
        access(read_s=0.1).submit(SUBMISSION, SCRIPT)


def test_submission_with_an_id_is_one_whatever_is_complained_of(
    server: LoopbackServer, access: Any
) -> None:
    held = {"error_code": 2042, "error": "Job is in held state"}
    server.misbehave(json_reply(OPENAPI), json_reply(errors(held, job_id=6)))
    assert access().submit(SUBMISSION, SCRIPT) == "6"


# -------------------------------------------------------------------------------- versions


def test_upgraded_slurmrestd_is_spoken_with_anew(tmp_path: Path) -> None:
    with running_rest(tmp_path / "slurm", "old") as rest:
        client = rest_access(RestPlace(rest.url, USER, TOKEN, "fake"))
        assert client.find(["gt-job.1.0"]).jobs == {}
        rest.tell(dialect="new", versions=["v0.0.40", "v0.0.41"])
        with pytest.raises(ClusterUnavailableError, match="404"):
            client.find(["gt-job.1.0"])
        rest.taken()
        assert client.find(["gt-job.1.0"]).jobs == {}
        assert rest.taken()[1] == "GET /slurm/v0.0.41/jobs/"


@pytest.mark.parametrize(
    ("versions", "pinned", "words"),
    [
        (
            ["v0.0.36", "v0.0.37"],
            None,
            r"serves v0\.0\.36, v0\.0\.37, not v0\.0\.38 or .*route: cli",
        ),
        (["v0.0.38"], "v0.0.40", r"serves v0\.0\.38, not v0\.0\.40; change slurm\.rest\.version"),
        ([], None, "serves no version"),
    ],
)
def test_version_that_is_not_served_is_named(
    server: LoopbackServer, versions: list[str], pinned: str | None, words: str
) -> None:
    server.misbehave(always=json_reply({"paths": {f"/slurm/{one}/jobs": {} for one in versions}}))
    client = rest_access(RestPlace(server.url, USER, TOKEN, "east"), version=pinned)
    with pytest.raises(ClusterUnavailableError, match=words):
        client.find(["gt-job.1.0"])


def test_old_place_of_the_description_is_known(server: LoopbackServer, access: Any) -> None:
    server.misbehave(
        raw_reply(b"Unable find", status=404), json_reply(OPENAPI), json_reply(errors(jobs=[]))
    )
    assert access().waiting() == []
    assert [asked.path for asked in server.asked] == [
        "/openapi/v3",
        "/openapi",
        "/slurm/v0.0.38/jobs",
    ]


@pytest.mark.parametrize("document", [[], {}, {"paths": []}])
def test_description_that_is_none_is_no_slurmrestd(
    server: LoopbackServer, access: Any, document: object
) -> None:
    server.misbehave(always=json_reply(document))
    with pytest.raises(ClusterUnavailableError, match=r"no description|no JSON"):
        access().waiting()


def test_request_that_the_version_lacks_is_named(server: LoopbackServer, access: Any) -> None:
    with pytest.raises(ClusterUnavailableError, match=r"has no nodes in v0\.0\.38"):
        access().nodes()
