"""What `gridtide doctor` says about Kueue in a cluster."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from adapters.cluster.kube_client import Document, KubeClient, path_of
from adapters.cluster.kube_errors import KUEUE_ROLE
from adapters.cluster.kube_objects import KubeTerms
from adapters.cluster.kube_records import PREFIX
from adapters.cluster.kube_refusals import KubeRefusedError, Refusal
from adapters.cluster.kueue_records import API, KUEUE
from adapters.cluster.kueue_workloads import OWNER, Workloads

_CHECK: Final = "workloads/status"
CONTROLLER: Final = f"{PREFIX}/carbon"
"""`spec.controllerName` of an AdmissionCheck that is ours to answer."""
MULTIKUEUE: Final = "kueue.x-k8s.io/multikueue"
"""That of one which MultiKueue answers."""
NEEDED: Final = tuple(("workloads", verb) for verb in ("get", "list", "watch", "patch"))
"""Resource of Kueue and verb, in each namespace whose queues are looked at."""


def kueue_lines(client: KubeClient, queued: Workloads, terms: KubeTerms) -> list[tuple[bool, str]]:
    """Whether it is there, may be used, and has our queue.

    Raises:
        KubeRefusedError, KubeSilentError: it cannot be asked.
    """
    if not is_served(client):
        return [
            (False, f"it does not serve {API}: install Kueue there, or leave kubernetes.kueue out")
        ]
    missing = missing_rights(client, queued)
    if missing:
        said = f"in namespace {queued.namespace} it may not {', '.join(missing)}"
        return [(False, f"{said}; {KUEUE_ROLE} grants that")]
    lines = [_queue_line(client, queued.namespace, terms.queue)]
    return lines if queued.check is None else [*lines, _check_line(client, queued.check)]


def _queue_line(client: KubeClient, namespace: str, name: str | None) -> tuple[bool, str]:
    if name is None:
        return True, "Kueue is there; Jobs that are in its queues start when it admits them"
    try:
        queue = client.get(path_of("localqueues", namespace, name))
    except KubeRefusedError as error:
        if error.kind is Refusal.RIGHT:
            return True, f"whether the LocalQueue {name} is there it may not see"
        if error.kind is not Refusal.MISSING:
            raise
        said = f"there is no LocalQueue {name} in namespace {namespace}"
        return False, f"{said}; make it, or set kubernetes.kueue.queue"
    leads_to = (queue.get("spec") or {}).get("clusterQueue")
    for one in (queue.get("status") or {}).get("conditions") or ():
        if one.get("type") == "Active" and one.get("status") == "False":
            why = one.get("message") or one.get("reason")
            return False, f"the LocalQueue {name} admits nothing: {why}"
    return True, f"jobs wait in the LocalQueue {name}, of ClusterQueue {leads_to}"


def _check_line(client: KubeClient, name: str) -> tuple[bool, str]:
    try:
        check = client.get(f"/apis/{API}/admissionchecks/{name}")
    except KubeRefusedError as error:
        if error.kind is Refusal.RIGHT:
            return True, f"whether the AdmissionCheck {name} is active it may not see"
        if error.kind is not Refusal.MISSING:
            raise
        return (
            False,
            f"there is no AdmissionCheck {name}; make it, or leave kubernetes.kueue.check out",
        )
    controller = (check.get("spec") or {}).get("controllerName")
    if controller != CONTROLLER:
        return False, f"the AdmissionCheck {name} is of {controller}; it must be of {CONTROLLER}"
    if not _is_active(check):
        return False, (
            f"the AdmissionCheck {name} is not active, so its ClusterQueues admit nothing; gridtide guard "
            "makes it active while it runs"
        )
    return (
        True,
        f"the AdmissionCheck {name} is active: gridtide guard answers it if nobody else does",
    )


def multikueue_lines(client: KubeClient, name: str, workers: Collection[str]) -> list[str]:
    """What is wrong with the AdmissionCheck of MultiKueue, and with the names of its workers, as far as may be seen.

    Raises:
        KubeRefusedError, KubeSilentError: it cannot be asked.
    """
    try:
        check = client.get(f"/apis/{API}/admissionchecks/{name}")
        spec = check.get("spec") or {}
        if spec.get("controllerName") != MULTIKUEUE:
            said = f"the AdmissionCheck {name} is of {spec.get('controllerName')}; it must be of {MULTIKUEUE}"
            return [said]
        config = (spec.get("parameters") or {}).get("name")
        found = client.get(f"/apis/{API}/multikueueconfigs/{config}")
    except KubeRefusedError as error:
        if error.kind is Refusal.RIGHT:
            return []
        if error.kind is not Refusal.MISSING:
            raise
        return [
            f"there is no AdmissionCheck {name}, or no MultiKueueConfig for it; set multikueue.check"
        ]
    known = (found.get("spec") or {}).get("clusters") or []
    strange = sorted(set(workers) - set(known))
    if not strange:
        return []
    return [
        f"MultiKueue has no worker {', '.join(strange)}; it has {', '.join(known)}: set multikueue.clusters"
    ]


def _is_active(check: Document) -> bool:
    conditions = (check.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Active" and one.get("status") == "True" for one in conditions)


def vouch_for(client: KubeClient, check: str, *, wall_s: float) -> None:
    """Says that the check is active, for its ClusterQueues admit nothing while it is not: who calls this answers it.

    Raises:
        KubeRefusedError, KubeSilentError: it cannot be seen, or may not be changed.
    """
    path = f"/apis/{API}/admissionchecks/{check}"
    found = client.get(path)
    if _is_active(found):
        return
    if (found.get("spec") or {}).get("controllerName") != CONTROLLER:
        return  # not ours, whatever the settings say; the doctor tells
    at = datetime.fromtimestamp(int(wall_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    active = {
        "type": "Active",
        "status": "True",
        "reason": "Guarded",
        "message": "answered by gridtide guard",
        "lastTransitionTime": at,
    }
    document = {
        "apiVersion": API,
        "kind": "AdmissionCheck",
        "metadata": {"name": check},
        "status": {"conditions": [active]},
    }
    client.apply(f"{path}/status", document, owner=OWNER)


def is_served(client: KubeClient) -> bool:
    """Whether the server knows Kueue's API, in the version that is spoken here."""
    try:
        client.get(f"/apis/{API}")
    except KubeRefusedError as error:
        if error.kind is Refusal.MISSING:
            return False
        raise
    return True


def missing_rights(client: KubeClient, queued: Workloads) -> list[str]:
    """What may not be done to Workloads and should be."""
    needed = [*NEEDED, *([(_CHECK, "patch")] if queued.check else [])]
    return [
        f"{verb} {resource}"
        for resource, verb in needed
        if not client.may(verb, resource, group=KUEUE, namespace=queued.namespace)
    ]
