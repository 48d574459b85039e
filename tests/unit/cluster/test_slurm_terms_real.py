"""Terms of one job, as real Slurm takes them."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms
from scheduler.core.errors import DispatchRejectedError
from scheduler.core.slurm_terms import JobSlurm
from scheduler.ports import RunState
from tests.fakes.clock import ManualClock
from tests.unit.cluster.real_slurm import require_slurm
from tests.unit.cluster.runs import Runs, lines
from tests.unit.cluster.slurm_world import H100

pytestmark = [pytest.mark.external, pytest.mark.timeout(180)]


@pytest.fixture
def conf() -> Path:
    return require_slurm("east")


@pytest.fixture
def runs(tmp_path: Path, conf: Path) -> Iterator[Runs]:
    cluster = SlurmCluster(
        "east",
        accelerators={"CPU": SlurmDevice(), "H100": H100},
        root=tmp_path / "shared",
        clock=ManualClock(),
        conf=conf,
        terms=SlurmTerms(account="gridtide", time_limit_s=600),
        prefix=f"gt-{uuid.uuid4().hex[:12]}-",
    )
    folder = tmp_path / "user's work"
    (folder / "logs").mkdir(parents=True)
    runs = Runs(cluster, folder)
    yield runs
    runs.finish()


def shown(conf: Path, ref: str) -> dict[str, str]:
    done = subprocess.run(
        ["scontrol", "-o", "show", "job", ref],
        env={"SLURM_CONF": str(conf), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(pair.partition("=")[::2] for pair in done.stdout.split())


def test_terms_of_the_job_go_before_those_of_the_site(runs: Runs, conf: Path) -> None:
    terms = JobSlurm(
        partition="gpu",
        qos="normal",
        time_limit_s=1200,
        output="logs/train-%j.out",
        options=(("mem", "64M"), ("nice", "7")),
    )
    ref = runs.start("echo out; echo err >&2", slurm=terms, workdir=str(runs.folder))
    assert runs.until(RunState.ENDED).exit_code == 0
    job = shown(conf, ref)
    wanted = {"Partition": "gpu", "Account": "gridtide", "QOS": "normal", "TimeLimit": "00:20:00"}
    assert {name: job[name] for name in wanted} == wanted
    assert (job["MinMemoryNode"], job["Nice"]) == ("64M", "7")
    assert sorted(lines(runs.folder / "logs" / f"train-{ref}.out")) == ["err", "out"]


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (JobSlurm(partition="no 'such'"), "Invalid partition name specified"),
        (JobSlurm(constraint="nv; link"), "Invalid feature specification"),
        (JobSlurm(licenses="$(id)"), "Invalid license specification"),
        (JobSlurm(reservation="none"), "reservation is invalid"),
        (JobSlurm(options=(("nodelist", "nowhere"),)), "Invalid node name"),
        (JobSlurm(options=(("mem", "999T"),)), "can not be satisfied"),
    ],
)
def test_term_that_slurm_does_not_know_is_refused_for_good(
    runs: Runs, terms: JobSlurm, words: str
) -> None:
    with pytest.raises(DispatchRejectedError, match=words):
        runs.start("exit 0", slurm=terms)
    assert runs.cluster.poll(["job.1.0"]) == {}
