"""Ended jobs go into the archive when their time is over: each once, whole, whatever dies meanwhile."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from adapters.store.parquet_archive import ParquetArchive, read_archived
from adapters.store.sqlite import SqliteStore
from scheduler.core.errors import NotFoundError
from scheduler.core.forecast import Quality
from scheduler.core.job import JobRecord, JobState, Native, next_record
from scheduler.core.ledger import LedgerEntry
from scheduler.ports import ArchivedJob, ClusterAdapter, Event
from scheduler.service import retention as module
from scheduler.service.retention import Retention
from tests.conformance.test_job_store import add, entry_of, queued
from tests.fakes.clock import ManualClock
from tests.fakes.mortal import Fate, KilledError, Mortal
from tests.fakes.native_cluster import FakeNativeCluster
from tests.unit.core.builders import T0

KEEP = timedelta(days=30)


class Shelf:
    """A site whose jobs end at once, with its archive in files."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(T0)
        self.folder = folder / "archive"
        self.store = SqliteStore(folder / "jobs.db")
        self.archive = ParquetArchive(self.folder)
        self.clusters: dict[str, ClusterAdapter] = {}

    def retention(self, fate: Fate | None = None) -> Retention:
        fate = fate or Fate()
        return Retention(
            store=Mortal(self.store, "store", fate),  # type: ignore[arg-type]
            archive=Mortal(self.archive, "archive", fate),  # type: ignore[arg-type]
            clusters=self.clusters,
            clock=self.clock,
            keep=KEEP,
        )

    def end(
        self, record: JobRecord, *, hour: float = 1, entry: LedgerEntry | None = None
    ) -> JobRecord:
        add(self.store, record)
        ended_at = record.job.submitted_at + timedelta(hours=hour)
        done = next_record(record, JobState.CANCELLED, at=ended_at, reason="by the user")
        event = Event(
            at=ended_at, kind="cancelled", job_id=done.job.job_id, state=done.state, detail="ä"
        )
        self.store.update_job(done, event, entry=entry)
        return done

    def stored(self) -> list[str]:
        return sorted(one.job.job_id for one in self.store.list_jobs()[0])

    def archived(self) -> list[ArchivedJob]:
        found = [one for path in self.folder.glob("*.parquet") for one in read_archived(path)]
        return sorted(found, key=lambda one: one.record.job.job_id)

    def archived_ids(self) -> list[str]:
        return [one.record.job.job_id for one in self.archived()]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path)
    with closing(made.store):
        yield made


def test_a_job_goes_whole_when_its_time_is_over_and_its_account_stays(shelf: Shelf) -> None:
    done = shelf.end(queued("a"), entry=entry_of("a"))
    events = tuple(shelf.store.events(job_id="a"))
    retention = shelf.retention()
    shelf.clock.move(hours=30 * 24)
    assert retention.run([]) == 0
    assert shelf.archived() == []
    shelf.clock.move(hours=2)
    assert retention.run([]) == 1
    assert shelf.archived() == [ArchivedJob(record=done, events=events, entry=entry_of("a"))]
    assert shelf.stored() == []
    assert shelf.store.events(job_id="a") == []
    assert shelf.store.entries() == [entry_of("a")]
    with pytest.raises(NotFoundError):
        shelf.store.get_job("a")


def test_what_has_not_ended_or_is_waited_for_or_may_change_stays(shelf: Shelf) -> None:
    shelf.end(queued("old"))
    shelf.end(queued("long"), hour=40 * 24)
    shelf.end(queued("awaited"))
    shelf.end(
        queued("provisional", submitted=33 * 24),
        entry=entry_of("provisional", submitted=33 * 24, quality=Quality.FORECAST),
    )
    shelf.end(
        queued("given-up"), entry=entry_of("given-up", quality=Quality.FORECAST)
    )  # no better intensity is looked for any more
    waits = queued("waits")
    waits = replace(waits, job=replace(waits.job, after=("awaited",)))
    add(shelf.store, waits)
    shelf.clock.move(hours=45 * 24)
    assert shelf.retention().run([waits]) == 2
    assert shelf.archived_ids() == ["given-up", "old"]
    assert shelf.stored() == ["awaited", "long", "provisional", "waits"]


def test_native_job_stays_while_it_may_stand_in_its_queue(shelf: Shelf) -> None:
    cluster = FakeNativeCluster("c-de", shelf.clock, {"H100": 1})
    shelf.clusters["c-de"] = cluster
    cluster.sbatch("7", {})
    for ref in ("7", "8"):
        one = queued(f"native-{ref}")
        native = Native(ref=ref, user="ada")
        shelf.end(replace(one, job=replace(one.job, native=native, cluster_ids=("c-de",))))
    shelf.clock.move(hours=31 * 24)
    cluster.fault = "silent"
    assert shelf.retention().run([]) == 0
    cluster.fault = None
    assert shelf.retention().run([]) == 1
    assert shelf.stored() == ["native-7"]
    cluster.scancel("7")
    assert shelf.retention().run([]) == 1


def test_many_go_a_batch_at_a_time_and_then_it_rests_for_an_hour(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    for number in range(7):
        shelf.end(queued(f"j{number}", submitted=number))
    shelf.clock.move(hours=31 * 24)
    retention = shelf.retention()
    assert [retention.run([]) for _ in range(4)] == [3, 3, 1, 0]
    assert shelf.archived_ids() == [f"j{number}" for number in range(7)]
    shelf.end(queued("later", submitted=8))
    assert retention.run([]) == 0
    shelf.clock.move(hours=1)
    assert retention.run([]) == 1


def test_killed_at_any_point_each_job_is_archived_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    points = list[str]()
    for number in count():
        shelf = Shelf(tmp_path / str(number))
        with closing(shelf.store):
            dones = [shelf.end(queued(name)) for name in "abc"]
            shelf.clock.move(hours=31 * 24)
            fate = Fate(dies_at=number)
            try:
                _run_thrice(shelf.retention(fate))
            except KilledError as killed:
                points.append(str(killed))
                # Meanwhile another one is over: the next batch is not the one that was begun.
                dones.append(shelf.end(queued("d", submitted=2)))
            _run_thrice(shelf.retention())
            assert [one.record for one in shelf.archived()] == dones, points[-1:]
            assert shelf.stored() == []
            if not fate.is_dead:
                break
    assert {"after archive.write", "after store.remove_jobs", "after store.put_document"} <= set(
        points
    )


def _run_thrice(retention: Retention) -> None:
    for _ in range(3):
        retention.run([])


def test_archive_that_takes_nothing_keeps_the_jobs(shelf: Shelf) -> None:
    shelf.end(queued("a"))
    shelf.clock.move(hours=31 * 24)
    shelf.folder.touch()
    retention = shelf.retention()
    assert retention.check().is_ok
    assert retention.run([]) == 0
    assert not retention.check().is_ok
    assert "no job was moved" in retention.check().detail
    assert shelf.stored() == ["a"]
    shelf.folder.unlink()
    shelf.folder.mkdir()
    (shelf.folder / "jobs-of-a-dead-process.part").touch()
    assert retention.run([]) == 0, "it rests"
    shelf.clock.move(minutes=5)
    assert retention.run([]) == 1
    assert retention.check().is_ok
    assert list(shelf.folder.glob("*.part")) == []


def test_columns_can_be_queried_without_reading_json(shelf: Shelf) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415

    shelf.end(queued("a", project="nlp"), entry=entry_of("a", grams=250))
    shelf.clock.move(hours=31 * 24)
    shelf.retention().run([])
    (path,) = shelf.folder.iterdir()
    (row,) = pq.read_table(path).to_pylist()
    assert (row["job_id"], row["project"], row["state"]) == ("a", "nlp", "cancelled")
    assert row["submitted_at"] == T0
    assert row["emissions_g"] == entry_of("a", grams=250).emissions_g
