"""What is said where a server refuses, or cannot be reached."""

import pytest
import redis
from redis.sentinel import MasterNotFoundError

from adapters.store.redis_address import parse_address
from adapters.store.redis_errors import lost, refusal, unreachable

RESET = redis.ConnectionError("Error while reading from db:1 : (104, 'Connection reset by peer')")
CLOSED = redis.ConnectionError("Connection closed by server.")
SILENT = redis.TimeoutError("Timeout connecting to server")
PLAIN = redis.ConnectionError("Error 1 connecting to db:1. [SSL: WRONG_VERSION_NUMBER] wrong")
UNKNOWN = redis.ConnectionError("Error 1 connecting to db:1. [SSL: CERTIFICATE_VERIFY_FAILED] no")
REFUSED = redis.ConnectionError("Error 111 connecting to db:1. Connection refused.")
WITHOUT_TLS = "is its port one without TLS? Then the URL begins with "
WITH_TLS = "is its port one of TLS? Then the URL begins with "


@pytest.mark.parametrize(
    ("url", "error", "hint"),
    [
        ("rediss://db", SILENT, f"{WITHOUT_TLS}redis:// "),
        ("rediss://db", PLAIN, f"{WITHOUT_TLS}redis:// "),
        ("rediss+cluster://db", SILENT, f"{WITHOUT_TLS}redis+cluster:// "),
        ("redis://db", RESET, f"{WITH_TLS}rediss:// "),
        ("redis://db", CLOSED, f"{WITH_TLS}rediss:// "),
        ("rediss://db", UNKNOWN, "its certificate must name the host, and be of an authority in"),
    ],
)
def test_end_that_may_speak_no_tls_is_hinted_at(url: str, error: Exception, hint: str) -> None:
    assert hint in unreachable(parse_address(url), error).message


@pytest.mark.parametrize(
    ("url", "error"),
    [("redis://db", SILENT), ("redis://db", REFUSED), ("rediss://db", REFUSED)],
)
def test_server_that_is_gone_is_no_matter_of_tls(url: str, error: Exception) -> None:
    message = unreachable(parse_address(url), error).message
    assert message.endswith(f"see that it runs and that store names it ({error})")


def test_silent_sentinels_are_named_without_the_inner_objects_of_the_client() -> None:
    clients = [redis.Redis(host="a", port=26379), redis.Redis(host="b", port=2)]
    said = ", ".join(f"{one!r} - ConnectionError('reset')" for one in clients)
    address = parse_address("redis+sentinel://a,b:2/ours")
    error = unreachable(address, MasterNotFoundError(f"No master found for 'ours' : {said}"))
    words = "no sentinel names a primary of that service; without an answer: a:26379, b:2"
    assert error.message.endswith(f"that store names it ({words})")
    assert error.fields["cause"] == words


def test_sentinels_that_answer_are_not_called_silent() -> None:
    address = parse_address("redis+sentinel://a/ours")
    message = unreachable(address, MasterNotFoundError("No master found for 'ours'")).message
    assert message.endswith("(no sentinel names a primary of that service)")


def test_words_of_the_client_are_kept_short() -> None:
    inner = "<redis.client.Redis(<redis.ConnectionPool(<redis.Connection(db=0)>)>)>"
    error = redis.ConnectionError(f"{inner} failed{' and failed' * 50}")
    address = parse_address("redis://db")
    for made in (unreachable(address, error), lost(address, error, is_write=True)):
        assert "redis.client" not in made.message
        assert "( failed and failed" in made.message
        assert len(made.message) < 400


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("DB index is out of range", "redis://db:6379/99#default has no database of that number"),
        ("unknown command 'SENTINEL', with args", "store.url must name the sentinels"),
    ],
)
def test_url_that_the_server_cannot_meet_is_named(error: str, said: str) -> None:
    made = refusal(parse_address("redis://db/99"), redis.ResponseError(error))
    assert said in made.message
    assert "store.url" in made.message
    assert not made.fields["is_refusal"]  # other questions would be refused too
