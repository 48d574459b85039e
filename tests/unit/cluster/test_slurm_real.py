"""What only real Slurm can show: its accounts, restarts, operators, and steps."""

import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_commands import Completed, HereRunner
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms
from scheduler.core.errors import DispatchRejectedError
from scheduler.ports import RunState
from tests.fakes.clock import ManualClock
from tests.unit.cluster.real_slurm import TESTBED, require_slurm
from tests.unit.cluster.runs import ENDS, Runs, lines, wait_until
from tests.unit.cluster.slurm_world import H100
from tests.unit.cluster.test_slurm_script import HARD

pytestmark = [pytest.mark.external, pytest.mark.timeout(180)]
NAME = "job.1.0"


@dataclass
class ForgetfulRunner:
    """A controller that has forgotten all jobs, as it does some minutes after their ends."""

    inner: HereRunner

    def run(self, command: Sequence[str], *, stdin: bytes = b"") -> Completed:
        if command[0] == "squeue":
            return Completed(0, "", "")
        return self.inner.run(command, stdin=stdin)


@pytest.fixture
def here() -> HereRunner:
    return HereRunner(conf=require_slurm("east"))


@pytest.fixture
def prefix() -> str:
    return f"gt-{uuid.uuid4().hex[:12]}-"


@pytest.fixture
def opened(tmp_path: Path, here: HereRunner, prefix: str) -> Any:
    def open_cluster(**fields: Any) -> SlurmCluster:
        known = {
            "accelerators": {"CPU": SlurmDevice(), "H100": H100},
            "root": tmp_path / "shared",
            "clock": ManualClock(),
            "runner": here,
            "prefix": prefix,
        }
        return SlurmCluster("east", **(known | fields))

    return open_cluster


@pytest.fixture
def runs(tmp_path: Path, opened: Any) -> Iterator[Runs]:
    folder = tmp_path / "work"
    folder.mkdir()
    runs = Runs(opened(), folder)
    yield runs
    runs.finish()


def test_accounts_and_queue_say_the_same_of_ends(runs: Runs, opened: Any, here: HereRunner) -> None:
    queued = runs.end_in_every_way()
    forgetful = opened(runner=ForgetfulRunner(here))
    wait_until(lambda: forgetful.poll(list(ENDS)) == queued, "the accounts say the same")
    assert forgetful.submit(runs.dispatch("touch again", "good.1.0")) == queued["good.1.0"].ref


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (SlurmTerms(partition="nope"), "Invalid partition name specified"),
        (SlurmTerms(extra={"mem": "100000G"}), "Requested node configuration is not available"),
        (SlurmTerms(extra={"hint": "banana"}), "hint"),
    ],
)
def test_refusal_comes_in_slurms_words_and_leaves_no_run(
    runs: Runs, opened: Any, here: HereRunner, terms: SlurmTerms, words: str
) -> None:
    cluster = opened(terms=terms)
    with pytest.raises(DispatchRejectedError, match=words):
        cluster.submit(runs.dispatch("exit 0"))
    assert cluster.poll([NAME]) == {}
    assert opened(runner=ForgetfulRunner(here)).poll([NAME]) == {}


@pytest.mark.parametrize("value", HARD)
def test_value_survives_sbatch(runs: Runs, value: str) -> None:
    runs.start('printf %s "$MINE" > seen', env=(("MINE", value),))
    assert runs.until(RunState.ENDED).exit_code == 0
    assert (runs.folder / "seen").read_bytes() == value.encode("utf-8", "surrogateescape")


def test_steps_of_srun_see_the_variables(runs: Runs) -> None:
    runs.start("srun --ntasks=1 printenv MINE > seen", env=(("MINE", "mine"),))
    assert runs.until(RunState.ENDED).exit_code == 0
    assert lines(runs.folder / "seen") == ["mine"]


def test_restart_of_the_controller_changes_nothing(runs: Runs) -> None:
    reference = runs.start("touch ready; while [ ! -e go ]; do sleep 0.1; done; exit 6")
    runs.until_file("ready")
    before = runs.until(RunState.RUNNING)
    subprocess.run([TESTBED, "restart", "east"], check=True, capture_output=True)
    assert runs.status() == before
    assert runs.start("exit 0") == reference
    (runs.folder / "go").touch()
    assert runs.until(RunState.ENDED).exit_code == 6


def test_other_cluster_is_reached_by_its_name(runs: Runs, opened: Any) -> None:
    require_slurm("west")
    west = Runs(opened(cluster_flag="west", root=runs.folder / "west"), runs.folder)
    west.start("echo $SLURM_CLUSTER_NAME > where")
    assert west.until(RunState.ENDED).exit_code == 0
    assert lines(runs.folder / "where") == ["west"]
    assert runs.cluster.poll([NAME]) == {}
    assert all(check.is_ok for check in west.cluster.checks())


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("trap 'exit 75' TERM; touch ready; sleep 60 & wait", 75),
        ("trap 'exit 0' TERM; touch ready; sleep 60 & wait", -15),
    ],
)
def test_job_that_an_operator_cancels_counts_as_what_it_did(
    runs: Runs, here: HereRunner, script: str, code: int
) -> None:
    reference = runs.start(script)
    runs.until_file("ready")
    assert here.run(["scancel", reference]).code == 0
    assert runs.until(RunState.ENDED).exit_code == code


def test_slurm_does_not_requeue_by_itself(runs: Runs, here: HereRunner) -> None:
    reference = runs.start("touch ready; sleep 60; exit 99")  # RequeueExit=99 on the test bed
    runs.until_file("ready")
    assert here.run(["scontrol", "requeue", reference]).code != 0
    assert runs.status().state is RunState.RUNNING


def test_run_that_waits_is_cancelled_without_a_trace_of_running(runs: Runs, opened: Any) -> None:
    runs.start("touch ready; sleep 60", "first.1.0", gpus=8)
    runs.until_file("ready")
    patient = opened(may_queue=True)
    runs.names.append(NAME)
    patient.submit(runs.dispatch("touch begun"))
    assert patient.poll([NAME])[NAME].state is RunState.PENDING
    patient.cancel(NAME, grace_s=60)
    ended = runs.until(RunState.ENDED)
    assert (ended.exit_code, ended.spans) == (None, ())
    assert not (runs.folder / "begun").exists()
