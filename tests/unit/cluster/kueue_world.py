"""Kueue in the simulated clusters: queues, checks and workers as an administrator makes them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_refusals import KubeRefusedError, Refusal
from adapters.cluster.kueue_checks import vouch_for
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, running_bed
from tests.unit.cluster.runs import wait_until

KUEUE = "/apis/kueue.x-k8s.io/v1beta2"
QUEUE = "kueue.x-k8s.io/queue-name"
CHECK = "carbon"
ROLE = Path(__file__).parents[3] / "deploy" / "kubernetes" / "role-kueue.yaml"
ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/gridtide"
Document = dict[str, Any]


@dataclass(frozen=True)
class KueueAdmin:
    """Acts with every right in one cluster."""

    client: KubeClient

    def make(self, plural: str, name: str, *, namespace: str | None = None, **spec: Any) -> None:
        where = f"/namespaces/{namespace}" if namespace else ""
        kind = {"localqueues": "LocalQueue", "clusterqueues": "ClusterQueue"}.get(plural)
        document = {"metadata": {"name": name}, "spec": spec}
        document |= {"kind": kind} if kind else {}
        self.client.create(f"{KUEUE}{where}/{plural}", document)

    def make_queue(self, name: str, *, checks: tuple[str, ...] = (), **quota: str | int) -> None:
        """A LocalQueue of the namespace of the tests, and its ClusterQueue of the same name."""
        resources = [
            {"name": key.replace("__", "/").replace("_", "."), "nominalQuota": str(value)}
            for key, value in (quota or {"cpu": 64}).items()
        ]
        self.make(
            "clusterqueues",
            name,
            resourceGroups=[{"flavors": [{"name": "default", "resources": resources}]}],
            admissionChecksStrategy={"admissionChecks": [{"name": one} for one in checks]},
        )
        self.make("localqueues", name, namespace=NAMESPACE, clusterQueue=name)

    def make_check(self, name: str) -> None:
        """Ours, and active, as the guard keeps it."""
        path = f"{KUEUE}/admissionchecks"
        if any(one["metadata"]["name"] == name for one in self.client.list_all(path).items):
            return
        self.make("admissionchecks", name, controllerName="gridtide.dev/carbon")
        vouch_for(self.client, name, wall_s=time.time())

    def make_workers_once(self, check: str, workers: dict[str, str]) -> None:
        found = self.client.list_all(f"{KUEUE}/admissionchecks").items
        if all(one["metadata"]["name"] != check for one in found):
            self.make_workers(check, workers)

    def make_workers(self, check: str, workers: dict[str, str]) -> None:
        """This cluster is a manager of MultiKueue: its check of that name leads to these workers, by their clusters."""
        for name, cluster in workers.items():
            source = {"kubeConfig": {"location": cluster, "locationType": "Secret"}}
            self.make("multikueueclusters", name, clusterSource=source)
        self.make("multikueueconfigs", check, clusters=list(workers))
        parameters = {"apiGroup": "kueue.x-k8s.io", "kind": "MultiKueueConfig", "name": check}
        controller = "kueue.x-k8s.io/multikueue"
        self.make("admissionchecks", check, controllerName=controller, parameters=parameters)

    def status(self, job: str) -> Document:
        """Of its Workload."""
        found: Document = (self.workload(job) or {}).get("status") or {}
        return found

    def stop(self, queue: str, *, is_stopped: bool = True, is_drained: bool = False) -> None:
        """Has a ClusterQueue admit nothing, and send back what it has admitted; or go on."""
        policy = ("HoldAndDrain" if is_drained else "Hold") if is_stopped else "None"
        self.client.merge_patch(f"{KUEUE}/clusterqueues/{queue}", {"spec": {"stopPolicy": policy}})

    def workload(self, job: str) -> Document | None:
        """That of the Job of this name."""
        items = self.client.list_all(f"{KUEUE}/namespaces/{NAMESPACE}/workloads").items
        for one in items:
            owners = one["metadata"].get("ownerReferences") or []
            if any(owner["name"] == job for owner in owners):
                return one
        return None

    def said(self, job: str, condition: str) -> str | None:
        """The status of that condition of its Workload."""
        found = (self.workload(job) or {}).get("status", {}).get("conditions", [])
        return next((one["status"] for one in found if one["type"] == condition), None)

    def is_active(self, job: str) -> bool | None:
        found = self.workload(job)
        return None if found is None else bool(found["spec"]["active"])

    def activate(self, job: str, *, to: bool = True) -> None:
        """What a user does by hand."""
        found = self.workload(job)
        assert found is not None
        path = f"{KUEUE}/namespaces/{NAMESPACE}/workloads/{found['metadata']['name']}"
        self.client.merge_patch(path, {"spec": {"active": to}})

    def forget(self, *names: str) -> None:
        """Takes queues away."""
        for name in names:
            self.client.delete(f"{KUEUE}/namespaces/{NAMESPACE}/localqueues/{name}")
            self.client.delete(f"{KUEUE}/clusterqueues/{name}")


@cache
def kueue_bed(*names: str) -> KubeBed:
    """Clusters with Kueue, beside those without, for all tests of this process."""
    bed = running_bed()
    bed.run("up", *names)
    for name in names:
        install(bed, name)
    return bed


def install(bed: KubeBed, name: str) -> None:
    bed.run("kueue", name)
    admin = bed.admin(name)
    role = admin.get(ROLES)
    documents = yaml.safe_load_all(ROLE.read_text(encoding="utf-8"))
    (granted,) = [one for one in documents if one["kind"] == "Role"]
    rules = granted["rules"]
    admin.merge_patch(ROLES, {"rules": [*role["rules"], *rules]})
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    checks = {"apiGroups": ["kueue.x-k8s.io"], "resources": ["admissionchecks"], "verbs": ["get"]}
    status = checks | {"resources": ["admissionchecks/status"], "verbs": ["patch"]}
    meta = {"name": "gridtide-check"}
    binding = {
        "metadata": meta,
        "roleRef": {"kind": "ClusterRole", "name": "gridtide-check"},
        "subjects": [{"kind": "User", "name": "gridtide"}],
    }
    # Other tests of this bed may have granted it before.
    with suppress_known():
        admin.create(f"{rbac}/clusterroles", {"metadata": meta, "rules": [checks, status]})
    with suppress_known():
        admin.create(f"{rbac}/clusterrolebindings", binding)


@contextmanager
def suppress_known() -> Iterator[None]:
    """Lets pass that something is there already, and nothing else."""
    try:
        yield
    except KubeRefusedError as error:
        if error.kind is not Refusal.EXISTS:
            raise


def stay(is_true: Callable[[], bool], what: str, for_s: float = 0.5) -> None:
    """It is so for as long as the controllers take ten turns, or longer."""
    until_s = time.monotonic() + for_s
    wait_until(lambda: (not is_true()) or time.monotonic() > until_s, what)
    assert is_true(), what
