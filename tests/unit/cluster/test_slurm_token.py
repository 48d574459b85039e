"""Tokens for slurmrestd: where they are, how long they are good, and how they travel."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.slurm_rest_client import SlurmRestClient
from adapters.cluster.slurm_rest_link import RestLink
from adapters.cluster.slurm_rest_session import RestSession
from adapters.cluster.slurm_token import TokenFile, TokenVariable, expiry_s, parse_token
from scheduler.core.errors import ClusterUnavailableError, InvalidConfigError
from tests.fakes.slurm.setting_up_rest import TOKEN, USER, FakeRest, running_rest
from tests.unit.cluster.rest_world import RestPlace, rest_access


def make_token(expires_s: float) -> str:
    claims = json.dumps({"exp": expires_s, "iat": 0, "sun": USER}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2lnbmF0dXJl"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[FakeRest]:
    with running_rest(tmp_path / "slurm", "old") as rest:
        yield rest


def client_of(rest: FakeRest, token: Any, *, wall: float = 1000.0) -> SlurmRestClient:
    link = RestLink("fake", rest.url, user=USER, token=token, wall=lambda: wall)
    return SlurmRestClient(RestSession(link), cluster="fake")


def test_expired_token_is_said_to_have_expired_and_a_renewed_one_is_read(
    tmp_path: Path, rest: FakeRest
) -> None:
    path = tmp_path / "token"
    old, new = make_token(900), make_token(90_000)
    path.write_text(f"SLURM_JWT={old}\n")
    rest.tell(tokens={USER: new})
    client = client_of(rest, TokenFile("fake", path))
    with pytest.raises(
        ClusterUnavailableError, match=r"expired at 1970-01-01T00:15:00Z: renew it"
    ) as no:
        client.find(["gt-job.1.0"])
    assert f"scontrol token username={USER}" in str(no.value)
    assert old not in str(no.value)
    draft = tmp_path / "draft"
    draft.write_text(new)
    draft.replace(path)
    assert client.find(["gt-job.1.0"]).jobs == {}
    assert "good until 1970-01-02T01:00:00Z" in client.controller_check()[1]


def test_file_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    source = TokenFile("east", path)
    assert source.get() == "first"
    stat = path.stat()
    path.write_text("other")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert source.get() == "first"
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert source.get() == "other"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "no token"),
        (b"\xff", "not text"),
        (b"two words", "no token"),
    ],
)
def test_file_without_a_token_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ClusterUnavailableError, match=words) as caught:
        TokenFile("east", path).get()
    assert str(path) in str(caught.value)
    assert "scontrol token" in str(caught.value)


def test_variable_without_a_token_is_named() -> None:
    with pytest.raises(ClusterUnavailableError, match=r"variable MY_TOKEN.*scontrol token"):
        TokenVariable("east", "MY_TOKEN", {"MY_TOKEN": " "}).get()


def test_token_goes_over_tls_or_stays_here() -> None:
    token = TokenVariable("east", "T", {"T": "t"})
    with pytest.raises(InvalidConfigError, match="plain_http: true") as caught:
        RestLink("east", "http://slurm.example.org:6820", user=USER, token=token)
    assert caught.value.fields["field"] == "url"
    RestLink("east", "https://slurm.example.org", user=USER, token=token).close()
    RestLink("east", "http://localhost:6820", user=USER, token=token).close()
    RestLink(
        "east", "http://slurm.example.org", user=USER, token=token, is_plain_http_allowed=True
    ).close()


def test_user_name_in_an_answer_is_no_secret(rest: FakeRest) -> None:
    rest.slurm.add("gt-job.1.0", user=USER)
    place = RestPlace(rest.url, USER, TOKEN, "fake")
    assert set(rest_access(place).find(["gt-job.1.0"]).jobs) == {"gt-job.1.0"}


@pytest.mark.parametrize(
    ("given", "token"),
    [
        (" abc.def.ghi\n", "abc.def.ghi"),
        ("SLURM_JWT=abc.def.ghi\n", "abc.def.ghi"),
        ("", None),
        ("two words", None),
        ("two\nlines", None),
        ("ä", None),
    ],
)
def test_token_is_one_word(given: str, token: str | None) -> None:
    assert parse_token(given) == token


@pytest.mark.parametrize(
    ("token", "until_s"),
    [
        ("e30.eyJleHAiOjE3OTU1ODE5NjMsInN1biI6InJvb3QifQ.c2ln", 1795581963.0),
        ("e30.eyJleHAiOiJub3cifQ.c2ln", None),
        ("e30.W10.c2ln", None),
        ("e30.!!!.c2ln", None),
        ("e30._w.c2ln", None),
        ("opaque", None),
    ],
)
def test_token_may_say_until_when_it_is_good(token: str, until_s: float | None) -> None:
    assert expiry_s(token) == until_s
