"""The whole service on a Slurm cluster, ticked by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.server.wiring import Service
from tests.fakes.slurm.setting_up import FakeSlurm, set_up
from tests.integration.api_world import job
from tests.unit.cluster.runs import PATIENCE_S, wait_until


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A fake cluster whose commands are the first on PATH."""
    slurm = set_up(folder / "slurm")
    monkeypatch.setenv("PATH", str(slurm.programs), prepend=":")
    return slurm


def slurm_settings(folder: Path, conf: Path, **terms: Any) -> dict[str, Any]:
    """A Slurm cluster where it is dirty, beside this machine where it is clean."""
    return {
        "clusters": [
            {"id": "here", "region": "eu-fr", "zone": "FR", "capacity": {"CPU": 8}},
            {
                "id": "hpc",
                "kind": "slurm",
                "region": "eu-de",
                "zone": "DE",
                "capacity": {"CPU": 8, "H100": 2},
                "root": str(folder / "shared"),
                "slurm": {
                    "conf": str(conf),
                    "devices": {"H100": {"gres": "gpu:h100", "partition": "gpu"}},
                }
                | terms,
            },
        ]
    }


def submit(client: httpx.Client, **fields: Any) -> str:
    """Submits a job for the Slurm cluster that is to start at once; returns its id."""
    document = job(**{"duration": "1h", "slurm": {}} | fields)
    made: str = client.post("/v1/jobs", json=document).raise_for_status().json()["id"]
    client.post(f"/v1/jobs/{made}/run-now").raise_for_status()
    return made


def show(client: httpx.Client, job_id: str) -> dict[str, Any]:
    document: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
    return document


def tick_until(
    service: Service, is_true: Callable[[], bool], what: str, *, within_s: float = PATIENCE_S
) -> None:
    """Ticks until it is so."""

    def ticked() -> bool:
        service.cycle.tick()
        return is_true()

    wait_until(ticked, what, within_s=within_s)
