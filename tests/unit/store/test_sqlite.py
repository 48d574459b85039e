"""What only the SQLite store promises: durable commits, and care for its file."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from adapters.store.database_file import APPLICATION_ID, connect
from adapters.store.migrations import MIGRATIONS, migrate
from adapters.store.sqlite import SqliteStore
from adapters.store.statements import LIST_SUCCEEDED
from scheduler.core.errors import NotFoundError, StoreError
from scheduler.core.job import JobState
from tests.unit.store.jobs import new

VERSION_1 = Path(__file__).with_name("version_1.sql")
REPO = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gridtide.db"


def make_store(path: Path, n_jobs: int = 3) -> None:
    with closing(SqliteStore(path)) as store:
        store.add_jobs([new(f"j{number}", padding=20 * number) for number in range(n_jobs)])


def stored_ids(path: Path) -> set[str]:
    with closing(SqliteStore(path)) as store:
        return {one.job.job_id for one in store.list_jobs(limit=100_000)[0]}


def fill(store: SqliteStore) -> tuple[set[str], StoreError | None]:
    """Submits until the store refuses: what it acknowledged, and the refusal."""
    acknowledged = set[str]()
    for number in range(100):
        batch = [new(f"b{number}-{part}", padding=10_000) for part in range(3)]
        try:
            store.add_jobs(batch)
        except StoreError as error:
            return acknowledged, error
        acknowledged |= {one.record.job.job_id for one in batch}
    return acknowledged, None


def refusal(path: Path) -> StoreError:
    """The refusal to open a file, which must have left every byte of it as it was."""
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        SqliteStore(path)
    assert path.read_bytes() == before
    assert str(path) in caught.value.message
    return caught.value


def start(module: str, path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.unit.store.{module}", str(path)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )


# ------------------------------------------------------------------------------- durability


def test_file_is_in_wal_mode_and_marked_as_ours(path: Path) -> None:
    make_store(path)
    with closing(connect(path, "ro")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_connection_that_writes_syncs_each_commit(path: Path) -> None:
    full, on = 2, 1
    with closing(SqliteStore(path)) as store:
        found = store._write(
            lambda connection: [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("synchronous", "fullfsync", "journal_mode")
            ]
        )
        assert store.durability == "machine"
    assert found == [full, on, "wal"]


def test_acknowledged_write_is_readable_by_another_connection_at_once(path: Path) -> None:
    with closing(SqliteStore(path)) as store, closing(connect(path, "ro")) as other:
        store.add_jobs([new("a")])
        assert other.execute("SELECT job_id FROM jobs").fetchall() == [("a",)]


def test_clean_close_leaves_one_file_without_a_log(path: Path) -> None:
    make_store(path)
    assert sorted(one.name for one in path.parent.iterdir()) == ["gridtide.db", "gridtide.db.lock"]


def test_every_acknowledged_job_is_there_after_kill_9(path: Path) -> None:
    acknowledged: set[str] = set()
    for n_lines in (1, 40, 300):
        process = start("submitter", path.with_name(f"{n_lines}.db"))
        assert process.stdout is not None
        acknowledged = {process.stdout.readline().strip() for _ in range(n_lines)}
        process.kill()
        rest, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL
        acknowledged |= {line.strip() for line in rest.splitlines(keepends=True) if "\n" in line}
        stored = stored_ids(path.with_name(f"{n_lines}.db"))
        assert acknowledged <= stored
        # Each of the four threads may have had one more that it had not heard of yet.
        assert len(stored) <= len(acknowledged) + 4


# ----------------------------------------------------------------------------- one at a time


def test_second_process_is_refused_and_told_who_has_the_file(path: Path) -> None:
    process = start("submitter", path)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreError, match="in use by another Gridtide") as caught:
            SqliteStore(path)
        assert caught.value.fields["holder"] == str(process.pid)
    finally:
        process.kill()
        process.communicate()


def test_second_store_in_one_process_is_refused_and_the_first_goes_on(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        with pytest.raises(StoreError, match="in use") as caught:
            SqliteStore(path)
        assert caught.value.fields["holder"] == str(os.getpid())
        store.add_jobs([new("a")])
    assert stored_ids(path) == {"a"}


def test_refused_file_is_not_kept_locked(path: Path) -> None:
    path.write_bytes(b"notes")
    refusal(path)
    path.unlink()
    make_store(path)
    assert stored_ids(path) == {"j0", "j1", "j2"}


# --------------------------------------------------------------------------------- versions


def test_database_made_at_version_1_opens_with_all_that_it_holds(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    with closing(SqliteStore(path)) as store:
        listed = store.list_jobs()[0]
        assert {(one.job.job_id, one.state) for one in listed} == {
            ("full", JobState.SUSPENDED),
            ("old", JobState.HELD),
        }
        assert [(one.seq, one.kind) for one in store.events()] == [
            (1, "submitted"),
            (2, "submitted"),
            (3, "held"),
        ]
        assert [(one.job_id, one.emissions_g) for one in store.entries()] == [("done", 1.0)]
        assert store.get_document("clock") == "text"
        store.add_jobs([new("later")])


def test_jobs_that_succeeded_are_found_by_an_index(path: Path) -> None:
    make_store(path)
    with closing(connect(path, "ro")) as connection:
        sql = f"EXPLAIN QUERY PLAN {LIST_SUCCEEDED}"
        steps = [row[3] for row in connection.execute(sql, ("p", "n", 1))]
    assert len(steps) == 1
    assert steps[0].startswith("SEARCH jobs USING INDEX jobs_succeeded (project=? AND <expr>=?)")


def test_newer_schema_is_refused_with_what_to_do(path: Path) -> None:
    make_store(path)
    with closing(connect(path, "rw")) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    error = refusal(path)
    assert error.fields["version"] == len(MIGRATIONS) + 1
    assert "upgrade Gridtide" in error.message


def test_each_missing_step_of_the_schema_is_taken_once(path: Path) -> None:
    make_store(path)
    steps = [*MIGRATIONS, ("CREATE TABLE more (a)",), ("INSERT INTO more VALUES (1)",)]
    with closing(connect(path, "rw")) as connection:
        assert migrate(connection, steps) == (len(MIGRATIONS), len(steps))
        assert migrate(connection, steps) == (len(steps), len(steps))
        assert connection.execute("SELECT a FROM more").fetchall() == [(1,)]
        assert connection.execute("SELECT COUNT(*) FROM jobs").fetchone() == (3,)


def test_step_that_fails_is_undone_as_a_whole(path: Path) -> None:
    make_store(path)
    steps = [*MIGRATIONS, ("CREATE TABLE more (a)", "INSERT INTO nowhere VALUES (1)")]
    with closing(connect(path, "rw")) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(connection, steps)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert stored_ids(path) == {"j0", "j1", "j2"}


def test_file_made_just_before_a_crash_gets_its_schema(path: Path) -> None:
    with closing(connect(path, "rwc")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode = WAL")
    assert stored_ids(path) == set()


@pytest.mark.parametrize("suffix", ["", ".new", ".new-journal"])
def test_leftovers_of_a_crash_while_the_file_was_made_do_no_harm(path: Path, suffix: str) -> None:
    path.with_name(path.name + suffix).write_bytes(b"" if not suffix else b"half of a file")
    make_store(path)
    assert stored_ids(path) == {"j0", "j1", "j2"}


# ------------------------------------------------------------------- files that are not ours


def test_database_of_another_application_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    assert "another application" in refusal(path).message


def test_random_bytes_are_refused(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(20_000))
    error = refusal(path)
    assert "no SQLite database" in error.message
    assert "restore a backup" in error.message


@pytest.mark.parametrize("keep", [1, 50, 99, 100, 4096, 0.5, -4096, -1])
def test_truncated_file_is_refused_as_damaged(path: Path, keep: float) -> None:
    make_store(path, 50)
    whole = path.read_bytes()
    path.write_bytes(whole[: round(keep * len(whole)) if keep == 0.5 else int(keep)])
    error = refusal(path)
    assert "restore a backup" in error.message


def test_file_that_a_crash_cut_short_is_completed_from_its_log(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.add_jobs([new("a", padding=20_000)])
        crashed = path.with_name("crashed.db")
        log = path.with_name("gridtide.db-wal").read_bytes()
        crashed.write_bytes(path.read_bytes() + b"half of a page")
        crashed.with_name("crashed.db-wal").write_bytes(log)
    assert stored_ids(crashed) == {"a"}


def test_any_page_overwritten_is_refused_as_damaged(path: Path) -> None:
    make_store(path, 200)
    whole = path.read_bytes()
    page_bytes = int.from_bytes(whole[16:18], "big")
    n_pages = len(whole) // page_bytes
    assert n_pages > 20
    for page in range(n_pages):
        damaged = bytearray(whole)
        damaged[page * page_bytes : (page + 1) * page_bytes] = b"\xff" * page_bytes
        path.write_bytes(damaged)
        assert "restore a backup" in refusal(path).message


def test_record_that_cannot_be_read_is_named_and_the_others_stay_readable(path: Path) -> None:
    make_store(path)
    with closing(connect(path, "rw")) as connection:
        connection.execute("UPDATE jobs SET record = '{\"job\": 1}' WHERE job_id = 'j1'")
    with closing(SqliteStore(path)) as store:
        with pytest.raises(StoreError, match="cannot be read"):
            store.get_job("j1")
        assert store.get_job("j2").job.job_id == "j2"


def test_log_without_its_database_is_not_thrown_away(path: Path) -> None:
    log = path.with_name("gridtide.db-wal")
    log.write_bytes(b"changes")
    with pytest.raises(StoreError, match="is missing") as caught:
        SqliteStore(path)
    assert str(log) in caught.value.message
    assert log.read_bytes() == b"changes"
    assert not path.exists()


def test_folder_in_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore(path)


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore(tmp_path / "file" / "gridtide.db")


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    make_store(tmp_path / "a" / "b c" / "ä?#%20.db")
    assert (tmp_path / "a" / "b c" / "ä?#%20.db").exists()


# --------------------------------------------------------------------------------- full disk


def test_full_file_is_told_and_leaves_nothing_half_written(path: Path) -> None:
    with closing(SqliteStore(path, max_bytes=400_000)) as store:
        acknowledged, error = fill(store)
        assert error is not None
        assert error.retryable
        assert "is full" in error.message
        assert "free some space" in error.message
        assert store.get_job("b0-0").job.job_id == "b0-0"
        with pytest.raises(NotFoundError):
            store.get_job(f"b{len(acknowledged) // 3}-0")
        assert len(store.events(limit=1000)) == len(acknowledged) > 0
    with closing(SqliteStore(path)) as store:
        store.add_jobs([new("later", padding=10_000)])
    assert stored_ids(path) == acknowledged | {"later"}


def test_full_file_is_not_ready_until_there_is_room_again(path: Path) -> None:
    with closing(SqliteStore(path, max_bytes=400_000)) as store:
        assert [check.is_ok for check in store.checks()] == [True]
        fill(store)
        (check,) = store.checks()
        assert not check.is_ok
        assert "is full" in check.detail
        store._write(lambda file: file.execute("PRAGMA max_page_count = 10000").fetchone())
        assert [check.is_ok for check in store.checks()] == [True]


def test_failing_writes_of_the_disk_lose_nothing_and_the_store_works_again(path: Path) -> None:
    process = start("filler", path)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    report = json.loads(output)
    assert "nothing was written" in report["message"]
    assert report["readable"] == len(report["acknowledged"]) - 1
    assert stored_ids(path) == set(report["acknowledged"])
