"""The store's file: recognised, checked and locked before anything is written to it."""

import errno
import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, Literal, TextIO

from adapters.store.migrations import MIGRATIONS
from scheduler.core.errors import StoreError

APPLICATION_ID: Final = 0x47726964
"""'Grid' in ASCII; marks a database as ours. Source: sqlite.org/fileformat2.html, offset 68."""
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_BUSY_S: Final = 5.0
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_KEPT: Final = (
    "it was left as it is: restore a backup, or move it away (with its -wal and -shm files) "
    "to begin anew"
)


def connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    """A connection in autocommit mode; any thread may use it, one at a time."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )


def make_durable(connection: sqlite3.Connection, *, max_bytes: int | None) -> None:
    """Sets a connection up to write: each commit is on the disk when it returns."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone stays in the drive's cache
    connection.execute("PRAGMA foreign_keys = ON")
    if max_bytes is not None:
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_bytes)}")


def lock_file(path: Path) -> TextIO:
    """The held lock of a store; closing it, or the end of the process, releases it.

    Raises:
        StoreError: another store has it.
    """
    lock_path = _beside(path, ".lock")
    file = lock_path.open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise StoreError(
            f"{path} is in use by another Gridtide (process {holder}); stop that one, "
            "or give this one another store.path",
            path=str(path),
            holder=holder,
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def prepare_file(path: Path) -> None:
    """Makes the file where there is none; otherwise checks that it is ours, sound and not newer.

    Raises:
        StoreError: the file cannot be used; not one byte of it was changed.
    """
    if path.exists() and path.stat().st_size > 0:
        _check_header(path)
        with closing(connect(path, "ro")) as connection:
            _check_content(path, connection)
        return
    wal = _beside(path, "-wal")
    if _holds_changes(wal):
        raise StoreError(
            f"{path} is missing, but {wal} holds changes to it; put the file back, "
            "or move the -wal and -shm files away as well to begin anew",
            path=str(path),
        )
    _create(path)


def put_in_place(fresh: Path, path: Path) -> None:
    """Gives a finished file its name, so that it has it after a loss of power too."""
    fresh.replace(path)
    for folder in (path.parent, path.parent.parent):
        _sync_folder(folder)


def store_error(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """The StoreError that tells what SQLite, or the system, had to say about the file."""
    # The lower byte is the primary code. Source: sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) == errno.ENOSPC:
        what = "is full, or the disk is; nothing was written: free some space and try again"
    elif code in _DAMAGED:
        what = f"is damaged or no SQLite database; {_KEPT}"
    else:
        what = "cannot be used; nothing was written: check the disk and the rights on the folder"
    return StoreError(f"{path} {what} ({error})", path=str(path), cause=str(error))


def _check_header(path: Path) -> None:
    # Read as plain bytes: SQLite itself may already change a stranger's file when it opens it.
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC):
        raise StoreError(f"{path} is no SQLite database; {_KEPT}", path=str(path))
    if len(header) < _HEADER_BYTES:
        raise _cut_error(path)
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreError(
            f"{path} is the database of another application and was left as it is; "
            "set store.path to another file",
            path=str(path),
        )
    if _is_cut(path, header):
        raise _cut_error(path)


def _cut_error(path: Path) -> StoreError:
    return StoreError(f"{path} is damaged (its end is missing); {_KEPT}", path=str(path))


def _is_cut(path: Path, header: bytes) -> bool:
    # SQLite itself reads what is missing of the last page as zeros. With a log beside it, the file
    # may end anywhere: a crash cut its writing short, and the log still holds those pages.
    if _holds_changes(_beside(path, "-wal")):
        return False
    page_bytes = int.from_bytes(header[16:18], "big")
    return path.stat().st_size % (65_536 if page_bytes == 1 else page_bytes or 1) != 0


def _check_content(path: Path, connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StoreError(f"{path} is damaged ({found}); {_KEPT}", path=str(path), cause=found)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} has schema version {version}, this Gridtide knows up to {len(MIGRATIONS)}; "
            "upgrade Gridtide, or restore the backup from before the upgrade",
            path=str(path),
            version=version,
        )


def _create(path: Path) -> None:
    # Made under another name, so that a crash half-way leaves nothing that would be refused later.
    fresh = _beside(path, ".new")
    for leftover in (fresh, *(_beside(fresh, suffix) for suffix in ("-journal", "-wal", "-shm"))):
        leftover.unlink(missing_ok=True)
    with closing(connect(fresh, "rwc")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        fresh.unlink()
        raise StoreError(
            f"{path} is on a file system without shared memory (mode {mode}); "
            "set store.path to a local disk",
            path=str(path),
        )
    put_in_place(fresh, path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holds_changes(wal: Path) -> bool:
    return wal.exists() and wal.stat().st_size > 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
