"""A job that pauses on a real Slurm cluster: two windows, one checkpoint, both stretches in the ledger."""

import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.api_world import api, job
from tests.integration.slurm_world import cluster, have_ended, trace, wait_for_books, wait_for_jobs
from tests.unit.cluster.real_slurm import require_slurm

pytestmark = [pytest.mark.external, pytest.mark.timeout(240)]
SPEED = 20.0
STEPS = 300
"""Of a tenth of a second each: half a minute, which is ten minutes of the service's clock."""
MINUTE = timedelta(minutes=1)


def trains(steps: int) -> str:
    """A script that saves its step when asked to leave, and goes on from there; a tenth of a second each."""
    return f"""
import os, pathlib, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
saved = pathlib.Path(os.environ["GRIDTIDE_CHECKPOINT_DIR"]) / "step"
step = int(saved.read_text()) if saved.exists() else 0
with open(sys.argv[1], "a") as told:
    told.write(f"{{os.environ['GRIDTIDE_SEGMENT']}} from {{step}}\\n")
while step < {steps} and not stop:
    time.sleep(0.1)
    step += 1
saved.write_text(str(step))
sys.exit(75 if step < {steps} else 0)
"""


def test_it_runs_in_two_windows_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    conf = require_slurm("west")
    prefix = f"gt-{uuid.uuid4().hex[:8]}-"
    (tmp_path / "train.py").write_text(trains(STEPS), encoding="utf-8")
    told = tmp_path / "told"
    settings = {
        "clock": {
            "origin_at": datetime.now(UTC).isoformat(),
            "anchor_wall_s": time.time(),
            "speed": SPEED,
        },
        # Clean for eight minutes, dirty for twelve, then clean, but too short before the deadline for all of it.
        "intensity": trace(
            tmp_path, {"FR": [50.0] * 8 + [800.0] * 12 + [50.0] * 60}, step=MINUTE, after_g=800.0
        ),
        "planning": {"tick_every": 0.5, "slot": "1m", "horizon": "4h"},
        "clusters": [cluster(tmp_path, "west", conf, prefix=prefix)],
    }
    spec = job(
        command=[sys.executable, str(tmp_path / "train.py"), str(told)],
        duration="10m",
        patience="19m",
        interruptible={"min_chunk": "2m", "checkpoint_cost": "30s", "max_interruptions": 2},
    )
    with api(tmp_path, **settings) as (client, service):
        service.cycle.start()
        job_id = client.post("/v1/jobs", json=spec).raise_for_status().json()["id"]
        (found,) = wait_for_jobs(
            lambda: [client.get(f"/v1/jobs/{job_id}").raise_for_status().json()],
            have_ended,
            within_s=180,
        )
        (entry,) = client.get("/v1/reports").raise_for_status().json()["entries"]
    assert found["state"] == "succeeded", found
    assert not entry["missed_deadline"]
    lines = told.read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 2, lines
    assert lines[0] == "0 from 0"
    begun_from = [int(line.rpartition(" ")[2]) for line in lines]
    assert begun_from == sorted(set(begun_from)), (
        "each segment goes on where the one before has left"
    )
    # Every stretch is in the ledger, as its own job of Slurm.
    books = wait_for_books({"west": conf}, prefix, count=len(lines))["west"]
    assert [run["cluster_ref"] for run in entry["runs"]] == [one.job_id for one in books]
    assert [run["segment"] for run in entry["runs"]] == list(range(len(lines)))
    assert entry["saving_g"] > 0
