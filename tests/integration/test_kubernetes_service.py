"""The whole service, as a process, on two simulated Kubernetes clusters of different intensity."""

import math
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api_world import job
from tests.integration.crash_run import fast_clock
from tests.integration.kubernetes_world import jobs_of, kube_cluster
from tests.integration.slurm_world import (
    ServiceProcess,
    constant,
    have_ended,
    trace,
    wait_for_jobs,
)
from tests.integration.test_slurm_pauses import MINUTE, trains
from tests.unit.cluster.kube_world import running_bed

# Long enough for compiling everything first, on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SPEED = 40.0
STEPS = 150
"""Of a tenth of a second each: ten minutes of the service's clock."""


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[ServiceProcess]:
    clock = {
        "origin_at": datetime.now(UTC).isoformat(),
        "anchor_wall_s": time.time(),
        "speed": SPEED,
    }
    service = ServiceProcess(folder, {"clock": clock, **settings})
    service.start()
    try:
        service.wait_until_up()
        yield service
    finally:
        service.kill()


def new_prefix() -> str:
    return f"g{uuid.uuid4().hex[:8]}-"


def test_jobs_go_to_the_cleaner_cluster_until_it_is_full_and_each_runs_once(tmp_path: Path) -> None:
    bed, prefix = running_bed(), new_prefix()
    # Half an hour each, and no time to wait for one another: two find room where it is clean.
    spec = job(
        command=["sh", "-c", f"echo $GRIDTIDE_JOB_ID >> {tmp_path}/ran; sleep 5"],
        duration="30m",
        patience="10m",
        resources={"accelerators": "H100:1"},
        kubernetes={"image": "ours:1"},
    )
    with serving(
        tmp_path,
        intensity=constant(tmp_path),
        planning={"tick_every": 0.2},
        clusters=[kube_cluster(tmp_path, name, bed, prefix=prefix) for name in ("east", "west")],
    ) as service:
        ids = [service.post("/v1/jobs", spec)["id"] for _ in range(3)]
        ended = wait_for_jobs(
            lambda: [service.get(f"/v1/jobs/{one}") for one in ids], have_ended, within_s=240
        )
        entries = service.get("/v1/reports")["entries"]
    assert {one["state"] for one in ended} == {"succeeded"}, service.log
    assert Counter(entry["runs"][0]["cluster"] for entry in entries) == {"west": 2, "east": 1}
    assert not any(entry["missed_deadline"] for entry in entries)
    assert sorted((tmp_path / "ran").read_text(encoding="utf-8").split()) == sorted(ids)
    # The clusters know each job once, under the reference that the ledger has, with the image asked for.
    for name in ("east", "west"):
        found = {one["metadata"]["name"]: one for one in jobs_of(bed, name, prefix)}
        told = [entry["runs"][0] for entry in entries if entry["runs"][0]["cluster"] == name]
        assert found.keys() == {run["cluster_ref"] for run in told}
        for one in found.values():
            (container,) = one["spec"]["template"]["spec"]["containers"]
            assert container["image"] == "ours:1"


def wait_for_cycle(begin: datetime, clock: dict[str, Any]) -> datetime:
    """When the cycle of twenty minutes that has just begun on the service's clock did so."""
    cycle_s = 20 * MINUTE.total_seconds()
    ahead_s = (datetime.fromisoformat(clock["origin_at"]) - begin).total_seconds()
    gone_s = ahead_s + (time.time() - clock["anchor_wall_s"]) * clock["speed"]
    cycles = math.ceil(gone_s / cycle_s)
    time.sleep((cycles * cycle_s - gone_s) / clock["speed"])
    return begin + cycles * 20 * MINUTE


def test_paused_job_runs_in_two_windows_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    bed, prefix = running_bed(), new_prefix()
    (tmp_path / "train.py").write_text(trains(STEPS), encoding="utf-8")
    told = tmp_path / "told"
    begin, clock = datetime.now(UTC).replace(second=0, microsecond=0), fast_clock(SPEED)
    spec = job(
        command=[sys.executable, str(tmp_path / "train.py"), str(told)],
        duration="10m",
        patience=None,
        interruptible={"min_chunk": "2m", "checkpoint_cost": "30s", "max_interruptions": 2},
    )
    with serving(
        tmp_path,
        # Clean for eight minutes, dirty for twelve, and so on.
        intensity=trace(tmp_path, {"FR": ([50.0] * 8 + [800.0] * 12) * 50}, step=MINUTE),
        clock=clock,
        planning={"tick_every": 0.2, "slot": "1m", "horizon": "4h"},
        clusters=[kube_cluster(tmp_path, "west", bed, prefix=prefix)],
    ) as service:
        # Eight clean minutes now, and eight before the deadline: too few each for all of it.
        clean = wait_for_cycle(begin, clock)
        job_id = service.post("/v1/jobs", spec | {"deadline": (clean + 28 * MINUTE).isoformat()})[
            "id"
        ]
        (found,) = wait_for_jobs(
            lambda: [service.get(f"/v1/jobs/{job_id}")], have_ended, within_s=240
        )
        (entry,) = service.get("/v1/reports")["entries"]
    assert found["state"] == "succeeded", found
    assert not entry["missed_deadline"]
    lines = told.read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 2, lines
    begun_from = [int(line.rpartition(" ")[2]) for line in lines]
    assert begun_from == sorted(set(begun_from)), (
        "each segment goes on where the one before has left"
    )
    # Every stretch is in the ledger, as its own Job.
    names = {one["metadata"]["name"] for one in jobs_of(bed, "west", prefix)}
    assert {run["cluster_ref"] for run in entry["runs"]} == names
    assert [run["segment"] for run in entry["runs"]] == list(range(len(lines)))
    assert entry["saving_g"] > 0


def test_movable_job_goes_on_in_the_other_cluster_and_is_never_alive_in_both(
    tmp_path: Path,
) -> None:
    bed, prefix = running_bed(), new_prefix()
    alive, told = tmp_path / "alive", tmp_path / "told"
    # A second one beside it could not make the folder, and would fail the job.
    alone = (
        f"import atexit, os\nos.mkdir({str(alive)!r})\natexit.register(os.rmdir, {str(alive)!r})\n"
    )
    (tmp_path / "train.py").write_text(alone + trains(STEPS), encoding="utf-8")
    begin, clock = datetime.now(UTC).replace(second=0, microsecond=0), fast_clock(SPEED)
    spec = job(
        command=[sys.executable, str(tmp_path / "train.py"), str(told)],
        duration="10m",
        patience=None,
        interruptible={"min_chunk": "2m", "checkpoint_cost": "30s", "max_interruptions": 2},
        movable=True,
    )
    # Eight clean minutes in the east, then four in the west: too few anywhere for all of it.
    grams = {
        "DE": ([50.0] * 8 + [800.0] * 7 + [400.0] * 5) * 50,
        "FR": ([900.0] * 12 + [30.0] * 4 + [900.0] * 4) * 50,
    }
    shared = str(tmp_path / "shared")
    with serving(
        tmp_path,
        intensity=trace(tmp_path, grams, step=MINUTE),
        clock=clock,
        planning={"tick_every": 0.2, "slot": "1m", "horizon": "4h"},
        clusters=[
            kube_cluster(tmp_path, name, bed, prefix=prefix, checkpoint_path=shared)
            for name in ("east", "west")
        ],
    ) as service:
        clean = wait_for_cycle(begin, clock)
        asked = spec | {"deadline": (clean + 20 * MINUTE).isoformat()}
        job_id = service.post("/v1/jobs", asked)["id"]
        (found,) = wait_for_jobs(
            lambda: [service.get(f"/v1/jobs/{job_id}")], have_ended, within_s=240
        )
        (entry,) = service.get("/v1/reports")["entries"]
    assert found["state"] == "succeeded", found
    runs = entry["runs"]
    assert [run["cluster"] for run in runs] == ["east", "west"]
    assert runs[0]["end"] <= runs[1]["start"]
    begun_from = [int(line.rpartition(" ")[2]) for line in told.read_text("utf-8").splitlines()]
    assert begun_from[0] == 0
    assert len(begun_from) == 2
    assert begun_from[1] > 0, "it goes on from its checkpoint"
    assert not alive.exists()


def test_permission_that_is_missing_is_named_while_the_job_waits(tmp_path: Path) -> None:
    bed = running_bed()
    with serving(
        tmp_path,
        intensity=constant(tmp_path),
        planning={"tick_every": 0.2},
        clusters=[kube_cluster(tmp_path, "west", bed, user="nobody")],
    ) as service:
        job_id = service.post("/v1/jobs", job(duration="30m", patience="10m"))["id"]
        (found,) = wait_for_jobs(
            lambda: [service.get(f"/v1/jobs/{job_id}")],
            lambda jobs: jobs[0]["reason"] is not None and "may not" in jobs[0]["reason"],
            within_s=240,
        )
    assert 'nobody may not list resource "' in found["reason"]
    assert "deploy/kubernetes/role.yaml" in found["reason"]


def test_job_that_the_cleaner_cluster_cannot_start_runs_elsewhere_in_time(tmp_path: Path) -> None:
    bed, prefix = running_bed(), new_prefix()
    nowhere = {"CPU": {"node_selector": {"no": "where"}}}
    west = kube_cluster(tmp_path, "west", bed, prefix=prefix, devices=nowhere, start_within="2s")
    east = kube_cluster(tmp_path, "east", bed, prefix=prefix)
    with serving(
        tmp_path,
        intensity=constant(tmp_path),
        planning={"tick_every": 0.2},
        clusters=[west, east],
        clock=fast_clock(10.0),  # plans ask clusters for news every half minute, whatever the clock
    ) as service:
        job_id = service.post("/v1/jobs", job(duration="1m", patience="1h"))["id"]
        (found,) = wait_for_jobs(
            lambda: [service.get(f"/v1/jobs/{job_id}")], have_ended, within_s=240
        )
        (entry,) = service.get("/v1/reports")["entries"]
        log = service.log
    assert found["state"] == "succeeded", found
    assert not entry["missed_deadline"]
    assert [run["cluster"] for run in entry["runs"]] == ["east"]
    assert "0/2 nodes are available" in log
