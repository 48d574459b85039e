"""The store of a Gridtide whose jobs are kept by a Redis server."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import copy
from datetime import datetime
from typing import Final

from adapters.store.codec import (
    decode_entry,
    decode_event,
    decode_record,
    encode_cursor,
    encode_event,
    encode_record,
    page_start,
    to_us,
)
from adapters.store.redis_active import PAGE, ActiveJobs
from adapters.store.redis_address import RedisAddress
from adapters.store.redis_clock import MAX_SKEW_S, skew_words, wall_s
from adapters.store.redis_durability import (
    Durability,
    durability_checks,
    durability_of,
    read_facts,
    require_wait,
)
from adapters.store.redis_keys import time_digits
from adapters.store.redis_link import Argument, RedisLink, Reply
from adapters.store.redis_migrations import open_schema, store_id
from adapters.store.redis_pools import Pools, open_pools
from adapters.store.redis_rows import (
    NO_ENTRY,
    entry_row,
    head,
    marked,
    new_job,
    present,
    succeeded_index,
)
from adapters.store.redis_scripts import ScriptName, get_script
from adapters.store.redis_terms import RedisTerms
from adapters.store.refusals import (
    id_taken,
    key_used,
    no_such_job,
    not_ended,
    require_limit,
    settled,
    stale,
)
from scheduler.core.errors import StoreError
from scheduler.core.job import ENDED_STATES, JobRecord, JobState
from scheduler.core.ledger import LedgerEntry
from scheduler.ports import Check, Event, Lease, NewJob

_ALL_STATES: Final = frozenset(JobState)
_EntryWrite = Callable[[str, str, str], Reply]


class RedisStore:
    """A `JobStore` on Redis.

    Every write is one script, and so one transaction; reads of unbounded length are several. A call
    whose reply was lost is sent again; the script knows it by its number and does nothing twice.

    Args:
        pools: where connections come from, if not from the address.
        makes: False for a process that must not make a store where there is none.

    Raises:
        StoreError: the server cannot be reached or used, or what it holds is newer than this Gridtide.
    """

    def __init__(
        self,
        address: RedisAddress,
        terms: RedisTerms | None = None,
        *,
        pools: Pools | None = None,
        makes: bool = True,
    ) -> None:
        terms = RedisTerms() if terms is None else terms
        self._wait = terms.wait
        self._fence: Callable[[], int] | None = None
        self._active = ActiveJobs()
        with ExitStack() as stack:
            pools = open_pools(address, terms) if pools is None else pools
            self._link = RedisLink(address, terms, pools, schema="")
            stack.callback(self._link.close)
            facts = read_facts(self._link)
            require_wait(address, facts, self._wait)
            open_schema(self._link, makes=makes)
            self._durability = durability_of(facts, self._wait)
            stack.pop_all()

    @property
    def name(self) -> str:
        """What tells this store from any other that was or will be at this address."""
        return store_id(self._link.schema)

    @property
    def durability(self) -> Durability:
        """What an acknowledged write survives, by what the server said when it was last asked."""
        return self._durability

    def checks(self) -> list[Check]:
        """What the server says of itself now."""
        try:
            facts = read_facts(self._link)
            _, there = self._call("get_time")
        except StoreError as error:
            return [Check(subject="store", is_ok=False, detail=error.message)]
        self._durability = durability_of(facts, self._wait)
        ahead_s = wall_s() - int(present(there))
        if abs(ahead_s) > MAX_SKEW_S:
            detail = skew_words(self._link.address, ahead_s)
            return [Check(subject="store", is_ok=False, detail=detail)]
        return durability_checks(self._link.address, facts, self._wait)

    def add_jobs(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Adds all jobs, or none, each with its event; returns the stored records."""
        if not jobs:
            return []
        word, *known = self._call("add_jobs", *(part for new in jobs for part in new_job(new)))
        if word == "taken":
            raise id_taken(present(known[0]))
        if word == "used":
            raise key_used(present(known[0]), present(known[1]))
        return [
            decode_record(text) if text else new.record
            for new, text in zip(jobs, known, strict=True)
        ]

    def known_job(self, idempotency_key: str, request_digest: str | None) -> JobRecord | None:
        """The job that was stored for that request; None where none was."""
        word, found = self._call("known_job", idempotency_key, marked("=", request_digest))
        if word == "used":
            raise key_used(idempotency_key, present(found))
        return None if found is None else decode_record(found)

    def get_job(self, job_id: str) -> JobRecord:
        """The job. Raises NotFoundError."""
        _, text = self._call("get_job", job_id)
        if text is None:
            raise no_such_job(job_id)
        return decode_record(text)

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
        start = page_start(after, submitted_before)
        bound = "" if start is None else _member(*start)
        states = _ALL_STATES if states is None else states
        if not states:
            return [], None
        # One more than asked for shows whether there is another page.
        found = self._records("list_jobs", limit + 1, bound, marked("p", project), *sorted(states))
        page = found[:limit]
        if len(found) <= limit:
            return page, None
        last = page[-1].job
        return page, encode_cursor(to_us(last.submitted_at), last.job_id)

    def succeeded_jobs(self, *, name: str, project: str, limit: int = 100) -> list[JobRecord]:
        """The jobs of that name and project that succeeded, newest submission first."""
        require_limit(limit)
        return self._records("succeeded_jobs", succeeded_index(project, name), limit)

    def active_jobs(self) -> list[JobRecord]:
        """Every job that has not ended, oldest submission first."""
        return self._active.read(self._call)

    def update_job(
        self, record: JobRecord, *events: Event, entry: LedgerEntry | None = None
    ) -> None:
        """Replaces the job, appends the events and puts the entry, in one transaction."""
        expected = record.version - 1
        job_id, text = record.job.job_id, encode_record(record)
        logged = [part for event in events for part in (event.kind, encode_event(event))]

        def write(entry_id: str, entry_text: str, mark: str) -> Reply:
            job = (job_id, expected, head(record), text)
            return self._call("update_job", *job, entry_id, entry_text, mark, *logged)

        word, *rest = self._put(entry, write)
        if word == "missing":
            raise no_such_job(job_id)
        if word == "stale":
            raise stale(job_id, version=int(present(rest[0])), expected=expected)

    def remove_jobs(self, job_ids: Sequence[str]) -> None:
        """Removes jobs that have ended, with their events and idempotency keys; ledger entries stay."""
        word, *rest = self._call("remove_jobs", len(ENDED_STATES), *sorted(ENDED_STATES), *job_ids)
        if word == "active":
            raise not_ended(present(rest[0]))

    def add_event(self, event: Event) -> None:
        """Appends an event that changes no job."""
        self._call("add_event", event.job_id or "", event.kind, encode_event(event))

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
        first = max(after_seq + 1, 1)
        _, *found = self._call("events", first, limit, marked("j", job_id), marked("k", kind))
        return [
            decode_event(int(present(seq)), present(text))
            for seq, text in zip(found[::2], found[1::2], strict=True)
        ]

    def put_entry(self, entry: LedgerEntry) -> None:
        """Writes a ledger entry; a settled one is never replaced."""
        self._put(entry, lambda *row: self._call("put_entry", *row))

    def entries(
        self,
        *,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        unsettled_only: bool = False,
    ) -> list[LedgerEntry]:
        """Ledger entries of jobs submitted in `[from_at, to_at)`, oldest submission first."""
        index = "unsettled" if unsettled_only else "time"
        low = "-" if from_at is None else f"[{time_digits(to_us(from_at))}"
        high = "+" if to_at is None else f"({time_digits(to_us(to_at))}"
        entries = list[LedgerEntry]()
        while True:
            _, *found = self._call("entries", index, low, high, PAGE)
            entries += [decode_entry(present(text)) for text in found[1::2]]
            if len(found) < 2 * PAGE:
                return entries
            low = f"({present(found[-2])}"

    def put_document(self, key: str, text: str) -> None:
        """Keeps a small text under a key."""
        self._call("put_document", key, text)

    def get_document(self, key: str) -> str | None:
        """The text under that key, or None."""
        _, text = self._call("get_document", key)
        return text

    def take_lease(self, holder: str, *, for_s: float) -> Lease:
        """The caller's, new or renewed for so many seconds of the server's time, or another's."""
        for_ms = max(1, round(for_s * 1000))
        word, found, *held_by = self._call("take_lease", holder, for_ms, wall_s(), MAX_SKEW_S)
        if word == "skewed":
            said = skew_words(self._link.address, int(present(found)))
            raise StoreError(f"this process does not lead: {said}", server=str(self._link.address))
        return Lease(holder=present(held_by[0]), fence=int(present(found)))

    def lease(self) -> Lease | None:
        """The lease as it is now; None while nobody has it."""
        _, fence, held_by = self._call("get_lease")
        return None if held_by is None else Lease(holder=held_by, fence=int(present(fence)))

    def drop_lease(self, holder: str) -> None:
        """Gives the lease up, if it is that holder's."""
        self._call("drop_lease", holder)

    def led(self, fence: Callable[[], int]) -> "RedisStore":
        """The same store, on the same connections, for who has the lease."""
        led = copy(self)
        led._fence = fence
        return led

    def close(self) -> None:
        """Finishes what is under way and leaves the server. Further calls raise StoreError."""
        self._link.close()

    def _call(self, name: ScriptName, *args: Argument) -> Reply:
        fence = None if self._fence is None else self._fence()
        return self._link.call(get_script(name), *args, fence=fence)

    def _records(self, name: ScriptName, *args: Argument) -> list[JobRecord]:
        _, *texts = self._call(name, *args)
        return [decode_record(present(text)) for text in texts]

    def _put(self, entry: LedgerEntry | None, write: _EntryWrite) -> Reply:
        row = NO_ENTRY if entry is None else entry_row(entry)
        reply = write(*row)
        if reply[0] != "settled" or entry is None:
            return reply
        # As values, not as text: an upgrade may write the same entry in another way.
        stored = present(reply[1])
        if decode_entry(stored) != entry:
            raise settled(entry.job_id)
        return write(row[0], stored, row[2])


def _member(submitted_us: int, job_id: str) -> str:
    return time_digits(submitted_us) + job_id
