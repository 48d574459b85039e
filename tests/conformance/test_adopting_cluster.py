"""One suite for clusters that adopt users' own jobs: fake Slurm, and real Slurm."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.clocks import SystemClock
from adapters.cluster.slurm_adopting import AdoptingSlurmCluster
from adapters.cluster.slurm_commands import CommandRunner, Completed, HereRunner
from adapters.cluster.slurm_native import REST_S
from adapters.cluster.slurm_request import SlurmDevice
from scheduler.core.errors import ClusterUnavailableError, DispatchRejectedError
from scheduler.ports import AdoptingCluster, RunState
from tests.fakes.slurm.setting_up import set_up
from tests.unit.cluster.native_user import ASK, SAVING, Steered, User
from tests.unit.cluster.real_slurm import require_slurm
from tests.unit.cluster.runs import Runs, wait_until
from tests.unit.cluster.slurm_world import H100, NotingRunner

pytestmark = pytest.mark.timeout(180)
PAUSABLE = f"{ASK},interruptible=yes"
Steer = Callable[..., Steered]


@dataclass(frozen=True)
class Place:
    """Where the commands are; their default place where `programs` is None."""

    conf: Path
    programs: Path | None

    def runner(self) -> HereRunner:
        return HereRunner(conf=self.conf, programs=self.programs)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.external)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "real":
        return Place(require_slurm("east"), None)
    slurm = set_up(tmp_path / "slurm")
    return Place(slurm.conf, slurm.programs)


@pytest.fixture
def runner(place: Place) -> NotingRunner:
    return NotingRunner(place.runner())


@pytest.fixture
def cluster(tmp_path: Path, runner: NotingRunner) -> AdoptingSlurmCluster:
    return open_cluster(tmp_path, runner)


def open_cluster(folder: Path, runner: CommandRunner) -> AdoptingSlurmCluster:
    return AdoptingSlurmCluster(
        "east",
        adopts="all",
        accelerators={"CPU": SlurmDevice(), "H100": H100},
        root=folder / "shared",
        clock=SystemClock(),
        runner=runner,
        prefix=f"gt-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}-",
    )


@pytest.fixture
def user(tmp_path: Path, place: Place) -> Iterator[User]:
    folder = tmp_path / "home"
    folder.mkdir()
    user = User(place.conf, folder, place.programs)
    yield user
    user.finish()


@pytest.fixture
def steered(cluster: AdoptingSlurmCluster, user: User) -> Steer:
    return lambda *options, **fields: Steered(cluster, user.sbatch(*options, **fields))


def ahead(**by: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**by)


def later() -> str:
    return f"--begin=uts{int(time.time()) + 3600}"


def test_it_is_an_adopting_cluster(cluster: AdoptingSlurmCluster) -> None:
    assert isinstance(cluster, AdoptingCluster)


def test_held_job_gets_its_guard_before_its_hold_is_lifted(steered: Steer) -> None:
    job, guard_at = steered("--hold"), ahead(minutes=30)
    assert job.native().is_held
    job.adopt(guard_at)
    native = job.native()
    assert (native.is_held, native.starts_at, native.guard_at) == (False, guard_at, guard_at)
    assert native.job_id == "job"
    assert job.status().state is RunState.PENDING


def test_guard_fires_by_itself(steered: Steer) -> None:
    job = steered("--hold")
    job.adopt(ahead(seconds=3))
    status = job.until(RunState.RUNNING)
    assert status.since is not None
    assert not job.is_listed


def test_guard_is_moved(steered: Steer) -> None:
    job = steered(later())
    for guard_at in (ahead(minutes=30), ahead(hours=30)):
        job.adopt(guard_at)
        native = job.native()
        assert (native.starts_at, native.guard_at) == (guard_at, guard_at)


def test_adopting_what_runs_does_nothing(steered: Steer) -> None:
    job = steered()
    job.until(RunState.RUNNING)
    job.adopt(ahead(hours=1))
    assert job.status().state is RunState.RUNNING


def test_user_starts_a_job_at_once(steered: Steer, user: User) -> None:
    job = steered("--hold")
    job.adopt(ahead(hours=1))
    user.update(job.ref, "StartTime=now")
    job.until(RunState.RUNNING)
    assert not job.is_listed


def test_user_chooses_a_time(steered: Steer, user: User) -> None:
    job, guard_at, chosen_at = steered("--hold"), ahead(hours=1), ahead(hours=2)
    job.adopt(guard_at)
    user.update(job.ref, f"StartTime=uts{int(chosen_at.timestamp())}")
    native = job.native()
    assert (native.starts_at, native.guard_at) == (chosen_at, guard_at)


def test_hold_and_release_of_an_adopted_job_are_seen(steered: Steer, user: User) -> None:
    job, guard_at = steered(later()), ahead(hours=1)
    job.adopt(guard_at)
    user.run("scontrol", "uhold", job.ref)
    native = job.native()
    assert (native.is_held, native.starts_at) == (True, None)
    job.adopt(guard_at + timedelta(minutes=5))
    assert job.native().is_held, "a later hold is the user's last word"
    user.run("scontrol", "release", job.ref)
    native = job.native()
    assert (native.is_held, native.starts_at) == (False, guard_at + timedelta(minutes=5))


def test_cancelled_by_hand_it_cannot_be_started(steered: Steer, user: User) -> None:
    job = steered(later())
    job.adopt(ahead(hours=1))
    user.run("scancel", job.ref)
    assert not job.is_listed
    status = job.until(RunState.ENDED)
    assert (status.spans, status.exit_code) == ((), None)
    with pytest.raises(DispatchRejectedError, match=f"job {job.ref} has ended before it began"):
        job.submit()


def test_cancelled_by_hand_while_it_runs(steered: Steer, user: User) -> None:
    job = steered(later(), script="while :; do sleep 0.2; done")
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    user.run("scancel", job.ref)
    status = job.until(RunState.ENDED)
    assert len(status.spans) == 1
    assert status.exit_code != 0
    assert job.submit() == job.ref


def test_refused_job_says_why_until_its_comment_is_changed(steered: Steer, user: User) -> None:
    job = steered(later(), comment="mine;gridtide:patience=soon")
    job.cluster.refuse(job.ref, "patience: 'soon' is not a duration; write 4h |\nor so")
    assert not job.is_listed
    comment = user.run("squeue", "--noheader", f"--jobs={job.ref}", "--Format=Comment:0")
    assert comment == (
        "mine;gridtide:patience=soon;refused=patience: 'soon' is not a duration, write 4h or so"
    )
    user.update(job.ref, "Comment=gridtide:patience=4h,duration=1h")
    assert job.native().words == {"patience": "4h", "duration": "1h"}


def test_job_is_let_start_and_ends_with_its_exit_code(steered: Steer) -> None:
    job = steered("--hold", script="exit 3")
    job.adopt(ahead(hours=1))
    assert job.submit() == job.ref
    assert not job.is_listed
    status = job.until(RunState.ENDED)
    assert (status.exit_code, len(status.spans)) == (3, 1)


def test_pause_and_resume_make_two_stretches(steered: Steer, place: Place, tmp_path: Path) -> None:
    job, guard_at = steered(later(), comment=PAUSABLE), ahead(hours=1)
    submitted_at = job.native().submitted_at
    job.adopt(guard_at)
    job.submit()
    began = job.until(RunState.RUNNING)
    wait_until(lambda: ahead() > submitted_at, "a requeue has another time than the submission")
    job.cluster.pause(job.name, grace_s=30)
    frozen = job.until(RunState.FROZEN)
    assert [span.start_at for span in frozen.spans] == [began.since]
    native = job.native()
    assert (native.starts_at, native.guard_at, native.job_id) == (guard_at, guard_at, "job")
    assert native.submitted_at == submitted_at, "a requeue does not make it another job"
    job.cluster.resume(job.name)
    again = job.until(RunState.RUNNING)
    assert again.spans == frozen.spans
    assert again.since is not None
    # A stretch within one second counts as one second, so its end may be told that much late.
    assert again.since - frozen.spans[0].end_at >= timedelta(seconds=REST_S - 1)
    job.cluster.cancel(job.name, grace_s=30)
    ended = job.until(RunState.ENDED)
    assert len(ended.spans) == 2
    a_new_one = open_cluster(tmp_path, place.runner())
    wait_until(
        lambda: a_new_one.poll([job.name])[job.name].spans == ended.spans,
        "the accounts tell the same stretches",
    )


def test_paused_job_starts_at_its_guard_if_nobody_resumes_it(steered: Steer) -> None:
    job = steered(later(), comment=PAUSABLE)
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    job.cluster.pause(job.name, grace_s=30)
    job.until(RunState.FROZEN)
    job.adopt(ahead(seconds=2))
    assert len(job.until(RunState.RUNNING).spans) == 1


def test_signal_comes_first_and_then_its_grace(steered: Steer, user: User) -> None:
    script = f"trap 'touch told' USR1; touch ready; {SAVING}"
    job = steered(later(), comment=f"{PAUSABLE},signal=B:USR1", script=script)
    job.adopt(ahead(hours=1))
    job.submit()
    wait_until((user.folder / "ready").exists, "the script listens")
    job.cluster.pause(job.name, grace_s=2)
    wait_until((user.folder / "told").exists, "the script was told")
    assert job.status().state is RunState.RUNNING
    frozen = job.until(RunState.FROZEN)
    assert len(frozen.spans) == 1


def test_script_may_save_and_ask_to_be_run_again(steered: Steer, user: User) -> None:
    script = f"trap 'exit 75' USR1; touch ready; {SAVING}"
    job, guard_at = (
        steered(later(), comment=f"{PAUSABLE},signal=B:USR1", script=script),
        ahead(hours=1),
    )
    job.require_pause(user.folder / "ready", guard_at)


def test_job_that_may_not_be_requeued_is_not_paused(steered: Steer) -> None:
    job = steered(later(), "--no-requeue", comment=PAUSABLE)
    assert job.native().words["interruptible"] == "no"
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    with pytest.raises(ClusterUnavailableError, match="may not be requeued"):
        job.cluster.pause(job.name, grace_s=30)
    assert job.status().state is RunState.RUNNING


@dataclass
class DyingRunner:
    """Passes commands on until one that it is to die at."""

    inner: HereRunner
    dies_at: str | None = None

    def run(self, command: Sequence[str], *, stdin: bytes = b"") -> Completed:
        if self.dies_at is not None and self.dies_at in " ".join(command):
            raise KeyboardInterrupt
        return self.inner.run(command, stdin=stdin)


def test_death_in_the_middle_of_a_pause_keeps_no_job_waiting(
    tmp_path: Path, place: Place, user: User
) -> None:
    runner = DyingRunner(place.runner())
    job = Steered(open_cluster(tmp_path, runner), user.sbatch(later(), comment=PAUSABLE))
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    runner.dies_at = "StartTime="
    with pytest.raises(KeyboardInterrupt):
        job.cluster.pause(job.name, grace_s=30)
    runner.dies_at = None
    job.until(RunState.PENDING)
    eligible = user.run("squeue", "--noheader", f"--jobs={job.ref}", "--Format=EligibleTime:0")
    starts_at = datetime.fromisoformat(f"{eligible}+00:00")
    assert starts_at <= ahead(seconds=130), "Slurm itself starts it again"


def test_death_between_guard_and_release_leaves_a_job_that_is_adopted_again(
    tmp_path: Path, place: Place, user: User
) -> None:
    runner = DyingRunner(place.runner())
    job = Steered(open_cluster(tmp_path, runner), user.sbatch("--hold"))
    runner.dies_at = "release"
    with pytest.raises(KeyboardInterrupt):
        job.adopt(ahead(hours=1))
    runner.dies_at = None
    native = job.native()
    assert (native.job_id, native.is_held) == (None, True)
    job.adopt(ahead(hours=1))
    native = job.native()
    assert (native.job_id, native.is_held) == ("job", False)


def test_own_runs_and_native_ones_are_seen_by_one_squeue(
    steered: Steer, runner: NotingRunner, tmp_path: Path
) -> None:
    job = steered()
    runs = Runs(job.cluster, tmp_path)
    runs.start(
        "sleep 60", accelerator="H100"
    )  # on another node: it takes all the memory of its own
    job.until(RunState.RUNNING)
    runs.until(RunState.RUNNING)
    runner.commands.clear()
    found = job.cluster.poll([job.name, "job.1.0"])
    assert {status.state for status in found.values()} == {RunState.RUNNING}
    assert runner.taken() == ["squeue"]
    runs.finish()


def test_end_is_known_when_the_controller_has_forgotten_it(
    steered: Steer, runner: NotingRunner
) -> None:
    job = steered(script="exit 4")
    ended = job.until(RunState.ENDED)
    runner.answer = lambda command: Completed(0, "", "") if command[0] == "squeue" else None
    wait_until(
        lambda: job.cluster.poll([job.name]) == {job.name: ended}, "the accounts tell the same"
    )


def test_job_that_never_was_is_left_out(cluster: AdoptingSlurmCluster) -> None:
    assert cluster.poll(["native:99999999"]) == {}


def test_comment_cannot_pass_for_the_line_of_another_job(steered: Steer, user: User) -> None:
    victim = steered(later(), comment="none of your business")
    line = "|".join([victim.ref, victim.ref, "root", "PENDING", *["0"] * 22])
    steered(later(), comment=f"{ASK}\n{line}|x|gridtide:patience=1h")
    assert not victim.is_listed
