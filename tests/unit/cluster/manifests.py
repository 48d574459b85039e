"""Manifests such as users write."""

import json
from dataclasses import replace
from typing import Any

from adapters.cluster.kubernetes import KubernetesCluster
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.ports import Dispatch

Document = dict[str, Any]


def manifest(
    *,
    meta: Document | None = None,
    pod: Document | None = None,
    container: Document | None = None,
    **spec: Any,
) -> Document:
    """A Job with one container on one GPU, changed as given."""
    made = {
        "name": "train",
        "image": "ours:1",
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        **(container or {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "finetune", **(meta or {})},
        "spec": {
            **spec,
            "template": {"spec": {"restartPolicy": "Never", "containers": [made], **(pod or {})}},
        },
    }


def as_terms(document: Document) -> JobKubernetes:
    return JobKubernetes(manifest=json.dumps(document))


def as_manifest(dispatch: Dispatch) -> Dispatch:
    """The same run, as a user would write it who knows the command only."""
    many = {
        "completionMode": "Indexed",
        "completions": dispatch.num_nodes,
        "parallelism": dispatch.num_nodes,
    }
    container = {
        "command": [one.replace("$", "$$") for one in dispatch.command],
        **({"workingDir": dispatch.workdir} if dispatch.workdir else {}),
    }
    document = manifest(container=container, backoffLimit=0, **many)
    return replace(dispatch, kubernetes=as_terms(document))


class ManifestCluster(KubernetesCluster):
    """A cluster whose users write all their Jobs themselves."""

    def submit(self, dispatch: Dispatch) -> str:
        return super().submit(as_manifest(dispatch))
