"""Why a job has no pods: its conditions do not say, only its events do."""

from collections.abc import Callable
from typing import Final

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_errors import explained
from adapters.cluster.kube_kinds import part
from adapters.cluster.kube_records import KubeJob
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError

EVENTS_EVERY_S: Final = 30.0
PODLESS_S: Final = 5.0
"""A Job without pods for so long is asked why."""


class PodlessReasons:
    """The newest reason of each Job, asked for now and then.

    Args:
        wall: wall clock in Unix seconds.
    """

    def __init__(self, client: KubeClient, *, namespace: str, wall: Callable[[], float]) -> None:
        self._client = client
        self._namespace = namespace
        self._wall = wall
        self._said: dict[str, tuple[float, str]] = {}

    def words(self, job: KubeJob) -> str:
        """Why it has no pods; empty where nothing is wrong yet."""
        now_s = self._wall()
        if job.is_suspended or now_s < job.began_s + PODLESS_S:
            return ""
        asked_s, said = self._said.get(job.owner, (0.0, ""))
        if now_s >= asked_s + EVENTS_EVERY_S:
            said = self._ask(job)
            self._said[job.owner] = (now_s, said)
        return said

    def forget(self, job: KubeJob) -> None:
        """It is over."""
        self._said.pop(job.owner, None)

    def _ask(self, job: KubeJob) -> str:
        fields = f"involvedObject.uid={job.owner},type=Warning"
        try:
            found = self._client.list_all(path_of("events", self._namespace), fields=fields)
        except (KubeRefusedError, KubeSilentError) as error:
            return f"its events cannot be read: {explained(error, self._namespace)}"
        others = [one for one in found.items if part(one, "source").get("component") != "gridtide"]
        last = max(others, key=lambda one: str(one.get("lastTimestamp") or ""), default=None)
        return "" if last is None else f"Kubernetes: {last.get('message') or ''}"
