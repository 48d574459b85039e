"""Account: entries are written when jobs end (lifecycle.py); this stage settles provisional ones."""

from datetime import datetime, timedelta
from typing import Final

from scheduler.core.ledger import LedgerEntry
from scheduler.ports import Clock, JobStore
from scheduler.service.forecaster import Forecaster
from scheduler.service.lifecycle import Lifecycle

SETTLE_WITHIN: Final = timedelta(days=14)
"""Entries older than this stay provisional: sources do not revise further back."""


class Accountant:
    """Replaces provisional ledger entries when better intensity has arrived."""

    def __init__(
        self, *, store: JobStore, lifecycle: Lifecycle, forecaster: Forecaster, clock: Clock
    ) -> None:
        self._store = store
        self._lifecycle = lifecycle
        self._forecaster = forecaster
        self._clock = clock
        self._seen_version: int | None = None

    def run(self) -> list[LedgerEntry]:
        """The entries that changed. Does nothing until a source brought something new."""
        if self._seen_version == self._forecaster.version:
            return []
        self._seen_version = self._forecaster.version
        changed = []
        for entry in self._store.entries(
            from_at=self._clock.now() - SETTLE_WITHIN, unsettled_only=True
        ):
            better = self._lifecycle.account(self._store.get_job(entry.job_id))
            if better != entry:
                self._store.put_entry(better)
                changed.append(better)
        return changed

    def needs_actuals_since(self) -> datetime:
        """First instant whose actual intensity an account may still need."""
        now = self._clock.now()
        starts = [
            entry.baseline.window.start_at
            for entry in self._store.entries(from_at=now - SETTLE_WITHIN, unsettled_only=True)
        ]
        starts += [record.baseline.window.start_at for record in self._store.active_jobs()]
        return max(min(starts, default=now), now - SETTLE_WITHIN)
