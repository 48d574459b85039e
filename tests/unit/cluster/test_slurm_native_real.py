"""What only real Slurm can show of jobs that users submit themselves: its begin times, requeues, rights."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.clocks import SystemClock
from adapters.cluster.slurm_adopting import AdoptingSlurmCluster
from adapters.cluster.slurm_commands import Completed, HereRunner
from adapters.cluster.slurm_request import SlurmDevice
from scheduler.core.errors import ClusterUnavailableError
from scheduler.ports import RunState
from tests.unit.cluster.native_user import ASK, SAVING, Steered, User
from tests.unit.cluster.real_slurm import require_slurm
from tests.unit.cluster.slurm_world import H100, NotingRunner

pytestmark = [pytest.mark.external, pytest.mark.timeout(180)]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
SOON = "--begin=now+1hour"
PAUSABLE = f"{ASK},interruptible=yes"


@pytest.fixture
def conf() -> Path:
    return require_slurm("east")


@pytest.fixture
def runner(conf: Path) -> NotingRunner:
    return NotingRunner(HereRunner(conf=conf))


@pytest.fixture
def cluster(tmp_path: Path, runner: NotingRunner) -> AdoptingSlurmCluster:
    return open_cluster(tmp_path, runner)


def open_cluster(folder: Path, runner: Any, **fields: Any) -> AdoptingSlurmCluster:
    return AdoptingSlurmCluster(
        "east",
        adopts="all",
        accelerators={"CPU": SlurmDevice(), "H100": H100},
        root=folder / "shared",
        clock=SystemClock(),
        runner=runner,
        **fields,
    )


@pytest.fixture
def user(tmp_path: Path, conf: Path) -> Iterator[User]:
    folder = tmp_path / "home"
    folder.mkdir()
    user = User(conf, folder)
    yield user
    user.finish()


@pytest.fixture
def steered(cluster: AdoptingSlurmCluster, user: User) -> Callable[..., Steered]:
    return lambda *options, **fields: Steered(cluster, user.sbatch(*options, **fields))


Steer = Callable[..., Steered]


def ahead(**by: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**by)


def test_job_is_listed_with_what_it_asks_for(steered: Steer, user: User) -> None:
    job = steered(
        SOON, "--partition=gpu", "--gres=gpu:2", "--job-name=a|b\n7|c", "--time=1:30", "--nodes=1"
    )
    native = job.native()
    assert (native.accelerator, native.gpus, native.num_nodes) == ("H100", 2, 1)
    assert native.name == "a|b\n7|c"
    assert native.words == {"deadline": "2031-01-01T00:00:00Z", "duration": "1h"}
    assert native.limit_s == 120  # Slurm rounds to minutes
    assert not native.is_held
    assert native.starts_at is not None
    assert native.starts_at - native.submitted_at == timedelta(hours=1)
    assert (native.trouble, native.job_id, native.guard_at) == (None, None, None)


def test_every_way_to_ask_for_devices_is_understood(steered: Steer) -> None:
    gpu = (SOON, "--partition=gpu")
    ways = {
        ("--gres=gpu:1",): 1,
        ("--gres=gpu:h100:2",): 2,
        ("--gpus=1",): 1,
        ("--gpus=h100:2",): 2,
        ("--gpus-per-node=h100:1",): 1,
        ("--ntasks=2", "--gpus-per-task=1"): 2,
    }
    for options, gpus in ways.items():
        native = steered(*gpu, *options).native()
        assert (options, native.accelerator, native.gpus) == (options, "H100", gpus)
    cpus = steered(SOON, "--ntasks=2", "--cpus-per-task=2").native()
    assert (cpus.accelerator, cpus.gpus) == ("CPU", 4)


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
def test_ordinary_user_may_not_adopt_jobs_of_others(
    tmp_path_factory: pytest.TempPathFactory, conf: Path, user: User
) -> None:
    @dataclass
    class AsNobody:
        inner: HereRunner

        def run(self, command: Sequence[str], *, stdin: bytes = b"") -> Completed:
            return self.inner.run((*NOBODY, *command), stdin=stdin)

    cluster = open_cluster(tmp_path_factory.mktemp("nobody"), AsNobody(HereRunner(conf=conf)))
    job = Steered(cluster, user.sbatch(SOON))
    assert job.is_listed
    with pytest.raises(ClusterUnavailableError, match="changed by an operator of Slurm only"):
        job.adopt(ahead(hours=1))
    assert not job.is_listed, "it does not hold up others"


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
def test_operator_adopts_pauses_and_resumes_jobs_of_others(
    cluster: AdoptingSlurmCluster, user: User
) -> None:
    other = ("--uid=65534", "--gid=65534", "--chdir=/tmp")
    job = Steered(cluster, user.sbatch(SOON, *other, comment=PAUSABLE))
    assert job.native().user == "nobody"
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    job.cluster.pause(job.name, grace_s=30)
    job.until(RunState.FROZEN, lambda status: len(status.spans) == 1)
    job.cluster.resume(job.name)
    job.until(RunState.RUNNING)


def test_script_may_save_and_send_itself_back(steered: Steer, user: User) -> None:
    script = f"trap 'scontrol requeue $SLURM_JOB_ID; sleep 20' USR1; touch ready; {SAVING}"
    job, guard_at = (
        steered(SOON, comment=f"{PAUSABLE},signal=B:USR1", script=script),
        ahead(hours=1),
    )
    job.require_pause(user.folder / "ready", guard_at)
