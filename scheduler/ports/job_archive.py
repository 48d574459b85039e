"""Where jobs go that ended long ago."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scheduler.core.job import JobRecord
from scheduler.core.ledger import LedgerEntry
from scheduler.ports.store import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedJob:
    """All that a store knows of a job.

    Args:
        events: in order of `seq`.
        entry: settled; None for a job that never ran.
    """

    record: JobRecord
    events: tuple[Event, ...]
    entry: LedgerEntry | None


class JobArchive(Protocol):
    """Keeps batches of ended jobs, each under a name of its own."""

    def write(self, name: str, jobs: Sequence[ArchivedJob]) -> None:
        """Keeps the batch; returns when it survives the loss of power. Raises StoreError: nothing was kept."""
        ...

    def has(self, name: str) -> bool:
        """Whether the batch of that name was kept, whole. Raises StoreError."""
        ...
