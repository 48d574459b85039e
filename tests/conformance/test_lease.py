"""The lease of every `JobStore`: who runs the cycle, and what becomes of writes of who did."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.store.redis_scripts import bare_script
from scheduler.core.errors import ConflictError, StaleRecordError
from scheduler.core.job import JobState
from scheduler.ports import JobStore, Lease
from tests.conformance.stores import PARAMS, STORES
from tests.conformance.test_job_store import add, event, move, queued

SHARED = [one for one in PARAMS if one != "sqlite"]


@pytest.fixture(params=PARAMS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    with STORES[request.param](tmp_path) as open_once:
        opened = open_once()
        yield opened
        opened.close()


@pytest.fixture(params=SHARED)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[JobStore, JobStore]]:
    """One store, as two processes have it open."""
    with STORES[request.param](tmp_path) as open_once:
        opened = open_once(), open_once()
        yield opened
        for one in opened:
            one.close()


def pass_by(store: JobStore) -> None:
    """Until the lease that somebody has is over."""
    until = time.monotonic() + 30
    while store.lease() is not None:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_lease_is_nobodys_until_it_is_taken(store: JobStore) -> None:
    assert store.lease() is None
    taken = store.take_lease("ours", for_s=60)
    assert taken.holder == "ours"
    assert taken.fence >= 1
    assert store.lease() == taken


def test_renewed_lease_keeps_its_number(store: JobStore) -> None:
    assert store.take_lease("ours", for_s=60) == store.take_lease("ours", for_s=60)


def test_dropped_lease_is_nobodys(store: JobStore) -> None:
    store.take_lease("ours", for_s=60)
    store.drop_lease("theirs")
    assert store.lease() is not None
    store.drop_lease("ours")
    assert store.lease() is None
    store.drop_lease("ours")


def test_holder_of_the_lease_writes_as_anybody_does(store: JobStore) -> None:
    taken = store.take_lease("ours", for_s=60)
    led = store.led(lambda: taken.fence)
    one = queued("a")
    add(led, one)
    led.update_job(move(one, JobState.PLANNED), event(one, "planned"))
    assert store.get_job("a").state is JobState.PLANNED
    with pytest.raises(StaleRecordError):
        led.update_job(move(one, JobState.PLANNED))


def test_lease_of_another_is_not_taken(both: tuple[JobStore, JobStore]) -> None:
    first, second = both
    taken = first.take_lease("first", for_s=60)
    assert second.take_lease("second", for_s=60) == taken
    assert second.lease() == taken


def test_lease_that_was_given_up_is_free_at_once(both: tuple[JobStore, JobStore]) -> None:
    first, second = both
    older = first.take_lease("first", for_s=600)
    first.drop_lease("first")
    newer = second.take_lease("second", for_s=60)
    assert newer.holder == "second"
    assert newer.fence > older.fence


def test_lease_that_is_not_renewed_ends(both: tuple[JobStore, JobStore]) -> None:
    first, second = both
    older = first.take_lease("first", for_s=0.05)
    pass_by(first)
    newer = second.take_lease("second", for_s=60)
    assert newer.holder == "second"
    assert newer.fence > older.fence
    assert first.take_lease("first", for_s=60) == newer


def test_nothing_is_written_by_who_slept_through_the_lease(
    both: tuple[JobStore, JobStore],
) -> None:
    first, second = both
    held = first.take_lease("first", for_s=0.05)
    led = first.led(lambda: held.fence)
    one = queued("a")
    add(led, one)
    pass_by(first)
    second.take_lease("second", for_s=60)
    attempts = [
        lambda: led.update_job(move(one, JobState.PLANNED), event(one, "planned")),
        lambda: add(led, queued("b")),
        lambda: led.add_event(event(one, "refused")),
        lambda: led.put_document("key", "text"),
    ]
    for attempt in attempts:
        with pytest.raises(ConflictError, match="another scheduler took over"):
            attempt()
    assert [found.job.job_id for found in second.active_jobs()] == ["a"]
    assert second.get_job("a") == one
    assert [found.kind for found in second.events()] == ["submitted"]
    assert second.get_document("key") is None


def test_what_users_ask_of_any_process_is_written_whoever_leads(
    both: tuple[JobStore, JobStore],
) -> None:
    first, second = both
    second.take_lease("second", for_s=60)
    add(first, queued("a"))
    assert second.get_job("a").state is JobState.QUEUED


def test_number_rises_even_if_the_server_forgot_the_last_ones(
    both: tuple[JobStore, JobStore],
) -> None:
    first, second = both
    older: Lease = first.take_lease("first", for_s=60)
    first.drop_lease("first")
    forget_fence(first)
    assert second.take_lease("second", for_s=60).fence > older.fence


def forget_fence(store: JobStore) -> None:
    """As a server that came back without its newest writes."""
    text = 'redis.call("DEL", string.sub(KEYS[1], 1, -7) .. "fence") return {"ok"}'
    store._link.run(bare_script("forget", text))  # type: ignore[attr-defined]
