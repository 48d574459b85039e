"""A Kubernetes cluster: each run is a Job, paused by suspending it."""

import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from adapters.cluster.kube_book import KubeBook, Selectors
from adapters.cluster.kube_capacity import KubeCapacity
from adapters.cluster.kube_checks import KubeChecks, sample_dispatch
from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_errors import creation_error, explained
from adapters.cluster.kube_events import PodlessReasons
from adapters.cluster.kube_gate import KubeGate, KueueGate
from adapters.cluster.kube_manifests import ManifestPlace, build_run, needs_service
from adapters.cluster.kube_objects import (
    KubeDevice,
    KubeTerms,
    build_service,
    is_sendable,
    object_name,
    selector_of,
)
from adapters.cluster.kube_records import (
    ENDING,
    INSTANCE,
    MANAGED_BY,
    OUTCOME,
    KubeJob,
    KubePod,
    parse_job,
)
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError, Refusal
from adapters.cluster.kube_status import (
    Ending,
    build_status,
    has_left,
    is_unstarted,
    outcome_of,
    trouble_of,
)
from adapters.cluster.kube_trials import try_job
from adapters.cluster.kube_watch import WatchPace
from adapters.cluster.kueue_workloads import Kueue
from scheduler.core.errors import ClusterFullError, DispatchRejectedError
from scheduler.core.outlook import Outlook
from scheduler.core.slurm_terms import JobSlurm
from scheduler.core.timegrid import Window
from scheduler.ports import Capability, Check, Clock, Dispatch, RunState, RunStatus, Trial

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
DOUBT_S: Final = 90.0
"""A request whose reply was lost may be acted upon for so long: API servers give up after 60 s."""
MISSING_S: Final = 3600.0
"""What others hold is taken to last so long: a namespace does not tell."""
SWEEP_EVERY_S: Final = 600.0
_LEAVE_S: Final = 2.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubePatience:
    """How long things may take. Seconds.

    Args:
        start_s: until the first container of a run starts; then it is sent away, to be planned anew.
        watch: how often the copies of Jobs and pods ask.
    """

    start_s: float = 600.0
    watch: WatchPace = field(default_factory=WatchPace)


class KubernetesCluster:
    """See `ClusterAdapter`.

    Args:
        namespace: where the Jobs are.
        capacity: devices of each accelerator, at most.
        devices: how each is asked for.
        prefix: begins the names of our Jobs.
        kueue: where Jobs may be in its queues.
        wall: wall clock in Unix seconds.
    """

    def __init__(  # noqa: PLR0913 - a cluster has this many sides
        self,
        cluster_id: str,
        *,
        client: KubeClient,
        namespace: str,
        capacity: Mapping[str, int],
        devices: Mapping[str, KubeDevice],
        terms: KubeTerms,
        clock: Clock,
        prefix: str = "gt-",
        patience: KubePatience | None = None,
        kueue: Kueue | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - Kubernetes lives on wall time
    ) -> None:
        self._cluster_id = cluster_id
        self._client = client
        self._namespace = namespace
        self._devices = dict(devices)
        self._configured = dict(capacity)
        self._terms = terms
        self._clock = clock
        self._prefix = prefix
        self._patience = patience or KubePatience()
        self._wall = wall
        self._tell: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._known = dict[str, str]()
        self._doubtful_s: dict[str, float] = {}
        self._podless = PodlessReasons(client, namespace=namespace, wall=wall)
        self._swept_s = wall()
        pace = self._patience.watch
        self._queued = kueue.workloads(client, namespace, wall=wall, pace=pace) if kueue else None
        self._gate = KueueGate(self._patch, self._queued) if self._queued else KubeGate(self._patch)
        self._book = KubeBook(
            cluster_id,
            client,
            namespace=namespace,
            selectors=Selectors(selector_of(terms), selector_of(terms)),
            parse=parse_job,
            tell_end=self._note_end,
            pace=pace,
            also=[self._queued.copy] if self._queued else (),
        )
        self._capacity = KubeCapacity(
            client,
            namespace=namespace,
            configured=capacity,
            devices=self._devices,
            taken=self._taken,
            begun=lambda: self._taken(has_begun=True),
        )

    @property
    def cluster_id(self) -> str:
        """Name in the configuration."""
        return self._cluster_id

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Checkpoints, where something keeps them."""
        keeps = self._terms.checkpoint_claim is not None
        return frozenset({Capability.CHECKPOINT} if keeps else ())

    def submit(self, dispatch: Dispatch) -> str:
        """See `ClusterAdapter`."""
        device, each = self._require_askable(dispatch)
        name = object_name(dispatch.name, self._prefix)
        with self._lock:
            self._book.require_current()
            job = self._book.jobs.find(name)
            room = None if job else self._lack_of_room(dispatch)
            if room is not None:
                # The copy may be behind: one that is there already must not be taken for refused.
                job = self._book.find(name)
                if job is None:
                    raise room
            if job is not None and self._is_ours(job, dispatch.name) and is_unstarted(job):
                self._delete(job)  # nothing of it has run, and now it is wanted again
                job = None
            if job is None:
                job = self._create(dispatch, name, device=device, each=each)
            self._require_ours(job, dispatch)
            if needs_service(dispatch) and not job.is_over:
                self._create_service(name, job)
            self._known[dispatch.name] = name
            self._doubtful_s.pop(dispatch.name, None)
            return name

    def try_out(self, dispatch: Dispatch) -> Trial:
        """See `TryingCluster`; one request."""
        try:
            device, each = self._require_askable(dispatch)
        except DispatchRejectedError as error:
            return Trial(refused=error.message)
        document = self._document(dispatch, device=device, each=each)
        return try_job(self._client, document, namespace=self._namespace)

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        """See `ClusterAdapter`."""
        if not names:
            return {}
        self._book.require_current()
        self._sweep()
        statuses = {name: self._look(name) for name in names}
        return {name: status for name, status in statuses.items() if status is not None}

    def pause(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        self._send_away(name, grace_s=grace_s)

    def resume(self, name: str) -> None:
        """See `ClusterAdapter`: lets a run go on that somebody else has suspended."""
        job = self._find_ours(name)
        if job is None or job.is_over or job.ending or not job.is_suspended:
            return
        accelerator, gpus = job.devices or ("", 0)
        if self.free_devices().get(accelerator, 0) < gpus:
            raise ClusterFullError(
                f"{self._cluster_id}: the devices of {name} are in use", cluster=self._cluster_id
            )
        self._asked(lambda: self._gate.open(job))

    def cancel(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        self._send_away(name, grace_s=grace_s)

    def free_devices(self, slurm: JobSlurm | None = None) -> Mapping[str, int]:
        """See `ClusterAdapter`."""
        self._book.require_current()
        return self._asked(self._capacity.free)

    def outlook(self) -> Outlook:
        """See `ForeseeingCluster`: what quotas, nodes and starts that failed let us know; assumed to last a while."""
        self._book.require_current()
        now_s = self._wall()
        window = Window(self._clock.at_wall(now_s), self._clock.at_wall(now_s + MISSING_S))
        return self._asked(lambda: self._capacity.outlook(self._cluster_id, window))

    def tell_ends(self, tell: Callable[[], None]) -> None:
        """See `ClusterAdapter`."""
        self._tell = tell

    @property
    def place(self) -> ManifestPlace:
        """What a user's own Job meets here."""
        return ManifestPlace(
            namespace=self._namespace, devices=self._devices, capacity=self._configured
        )

    def checks(self) -> list[Check]:
        """See `ClusterAdapter`."""
        sample = sample_dispatch(next(iter(self._devices)))
        return KubeChecks(
            self._cluster_id,
            self._client,
            namespace=self._namespace,
            sample=self._document(sample, device=self._devices[sample.accelerator], each=1),
            free_devices=lambda: (self.free_devices(), self._capacity.words()),
            terms=self._terms,
            queued=self._queued,
        ).build()

    def close(self) -> None:
        """Ends the watches; the runs go on."""
        self._client.link.stop.set()
        self._book.join(_LEAVE_S)
        self._client.link.close()

    # ------------------------------------------------------------------ submitting

    def _require_askable(self, dispatch: Dispatch) -> tuple[KubeDevice, int]:
        """How the devices are asked for, and how many by each pod."""
        device = self._devices.get(dispatch.accelerator)
        each, rest = divmod(dispatch.gpus, dispatch.num_nodes)
        texts = (*dispatch.command, dispatch.workdir or "", *map("".join, dispatch.env))
        why = None
        if not _NAME.fullmatch(dispatch.name) or not _NAME.fullmatch(dispatch.checkpoint_key):
            why = f"{dispatch.name!r} cannot name a run and a folder"
        elif device is None:
            known = ", ".join(sorted(self._devices)) or "none"
            why = f"it has no {dispatch.accelerator}; it has {known}"
        elif rest or not each:
            why = f"{dispatch.gpus} devices cannot be shared out over {dispatch.num_nodes} nodes"
        elif dispatch.gpus > (most := self._configured.get(dispatch.accelerator, 0)):
            why = f"{dispatch.gpus} {dispatch.accelerator} asked, but it has only {most}"
        elif not all(map(is_sendable, texts)):
            why = f"{dispatch.name} has a text that no Job can hold: not Unicode, or with NUL"
        if why or device is None:
            raise DispatchRejectedError(f"{self._cluster_id}: {why}", cluster=self._cluster_id)
        return device, each

    def _lack_of_room(self, dispatch: Dispatch) -> ClusterFullError | None:
        free = self.free_devices().get(dispatch.accelerator, 0)
        if free >= dispatch.gpus:
            return None
        return ClusterFullError(
            f"{self._cluster_id}: {dispatch.gpus} {dispatch.accelerator} asked; {free} are free",
            cluster=self._cluster_id,
        )

    def _create(self, dispatch: Dispatch, name: str, *, device: KubeDevice, each: int) -> KubeJob:
        document = self._document(dispatch, device=device, each=each)
        try:
            made = self._client.create(path_of("jobs", self._namespace), document)
        except KubeRefusedError as error:
            if error.kind is Refusal.EXISTS and (job := self._book.find(name)) is not None:
                return job
            raise creation_error(self._cluster_id, error, namespace=self._namespace) from error
        except KubeSilentError as error:
            if error.was_sent:
                self._doubtful_s[dispatch.name] = time.monotonic() + DOUBT_S
            raise creation_error(self._cluster_id, error, namespace=self._namespace) from error
        return self._book.jobs.put(made)

    def _document(self, dispatch: Dispatch, *, device: KubeDevice, each: int) -> dict[str, Any]:
        name = object_name(dispatch.name, self._prefix)
        return build_run(dispatch, name=name, terms=self._terms, device=device, each=each)

    def _require_ours(self, job: KubeJob, dispatch: Dispatch) -> None:
        if not self._is_ours(job, dispatch.name):
            raise DispatchRejectedError(
                f"{self._cluster_id}: there is a Job {job.name} in namespace {self._namespace} that is not of "
                f"{dispatch.name}; delete it, or set kubernetes.prefix",
                cluster=self._cluster_id,
            )

    def _is_ours(self, job: KubeJob, run: str) -> bool:
        return job.run == run and job.instance == self._terms.instance

    def _create_service(self, name: str, job: KubeJob) -> None:
        """By which the pods find each other; made after the Job, with which it goes."""
        labels = {MANAGED_BY: "gridtide", INSTANCE: self._terms.instance}
        document = build_service(name, job.owner, labels)
        try:
            self._client.create(path_of("services", self._namespace), document)
        except KubeRefusedError as error:
            if error.kind is Refusal.EXISTS:
                return
            self._delete(job)
            words = explained(error, self._namespace)
            raise DispatchRejectedError(
                f"{self._cluster_id}: {job.run} needs a Service on several nodes: {words}",
                cluster=self._cluster_id,
            ) from error
        except KubeSilentError as error:
            # The Job is there: asked again, it gets its Service.
            raise creation_error(self._cluster_id, error, namespace=self._namespace) from error

    # ------------------------------------------------------------------ watching

    def _find_ours(self, name: str) -> KubeJob | None:
        self._book.require_current()
        job = self._book.find(object_name(name, self._prefix))
        return self._gate.seen(job) if job is not None and self._is_ours(job, name) else None

    def _look(self, name: str) -> RunStatus | None:
        ref = object_name(name, self._prefix)
        if (why := self._book.jobs.unread(ref)) is not None:
            return RunStatus(name=name, ref=ref, state=RunState.PENDING, detail=why, is_stale=True)
        job = self._find_ours(name)
        if job is None:
            return self._absent(name)
        self._known[name] = job.name
        self._doubtful_s.pop(
            name, None
        )  # it was created: from now on one that is not there was deleted
        pods = self._book.pods_of(job)
        if has_left(job, pods):
            job = self._with_outcome(job, pods)
        elif job.ending and not job.is_over:
            self._asked(lambda: self._gate.keep_shut(job))
        elif self._is_overdue(job, pods):
            self._give_up(job, pods)
        else:
            self._asked(lambda: self._gate.keep_open(job))
        detail = "" if pods or job.is_over else self._words(job)
        status = build_status(name, job, pods, at=self._clock.at_wall, detail=detail)
        if status.state in (RunState.ENDED, RunState.UNSTARTED):
            self._known.pop(name, None)
            self._podless.forget(job)
        return status

    def _absent(self, name: str) -> RunStatus | None:
        """What to say of a run that has no Job."""
        doubtful_s = self._doubtful_s.get(name)
        if doubtful_s is not None:
            if time.monotonic() < doubtful_s:
                waiting = "the reply to its creation was lost; it may still be created"
                return RunStatus(
                    name=name, ref="", state=RunState.PENDING, detail=waiting, is_stale=True
                )
            del self._doubtful_s[name]
        ref = self._known.get(name)
        if ref is None:
            return None
        gone = "its Job was deleted, not by Gridtide"
        return RunStatus(name=name, ref=ref, state=RunState.LOST, detail=gone)

    def _with_outcome(self, job: KubeJob, pods: Sequence[KubePod]) -> KubeJob:
        """The Job with its outcome kept on it: nothing else tells of it once its pods are gone."""
        notes = {OUTCOME: outcome_of(job, pods).text()}
        # Only on what was seen: another who was faster may have seen more.
        patch = {"metadata": {"annotations": notes, "resourceVersion": job.version}}
        return self._patch(job, patch) or job

    def _is_overdue(self, job: KubeJob, pods: Sequence[KubePod]) -> bool:
        """Whether it has not begun in so long that it is better off elsewhere, or later."""
        has_begun = any(pod.began_s is not None for pod in pods)
        # Kueue may send one back whose pods never began; where none is known, it may have run unseen.
        is_held = job.is_suspended and not (job.queue and pods)
        is_waiting = not (job.is_over or is_held or has_begun)
        return is_waiting and self._wall() >= job.began_s + self._patience.start_s

    def _give_up(self, job: KubeJob, pods: Sequence[KubePod]) -> None:
        why = trouble_of(pods) or self._words(job) or "no reason is known"
        if job.devices is not None:
            self._capacity.note_unstarted(
                *job.devices, why, labels=job.node_labels, is_queued=bool(job.queue)
            )
        words = f"it did not start within {self._patience.start_s:g} s ({why})"
        self._suspend(job, Ending(unstarted=words))

    def _words(self, job: KubeJob) -> str:
        return self._gate.words(job) or self._podless.words(job)

    def _note_end(self) -> None:
        self._tell()

    def _sweep(self) -> None:
        """Deletes Jobs that were sent away long ago; the cluster itself deletes those that ended by themselves."""
        now_s = self._wall()
        if now_s < self._swept_s + SWEEP_EVERY_S:
            return
        self._swept_s = now_s
        for job in map(self._gate.seen, self._book.jobs.items()):
            is_old = job.suspended_s is not None and now_s > job.suspended_s + self._terms.keep_s
            if job.outcome and not job.end and is_old:
                self._delete(job)

    # ------------------------------------------------------------------ capacity

    def _taken(self, *, has_begun: bool = False) -> Mapping[str, int]:
        """Devices that runs hold or wait for; or of those alone that have a pod which has started."""
        taken = Counter[str]()
        for job in map(self._gate.seen, self._book.jobs.items()):
            if job.devices is not None and self._is_holding(job, has_begun=has_begun):
                taken[job.devices[0]] += job.devices[1]
        return taken

    def _is_holding(self, job: KubeJob, *, has_begun: bool) -> bool:
        """Whether its pods have devices, or (unless `has_begun`) will."""
        pods = self._book.pods.members(job.owner)
        may_come = not (job.is_over or job.is_empty or has_begun)
        return may_come or any(pod.is_live and (pod.began_s or not has_begun) for pod in pods)

    # ------------------------------------------------------------------ ending

    def _send_away(self, name: str, *, grace_s: float) -> None:
        """Asks a run to leave: its Job stays, suspended, and keeps what became of it.

        So its name stays taken, and nothing is started twice. Asked again, the first grace holds.
        """
        job = self._find_ours(name)
        if job is None or job.is_over or job.ending:
            return
        pods = self._book.pods_of(job)
        began = [pod.began_s for pod in pods if pod.began_s is not None]
        self._suspend(job, Ending(began_s=min(began, default=None)))
        if grace_s < job.grace_s and not job.queue:  # there they leave when Kueue says so, not now
            self._hurry(pods, grace_s)

    def _suspend(self, job: KubeJob, ending: Ending) -> None:
        self._asked(lambda: self._gate.shut(job, {ENDING: ending.text()}))

    def _hurry(self, pods: Sequence[KubePod], grace_s: float) -> None:
        """Gives pods less time than they were made with; 1 s at least, as 0 would not wait for their end."""
        for pod in pods:
            if not pod.is_live:
                continue
            path = path_of("pods", self._namespace, pod.name)
            try:
                self._client.delete(path, uid=pod.uid, grace_s=max(1, math.ceil(grace_s)))
            except KubeRefusedError as error:
                if error.kind not in (Refusal.RIGHT, Refusal.CONFLICT):
                    raise self._book.unavailable(error) from error
            except KubeSilentError as error:
                raise self._book.unavailable(error) from error

    def _asked(self, ask: Callable[[], _T]) -> _T:
        try:
            return ask()
        except (KubeRefusedError, KubeSilentError) as error:
            raise self._book.unavailable(error) from error

    def _patch(self, job: KubeJob, patch: dict[str, Any]) -> KubeJob | None:
        """The Job after the patch, if it still is the same one; None where it is gone, or has changed."""
        patch.setdefault("metadata", {})["uid"] = job.owner
        try:
            made = self._client.merge_patch(path_of("jobs", self._namespace, job.name), patch)
        except KubeRefusedError as error:
            # A patch with another uid is refused as one of what cannot be changed.
            is_other = error.kind is Refusal.INVALID and "metadata.uid" in error.said
            if is_other or error.kind in (Refusal.MISSING, Refusal.CONFLICT):
                return None
            raise self._book.unavailable(error) from error
        except KubeSilentError as error:
            raise self._book.unavailable(error) from error
        return self._book.jobs.put(made)

    def _delete(self, job: KubeJob) -> None:
        path = path_of("jobs", self._namespace, job.name)
        self._asked(lambda: self._client.delete(path, uid=job.owner))
        self._book.jobs.drop(job.name, job.owner)
