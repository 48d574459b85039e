"""A Kubernetes cluster that also plans the jobs that users create themselves."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import product
from typing import Any, Final

from adapters.cluster.kube_book import KubeBook, Selectors
from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_errors import KUEUE_ROLE, absent, explained, role_of
from adapters.cluster.kube_guard import OTHERS, FindSafeStart, KubeGuard
from adapters.cluster.kube_kinds import JOB, KubeKind, parts
from adapters.cluster.kube_native_books import NativeBooks
from adapters.cluster.kube_native_record import KubeNative, Place, parse_native
from adapters.cluster.kube_natives import KubeNatives
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError, Refusal
from adapters.cluster.kubernetes import KubePatience, KubernetesCluster
from adapters.cluster.kueue_checks import missing_rights
from adapters.cluster.kueue_natives import QueuedNatives
from adapters.cluster.kueue_workloads import Kueue
from scheduler.ports import Check, Dispatch, NativeJob, News, RunStatus, is_native

_LEAVE_S: Final = 2.0
VERBS: Final = ("get", "list", "watch", "patch")
"""What adoption takes for each kind of jobs."""
_NEEDED: Final = (*(("", "pods", verb) for verb in ("list", "watch")), ("", "events", "create"))
"""And for all; without the last one users are told by annotations alone."""


class AdoptingKubernetesCluster(KubernetesCluster):
    """See `ClusterAdapter`, `AdoptingCluster` and `TellingCluster`.

    Args:
        adopts: namespaces whose jobs are planned that ask for it in their annotations.
        kinds: of the jobs.
        find_safe_start: by when words alone have a job started.
        terms: those of `KubernetesCluster`.
    """

    def __init__(
        self,
        cluster_id: str,
        *,
        client: KubeClient,
        adopts: Sequence[str],
        kinds: Sequence[KubeKind] = (JOB,),
        find_safe_start: FindSafeStart,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - Kubernetes lives on wall time
        **terms: Any,
    ) -> None:
        super().__init__(cluster_id, client=client, wall=wall, **terms)
        self._adopts = tuple(product(adopts, kinds))
        patience: KubePatience = terms.get("patience") or KubePatience()
        kueue: Kueue | None = terms.get("kueue")
        self._queued_natives = dict[Place, QueuedNatives]()
        if kueue is not None:
            pace = patience.watch
            self._queued_natives = {
                Place(namespace, kind.name): QueuedNatives(
                    kueue.workloads(client, namespace, wall=wall, pace=pace)
                )
                for namespace, kind in self._adopts
                if kind is JOB
            }
        self._natives = KubeNatives(
            cluster_id,
            NativeBooks(
                client,
                {
                    Place(namespace, kind.name): self._native_book(namespace, kind, patience)
                    for namespace, kind in self._adopts
                },
                wall=wall,
                queued=self._queued_natives,
            ),
            devices=terms["devices"],
            capacity=terms["capacity"],
            free=self.free_devices,
            note_unstarted=self._capacity.note_unstarted,
            start_s=patience.start_s,
            guard=KubeGuard(
                client, find_safe_start=find_safe_start, clock=terms["clock"], wall=wall
            ),
            clock=terms["clock"],
            wall=wall,
        )

    def _native_book(
        self, namespace: str, kind: KubeKind, patience: KubePatience
    ) -> KubeBook[KubeNative]:
        queued = self._queued_natives.get(Place(namespace, kind.name))
        return KubeBook(
            self.cluster_id,
            self._client,
            namespace=namespace,
            kind=kind,
            selectors=Selectors(jobs=OTHERS, pods=f"{kind.pods},{OTHERS}"),
            parse=partial(parse_native, kind=kind),
            tell_end=self._note_end,
            is_news=_is_news,
            pace=patience.watch,
            also=[queued.workloads.copy] if queued else (),
        )

    @property
    def client(self) -> KubeClient:
        """By which all its requests go, for those who count."""
        return self._client

    def native_jobs(self) -> list[NativeJob]:
        """See `AdoptingCluster`; no request, where nobody has done anything."""
        return self._natives.native_jobs()

    def adopt(self, ref: str, *, job_id: str, guard_at: datetime) -> None:
        """See `AdoptingCluster`; one request."""
        self._natives.adopt(ref, job_id=job_id, guard_at=guard_at)

    def refuse(self, ref: str, why: str) -> None:
        """See `AdoptingCluster`; two requests, for the annotation and for the event."""
        self._natives.refuse(ref, why)

    def tell(self, ref: str, news: News, words: str) -> None:
        """See `TellingCluster`; two requests, for words that are new."""
        self._natives.tell(ref, news, words)

    def submit(self, dispatch: Dispatch) -> str:
        """See `ClusterAdapter`."""
        if is_native(dispatch.name):
            return self._natives.submit(dispatch)
        return super().submit(dispatch)

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        """See `ClusterAdapter`; no request, for our own runs and for those of users."""
        natives = [name for name in names if is_native(name)]
        own = super().poll([name for name in names if not is_native(name)])
        return {**own, **(self._natives.look(natives) if natives else {})}

    def pause(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        if is_native(name):
            self._natives.pause(name)
        else:
            super().pause(name, grace_s=grace_s)

    def resume(self, name: str) -> None:
        """See `ClusterAdapter`."""
        if is_native(name):
            self._natives.resume(name)
        else:
            super().resume(name)

    def cancel(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        if is_native(name):
            self._natives.cancel(name)
        else:
            super().cancel(name, grace_s=grace_s)

    def checks(self) -> list[Check]:
        """See `ClusterAdapter`."""
        lines = super().checks()
        if not all(line.is_ok for line in lines):
            return lines
        troubles = [
            Check(subject=f"cluster {self.cluster_id}", is_ok=False, detail=words)
            for words in self._natives.troubles()
        ]
        return [*lines, *(self._adoption_check(*one) for one in self._adopts), *troubles]

    def close(self) -> None:
        """See `KubernetesCluster`."""
        self._client.link.stop.set()
        self._natives.join(_LEAVE_S)
        super().close()

    def _taken(self, *, has_begun: bool = False) -> Mapping[str, int]:
        own, natives = super()._taken(has_begun=has_begun), self._natives.taken()
        return {
            name: own.get(name, 0) + natives.get(name, 0) for name in own.keys() | natives.keys()
        }

    def _adoption_check(self, namespace: str, kind: KubeKind) -> Check:
        subject = f"cluster {self.cluster_id}"
        queued = self._queued_natives.get(Place(namespace, kind.name))
        try:
            if not self._knows(kind):
                return Check(subject=subject, is_ok=False, detail=absent(kind))
            own = self._missing([(kind.group, kind.plural, verb) for verb in VERBS], namespace)
            shared = self._missing(_NEEDED, namespace)
            of_kueue = missing_rights(self._client, queued.workloads) if queued else []
        except (KubeRefusedError, KubeSilentError) as error:
            return Check(subject=subject, is_ok=False, detail=explained(error, namespace))
        planned = (
            f"users' own {kind.name}s in namespace {namespace} are planned where they ask for it"
        )
        missing = [*own, *shared, *of_kueue]
        if missing == ["create events"]:
            said = f"{planned}; it may not create events: they are told by annotations alone"
            return Check(subject=subject, is_ok=True, detail=said)
        if missing:
            roles = dict.fromkeys([role_of(kind)] * bool(own) + [role_of(JOB)] * bool(shared))
            roles |= dict.fromkeys([KUEUE_ROLE] * bool(of_kueue))
            said = (
                f"in namespace {namespace} it may not {', '.join(missing)}; "
                f"{' and '.join(roles)} grants that"
            )
            return Check(subject=subject, is_ok=False, detail=said)
        return Check(subject=subject, is_ok=True, detail=planned)

    def _missing(self, rights: Iterable[tuple[str, str, str]], namespace: str) -> list[str]:
        """Those of these rights, each a group, a resource and a verb, that the login does not have."""
        return [
            f"{verb} {resource}"
            for group, resource, verb in rights
            if not self._client.may(verb, resource, group=group, namespace=namespace)
        ]

    def _knows(self, kind: KubeKind) -> bool:
        """Whether the cluster serves that kind."""
        if kind is JOB:
            return True
        try:
            served = self._client.get(f"/apis/{kind.api}")
        except KubeRefusedError as error:
            if error.kind is Refusal.MISSING:
                return False
            raise
        return any(one.get("name") == kind.plural for one in parts(served, "resources"))


def _is_news(before: KubeNative | None, after: KubeNative | None) -> bool:
    """Whether a tick is due: a Job that asks is new, gone, over, or its user has done something to it."""
    if not any(one is not None and one.asks for one in (before, after)):
        return False
    if before is None or after is None:
        return True
    return _state(before) != _state(after)


def _state(job: KubeNative) -> tuple[object, ...]:
    return job.digest, job.is_suspended, job.is_held, job.is_over, job.is_leaving
