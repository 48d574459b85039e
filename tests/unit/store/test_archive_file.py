"""The archive's file and its faults; and the service's archive, which goes on in memory."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from adapters.store.archive_file import check_archive_file
from adapters.store.claim_owner import is_gone, new_owner
from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.errors import StoreError
from scheduler.core.forecast import GAP_MG
from scheduler.core.forecasting.vintages import Vintage
from scheduler.ports import FetchState
from scheduler.server.checks import archive_check
from scheduler.server.stores import open_archive
from scheduler.service.sparing_archive import SparingArchive
from tests.conformance.test_intensity_archive import HOUR, KEY, NOW_S, OTHER, run, series, values
from tests.fakes.broken_archive import BrokenArchive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "intensity.db"


def kept(path: Path) -> list[int] | None:
    with closing(SqliteIntensityArchive(path)) as archive:
        return values(archive)


def filled(path: Path, mg: list[int]) -> None:
    with closing(SqliteIntensityArchive(path)) as archive:
        archive.add_actuals(KEY, series(mg), seen_s=NOW_S)


# ---------------------------------------------------------------------------- two processes

_CLAIMER = """
import sys
from dataclasses import replace
from pathlib import Path
from adapters.store.intensity_archive import SqliteIntensityArchive
from tests.conformance.test_intensity_archive import KEY, NOW_S
archive = SqliteIntensityArchive(Path(sys.argv[1]))
for turn in range(200):
    key = replace(KEY, zone_id=str(turn))
    if archive.claim(key, now_s=NOW_S, until_s=NOW_S + 600) is not None:
        print(turn, flush=True)
print("done", flush=True)
sys.stdin.read()  # a claim ends with its process
"""


def test_two_processes_never_hold_one_claim(path: Path) -> None:
    filled(path, [1])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _CLAIMER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    turns = [
        int(line) for one in started if one.stdout for line in iter(one.stdout.readline, "done\n")
    ]
    for one in started:
        one.communicate(timeout=30)
    assert [one.returncode for one in started] == [0, 0]
    assert sorted(turns) == list(range(200))


def test_two_archives_on_one_file_share_claims_and_values(path: Path) -> None:
    with closing(SqliteIntensityArchive(path)) as one, closing(SqliteIntensityArchive(path)) as two:
        assert one.claim(KEY, now_s=NOW_S, until_s=NOW_S + 600) is not None
        assert two.claim(KEY, now_s=NOW_S + 5, until_s=NOW_S + 605) is None
        one.add_actuals(KEY, series([1, 2]), seen_s=NOW_S)
        one.put_state(KEY, FetchState(tried_s=NOW_S, next_s=NOW_S + 1800))
        assert values(two) == [1, 2]
        assert two.state(KEY).next_s == NOW_S + 1800
        assert two.claim(KEY, now_s=NOW_S + 1799, until_s=NOW_S + 2399) is None


def test_values_are_there_after_closing(path: Path) -> None:
    filled(path, [1, 2])
    assert kept(path) == [1, 2]


# ------------------------------------------------------------------------------ bad files


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        SqliteIntensityArchive(path)
    assert caught.value.fields["path"] == str(path)
    return caught.value.message


def test_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"zone,time,g_per_kwh\n" * 100)
    before = path.read_bytes()
    assert "no SQLite database; it was left as it is: move it away" in refusal(path)
    assert path.read_bytes() == before


def test_database_of_another_application_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE theirs (a)")
        foreign.commit()
    before = path.read_bytes()
    assert "is the database of another application" in refusal(path)
    assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("PRAGMA application_id = 99")
        foreign.commit()
    assert "is the database of another application" in refusal(path)


def test_newer_version_is_refused_and_left_alone(path: Path) -> None:
    filled(path, [1])
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 9")
    assert "has schema version 9, this Gridtide knows 1" in refusal(path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 1")
    assert kept(path) == [1]


def test_file_that_is_cut_short_is_refused_or_its_values_are(path: Path) -> None:
    filled(path, list(range(1, 2000)))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(StoreError), closing(SqliteIntensityArchive(path)) as archive:
        archive.actuals(KEY, since_s=0, until_s=NOW_S * 2)


def with_a_hole(path: Path) -> None:
    """Random bytes in the middle of an archive."""
    filled(path, list(range(1, 20_000)))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40_000] = np.random.default_rng(3).bytes(40_000)
    path.write_bytes(content)


def test_damage_in_the_middle_is_found_when_the_file_is_opened(path: Path) -> None:
    with_a_hole(path)
    before = path.read_bytes()
    assert "is damaged (" in refusal(path)
    with pytest.raises(StoreError, match=r"move it away .* its values can be fetched again"):
        check_archive_file(path)
    assert path.read_bytes() == before
    with closing(open_archive(path)) as archive:
        assert "is damaged (" in archive_check(archive).detail


def test_damage_while_it_is_in_use_is_told_though_other_parts_can_be_read(path: Path) -> None:
    filled(path, [1])
    first = SqliteIntensityArchive(path)
    with closing(SparingArchive(first, SqliteIntensityArchive(None))) as archive:
        archive.add_vintage(KEY, Vintage(NOW_S, series([1])))
        with closing(sqlite3.connect(path)) as other:
            other.execute("UPDATE vintages SET packed = x'00'")
            other.commit()
        assert archive.vintages(KEY, since_s=0) == []
        assert values(archive) == [1]
        assert "is damaged" in archive_check(archive).detail


def test_check_of_the_file_changes_nothing_and_says_where_it_is_read_only(path: Path) -> None:
    filled(path, [1])
    before = path.read_bytes()
    check_archive_file(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    with closing(SqliteIntensityArchive(path)) as archive:
        archive.add_actuals(KEY, series([2]), seen_s=NOW_S + 1)
        check_archive_file(path)
    path.chmod(0o400)
    if os.access(path, os.W_OK):
        pytest.skip("root may write everywhere")
    with pytest.raises(StoreError, match="is read-only"):
        check_archive_file(path)


def test_bytes_that_were_not_written_so_are_an_error_of_the_store(path: Path) -> None:
    filled(path, [1])
    with closing(SqliteIntensityArchive(path)) as archive:
        archive.add_vintage(KEY, Vintage(NOW_S, series([1])))
        archive.add_runs("DE", [run(NOW_S, 1.0)])
        with closing(sqlite3.connect(path)) as other:
            other.execute("UPDATE vintages SET packed = x'00'")
            other.execute("UPDATE weather SET packed = x'00'")
            other.execute("UPDATE series SET state = '{'")
            other.commit()
        with pytest.raises(StoreError, match="holds what was not written so"):
            archive.vintages(KEY, since_s=0)
        with pytest.raises(StoreError, match="holds what was not written so"):
            archive.runs("DE", since_s=0)
        with pytest.raises(StoreError):
            archive.claim(KEY, now_s=NOW_S, until_s=NOW_S + 1)
        # Nothing is left open.
        assert values(archive) == [1]
        assert archive.add_actuals(KEY, series([2]), seen_s=NOW_S + 1) == 1


def test_empty_file_becomes_an_archive(path: Path) -> None:
    path.touch()
    filled(path, [1])
    assert kept(path) == [1]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be used" in refusal(tmp_path / "file" / "intensity.db")


def test_folder_in_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir()
    assert "cannot be used" in refusal(path)


def test_closed_archive_says_so(path: Path) -> None:
    archive = SqliteIntensityArchive(path)
    archive.close()
    with pytest.raises(StoreError):
        archive.state(KEY)


# ------------------------------------------------------------------------------ full disk


def fill(archive: SqliteIntensityArchive) -> None:
    noise = np.random.default_rng(1).integers(0, 3_000_000, 2000).tolist()
    for index in range(1000):
        archive.add_vintage(KEY, Vintage(NOW_S + index, series(noise)))


def test_full_disk_loses_nothing_and_is_still_read(path: Path) -> None:
    filled(path, [1, 2])
    with closing(SqliteIntensityArchive(path, max_bytes=200_000)) as archive:
        with pytest.raises(StoreError, match="is full, or the disk is"):
            fill(archive)
        held = len(archive.vintages(KEY, since_s=0))
        assert held > 0
        assert values(archive) == [1, 2]
        # A second failure is as clean as the first, and what makes room goes through.
        with pytest.raises(StoreError, match="is full"):
            archive.add_actuals(OTHER, series([7] * 9000, key=OTHER), seen_s=NOW_S)
        archive.forget(vintages_before_s=NOW_S * 2, actuals_before_s=0)
        assert archive.add_actuals(KEY, series([3, 4]), seen_s=NOW_S + 1) == 2
    assert kept(path) == [3, 4]


# ------------------------------------------------------------------- the service's archive


def spared(path: Path) -> tuple[SparingArchive, BrokenArchive]:
    first = BrokenArchive(SqliteIntensityArchive(path))
    return SparingArchive(first, SqliteIntensityArchive(None)), first


def test_service_goes_on_in_memory_and_says_so_once(path: Path) -> None:
    filled(path, [1, 2, 3])
    archive, first = spared(path)
    assert archive_check(archive).is_ok
    later = series([9], start_s=NOW_S + 3 * HOUR)
    with closing(archive), capture_logs() as logs:
        assert archive.add_actuals(KEY, later, seen_s=NOW_S) == 1
        archive.add_vintage(KEY, Vintage(NOW_S, later))
        # Both are served: the file can still be read.
        assert values(archive) == [1, 2, 3, 9]
        assert len(archive.vintages(KEY, since_s=0)) == 1
        assert [log["event"] for log in logs] == ["archive_unusable"]
        check = archive_check(archive)
        assert (check.subject, check.is_ok) == ("intensity archive", False)
        assert check.detail == (
            "in memory only, to be fetched again after a restart: the disk is full"
        )
        first.is_broken = False
        archive.add_vintage(KEY, Vintage(NOW_S + 1, later))
        assert archive_check(archive).is_ok
        assert [log["event"] for log in logs] == ["archive_unusable", "archive_usable_again"]
        assert [one.issued_s for one in archive.vintages(KEY, since_s=0)] == [NOW_S, NOW_S + 1]
    assert kept(path) == [1, 2, 3]


def test_history_that_the_file_has_is_not_asked_for_again(path: Path) -> None:
    reached = FetchState(tried_s=NOW_S - 9000, fetched_s=NOW_S - 9000, reached_s=5)
    with closing(SqliteIntensityArchive(path)) as archive:
        archive.put_state(KEY, reached)
    archive, first = spared(path)
    with closing(archive):
        assert archive.claim(KEY, now_s=NOW_S, until_s=NOW_S + 600) == reached
        assert archive.claim(KEY, now_s=NOW_S + 1, until_s=NOW_S + 601) is None
        newer = FetchState(tried_s=NOW_S, reached_s=4)
        archive.put_state(KEY, newer)
        assert archive.state(KEY) == newer
        first.is_broken = False
        assert archive.claim(KEY, now_s=NOW_S + 9, until_s=NOW_S + 609) == newer


def test_where_both_know_the_file_counts_and_gaps_are_filled(path: Path) -> None:
    filled(path, [1, GAP_MG, 3])
    archive, _ = spared(path)
    with closing(archive):
        archive.add_actuals(KEY, series([7, 8, 9, 10]), seen_s=NOW_S)
        archive.add_actuals(OTHER, series([5], key=OTHER), seen_s=NOW_S)
        assert values(archive) == [1, 8, 3, 10]
        assert archive.known_series() == [KEY, OTHER]
        archive.forget(vintages_before_s=0, actuals_before_s=NOW_S * 2)
        assert values(archive) == [1, GAP_MG, 3]


@pytest.mark.parametrize("content", [b"no database " * 20, None], ids=["garbage", "no folder"])
def test_file_that_cannot_be_opened_keeps_no_service_from_starting(
    path: Path, content: bytes | None
) -> None:
    path.write_bytes(content or b"")
    with (
        capture_logs() as logs,
        closing(open_archive(path if content else path / "below" / "intensity.db")) as archive,
    ):
        archive.add_vintage(KEY, Vintage(NOW_S, series([1])))
        assert len(archive.vintages(KEY, since_s=0)) == 1
        check = archive_check(archive)
    assert not check.is_ok
    assert str(path) in check.detail
    assert [log["event"] for log in logs] == ["archive_unusable"]
    assert path.read_bytes() == (content or b"")


# ------------------------------------------------------------------------- claims of the dead

_HOLDER = """
import sys
from pathlib import Path
from adapters.store.intensity_archive import SqliteIntensityArchive
from tests.conformance.test_intensity_archive import KEY, NOW_S
archive = SqliteIntensityArchive(Path(sys.argv[1]))
print(archive.claim(KEY, now_s=NOW_S, until_s=NOW_S + 600) is not None, flush=True)
sys.stdin.read()
"""


def test_claim_ends_at_once_where_its_process_was_killed(path: Path) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder,
        closing(SqliteIntensityArchive(path)) as archive,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert archive.claim(KEY, now_s=NOW_S + 1, until_s=NOW_S + 601) is None
        assert archive.claimed_until_s(KEY, now_s=NOW_S + 1) == NOW_S + 600
        assert archive.claimed_until_s(KEY, now_s=NOW_S + 600) is None
        archive.renew(KEY, until_s=NOW_S + 900)  # not ours
        assert archive.claimed_until_s(KEY, now_s=NOW_S + 1) == NOW_S + 600
        holder.kill()
        holder.wait()
        assert archive.claimed_until_s(KEY, now_s=NOW_S + 1) is None
        assert archive.claim(KEY, now_s=NOW_S + 1, until_s=NOW_S + 601) is not None


def test_claims_end_when_the_archive_is_closed(path: Path) -> None:
    with closing(SqliteIntensityArchive(path)) as other:
        with closing(SqliteIntensityArchive(path)) as archive:
            assert archive.claim(KEY, now_s=NOW_S, until_s=NOW_S + 600) is not None
            assert other.claim(KEY, now_s=NOW_S, until_s=NOW_S + 600) is None
        assert other.claim(KEY, now_s=NOW_S, until_s=NOW_S + 600) == FetchState()


def test_file_of_before_there_were_names_of_claimants_still_serves(path: Path) -> None:
    filled(path, [1])
    with closing(sqlite3.connect(path)) as older:
        older.execute("DROP TABLE claimants")
        older.execute("UPDATE series SET claimed_until_s = ?", (NOW_S + 600,))
        older.commit()
    with closing(SqliteIntensityArchive(path)) as archive:
        assert archive.claimed_until_s(KEY, now_s=NOW_S) == NOW_S + 600
        assert archive.claim(KEY, now_s=NOW_S, until_s=NOW_S + 600) is None
        assert archive.claim(KEY, now_s=NOW_S + 600, until_s=NOW_S + 1200) is not None


@pytest.mark.parametrize("change", ["machine", "nonsense", "number", "began"])
def test_only_a_process_of_this_machine_is_known_to_be_gone(change: str) -> None:
    machine, pid, began, token = new_owner().split(" ")
    assert not is_gone(f"{machine} {pid} {began} {token}")
    owner, expected = {
        "machine": (f"elsewhere {2**22 + 5} {began} {token}", False),
        "nonsense": (f"{machine} -1 x", False),
        "number": (f"{machine} {2**22 + 5} {began} {token}", True),
        # Another process has its number now.
        "began": (f"{machine} {pid} 1{began} {token}", True),
    }[change]
    assert is_gone(owner) is expected
