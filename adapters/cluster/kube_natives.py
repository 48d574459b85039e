"""Jobs that users gave to Kubernetes themselves, suspended: found by their annotations, planned, and let start in place.

They may be of any kind of `kube_kinds`.

All that is known of them is at the Jobs: a service that lost its store finds them again, and the guard, which has none,
starts each by its latest safe start.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from adapters.cluster.kube_events import PodlessReasons
from adapters.cluster.kube_guard import STARTED, KubeGuard
from adapters.cluster.kube_native_books import NativeBooks
from adapters.cluster.kube_native_devices import find_wanted
from adapters.cluster.kube_native_hand import Notes, shortened
from adapters.cluster.kube_native_record import (
    ADOPTED,
    BY_USER,
    CANCELLED,
    GIVEN_BACK,
    GUARD,
    HOLD,
    MARKS,
    PAUSED,
    REFUSED,
    REFUSED_WORDS,
    RELEASED,
    SINCE,
    SPANS,
    STATUS,
    WORDS_OF,
    KubeNative,
    Place,
    guard_stamp,
    parse_ref,
    stamp,
)
from adapters.cluster.kube_native_status import (
    build_native_status,
    is_empty,
    kept_spans,
    parse_spans,
    spans_text,
)
from adapters.cluster.kube_objects import KubeDevice
from adapters.cluster.kube_records import KubePod, seconds
from adapters.cluster.kube_refusals import KubeRefusedError, Refusal
from adapters.cluster.kube_status import merged_spans, trouble_of
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
)
from scheduler.ports import NATIVE, Clock, Dispatch, NativeJob, News, RunState, RunStatus

ADOPT_WITHIN_S: Final = 60.0
"""A job that is late is adopted before it is started, unless that fails for so long."""
PARK_S: Final = 60.0
"""A paused job whose guard has passed is not started by it for so long, so that the guard can be moved."""
ASIDE_S: Final = 600.0
"""So long is a Job left alone of which the server takes no change."""
_OF_THE_JOB: Final = (Refusal.INVALID, Refusal.POLICY, Refusal.OTHER)
"""Refusals for what a Job is: others of the same cluster may fare better."""
_TRIES: Final = 3
"""Of a change whose Job is changed by others meanwhile."""
_FAR_S: Final = 1e7
_STARTED: Final[Notes] = {PAUSED: None, GIVEN_BACK: None}
"""Marks that go when a Job is let start."""
_REASONS: Final = {
    News.PLANNED: "GridtidePlanned",
    News.WAITING: "GridtideWaiting",
    News.HELD: "GridtideHeld",
}


class KubeNatives:
    """Finds and steers users' Jobs; see `AdoptingCluster`.

    Args:
        books: what is known of the Jobs, and changes them.
        capacity: devices of each accelerator, at most.
        free: how many are free now.
        note_unstarted: told of devices that were asked for in vain, and why.
        start_s: so long may a start take before the Job is given back.
        wall: wall clock in Unix seconds.
    """

    def __init__(  # noqa: PLR0913 - what a cluster consists of
        self,
        cluster_id: str,
        books: NativeBooks,
        *,
        devices: Mapping[str, KubeDevice],
        capacity: Mapping[str, int],
        free: Callable[[], Mapping[str, int]],
        note_unstarted: Callable[[str, int, str], None],
        start_s: float,
        guard: KubeGuard,
        clock: Clock,
        wall: Callable[[], float],
    ) -> None:
        self._cluster_id = cluster_id
        self._books = books
        self._devices = dict(devices)
        self._capacity = dict(capacity)
        self._free = free
        self._note_unstarted = note_unstarted
        self._start_s = start_s
        self._podless = {
            namespace: PodlessReasons(books.client, namespace=namespace, wall=wall)
            for namespace in {place.namespace for place in books.places}
        }
        self._guard = guard
        self._clock = clock
        self._wall = wall
        self._seen_s: dict[str, float] = {}
        self._overdue: dict[str, str] = {}
        self._aside: dict[str, tuple[float, str]] = {}

    # ------------------------------------------------------------------ taking in

    def native_jobs(self) -> list[NativeJob]:
        """See `AdoptingCluster`; no request, where nobody has done anything."""
        here, now_s = self._books.reachable(), self._wall()
        self._aside = {ref: one for ref, one in self._aside.items() if one[0] > now_s}
        for job in self._books.jobs(here):
            self._mind(job.ref, partial(self._books.follow, job))
            self._mind(job.ref, partial(self._settle, job))
        self._books.answer(here, is_ours=_is_up_to_us)
        self._start_overdue(here)
        listed = [job for job in self._books.jobs(here) if _is_up_to_us(job)]
        self._seen_s = {job.ref: self._seen_s.get(job.ref, self._wall()) for job in listed}
        natives = [
            self._native(job)
            for job in listed
            if ADOPTED in job.marks or job.ref not in self._aside
        ]
        return sorted(natives, key=lambda one: (one.submitted_at, one.ref))

    def adopt(self, ref: str, *, job_id: str, guard_at: datetime) -> None:
        """See `AdoptingCluster`."""
        guard = guard_stamp(self._wall_s_of(guard_at))

        def marks(job: KubeNative) -> Notes | None:
            if not job.waits:
                return None
            return {
                ADOPTED: job_id,
                GUARD: guard,
                WORDS_OF: job.digest,
                REFUSED: None,
                REFUSED_WORDS: None,
            }

        self._mind(ref, lambda: self._change(ref, marks))
        job = self._books.find(ref)
        if job is not None and ADOPTED not in job.marks:
            self._require_written(ref)

    def refuse(self, ref: str, why: str) -> None:
        """See `AdoptingCluster`."""
        known = self._books.find(ref)
        why = why if known is None else shortened(why, known.words.values())

        def marks(job: KubeNative) -> Notes | None:
            return None if job.is_refused else {REFUSED: why, REFUSED_WORDS: job.digest}

        self._mind(ref, lambda: self._change(ref, marks, event=("GridtideRefused", why)))
        self._require_written(ref)

    def tell(self, ref: str, news: News, words: str) -> None:
        """See `TellingCluster`."""
        if news is News.HELD:
            words += f"; without the annotation {HOLD} it is planned"

        def marks(job: KubeNative) -> Notes | None:
            is_news = job.waits and job.marks.get(STATUS) != words
            return {STATUS: words} if is_news else None

        self._mind(ref, lambda: self._change(ref, marks, event=(_REASONS[news], words)))

    # ------------------------------------------------------------------ steering

    def submit(self, dispatch: Dispatch) -> str:
        """See `ClusterAdapter`: lets it start."""
        ref = ref_of(dispatch.name)
        job = self._books.find(ref)
        if job is None:
            raise self._rejected(ref, "was deleted")
        if not job.waits:
            if job.is_leaving and job.is_suspended:
                raise self._rejected(ref, "was deleted")
            return ref
        if job.marks.get(ADOPTED) != dispatch.job_id or not job.asks:
            raise self._rejected(ref, f"does not say any more that it is {dispatch.job_id}")
        self._let_start(job)
        return ref

    def pause(self, name: str) -> None:
        """See `ClusterAdapter`: suspends it; its pods have the time that its user gave them."""

        def marks(job: KubeNative) -> Notes | None:
            if job.is_over or job.is_leaving or job.is_suspended:
                return None
            now_s = self._wall()
            began = [pod.began_s for pod in self._books.pods_of(job) if pod.is_live and pod.began_s]
            spans = list(kept_spans(job, self._books.pods_of(job)))
            # What its pods still tell when they are gone is longer, never shorter.
            spans += [(min(began), max(float(int(now_s)), min(began) + 1))] if began else []
            guard_s = max(seconds(job.marks.get(GUARD)) or 0.0, now_s + PARK_S)
            return {
                PAUSED: stamp(now_s),
                RELEASED: None,
                SPANS: spans_text(merged_spans(spans)),
                GUARD: guard_stamp(guard_s),
                STATUS: "paused until its next window",
            }

        event = ("GridtidePaused", "paused until its next window")
        self._change(ref_of(name), marks, suspend=True, event=event)

    def resume(self, name: str) -> None:
        """See `ClusterAdapter`: lets it go on."""
        job = self._books.find(ref_of(name))
        if job is not None and job.waits and job.asks:
            self._let_start(job)

    def cancel(self, name: str) -> None:
        """See `ClusterAdapter`: suspends it for good; its user may delete it, or let it go on."""

        def marks(job: KubeNative) -> Notes | None:
            if job.is_over or CANCELLED in job.marks:
                return None
            now = stamp(self._wall())
            words = f"cancelled; take the annotation {CANCELLED} off to have it planned anew"
            return {CANCELLED: now, SINCE: now, STATUS: words}

        event = ("GridtideCancelled", "cancelled in Gridtide; it stays suspended")
        self._change(ref_of(name), marks, suspend=True, event=event)

    # ------------------------------------------------------------------ watching

    def look(self, names: Sequence[str]) -> dict[str, RunStatus]:
        """How the runs of these names stand; no request, but for those that do not start."""
        silent = {one: why for one in self._books.places if (why := self._books.trouble(one))}
        found = {}
        for name in names:
            ref = ref_of(name)
            why = silent.get(parse_ref(ref)[0]) or self._books.unread(ref)
            if why is not None:
                found[name] = RunStatus(
                    name=name, ref=ref, state=RunState.PENDING, detail=why, is_stale=True
                )
                continue
            job = self._books.known(ref)
            if job is None or not _has_trace(job):
                continue
            pods = self._books.pods_of(job)
            said = "" if pods else self._books.words(job) or self._podless[job.namespace].words(job)
            if self._is_overdue(job, pods):
                job = self._given_back(job, trouble_of(pods) or said) or job
            at = self._clock.at_wall
            found[name] = build_native_status(name, job, pods, at=at, detail=said)
        return found

    def taken(self) -> Mapping[str, int]:
        """Devices that users' Jobs hold which ask to be planned."""
        taken = Counter[str]()
        for job in self._books.jobs(self._books.places):
            if not job.asks or job.is_child:
                continue  # the pods of a child are those of its owner
            # Some kinds leave pods running after their end, for a while or for good.
            is_live = any(pod.is_live for pod in self._books.pods_now(job))
            is_open = not job.is_over and (job.n_pods or not job.is_suspended)
            if not (is_live or is_open):
                continue
            wanted = find_wanted(job, self._devices, self._capacity)
            if wanted.accelerator is not None:
                taken[wanted.accelerator] += wanted.gpus
        return taken

    def join(self, within_s: float) -> None:
        """Waits for the watches to end, after the client's stop was set."""
        self._books.join(within_s)

    def _is_overdue(self, job: KubeNative, pods: Sequence[KubePod]) -> bool:
        """Whether it was started as planned, has not begun in so long, and still has time to begin later."""
        released, now_s = job.marks.get(RELEASED, BY_USER), self._wall()
        if released.endswith(BY_USER) or job.is_over or job.is_suspended:
            return False
        if any(pod.began_s is not None for pod in pods) or SPANS in job.marks:
            return False
        guard_s = seconds(job.marks.get(GUARD)) or 0.0
        return job.began_s + self._start_s <= now_s < guard_s

    def _given_back(self, job: KubeNative, why: str) -> KubeNative | None:
        words = f"did not start within {self._start_s:g} s ({why or 'no reason is known'})"
        notes = {RELEASED: None, GIVEN_BACK: stamp(self._wall()), STATUS: words}
        event = ("GridtideWaiting", words)
        after = self._books.change(job, notes, suspend=True, event=event)
        wanted = find_wanted(job, self._devices, self._capacity)
        if after is not None and wanted.accelerator is not None:
            self._note_unstarted(wanted.accelerator, wanted.gpus, why)
        return after

    # ------------------------------------------------------------------ what users do

    def _settle(self, job: KubeNative) -> None:
        """Marks what its user has done, and keeps when it ran, as long as something tells."""
        if ADOPTED not in job.marks or job.is_over or job.is_leaving:
            return
        now = stamp(self._wall())
        if not job.is_suspended:
            if RELEASED not in job.marks:
                words = "started by its user"
                notes = {
                    RELEASED: f"{now}{BY_USER}",
                    **_STARTED,
                    HOLD: None,
                    STATUS: words,
                }
                self._books.change(job, notes, event=(STARTED, words))
        elif not job.asks:
            notes = {**dict.fromkeys(MARKS), HOLD: None, SINCE: now}
            event = ("GridtideLetGo", "not planned any more: it does not ask for it")
            self._books.change(job, notes, event=event)
        elif job.is_by_hand and CANCELLED not in job.marks:
            # From now on the annotation says so, which its user can take off.
            has_begun = SPANS in job.marks or any(pod.began_s for pod in self._books.pods_of(job))
            notes = {RELEASED: None, GIVEN_BACK: None if has_begun else now, HOLD: "true"}
            self._books.change(job, notes)
        else:
            self._keep_spans(job)

    def _keep_spans(self, job: KubeNative) -> None:
        pods = self._books.pods_of(job)
        if not is_empty(job, pods):
            return
        spans = kept_spans(job, pods)
        if spans != parse_spans(job.marks.get(SPANS, "")):
            self._books.change(job, {SPANS: spans_text(spans)})

    def _start_overdue(self, places: Sequence[Place]) -> None:
        due = [job for job in self._books.jobs(places) if not self._is_for_adopter(job)]
        books = self._books
        swept = self._guard.sweep(due, put=books.put, missed=books.refresh, follow=books.follow)
        self._overdue = dict(swept.failed)

    def _mind(self, ref: str, do: Callable[[], None]) -> None:
        """Does it; a Job of which the server takes no change, such as by a policy, holds up no other."""
        if ref in self._aside:
            return
        try:
            do()
        except ClusterUnavailableError as error:
            cause = error.__cause__
            if not isinstance(cause, KubeRefusedError) or cause.kind not in _OF_THE_JOB:
                raise
            self._aside[ref] = (self._wall() + ASIDE_S, f"{_label(ref)}: {cause}")

    def _require_written(self, ref: str) -> None:
        if ref in self._aside:
            raise self._unavailable(_label(ref), f"cannot be changed: {self._aside[ref][1]}")

    def troubles(self) -> list[str]:
        """Jobs that could not be changed, and why."""
        late = [f"{label} is late: {why}" for label, why in self._overdue.items()]
        return [*late, *(why for _, why in self._aside.values())]

    def _is_for_adopter(self, job: KubeNative) -> bool:
        """Whether it is to be adopted first, so that it is in the books even where it is late."""
        if ADOPTED in job.marks:
            return False
        seen_s = self._seen_s.get(job.ref)
        if seen_s is not None and self._wall() >= seen_s + ADOPT_WITHIN_S:
            return False
        safe = self._guard.safe_start(job) if job.asks and job.waits else None
        return safe is None or safe.deadline_at > self._clock.now()

    # ------------------------------------------------------------------ changing

    def _let_start(self, job: KubeNative) -> None:
        def marks(now: KubeNative) -> Notes | None:
            if not now.waits:
                return None
            self._require_startable(now)
            return {RELEASED: stamp(self._wall()), **_STARTED, STATUS: "started as planned"}

        self._change(job.ref, marks, suspend=False, event=(STARTED, "started as planned"))

    def _require_startable(self, job: KubeNative) -> None:
        if job.barrier:
            raise self._rejected(job.ref, f"cannot be started: {job.barrier}")
        if job.is_held:
            raise ClusterFullError(
                f"{self._cluster_id}: {job.label} is held by its user; without the annotation {HOLD} it is planned",
                cluster=self._cluster_id,
            )
        wanted = find_wanted(job, self._devices, self._capacity)
        free = self._free().get(wanted.accelerator or "", 0)
        if wanted.accelerator is not None and free < wanted.gpus:
            raise ClusterFullError(
                f"{self._cluster_id}: {wanted.gpus} {wanted.accelerator} asked; {free} are free",
                cluster=self._cluster_id,
            )

    def _change(
        self,
        ref: str,
        marks: Callable[[KubeNative], Notes | None],
        *,
        suspend: bool | None = None,
        event: tuple[str, str] | None = None,
    ) -> None:
        """Changes the Job as it is now; looks again where somebody else was faster."""
        job = self._books.find(ref)
        for _ in range(_TRIES):
            notes = None if job is None else marks(job)
            if job is None or notes is None:
                return
            if self._books.change(job, notes, suspend=suspend, event=event) is not None:
                return
            job = self._books.find(ref)
        raise self._unavailable(_label(ref), "is changed by others all the time")

    # ------------------------------------------------------------------ reading

    def _native(self, job: KubeNative) -> NativeJob:
        wanted = find_wanted(job, self._devices, self._capacity)
        guard_s = seconds(job.marks.get(GUARD))
        guard_at = None if guard_s is None else _rounded(self._clock.at_wall(guard_s))
        return NativeJob(
            ref=job.ref,
            submitted_at=self._clock.at_wall(job.since_s),
            name=job.name,
            user=job.namespace,
            words=job.words,
            accelerator=wanted.accelerator,
            gpus=wanted.gpus,
            num_nodes=wanted.nodes,
            limit_s=job.limit_s,
            job_id=job.marks.get(ADOPTED),
            is_held=job.is_held,
            starts_at=None if job.is_held else guard_at,
            guard_at=guard_at,
            trouble=job.barrier or wanted.trouble,
            is_reworded=job.is_reworded and not job.is_refused,
        )

    def _wall_s_of(self, at: datetime) -> float:
        """The wall-clock instant at which the service's time is that; its clock runs evenly."""
        wall_s = self._wall()
        here, ahead = self._clock.at_wall(wall_s), self._clock.at_wall(wall_s + _FAR_S)
        return wall_s + (at - here) / (ahead - here) * _FAR_S

    def _rejected(self, ref: str, why: str) -> DispatchRejectedError:
        return DispatchRejectedError(
            f"{self._cluster_id}: {_label(ref)} {why}", cluster=self._cluster_id
        )

    def _unavailable(self, label: str, why: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"{self._cluster_id}: {label} {why}", cluster=self._cluster_id
        )


def ref_of(name: str) -> str:
    """`KubeNative.ref` of the Job whose run has that name."""
    return name.removeprefix(NATIVE)


def _label(ref: str) -> str:
    """For people."""
    return ref.rpartition("/")[0]


def _rounded(at: datetime) -> datetime:
    """Guards are whole seconds of the service's clock, which a wall clock tells nearly."""
    return (at + timedelta(milliseconds=500)).replace(microsecond=0)


def _is_up_to_us(job: KubeNative) -> bool:
    """Whether it waits, and asks us when to start."""
    if not job.asks or not job.waits or CANCELLED in job.marks:
        return False
    return ADOPTED in job.marks or not job.is_refused


def _has_trace(job: KubeNative) -> bool:
    """Whether it is still ours to follow: not one that waits and does not ask any more, or is being deleted."""
    return not job.is_suspended or job.is_over or (job.asks and not job.is_leaving)
