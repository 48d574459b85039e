"""Users' own jobs on real Slurm clusters: planned and released by the service, and in time without it."""

import shlex
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.timegrid import format_instant
from tests.integration.slurm_world import (
    ServiceProcess,
    cluster,
    have_ended,
    run,
    trace,
    wait_for_jobs,
)
from tests.unit.cluster.real_slurm import require_slurm

pytestmark = [pytest.mark.external, pytest.mark.timeout(420)]
JOBS = 20
PATIENCE_S = 300.0
GUARD_S = 120
"""How long before its latest start the service has Slurm start a job (`guard.GUARD_BEFORE_S`)."""
MINUTE = timedelta(minutes=1)


@pytest.fixture
def conf() -> Path:
    return require_slurm("west")


@pytest.fixture
def prefix() -> str:
    return f"nat-{uuid.uuid4().hex[:8]}-"


@pytest.fixture
def start(tmp_path: Path, conf: Path, prefix: str) -> Iterator[Any]:
    services: list[ServiceProcess] = []

    def begin(intensity: dict[str, Any]) -> ServiceProcess:
        settings = {
            "intensity": intensity,
            "planning": {"tick_every": 0.5, "slot": "1m", "horizon": "4h"},
            "clusters": [
                cluster(tmp_path, "west", conf, prefix=f"gt-{prefix}", adopt="own"),
            ],
        }
        services.append(ServiceProcess(tmp_path, settings))
        services[-1].start()
        services[-1].wait_until_up()
        return services[-1]

    yield begin
    for service in services:
        service.kill()
    for index in range(JOBS):
        run(conf, "scancel", f"--name={prefix}{index}")


def test_twenty_held_jobs_are_planned_and_released_in_their_window(
    start: Any, tmp_path: Path, conf: Path, prefix: str
) -> None:
    # Dirty for a minute and a half, then clean: all wait, and none until its guard.
    service = start(
        trace(tmp_path, {"FR": [800.0, 800.0] + [50.0] * 60}, step=MINUTE, after_g=800.0)
    )
    sent = time.time()
    ids = _sbatch(conf, prefix, tmp_path / "ran", minutes=40)
    natives = _wait(service, lambda jobs: len(jobs) == JOBS and all(map(_is_planned, jobs)))
    assert {job["native"]["ref"] for job in natives} == set(ids)
    assert not any("Held" in line for line in _queue(conf, prefix)), "each has its guard instead"
    ended = _wait(service, have_ended)
    assert {job["state"] for job in ended} == {"succeeded"}
    starts = [datetime.fromisoformat(job["started_at"]).timestamp() for job in ended]
    assert min(starts) >= sent + 30, "none began at once, where it was dirty"
    assert max(starts) < sent + 40 * 60 - GUARD_S, "none waited for its guard"
    entries = service.get("/v1/reports")["entries"]
    assert sorted(entry["runs"][0]["cluster_ref"] for entry in entries) == sorted(ids)
    assert sorted(_ran(tmp_path)) == sorted(ids)


def test_with_the_service_gone_for_good_all_start_by_their_latest_safe_start(
    start: Any, tmp_path: Path, conf: Path, prefix: str
) -> None:
    # Cleaner from minute to minute: the plan is to begin as late as can be.
    falling = [800.0 - 50 * minute for minute in range(12)]
    service = start(trace(tmp_path, {"FR": falling}, step=MINUTE))
    sent = time.time()
    minutes = 5
    ids = _sbatch(conf, prefix, tmp_path / "ran", minutes=minutes, begins_at=sent + 3600)
    _wait(service, lambda jobs: len(jobs) == JOBS and all(map(_is_planned, jobs)))
    service.kill()
    assert _ran(tmp_path) == []
    latest = sent + (minutes - 1) * 60
    while len(_ran(tmp_path)) < JOBS and time.time() < latest:
        time.sleep(1)
    assert sorted(_ran(tmp_path)) == sorted(ids)


def _sbatch(
    conf: Path, prefix: str, ran: Path, *, minutes: int, begins_at: float | None = None
) -> list[str]:
    """Held jobs, or such that begin late, with a deadline in so many minutes, each of a minute; their ids."""
    deadline = format_instant(datetime.now(UTC) + timedelta(minutes=minutes))
    script = f"#!/bin/bash\necho $SLURM_JOB_ID >> {shlex.quote(str(ran))}\nsleep 1\n"
    when = "--hold" if begins_at is None else f"--begin=uts{int(begins_at)}"
    return [
        run(
            conf,
            "sbatch",
            "--parsable",
            when,
            f"--job-name={prefix}{index}",
            f"--comment=gridtide:deadline={deadline},duration=1m",
            "--partition=cpu",
            "--time=1",
            "--output=/dev/null",
            stdin=script,
        ).strip()
        for index in range(JOBS)
    ]


def _wait(
    service: ServiceProcess, is_so: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    return wait_for_jobs(
        lambda: service.get("/v1/jobs?limit=100")["jobs"], is_so, within_s=PATIENCE_S
    )


def _is_planned(job: dict[str, Any]) -> bool:
    return job["state"] not in ("queued",)


def _queue(conf: Path, prefix: str) -> list[str]:
    text = run(conf, "squeue", "--me", "--noheader", "--states=PENDING", "--format=%T|%r|%j")
    return [line for line in text.splitlines() if line.rpartition("|")[2].startswith(prefix)]


def _ran(folder: Path) -> list[str]:
    path = folder / "ran"
    return path.read_text(encoding="utf-8").split() if path.exists() else []
