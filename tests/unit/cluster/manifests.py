"""Manifests such as users write."""

import json
from typing import Any

from scheduler.core.kubernetes_terms import JobKubernetes

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
