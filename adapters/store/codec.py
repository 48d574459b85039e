"""How records become text and back: JSON, whole microseconds since the epoch, cursors of pages."""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from scheduler.core.errors import GridtideError, InvalidInputError, StoreError
from scheduler.core.job import JobId, JobRecord, JobState
from scheduler.core.ledger import LedgerEntry
from scheduler.core.timegrid import as_utc
from scheduler.ports import Event

_T = TypeVar("_T")

_RECORDS: Final = TypeAdapter(JobRecord)
_ENTRIES: Final = TypeAdapter(LedgerEntry)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CURSOR: Final = re.compile(r"(-?\d{1,18}):(.+)", re.DOTALL)


def encode_record(record: JobRecord) -> str:
    """The record as JSON."""
    return _RECORDS.dump_json(record).decode()


def decode_record(text: str) -> JobRecord:
    """The record of `encode_record`. Raises StoreError for any other text."""
    return _decode(_RECORDS, text)


class RecordMemo:
    """Reads the records of one look at the store after the other: those that have not changed since the last are known.

    Most jobs wait from one look to the next, and reading their texts anew is most of what a tick would do. Records
    are immutable, and so may be shared. It keeps the texts of the last look. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._known: dict[str, JobRecord] = {}

    def decode(self, texts: Iterable[str]) -> list[JobRecord]:
        """The records of these texts, each of another job. Raises StoreError for what `encode_record` did not make."""
        known = self._known
        found = {text: known.get(text) or decode_record(text) for text in texts}
        self._known = found
        return list(found.values())


def encode_entry(entry: LedgerEntry) -> str:
    """The ledger entry as JSON."""
    return _ENTRIES.dump_json(entry).decode()


def decode_entry(text: str) -> LedgerEntry:
    """The entry of `encode_entry`. Raises StoreError for any other text."""
    return _decode(_ENTRIES, text)


def to_json(*values: str | int | None) -> str:
    """A list as JSON, as short as it can be."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def encode_event(event: Event) -> str:
    """The event as JSON, without its number."""
    return to_json(*event_values(event))


def decode_event(seq: int, text: str) -> Event:
    """The event of `encode_event`, with its number."""
    return read_event((seq, *json.loads(text)))


def event_values(event: Event) -> tuple[int, str, str | None, str | None, str]:
    """What is stored of an event beside its number: time in µs, kind, job id, state, detail."""
    state = None if event.state is None else event.state.value
    return to_us(event.at), event.kind, event.job_id, state, event.detail


def read_event(row: Sequence[Any]) -> Event:
    """The event of its number and its `event_values`."""
    seq, at_us, kind, job_id, state, detail = row
    return Event(
        seq=seq,
        at=from_us(at_us),
        kind=kind,
        job_id=None if job_id is None else JobId(job_id),
        state=None if state is None else JobState(state),
        detail=detail,
    )


def to_us(at: datetime) -> int:
    """Microseconds since the Unix epoch, exact."""
    return (as_utc(at) - _EPOCH) // _MICROSECOND


def from_us(at_us: int) -> datetime:
    """The UTC instant of `to_us`."""
    return _EPOCH + timedelta(microseconds=at_us)


def encode_cursor(submitted_us: int, job_id: str) -> str:
    """The opaque cursor that stands after this job."""
    return base64.urlsafe_b64encode(f"{submitted_us}:{job_id}".encode()).decode().rstrip("=")


def page_start(after: str | None, submitted_before: datetime | None) -> tuple[int, str] | None:
    """Where a page of jobs begins, as `decode_cursor` says it; None for the newest job."""
    if after is not None:
        return decode_cursor(after)
    return None if submitted_before is None else (to_us(submitted_before), "")


def decode_cursor(cursor: str) -> tuple[int, str]:
    """Submission in microseconds and job id. Raises InvalidInputError for a foreign cursor."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise _foreign(cursor) from error
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise _foreign(cursor)
    return int(found[1]), found[2]


def _decode(adapter: TypeAdapter[_T], text: str) -> _T:
    try:
        return adapter.validate_json(text, strict=True)
    except (ValidationError, GridtideError) as error:
        raise StoreError(
            f"the store holds a record that cannot be read: {text[:80]}...; "
            f"restore a backup, or use the version that wrote it ({error})"
        ) from error


def _foreign(cursor: str) -> InvalidInputError:
    return InvalidInputError(
        f"after: {cursor!r} is not a cursor of ours; use the one of the page before, or none",
        field="after",
        value=cursor,
        valid="the cursor that came with the page before",
    )
