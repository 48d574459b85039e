"""The Workloads of one namespace, as Kueue last told; and changes of them, by which Jobs in its queues are held and let go."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_refusals import KubeRefusedError, Refusal
from adapters.cluster.kube_watch import KubeMirror, WatchPace
from adapters.cluster.kueue_records import (
    API,
    HELD,
    JOB_UID,
    KubeWorkload,
    parse_workload,
)
from scheduler.core.timegrid import format_instant

_TRIES: Final = 5
"""Of a change, for Kueue itself writes to a Workload again and again."""
_GONE: Final = (Refusal.MISSING, Refusal.CONFLICT)
OWNER: Final = "gridtide"
"""Field manager of the states of our check."""
PENDING: Final = "Pending"
READY: Final = "Ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kueue:
    """That a cluster has Kueue; `check` is the admission check that is ours to answer, where its queues have one."""

    check: str | None = None

    def workloads(
        self, client: KubeClient, namespace: str, *, wall: Callable[[], float], pace: WatchPace
    ) -> "Workloads":
        """Those of a namespace."""
        return Workloads(client, namespace, kueue=self, wall=wall, pace=pace)


class Workloads:
    """A copy, direct looks where it is not enough, and changes.

    Args:
        kueue: of the cluster.
        wall: wall clock in Unix seconds.

    Every method that asks or changes raises KubeRefusedError or KubeSilentError.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        *,
        kueue: Kueue,
        wall: Callable[[], float],
        pace: WatchPace | None = None,
    ) -> None:
        self._client = client
        self.namespace: Final = namespace
        self._wall = wall
        self.check: Final = kueue.check
        self.copy: Final = KubeMirror(
            client,
            path_of("workloads", namespace),
            selector="",
            parse=parse_workload,
            pace=pace,
        )

    def look(self) -> None:
        """Takes all there are now into the copy, for who does not watch."""
        for one in self._client.list_all(path_of("workloads", self.namespace)).items:
            self.copy.put(one)

    def known(self, job_uid: str) -> KubeWorkload | None:
        """That of the Job, by the copy."""
        found = self.copy.members(job_uid)
        return max(found, key=lambda one: (not one.is_over, one.name)) if found else None

    def find(self, job_uid: str) -> KubeWorkload | None:
        """That of the Job: by the copy, or else as the cluster says now."""
        known = self.known(job_uid)
        return known if known is not None else self._ask(job_uid)

    def shut(self, workload: KubeWorkload) -> None:
        """Keeps it from being admitted, and has it leave if it was; with our mark."""
        stamp = format_instant(datetime.fromtimestamp(int(self._wall()), UTC))
        self._turn(workload, {HELD: stamp}, is_active=False)

    def open(self, workload: KubeWorkload) -> None:
        """Lets Kueue admit it, past our check; who calls this again finishes what Kueue has reset meanwhile."""
        now: KubeWorkload | None = workload
        if workload.is_held or not workload.is_active:
            now = self._turn(workload, {HELD: None}, is_active=True)
        if now is not None:
            self.answer(now)

    def answer(self, workload: KubeWorkload, state: str = READY) -> None:
        """Says so for our check, where the Workload is to pass it and says something else."""
        if self.check is None or workload.checks.get(self.check) in (None, state):
            return
        set_check(self._client, workload, self.check, state, wall_s=self._wall())

    def _ask(self, job_uid: str) -> KubeWorkload | None:
        listing = self._client.list_all(
            path_of("workloads", self.namespace), selector=f"{JOB_UID}={job_uid}"
        )
        found = [parse_workload(one) for one in listing.items]
        return next((one for one in found if one.owner == job_uid), None)

    def _turn(
        self, workload: KubeWorkload, notes: dict[str, str | None], *, is_active: bool
    ) -> KubeWorkload | None:
        """Mark and `active` in one write, so that they always tell the same; None where somebody else was faster."""
        path = path_of("workloads", self.namespace, workload.name)
        seen = workload
        for _ in range(_TRIES):
            meta = {"resourceVersion": seen.version, "annotations": notes}
            patch: dict[str, Any] = {"metadata": meta, "spec": {"active": is_active}}
            try:
                return self.copy.put(self._client.merge_patch(path, patch))
            except KubeRefusedError as error:
                if error.kind is Refusal.MISSING:
                    return None
                if error.kind is not Refusal.CONFLICT:
                    raise
            seen = parse_workload(self._client.get(path))
            if (seen.owner, seen.is_active, seen.is_held) != (
                workload.owner,
                workload.is_active,
                workload.is_held,
            ):
                return None  # the next look sees what is the case now
        return None


def set_check(
    client: KubeClient, workload: KubeWorkload, check: str, state: str, *, wall_s: float
) -> None:
    """Sets the state of that check of the Workload, and of no other."""
    at = datetime.fromtimestamp(int(wall_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    message = "let start by Gridtide" if state == READY else "held by Gridtide"
    stated = {"name": check, "state": state, "message": message, "lastTransitionTime": at}
    document = {
        "apiVersion": API,
        "kind": "Workload",
        "metadata": {"name": workload.name, "namespace": workload.namespace},
        "status": {"admissionChecks": [stated]},
    }
    path = f"{path_of('workloads', workload.namespace, workload.name)}/status"
    try:
        client.apply(path, document, owner=OWNER)
    except KubeRefusedError as error:
        if error.kind not in _GONE:
            raise
