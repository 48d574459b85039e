"""The whole service on two real Slurm clusters of different intensity."""

import subprocess
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api_world import api, job
from tests.unit.cluster.real_slurm import require_slurm

pytestmark = [pytest.mark.external, pytest.mark.timeout(240)]
GRAMS = {"DE": 400.0, "FR": 50.0}
NAMES = {"east": "DE", "west": "FR"}


def test_jobs_go_to_the_cleaner_cluster_until_it_is_full_and_each_runs_once(tmp_path: Path) -> None:
    confs = {name: require_slurm(name) for name in NAMES}
    prefix = f"gt-{uuid.uuid4().hex[:8]}-"
    settings: dict[str, Any] = {
        "intensity": {"sources": [{"kind": "trace", "path": str(_constant(tmp_path))}]},
        "planning": {"tick_every": 0.5},
        "clusters": [
            {
                "id": name,
                "kind": "slurm",
                "region": f"eu-{name}",
                "zone": NAMES[name],
                "capacity": {"H100": 2},
                "root": str(tmp_path / "shared" / name),
                "slurm": {
                    "conf": str(conf),
                    "prefix": prefix,
                    "devices": {"H100": {"gres": "gpu:h100", "partition": "gpu"}},
                },
            }
            for name, conf in confs.items()
        ],
    }
    # Half an hour each, and no time to wait for one another: two find room where it is clean.
    spec = job(
        command=["sh", "-c", f"echo $GRIDTIDE_JOB_ID >> {tmp_path}/ran; sleep 2"],
        duration="30m",
        patience="10m",
        resources={"accelerators": "H100:1"},
    )
    with api(tmp_path, **settings) as (client, service):
        service.cycle.start()
        ids = [client.post("/v1/jobs", json=spec).raise_for_status().json()["id"] for _ in range(3)]
        ended = _wait_for(client, ids)
        entries = client.get("/v1/reports").raise_for_status().json()["entries"]
    assert {one["state"] for one in ended} == {"succeeded"}
    assert Counter(entry["runs"][0]["cluster"] for entry in entries) == {"west": 2, "east": 1}
    assert not any(entry["missed_deadline"] for entry in entries)
    assert sorted((tmp_path / "ran").read_text(encoding="utf-8").split()) == sorted(ids)
    # Slurm's own accounts know each job once, under the reference that the ledger has.
    booked = {name: _accounts(conf, prefix) for name, conf in confs.items()}
    assert {name: len(jobs) for name, jobs in booked.items()} == {"west": 2, "east": 1}
    for entry in entries:
        run = entry["runs"][0]
        assert run["cluster_ref"] in booked[run["cluster"]]


def _constant(folder: Path) -> Path:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [now + timedelta(hours=hour) for hour in range(-48, 240)]
    lines = [f"{zone},{at.isoformat()},{value}" for zone, value in GRAMS.items() for at in hours]
    path = folder / "intensity.csv"
    path.write_text("\n".join(["zone,time,g_per_kwh", *lines]) + "\n", encoding="utf-8")
    return path


def _wait_for(client: Any, ids: list[str]) -> list[dict[str, Any]]:
    until = time.monotonic() + 150
    while time.monotonic() < until:
        jobs = [client.get(f"/v1/jobs/{one}").raise_for_status().json() for one in ids]
        if all(one["state"] in ("succeeded", "failed", "missed", "cancelled") for one in jobs):
            return jobs
        time.sleep(0.5)
    raise AssertionError([(one["state"], one["reason"]) for one in jobs])


def _accounts(conf: Path, prefix: str) -> set[str]:
    """Ids of jobs of that prefix that sacct of this cluster knows."""
    cluster = conf.parent.name
    done = subprocess.run(
        ["sacct", "-M", cluster, "-X", "-n", "-P", "-S", "now-1hour", "-o", "JobID,JobName"],
        env={"SLURM_CONF": str(conf), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return {job_id for job_id, name in rows if name.startswith(prefix)}
