"""The one way to change a job's state: checked by the table, stored with its event and its account."""

from collections.abc import Callable
from dataclasses import replace

import structlog

from scheduler.core.errors import ConflictError, UpstreamError
from scheduler.core.fleet import Fleet
from scheduler.core.job import ENDED_STATES, JobRecord, JobState, next_record
from scheduler.core.ledger import LedgerEntry, ReadIntensity, build_entry
from scheduler.ports import Clock, Event, JobStore
from scheduler.service.run_times import RunTimes

_log = structlog.get_logger(__name__)


class Lifecycle:
    """Writes job changes; the ledger entry of an ended job goes into the same transaction."""

    def __init__(
        self,
        *,
        store: JobStore,
        clock: Clock,
        fleet: Fleet,
        read_intensity: ReadIntensity,
        run_times: RunTimes,
    ) -> None:
        self._store = store
        self._run_times = run_times
        self._clock = clock
        self._read = read_intensity
        self._places = {
            cluster.cluster_id: (cluster.region_id, cluster.zone_id) for cluster in fleet
        }

    def change(
        self, record: JobRecord, to: JobState, *, kind: str, reason: str | None = None
    ) -> JobRecord:
        """The record in its new state, stored with an event of that kind.

        Raises:
            IllegalTransitionError: the table has no such step.
            StaleRecordError: somebody else wrote first; nothing was written.
        """
        at = self._clock.now()
        changed = next_record(record, to, at=at, reason=reason)
        event = Event(at=at, kind=kind, job_id=record.job.job_id, state=to, detail=reason or "")
        entry = self.account(changed) if to in ENDED_STATES else None
        self._store.update_job(changed, event, entry=entry)
        if to is JobState.SUCCEEDED:
            self._run_times.forget(changed.job)
        _log.info("job_" + kind, job_id=record.job.job_id, state=str(to), reason=reason)
        return changed

    def note(self, record: JobRecord, *, kind: str | None = None, detail: str = "") -> JobRecord:
        """The record stored in its present state, with an event where `kind` is given."""
        at = self._clock.now()
        changed = replace(record, version=record.version + 1, updated_at=at)
        events = (
            (Event(at=at, kind=kind, job_id=record.job.job_id, state=record.state, detail=detail),)
            if kind
            else ()
        )
        self._store.update_job(changed, *events)
        return changed

    def account(self, record: JobRecord) -> LedgerEntry:
        """The ledger entry of an ended job, on the best intensity known now."""
        return build_entry(record, zone_by_cluster=self._places, read=self._read)


def unless_conflicting(work: Callable[[JobRecord], JobRecord], record: JobRecord) -> JobRecord:
    """The result of `work`, or the record as it was where somebody else changed it meanwhile.

    Also where its cluster fails: one job's trouble must not hold up the others; the next tick sees
    the stored state and tries again.
    """
    try:
        return work(record)
    except (ConflictError, UpstreamError) as error:
        _log.warning("job_skipped", job_id=record.job.job_id, code=error.code, error=error.message)
        return record


Wake = Callable[[], None]
"""Asks for a tick soon; returns at once."""
