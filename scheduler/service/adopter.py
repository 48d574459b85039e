"""Adopt: plans jobs that users gave to a cluster's own queue, and follows what their users do to them there.

From the moment it is seen such a job has a guard: the cluster itself starts it at its latest safe start, whatever
becomes of Gridtide. Its user's hand goes first: a start, a hold or another time is respected.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from scheduler.core.errors import (
    ClusterUnavailableError,
    GridtideError,
    InfeasibleError,
    InvalidInputError,
    NotFoundError,
)
from scheduler.core.guard import guard_at
from scheduler.core.job import ENDED_STATES, Baseline, Job, JobRecord, JobState, Placement, Wanted
from scheduler.core.planner.snapshot import UnplacedReason
from scheduler.core.timegrid import format_instant
from scheduler.ports import (
    AdoptingCluster,
    Clock,
    ClusterAdapter,
    Event,
    JobStore,
    NativeJob,
    NewJob,
    News,
    RunState,
    RunStatus,
    TellingCluster,
    native_name,
)
from scheduler.service.dispatcher import MIN_GRACE_S, Dispatcher
from scheduler.service.lifecycle import Lifecycle, unless_conflicting
from scheduler.service.planning import Planning

_log = structlog.get_logger(__name__)
_S = JobState
_MENDS: Final = frozenset(
    {
        UnplacedReason.NO_CAPACITY,
        UnplacedReason.PAST_DEADLINE,
        UnplacedReason.PAST_HORIZON,
        UnplacedReason.NO_FORECAST,
    }
)
"""Reasons why a job has no place now that are no reason to leave it without a guard."""
_NOT_BEGUN: Final = frozenset({_S.QUEUED, _S.PLANNED, _S.HELD})
_WAITS: Final = frozenset({*_NOT_BEGUN, _S.SUSPENDED})
_HAS_BEGUN: Final = frozenset({RunState.RUNNING, RunState.FROZEN, RunState.ENDED})

BuildNative = Callable[[str, NativeJob, datetime], Job]
"""The job that a native job on that cluster asks to be; raises InvalidInputError for words that are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A cluster's queue at one instant, by `NativeJob.ref`."""

    cluster_id: str
    jobs: Mapping[str, NativeJob]


class Adopter:
    """Takes native jobs in, keeps their guards, and lets their users have the last word."""

    def __init__(  # noqa: PLR0913 - it sits between queue, plan and clusters
        self,
        *,
        clusters: Mapping[str, ClusterAdapter],
        build: BuildNative,
        planning: Planning,
        dispatcher: Dispatcher,
        lifecycle: Lifecycle,
        store: JobStore,
        clock: Clock,
    ) -> None:
        self._clusters = clusters
        self._build = build
        self._planning = planning
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._store = store
        self._clock = clock

    def run(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """All records, with those of newly adopted jobs, after a look into every queue that can be adopted from."""
        current = list(records)
        for cluster_id, cluster in self._clusters.items():
            if isinstance(cluster, AdoptingCluster):
                try:
                    current = self._look(cluster_id, cluster, current)
                except ClusterUnavailableError as error:
                    _log.warning("cluster_unavailable", cluster=cluster_id, error=error.message)
        return current

    def _look(
        self, cluster_id: str, cluster: AdoptingCluster, records: list[JobRecord]
    ) -> list[JobRecord]:
        seen = _Seen(
            cluster_id=cluster_id, jobs={native.ref: native for native in cluster.native_jobs()}
        )
        own = {
            record.job.native.ref: record
            for record in records
            if record.job.native is not None and cluster_id in record.job.cluster_ids
        }
        gone = [record for ref, record in own.items() if ref not in seen.jobs]
        statuses = self._poll_gone(cluster_id, gone)
        tended = {
            record.job.job_id: unless_conflicting(
                lambda one: self._follow(one, seen, statuses), record
            )
            for record in own.values()
        }
        fresh = [native for ref, native in seen.jobs.items() if ref not in own]
        adopted = [self._adopt_one(cluster_id, cluster, native, records) for native in fresh]
        kept = [tended.get(record.job.job_id, record) for record in records]
        return [*kept, *(record for record in adopted if record is not None)]

    def tell(self, records: Sequence[JobRecord]) -> None:
        """Shows users on their clusters what is planned for the jobs that wait there."""
        silent = set[str]()
        for record in records:
            if record.job.native is None or record.state not in _WAITS:
                continue
            (cluster_id, *_) = record.job.cluster_ids
            cluster = self._clusters[cluster_id]
            if cluster_id in silent or not isinstance(cluster, TellingCluster):
                continue
            try:
                cluster.tell(record.job.native.ref, *self._news(record))
            except ClusterUnavailableError as error:
                _log.warning("cluster_unavailable", cluster=cluster_id, error=error.message)
                silent.add(cluster_id)

    # ---------------------------------------------------------------- taking in

    def _adopt_one(
        self,
        cluster_id: str,
        cluster: AdoptingCluster,
        native: NativeJob,
        records: Sequence[JobRecord],
    ) -> JobRecord | None:
        """The record of the job; None where it cannot be planned, which its user is told."""
        now = self._clock.now()
        try:
            job = self._build(cluster_id, native, now)
            if self._has_ended(job):
                return None
            baseline, placement = self._admit(job, now)
        except (InvalidInputError, InfeasibleError) as error:
            self._refuse(cluster_id, cluster, native, error.message)
            return None
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # A mistake of ours, but what one user writes must not hold up everybody else's jobs.
            _log.exception("adoption_failed", cluster=cluster_id, ref=native.ref)
            self._refuse(cluster_id, cluster, native, f"it cannot be planned: {error!r}")
            return None
        record = JobRecord(
            job=job,
            state=_S.QUEUED,
            version=1,
            updated_at=now,
            baseline=baseline,
            placement=placement,
        )
        try:
            # The guard first: should we die now, the job still starts in time, and is found again.
            if not _is_chosen(native, now):  # by a user of whom an earlier store of ours knew
                cluster.adopt(native.ref, job_id=job.job_id, guard_at=self._guard_at(record))
        except ClusterUnavailableError as error:
            _log.warning("adoption_failed", cluster=cluster_id, ref=native.ref, error=error.message)
            return None
        detail = f"{native.ref} of {native.user} on {cluster_id}"
        event = Event(at=now, kind="adopted", job_id=job.job_id, state=_S.QUEUED, detail=detail)
        try:
            stored = self._store.add_jobs([NewJob(record=record, event=event)])[0]
        except GridtideError as error:
            _log.warning("adoption_failed", cluster=cluster_id, ref=native.ref, error=error.message)
            return None
        self._planning.hold_place(stored)
        return stored

    def _admit(self, job: Job, now: datetime) -> tuple[Baseline, Placement | None]:
        """Baseline and place; only the baseline of a job that has no place now, for it runs all the same."""
        try:
            admission = self._planning.admit(job, at=now)
        except InfeasibleError as error:
            reason, finish = error.fields.get("reason"), error.fields.get("earliest_finish")
            # A run that no horizon holds can be neither planned nor followed.
            is_too_long = (reason == UnplacedReason.PAST_DEADLINE and finish is None) or (
                reason == UnplacedReason.PAST_HORIZON and job.earliest_start_at <= now
            )
            if reason not in _MENDS or is_too_long:
                raise
            return self._planning.baseline(job), None
        return admission.baseline, admission.placement

    def _has_ended(self, job: Job) -> bool:
        """Whether it was adopted before, and given up since."""
        try:
            return self._store.get_job(job.job_id).state in ENDED_STATES
        except NotFoundError:
            return False

    def _refuse(
        self, cluster_id: str, cluster: AdoptingCluster, native: NativeJob, why: str
    ) -> None:
        try:
            cluster.refuse(native.ref, why)
        except ClusterUnavailableError as error:
            _log.warning("cluster_unavailable", cluster=cluster_id, error=error.message)
            return
        detail = f"{native.name} ({native.ref} of {native.user} on {cluster_id}): {why}"
        self._store.add_event(
            Event(at=self._clock.now(), kind="refused", job_id=None, detail=detail)
        )

    def _guard_at(self, record: JobRecord) -> datetime:
        """Its latest safe start, as far as plans and earlier runs tell."""
        earliest_at = max(record.job.earliest_start_at, self._clock.now())
        return guard_at(self._planning.latest_start_at(record), earliest_at=earliest_at)

    # ---------------------------------------------------------------- following

    def _poll_gone(self, cluster_id: str, gone: Sequence[JobRecord]) -> Mapping[str, RunStatus]:
        """What became of jobs that wait no more; those with a run are the watcher's."""
        names = [_name(record) for record in gone if _is_without_run(record) or _is_paused(record)]
        return self._clusters[cluster_id].poll(names) if names else {}

    def _follow(
        self, record: JobRecord, seen: _Seen, statuses: Mapping[str, RunStatus]
    ) -> JobRecord:
        cluster = self._clusters[seen.cluster_id]
        if record.wanted is Wanted.CANCEL and _is_without_run(record):
            cluster.cancel(_name(record), grace_s=MIN_GRACE_S)
            return self._lifecycle.change(
                record, _S.CANCELLED, kind="cancelled", reason="by the user"
            )
        assert record.job.native is not None
        native = seen.jobs.get(record.job.native.ref)
        if native is not None:
            return self._tend(record, native)
        return self._follow_gone(record, statuses.get(_name(record)), seen.cluster_id)

    def _follow_gone(
        self, record: JobRecord, status: RunStatus | None, cluster_id: str
    ) -> JobRecord:
        """It began without us, or was taken away."""
        if not _is_without_run(record):
            if status is None and _is_paused(record):
                reason = f"taken from {cluster_id} while it was paused"
                return self._lifecycle.change(record, _S.CANCELLED, kind="cancelled", reason=reason)
            return record
        if status is None or (status.state is RunState.ENDED and not status.spans):
            reason = f"taken from the queue of {cluster_id} before it began"
            return self._lifecycle.change(record, _S.CANCELLED, kind="cancelled", reason=reason)
        if status.state not in _HAS_BEGUN:
            return record
        began_at = status.spans[0].start_at if status.spans else status.since
        placed = replace(record, placement=self._placed(record, began_at or self._clock.now()))
        if placed.placement is None:
            return record
        if record.state is _S.HELD:
            placed = self._lifecycle.change(
                placed, _S.QUEUED, kind="released", reason="by its user, on the cluster"
            )
        return self._dispatcher.take_up(placed, reason=f"it began on {cluster_id} without us")

    def _tend(self, record: JobRecord, native: NativeJob) -> JobRecord:
        """It waits: its user may have held it, let it go, or chosen a time."""
        if record.state is _S.HELD:
            return record if native.is_held else self._released(record)
        if record.state not in (_S.QUEUED, _S.PLANNED, _S.SUSPENDED):
            return record
        if native.is_held:
            held = replace(record, placement=None, is_pinned=False)
            return self._lifecycle.change(
                held, _S.HELD, kind="held", reason="by its user, on the cluster"
            )
        if _is_chosen(native, self._clock.now()):
            return self._chosen(record, native)
        if native.is_reworded:
            record = self._reworded(record, native)
        self._keep_guard(record, native)
        return record

    def _reworded(self, record: JobRecord, native: NativeJob) -> JobRecord:
        """Its user asks for something else: it is planned anew, or stays as it was where that is wrong."""
        (cluster_id, *_) = record.job.cluster_ids
        cluster = self._clusters[cluster_id]
        assert isinstance(cluster, AdoptingCluster)
        try:
            job = self._build(cluster_id, native, self._clock.now())
        except InvalidInputError as error:
            self._refuse(cluster_id, cluster, native, f"{error.message}; its plan stays as it was")
            return record
        job = replace(job, job_id=record.job.job_id, submitted_at=record.job.submitted_at)
        anew = replace(record, job=job, placement=None, is_pinned=False)
        if record.state is _S.PLANNED:
            anew = self._lifecycle.change(
                anew, _S.QUEUED, kind="amended", reason="by its user, on the cluster"
            )
        else:
            anew = self._lifecycle.note(anew, kind="amended", detail="by its user, on the cluster")
        # Stored first: should we die now, it is still another than the one that was adopted.
        cluster.adopt(native.ref, job_id=job.job_id, guard_at=self._guard_at(anew))
        return anew

    def _released(self, record: JobRecord) -> JobRecord:
        to = _S.SUSPENDED if record.runs else _S.QUEUED
        return self._lifecycle.change(
            record, to, kind="released", reason="by its user, on the cluster"
        )

    def _chosen(self, record: JobRecord, native: NativeJob) -> JobRecord:
        """Its user chose a start: the plan follows."""
        start_at = native.starts_at
        is_known = record.placement is not None and record.placement.window.start_at == start_at
        if start_at is None or (record.is_pinned and is_known):
            return record
        placement = self._placed(record, start_at)
        if placement is None:
            return record
        detail = f"its user chose {format_instant(start_at)}"
        pinned = replace(record, placement=placement, is_pinned=True)
        if record.state is _S.QUEUED:
            return self._lifecycle.change(pinned, _S.PLANNED, kind="start_chosen", reason=detail)
        return self._lifecycle.note(
            replace(pinned, reason=detail), kind="start_chosen", detail=detail
        )

    def _keep_guard(self, record: JobRecord, native: NativeJob) -> None:
        guard_at = self._guard_at(record)
        cluster = self._clusters[record.job.cluster_ids[0]]
        assert isinstance(cluster, AdoptingCluster)
        has_passed = native.guard_at is not None and native.guard_at <= self._clock.now()
        if native.guard_at != guard_at and not has_passed:
            cluster.adopt(native.ref, job_id=record.job.job_id, guard_at=guard_at)

    def _news(self, record: JobRecord) -> tuple[News, str]:
        """What its user is to know while it waits."""
        if record.state is _S.HELD:
            return News.HELD, "held by its user"
        guard_at, placement = self._guard_at(record), record.placement
        if guard_at <= self._clock.now() and record.job.earliest_start_at <= self._clock.now():
            return News.WAITING, "late; starts as soon as it can"
        latest = f"starts by {_minute(guard_at)} at the latest"
        if placement is None:
            return News.WAITING, f"not planned yet: {latest}"
        window = next(
            (one for one in placement.segments if one.end_at > self._clock.now()),
            placement.segments[-1],
        )
        if window.start_at <= self._clock.now():
            return News.WAITING, f"due, waits for room; {latest}"
        verb = "goes on" if record.runs else "planned for"
        at = "" if placement.planned_g is None else f" at {_mean_g_per_kwh(placement):.0f} g/kWh"
        start_at = min(window.start_at, guard_at)  # a plan may use the minutes that its guard keeps
        return News.PLANNED, f"{verb} {_minute(start_at)}{at}, {latest}"

    def _placed(self, record: JobRecord, start_at: datetime) -> Placement | None:
        """A placement of what is left to do, in one piece from that time on."""
        return self._planning.place_at(record, start_at, self._store.active_jobs())


def _is_chosen(native: NativeJob, now: datetime) -> bool:
    """Whether its user moved the start away from the guard; once both are past, there is nothing to choose."""
    if native.guard_at is None or native.starts_at is None:
        return False
    return native.starts_at != native.guard_at and max(native.starts_at, native.guard_at) > now


def _is_paused(record: JobRecord) -> bool:
    """Whether its run waits between two stretches."""
    return record.state in (_S.SUSPENDED, _S.HELD) and record.run is not None


def _mean_g_per_kwh(placement: Placement) -> float:
    assert placement.planned_g is not None
    return placement.planned_g / placement.energy_kwh if placement.energy_kwh else 0.0


def _minute(at: datetime) -> str:
    """For people, who are not told anew for the sake of seconds."""
    return at.strftime("%Y-%m-%dT%H:%MZ")


def _is_without_run(record: JobRecord) -> bool:
    return record.state in _NOT_BEGUN and record.run is None


def _name(record: JobRecord) -> str:
    assert record.job.native is not None
    return native_name(record.job.native.ref)
