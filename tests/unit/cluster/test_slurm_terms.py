"""Terms of one job, laid over those of its cluster, as sbatch gets them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms, device_of, files_of
from scheduler.core.errors import ClusterFullError, DispatchRejectedError, InvalidConfigError
from scheduler.core.slurm_terms import JobSlurm
from scheduler.ports import RunState
from tests.fakes.slurm.setting_up import FakeSlurm
from tests.unit.cluster.runs import Runs, lines
from tests.unit.cluster.slurm_world import NotingRunner, open_cluster

SITE = SlurmTerms(partition="main", account="site", qos="normal", extra={"mem": "1G", "nice": "1"})


@pytest.fixture
def runs(tmp_path: Path, runner: NotingRunner) -> Iterator[Runs]:
    folder = tmp_path / "work"
    folder.mkdir()
    runs = Runs(open_cluster(tmp_path, runner), folder)
    yield runs
    runs.finish()


def submitted(runner: NotingRunner) -> list[str]:
    return next(command for command in reversed(runner.commands) if command[0] == "sbatch")


def test_what_the_job_states_goes_before_what_the_site_says() -> None:
    job = JobSlurm(
        account="ml",
        constraint="nvlink",
        licenses="x:1",
        reservation="carbon",
        time_limit_s=61,
        options=(("mem", "8G"),),
    )
    assert SITE.under(job).options(SlurmDevice(partition="gpu")) == [
        "--partition=gpu",
        "--account=ml",
        "--qos=normal",
        "--constraint=nvlink",
        "--licenses=x:1",
        "--reservation=carbon",
        "--time=2",
        "--mem=8G",
        "--nice=1",
    ]
    assert SITE.under(None) is SITE
    assert SITE.under(JobSlurm()) == SITE


def test_partition_of_the_job_goes_before_that_of_the_device() -> None:
    job = JobSlurm(partition="debug")
    device = device_of(SlurmDevice(gres="gpu:h100", partition="gpu"), job)
    assert SITE.under(job).options(device)[0] == "--partition=debug"
    assert device_of(SlurmDevice(partition="gpu"), JobSlurm()).partition == "gpu"


def test_option_that_is_not_allowed_does_not_get_through_the_job_either() -> None:
    with pytest.raises(InvalidConfigError, match="wrap"):
        SITE.under(JobSlurm(options=(("wrap", "id"),)))


@pytest.mark.parametrize(
    ("job", "files"),
    [
        (None, ("/100%%/stdout.log", "/100%%/stderr.log")),
        (JobSlurm(account="a"), ("/100%%/stdout.log", "/100%%/stderr.log")),
        (JobSlurm(output="%j.out"), ("%j.out", "%j.out")),
        (JobSlurm(error="%j.err"), ("/100%%/stdout.log", "%j.err")),
        (JobSlurm(output="a", error="b"), ("a", "b")),
    ],
)
def test_output_goes_where_the_job_says_both_in_one_as_with_sbatch(
    job: JobSlurm | None, files: tuple[str, str]
) -> None:
    assert files_of(job, "/100%") == files


def test_terms_arrive_as_arguments_and_no_shell_reads_them(
    runs: Runs, runner: NotingRunner
) -> None:
    odd = "$(touch hacked); `touch hacked` 'x' \"y\" && touch hacked"
    runs.start("exit 0", slurm=JobSlurm(account=odd, qos="--wrap=id"), workdir=str(runs.folder))
    assert {f"--account={odd}", "--qos=--wrap=id"} <= set(submitted(runner))
    assert runs.until(RunState.ENDED).exit_code == 0
    assert not (runs.folder / "hacked").exists()


def test_output_is_written_into_the_users_files(runs: Runs) -> None:
    terms = JobSlurm(output="logs-%j.txt", error="errors-%j.txt")
    ref = runs.start("echo out; echo err >&2", slurm=terms, workdir=str(runs.folder))
    runs.until(RunState.ENDED)
    assert lines(runs.folder / f"logs-{ref}.txt") == ["out"]
    assert lines(runs.folder / f"errors-{ref}.txt") == ["err"]


def test_room_is_looked_for_where_the_job_wants_to_run(slurm: FakeSlurm, runs: Runs) -> None:
    slurm.add("other", partition="gpu", nodes="fake-g1", cpus=8)
    with pytest.raises(ClusterFullError, match="0 are free"):
        runs.start("exit 0", slurm=JobSlurm(partition="gpu"))
    assert runs.start("exit 0", slurm=JobSlurm(partition="cpu")) == "2"
    assert runs.until(RunState.ENDED).exit_code == 0


def test_what_is_free_is_told_for_the_partition_of_a_job(slurm: FakeSlurm, runs: Runs) -> None:
    slurm.add("other", partition="cpu", cpus=5)
    assert runs.cluster.free_devices() == {"CPU": 3, "H100": 2}
    assert runs.cluster.free_devices(JobSlurm(account="ml")) == {"CPU": 3, "H100": 2}
    assert runs.cluster.free_devices(JobSlurm(partition="gpu")) == {"CPU": 8, "H100": 2}
    assert runs.cluster.free_devices(JobSlurm(partition="cpu,gpu")) == {"CPU": 11, "H100": 2}
    assert runs.cluster.free_devices(JobSlurm(partition="cpu")) == {"CPU": 3}
    assert runs.cluster.free_devices(JobSlurm(partition="none")) == {}


def test_runs_that_wait_elsewhere_take_nothing_here(slurm: FakeSlurm, runs: Runs) -> None:
    slurm.add(
        "gt-a.1.0",
        state="PENDING",
        nodes="",
        held=True,
        partition="gpu",
        comment="gridtide:key=a.1.0;asks=CPU:5",
    )
    assert runs.cluster.free_devices()["CPU"] == 8
    assert runs.cluster.free_devices(JobSlurm(partition="gpu"))["CPU"] == 3
    assert runs.cluster.free_devices(JobSlurm(partition="cpu,gpu"))["CPU"] == 11


def test_what_was_just_submitted_is_deducted_where_it_went(
    slurm: FakeSlurm, runs: Runs, runner: NotingRunner
) -> None:
    gpu = JobSlurm(partition="gpu")
    assert runs.cluster.free_devices(gpu)["CPU"] == 8
    runs.start("exit 0", gpus=6, slurm=gpu)
    assert runs.cluster.free_devices()["CPU"] == 8
    assert runs.cluster.free_devices(gpu)["CPU"] == 2, "one look serves both"
    assert runs.until(RunState.ENDED).exit_code == 0


def test_reservation_is_looked_up_where_nodes_do_not_say_which_they_are_in(
    slurm: FakeSlurm, runs: Runs, runner: NotingRunner
) -> None:
    nodes = [node | {"state": "IDLE+RESERVED"} for node in slurm.settings["nodes"]]
    kept = {"name": "carbon", "nodes": "fake-g1", "start_s": 1, "end_s": 2**31}
    slurm.configure(nodes=nodes, reservations=[kept])
    wanted = JobSlurm(reservation="carbon")
    assert runs.cluster.free_devices(wanted) == {"H100": 2}
    assert runs.cluster.free_devices(JobSlurm(reservation="none")) == {}
    runner.taken()
    assert runs.cluster.free_devices(wanted) == {"H100": 2}
    assert runner.taken() == [], "it was looked up a moment ago"
    assert runs.cluster.free_devices() == {"CPU": 0, "H100": 0}


def test_nodes_of_each_named_partition_count(slurm: FakeSlurm, runs: Runs) -> None:
    slurm.add("other", partition="cpu", cpus=8)
    # There is room in gpu: the refusal is that of the fake, which knows single partitions only.
    with pytest.raises(DispatchRejectedError, match="Invalid partition name specified"):
        runs.start("exit 0", slurm=JobSlurm(partition="cpu,gpu"))


def test_partition_that_does_not_exist_is_refused_in_slurms_words(runs: Runs) -> None:
    with pytest.raises(DispatchRejectedError, match="Invalid partition name specified"):
        runs.start("exit 0", slurm=JobSlurm(partition="no such"))


def test_reservation_that_no_node_is_in_is_left_to_slurm_to_refuse(
    slurm: FakeSlurm, runs: Runs
) -> None:
    wanted = JobSlurm(reservation="carbon")
    runs.start("exit 0", slurm=wanted)  # the fake takes any; Slurm refuses those it does not know
    assert runs.until(RunState.ENDED).exit_code == 0
    nodes = [node | {"reservation": "carbon"} for node in slurm.settings["nodes"]]
    slurm.configure(nodes=nodes)
    slurm.add("other", partition="cpu", cpus=8)
    with pytest.raises(ClusterFullError, match="0 are free"):
        runs.start("exit 0", "next.1.0", slurm=wanted)
