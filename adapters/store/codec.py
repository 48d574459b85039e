"""Records as JSON and back: strict, lossless, fast."""

from typing import Final

from pydantic import TypeAdapter

from scheduler.core.job import JobRecord
from scheduler.core.ledger import LedgerEntry

_RECORD: Final = TypeAdapter(JobRecord)
_ENTRY: Final = TypeAdapter(LedgerEntry)


def dump_record(record: JobRecord) -> str:
    """JSON text of a job record."""
    return _RECORD.dump_json(record).decode()


def load_record(text: str) -> JobRecord:
    """The job record of that text."""
    return _RECORD.validate_json(text)


def dump_entry(entry: LedgerEntry) -> str:
    """JSON text of a ledger entry."""
    return _ENTRY.dump_json(entry).decode()


def load_entry(text: str) -> LedgerEntry:
    """The ledger entry of that text."""
    return _ENTRY.validate_json(text)
