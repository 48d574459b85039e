"""What is said of a server, by what it tells of itself."""

from dataclasses import replace

import fakeredis
import pytest
import redis

from adapters.store.redis_address import parse_address
from adapters.store.redis_durability import (
    ServerFacts,
    durability_checks,
    durability_of,
    read_facts,
    require_wait,
)
from adapters.store.redis_link import RedisLink
from adapters.store.redis_terms import RedisTerms, RedisWait
from scheduler.core.errors import StoreError
from tests.fakes.lossy_pools import LossyPools

ADDRESS = parse_address("redis://127.0.0.1:1/0")
NO_WAIT = RedisWait()
ON_DISK = RedisWait(is_on_disk=True)
FACTS = ServerFacts(
    version=(7, 4, 1),
    role="master",
    replicas=0,
    has_aof=True,
    appendfsync="always",
    snapshots="",
    maxmemory=0,
    eviction="noeviction",
)


@pytest.mark.parametrize(
    ("facts", "wait", "word"),
    [
        (FACTS, NO_WAIT, "machine"),
        (replace(FACTS, appendfsync="everysec"), NO_WAIT, "process"),
        (replace(FACTS, appendfsync="no"), NO_WAIT, "process"),
        (replace(FACTS, appendfsync=None), NO_WAIT, "process"),
        (replace(FACTS, appendfsync="everysec"), ON_DISK, "machine"),
        (replace(FACTS, rests_while_rewriting=True), NO_WAIT, "process"),
        (replace(FACTS, rests_while_rewriting=True), ON_DISK, "machine"),
        (replace(FACTS, has_aof=False, snapshots="60 1"), NO_WAIT, "nothing"),
        # A server that starts empty empties its replicas too.
        (replace(FACTS, has_aof=False), RedisWait(replicas=2), "nothing"),
        (ServerFacts(), NO_WAIT, "unknown"),
    ],
)
def test_durability_is_what_an_acknowledged_write_survives(
    facts: ServerFacts, wait: RedisWait, word: str
) -> None:
    assert durability_of(facts, wait) == word
    # Said in words too, with what to do where it is not the best.
    (check,) = durability_checks(ADDRESS, facts, wait)[:1]
    assert ("set appendonly yes" in check.detail) == (word != "machine")


@pytest.mark.parametrize(
    ("changes", "wait", "subject", "said"),
    [
        ({"role": "slave"}, NO_WAIT, "store", "a replica that only reads"),
        ({"replicas": 1}, RedisWait(replicas=2), "store", "1 replica is connected"),
        ({"replicas": 0}, RedisWait(replicas=1), "store", "no replicas are connected"),
        (
            {"maxmemory": 5, "used_memory": 6},
            NO_WAIT,
            "store",
            "refuses writes until there is room",
        ),
        ({"last_aof_write_is_ok": False}, NO_WAIT, "store", "failed to write its own disk"),
        ({"last_snapshot_is_ok": False}, NO_WAIT, "store", "failed to write its own disk"),
        # A service that could lose jobs some day is ready all the same.
        (
            {"maxmemory": 1, "eviction": "allkeys-lru"},
            NO_WAIT,
            "memory of the store",
            "throws away jobs (maxmemory-policy allkeys-lru); set it to noeviction",
        ),
        # The lease and the notes of calls expire, and so are all that goes.
        (
            {"maxmemory": 1, "eviction": "volatile-ttl"},
            NO_WAIT,
            "memory of the store",
            "a call that is sent again may be done twice (maxmemory-policy volatile-ttl); set it to",
        ),
    ],
)
def test_trouble_of_the_server_is_a_failed_check(
    changes: dict[str, object], wait: RedisWait, subject: str, said: str
) -> None:
    checks = durability_checks(ADDRESS, replace(FACTS, **changes), wait)  # type: ignore[arg-type]
    assert [one.is_ok for one in checks] == [True, False]
    assert checks[1].subject == subject
    assert said in checks[1].detail


@pytest.mark.parametrize(
    "changes",
    [
        {"maxmemory": 0, "eviction": "allkeys-lru"},  # never full
        {"maxmemory": 0, "eviction": "volatile-lru"},
        {"maxmemory": 1, "eviction": "noeviction"},
        {"maxmemory": 5, "used_memory": 5},
        {"maxmemory": 0, "used_memory": 5},
        {"used_memory": 5, "maxmemory": None},
    ],
)
def test_memory_that_suffices_and_keeps_our_keys_is_no_trouble(changes: dict[str, object]) -> None:
    checks = durability_checks(ADDRESS, replace(FACTS, **changes), NO_WAIT)  # type: ignore[arg-type]
    assert all(one.is_ok for one in checks)


def test_full_server_that_throws_jobs_away_takes_writes() -> None:
    facts = replace(FACTS, maxmemory=5, used_memory=6, eviction="allkeys-lru")
    failed = [one.subject for one in durability_checks(ADDRESS, facts, NO_WAIT) if not one.is_ok]
    assert failed == ["memory of the store"]


def test_replicas_confirm_only_where_they_are_connected() -> None:
    def said(connected: int | None, wanted: int) -> str:
        facts, wait = replace(FACTS, replicas=connected), RedisWait(replicas=wanted)
        return durability_checks(ADDRESS, facts, wait)[0].detail

    assert said(1, 1).endswith("; 1 replica confirms each of them")
    assert said(None, 2).endswith("; 2 replicas confirm each of them")
    assert "confirm" not in said(1, 2) + said(0, 1)


def test_unencrypted_network_is_said() -> None:
    details = [one.detail for one in durability_checks(parse_address("redis://db"), FACTS, NO_WAIT)]
    assert any("unencrypted" in one for one in details)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FACTS, version=(7, 0, 15)), "Redis 7.0.15, which cannot confirm its disk"),
        (replace(FACTS, has_aof=False), "keeps no append-only file"),
    ],
)
def test_disk_that_can_never_be_confirmed_is_refused_at_the_start(
    facts: ServerFacts, said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        require_wait(ADDRESS, facts, ON_DISK)
    require_wait(ADDRESS, facts, RedisWait(replicas=1))


def test_disk_of_a_server_that_tells_nothing_is_tried() -> None:
    require_wait(ADDRESS, ServerFacts(), ON_DISK)


def facts_by(info: object, config: object) -> ServerFacts:
    """What is read where INFO and CONFIG answer so."""

    def answer(value: object) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    pools = LossyPools(fakeredis.FakeServer())
    pools.answers = {"INFO": lambda: answer(info), "CONFIG": lambda: answer(config)}
    return read_facts(RedisLink(ADDRESS, RedisTerms(), pools, schema="1"))


INFO = (
    "# Server\r\nredis_version:7.4.1\r\n# Persistence\r\naof_enabled:1\r\naof_last_write_status:err\r\n"
    "# Replication\r\nrole:master\r\nconnected_slaves:2\r\nmaxmemory:5\r\nmaxmemory_policy:allkeys-lfu\r\n"
    "used_memory:9\r\nmem_not_counted_for_evict:2\r\n"
)
FORBIDDEN = redis.ResponseError("unknown command 'CONFIG'")


def test_facts_come_from_info_where_config_is_forbidden() -> None:
    facts = facts_by(INFO, FORBIDDEN)
    assert facts.version == (7, 4, 1)
    assert facts.has_aof
    assert facts.appendfsync is None
    assert (facts.role, facts.replicas, facts.evicts_jobs) == ("master", 2, True)
    assert facts.used_memory == 7
    assert not facts.last_aof_write_is_ok
    assert durability_of(facts, NO_WAIT) == "process"


def test_config_is_believed_over_info() -> None:
    told = ["appendonly", "no", "save", "60 1", "no-appendfsync-on-rewrite", "yes"]
    facts = facts_by(INFO, told)
    assert facts.has_aof is False
    assert facts.rests_while_rewriting
    assert facts.snapshots == "60 1"


def test_server_that_tells_nothing_is_unknown() -> None:
    assert facts_by(FORBIDDEN, FORBIDDEN) == ServerFacts()


def test_server_that_does_not_answer_is_an_error_not_unknown() -> None:
    with pytest.raises(StoreError, match="cannot be reached"):
        facts_by(redis.TimeoutError("no answer"), FORBIDDEN)
