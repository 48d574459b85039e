"""What is kept of a Workload of Kueue: the object by which Kueue decides on a Job's start. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters.cluster.kube_records import PREFIX

KUEUE: Final = "kueue.x-k8s.io"
API: Final = f"{KUEUE}/v1beta2"
JOB_UID: Final = f"{KUEUE}/job-uid"
HELD: Final = f"{PREFIX}/held"
"""Annotation of a Workload: since when we keep it inactive. Active all the same, somebody else has activated it."""
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeWorkload:
    """A Workload as the API told it.

    Args:
        owner: uid of its Job; empty where it has none.
        version: of what is told here; opaque.
        is_active: Kueue may admit it.
        is_held: with our mark `HELD`.
        is_admitted: its Job may have pods.
        was_admitted: it is, or was before Kueue sent it back to its queue.
        is_over: finished.
        has_quota: quota is reserved for it, or it has begun to be.
        checks: state of each admission check, by its name.
        waits_for: why it is not admitted, in Kueue's words; empty where it is.
        nominated: clusters of MultiKueue that may take it; chosen: the one that did, or empty.
    """

    name: str
    namespace: str
    owner: str
    version: str
    is_active: bool
    is_held: bool
    is_admitted: bool
    was_admitted: bool
    is_over: bool
    has_quota: bool
    checks: Mapping[str, str]
    waits_for: str
    nominated: tuple[str, ...]
    chosen: str


def parse_workload(document: Document) -> KubeWorkload:
    """The record of a Workload."""
    meta, spec, status = (_part(document, one) for one in ("metadata", "spec", "status"))
    conditions = {str(one.get("type")): one for one in status.get("conditions") or ()}
    checks = {
        str(one.get("name")): str(one.get("state")) for one in status.get("admissionChecks") or ()
    }
    is_admitted, has_quota = _is_true(conditions, "Admitted"), _is_true(conditions, "QuotaReserved")
    return KubeWorkload(
        name=str(meta.get("name")),
        namespace=str(meta.get("namespace")),
        owner=_owner(meta),
        version=str(meta.get("resourceVersion") or ""),
        is_active=spec.get("active") is not False,
        is_held=HELD in _part(meta, "annotations"),
        is_admitted=is_admitted and not _is_true(conditions, "Evicted"),
        was_admitted="Admitted" in conditions,
        is_over=_is_true(conditions, "Finished"),
        has_quota=has_quota and not _is_true(conditions, "Evicted"),
        checks=checks,
        waits_for="" if is_admitted else _waits_for(conditions, checks, has_quota=has_quota),
        nominated=tuple(str(one) for one in status.get("nominatedClusterNames") or ()),
        chosen=str(status.get("clusterName") or ""),
    )


def _waits_for(
    conditions: Mapping[str, Document], checks: Mapping[str, str], *, has_quota: bool
) -> str:
    if has_quota:
        waiting = sorted(name for name, state in checks.items() if state != "Ready")
        return f"quota is reserved, waits for {', '.join(waiting)}" if waiting else ""
    return str(_part(conditions, "QuotaReserved").get("message") or "")


def _owner(meta: Document) -> str:
    """Its Job's uid: by the reference, and not by the label, which anybody may set."""
    for one in meta.get("ownerReferences") or ():
        if one.get("kind") == "Job" and str(one.get("apiVersion")).startswith("batch/"):
            return str(one.get("uid"))
    return ""


def _is_true(conditions: Mapping[str, Document], kind: str) -> bool:
    return _part(conditions, kind).get("status") == "True"


def _part(document: Document, key: str) -> Document:
    found = document.get(key)
    return found if isinstance(found, dict) else {}
