"""What a store on Redis does when requests or replies are lost, scripts are forgotten, or the data is gone."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import fakeredis
import pytest
import redis

from adapters.store.redis import RedisStore
from adapters.store.redis_address import parse_address
from adapters.store.redis_keys import schema_key
from adapters.store.redis_link import RedisLink
from adapters.store.redis_outage import REST_S
from adapters.store.redis_scripts import get_script
from adapters.store.redis_terms import RedisTerms, RedisWait
from scheduler.core.errors import ConflictError, NotFoundError, StoreError
from scheduler.core.forecast import Quality
from scheduler.core.job import JobState
from scheduler.ports import Event, JobStore
from tests.conformance.stores import fake_pools
from tests.conformance.test_job_store import add, entry_of, event, ids, move, new, queued
from tests.fakes.lossy_pools import LossyPools
from tests.unit.core.builders import T0

ADDRESS = parse_address("redis://127.0.0.1:1/0#lossy")


@pytest.fixture
def pools(server: fakeredis.FakeServer) -> LossyPools:
    return LossyPools(server)


@pytest.fixture
def store(pools: LossyPools) -> Iterator[RedisStore]:
    store = RedisStore(ADDRESS, pools=pools)
    yield store
    store.close()


def content(store: JobStore) -> tuple[object, ...]:
    return store.list_jobs(), store.events(), store.entries(), store.get_document("d")


WRITES: dict[str, Callable[[JobStore], object]] = {
    "add_jobs": lambda store: store.add_jobs([new(queued("b")), new(queued("c"), key="k")]),
    "update_job": lambda store: store.update_job(
        move(queued("a"), JobState.HELD), event(queued("a"), "held"), entry=entry_of("a")
    ),
    "add_event": lambda store: store.add_event(Event(at=T0, kind="refused", job_id=None)),
    "put_entry": lambda store: store.put_entry(entry_of("a")),
    "put_document": lambda store: store.put_document("d", "text"),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("lost", ["lose_replies", "lose_requests"])
def test_write_whose_message_is_lost_is_sent_again_and_done_once(
    store: RedisStore, pools: LossyPools, name: str, lost: str
) -> None:
    whole = RedisStore(ADDRESS, pools=fake_pools(fakeredis.FakeServer()))
    for one in (store, whole):
        add(one, queued("a"))
    setattr(pools, lost, 2)
    assert WRITES[name](store) == WRITES[name](whole)
    assert content(store) == content(whole)
    assert pools.looked_again == 2
    whole.close()


def test_repeat_after_a_lost_reply_still_tells_of_the_job_of_the_same_key(
    store: RedisStore, pools: LossyPools
) -> None:
    first = queued("a")
    store.add_jobs([new(first, key="k", digest="d")])
    pools.lose_replies = 1
    batch = [new(queued("b"), key="k", digest="d"), new(queued("c"), key="l", digest="d")]
    assert store.add_jobs([*batch, new(queued("d"), key="l", digest="d")]) == [
        first,
        queued("c"),
        queued("c"),
    ]
    assert sorted(ids(store.list_jobs()[0])) == ["a", "c"]
    assert len(store.events()) == 2


def test_each_call_is_new_even_when_it_says_the_same(store: RedisStore) -> None:
    for _ in range(3):
        WRITES["add_event"](store)
    assert [one.seq for one in store.events()] == [1, 2, 3]


def test_call_that_arrives_after_a_later_one_does_nothing(
    store: RedisStore, pools: LossyPools
) -> None:
    link = RedisLink(ADDRESS, RedisTerms(), pools, schema=store._link.schema)
    script = get_script("put_document")
    link.call(script, "d", "new")
    # The same lane, an earlier number: a request that lay in a network for long.
    caller = link._caller
    link.run(script, link.schema, "", caller, 0, 0, "d", "old")
    assert store.get_document("d") == "new"


def test_write_that_is_never_answered_says_that_it_may_have_happened(
    store: RedisStore, pools: LossyPools
) -> None:
    pools.lose_replies = 99
    with pytest.raises(StoreError, match="may or may not have happened") as caught:
        store.put_document("d", "text")
    assert caught.value.retryable
    pools.lose_replies = 0
    time.sleep(REST_S)
    assert store.get_document("d") == "text"


def test_server_that_cannot_be_reached_was_sent_nothing(
    store: RedisStore, pools: LossyPools
) -> None:
    pools.is_dead = True
    with pytest.raises(StoreError, match="cannot be reached; nothing was written"):
        store.put_document("d", "text")
    checks = store.checks()
    assert [one.is_ok for one in checks] == [False]
    pools.is_dead = False
    assert store.get_document("d") is None


def test_write_that_was_perhaps_sent_before_the_server_died_says_so(
    store: RedisStore, pools: LossyPools
) -> None:
    def die() -> None:
        pools.is_dead = True
        raise redis.ConnectionError("reset")

    pools.answers["EVALSHA"] = die
    with pytest.raises(StoreError, match="may or may not have happened"):
        store.put_document("d", "text")


@pytest.mark.parametrize(
    "answer",
    [
        redis.exceptions.MovedError("7000 127.0.0.1:7001"),
        redis.exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
        redis.exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"),
        redis.BusyLoadingError("Redis is loading the dataset in memory"),
    ],
)
def test_refusal_that_passes_is_tried_again_where_the_store_is_now(
    store: RedisStore, pools: LossyPools, answer: redis.RedisError
) -> None:
    def refuse_once() -> None:
        del pools.answers["EVALSHA"]
        raise answer

    pools.answers["EVALSHA"] = refuse_once
    add(store, queued("a"))
    assert pools.looked_again == 1
    assert len(store.events()) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (redis.ReadOnlyError("You can't write against a read only replica."), "only reads"),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "its own disk"),
        (redis.ResponseError("NOREPLICAS Not enough good replicas"), "min-replicas-to-write"),
        # Before 7.0 the code stands within the sentence about the script.
        (
            redis.ResponseError(
                "Error running script (call to f_1): @user_script:9: -OOM command not allowed"
            ),
            "is full",
        ),
        (redis.ResponseError("WRONGTYPE Operation against a key"), "something else in it"),
        (redis.ResponseError("ERR something new"), r"refused \(ERR something"),
    ],
)
def test_refusal_that_stays_is_said_at_once_in_words(
    store: RedisStore, pools: LossyPools, answer: redis.RedisError, said: str
) -> None:
    def refuse() -> None:
        raise answer

    pools.answers["EVALSHA"] = refuse
    with pytest.raises(StoreError, match=said):
        add(store, queued("a"))
    assert pools.looked_again == 0


def test_refusal_after_a_lost_reply_does_not_say_that_nothing_was_written(
    store: RedisStore, pools: LossyPools
) -> None:
    answers = iter([redis.TimeoutError("no reply"), redis.ReadOnlyError("read only replica")])

    def answer() -> None:
        raise next(answers)

    pools.answers["EVALSHA"] = answer
    with pytest.raises(StoreError, match=r"may or may not have happened.*read only replica"):
        add(store, queued("a"))


def test_scripts_that_the_server_forgot_are_loaded_again(
    store: RedisStore, raw: fakeredis.FakeRedis
) -> None:
    add(store, queued("a"))
    raw.script_flush()
    assert store.get_job("a") == queued("a")
    add(store, queued("b"))
    assert len(store.events()) == 2


def test_store_that_was_emptied_under_a_running_service_is_no_empty_store(
    store: RedisStore, raw: fakeredis.FakeRedis
) -> None:
    add(store, queued("a"))
    raw.flushall()
    for call in (lambda: store.get_job("a"), store.active_jobs, lambda: add(store, queued("b"))):
        with pytest.raises(StoreError, match="holds no store any more"):
            call()
    assert raw.keys() == []


def test_older_gridtide_stops_writing_once_a_newer_one_has_changed_the_schema(
    store: RedisStore, raw: fakeredis.FakeRedis
) -> None:
    raw.set(schema_key("lossy"), "99")
    with pytest.raises(StoreError, match="version 99 by now"):
        add(store, queued("a"))


def test_writer_with_an_older_lease_than_has_written_is_refused(
    store: RedisStore, pools: LossyPools, raw: fakeredis.FakeRedis
) -> None:
    link = RedisLink(ADDRESS, RedisTerms(), pools, schema=store._link.schema)
    script = get_script("put_document")
    raw.set("{gridtide:lossy}:fence", "10")
    assert link.call(script, "d", "ours", fence=10) == ["ok"]
    with pytest.raises(ConflictError, match="lease 10, ours was 9"):
        link.call(script, "d", "theirs", fence=9)
    assert store.get_document("d") == "ours"


@pytest.mark.parametrize(
    "key", ["seq", "events", "jobs:state:queued", "heads", "events:kind:submitted"]
)
def test_key_with_something_else_in_it_stops_a_write_before_it_begins(
    store: RedisStore, raw: fakeredis.FakeRedis, key: str
) -> None:
    add(store, queued("a"))
    at = "{gridtide:lossy}:"
    if key == "seq":
        raw.set(at + key, 0)  # as where a server that may evict keys threw it away
    else:
        raw.delete(at + key)
        raw.rpush(at + key, "theirs")
    before = {one: raw.dump(one) for one in raw.scan_iter() if ":calls:" not in one}
    with pytest.raises(StoreError, match="something else in it"):
        add(store, queued("b"))
    after = {one: raw.dump(one) for one in raw.scan_iter() if ":calls:" not in one}
    assert after == before


@pytest.mark.parametrize(("ahead_s", "said"), [(40, "40 s ahead of"), (-40, "40 s behind")])
def test_process_whose_clock_is_wrong_does_not_lead_and_says_so(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, ahead_s: int, said: str
) -> None:
    there = int(store._call("get_time")[1] or 0)
    monkeypatch.setattr("adapters.store.redis.wall_s", lambda: there + ahead_s)
    with pytest.raises(
        StoreError, match=f"does not lead: the clock of this machine is 4. s {said[5:]}"
    ):
        store.take_lease("ours", for_s=60)
    assert store.lease() is None
    (check,) = store.checks()
    assert (check.subject, check.is_ok) == ("store", False)
    assert said[5:] in check.detail
    monkeypatch.setattr("adapters.store.redis.wall_s", lambda: there + ahead_s // 4)
    assert store.take_lease("ours", for_s=60).holder == "ours"


def test_settled_entry_that_an_upgrade_writes_in_another_way_is_the_same_entry(
    store: RedisStore, raw: fakeredis.FakeRedis
) -> None:
    add(store, queued("a"))
    settled = entry_of("a")
    store.put_entry(settled)
    key = "{gridtide:lossy}:entries"
    raw.hset(key, "a", " " + str(raw.hget(key, "a")))
    store.put_entry(settled)
    store.update_job(move(queued("a"), JobState.HELD), entry=settled)
    assert store.get_job("a").state is JobState.HELD
    assert str(raw.hget(key, "a")).startswith(" ")


def test_entry_that_moves_in_time_is_listed_once(store: RedisStore) -> None:
    store.put_entry(entry_of("a", submitted=1, quality=Quality.FORECAST))
    moved = entry_of("a", submitted=2, quality=Quality.FORECAST)
    store.put_entry(moved)
    assert store.entries() == store.entries(unsettled_only=True) == [moved]


def test_job_that_changes_its_project_leaves_the_lists_of_the_old_one(store: RedisStore) -> None:
    one = queued("a", project="nlp")
    add(store, one)
    moved = replace(one, job=replace(one.job, project="cv"), version=2)
    store.update_job(moved)
    assert store.list_jobs(project="nlp") == ([], None)
    assert store.list_jobs(project="cv") == ([moved], None)


def test_many_events_of_one_job_are_searched_for_a_kind_beyond_the_first_page(
    store: RedisStore,
) -> None:
    one = queued("a")
    add(store, one)
    for number in range(25):
        store.add_event(event(one, "rare" if number in {11, 24} else "common"))
    assert [seen.seq for seen in store.events(job_id="a", kind="rare", limit=2)] == [13, 26]
    assert [seen.seq for seen in store.events(job_id="a", kind="rare", limit=1)] == [13]
    assert store.events(job_id="a", kind="rare", after_seq=13, limit=5)[0].seq == 26


def test_index_without_its_record_is_an_error_not_a_shorter_list(
    store: RedisStore, raw: fakeredis.FakeRedis
) -> None:
    add(store, queued("a"))
    raw.delete("{gridtide:lossy}:jobs")
    with pytest.raises(StoreError, match="does not hold"):
        store.list_jobs()
    with pytest.raises(StoreError, match="lists a job, a, that it does not hold"):
        store.active_jobs()
    with pytest.raises(NotFoundError):
        store.get_job("a")


# ----------------------------------------------------------------------------- confirmations


def waiting(pools: LossyPools, **wait: float) -> RedisStore:
    return RedisStore(ADDRESS, RedisTerms(wait=RedisWait(**wait)), pools=pools)  # type: ignore[arg-type]


def test_write_is_acknowledged_once_enough_replicas_have_it(pools: LossyPools) -> None:
    pools.answers["WAIT"] = lambda: 2
    store = waiting(pools, replicas=2)
    add(store, queued("a"))
    assert pools.sent.count("WAIT") == 1
    store.get_job("a")
    assert pools.sent.count("WAIT") == 1


def test_write_that_too_few_replicas_confirm_is_an_error_and_may_be_repeated(
    pools: LossyPools,
) -> None:
    pools.answers["WAIT"] = lambda: 1
    store = waiting(pools, replicas=2, timeout_s=0.01)
    job = new(queued("a"), key="k", digest="d")
    with pytest.raises(StoreError, match="only 1 replicas confirmed, not 2") as caught:
        store.add_jobs([job])
    assert caught.value.retryable
    pools.answers["WAIT"] = lambda: 2
    assert store.add_jobs([job]) == [job.record]
    assert len(store.events()) == 1


def test_refused_write_waits_for_nobody(pools: LossyPools) -> None:
    pools.answers["WAIT"] = lambda: 0
    store = waiting(pools, replicas=1, timeout_s=0.01)
    with pytest.raises(NotFoundError):
        store.update_job(move(queued("nobody"), JobState.HELD))


@pytest.mark.parametrize(
    ("confirmed", "is_enough"), [([1, 1], True), ([0, 1], False), ([1, 0], False)]
)
def test_disk_of_the_server_and_replicas_are_confirmed_together(
    pools: LossyPools, confirmed: list[int], is_enough: bool
) -> None:
    pools.answers["WAITAOF"] = lambda: confirmed
    store = waiting(pools, replicas=1, is_on_disk=True, timeout_s=0.01)
    if is_enough:
        add(store, queued("a"))
    else:
        with pytest.raises(StoreError, match="not 1 replicas and its own disk"):
            add(store, queued("a"))
