"""Copies between SQLite and Redis: everything, unchanged, and never into something else."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import fakeredis
import pytest

from adapters.store.redis import RedisStore
from adapters.store.redis_address import parse_address
from adapters.store.redis_terms import RedisTerms
from adapters.store.redis_transfer import RedisSource, RedisTarget
from adapters.store.sqlite import SqliteStore
from adapters.store.sqlite_transfer import SqliteSource, SqliteTarget
from adapters.store.transfer import KINDS, Kind, Row, Source, Target, copy_store, summarise
from scheduler.core.errors import StoreError
from scheduler.core.forecast import Quality
from scheduler.core.job import JobState
from scheduler.ports import Event, JobStore
from tests.conformance.stores import fake_pools
from tests.conformance.test_job_store import (
    entry_of,
    event,
    full_record,
    move,
    new,
    queued,
)
from tests.unit.core.builders import T0

Said = list[tuple[str, int, int]]
N_JOBS = 1203


class Places:
    """A file and a server, each as store, source and target."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = fakeredis.FakeServer()

    def address(self, name: str) -> str:
        return f"redis://127.0.0.1:1/0#{name}"

    def store(self, kind: str, name: str) -> JobStore:
        if kind == "sqlite":
            return SqliteStore(self.folder / name)
        return RedisStore(parse_address(self.address(name)), pools=fake_pools(self.server))

    def source(self, kind: str, name: str) -> Source:
        if kind == "sqlite":
            return SqliteSource(self.folder / name)
        address = parse_address(self.address(name))
        return RedisSource(address, RedisTerms(), pools=fake_pools(self.server))

    def target(self, kind: str, name: str) -> Target:
        if kind == "sqlite":
            return SqliteTarget(self.folder / name)
        address = parse_address(self.address(name))
        return RedisTarget(address, RedisTerms(), pools=fake_pools(self.server))

    def copy(self, one: tuple[str, str], other: tuple[str, str]) -> tuple[Said, dict[Kind, int]]:
        """Copies; what was reported, and how many of each kind there are."""
        said: Said = []
        with closing(self.source(*one)) as source, closing(self.target(*other)) as target:
            found = copy_store(source, target, lambda *words: said.append(words))
        return said, {kind: found[kind].count for kind in KINDS}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def fill(store: JobStore, n_jobs: int = N_JOBS) -> None:
    """Jobs of many states, with keys of every form, events without a job, entries of both kinds, documents."""
    plain = n_jobs - 3
    store.add_jobs([new(queued(f"j{number}", submitted=number % 7)) for number in range(plain)])
    store.add_jobs(
        [
            new(full_record(), key="clé 大", digest="δ"),
            new(queued("empty"), key="", digest=""),
            new(queued("half"), key="k", digest=None),
        ]
    )
    going = move(queued("j0", submitted=0), JobState.HELD)
    store.update_job(going, event(going, "held", "Größe 🌱\0"))
    store.add_event(Event(at=T0, kind="refused", job_id=None, detail=""))
    for number in range(plain // 2):
        quality = Quality.FORECAST if number % 2 else Quality.MEASURED
        store.put_entry(entry_of(f"j{number}", submitted=number, quality=quality))
    store.put_document("", "empty key")
    store.put_document("naïve\0", "line\r\n")


def content(store: JobStore) -> list[object]:
    events = store.events(limit=100_000)
    return [
        store.list_jobs(limit=100_000),
        events,
        store.entries(),
        store.entries(unsettled_only=True),
        [store.get_document(key) for key in ("", "naïve\0")],
        store.active_jobs(),
        store.events(job_id="j0"),
        store.events(kind="held"),
    ]


@pytest.mark.parametrize(
    "route", [("sqlite", "redis", "sqlite"), ("redis", "redis"), ("redis", "sqlite", "redis")]
)
def test_everything_arrives_unchanged_over_any_route(
    places: Places, route: tuple[str, ...]
) -> None:
    first = places.store(route[0], "s0")
    fill(first)
    before = content(first)
    first.close()
    for index, (one, other) in enumerate(pairwise(route)):
        _, counts = places.copy((one, f"s{index}"), (other, f"s{index + 1}"))
        assert counts == {
            "jobs": N_JOBS,
            "events": N_JOBS + 2,
            "entries": (N_JOBS - 3) // 2,
            "documents": 2,
        }
    last = places.store(route[-1], f"s{len(route) - 1}")
    assert content(last) == before
    # Requests that come again are known there, and numbers of events go on.
    assert last.add_jobs([new(queued("x"), key="clé 大", digest="δ")]) == [full_record()]
    assert last.add_jobs([new(queued("x"), key="", digest="")]) == [queued("empty")]
    last.add_event(Event(at=T0, kind="after", job_id=None))
    assert last.events(kind="after")[0].seq == N_JOBS + 3
    last.close()


class CutTarget:
    """A target whose connection ends at the n-th page."""

    def __init__(self, inner: Target, n_pages: int) -> None:
        self._inner = inner
        self._left = n_pages

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    @property
    def name(self) -> str:
        return self._inner.name

    def begin(self, source: str) -> None:
        self._inner.begin(source)

    def last_seq(self) -> int:
        return self._inner.last_seq()

    def put(self, kind: Kind, rows: list[Row]) -> None:
        if not self._left:
            raise StoreError("the network was cut")
        self._left -= 1
        self._inner.put(kind, rows)


@pytest.mark.parametrize("kinds", [("sqlite", "redis"), ("redis", "sqlite")])
@pytest.mark.parametrize("n_pages", [0, 2, 4, 6, 8])
def test_copy_that_was_cut_off_is_no_store_and_goes_on(
    places: Places, kinds: tuple[str, str], n_pages: int
) -> None:
    store = places.store(kinds[0], "from")
    fill(store)
    before = content(store)
    store.close()
    with closing(places.source(kinds[0], "from")) as source:
        target = places.target(kinds[1], "to")
        with pytest.raises(StoreError, match="cut"):
            copy_store(source, CutTarget(target, n_pages), lambda *_: None)  # type: ignore[arg-type]
        target.close()
    if kinds[1] == "redis":
        with pytest.raises(StoreError, match="unfinished copy"):
            places.store("redis", "to")
    else:
        assert not (places.folder / "to").exists()
    places.copy((kinds[0], "from"), (kinds[1], "to"))
    copied = places.store(kinds[1], "to")
    assert content(copied) == before
    copied.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_unfinished_copy_of_another_store_is_refused(places: Places, kind: str) -> None:
    for name in ("one", "two"):
        with closing(places.store("redis", name)) as store:
            fill(store, 10)
    with (
        closing(places.source("redis", "one")) as source,
        closing(places.target(kind, "to")) as target,
        pytest.raises(StoreError, match="cut"),
    ):
        copy_store(source, CutTarget(target, 1), lambda *_: None)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"an unfinished copy of .*#one"):
        places.copy(("redis", "two"), (kind, "to"))


@pytest.mark.parametrize(
    ("kind", "said"), [("sqlite", "is there already"), ("redis", "holds a store")]
)
def test_target_that_holds_a_store_is_refused_and_left_as_it_is(
    places: Places, kind: str, said: str
) -> None:
    for one, name, n_jobs in (("redis", "from", 20), (kind, "to", 10)):
        with closing(places.store(one, name)) as store:
            fill(store, n_jobs)
            before = content(store)
    with pytest.raises(StoreError, match=said):
        places.copy(("redis", "from"), (kind, "to"))
    with closing(places.store(kind, "to")) as store:
        assert content(store) == before


@pytest.mark.parametrize(
    ("kind", "said"), [("sqlite", "does not exist"), ("redis", "holds no store")]
)
def test_source_that_is_not_there_is_refused_and_not_made(
    places: Places, kind: str, said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        places.source(kind, "from")
    assert list(places.folder.iterdir()) == []
    assert fakeredis.FakeRedis(server=places.server).keys() == []


def test_sqlite_store_in_use_is_not_copied(places: Places) -> None:
    with closing(places.store("sqlite", "from")), pytest.raises(StoreError, match="in use"):
        places.source("sqlite", "from")


def test_source_whose_lease_lives_is_refused_and_left_as_it_is(places: Places) -> None:
    raw = fakeredis.FakeRedis(server=places.server, decode_responses=True)
    with closing(places.store("redis", "from")) as store:
        fill(store, 10)
        store.take_lease("node7 4711 ab", for_s=60)
        raw.set("{gridtide:from}:schema", "1")  # which opening it would bring up to date
        with pytest.raises(StoreError, match=r"#from is in use: node7 4711 ab .*nothing was"):
            places.copy(("redis", "from"), ("redis", "to"))
        assert raw.get("{gridtide:from}:schema") == "1"
        assert raw.keys("{gridtide:to}:*") == []
        raw.delete("{gridtide:from}:lease")  # as it ends by itself
    assert places.copy(("redis", "from"), ("redis", "to"))[1]["jobs"] == 10


def test_target_whose_lease_lives_is_refused_though_it_holds_no_job(places: Places) -> None:
    with closing(places.store("redis", "from")) as store:
        fill(store, 10)
    with closing(places.store("redis", "to")) as store:
        store.take_lease("node7 4711 ab", for_s=60)
        with pytest.raises(StoreError, match=r"#to is in use: node7 4711 ab "):
            places.copy(("redis", "from"), ("redis", "to"))
        assert store.list_jobs()[0] == []  # it is a store still
        store.drop_lease("node7 4711 ab")
    assert places.copy(("redis", "from"), ("redis", "to"))[1]["jobs"] == 10


def test_file_being_filled_cannot_be_opened_as_a_store(places: Places) -> None:
    with closing(places.target("sqlite", "to")), pytest.raises(StoreError, match="in use"):
        places.store("sqlite", "to")


class ChangingSource:
    """A source in which somebody writes between the two times that it is read."""

    def __init__(self, inner: Source, change: Callable[[], object]) -> None:
        self._inner = inner
        self._change = change

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    @property
    def name(self) -> str:
        return self._inner.name

    def pages(self, kind: Kind, *, after_seq: int = 0) -> Iterator[list[Row]]:
        yield from self._inner.pages(kind, after_seq=after_seq)
        if kind == "documents":
            self._change()


def test_source_that_changes_meanwhile_is_told_and_the_copy_is_no_store(places: Places) -> None:
    store = places.store("redis", "from")
    fill(store, 10)
    with (
        closing(places.source("redis", "from")) as source,
        closing(places.target("redis", "to")) as target,
    ):
        changing = ChangingSource(source, lambda: store.put_document("", "changed"))
        with pytest.raises(
            StoreError, match=r"documents: .* the source changed while it was copied"
        ):
            copy_store(changing, target, lambda *_: None)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="unfinished copy"):
        places.store("redis", "to")


def test_damage_on_the_way_is_found(places: Places) -> None:
    with closing(places.store("redis", "from")) as store:
        fill(store, 10)
    with closing(places.source("redis", "from")) as source:
        target = places.target("sqlite", "to")
        whole = target.finish
        copy_store_until_verified(source, target)
        with sqlite3.connect(places.folder / "to.copying") as other:
            other.execute("UPDATE events SET detail = detail || 'x' WHERE seq = 3")
        other.close()
        assert summarise(source, "events", lambda _: None) != summarise(
            target, "events", lambda _: None
        )
        whole()
        target.close()


def copy_store_until_verified(source: Source, target: Target) -> None:
    target.begin(source.name)
    for kind in KINDS:
        for rows in source.pages(kind):
            target.put(kind, rows)


def test_progress_reaches_the_number_of_rows(places: Places) -> None:
    with closing(places.store("sqlite", "from")) as store:
        fill(store)
    said, _ = places.copy(("sqlite", "from"), ("redis", "to"))
    last = {what: (n_done, total) for what, n_done, total in said}
    assert last["copying jobs"] == (N_JOBS, N_JOBS)
    assert last["comparing events"] == (2 * (N_JOBS + 2),) * 2
    assert len([one for one in said if one[0] == "copying jobs"]) > 2
