"""Jobs in one SQLite file: WAL, full synchronisation, one writer with group commit, readers beside it."""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from adapters.store.codec import dump_entry, dump_record, load_entry, load_record
from adapters.store.migrations import migrate
from adapters.store.writer import GroupWriter, as_store_error
from scheduler.core.errors import (
    ConflictError,
    DuplicateJobError,
    InvalidInputError,
    NotFoundError,
    StaleRecordError,
    StoreError,
)
from scheduler.core.job import ACTIVE_STATES, JobId, JobRecord, JobState
from scheduler.core.ledger import LedgerEntry
from scheduler.ports import Event, NewJob

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ADD_JOB: Final = "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_EVENT: Final = "INSERT INTO events (at_us, kind, job_id, state, detail) VALUES (?, ?, ?, ?, ?)"
_PUT_ENTRY: Final = "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?)"
Row = tuple[object, ...]


class SqliteStore:
    """The embedded `JobStore`. One process at a time may open a file for writing.

    Raises:
        StoreError: on opening, where the file is not ours, corrupt, of a newer schema, or in use.
    """

    def __init__(self, path: Path, *, max_batch: int = 512, max_pages: int | None = None) -> None:
        self._path = path
        self._readers = threading.local()
        self._all_readers: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._is_closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path.parent}: cannot be made: {error}", path=str(path)) from error
        self._lock = self._take_lock()
        try:
            connection = self._open()
        except BaseException:
            os.close(self._lock)
            raise
        if max_pages is not None:
            connection.execute(f"PRAGMA max_page_count = {max_pages}")
        self._connection = connection
        self._writer = GroupWriter(connection, max_batch=max_batch)

    @property
    def durability(self) -> str:
        """WAL with synchronous=FULL survives the loss of power."""
        return "machine"

    @property
    def commits(self) -> int:
        """Transactions so far, for tests and benchmarks of group commit."""
        return self._writer.commits

    def add_jobs(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """See `JobStore`."""
        rows = [_job_row(new) for new in jobs]
        return self._writer.write(lambda connection: _add_all(connection, jobs, rows))

    def get_job(self, job_id: str) -> JobRecord:
        """See `JobStore`."""
        rows = self._read("SELECT record FROM jobs WHERE job_id = ?", (job_id,))
        if not rows:
            raise NotFoundError(f"job {job_id!r} does not exist", field="job", value=job_id)
        return load_record(str(rows[0][0]))

    def list_jobs(
        self,
        *,
        states: frozenset[JobState] | None = None,
        project: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[JobRecord], str | None]:
        """See `JobStore`."""
        where, values = ["1"], list[object]()
        if states is not None:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += [str(state) for state in sorted(states)]
        if project is not None:
            where.append("project = ?")
            values.append(project)
        if after is not None:
            where.append("(submitted_us, job_id) < (?, ?)")
            values += _parse_cursor(after)
        rows = self._read(
            f"SELECT record, submitted_us, job_id FROM jobs WHERE {' AND '.join(where)} "  # noqa: S608 - fixed parts only
            "ORDER BY submitted_us DESC, job_id DESC LIMIT ?",
            (*values, limit + 1),
        )
        cursor = f"{rows[limit - 1][1]}:{rows[limit - 1][2]}" if len(rows) > limit else None
        return [load_record(str(row[0])) for row in rows[:limit]], cursor

    def active_jobs(self) -> list[JobRecord]:
        """See `JobStore`."""
        rows = self._read(
            "SELECT record FROM jobs WHERE is_active = 1 ORDER BY submitted_us, job_id", ()
        )
        return [load_record(str(row[0])) for row in rows]

    def update_job(
        self, record: JobRecord, *events: Event, entry: LedgerEntry | None = None
    ) -> None:
        """See `JobStore`."""
        body = dump_record(record)
        entry_row = None if entry is None else _entry_row(entry)

        def work(connection: sqlite3.Connection) -> None:
            _replace(connection, record, body)
            connection.executemany(_ADD_EVENT, [_event_row(event) for event in events])
            if entry_row is not None:
                _put(connection, entry_row)

        self._writer.write(work)

    def add_event(self, event: Event) -> None:
        """See `JobStore`."""
        self._writer.write(lambda connection: connection.execute(_ADD_EVENT, _event_row(event)))

    def events(
        self,
        *,
        job_id: str | None = None,
        kind: str | None = None,
        after_seq: int = 0,
        limit: int = 1000,
    ) -> list[Event]:
        """See `JobStore`."""
        where, values = ["seq > ?"], list[object]([after_seq])
        for column, value in (("job_id", job_id), ("kind", kind)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        rows = self._read(
            f"SELECT seq, at_us, kind, job_id, state, detail FROM events WHERE {' AND '.join(where)} "  # noqa: S608 - fixed parts only
            "ORDER BY seq LIMIT ?",
            (*values, limit),
        )
        return [_event(row) for row in rows]

    def put_entry(self, entry: LedgerEntry) -> None:
        """See `JobStore`."""
        row = _entry_row(entry)
        self._writer.write(lambda connection: _put(connection, row))

    def entries(
        self,
        *,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        unsettled_only: bool = False,
    ) -> list[LedgerEntry]:
        """See `JobStore`."""
        where, values = ["1"], list[object]()
        if from_at is not None:
            where.append("submitted_us >= ?")
            values.append(_us(from_at))
        if to_at is not None:
            where.append("submitted_us < ?")
            values.append(_us(to_at))
        if unsettled_only:
            where.append("is_settled = 0")
        rows = self._read(
            f"SELECT entry FROM ledger WHERE {' AND '.join(where)} ORDER BY submitted_us, job_id",  # noqa: S608 - fixed parts only
            tuple(values),
        )
        return [load_entry(str(row[0])) for row in rows]

    def put_document(self, key: str, text: str) -> None:
        """See `JobStore`."""
        self._writer.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO documents VALUES (?, ?)", (key, text)
            )
        )

    def get_document(self, key: str) -> str | None:
        """See `JobStore`."""
        rows = self._read("SELECT body FROM documents WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def close(self) -> None:
        """See `JobStore`."""
        with self._guard:
            if self._is_closed:
                return
            self._is_closed = True
        self._writer.close()
        for reader in self._all_readers:
            reader.close()
        self._connection.close()
        os.close(self._lock)

    def _take_lock(self) -> int:
        lock_path = self._path.with_name(self._path.name + ".lock")
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{lock_path}: cannot be opened: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StoreError(
                f"{self._path} is in use by another Gridtide service; stop that one, or name another file in store.path",
                path=str(self._path),
            ) from None
        return lock

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=10
        )
        try:
            problems = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problems != "ok":
                raise _corrupt(self._path, str(problems))
            migrate(connection, str(self._path))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.DatabaseError as error:
            connection.close()
            is_damage = "malformed" in str(error) or "not a database" in str(error)
            raise (
                _corrupt(self._path, str(error)) if is_damage else as_store_error(error)
            ) from error
        except StoreError:
            connection.close()
            raise
        return connection

    def _read(self, sql: str, values: Sequence[object]) -> list[Row]:
        if self._is_closed:
            raise StoreError("the store is closed")
        reader: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if reader is None:
            reader = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=10
            )
            self._readers.connection = reader
            with self._guard:
                self._all_readers.append(reader)
        try:
            return reader.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise as_store_error(error) from error


def _corrupt(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path} is not a sound Gridtide store ({what}); it was left as it is. Restore it from a backup, "
        "or move it away to begin with an empty one",
        path=str(path),
    )


def _add_all(
    connection: sqlite3.Connection, jobs: Sequence[NewJob], rows: Sequence[Row]
) -> list[JobRecord]:
    stored = []
    for new, row in zip(jobs, rows, strict=True):
        known = _known(connection, new)
        if known is not None:
            stored.append(known)
            continue
        try:
            connection.execute(_ADD_JOB, row)
        except sqlite3.IntegrityError as error:
            raise DuplicateJobError(
                f"job {new.record.job.job_id} exists already", job_id=new.record.job.job_id
            ) from error
        connection.execute(_ADD_EVENT, _event_row(new.event))
        stored.append(new.record)
    return stored


def _known(connection: sqlite3.Connection, new: NewJob) -> JobRecord | None:
    if new.idempotency_key is None:
        return None
    row = connection.execute(
        "SELECT record, request_digest FROM jobs WHERE idempotency_key = ?", (new.idempotency_key,)
    ).fetchone()
    if row is None:
        return None
    if row[1] != new.request_digest:
        raise DuplicateJobError(
            f"idempotency key {new.idempotency_key!r} was used for another request",
            field="Idempotency-Key",
            value=new.idempotency_key,
        )
    return load_record(str(row[0]))


def _replace(connection: sqlite3.Connection, record: JobRecord, body: str) -> None:
    job_id = record.job.job_id
    changed = connection.execute(
        "UPDATE jobs SET version = ?, state = ?, is_active = ?, record = ? WHERE job_id = ? AND version = ?",
        (
            record.version,
            str(record.state),
            record.state in ACTIVE_STATES,
            body,
            job_id,
            record.version - 1,
        ),
    ).rowcount
    if changed:
        return
    found = connection.execute("SELECT version FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    if found is None:
        raise NotFoundError(f"job {job_id!r} does not exist", field="job", value=job_id)
    raise StaleRecordError(
        f"job {job_id} has version {found[0]}; a change to version {record.version} came too late",
        job_id=job_id,
        version=found[0],
    )


def _put(connection: sqlite3.Connection, row: Row) -> None:
    found = connection.execute(
        "SELECT is_settled, entry FROM ledger WHERE job_id = ?", (row[0],)
    ).fetchone()
    if found is not None and found[0]:
        if found[1] != row[3]:
            raise ConflictError(
                f"the ledger entry of job {row[0]} is settled and cannot change", job_id=str(row[0])
            )
        return
    connection.execute(_PUT_ENTRY, row)


def _job_row(new: NewJob) -> Row:
    record = new.record
    return (
        record.job.job_id,
        record.version,
        str(record.state),
        record.state in ACTIVE_STATES,
        record.job.project,
        _us(record.job.submitted_at),
        new.idempotency_key,
        new.request_digest,
        dump_record(record),
    )


def _entry_row(entry: LedgerEntry) -> Row:
    return entry.job_id, _us(entry.submitted_at), entry.is_settled, dump_entry(entry)


def _event_row(event: Event) -> Row:
    state = None if event.state is None else str(event.state)
    return _us(event.at), event.kind, event.job_id, state, event.detail


def _event(row: Row) -> Event:
    seq, at_us, kind, job_id, state, detail = row
    return Event(
        seq=int(str(seq)),
        at=_EPOCH + timedelta(microseconds=int(str(at_us))),
        kind=str(kind),
        job_id=None if job_id is None else JobId(str(job_id)),
        state=None if state is None else JobState(str(state)),
        detail=str(detail),
    )


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _parse_cursor(cursor: str) -> list[object]:
    submitted, _, job_id = cursor.partition(":")
    if not submitted.lstrip("-").isdigit() or not job_id:
        raise InvalidInputError(
            f"after: {cursor!r} is not a cursor of this list; take `next` of the page before",
            field="after",
            value=cursor,
        )
    return [int(submitted), job_id]
