"""Services on the simulated Kubernetes clusters of the test bed."""

import uuid
from pathlib import Path
from typing import Any

from tests.integration.slurm_world import ZONES, ServiceProcess
from tests.unit.cluster.kube_world import KubeBed

NAMES = ("east", "west")


def kube_cluster(
    folder: Path, name: str, bed: KubeBed, *, user: str = "gridtide", **kubernetes: Any
) -> dict[str, Any]:
    """Settings of one cluster of the test bed, with some of its CPUs and GPUs."""
    return {
        "id": name,
        "kind": "kubernetes",
        "region": f"eu-{name}",
        "zone": ZONES[name],
        "capacity": {"CPU": 8, "H100": 2},
        "kubernetes": {
            "context": f"{name}-{user}",
            "kubeconfig": str(bed.kubeconfig),
            "image": "python:3.12",
            # The pods of the test bed are processes here: each cluster has a folder of its own.
            "checkpoint_path": str(folder / "shared" / name),
            "checkpoint_claim": "checkpoints",
            **kubernetes,
        },
    }


def adopting_service(
    folder: Path, bed: KubeBed, *, kubernetes: dict[str, Any] | None = None, **settings: Any
) -> ServiceProcess:
    """A service that plans users' own jobs on west; it is not started yet."""
    prefix = f"g{uuid.uuid4().hex[:8]}-"
    west = kube_cluster(folder, "west", bed, prefix=prefix, adopt=True, **(kubernetes or {}))
    known: dict[str, Any] = {
        "planning": {"tick_every": 0.3, "slot": "1m", "horizon": "4h"},
        "clusters": [west | {"capacity": {"CPU": 24, "H100": 2}}],
    }
    return ServiceProcess(folder, known | settings)


def native_jobs(service: ServiceProcess) -> list[dict[str, Any]]:
    """All jobs of a service, as its API tells them."""
    found: list[dict[str, Any]] = service.get("/v1/jobs?limit=100")["jobs"]
    return found


def jobs_of(bed: KubeBed, name: str, prefix: str) -> list[dict[str, Any]]:
    """The Jobs with names that begin so, as the cluster tells them."""
    path = "/apis/batch/v1/namespaces/training/jobs"
    items = bed.admin(name).list_all(path).items
    return [one for one in items if one["metadata"]["name"].startswith(prefix)]
