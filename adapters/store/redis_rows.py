"""What scripts are given for records and entries, and what their answers stand for."""

from typing import Final

from adapters.store.codec import encode_entry, encode_event, encode_record, to_json, to_us
from adapters.store.redis_keys import time_digits
from scheduler.core.errors import StoreError
from scheduler.core.job import JobRecord
from scheduler.core.ledger import LedgerEntry
from scheduler.ports import NewJob

NO_ENTRY: Final = ("", "", "")


def head(record: JobRecord, key: str = "", digest: str = "") -> str:
    """What scripts need to know of a record."""
    job = record.job
    time = time_digits(to_us(job.submitted_at))
    return to_json(record.version, record.state.value, time, job.project, job.name, key, digest)


def new_job(new: NewJob) -> tuple[str, ...]:
    """What `add_jobs` takes for a job."""
    record = new.record
    return (
        *job_row(record, encode_record(record), new.idempotency_key, new.request_digest),
        new.event.kind,
        encode_event(new.event),
    )


def job_row(
    record: JobRecord, text: str, idempotency_key: str | None, request_digest: str | None
) -> tuple[str, str, str, str, str]:
    """Id, head and text of a record, its key marked as one, and what the key leads to."""
    job_id = record.job.job_id
    key, digest = marked("k", idempotency_key), marked("=", request_digest)
    return job_id, head(record, key, digest), text, key, to_json(job_id, digest)


def marked(mark: str, text: str | None) -> str:
    """The text behind a mark; empty for None, which is not the empty text."""
    return "" if text is None else mark + text


def unmarked(text: str) -> str | None:
    """The text of `marked`."""
    return text[1:] if text else None


def entry_row(entry: LedgerEntry) -> tuple[str, str, str]:
    """Id, text and mark of an entry."""
    return entry.job_id, encode_entry(entry), entry_mark(entry)


def entry_mark(entry: LedgerEntry) -> str:
    """Whether the entry is settled, and when its job was submitted."""
    return f"{entry.is_settled:d}{time_digits(to_us(entry.submitted_at))}"


def succeeded_index(project: str, name: str) -> str:
    """The end of the key of the index of that project's jobs of that name."""
    return f"{len(project.encode())}:{project}:{name}"


def present(text: str | None, *, of: str = "a record") -> str:
    """The text of a record that an index leads to. Raises StoreError where there is none."""
    if text is None:
        raise StoreError(f"the store lists {of} that it does not hold; restore a backup")
    return text
