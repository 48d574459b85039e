"""What is free on a Kubernetes cluster, as far as its namespace lets us know."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from adapters.cluster.kube_client import NODES, KubeClient, path_of
from adapters.cluster.kube_objects import KubeDevice
from adapters.cluster.kube_refusals import KubeRefusedError, Refusal
from scheduler.core.capacity import Reservation
from scheduler.core.outlook import Outlook
from scheduler.core.timegrid import Window

Document = Mapping[str, Any]
LOOK_AGAIN_S: Final = 30.0
"""Nodes and quotas are looked at again after so long."""
TOO_MANY_S: Final = 600.0
"""So long are fewer devices believed to be there after a start that failed for want of them."""
_SCARCE: Final = re.compile(r"(?:Insufficient|[Ii]nsufficient (?:unused )?quota for) ([^\s,;]+)")
_OVER_QUOTA: Final = re.compile(r"exceeded quota: \S+, requested: (\S+)")
_NO_NODE: Final = re.compile(r"node\(s\) (?:didn't match Pod's|had untolerated|were unsched)")
_NO_QUEUE: Final = re.compile(r"(?:Local|Cluster)Queue \S+ (?:is inactive|doesn't exist)")
_QUANTITY: Final = re.compile(r"([0-9.]+)([A-Za-z]*)")
_UNITS: Final[Mapping[str, Fraction]] = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    **{unit: Fraction(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Fraction(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


@dataclass(frozen=True, slots=True)
class KubeNode:
    """A node that takes pods, with what it has for them."""

    name: str
    labels: Mapping[str, str]
    has: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Nodes, None where they may not be listed; and what quotas left, by resource, while we took so much."""

    nodes: tuple[KubeNode, ...] | None
    left: Mapping[str, int]
    taken: Mapping[str, int]
    at_s: float


class KubeCapacity:
    """Counts devices: those of the settings, but no more than nodes have and quotas leave.

    Nodes may be listed with a right that the role of this project does not ask for; quotas with one that it does.
    Where neither may be, the settings are believed.

    Args:
        configured: devices of each accelerator, of the settings.
        taken: devices that our Jobs hold now, or wait for, by accelerator.
        begun: those of them whose pods have started.
        steady: clock in seconds that is never set.
    """

    def __init__(  # noqa: PLR0913 - the settings, and what we hold
        self,
        client: KubeClient,
        *,
        namespace: str,
        configured: Mapping[str, int],
        devices: Mapping[str, KubeDevice],
        taken: Callable[[], Mapping[str, int]],
        begun: Callable[[], Mapping[str, int]],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._configured = dict(configured)
        self._devices = dict(devices)
        self._taken = taken
        self._begun = begun
        self._steady = steady
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._too_many: dict[str, tuple[int, float]] = {}

    def has(self, accelerator: str) -> int:
        """So many devices there are at most. Raises KubeRefusedError or KubeSilentError."""
        return self._total(accelerator, self._look())

    def free(self) -> dict[str, int]:
        """Devices of each accelerator that are free. Raises KubeRefusedError or KubeSilentError."""
        seen, taken = self._look(), self._taken()
        held = self._by_resource(taken)
        free = {}
        for name, device in self._devices.items():
            left = self._total(name, seen) - taken.get(name, 0)
            quota, resource = seen.left.get(device.resource), device.resource
            if quota is not None:
                since = held[resource] - seen.taken.get(resource, 0)
                left = min(left, quota - max(0, since))
            free[name] = max(0, left)
        return free

    def missing(self) -> dict[str, int]:
        """Devices of the settings that are neither ours nor free. Raises KubeRefusedError or KubeSilentError.

        Also those of which a start that failed has shown that they are not there.
        """
        free, taken, begun = self.free(), self._taken(), self._begun()
        missing = {}
        for name, count in free.items():
            # What waits for its pods is no sign that there is something for it: it may be what is tried in vain.
            held = begun.get(name, 0)
            waiting = max(0, taken.get(name, 0) - held)
            there = held + self._startable(name, count + waiting)
            missing[name] = max(0, self._configured[name] - there)
        return missing

    def outlook(self, cluster_id: str, window: Window) -> Outlook:
        """What is missing in that window; all but what no node has may be free again before it ends.

        Raises KubeRefusedError or KubeSilentError.
        """
        missing, seen = self.missing(), self._look()
        lacking = {
            name: min(count, self._configured[name] - self._total(name, seen))
            for name, count in missing.items()
        }

        def held(counts: Mapping[str, int]) -> tuple[Reservation, ...]:
            return tuple(
                Reservation(cluster_id=cluster_id, accelerator=name, gpus=count, window=window)
                for name, count in counts.items()
                if count
            )

        passing = {name: count - lacking[name] for name, count in missing.items()}
        return Outlook(totals=self._configured, taken=held(lacking), passing=held(passing))

    def note_unstarted(
        self,
        accelerator: str,
        count: int,
        why: str,
        *,
        labels: Mapping[str, str] | None = None,
        is_queued: bool = False,
    ) -> None:
        """So many were asked for in vain: for a while fewer are believed to be there, if that is why.

        Args:
            accelerator: asked for.
            count: likewise.
            why: in the words of Kubernetes, or of Kueue.
            labels: that the pods wanted of nodes, where that is all that they wanted.
            is_queued: they were in the queue of Kueue that the settings name.
        """
        device = self._devices.get(accelerator)
        if device is None:
            return
        # Nodes and queues that the settings themselves lead to are there for nobody.
        has_none = labels == device.node_selector and _NO_NODE.search(why) is not None
        has_none |= is_queued and _NO_QUEUE.search(why) is not None
        if has_none or is_scarce(device.resource, why):
            self._too_many[accelerator] = (count, self._steady() + TOO_MANY_S)

    def _startable(self, name: str, free: int) -> int:
        too_many, until_s = self._too_many.get(name, (free + 1, 0.0))
        return free if self._steady() >= until_s else min(free, too_many - 1)

    def words(self) -> str:
        """Where its numbers come from, for people. Raises KubeRefusedError or KubeSilentError."""
        seen = self._look()
        parts = ["the settings"]
        if seen.nodes is not None:
            parts.append(f"{len(seen.nodes)} nodes that may take pods")
        if seen.left:
            parts.append(f"quotas on {', '.join(sorted(seen.left))}")
        return " and ".join(parts)

    def _total(self, accelerator: str, seen: _Seen) -> int:
        configured, device = self._configured[accelerator], self._devices[accelerator]
        if seen.nodes is None:
            return configured
        fitting = [
            one.has.get(device.resource, 0)
            for one in seen.nodes
            if device.node_selector.items() <= one.labels.items()
        ]
        return min(configured, sum(fitting))

    def _look(self) -> _Seen:
        with self._lock:
            seen = self._seen
            if seen is None or self._steady() >= seen.at_s + LOOK_AGAIN_S:
                taken = self._by_resource(self._taken())
                seen = self._seen = _Seen(self._nodes(), self._left(), taken, self._steady())
            return seen

    def _by_resource(self, taken: Mapping[str, int]) -> Counter[str]:
        counts = Counter[str]()
        for name, count in taken.items():
            if name in self._devices:
                counts[self._devices[name].resource] += count
        return counts

    def _nodes(self) -> tuple[KubeNode, ...] | None:
        items = self._listed(NODES)
        return None if items is None else tuple(filter(None, map(parse_node, items)))

    def _left(self) -> dict[str, int]:
        """By resource, the least that a quota of the namespace leaves."""
        left: dict[str, int] = {}
        for item in self._listed(path_of("resourcequotas", self._namespace)) or ():
            status = item.get("status") or {}
            used = status.get("used") or {}
            for key, hard in (status.get("hard") or {}).items():
                resource = key.removeprefix("requests.")
                rest = int(quantity(hard) - quantity(used.get(key, "0")))
                left[resource] = min(rest, left.get(resource, rest))
        return left

    def _listed(self, path: str) -> list[dict[str, Any]] | None:
        """None where they may not be listed."""
        try:
            return self._client.list_all(path).items
        except KubeRefusedError as error:
            if error.kind in (Refusal.RIGHT, Refusal.POLICY):
                return None
            raise


def parse_node(document: Document) -> KubeNode | None:
    """A node; None for one that takes no pods now."""
    meta, spec, status = (document.get(one) or {} for one in ("metadata", "spec", "status"))
    is_ready = any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )
    if spec.get("unschedulable") or not is_ready:
        return None
    allocatable = status.get("allocatable") or {}
    return KubeNode(
        name=str(meta.get("name")),
        labels=dict(meta.get("labels") or {}),
        has={key: int(quantity(value)) for key, value in allocatable.items()},
    )


def is_scarce(resource: str, why: str) -> bool:
    """Whether a start failed as there is too little of that resource on nodes or in a quota.

    What a pod asks for beside it, its image and its volumes say nothing of what is there for others.
    """
    scarce = {one.rstrip(".") for one in _SCARCE.findall(why)}
    for requested in _OVER_QUOTA.findall(why):
        scarce |= {one.partition("=")[0].removeprefix("requests.") for one in requested.split(",")}
    return resource in scarce


def quantity(text: object) -> Fraction:
    """A number of the API, such as `1500m` or `64Gi`; 0 for what is none."""
    parts = _QUANTITY.fullmatch(str(text))
    if parts is None or parts[2] not in _UNITS:
        return Fraction(0)
    try:
        return Fraction(parts[1]) * _UNITS[parts[2]]
    except ValueError:
        return Fraction(0)
