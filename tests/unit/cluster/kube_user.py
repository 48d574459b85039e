"""A user of a simulated Kubernetes cluster, who creates and steers Jobs by hand."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.clocks import SystemClock
from adapters.cluster.kube_adopting import AdoptingKubernetesCluster
from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_objects import KubeTerms
from adapters.hardware_tables import load_hardware
from scheduler.server.safe_starts import SafeStarts
from tests.unit.cluster.kube_world import DEVICES, NAMESPACE, KubeBed, client_of

ASK = {"deadline": "2031-01-01T00:00:00Z", "duration": "1h"}
SAVING = "trap 'exit 0' TERM; while :; do sleep 0.2 & wait $!; done"
"""A script that goes on until it is asked to leave."""
Document = dict[str, Any]


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
    script: str = SAVING,
    suspend: bool = True,
    limits: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> Document:
    """What the user writes."""
    stated = ASK if words is None else words
    pod = {
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "main",
                "image": "python:3.12",
                "command": ["/bin/sh", "-c", script],
                "resources": {"limits": limits or {}},
            }
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": labels or {},
            "annotations": {
                f"gridtide.dev/{word.replace('_', '-')}": text for word, text in stated.items()
            },
        },
        "spec": {"suspend": suspend, "template": {"spec": pod}, **spec},
    }


@dataclass
class KubeUser:
    """Acts with every right in one namespace, and tidies up."""

    client: KubeClient
    namespace: str = NAMESPACE
    names: list[str] = field(default_factory=list)

    def path(self, name: str) -> str:
        return path_of("jobs", self.namespace, name)

    def create(self, words: dict[str, str] | None = None, **terms: Any) -> str:
        """The ref of a new Job."""
        name = str(terms.pop("name", f"mine-{uuid.uuid4().hex[:8]}"))
        made = self.client.create(path_of("jobs", self.namespace), manifest(name, words, **terms))
        self.names.append(name)
        return f"{self.namespace}/{name}/{made['metadata']['uid']}"

    def patch(self, ref: str, patch: Document) -> None:
        self.client.merge_patch(self.path(ref.split("/")[1]), patch)

    def suspend(self, ref: str, *, to: bool = True) -> None:
        self.patch(ref, {"spec": {"suspend": to}})

    def annotate(self, ref: str, **words: str | None) -> None:
        notes = {f"gridtide.dev/{word.replace('_', '-')}": text for word, text in words.items()}
        self.patch(ref, {"metadata": {"annotations": notes}})

    def delete(self, ref: str) -> None:
        self.client.delete(self.path(ref.split("/")[1]))

    def job(self, ref: str) -> Document:
        return self.client.get(self.path(ref.split("/")[1]))

    def is_running(self, ref: str) -> bool:
        return "completionTime" not in self.job(ref)["status"]

    def is_there(self, ref: str) -> bool:
        _, name, uid = ref.split("/")
        items = self.client.list_all(
            path_of("jobs", self.namespace), fields=f"metadata.name={name}"
        ).items
        return any(one["metadata"]["uid"] == uid for one in items)

    def note(self, ref: str, mark: str) -> str | None:
        found = self.job(ref)["metadata"]["annotations"].get(f"gridtide.dev/{mark}")
        return None if found is None else str(found)

    def is_suspended(self, ref: str) -> bool:
        return bool(self.job(ref)["spec"]["suspend"])

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


def appended(path: Path, text: str) -> str:
    """A script that writes a line there, and ends."""
    return f"echo {text} >> {path}"
