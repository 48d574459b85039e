"""Group commit: what waits shares a transaction, and who fails, fails alone."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.store.database_file import connect
from adapters.store.readers import ReaderPool
from adapters.store.writer import MAX_BATCH, MAX_WAITING, GroupCommitWriter, Write
from scheduler.core.errors import StoreError


@pytest.fixture
def table(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path / "numbers.db", "rwc")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        connection.execute(
            "CREATE TABLE links (number INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)"
        )
        yield connection


@pytest.fixture
def writer(table: sqlite3.Connection, tmp_path: Path) -> Iterator[GroupCommitWriter]:
    writer = GroupCommitWriter(table, path=tmp_path / "numbers.db")
    yield writer
    writer.close()


class Gate:
    """A write that keeps the writer busy until it is opened."""

    def __init__(self, writer: GroupCommitWriter) -> None:
        self._opened = threading.Event()
        entered = threading.Event()

        def wait(_: sqlite3.Connection) -> None:
            entered.set()
            assert self._opened.wait(30)

        writer.submit(wait)
        assert entered.wait(30)

    def open(self) -> None:
        self._opened.set()


def insert(number: int, *, into: str = "numbers") -> Write[int]:
    def write(connection: sqlite3.Connection) -> int:
        connection.execute(f"INSERT INTO {into} VALUES (?)", (number,))
        return number

    return write


def stored(tmp_path: Path) -> list[int]:
    with closing(connect(tmp_path / "numbers.db", "ro")) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM numbers ORDER BY 1")]


def test_writes_that_wait_together_share_one_commit(
    writer: GroupCommitWriter, tmp_path: Path
) -> None:
    gate = Gate(writer)
    futures = [writer.submit(insert(number)) for number in range(50)]
    gate.open()
    assert [future.result(30) for future in futures] == list(range(50))
    assert writer.commits == 2
    assert stored(tmp_path) == list(range(50))


def test_callers_on_many_threads_share_commits(writer: GroupCommitWriter, tmp_path: Path) -> None:
    gate = Gate(writer)
    threads = [
        threading.Thread(target=lambda number=number: writer.submit(insert(number)).result(30))
        for number in range(32)
    ]
    for thread in threads:
        thread.start()
    while writer.n_waiting < len(threads):
        threads[0].join(0.001)
    gate.open()
    for thread in threads:
        thread.join()
    assert writer.commits == 2
    assert stored(tmp_path) == list(range(32))


def test_one_commit_holds_no_more_than_a_batch(writer: GroupCommitWriter) -> None:
    gate = Gate(writer)
    futures = [writer.submit(insert(number)) for number in range(MAX_BATCH + 1)]
    gate.open()
    for future in futures:
        future.result(30)
    assert writer.commits == 3


def test_writes_keep_the_order_in_which_they_came(writer: GroupCommitWriter) -> None:
    gate, order = Gate(writer), list[int]()
    futures = [writer.submit(lambda _, n=number: order.append(n)) for number in range(600)]
    gate.open()
    for future in futures:
        future.result(30)
    assert order == list(range(600))


def test_nothing_is_acknowledged_before_its_commit(
    writer: GroupCommitWriter, tmp_path: Path
) -> None:
    seen_at_acknowledgement: list[list[int]] = []
    gate = Gate(writer)
    future = writer.submit(insert(1))
    future.add_done_callback(lambda _: seen_at_acknowledgement.append(stored(tmp_path)))
    gate.open()
    future.result(30)
    writer.close()
    assert seen_at_acknowledgement == [[1]]


def test_write_that_sqlite_refuses_undoes_only_itself(
    writer: GroupCommitWriter, tmp_path: Path
) -> None:
    gate = Gate(writer)
    first, repeated, other = (writer.submit(insert(number)) for number in (1, 1, 2))
    gate.open()
    assert (first.result(30), other.result(30)) == (1, 2)
    with pytest.raises(StoreError) as caught:
        repeated.result(30)
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert writer.commits == 2
    assert stored(tmp_path) == [1, 2]


def test_write_that_raises_is_undone_and_its_error_passed_on(
    writer: GroupCommitWriter, tmp_path: Path
) -> None:
    def insert_and_raise(connection: sqlite3.Connection) -> None:
        insert(7)(connection)
        raise LookupError("mine")

    failed = writer.submit(insert_and_raise)
    with pytest.raises(LookupError, match="mine"):
        failed.result(30)
    assert writer.submit(insert(8)).result(30) == 8
    assert stored(tmp_path) == [8]


def test_failed_commit_fails_all_that_it_held_and_the_writer_goes_on(
    writer: GroupCommitWriter, tmp_path: Path
) -> None:
    gate = Gate(writer)
    innocent = writer.submit(insert(1))
    dangling = writer.submit(insert(99, into="links"))
    gate.open()
    for future in (innocent, dangling):
        with pytest.raises(StoreError, match="nothing was written"):
            future.result(30)
    assert stored(tmp_path) == []
    assert writer.submit(insert(1)).result(30) == 1
    assert stored(tmp_path) == [1]


def test_transaction_given_up_by_sqlite_is_acknowledged_to_nobody(
    writer: GroupCommitWriter, tmp_path: Path
) -> None:
    def give_up(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR ROLLBACK INTO numbers VALUES (1)")

    gate = Gate(writer)
    futures = [writer.submit(insert(1)), writer.submit(give_up), writer.submit(insert(2))]
    gate.open()
    for future in futures:
        with pytest.raises(StoreError):
            future.result(30)
    assert stored(tmp_path) == []
    assert writer.submit(insert(3)).result(30) == 3


def test_who_comes_when_too_many_wait_waits_for_room(writer: GroupCommitWriter) -> None:
    gate, accepted = Gate(writer), list[int]()

    def submit_many() -> None:
        for number in range(MAX_WAITING + 10):
            writer.submit(insert(number))
            accepted.append(number)

    thread = threading.Thread(target=submit_many)
    thread.start()
    while len(accepted) < MAX_WAITING:
        thread.join(0.001)
    thread.join(0.05)
    assert writer.n_waiting == len(accepted) == MAX_WAITING
    gate.open()
    thread.join()
    assert len(accepted) == MAX_WAITING + 10


def test_close_finishes_what_waits_and_refuses_what_comes_later(
    writer: GroupCommitWriter, tmp_path: Path
) -> None:
    gate = Gate(writer)
    futures = [writer.submit(insert(number)) for number in range(MAX_BATCH + 5)]
    closer = threading.Thread(target=writer.close)
    closer.start()
    gate.open()
    closer.join()
    assert all(future.done() for future in futures)
    assert stored(tmp_path) == list(range(MAX_BATCH + 5))
    with pytest.raises(StoreError, match="was closed"):
        writer.submit(insert(0))


def test_reads_one_after_the_other_share_a_connection(
    table: sqlite3.Connection, tmp_path: Path
) -> None:
    opened: list[sqlite3.Connection] = []

    def open_connection() -> sqlite3.Connection:
        opened.append(connect(tmp_path / "numbers.db", "ro"))
        return opened[-1]

    pool = ReaderPool(open_connection, path=tmp_path)
    for _ in range(5):
        assert pool.rows("SELECT 1") == [(1,)]
    pool.close()
    assert len(opened) == 1
    with pytest.raises(StoreError, match="was closed"):
        pool.rows("SELECT 1")


def test_connection_lent_while_the_pool_closes_is_closed_when_it_comes_back(
    table: sqlite3.Connection, tmp_path: Path
) -> None:
    connection = connect(tmp_path / "numbers.db", "ro")
    pool = ReaderPool(lambda: connection, path=tmp_path)
    connection.create_function("close_pool", 0, lambda: pool.close() or 1)
    assert pool.rows("SELECT close_pool()") == [(1,)]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
