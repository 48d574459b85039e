"""A Slurm cluster that is shared with others: plans go around what they hold, and around what is reserved."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.server.wiring import Service
from tests.fakes.slurm.setting_up import NODES, FakeSlurm
from tests.integration.api_world import api, job
from tests.integration.slurm_hand import fake_slurm, show, slurm_settings, submit, tick_until
from tests.integration.slurm_world import ENDED, cluster, constant
from tests.unit.cluster.native_user import User
from tests.unit.cluster.real_slurm import require_slurm
from tests.unit.cluster.runs import wait_until

HOUR_S = 3600
GPU_NODE = {"partition": "gpu", "nodes": "fake-g1"}
BIG = {"name": "fake-b1", "partition": "big", "cpus": 8, "gpus": 0}


@contextmanager
def served(folder: Path, slurm: FakeSlurm, **terms: Any) -> Iterator[tuple[httpx.Client, Service]]:
    """The service; it is equally clean at all times, so that every job is planned to start at once."""
    settings = slurm_settings(folder, slurm.conf, **terms)
    with api(folder, intensity=constant(folder), **settings) as (client, service):
        yield client, service
        assert service.cycle.report.failures == 0, service.cycle.report.last_error


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return fake_slurm(tmp_path, monkeypatch)


def planned_start_s(folder: Path, slurm: FakeSlurm, **fields: Any) -> float:
    """When a job is planned to start, in seconds from now."""
    document = job(duration="1h", slurm={}, **fields)
    with served(folder, slurm) as (client, service):
        service.cycle.tick()
        made = client.post("/v1/jobs", json=document).raise_for_status().json()["id"]
        tick_until(service, lambda: show(client, made)["placement"] is not None, "it is planned")
        placement = show(client, made)["placement"]
    began = datetime.fromisoformat(placement["segments"][0]["start"])
    return began.timestamp() - time.time()


def test_job_starts_at_once_where_nobody_else_is(tmp_path: Path, slurm: FakeSlurm) -> None:
    start_s = planned_start_s(tmp_path, slurm, resources={"accelerators": "H100:2"})
    assert start_s < 60


def test_job_is_planned_for_when_anothers_has_ended(tmp_path: Path, slurm: FakeSlurm) -> None:
    slurm.add("theirs", user="stranger", gpus=1, limit_s=3 * HOUR_S, **GPU_NODE)
    start_s = planned_start_s(tmp_path, slurm, resources={"accelerators": "H100:2"})
    assert 3 * HOUR_S - 60 <= start_s <= 4 * HOUR_S


def test_job_that_leaves_room_for_anothers_starts_beside_it(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    slurm.add("theirs", user="stranger", gpus=1, limit_s=3 * HOUR_S, **GPU_NODE)
    start_s = planned_start_s(tmp_path, slurm, resources={"accelerators": "H100:1"})
    assert start_s < 60


def test_job_is_planned_around_a_reservation(tmp_path: Path, slurm: FakeSlurm) -> None:
    begin_s = time.time() + HOUR_S / 2
    kept = {"name": "maint", "nodes": "fake-g1", "start_s": begin_s, "end_s": begin_s + HOUR_S}
    slurm.configure(reservations=[kept])
    start_s = planned_start_s(tmp_path, slurm, resources={"accelerators": "H100:1"})
    assert 1.5 * HOUR_S - 60 <= start_s <= 2.5 * HOUR_S


def test_job_is_not_planned_onto_a_drained_node(tmp_path: Path, slurm: FakeSlurm) -> None:
    cpu, gpu = NODES
    slurm.configure(nodes=[cpu, gpu | {"state": "IDLE+DRAIN"}])
    start_s = planned_start_s(tmp_path, slurm, resources={"accelerators": "H100:1"})
    assert 4 * HOUR_S - 60 <= start_s <= 5 * HOUR_S


# ----------------------------------------------------------------------------------- real Slurm


@pytest.mark.external
@pytest.mark.timeout(180)
def test_job_is_planned_around_others_on_a_real_cluster(tmp_path: Path) -> None:
    conf = require_slurm("west")
    user = User(conf, tmp_path)
    settings = {
        "intensity": constant(tmp_path),
        "clusters": [cluster(tmp_path, "west", conf, prefix=f"gt-{uuid.uuid4().hex[:8]}-")],
    }
    document = job(duration="1h", resources={"accelerators": "H100:2"})
    theirs = user.sbatch("--partition=gpu", "--gres=gpu:1", "--time=180", "--chdir=/tmp")
    terms = ("starttime=now+5hours", "duration=60", "flags=maint,ignore_jobs", "nodes=west-g1")
    try:
        wait_until(lambda: "RUNNING" in user.run("squeue", "--states=all", "-h", "-o%T"), "it runs")
        user.run("scontrol", "create", "reservation", "reservationname=m", "users=root", *terms)
        with api(tmp_path, **settings) as (client, service):
            service.cycle.tick()
            plans = [
                client.post("/v1/plan", json=document | terms_of_plan).raise_for_status().json()
                for terms_of_plan in ({}, {"duration": "3h"})
            ]
    finally:
        user.run("scontrol", "delete", "reservationname=m")
        user.run("scancel", theirs)
    starts = [
        datetime.fromisoformat(one["placement"]["segments"][0]["start"]).timestamp() - time.time()
        for one in plans
    ]
    # One hour fits between the other's end and the reservation, three do not.
    assert 3 * HOUR_S - 120 <= starts[0] <= 4 * HOUR_S
    assert 6 * HOUR_S - 120 <= starts[1] <= 7 * HOUR_S


# ------------------------------------------------------------------- a partition of the job's own


def test_job_with_a_partition_of_its_own_starts_though_the_cluster_is_full(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    slurm.configure(nodes=[*NODES, BIG])
    slurm.add("theirs", user="stranger", cpus=8)
    with served(tmp_path, slurm, allow=["partition"]) as (client, service):
        plain = submit(client)
        elsewhere = submit(client, slurm={"partition": "big"})
        tick_until(service, lambda: show(client, elsewhere)["state"] in ENDED, "it has ended")
        assert show(client, elsewhere)["state"] == "succeeded"
        assert "1 CPU needed, 0 free on hpc" in show(client, plain)["reason"]
    assert [one["partition"] for one in slurm.jobs()] == ["cpu", "big"]


def test_job_with_a_partition_of_its_own_waits_until_there_is_room(
    tmp_path: Path, slurm: FakeSlurm
) -> None:
    slurm.configure(nodes=[*NODES, BIG])
    theirs = slurm.add("theirs", user="stranger", cpus=7, partition="big", nodes="fake-b1")
    with served(tmp_path, slurm, allow=["partition"]) as (client, service):
        two = {"slurm": {"partition": "big"}, "resources": {"accelerators": "CPU:2"}}
        waiting, plain = submit(client, **two), submit(client)
        tick_until(service, lambda: show(client, plain)["state"] in ENDED, "it has ended")
        assert "2 CPU needed, 1 free on hpc" in show(client, waiting)["reason"]
        assert [one["partition"] for one in slurm.jobs()] == ["big", "cpu"], "it was not submitted"
        slurm.change(theirs, state="COMPLETED", end_s=int(time.time()))
        tick_until(service, lambda: show(client, waiting)["state"] in ENDED, "it has ended")
        assert show(client, waiting)["state"] == "succeeded"
