"""Retention: moves jobs that ended long ago into an archive, and keeps their ledger entries where reports read them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from scheduler.core.errors import ClusterUnavailableError, StoreError
from scheduler.core.job import ENDED_STATES, JobId, JobRecord
from scheduler.core.ledger import LedgerEntry
from scheduler.core.units import format_duration
from scheduler.ports import (
    AdoptingCluster,
    ArchivedJob,
    Check,
    Clock,
    ClusterAdapter,
    JobArchive,
    JobStore,
)
from scheduler.service.accountant import SETTLE_WITHIN

_log = structlog.get_logger(__name__)
_INTENT: Final = "archiving"
"""Document with the batch that is being moved."""
_LOOK_EVERY: Final = timedelta(hours=1)
_TRY_EVERY: Final = timedelta(minutes=5)
_INSTANT: Final = timedelta(microseconds=1)
_ALL: Final = 1_000_000
BATCH: Final = 200
"""Jobs that one tick moves at most: it must not keep others waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Jobs to be moved together."""

    name: str
    job_ids: tuple[str, ...]


class Retention:
    """Moves a batch of jobs at a time, each into the archive exactly once.

    What is to be moved is written down first. After a crash, a batch that the archive has is only removed
    from the store, and any other is chosen anew.

    Args:
        keep: for so long after its end a job stays in the store.
        clusters: jobs that still stand in a cluster's own queue stay, or they would be taken for new ones.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        archive: JobArchive,
        clusters: Mapping[str, ClusterAdapter],
        clock: Clock,
        keep: timedelta,
    ) -> None:
        self._store = store
        self._archive = archive
        self._clusters = clusters
        self._clock = clock
        self._keep = keep
        self._look_at: datetime | None = None
        self._trouble: str | None = None

    def run(self, records: Sequence[JobRecord]) -> int:
        """Moves a batch where one is due; how many jobs were moved.

        Args:
            records: every active job; what they wait for stays.
        """
        now = self._clock.now()
        if self._look_at is not None and now < self._look_at:
            return 0
        try:
            self._finish()
            awaited = {other for record in records for other in record.job.after}
            chosen = self._choose(now, awaited)
            if chosen:
                self._move(chosen)
        except StoreError as error:
            # Nothing waits for it: it is tried again in a while, and `doctor` says so.
            self._trouble = error.message
            self._look_at = now + _TRY_EVERY
            _log.warning("jobs_not_archived", error=error.message)
            return 0
        self._trouble = None
        self._look_at = now + _LOOK_EVERY if len(chosen) < BATCH else None
        return len(chosen)

    def check(self) -> Check:
        """For `doctor`: whether the last move was well."""
        detail = f"jobs that ended more than {format_duration(round(self._keep.total_seconds()))} ago are archived"
        return Check(
            subject="retention", is_ok=self._trouble is None, detail=self._trouble or detail
        )

    def _finish(self) -> None:
        """Ends what a process began that died over it."""
        text = self._store.get_document(_INTENT)
        if not text:
            return
        batch = _Batch(**json.loads(text))
        if self._archive.has(batch.name):
            self._store.remove_jobs(batch.job_ids)
        self._store.put_document(_INTENT, "")

    def _move(self, jobs: Sequence[ArchivedJob]) -> None:
        batch = _named(jobs)
        self._store.put_document(
            _INTENT, json.dumps({"name": batch.name, "job_ids": batch.job_ids})
        )
        self._archive.write(batch.name, jobs)
        self._store.remove_jobs(batch.job_ids)
        self._store.put_document(_INTENT, "")
        _log.info("jobs_archived", batch=batch.name, jobs=len(jobs))

    def _choose(self, now: datetime, awaited: set[JobId]) -> list[ArchivedJob]:
        """Jobs whose time is over, up to a batch of them."""
        ended_before = now - self._keep
        chosen, cursor = list[ArchivedJob](), None
        queued: frozenset[tuple[str, str | None]] | None = None
        while True:
            page, cursor = self._store.list_jobs(
                states=ENDED_STATES, submitted_before=ended_before, after=cursor, limit=BATCH
            )
            for record in page:
                if record.updated_at >= ended_before or record.job.job_id in awaited:
                    continue
                if (native := record.job.native) is not None:
                    queued = self._queued() if queued is None else queued
                    (cluster_id, *_) = record.job.cluster_ids
                    if queued & {(cluster_id, native.ref), (cluster_id, None)}:
                        continue
                whole = self._whole(record)
                if not _may_change(whole.entry, now):
                    chosen.append(whole)
                if len(chosen) == BATCH:
                    return chosen
            if cursor is None:
                return chosen

    def _queued(self) -> frozenset[tuple[str, str | None]]:
        """Cluster and `ref` of native jobs that wait there; None for `ref` where a cluster does not answer."""
        found = set[tuple[str, str | None]]()
        for cluster_id, cluster in self._clusters.items():
            if isinstance(cluster, AdoptingCluster):
                try:
                    found |= {(cluster_id, native.ref) for native in cluster.native_jobs()}
                except ClusterUnavailableError:
                    found.add((cluster_id, None))
        return frozenset(found)

    def _whole(self, record: JobRecord) -> ArchivedJob:
        """All that there is of it."""
        job = record.job
        at_once = self._store.entries(from_at=job.submitted_at, to_at=job.submitted_at + _INSTANT)
        return ArchivedJob(
            record=record,
            events=tuple(self._store.events(job_id=job.job_id, limit=_ALL)),
            entry=next((one for one in at_once if one.job_id == job.job_id), None),
        )


def _may_change(entry: LedgerEntry | None, now: datetime) -> bool:
    return entry is not None and not entry.is_settled and entry.submitted_at >= now - SETTLE_WITHIN


def _named(jobs: Sequence[ArchivedJob]) -> _Batch:
    """The batch, by the days of its submissions and a digest of its ids."""
    ids = tuple(one.record.job.job_id for one in jobs)
    days = sorted(one.record.job.submitted_at for one in jobs)
    digest = hashlib.sha256("\0".join(sorted(ids)).encode()).hexdigest()[:12]
    return _Batch(name=f"jobs-{days[0]:%Y%m%d}-{days[-1]:%Y%m%d}-{digest}", job_ids=ids)
