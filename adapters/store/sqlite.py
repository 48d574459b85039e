"""The store of one Gridtide on one machine: an SQLite file with group commit."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from adapters.store import statements
from adapters.store.codec import (
    RecordMemo,
    decode_entry,
    decode_record,
    encode_cursor,
    event_values,
    page_start,
    read_event,
    to_us,
)
from adapters.store.database_file import (
    connect,
    lock_file,
    make_durable,
    prepare_file,
    store_error,
)
from adapters.store.migrations import migrate
from adapters.store.readers import ReaderPool, Row
from adapters.store.refusals import (
    id_taken,
    key_used,
    no_such_job,
    not_ended,
    require_limit,
    settled,
    stale,
)
from adapters.store.writer import GroupCommitWriter, Write
from scheduler.core.errors import StoreError
from scheduler.core.job import JobRecord, JobState
from scheduler.core.ledger import LedgerEntry
from scheduler.ports import Check, Event, JobStore, Lease, NewJob

_T = TypeVar("_T")
_ALL_STATES: Final = frozenset(JobState)
_TRIAL: Final = "trial"
"""Document that is written to see whether a file that was full has room again."""
_TRIAL_BYTES: Final = 65_536


class SqliteStore:
    """A `JobStore` in one file, for one process at a time.

    Args:
        path: made, with its folders, where it does not exist.
        max_bytes: the file grows no further (its write-ahead log, some MB, not counted).

    Raises:
        StoreError: the file cannot be used; it was not changed.
    """

    def __init__(self, path: Path, *, max_bytes: int | None = None) -> None:
        self._path = path.resolve()
        self._lease: Lease | None = None
        self._active = RecordMemo()
        self._refusal: StoreError | None = None
        try:
            with ExitStack() as stack:
                connection = _open(self._path, stack, max_bytes=max_bytes)
                self._readers = ReaderPool(partial(connect, self._path, "ro"), path=self._path)
                stack.callback(self._readers.close)
                self._writer = GroupCommitWriter(connection, path=self._path)
                stack.callback(self._writer.close)
                self._resources = stack.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise store_error(self._path, error) from error

    @property
    def durability(self) -> str:
        """What an acknowledged write survives: the loss of the machine's power."""
        return "machine"

    def checks(self) -> list[Check]:
        """That it takes writes, and what those that it acknowledged survive."""
        if (refusal := self._last_refusal()) is not None:
            return [Check(subject="store", is_ok=False, detail=refusal.message)]
        detail = "acknowledged writes survive the loss of the machine's power"
        return [Check(subject="store", is_ok=True, detail=detail)]

    def add_jobs(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Adds all jobs, or none, each with its event; returns the stored records."""
        rows = [(new, statements.new_job_row(new), event_values(new.event)) for new in jobs]

        def write(connection: sqlite3.Connection) -> list[str | None]:
            return [_add_job(connection, *row) for row in rows]

        known = self._write(write)
        return [
            new.record if text is None else decode_record(text)
            for new, text in zip(jobs, known, strict=True)
        ]

    def known_job(self, idempotency_key: str, request_digest: str | None) -> JobRecord | None:
        """The job that was stored for that request; None where none was."""
        for known in self._readers.rows(statements.FIND_KEY, (idempotency_key,)):
            return decode_record(_repeated(known, idempotency_key, request_digest))
        return None

    def get_job(self, job_id: str) -> JobRecord:
        """The job. Raises NotFoundError."""
        for (text,) in self._readers.rows(statements.FIND_JOB, (job_id,)):
            return decode_record(text)
        raise no_such_job(job_id)

    def list_jobs(
        self,
        *,
        states: frozenset[JobState] | None = None,
        project: str | None = None,
        submitted_before: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[JobRecord], str | None]:
        """A page of jobs, newest submission first, and the cursor of the next page or None."""
        require_limit(limit)
        position = page_start(after, submitted_before)
        states = _ALL_STATES if states is None else states
        if not states:
            return [], None
        # One row more than asked for shows whether there is another page.
        rows = self._rows(statements.page_query(states, project, position, limit + 1))
        page = rows[:limit]
        cursor = encode_cursor(*page[-1][:2]) if len(rows) > limit else None
        return [decode_record(text) for _, _, text in page], cursor

    def succeeded_jobs(self, *, name: str, project: str, limit: int = 100) -> list[JobRecord]:
        """The jobs of that name and project that succeeded, newest submission first."""
        require_limit(limit)
        rows = self._readers.rows(statements.LIST_SUCCEEDED, (project, name, limit))
        return [decode_record(text) for (text,) in rows]

    def active_jobs(self) -> list[JobRecord]:
        """Every job that has not ended, oldest submission first."""
        return self._active.decode(text for (text,) in self._readers.rows(statements.LIST_ACTIVE))

    def update_job(
        self, record: JobRecord, *events: Event, entry: LedgerEntry | None = None
    ) -> None:
        """Replaces the job, appends the events and puts the entry, in one transaction."""
        job_row = statements.job_row(record)
        event_rows = [event_values(event) for event in events]
        put = None if entry is None else _entry_write(entry)

        def write(connection: sqlite3.Connection) -> None:
            _replace_job(connection, record, job_row)
            connection.executemany(statements.ADD_EVENT, event_rows)
            if put is not None:
                put(connection)

        self._write(write)

    def remove_jobs(self, job_ids: Sequence[str]) -> None:
        """Removes jobs that have ended, with their events and idempotency keys; ledger entries stay."""

        def write(connection: sqlite3.Connection) -> None:
            for job_id in job_ids:
                _remove_job(connection, job_id)

        self._write(write)

    def add_event(self, event: Event) -> None:
        """Appends an event that changes no job."""
        row = event_values(event)
        self._write(lambda connection: _execute(connection, statements.ADD_EVENT, row))

    def events(
        self,
        *,
        job_id: str | None = None,
        kind: str | None = None,
        after_seq: int = 0,
        limit: int = 1000,
    ) -> list[Event]:
        """Events in order of `seq`, of one job or of all."""
        require_limit(limit)
        rows = self._rows(statements.events_query(job_id, kind, after_seq, limit))
        return [read_event(row) for row in rows]

    def put_entry(self, entry: LedgerEntry) -> None:
        """Writes a ledger entry; a settled one is never replaced."""
        self._write(_entry_write(entry))

    def entries(
        self,
        *,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        unsettled_only: bool = False,
    ) -> list[LedgerEntry]:
        """Ledger entries of jobs submitted in `[from_at, to_at)`, oldest submission first."""
        query = statements.entries_query(
            None if from_at is None else to_us(from_at),
            None if to_at is None else to_us(to_at),
            unsettled_only=unsettled_only,
        )
        return [decode_entry(text) for (text,) in self._rows(query)]

    def put_document(self, key: str, text: str) -> None:
        """Keeps a small text under a key."""
        self._write(lambda connection: _execute(connection, statements.PUT_DOCUMENT, (key, text)))

    def get_document(self, key: str) -> str | None:
        """The text under that key, or None."""
        for (text,) in self._readers.rows(statements.FIND_DOCUMENT, (key,)):
            return str(text)
        return None

    def take_lease(self, holder: str, *, for_s: float) -> Lease:
        """The caller's, always: no other process can have the file open."""
        del for_s
        self._lease = Lease(holder=holder, fence=1)
        return self._lease

    def lease(self) -> Lease | None:
        """The lease of this process, if it has taken it."""
        return self._lease

    def drop_lease(self, holder: str) -> None:
        """Gives the lease up, if it is that holder's."""
        if self._lease is not None and self._lease.holder == holder:
            self._lease = None

    def led(self, fence: Callable[[], int]) -> JobStore:
        """This store: nobody else can get a lease while the file is open."""
        del fence
        return self

    def close(self) -> None:
        """Finishes pending writes and releases the file. Further calls raise StoreError."""
        self._resources.close()

    def _write(self, write: Write[_T]) -> _T:
        try:
            return self._writer.submit(write).result()
        except StoreError as error:
            self._refusal = error
            raise

    def _last_refusal(self) -> StoreError | None:
        """Why the file took no write; None once there is room again for more than a row."""
        if self._refusal is not None:
            try:
                self.put_document(_TRIAL, "x" * _TRIAL_BYTES)
                self.put_document(_TRIAL, "")
            except StoreError as error:
                return error
            self._refusal = None
        return None

    def _rows(self, query: tuple[str, Row]) -> list[Row]:
        return self._readers.rows(*query)


def _open(path: Path, stack: ExitStack, *, max_bytes: int | None) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    stack.enter_context(lock_file(path))
    prepare_file(path)
    connection = stack.enter_context(closing(connect(path, "rw")))
    make_durable(connection, max_bytes=max_bytes)
    migrate(connection)
    return connection


def _execute(connection: sqlite3.Connection, sql: str, row: Row) -> None:
    connection.execute(sql, row)


def _add_job(
    connection: sqlite3.Connection, new: NewJob, job_row: Row, event_row: Row
) -> str | None:
    """None for an added job; the stored record's text where the request is a repeat."""
    if connection.execute(statements.ADD_JOB, job_row).rowcount:
        connection.execute(statements.ADD_EVENT, event_row)
        return None
    key, job_id = new.idempotency_key, new.record.job.job_id
    known = connection.execute(statements.FIND_KEY, (key,)).fetchone()
    if known is None:
        raise id_taken(job_id)
    return _repeated(known, str(key), new.request_digest)


def _repeated(known: Row, key: str, digest: str | None) -> str:
    """The text of the job that was stored for the key, of which `known` is the row."""
    job_id, known_digest, text = known
    if known_digest != digest:
        raise key_used(key, str(job_id))
    return str(text)


def _replace_job(connection: sqlite3.Connection, record: JobRecord, job_row: Row) -> None:
    expected = record.version - 1
    if connection.execute(statements.REPLACE_JOB, (*job_row, expected)).rowcount:
        return
    job_id = record.job.job_id
    found = connection.execute(statements.FIND_VERSION, (job_id,)).fetchone()
    if found is None:
        raise no_such_job(job_id)
    raise stale(job_id, version=found[0], expected=expected)


def _remove_job(connection: sqlite3.Connection, job_id: str) -> None:
    if connection.execute(statements.REMOVE_JOB, (job_id,)).rowcount:
        connection.execute(statements.REMOVE_EVENTS, (job_id,))
    elif connection.execute(statements.FIND_VERSION, (job_id,)).fetchone():
        raise not_ended(job_id)


def _entry_write(entry: LedgerEntry) -> Write[None]:
    row = statements.entry_row(entry)

    def write(connection: sqlite3.Connection) -> None:
        if connection.execute(statements.PUT_ENTRY, row).rowcount:
            return
        (text,) = connection.execute(statements.FIND_ENTRY, (entry.job_id,)).fetchone()
        # As values, not as text: an upgrade may write the same entry in another way.
        if decode_entry(text) != entry:
            raise settled(entry.job_id)

    return write
