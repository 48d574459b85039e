"""Simulated Kubernetes clusters for tests: started once a session and process, on free ports, in a folder of their own."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_link import KubeLink
from adapters.cluster.kube_login import KubeconfigLogin
from adapters.cluster.kube_objects import KubeDevice, KubeTerms
from adapters.cluster.kubernetes import KubernetesCluster
from adapters.http_client import Stop
from tests.fakes.clock import ManualClock
from tests.unit.core.builders import T0

TESTBED = Path(__file__).parents[2] / "testbeds" / "kubernetes"
NAMESPACE = "training"
DEVICES = {"CPU": KubeDevice(resource="cpu"), "H100": KubeDevice(resource="nvidia.com/gpu")}


@dataclass
class KubeBed:
    """The clusters of one folder."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    _admins: dict[str, KubeClient] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def run(self, *words: str) -> str:
        env = os.environ | {
            "GRIDTIDE_K8S_DIR": str(self.folder),
            "GRIDTIDE_K8S_PORT": "0",
            **self.settings,
        }
        done = subprocess.run(
            [sys.executable, str(TESTBED), *words],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fault(self, name: str, **fault: Any) -> None:
        self.run("fault", name, json.dumps(fault))

    def admin(self, name: str) -> KubeClient:
        """May do everything there; the same one at each call."""
        if name not in self._admins:
            self._admins[name] = client_of(self, name)
        return self._admins[name]

    def down(self) -> None:
        for client in self._admins.values():
            client.link.close()
        self.run("down")
        shutil.rmtree(self.folder.parent, ignore_errors=True)


@cache
def running_bed() -> KubeBed:
    """East and west, for all tests of this process."""
    if shutil.which("openssl") is None:
        pytest.skip("the simulated Kubernetes needs the program openssl; install it")
    # Its lock lies beside its folder: both go together.
    bed = KubeBed(Path(tempfile.mkdtemp(prefix="gridtide-k8s-")) / "clusters")
    atexit.register(bed.down)
    bed.run("up", "east", "west")
    return bed


def client_of(bed: KubeBed, context: str, *, stop: Stop | None = None) -> KubeClient:
    return KubeClient(KubeLink(KubeconfigLogin(context, paths=[bed.kubeconfig]), stop=stop))


def open_cluster(
    bed: KubeBed,
    root: Path,
    *,
    context: str = "east-gridtide",
    instance: str = "gt",
    namespace: str = NAMESPACE,
    capacity: Mapping[str, int] | None = None,
    checkpoint_claim: str | None = "kept",
    image: str = "python:3.12",
    queue: str | None = None,
    make: type[KubernetesCluster] = KubernetesCluster,
    **fields: Any,
) -> KubernetesCluster:
    terms = KubeTerms(
        image=image,
        checkpoints=str(root / "checkpoints"),
        checkpoint_claim=checkpoint_claim,
        instance=instance,
        queue=queue,
    )
    return make(
        "east",
        client=client_of(bed, context),
        namespace=namespace,
        capacity=capacity or {"CPU": 8, "H100": 2},
        terms=terms,
        clock=ManualClock(T0),
        prefix=f"{instance}-",
        **{"devices": DEVICES, **fields},
    )
