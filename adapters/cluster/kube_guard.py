"""Starts users' jobs whose latest safe start has passed, because nobody else did.

It needs no memory and no other process: all that it goes by is at the Jobs. So several may do it at once; a Job that one
of them starts is not what the others saw any more.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_kinds import JOB, KubeKind
from adapters.cluster.kube_native_hand import change, note_event
from adapters.cluster.kube_native_record import (
    CANCELLED,
    GIVEN_BACK,
    GUARD,
    PAUSED,
    RELEASED,
    STATUS,
    KubeNative,
    parse_native,
    stamp,
)
from adapters.cluster.kube_records import MANAGED_BY, seconds
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError
from adapters.cluster.kueue_checks import vouch_for
from adapters.cluster.kueue_natives import QueuedNatives
from adapters.cluster.kueue_workloads import Kueue, Workloads
from scheduler.core.timegrid import format_instant
from scheduler.ports import Clock

OTHERS: Final = f"{MANAGED_BY}!=gridtide"
"""Selects Jobs that are not runs of ours."""
STARTED: Final = "GridtideStarted"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeStart:
    """By when a job must be started for its deadline, by its user's words alone."""

    start_at: datetime
    deadline_at: datetime


FindSafeStart = Callable[[Mapping[str, str], datetime, int | None], SafeStart | None]
"""Of words, since when they are there, and the run time at which the cluster ends the job; None where they are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one look has done.

    Args:
        started: names for people, in the order of their latest starts.
        failed: why one could not be started, by its name.
    """

    started: tuple[str, ...]
    failed: Mapping[str, str]


class KubeGuard:
    """Looks at Jobs, and starts those that are due.

    Args:
        wall: wall clock in Unix seconds.
        kueue: where the cluster has it.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        find_safe_start: FindSafeStart,
        clock: Clock,
        wall: Callable[[], float],
        kueue: Kueue | None = None,
    ) -> None:
        self._client = client
        self._kueue = kueue
        self._find_safe_start = find_safe_start
        self._clock = clock
        self._wall = wall

    def look(self, namespace: str, kind: KubeKind) -> Swept:
        """Starts what is due of that kind in that namespace; one list, and a change for each job that is.

        Raises:
            KubeRefusedError, KubeSilentError: the Jobs cannot be listed.
        """
        trouble = dict[str, str]()
        queued = self._queued(namespace, trouble) if kind is JOB else None
        listing = self._client.list_all(kind.path(namespace), selector=OTHERS)
        jobs = [parse_native(one, kind) for one in listing.items]
        if queued is None:
            swept = self.sweep(jobs)
        else:
            jobs = [queued.seen(job) for job in jobs]
            swept = self.sweep(jobs, follow=queued.follow)
            with _told(trouble, f"what waits for our check in {namespace}"):
                queued.answer(jobs, is_ours=self._is_ours, is_all=True)
        return Swept(started=swept.started, failed={**swept.failed, **trouble})

    def sweep(
        self,
        jobs: Iterable[KubeNative],
        *,
        put: Callable[[KubeNative], object] = lambda _: None,
        missed: Callable[[KubeNative], object] = lambda _: None,
        follow: Callable[[KubeNative], object] = lambda _: None,
    ) -> Swept:
        """Starts those of these Jobs that are due.

        Args:
            jobs: as seen.
            put: is given each as it is then.
            missed: is given what has changed meanwhile.
            follow: is given each after that, to have its queue let it go.
        """
        now = self._clock.now()
        started, failed = list[str](), dict[str, str]()
        due = list[tuple[datetime, KubeNative]]()
        for job in jobs:
            try:
                at = self.due_at(job)
            except Exception as error:  # noqa: BLE001 - what one user writes must not cost the others their start
                failed[job.label] = f"it cannot be understood: {error!r}"
                continue
            if at is not None and at <= now:
                due.append((at, job))
        for at, job in sorted(due, key=lambda one: (one[0], one[1].label)):
            try:
                after = self._start(job, at)
                if after is not None:
                    put(after)
                    follow(after)
            except KubeRefusedError as error:
                failed[job.label] = str(error)
                continue
            except KubeSilentError as error:
                failed[job.label] = str(error)
                break  # the others would wait for the same silence; the next look tries all again
            if after is None:
                missed(job)
            else:
                started.append(job.label)
        return Swept(started=tuple(started), failed=failed)

    def _queued(self, namespace: str, trouble: dict[str, str]) -> QueuedNatives | None:
        """What is in queues there, as of now: listed before the Jobs, so that each of these is known.

        None where that cannot be had, which is no reason to leave other Jobs alone.
        """
        if self._kueue is None:
            return None
        if (check := self._kueue.check) is not None:
            with _told(trouble, f"AdmissionCheck {check}"):
                vouch_for(self._client, check, wall_s=self._wall())
        found: QueuedNatives | None = None
        with _told(trouble, f"queues of Kueue in {namespace}"):
            workloads = Workloads(self._client, namespace, kueue=self._kueue, wall=self._wall)
            workloads.look()
            found = QueuedNatives(workloads)
        return found

    def _is_ours(self, job: KubeNative) -> bool:
        """Whether one that asks is still to be held: by its user, or until its words or a mark say when."""
        return job.is_held or (RELEASED not in job.marks and self.due_at(job) is not None)

    def due_at(self, job: KubeNative) -> datetime | None:
        """When it is to start whatever becomes of others; None where it is not ours to start."""
        if not may_start(job):
            return None
        guard_s = seconds(job.marks.get(GUARD))
        marked_at = None if guard_s is None else self._clock.at_wall(guard_s)
        if marked_at is not None and not job.is_reworded:
            return marked_at
        if marked_at is None and job.is_refused:
            return None
        own = self.safe_start(job)
        return marked_at if own is None else own.start_at

    def safe_start(self, job: KubeNative) -> SafeStart | None:
        """By its user's words alone; None where they are wrong."""
        since_at = self._clock.at_wall(job.since_s)
        return self._find_safe_start(job.words, since_at, job.limit_s)

    def _start(self, job: KubeNative, due_at: datetime) -> KubeNative | None:
        now_s = self._wall()
        latest = format_instant(due_at.replace(microsecond=0))
        words = f"started because its latest safe start, {latest}, has come"
        notes = {RELEASED: stamp(now_s), PAUSED: None, GIVEN_BACK: None, STATUS: words}
        after = change(self._client, job, notes, suspend=False)
        if after is not None:
            note_event(self._client, after, STARTED, words, wall_s=now_s)
        return after


@contextlib.contextmanager
def _told(trouble: dict[str, str], subject: str) -> Iterator[None]:
    """Notes why something could not be done, and goes on."""
    try:
        yield
    except (KubeRefusedError, KubeSilentError) as error:
        trouble[subject] = str(error)


def may_start(job: KubeNative) -> bool:
    """Whether its start is ours to decide on."""
    is_ours = job.asks and job.waits and not job.is_held and not job.barrier
    return is_ours and CANCELLED not in job.marks
