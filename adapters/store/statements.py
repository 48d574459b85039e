"""Every SQL statement of the store, and the rows that its values are bound from."""

from typing import Final

from adapters.store.codec import encode_entry, encode_record, to_us
from adapters.store.readers import Row
from scheduler.core.job import ACTIVE_STATES, JobRecord, JobState
from scheduler.core.ledger import LedgerEntry
from scheduler.ports import NewJob

_ACTIVE: Final = ", ".join(sorted(f"'{state}'" for state in ACTIVE_STATES))

ADD_JOB: Final = (
    "INSERT INTO jobs (version, state, project, submitted_us, record, job_id, idempotency_key,"
    " request_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
REPLACE_JOB: Final = (
    "UPDATE jobs SET version = ?, state = ?, project = ?, submitted_us = ?, record = ?"
    " WHERE job_id = ? AND version = ?"
)
FIND_JOB: Final = "SELECT record FROM jobs WHERE job_id = ?"
FIND_VERSION: Final = "SELECT version FROM jobs WHERE job_id = ?"
FIND_KEY: Final = "SELECT job_id, request_digest, record FROM jobs WHERE idempotency_key = ?"
LIST_ACTIVE: Final = (
    f"SELECT record FROM jobs WHERE state IN ({_ACTIVE})"  # noqa: S608 - our own constants
    " ORDER BY submitted_us, job_id"
)
LIST_SUCCEEDED: Final = (
    "SELECT record FROM jobs WHERE state = 'succeeded' AND project = ?"
    " AND json_extract(record, '$.job.name') = ? ORDER BY submitted_us DESC, job_id DESC LIMIT ?"
)
REMOVE_JOB: Final = f"DELETE FROM jobs WHERE job_id = ? AND state NOT IN ({_ACTIVE})"  # noqa: S608 - our own constants
REMOVE_EVENTS: Final = "DELETE FROM events WHERE job_id = ?"
ADD_EVENT: Final = "INSERT INTO events (at_us, kind, job_id, state, detail) VALUES (?, ?, ?, ?, ?)"
PUT_ENTRY: Final = (
    "INSERT INTO ledger (job_id, submitted_us, is_settled, entry) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (job_id) DO UPDATE SET submitted_us = excluded.submitted_us,"
    " is_settled = excluded.is_settled, entry = excluded.entry WHERE is_settled = 0"
)
FIND_ENTRY: Final = "SELECT entry FROM ledger WHERE job_id = ?"
PUT_DOCUMENT: Final = (
    "INSERT INTO documents (key, text) VALUES (?, ?)"
    " ON CONFLICT (key) DO UPDATE SET text = excluded.text"
)
FIND_DOCUMENT: Final = "SELECT text FROM documents WHERE key = ?"


def page_query(
    states: frozenset[JobState],
    project: str | None,
    after: tuple[int, str] | None,
    limit: int,
) -> tuple[str, Row]:
    """A query for (submitted_us, job_id, record), newest first.

    One branch a state: SQLite merges them in the order of their index and stops at the limit, so
    that its work does not grow with the number of stored jobs.
    """
    branch, shared = "SELECT submitted_us, job_id, record FROM jobs WHERE state = ?", Row()
    if project is not None:
        branch, shared = f"{branch} AND project = ?", (*shared, project)
    if after is not None:
        branch, shared = f"{branch} AND (submitted_us, job_id) < (?, ?)", (*shared, *after)
    values = [value for state in sorted(states) for value in (state.value, *shared)]
    sql = " UNION ALL ".join([branch] * len(states))
    return f"{sql} ORDER BY submitted_us DESC, job_id DESC LIMIT ?", (*values, limit)


def events_query(
    job_id: str | None, kind: str | None, after_seq: int, limit: int
) -> tuple[str, Row]:
    """A query for events in order of `seq`."""
    sql = "SELECT seq, at_us, kind, job_id, state, detail FROM events WHERE seq > ?"
    values: Row = (after_seq,)
    if job_id is not None:
        sql, values = f"{sql} AND job_id = ?", (*values, job_id)
    if kind is not None:
        sql, values = f"{sql} AND kind = ?", (*values, kind)
    return f"{sql} ORDER BY seq LIMIT ?", (*values, limit)


def entries_query(
    from_us: int | None, to_us: int | None, *, unsettled_only: bool
) -> tuple[str, Row]:
    """A query for ledger entries, oldest submission first."""
    sql, values = "SELECT entry FROM ledger WHERE TRUE", Row()
    if unsettled_only:
        sql = f"{sql} AND is_settled = 0"
    if from_us is not None:
        sql, values = f"{sql} AND submitted_us >= ?", (*values, from_us)
    if to_us is not None:
        sql, values = f"{sql} AND submitted_us < ?", (*values, to_us)
    return f"{sql} ORDER BY submitted_us, job_id", values


def job_row(record: JobRecord) -> Row:
    """Values of REPLACE_JOB up to the job id."""
    job = record.job
    at_us = to_us(job.submitted_at)
    return record.version, record.state.value, job.project, at_us, encode_record(record), job.job_id


def new_job_row(new: NewJob) -> Row:
    """Values of ADD_JOB."""
    return *job_row(new.record), new.idempotency_key, new.request_digest


def entry_row(entry: LedgerEntry) -> Row:
    """Values of PUT_ENTRY."""
    at_us = to_us(entry.submitted_at)
    return entry.job_id, at_us, int(entry.is_settled), encode_entry(entry)
