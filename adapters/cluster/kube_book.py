"""All Jobs and pods of this Gridtide in one namespace, or all jobs of a kind, as the cluster last told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_errors import unavailable
from adapters.cluster.kube_kinds import JOB, KubeKind
from adapters.cluster.kube_records import KubeJob, KubePod, parse_pod
from adapters.cluster.kube_refusals import KubeError, KubeRefusedError, KubeSilentError, Refusal
from adapters.cluster.kube_watch import KubeMirror, WatchPace
from scheduler.core.errors import ClusterUnavailableError

_FIRST_S: Final = 20.0
"""So long the first question waits for the first lists."""


_J = TypeVar("_J", bound=KubeJob)


@dataclass(frozen=True, slots=True)
class Selectors:
    """Which Jobs and which pods of a namespace are copied."""

    jobs: str
    pods: str


class KubeBook(Generic[_J]):
    """Two copies that a watch each keeps up to date, and direct looks where a copy is not enough.

    Args:
        kind: of the jobs.
        parse: the document of a Job to what is kept of it.
        is_news: whether a change of a Job, of which either side may be None, is worth telling; the end of a pod counts
            as that of its Job. By default where it is new that it is over.
        tell_end: called soon after a run has ended, or its last pod has gone.
        also: further copies without which these are not enough.
    """

    def __init__(  # noqa: PLR0913 - what is copied, and for whom
        self,
        cluster_id: str,
        client: KubeClient,
        *,
        namespace: str,
        kind: KubeKind = JOB,
        selectors: Selectors,
        parse: Callable[[dict[str, Any]], _J],
        tell_end: Callable[[], None],
        is_news: Callable[[_J | None, _J | None], bool] | None = None,
        pace: WatchPace | None = None,
        also: Sequence[KubeMirror[Any]] = (),
    ) -> None:
        self._also = tuple(also)
        self._cluster_id = cluster_id
        self._client = client
        self._namespace = namespace
        self._kind = kind
        self._parse = parse
        self._tell_end = tell_end
        self._is_news = is_news or _has_ended
        self.jobs: Final = KubeMirror(
            client,
            kind.path(namespace),
            selector=selectors.jobs,
            parse=parse,
            on_change=self._note_job,
            pace=pace,
        )
        self.pods: Final = KubeMirror(
            client,
            path_of("pods", namespace),
            selector=selectors.pods,
            parse=partial(parse_pod, kind=kind),
            on_change=self._note_pod,
            pace=pace,
        )

    def require_current(self) -> None:
        """Raises ClusterUnavailableError where the copies may be old; starts them at the first call."""
        self.start()
        for mirror in self._mirrors():
            trouble = mirror.trouble(within_s=_FIRST_S)
            if trouble is not None:
                raise self.unavailable(trouble)

    def start(self) -> None:
        """Starts the copies, once."""
        for mirror in self._mirrors():
            mirror.start()

    def find(self, name: str) -> _J | None:
        """The Job of that name: of the copy, or else as the cluster says now.

        Raises:
            ClusterUnavailableError: it cannot be asked.
        """
        job = self.jobs.find(name)
        return job if job is not None else self.ask(name)

    def ask(self, name: str) -> _J | None:
        """The Job of that name, as the cluster says now.

        Raises:
            ClusterUnavailableError: it cannot be asked.
        """
        try:
            document = self._client.get(self._kind.path(self._namespace, name))
        except KubeRefusedError as error:
            if error.kind is Refusal.MISSING:
                return None
            raise self.unavailable(error) from error
        except KubeSilentError as error:
            raise self.unavailable(error) from error
        # Not put into the copy: it may be another's, of the same name.
        try:
            return self._parse(document)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            why = f"{self._kind.path(self._namespace, name)} cannot be read: {error!r}"
            raise self.unavailable(KubeSilentError(why, was_sent=True)) from error

    def pods_of(self, job: KubeJob) -> list[KubePod]:
        """Every pod of the Job that is known, also those that are gone.

        Raises:
            ClusterUnavailableError: they have to be asked for, and cannot be.
        """
        keys = self._kind.keys(job.name, job.owner)
        known = [replace(one, is_gone=True) for key in keys for one in self.pods.gone(key)]
        pods = {one.uid: one for one in known if _is_of(one, job)}
        pods |= {one.uid: one for one in self.pods_now(job)}
        if job.end and (not pods or any(one.is_live for one in pods.values())):
            # The Job's end was told first. What became of its pods is known to the server by now.
            pods |= {one.uid: one for one in self._ask_pods(job)}
        return list(pods.values())

    def pods_now(self, job: KubeJob) -> list[KubePod]:
        """Those of its pods that are there."""
        keys = self._kind.keys(job.name, job.owner)
        found = [one for key in keys for one in self.pods.members(key)]
        return [one for one in found if _is_of(one, job)]

    def unavailable(self, error: KubeError) -> ClusterUnavailableError:
        """The error for a question that got no answer."""
        return unavailable(self._cluster_id, error, namespace=self._namespace, kind=self._kind)

    def join(self, within_s: float) -> None:
        """Waits for the watches to end, after the client's stop was set."""
        for mirror in self._mirrors():
            mirror.join(within_s)

    def _mirrors(self) -> tuple[KubeMirror[Any], ...]:
        return self.jobs, self.pods, *self._also

    def _ask_pods(self, job: KubeJob) -> list[KubePod]:
        keys = self._kind.keys(job.name, job.owner)
        selector = self._kind.pod_selector(job.name, job.owner)
        try:
            listing = self._client.list_all(path_of("pods", self._namespace), selector=selector)
        except (KubeRefusedError, KubeSilentError) as error:
            raise self.unavailable(error) from error
        pods = [parse_pod(one, self._kind) for one in listing.items]
        return [one for one in pods if one.owner in keys and _is_of(one, job)]

    def _note_job(self, before: _J | None, after: _J | None) -> None:
        if self._is_news(before, after):
            self._tell_end()

    def _note_pod(self, before: KubePod | None, after: KubePod | None) -> None:
        pod = after or before
        if pod is None or (after is not None and after.is_live):
            return
        owners: list[_J | None] = [*self.jobs.members(pod.owner)] or [self.jobs.find(pod.owner)]
        if any(self._is_news(job, None) for job in owners):
            self._tell_end()


def _is_of(pod: KubePod, job: KubeJob) -> bool:
    """Whether it is not of an earlier job of the same name."""
    return pod.owner == job.owner or pod.created_s >= job.created_s


def _has_ended(before: KubeJob | None, after: KubeJob | None) -> bool:
    return after is None or (after.is_over and not (before and before.is_over))
