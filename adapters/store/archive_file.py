"""The archive's file: recognised, and checked before anything is written to it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from adapters.store.database_file import connect, store_error
from scheduler.core.errors import StoreError

APPLICATION_ID: Final = 0x47724369
"""'GrCi' in ASCII; marks the file as ours. Source: sqlite.org/fileformat2.html, offset 68."""
VERSION: Final = 1
_MAGIC: Final = b"SQLite format 3\0"
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def open_archive_file(path: Path | None) -> sqlite3.Connection:
    """A connection to the file, made where missing; None is for one in memory.

    Raises:
        StoreError: the file is not ours.
        sqlite3.Error: it cannot be opened; OSError likewise.
    """
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _require_ours(path)
    return connect(path, "rwc")


def check_archive_file(path: Path) -> None:
    """Checks a file that is there, and writes nothing to it.

    Raises:
        StoreError: it is damaged, not ours, or cannot be written.
    """
    try:
        _require_ours(path)
        if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise StoreError(
                f"{path} or its folder is read-only; give the service the right to write there",
                path=str(path),
            )
        with closing(_read_only(path)) as db:
            require_sound(path, db)
    except (sqlite3.Error, OSError) as error:
        raise archive_error(path, error) from error


def _read_only(path: Path) -> sqlite3.Connection:
    if path.with_name(f"{path.name}-wal").exists():
        return connect(path, "ro")
    # Nobody uses it: a plain connection would leave files of whoever checks beside it.
    return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)


def require_sound(path: Path, db: sqlite3.Connection) -> int:
    """How many tables there are; none in a new file.

    Raises:
        StoreError: the file is damaged, not ours, or of another version.
    """
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise refused(path, f"is damaged ({' '.join(found.split())})", is_damaged=True)
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (ours,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if tables and ours != APPLICATION_ID:
        raise refused(path, "is the database of another application")
    if tables and version != VERSION:
        raise refused(path, f"has schema version {version}, this Gridtide knows {VERSION}")
    return int(tables)


def archive_error(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """The StoreError that tells what SQLite, or the system, had to say about the file."""
    # The lower byte is the primary code. Source: sqlite.org/rescode.html
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
        return refused(path, f"is damaged or no SQLite database ({error})", is_damaged=True)
    return store_error(path, error)


def refused(path: Path, what: str, *, is_damaged: bool = False) -> StoreError:
    """The error of a file that has to be moved away; `is_damaged` is among its fields."""
    return StoreError(
        f"{path} {what}; it was left as it is: move it away (with its -wal and -shm files) to begin anew, "
        "its values can be fetched again",
        path=str(path),
        is_damaged=is_damaged,
    )


def _require_ours(path: Path) -> None:
    # Read as plain bytes: SQLite itself may already change a stranger's file when it opens it.
    with path.open("rb") as file:
        header = file.read(100)
    if header and not header.startswith(_MAGIC):
        raise refused(path, "is damaged or no SQLite database", is_damaged=True)
    if header and int.from_bytes(header[68:72], "big") not in {0, APPLICATION_ID}:
        raise refused(path, "is the database of another application")
