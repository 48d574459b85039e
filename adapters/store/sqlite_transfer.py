"""An SQLite file as the source or the target of a copy."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from adapters.store import statements
from adapters.store.codec import decode_entry, decode_record
from adapters.store.database_file import (
    connect,
    lock_file,
    make_durable,
    prepare_file,
    put_in_place,
    store_error,
)
from adapters.store.migrations import migrate
from adapters.store.transfer import Kind, Row
from scheduler.core.errors import StoreError

_PAGE: Final = 500
_MARK: Final = "gridtide: copied from"
"""Key of the document that says where an unfinished copy comes from."""
_COUNTS: Final[Mapping[Kind, str]] = {
    "jobs": "SELECT count(*) FROM jobs",
    "events": "SELECT count(*) FROM events",
    "entries": "SELECT count(*) FROM ledger",
    "documents": f"SELECT count(*) FROM documents WHERE key <> '{_MARK}'",  # noqa: S608 - ours
}
_PAGES: Final[Mapping[Kind, str]] = {
    "jobs": "SELECT job_id, record, idempotency_key, request_digest FROM jobs WHERE job_id > ?"
    " ORDER BY job_id LIMIT ?",
    "events": "SELECT seq, at_us, kind, job_id, state, detail FROM events WHERE seq > ?"
    " ORDER BY seq LIMIT ?",
    "entries": "SELECT job_id, entry FROM ledger WHERE job_id > ? ORDER BY job_id LIMIT ?",
    "documents": "SELECT key, text FROM documents"  # noqa: S608 - ours
    f" WHERE key > ? AND key <> '{_MARK}' ORDER BY key LIMIT ?",
}
_PUT_JOB: Final = (
    "INSERT OR REPLACE INTO jobs (version, state, project, submitted_us, record, job_id, idempotency_key,"
    " request_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_EVENT: Final = "INSERT OR IGNORE INTO events (seq, at_us, kind, job_id, state, detail) VALUES (?, ?, ?, ?, ?, ?)"
_PUT_ENTRY: Final = (
    "INSERT OR REPLACE INTO ledger (job_id, submitted_us, is_settled, entry) VALUES (?, ?, ?, ?)"
)


class _SqliteRows:
    """All rows of a file that is locked for us.

    Args:
        path: the store's, for messages.
        file: where its rows are.
    """

    def __init__(self, path: Path, file: Path) -> None:
        self._path = path
        with ExitStack() as stack:
            stack.enter_context(lock_file(path))
            prepare_file(file)
            self._connection = stack.enter_context(closing(connect(file, "rw")))
            make_durable(self._connection, max_bytes=None)
            migrate(self._connection)
            self._resources = stack.pop_all()

    @property
    def name(self) -> str:
        """Where it is."""
        return str(self._path)

    def counts(self) -> Mapping[Kind, int]:
        """How many of each kind it holds."""
        return {kind: int(self._one(sql)) for kind, sql in _COUNTS.items()}

    def pages(self, kind: Kind, *, after_seq: int = 0) -> Iterator[list[Row]]:
        """All rows of a kind, each once."""
        last: str | int | None = after_seq if kind == "events" else None
        # Nothing sorts before the empty text, which may be a key itself.
        sql = _PAGES[kind] if last is not None else _PAGES[kind].replace("> ?", ">= ?")
        while rows := self._connection.execute(
            sql, ("" if last is None else last, _PAGE)
        ).fetchall():
            yield rows
            last, sql = rows[-1][0], _PAGES[kind]

    def close(self) -> None:
        """Releases the file."""
        self._resources.close()

    def _one(self, sql: str) -> int:
        (value,) = self._connection.execute(sql).fetchone()
        return int(value or 0)


class SqliteSource(_SqliteRows):
    """A store that is copied; brought up to date first, as a start would.

    Raises:
        StoreError: there is none, it is in use, or it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()
        if not path.exists():
            raise StoreError(f"{path} does not exist; nothing was copied", path=str(path))
        try:
            super().__init__(path, path)
        except (sqlite3.Error, OSError) as error:
            raise store_error(path, error) from error


class SqliteTarget(_SqliteRows):
    """A file that is made under another name, and has its own once it is finished.

    Raises:
        StoreError: the file is there already, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()
        if path.exists():
            raise StoreError(
                f"{path} is there already and was left as it is; name a new file", path=str(path)
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.with_name(path.name + ".copying")
            super().__init__(path, self._file)
        except (sqlite3.Error, OSError) as error:
            raise store_error(path, error) from error

    def begin(self, source: str) -> None:
        """Makes it ready, or goes on with a copy of the same source that was cut off."""
        found = self._connection.execute(statements.FIND_DOCUMENT, (_MARK,)).fetchone()
        if found is not None and found[0] != source:
            raise StoreError(
                f"{self._file} is an unfinished copy of {found[0]} and was left as it is; name a new file, or remove it",
                path=str(self._file),
            )
        self._connection.execute(statements.PUT_DOCUMENT, (_MARK, source))

    def put(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Writes rows; those that are there already may come again."""
        written: Mapping[Kind, tuple[str, Callable[[Row], Row]]] = {
            "jobs": (_PUT_JOB, _job_row),
            "events": (_PUT_EVENT, tuple),
            "entries": (_PUT_ENTRY, _entry_row),
            "documents": (statements.PUT_DOCUMENT, tuple),
        }
        sql, build = written[kind]
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(sql, [build(row) for row in rows])
        except sqlite3.Error as error:
            raise store_error(self._path, error) from error

    def last_seq(self) -> int:
        """Number of the newest event that it holds; 0 for none."""
        return self._one("SELECT max(seq) FROM events")

    def finish(self) -> None:
        """From now on it is a store."""
        self._connection.execute("DELETE FROM documents WHERE key = ?", (_MARK,))
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        put_in_place(self._file, self._path)


def _job_row(row: Row) -> Row:
    _, text, key, digest = row
    values = statements.job_row(decode_record(str(text)))
    # The text as it was: an upgrade may write the same record in another way.
    return *values[:4], text, values[5], key, digest


def _entry_row(row: Row) -> Row:
    job_id, text = row
    values = statements.entry_row(decode_entry(str(text)))
    return job_id, *values[1:3], text
