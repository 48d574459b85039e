"""Daemons of real Slurm that are stopped under the whole service, and started again."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.server.wiring import Service
from tests.integration.api_world import api
from tests.integration.slurm_hand import show, slurm_settings, submit, tick_until
from tests.integration.slurm_world import ENDED
from tests.unit.cluster.real_slurm import TESTBED, require_slurm
from tests.unit.cluster.runs import lines

pytestmark = [pytest.mark.external, pytest.mark.timeout(240)]
SILENT = "its cluster does not answer: hpc: "
# What is stopped, what a job that waits says then, and what `doctor` says.
OUTAGES = {
    "east": ("Unable to contact slurm controller", "does not answer scontrol ping: .* is DOWN"),
    "munge": ("Munge encode failed.*is munged running", "is munged running on this machine"),
}
World = tuple[httpx.Client, Service]


def run_testbed(*words: str) -> None:
    # Not captured: the daemons would keep the pipes open.
    subprocess.run([TESTBED, *words], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    conf = require_slurm("east")
    settings = slurm_settings(tmp_path, conf, prefix=f"gt-{uuid.uuid4().hex[:8]}-")
    try:
        with api(tmp_path, **settings) as (client, service):
            yield client, service
            assert service.cycle.report.failures == 0, service.cycle.report.last_error
    finally:
        run_testbed("up", "east", "west")


def failing(service: Service) -> str:
    checks = [one for one in service.checks() if one.subject == "cluster hpc"]
    return "\n".join(one.detail for one in checks if not one.is_ok)


def noted(folder: Path, script: str = "") -> list[str]:
    return ["sh", "-c", f"echo x >> '{folder}/starts'\n{script}"]


def until_ended(world: World, job_id: str) -> dict[str, Any]:
    client, service = world
    tick_until(service, lambda: show(client, job_id)["state"] in ENDED, "it has ended", within_s=90)
    return show(client, job_id)


@pytest.mark.parametrize("daemon", OUTAGES)
def test_job_waits_through_an_outage_with_the_reason(
    world: World, tmp_path: Path, daemon: str
) -> None:
    client, service = world
    on_job, in_doctor = OUTAGES[daemon]
    run_testbed("stop", daemon)
    made = submit(client, command=noted(tmp_path))
    tick_until(
        service, lambda: "answer" in str(show(client, made)["reason"]), "it says why", within_s=90
    )
    assert re.search(SILENT + ".*" + on_job, show(client, made)["reason"])
    assert re.search(in_doctor, failing(service))
    service.cycle.tick()
    assert show(client, made)["state"] == "planned"
    run_testbed("up", "east", "west")
    assert until_ended(world, made)["state"] == "succeeded"
    assert lines(tmp_path / "starts") == ["x"]
    assert failing(service) == ""


@pytest.mark.parametrize("daemon", OUTAGES)
def test_run_that_ends_in_an_outage_is_known_afterwards(
    world: World, tmp_path: Path, daemon: str
) -> None:
    client, service = world
    wait = f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.1; done; exit 3"
    made = submit(client, command=noted(tmp_path, wait))
    tick_until(service, lambda: show(client, made)["state"] == "running", "it runs", within_s=60)
    run_testbed("stop", daemon)
    service.cycle.tick()
    silent = show(client, made)
    assert silent["state"] == "running"
    assert silent["reason"].startswith(SILENT)
    (tmp_path / "go").touch()
    run_testbed("up", "east", "west")
    ended = until_ended(world, made)
    assert (ended["state"], ended["reason"]) == ("failed", "exit code 3")
    assert lines(tmp_path / "starts") == ["x"]


def test_jobs_start_and_end_while_slurmdbd_is_down(world: World, tmp_path: Path) -> None:
    client, service = world
    run_testbed("stop", "slurmdbd")
    assert re.search("accounts .sacct. do not answer", failing(service))
    assert until_ended(world, submit(client, command=noted(tmp_path)))["state"] == "succeeded"
    assert lines(tmp_path / "starts") == ["x"]
