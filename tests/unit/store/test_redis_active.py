"""The copy of all active jobs that a store on Redis keeps: always what the server has, and read in small pieces."""

from collections.abc import Callable
from dataclasses import replace

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.store import redis_active
from adapters.store.redis import RedisStore
from adapters.store.redis_address import parse_address
from adapters.store.redis_keys import prefix
from scheduler.core.job import JobState
from tests.conformance.stores import fake_pools
from tests.conformance.test_job_store import add, queued

ADDRESS = parse_address("redis://127.0.0.1:1/0#m")
CHANGES = prefix("m") + "changes"


@pytest.fixture
def raw(server: fakeredis.FakeServer) -> fakeredis.FakeRedis:
    return fakeredis.FakeRedis(server=server)


@pytest.fixture
def here(server: fakeredis.FakeServer) -> RedisStore:
    return RedisStore(ADDRESS, pools=fake_pools(server))


@pytest.fixture
def elsewhere(server: fakeredis.FakeServer) -> RedisStore:
    return RedisStore(ADDRESS, pools=fake_pools(server))


@pytest.fixture
def calls(here: RedisStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scripts that it has called."""
    made, call = list[str](), here._call
    monkeypatch.setattr(
        here, "_call", lambda name, *args: (made.append(name), call(name, *args))[1]
    )
    return made


def ids(store: RedisStore) -> list[str]:
    return [one.job.job_id for one in store.active_jobs()]


def change(store: RedisStore, job_id: str, state: JobState) -> None:
    record = store.get_job(job_id)
    store.update_job(replace(record, state=state, version=record.version + 1))


def test_what_others_did_is_seen_at_the_next_look(here: RedisStore, elsewhere: RedisStore) -> None:
    add(elsewhere, queued("a"), queued("b"))
    assert ids(here) == ["a", "b"]
    add(elsewhere, queued("c"))
    change(elsewhere, "a", JobState.CANCELLED)
    change(elsewhere, "b", JobState.HELD)
    assert [(one.job.job_id, one.state) for one in here.active_jobs()] == [
        ("b", JobState.HELD),
        ("c", JobState.QUEUED),
    ]


def test_look_reads_what_has_changed_and_nothing_else(
    here: RedisStore, elsewhere: RedisStore, calls: list[str]
) -> None:
    add(elsewhere, *(queued(f"j{number}") for number in range(5)))
    here.active_jobs()
    assert "export_jobs" in calls
    calls.clear()
    before = here.active_jobs()
    assert calls == ["changed_jobs"]
    change(elsewhere, "j3", JobState.HELD)
    after = here.active_jobs()
    assert [one is other for one, other in zip(before, after, strict=True)] == [
        *(True,) * 3,
        False,
        True,
    ]
    assert calls == ["changed_jobs"] * 3


def test_many_jobs_and_many_changes_come_in_pages(
    here: RedisStore, elsewhere: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_active, "PAGE", 3)
    names = [f"j{number:02}" for number in range(10)]
    add(elsewhere, *map(queued, names))
    assert ids(here) == names
    for name in names[::2]:
        change(elsewhere, name, JobState.HELD)
        change(elsewhere, name, JobState.QUEUED)
    for name in names[1::2]:
        change(elsewhere, name, JobState.CANCELLED)
    assert ids(here) == names[::2]
    assert {one.version for one in here.active_jobs()} == {3}


def test_history_that_is_too_short_is_no_reason_to_miss_anything(
    here: RedisStore, elsewhere: RedisStore, raw: fakeredis.FakeRedis
) -> None:
    add(elsewhere, queued("a"), queued("b"))
    assert ids(here) == ["a", "b"]
    change(elsewhere, "a", JobState.CANCELLED)
    add(elsewhere, queued("c"))
    raw.xtrim(CHANGES, maxlen=1, approximate=False)
    assert ids(here) == ["b", "c"]


def test_jobs_that_change_while_they_are_walked_through_are_not_missed(
    here: RedisStore, elsewhere: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One goes from a state that is read late to one that was read before."""
    add(elsewhere, queued("a"), queued("b"))
    read, is_moved = here._call, False

    def call(name: str, *args: str | int) -> object:
        nonlocal is_moved
        answer = read(name, *args)  # type: ignore[arg-type]
        if name == "export_jobs" and args[0] == JobState.HELD and not is_moved:
            is_moved = True
            change(elsewhere, "a", JobState.HELD)
        return answer

    monkeypatch.setattr(here, "_call", call)
    assert ids(here) == ["a", "b"]
    assert is_moved


def test_server_that_went_back_to_an_older_state_is_read_anew(
    here: RedisStore, elsewhere: RedisStore, raw: fakeredis.FakeRedis
) -> None:
    add(elsewhere, queued("a"), queued("b"))
    here.active_jobs()
    older = snapshot(raw)
    change(elsewhere, "a", JobState.CANCELLED)
    add(elsewhere, queued("lost"))
    assert ids(here) == ["b", "lost"]
    older()
    # It goes on from there, and has soon done more than it had before.
    for state in (JobState.HELD, JobState.QUEUED) * 4:
        change(elsewhere, "b", state)
    assert ids(here) == ["a", "b"]


def snapshot(raw: fakeredis.FakeRedis) -> Callable[[], None]:
    """What puts everything back as it is now, as a primary that lacks the newest writes would have it."""
    kept = {key: raw.dump(key) for key in raw.scan_iter()}

    def restore() -> None:
        raw.flushall()
        for key, value in kept.items():
            raw.restore(key, 0, value)

    return restore


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["add", "change", "end", "remove", "look", "trim", "keep", "go_back"]),
        st.integers(0, 5),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(MOVES)
def test_copy_is_always_what_the_server_has(moves: list[tuple[str, int]]) -> None:
    server = fakeredis.FakeServer()
    raw = fakeredis.FakeRedis(server=server)
    here, writer = (RedisStore(ADDRESS, pools=fake_pools(server)) for _ in range(2))
    go_back = snapshot(raw)
    for move, number in moves:
        known = {one.job.job_id: one.state for one in writer.list_jobs()[0]}
        name = f"j{number}"
        if move == "add" and name not in known:
            add(writer, queued(name))
        elif move == "change" and known.get(name) is JobState.QUEUED:
            change(writer, name, JobState.HELD)
        elif move == "end" and known.get(name) in (JobState.QUEUED, JobState.HELD):
            change(writer, name, JobState.CANCELLED)
        elif move == "remove" and known.get(name) is JobState.CANCELLED:
            writer.remove_jobs([name])
        elif move == "trim":
            raw.xtrim(CHANGES, maxlen=number, approximate=False)
        elif move == "keep":
            go_back = snapshot(raw)
        elif move == "go_back":
            go_back()
        elif move == "look":
            here.active_jobs()
    fresh = RedisStore(ADDRESS, pools=fake_pools(server))
    assert here.active_jobs() == fresh.active_jobs()
