"""URLs of stores on Redis: what they may say, and what their errors must not."""

import pytest

from adapters.store.redis_address import RedisAddress, is_redis_url, parse_address
from adapters.store.redis_keys import split_member, time_digits
from scheduler.core.errors import InvalidConfigError


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("redis://db", "redis://db:6379/0#default"),
        ("redis://gridtide@db:7000/3#team-a", "redis://db:7000/3#team-a"),
        ("rediss://[::1]:7000", "rediss://[::1]:7000/0#default"),
        ("redis+sentinel://a,b:7000/ours", "redis+sentinel://a:26379,b:7000/ours/0#default"),
        ("rediss+sentinel://a/ours/2#x", "rediss+sentinel://a:26379/ours/2#x"),
        ("redis+cluster://a:1,[::2]:2#x", "redis+cluster://a:1,[::2]:2#x"),
        ("REDIS://db", "redis://db:6379/0#default"),
        ("Rediss+Sentinel://a/Ours", "rediss+sentinel://a:26379/Ours/0#default"),
    ],
)
def test_address_is_written_as_a_url_without_the_user(url: str, written: str) -> None:
    assert str(parse_address(url)) == written
    assert parse_address(written) == parse_address(written.replace("#default", ""))


def test_every_part_of_a_url_is_read() -> None:
    assert parse_address("rediss+sentinel://me%40x@a:1,b/our%20db/2#n") == RedisAddress(
        kind="sentinel",
        is_tls=True,
        hosts=(("a", 1), ("b", 26379)),
        username="me@x",
        service="our db",
        db=2,
        name="n",
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://db", "begins with none of"),
        ("db:6379", "begins with none of"),
        ("redis://me:hunter2@db", "holds a password"),
        ("redis://:hunter2@db/0", "holds a password"),
        ("redis+cluster://me:hunter2@a,b", "holds a password"),
        ("redis://db/0?password=hunter2", "has a query"),
        ("redis://", "names no host"),
        ("redis://me@", "names no host"),
        ("redis://db:hunter2", "names no host, or a port that is none"),
        ("redis://db:70000", "names no host, or a port that is none"),
        ("redis://db:0/0", "names no host, or a port that is none"),
        ("redis+sentinel://a,b:0/ours", "names no host, or a port that is none"),
        ("redis://a,b", "names several servers"),
        ("redis+sentinel://a,b", "names no service"),
        ("redis://db/hunter2", "no number of a database"),
        ("redis://db/9999999999", "no number of a database"),
        ("redis://db/0/1", "no number of a database"),
        ("redis+cluster://a/1", "no number of a database"),
    ],
)
def test_url_that_cannot_be_is_refused_without_being_repeated(url: str, why: str) -> None:
    with pytest.raises(InvalidConfigError, match=why) as caught:
        parse_address(url)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.fields)


@pytest.mark.parametrize("name", ["Team", "a b", "a}b", "ä", "x" * 64])
def test_name_of_a_store_is_small_letters_digits_and_dashes(name: str) -> None:
    with pytest.raises(InvalidConfigError, match="no name of a store"):
        parse_address(f"redis://db/0#{name}")


def test_only_other_machines_without_tls_are_exposed() -> None:
    exposed = [
        parse_address(url).is_exposed
        for url in (
            "redis://db",
            "rediss://db",
            "redis://127.0.0.1",
            "redis://localhost",
            "redis://[::1]",
        )
    ]
    assert exposed == [True, False, False, False, False]


def test_redis_urls_are_known_by_their_scheme() -> None:
    assert is_redis_url("rediss+cluster://a")
    assert is_redis_url("REDIS://a")
    assert not is_redis_url("sqlite:redis://a")
    assert not is_redis_url("redis")


@pytest.mark.parametrize("at_us", [0, -1, 1, -(10**17), 10**17, 1_767_225_600_123_456])
def test_times_come_back_from_members(at_us: int) -> None:
    assert split_member(time_digits(at_us) + "job") == (at_us, "job")


def test_digits_sort_as_their_times_do() -> None:
    times = [-(10**17), -1, 0, 9, 10, 255, 256, 10**17]
    assert sorted(map(time_digits, times)) == [time_digits(one) for one in times]
