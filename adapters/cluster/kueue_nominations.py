"""Which clusters of MultiKueue a Workload is offered to, and how that is written.

`status.nominatedClusterNames` is one of the fields that Kueue writes by server-side apply, as the manager
`kueue-admission`, with all that this one has to say. Who nominates under another name co-owns the field: Kueue cannot
clear it when a cluster has admitted the Workload, and clusterName, which excludes it, is never set. So it is applied
here by the same manager, together with everything that this one said before: what it leaves out would go.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_refusals import KubeRefusedError, Refusal
from adapters.cluster.kueue_records import API, KubeWorkload, parse_workload

OWNER: Final = "kueue-admission"
MAX_NOMINATED: Final = 10
"""Kueue takes no more at once."""
_FIELD: Final = "nominatedClusterNames"
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """To whom a Workload is to be offered now, beside those to whom it is already.

    Args:
        names: of clusters, as MultiKueue calls them, the best first; empty: it is held.
        words: why, for its user.
    """

    names: tuple[str, ...]
    words: str


def is_waiting(workload: KubeWorkload, check: str) -> bool:
    """Whether it waits for a nomination: its quota is reserved, and no cluster has it yet."""
    has_begun = workload.chosen or workload.is_over or not workload.is_active
    return workload.has_quota and not has_begun and workload.checks.get(check) == "Pending"


def next_names(now: Sequence[str], ranking: Iterable[str], *, is_time: bool) -> tuple[str, ...]:
    """Those nominated now, and the next of the ranking where there is none or it is time for one more.

    None is taken back: its copy of the Workload may be about to be admitted.
    """
    left = [one for one in ranking if one not in now]
    more = left[:1] if is_time or not now else []
    return (*now, *more)[:MAX_NOMINATED]


def all_names(now: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """Those nominated now, and all others."""
    return (*now, *(one for one in names if one not in now))[:MAX_NOMINATED]


def nominate(client: KubeClient, workload: KubeWorkload, names: Sequence[str]) -> bool:
    """Whether the Workload, as it was seen, is nominated to these clusters now; False where it has changed.

    Raises:
        KubeRefusedError, KubeSilentError: it cannot be read, or may not be changed.
    """
    path = path_of("workloads", workload.namespace, workload.name)
    try:
        now = client.get(path)
    except KubeRefusedError as error:
        if error.kind is Refusal.MISSING:
            return False
        raise
    seen = parse_workload(now)
    if (seen.owner, seen.nominated, seen.chosen, seen.has_quota) != (
        workload.owner,
        workload.nominated,
        workload.chosen,
        workload.has_quota,
    ):
        return False
    document = {
        "apiVersion": API,
        "kind": "Workload",
        "metadata": {
            "name": workload.name,
            "namespace": workload.namespace,
            "uid": now["metadata"]["uid"],
            # Only on what was read, for what the manager says meanwhile must not be said back.
            "resourceVersion": now["metadata"]["resourceVersion"],
        },
        "status": {**_said_by(now, OWNER), _FIELD: list(names)},
    }
    try:
        client.apply(f"{path}/status", document, owner=OWNER)
    except KubeRefusedError as error:
        if error.kind in (Refusal.CONFLICT, Refusal.MISSING):
            return False
        raise
    return True


def _said_by(document: Document, owner: str) -> dict[str, Any]:
    """What that manager has applied to the status, by the object's own account of it."""
    for entry in document["metadata"].get("managedFields") or ():
        whose = (entry.get("manager"), entry.get("operation"), entry.get("subresource"))
        if whose == (owner, "Apply", "status"):
            fields = (entry.get("fieldsV1") or {}).get("f:status") or {}
            said = _part_of(document.get("status") or {}, fields)
            assert isinstance(said, dict)
            return said
    return {}


def _part_of(value: object, fields: Document) -> object:
    """The part of a value that a tree of managed fields names; all of it where the tree goes no deeper."""
    deeper = {key: below for key, below in fields.items() if key != "."}
    if not deeper:
        return value
    if isinstance(value, dict):
        named = {key.removeprefix("f:"): below for key, below in deeper.items()}
        return {key: _part_of(value[key], below) for key, below in named.items() if key in value}
    if isinstance(value, list):
        return [
            part
            for key, below in deeper.items()
            if (part := _item_of(value, key, below)) is not None
        ]
    return value


def _item_of(items: Sequence[object], key: str, fields: Document) -> object:
    """The item that a key of a tree names, as far as the tree goes, always with what it is named by; None for none."""
    kind, _, told = key.partition(":")
    wanted = json.loads(told)
    if kind == "v":
        return wanted if wanted in items else None
    for item in items:
        if isinstance(item, dict) and all(item.get(name) == it for name, it in wanted.items()):
            part = _part_of(item, fields)
            return {**wanted, **part} if isinstance(part, dict) else part
    return None
