"""A user of a simulated Kubernetes cluster, who creates and steers jobs by hand."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from adapters.clocks import SystemClock
from adapters.cluster.kube_adopting import AdoptingKubernetesCluster
from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_kinds import (
    JOB,
    JOB_SET,
    PYTORCH_JOB,
    RAY_JOB,
    TRAIN_JOB,
    KubeKind,
)
from adapters.cluster.kube_native_record import parse_ref
from adapters.cluster.kube_objects import KubeTerms
from adapters.hardware_tables import load_hardware
from scheduler.server.safe_starts import SafeStarts
from tests.unit.cluster.kube_world import DEVICES, NAMESPACE, KubeBed, client_of
from tests.unit.cluster.native_user import Steered
from tests.unit.cluster.runs import wait_until

ASK = {"deadline": "2031-01-01T00:00:00Z", "duration": "1h"}
SAVING = "trap 'exit 0' TERM; while :; do sleep 0.2 & wait $!; done"
"""A script that goes on until it is asked to leave."""
Document = dict[str, Any]
Steer = Callable[..., Steered]


def adopting(
    bed: KubeBed, *, context: str = "east-gridtide", **terms: Any
) -> AdoptingKubernetesCluster:
    """East, as the service has it."""
    known: dict[str, Any] = {
        "client": client_of(bed, context),
        "namespace": NAMESPACE,
        "capacity": {"CPU": 64, "H100": 8},
        "devices": DEVICES,
        "terms": KubeTerms(image="python:3.12", checkpoints="/checkpoints"),
        "clock": SystemClock(),
        "adopts": (NAMESPACE,),
        "find_safe_start": SafeStarts(load_hardware()).find,
    }
    return AdoptingKubernetesCluster("east", **(known | terms))


def manifest(
    name: str,
    words: dict[str, str] | None = None,
    *,
    kind: KubeKind = JOB,
    script: str = SAVING,
    suspend: bool = True,
    limits: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> Document:
    """What the user writes; all kinds but Job run several pods, as `N_PODS` says."""
    stated = ASK if words is None else words
    own = SPECS[kind.name](container(script, limits or {}))
    home = kind.terms({"spec": own}) if kind.home != ("spec",) else own
    terms = {**home, "suspend": suspend}
    return {
        "apiVersion": kind.api,
        "kind": kind.name,
        "metadata": {
            "name": name,
            "labels": labels or {},
            "annotations": {
                f"gridtide.dev/{word.replace('_', '-')}": text for word, text in stated.items()
            },
        },
        "spec": {**(terms if home is own else {**own, kind.home[-1]: terms}), **spec},
    }


def container(script: str, limits: dict[str, str]) -> Document:
    return {
        "name": "main",
        "image": "python:3.12",
        "command": ["/bin/sh", "-c", script],
        "resources": {"limits": limits},
    }


def pods(one: Document) -> Document:
    return {"spec": {"restartPolicy": "Never", "containers": [one]}}


def job_set(one: Document) -> Document:
    def jobs(name: str, count: int, **spec: Any) -> Document:
        template = {"spec": {"backoffLimit": 0, "template": pods(one), **spec}}
        return {"name": name, "replicas": count, "template": template}

    return {"replicatedJobs": [jobs("lead", 1), jobs("work", 1, parallelism=2, completions=2)]}


def train_job(one: Document) -> Document:
    limits = one["resources"]["limits"] or {"cpu": "1"}
    trainer = {"numNodes": 2, "command": one["command"], "resourcesPerNode": {"limits": limits}}
    return {"runtimeRef": {"name": "torch-distributed"}, "trainer": trainer}


def pytorch_job(one: Document) -> Document:
    replica = {"replicas": 1, "restartPolicy": "Never", "template": pods(one)}
    return {"pytorchReplicaSpecs": {"Master": replica, "Worker": replica}, "runPolicy": {}}


def ray_job(one: Document) -> Document:
    node = {
        "name": "ray",
        "image": "rayproject/ray:2.52.0",
        "resources": one["resources"],
    }
    cluster = {
        "headGroupSpec": {"template": pods(dict(node, resources={}))},
        "workerGroupSpecs": [{"groupName": "gpus", "replicas": 2, "template": pods(node)}],
    }
    return {
        "entrypoint": one["command"][-1],
        "shutdownAfterJobFinishes": True,
        "submitterConfig": {"backoffLimit": 0},
        "rayClusterSpec": cluster,
    }


SPECS: dict[str, Callable[[Document], Document]] = {
    JOB.name: lambda one: {"template": pods(one)},
    JOB_SET.name: job_set,
    TRAIN_JOB.name: train_job,
    PYTORCH_JOB.name: pytorch_job,
    RAY_JOB.name: ray_job,
}
N_PODS = {JOB.name: 1, JOB_SET.name: 3, TRAIN_JOB.name: 2, PYTORCH_JOB.name: 2, RAY_JOB.name: 3}
"""How many at once; each takes a CPU, where it asks for nothing else."""


@dataclass
class KubeUser:
    """Acts with every right in one namespace, and tidies up."""

    client: KubeClient
    namespace: str = NAMESPACE
    kind: KubeKind = JOB
    names: list[str] = field(default_factory=list)

    def path(self, name: str) -> str:
        return self.kind.path(self.namespace, name)

    def create(self, words: dict[str, str] | None = None, **terms: Any) -> str:
        """The ref of a new job."""
        name = str(terms.pop("name", f"mine-{uuid.uuid4().hex[:8]}"))
        document = manifest(name, words, kind=self.kind, **terms)
        made = self.client.create(self.kind.path(self.namespace), document)
        self.names.append(name)
        kind = "" if self.kind is JOB else f"{self.kind.name}/"
        return f"{self.namespace}/{kind}{name}/{made['metadata']['uid']}"

    def patch(self, ref: str, patch: Document) -> None:
        self.client.merge_patch(self.path(name_of(ref)), patch)

    def suspend(self, ref: str, *, to: bool = True) -> None:
        self.patch(ref, self.kind.suspending(to))

    def annotate(self, ref: str, **words: str | None) -> None:
        notes = {f"gridtide.dev/{word.replace('_', '-')}": text for word, text in words.items()}
        self.patch(ref, {"metadata": {"annotations": notes}})

    def delete(self, ref: str) -> None:
        self.client.delete(self.path(name_of(ref)))

    def job(self, ref: str) -> Document:
        return self.client.get(self.path(name_of(ref)))

    def is_running(self, ref: str) -> bool:
        return "completionTime" not in self.job(ref)["status"]

    def is_there(self, ref: str) -> bool:
        _, name, uid = parse_ref(ref)
        path = self.kind.path(self.namespace)
        items = self.client.list_all(path, fields=f"metadata.name={name}").items
        return any(one["metadata"]["uid"] == uid for one in items)

    def note(self, ref: str, mark: str) -> str | None:
        found = self.job(ref)["metadata"]["annotations"].get(f"gridtide.dev/{mark}")
        return None if found is None else str(found)

    def is_suspended(self, ref: str) -> bool:
        return bool(self.kind.terms(self.job(ref))["suspend"])

    def events(self, ref: str) -> list[tuple[str, str]]:
        """Reason and message of what Gridtide says at the Job."""
        uid = ref.rpartition("/")[2]
        items = self.client.list_all(
            path_of("events", self.namespace), fields=f"involvedObject.uid={uid}"
        ).items
        return [
            (one["reason"], one["message"])
            for one in items
            if one["source"]["component"] == "gridtide"
        ]

    def finish(self) -> None:
        for name in self.names:
            self.client.delete(self.path(name), grace_s=None)


def steering(cluster: AdoptingKubernetesCluster, user: KubeUser) -> Steer:
    """Makes jobs of that user, as the cluster has them."""

    def steer(words: dict[str, str] | None = None, **terms: Any) -> Steered:
        job = Steered(cluster, user.create(words, **terms))
        if terms.get("suspend", True):
            wait_until(lambda: job.is_listed, "the copy has it")
        return job

    return steer


def ahead(**by: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**by)


def name_of(ref: str) -> str:
    return parse_ref(ref)[1]


def appended(path: Path, text: str) -> str:
    """A script that writes a line there, and ends."""
    return f"echo {text} >> {path}"
