"""What `gridtide doctor` says about Kueue in a cluster."""

from typing import Final

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_objects import KubeTerms
from adapters.cluster.kube_refusals import KubeRefusedError, Refusal
from adapters.cluster.kueue_records import API, KUEUE
from adapters.cluster.kueue_workloads import Workloads

ROLE: Final = "deploy/kubernetes/role-kueue.yaml"
_CHECK: Final = "workloads/status"
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
        return [
            (False, f"in namespace {queued.namespace} it may not {missing}; {ROLE} grants that")
        ]
    if terms.queue is None:
        return [(True, "Kueue is there; Jobs that are in its queues start when it admits them")]
    try:
        queue = client.get(path_of("localqueues", queued.namespace, terms.queue))
    except KubeRefusedError as error:
        if error.kind is Refusal.RIGHT:
            return [(True, f"whether the queue {terms.queue} is there it may not see")]
        if error.kind is not Refusal.MISSING:
            raise
        said = f"there is no LocalQueue {terms.queue} in namespace {queued.namespace}"
        return [(False, f"{said}; make it, or set kubernetes.kueue.queue")]
    leads_to = (queue.get("spec") or {}).get("clusterQueue")
    return [(True, f"jobs wait in the LocalQueue {terms.queue}, of ClusterQueue {leads_to}")]


def is_served(client: KubeClient) -> bool:
    """Whether the server knows Kueue's API, in the version that is spoken here."""
    try:
        client.get(f"/apis/{API}")
    except KubeRefusedError as error:
        if error.kind is Refusal.MISSING:
            return False
        raise
    return True


def missing_rights(client: KubeClient, queued: Workloads) -> str:
    """What may not be done to Workloads and should be; empty where nothing is missing."""
    needed = [*NEEDED, *([(_CHECK, "patch")] if queued.check else [])]
    return ", ".join(
        f"{verb} {resource}"
        for resource, verb in needed
        if not client.may(verb, resource, group=KUEUE, namespace=queued.namespace)
    )
