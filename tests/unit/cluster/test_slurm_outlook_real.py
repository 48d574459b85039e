"""What real Slurm says of the time to come, by both routes: jobs of others, a drained node, reservations."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.clocks import SystemClock
from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_commands import HereRunner
from adapters.cluster.slurm_outlook import OUT_S
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms
from scheduler.core.errors import ClusterFullError
from scheduler.core.slurm_terms import JobSlurm
from scheduler.ports import ForeseeingCluster, RunState
from tests.unit.cluster.native_user import User
from tests.unit.cluster.real_slurm import require_slurm
from tests.unit.cluster.rest_world import open_rest, require_slurmrestd
from tests.unit.cluster.runs import Runs, wait_until
from tests.unit.cluster.slurm_world import H100

pytestmark = [pytest.mark.external, pytest.mark.timeout(180)]
HOUR_S = 3600.0
MINUTES = 1 / 60
Level = tuple[str, int, float, float]
OTHER = ("--uid=65534", "--gid=65534", "--chdir=/tmp") if os.geteuid() == 0 else ()
"""Somebody else, where the tests may act so; else this user's own job, which is no run of the service either."""


def prefix_of(folder: Path) -> str:
    """Of one test alone: Slurm remembers jobs of others by name."""
    return f"gt-{hashlib.sha256(str((folder, os.getpid())).encode()).hexdigest()[:12]}-"


def open_commands(folder: Path, **fields: Any) -> SlurmCluster:
    return SlurmCluster(
        "east",
        accelerators={"CPU": SlurmDevice(partition="cpu"), "H100": H100},
        root=folder / "shared",
        clock=SystemClock(),
        runner=HereRunner(conf=require_slurm("east")),
        prefix=prefix_of(folder),
        **fields,
    )


def open_requests(folder: Path) -> SlurmCluster:
    place = require_slurmrestd("east")
    return open_rest(folder, place, clock=SystemClock(), prefix=prefix_of(folder))


@pytest.fixture(params=[open_commands, open_requests], ids=["commands", "requests"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> SlurmCluster:
    opened: SlurmCluster = request.param(tmp_path)
    wait_until(lambda: levels(opened) == [], "nobody else is there")
    # Who leaves has gone from the outlook before the devices are free.
    wait_until(lambda: opened.free_devices() == {"CPU": 8, "H100": 2}, "all devices are free")
    return opened


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    user = User(require_slurm("east"), tmp_path)
    yield user
    user.finish()


@contextmanager
def reserved(user: User, name: str, *terms: str) -> Iterator[None]:
    user.run("scontrol", "create", "reservation", f"reservationname={name}", "users=root", *terms)
    try:
        yield
    finally:
        user.run("scontrol", "delete", f"reservationname={name}")


@contextmanager
def drained(user: User, node: str) -> Iterator[None]:
    user.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=a | b State=IDLE")
    try:
        yield
    finally:
        user.run("scontrol", "update", f"nodename={node}", "state=resume")


def levels(cluster: ForeseeingCluster) -> list[Level]:
    """Accelerator, devices, and the hours from now from which to which they are taken."""
    now = datetime.now(UTC)
    return [
        (
            one.accelerator,
            one.gpus,
            round((one.window.start_at - now).total_seconds() / HOUR_S, 1),
            round((one.window.end_at - now).total_seconds() / HOUR_S, 1),
        )
        for one in cluster.outlook().taken
    ]


def require(cluster: ForeseeingCluster, *expected: Level) -> None:
    wait_until(lambda: levels(cluster) == list(expected), f"{expected} are taken")


def test_all_devices_are_known(cluster: SlurmCluster) -> None:
    assert dict(cluster.outlook().totals) == {"CPU": 8, "H100": 2}


@pytest.mark.parametrize("gres", ["gpu:h100:1", "gpu:1"])
def test_job_of_another_is_taken_until_its_limit(
    cluster: SlurmCluster, user: User, gres: str
) -> None:
    user.sbatch("--partition=gpu", f"--gres={gres}", "--time=180", *OTHER)
    user.sbatch("--partition=cpu", "-n", "3", "--time=120", "--job-name=a|b ä", *OTHER)
    require(cluster, ("CPU", 3, 0.0, 2.0), ("H100", 1, 0.0, 3.0))


def test_suspended_job_of_another_keeps_its_gres(cluster: SlurmCluster, user: User) -> None:
    job = user.sbatch("--partition=gpu", "--gres=gpu:2", "--time=600", *OTHER)
    require(cluster, ("H100", 2, 0.0, 10.0))
    user.run("scontrol", "suspend", job)
    require(cluster, ("H100", 2, 0.0, 10.0))
    user.run("scontrol", "resume", job)


def test_job_that_waits_takes_nothing(cluster: SlurmCluster, user: User) -> None:
    user.sbatch("--partition=gpu", "--gres=gpu:2", "--time=60", *OTHER)
    require(cluster, ("H100", 2, 0.0, 1.0))
    user.sbatch("--partition=gpu", "--gres=gpu:2", "--time=60", *OTHER)
    assert levels(cluster) == [("H100", 2, 0.0, 1.0)]


def test_run_of_the_service_is_not_taken(cluster: SlurmCluster, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    runs = Runs(cluster, folder)
    runs.start("touch ready; sleep 60", accelerator="H100", gpus=2)
    runs.until_file("ready")
    assert levels(cluster) == []
    runs.finish()


def test_drained_node_is_taken_for_a_while(cluster: SlurmCluster, user: User) -> None:
    with drained(user, "east-g1"):
        require(cluster, ("H100", 2, 0.0, OUT_S / HOUR_S))
    require(cluster)


def test_reservations_are_taken_from_start_to_end(cluster: SlurmCluster, user: User) -> None:
    whole = ("starttime=now+2hours", "duration=60", "flags=maint,ignore_jobs", "nodes=ALL")
    cores = ("starttime=now", "duration=60", "flags=ignore_jobs", "nodes=east-c1", "corecnt=2")
    with reserved(user, "whole", *whole), reserved(user, "cores", *cores):
        require(cluster, ("CPU", 2, 0.0, 1.0), ("CPU", 8, 2.0, 3.0), ("H100", 2, 2.0, 3.0))


def test_node_under_maintenance_is_back_when_that_is_over(
    cluster: SlurmCluster, user: User
) -> None:
    job = user.sbatch("--partition=gpu", "--gres=gpu:1", "--time=300", *OTHER)
    require(cluster, ("H100", 1, 0.0, 5.0))
    terms = ("starttime=now", "duration=60", "flags=maint,ignore_jobs", "nodes=east-g1")
    with reserved(user, "now", *terms):
        wait_until(lambda: "MAINTENANCE" in shown(user), "the node says so")
        require(cluster, ("H100", 2, 0.0, 1.0), ("H100", 1, 1.0, 5.0))
    user.run("scancel", job)


def test_own_reservation_is_ours_alone(tmp_path: Path, user: User) -> None:
    terms = ("starttime=now", "duration=60", "flags=ignore_jobs", "nodes=east-g1")
    cluster = open_commands(tmp_path, terms=SlurmTerms(reservation="ours", time_limit_s=600))
    beside = open_commands(tmp_path)
    folder = tmp_path / "work"
    folder.mkdir()
    with reserved(user, "ours", *terms):
        wait_until(lambda: cluster.free_devices()["H100"] == 2, "the reservation has begun")
        assert beside.free_devices(JobSlurm(reservation="ours")) == {"H100": 2}
        assert beside.free_devices() == {"CPU": 8, "H100": 0}
        ahead = levels(cluster)
        assert [one for one in ahead if one[0] == "H100"] == [("H100", 2, 1.0, ahead[-1][3])]
        assert ("CPU", 8, 0.0, ahead[0][3]) in ahead
        runs = Runs(cluster, folder)
        runs.start("exit 0", accelerator="H100", gpus=2)
        assert runs.until(RunState.ENDED).exit_code == 0
        runs.finish()


def test_partition_of_the_job_is_where_it_is_free(tmp_path: Path, user: User) -> None:
    cluster = open_commands(tmp_path)
    runs = Runs(cluster, tmp_path)
    user.sbatch("--partition=cpu", "-n", "8", *OTHER)
    wait_until(lambda: cluster.free_devices()["CPU"] == 0, "it runs")
    gpu = JobSlurm(partition="gpu")
    assert cluster.free_devices(gpu) == {"CPU": 8, "H100": 2}
    with pytest.raises(ClusterFullError):
        runs.start("exit 0", "full.1.0")
    runs.start("exit 0", slurm=gpu)
    assert runs.until(RunState.ENDED).exit_code == 0
    runs.finish()


def shown(user: User) -> str:
    return user.run("scontrol", "show", "node", "east-g1")
