"""What remembers jobs, events and ledger entries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from scheduler.core.job import JobId, JobRecord, JobState
from scheduler.core.ledger import LedgerEntry
from scheduler.ports.clusters import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `seq` is given by the store: unique, rising, 0 before it is stored.

    Args:
        kind: past tense in snake_case (`submitted`, `planned`, `dispatched`, `refused`, ...).
        job_id: None for events that are about no stored job, such as a refusal.
        state: the job's state after the event.
        detail: a sentence for people.
    """

    at: datetime
    kind: str
    job_id: JobId | None
    state: JobState | None = None
    detail: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be added, with what makes a repeated request harmless.

    Args:
        idempotency_key: the client's key, unique among jobs; None for none.
        request_digest: digest of the request body, to tell a repeat from a misuse of the key.
    """

    record: JobRecord
    event: Event
    idempotency_key: str | None = None
    request_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who of several processes runs the cycle now.

    Args:
        holder: what the process calls itself.
        fence: rises with every new holder; what an older one writes after that is refused.
    """

    holder: str
    fence: int


class JobStore(Protocol):
    """Remembers jobs, events, ledger entries and small documents.

    Every method is safe to call from any thread. A method that writes returns only when what it
    wrote survives the loss of power (or whatever the store declares in `durability`).
    """

    @property
    def durability(self) -> str:
        """What an acknowledged write survives the loss of.

        `machine`: the power of the whole machine. `process`: the store's process, but not the power.
        `nothing`: it may be lost whenever the store stops. `unknown`: the store cannot tell.
        """
        ...

    def checks(self) -> list[Check]:
        """What `doctor` says of it. Never raises.

        Those with the subject `store` say whether it can be used, and go into `/readyz`; the others are
        for whoever looks after it.
        """
        ...

    def add_jobs(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Adds all of them, or none, each with its event; returns the stored records, in order.

        Where a job's idempotency key is known with the same digest, the job stored then is returned
        and nothing is added for it.

        Raises:
            DuplicateJobError: a job id is taken, or a key is known with another digest.
            StoreError: nothing was written.
        """
        ...

    def known_job(self, idempotency_key: str, request_digest: str | None) -> JobRecord | None:
        """The job that was stored for that request, which may be a repeat; None where none was.

        Raises:
            DuplicateJobError: the key is known with another digest.
        """
        ...

    def get_job(self, job_id: str) -> JobRecord:
        """The job. Raises NotFoundError."""
        ...

    def list_jobs(
        self,
        *,
        states: frozenset[JobState] | None = None,
        project: str | None = None,
        submitted_before: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[JobRecord], str | None]:
        """A page of jobs, newest submission first, and the cursor of the next page or None.

        Args:
            states: None for all.
            project: None for all.
            submitted_before: that instant and later ones are left out; a cursor already stands before it.
            after: the cursor of a page with the same filters.
            limit: most jobs of a page.

        Raises:
            InvalidInputError: the cursor is not one of ours.
        """
        ...

    def succeeded_jobs(self, *, name: str, project: str, limit: int = 100) -> list[JobRecord]:
        """The jobs of that name and project that succeeded, newest submission first.

        The work is bounded by the limit, however many jobs are stored.
        """
        ...

    def active_jobs(self) -> list[JobRecord]:
        """Every job that has not ended, oldest submission first."""
        ...

    def update_job(
        self, record: JobRecord, *events: Event, entry: LedgerEntry | None = None
    ) -> None:
        """Replaces the job by `record`, appends the events and puts the entry, in one transaction.

        The entry comes with the change to an ended state, so that no crash can part the two.

        Raises:
            StaleRecordError: the stored version is not `record.version - 1`; nothing was written.
            NotFoundError: no such job.
        """
        ...

    def remove_jobs(self, job_ids: Sequence[str]) -> None:
        """Removes jobs that have ended, with their events and idempotency keys; ledger entries stay.

        Ids of jobs that are not stored are passed over.

        Raises:
            ConflictError: one of them has not ended; nothing was removed.
        """
        ...

    def add_event(self, event: Event) -> None:
        """Appends an event that changes no job."""
        ...

    def events(
        self,
        *,
        job_id: str | None = None,
        kind: str | None = None,
        after_seq: int = 0,
        limit: int = 1000,
    ) -> list[Event]:
        """Events in order of `seq`, of one job or of all."""
        ...

    def put_entry(self, entry: LedgerEntry) -> None:
        """Writes a job's ledger entry; a provisional one is replaced, a settled one never.

        Raises:
            ConflictError: the stored entry is settled and differs.
        """
        ...

    def entries(
        self,
        *,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        unsettled_only: bool = False,
    ) -> list[LedgerEntry]:
        """Ledger entries of jobs submitted in `[from_at, to_at)`, oldest submission first."""
        ...

    def put_document(self, key: str, text: str) -> None:
        """Keeps a small text (a cached forecast, a clock's anchor) under a key."""
        ...

    def get_document(self, key: str) -> str | None:
        """The text under that key, or None."""
        ...

    def take_lease(self, holder: str, *, for_s: float) -> Lease:
        """The lease as it is now: the caller's, new or renewed for so many seconds, or another's."""
        ...

    def lease(self) -> Lease | None:
        """The lease as it is now; None while nobody has it."""
        ...

    def drop_lease(self, holder: str) -> None:
        """Gives the lease up, if it is that holder's."""
        ...

    def led(self, fence: Callable[[], int]) -> "JobStore":
        """The same store for who has the lease: each write says the fence that the function gives then.

        Writes raise ConflictError, and write nothing, once somebody else has got a lease.
        """
        ...

    def close(self) -> None:
        """Finishes pending writes and releases the store. Further calls raise StoreError."""
        ...
