"""What only the Slurm adapter does: looking up, counting commands, and Slurm's own troubles."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_commands import Completed, HereRunner
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
    InvalidConfigError,
)
from scheduler.ports import Capability, RunState
from tests.fakes.slurm.setting_up import FakeSlurm
from tests.unit.cluster.runs import ENDS, Runs, lines, wait_until
from tests.unit.cluster.slurm_world import NotingRunner, noting, open_cluster

NAME = "job.1.0"
Open = Callable[..., SlurmCluster]


@pytest.fixture
def opened(tmp_path: Path, runner: NotingRunner) -> Open:
    return lambda **fields: open_cluster(tmp_path, runner, **fields)


@pytest.fixture
def runs(tmp_path: Path, slurm: FakeSlurm, opened: Open) -> Iterator[Runs]:
    folder = tmp_path / "work"
    folder.mkdir()
    runs = Runs(opened(), folder)
    yield runs
    slurm.configure(faults={}, has_accounts=True, min_job_age_s=300)
    runs.finish()


def folder_of(runs: Runs, name: str = NAME) -> Path:
    return runs.folder.parent / "shared" / "runs" / name


def options_of(runner: NotingRunner) -> list[str]:
    return next(command for command in reversed(runner.commands) if command[0] == "sbatch")


# ------------------------------------------------------------------------------ submission


def test_run_is_looked_up_in_the_queue_and_the_accounts_before_it_is_submitted_again(
    runs: Runs, runner: NotingRunner
) -> None:
    dispatch = runs.dispatch("exit 0")
    # Its folder is made before the first submission: somebody has tried.
    folder_of(runs, dispatch.name).mkdir(parents=True)
    runs.cluster.submit(dispatch)
    taken = runner.taken()
    assert taken[:2] == ["squeue", "sacct"]
    assert taken[-1] == "sbatch"
    runs.until(RunState.ENDED)


def test_first_submissions_of_a_moment_share_one_look_at_the_cluster(
    runs: Runs, runner: NotingRunner
) -> None:
    runner.taken()
    for index in range(3):
        runs.cluster.free_devices()
        runs.cluster.submit(runs.dispatch("exit 0", name=f"job-{index}.1.0"))
    taken = runner.taken()
    assert taken.count("sbatch") == 3
    assert taken.count("scontrol") == 1
    assert "sacct" not in taken


def test_submission_says_who_and_where(runs: Runs, runner: NotingRunner) -> None:
    runs.start("exit 0", gpus=2, accelerator="H100")
    options = options_of(runner)
    wanted = {"--parsable", "--job-name=gt-job.1.0", "--export=NONE", "--no-requeue"}
    wanted |= {"--gres=gpu:h100:2", "--partition=gpu", f"--output={folder_of(runs)}/stdout.log"}
    assert wanted <= set(options)
    (comment,) = [option for option in options if option.startswith("--comment=")]
    assert comment.startswith("--comment=gridtide:key=job.1.0;asks=H100:2;ticket=ticket-")
    runs.until(RunState.ENDED)


def test_percent_in_a_folder_is_no_pattern(
    tmp_path: Path, runner: NotingRunner, slurm: FakeSlurm
) -> None:
    cluster = open_cluster(tmp_path, runner, root=tmp_path / "100% j")
    runs = Runs(cluster, tmp_path)
    runs.start("echo out")
    assert runs.until(RunState.ENDED).exit_code == 0
    assert any("100%% j" in option for option in options_of(runner))
    assert lines(tmp_path / "100% j" / "runs" / NAME / "stdout.log") == ["out"]


def test_terms_of_the_site_are_passed_on(opened: Open, runner: NotingRunner, runs: Runs) -> None:
    terms = SlurmTerms(account="nlp", qos="green", extra={"mem": "1G"})
    opened(terms=terms).submit(runs.dispatch("exit 0"))
    assert {"--account=nlp", "--qos=green", "--mem=1G"} <= set(options_of(runner))
    runs.until(RunState.ENDED)


def test_prefix_that_cannot_be_looked_up_by_is_refused(opened: Open) -> None:
    with pytest.raises(InvalidConfigError, match="prefix 'a,b' cannot begin"):
        opened(prefix="a,b")


def test_name_of_a_cluster_goes_to_every_command(
    opened: Open, runner: NotingRunner, runs: Runs
) -> None:
    cluster = opened(cluster_flag="west")
    assert cluster.submit(runs.dispatch("exit 0")) == "1"
    cluster.poll([NAME])
    cluster.checks()
    assert all("--clusters=west" in command for command in runner.commands)
    runs.until(RunState.ENDED)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"accelerator": "TPU"}, "has no TPU; it has CPU, H100"),
        ({"gpus": 9}, "only 0 nodes have 9"),
        ({"gpus": 3, "num_nodes": 2}, "cannot be shared out over 2 nodes"),
        ({"gpus": 2, "num_nodes": 2}, "only 1 nodes have 1"),
        ({"name": "a,b"}, "cannot name a job"),
        ({"env": (("X", "\ud800"),)}, "no script can hold"),
    ],
)
def test_what_can_never_run_is_refused_in_words(
    runs: Runs, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(DispatchRejectedError, match=words):
        runs.cluster.submit(runs.dispatch("exit 0", **fields))
    assert runs.cluster.poll([NAME]) == {}


def test_refusal_by_slurm_leaves_a_record_that_is_not_the_run(
    tmp_path: Path, slurm: FakeSlurm, runs: Runs, runner: NotingRunner
) -> None:
    wrong = {"A100": SlurmDevice(gres="gpu:a100", partition="gpu")}
    cluster = open_cluster(tmp_path, runner, accelerators=wrong)
    runner.answer = lambda command: Completed(0, "", "") if "node" in command else None
    with pytest.raises(DispatchRejectedError, match="node configuration is not available"):
        cluster.submit(runs.dispatch("exit 0", accelerator="A100"))
    (record,) = slurm.jobs()
    assert (record["name"], record["reason"]) == ("gt-job.1.0", "BadConstraints")
    assert cluster.poll([NAME]) == {}
    slurm.configure(min_job_age_s=-1)  # only the accounts have it now, which give no reason
    assert cluster.poll([NAME]) == {}


@pytest.mark.parametrize("fault", ["down", "munge"])
def test_controller_without_an_answer_starts_nothing(
    slurm: FakeSlurm, runs: Runs, fault: str
) -> None:
    slurm.configure(faults={"sbatch": fault})
    with pytest.raises(ClusterUnavailableError, match=r"controller|Munge"):
        runs.start("exit 0")
    assert slurm.jobs() == []
    slurm.configure(faults={})
    assert runs.start("exit 0") == "1"
    assert runs.until(RunState.ENDED).exit_code == 0


def test_lost_reply_is_found_by_poll_and_not_repeated(slurm: FakeSlurm, runs: Runs) -> None:
    slurm.configure(faults={"sbatch": "reply lost"})
    with pytest.raises(DispatchUncertainError):
        runs.start("echo x >> starts")
    assert runs.until(RunState.ENDED).ref == "1"
    slurm.configure(faults={})
    assert runs.start("echo x >> starts") == "1"
    assert lines(runs.folder / "starts") == ["x"]


def test_command_that_hangs_is_given_up_and_leaves_doubt(
    tmp_path: Path, slurm: FakeSlurm, runs: Runs
) -> None:
    slurm.configure(faults={"sbatch": "hang"})
    hasty = open_cluster(tmp_path, noting(slurm, timeout_s=1.0))
    with pytest.raises(DispatchUncertainError, match="no answer in time"):
        hasty.submit(runs.dispatch("exit 0"))
    slurm.configure(faults={"squeue": "hang"})
    with pytest.raises(ClusterUnavailableError, match="squeue failed"):
        hasty.poll([NAME])


def test_submission_that_turns_up_after_it_was_given_up_does_not_begin(
    tmp_path: Path, slurm: FakeSlurm, runs: Runs, runner: NotingRunner
) -> None:
    held_back: list[tuple[list[str], bytes]] = []

    class SlowRunner(NotingRunner):
        def run(self, command: Any, *, stdin: bytes = b"") -> Completed:
            if command[0] == "sbatch":
                held_back.append((list(command), stdin))
                return Completed(None, "", "")
            return self.inner.run(command, stdin=stdin)

    slow = open_cluster(tmp_path, SlowRunner(runner.inner))
    with pytest.raises(DispatchUncertainError):
        slow.submit(runs.dispatch("echo x >> starts"))
    assert slow.poll([NAME]) == {}  # a promise: it was never started
    command, script = held_back[0]
    late = runner.run(command, stdin=script)
    assert late.out == "1\n"
    wait_until(lambda: slurm.jobs()[0]["state"] == "FAILED", "the late one has ended")
    assert "given up" in lines(folder_of(runs) / "stderr.log")[0]
    assert lines(runs.folder / "starts") == []


def test_late_submission_that_still_waits_is_taken_up_again(
    slurm: FakeSlurm, runs: Runs, opened: Open
) -> None:
    nodes = slurm.settings["nodes"]
    slurm.configure(nodes=[nodes[0] | {"state": "DOWN"}])
    patient = opened(may_queue=True)
    runs.names += [NAME, "next.1.0"]
    first = patient.submit(runs.dispatch("echo x >> starts"))
    for ticket in folder_of(runs).glob("ticket-*"):
        ticket.unlink()  # it had been given up
    assert patient.submit(runs.dispatch("echo x >> starts")) == first
    slurm.configure(nodes=nodes)
    patient.submit(runs.dispatch("exit 0", "next.1.0"))
    assert runs.until(RunState.ENDED).exit_code == 0
    assert lines(runs.folder / "starts") == ["x"]


def test_run_that_slurm_has_forgotten_is_lost_and_never_begins_again(
    slurm: FakeSlurm, runs: Runs
) -> None:
    reference = runs.start("echo x >> starts")
    runs.until(RunState.ENDED)
    for path in (slurm.folder / "jobs").iterdir():
        path.unlink()
    forgotten = runs.status()
    assert (forgotten.state, forgotten.ref) == (RunState.LOST, reference)
    assert runs.start("echo x >> starts") == reference
    assert lines(runs.folder / "starts") == ["x"]


def test_second_job_of_a_name_is_cancelled_and_the_first_one_counts(
    slurm: FakeSlurm, runs: Runs
) -> None:
    first = runs.start("touch ready; sleep 60")
    runs.until_file("ready")
    second = slurm.add("gt-job.1.0", state="PENDING", nodes="", start_s=0, begin_s=2**40)
    assert runs.status().ref == first
    assert [job["state"] for job in slurm.jobs() if str(job["id"]) == second] == ["CANCELLED"]
    assert runs.status().state is RunState.RUNNING


# --------------------------------------------------------------------------------- polling


def test_thousand_running_runs_take_one_command(
    slurm: FakeSlurm, runner: NotingRunner, opened: Open
) -> None:
    names = [f"job{number}.1.0" for number in range(1000)]
    for name in names:
        slurm.add(f"gt-{name}")
    cluster = opened()
    runner.taken()
    known = cluster.poll(names)
    assert runner.taken() == ["squeue"]
    assert {status.state for status in known.values()} == {RunState.RUNNING}
    assert list(known) == names


def test_accounts_are_asked_once_for_those_that_the_queue_has_no_more(
    slurm: FakeSlurm, runner: NotingRunner, opened: Open
) -> None:
    long_ago_s = int(time.time()) - 1000
    ended = {"state": "COMPLETED", "start_s": long_ago_s, "end_s": long_ago_s + 10}
    for number in range(20):
        slurm.add(f"gt-old{number}.1.0", **ended)
        slurm.add(f"gt-new{number}.1.0")
    names = [f"{age}{number}.1.0" for age in ("old", "new", "no") for number in range(20)]
    cluster = opened()
    runner.taken()
    known = cluster.poll(names)
    asked = runner.commands[-1]
    assert runner.taken() == ["squeue", "sacct"]
    (listed,) = [option for option in asked if option.startswith("--name=")]
    assert "old7" in listed
    assert "new7" not in listed
    assert {known[f"old{number}.1.0"].exit_code for number in range(20)} == {0}
    assert len(known) == 40


def test_more_names_than_fit_into_one_argument_are_asked_for_all_the_same(
    slurm: FakeSlurm, runner: NotingRunner, opened: Open
) -> None:
    names = [f"{'long' * 40}{number}.1.0" for number in range(1000)]
    slurm.add(f"gt-{names[-1]}")
    assert list(opened().poll(names)) == names[-1:]


@pytest.mark.parametrize("min_job_age_s", [300, -1])
def test_queue_and_accounts_say_the_same_of_an_end(
    slurm: FakeSlurm, runs: Runs, min_job_age_s: int
) -> None:
    queued = runs.end_in_every_way()
    slurm.configure(min_job_age_s=min_job_age_s)
    assert runs.cluster.poll(list(ENDS)) == queued


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("NODE_FAIL", RunState.LOST),
        ("PREEMPTED", RunState.LOST),
        ("TIMEOUT", RunState.ENDED),
        ("SOME_NEW_STATE", RunState.RUNNING),
        ("REQUEUE_HOLD", RunState.PENDING),
    ],
)
def test_states_of_slurm(slurm: FakeSlurm, opened: Open, state: str, expected: RunState) -> None:
    slurm.add("gt-job.1.0", state=state, end_s=int(time.time()))
    assert opened().poll([NAME])[NAME].state is expected


def test_controller_that_is_down_is_told_and_then_asked_by_ping_alone(
    slurm: FakeSlurm, runs: Runs, runner: NotingRunner
) -> None:
    runs.start("touch ready; sleep 60")
    runs.until_file("ready")
    slurm.configure(faults=dict.fromkeys(("squeue", "sbatch", "scontrol", "scancel"), "down"))
    with pytest.raises(ClusterUnavailableError, match="Unable to contact slurm controller"):
        runs.status()
    runner.taken()
    calls: list[Callable[[], object]] = [
        runs.status,
        runs.cluster.free_devices,
        lambda: runs.cluster.cancel(NAME, grace_s=1),
        lambda: runs.start("exit 0", "new.1.0"),
    ]
    for call in calls:  # the ping itself only says DOWN: what failed first has said why
        with pytest.raises(ClusterUnavailableError, match="Unable to contact slurm controller"):
            call()
    assert runner.commands == [["scontrol", "ping"]] * len(calls)
    slurm.configure(faults={})
    assert runs.status().state is RunState.RUNNING


def test_accounts_that_do_not_answer_make_no_run_unknown(
    slurm: FakeSlurm, runs: Runs, opened: Open
) -> None:
    runs.start("touch ready; while [ ! -e go ]; do sleep 0.01; done")
    runs.until_file("ready")
    running = runs.until(RunState.RUNNING)
    slurm.configure(faults={"sacct": "down"}, min_job_age_s=-1)
    assert runs.status() == running
    (runs.folder / "go").touch()
    wait_until(lambda: slurm.jobs()[0]["state"] == "COMPLETED", "it has ended")
    silent = runs.status()
    assert silent.is_stale
    assert "accounts (sacct) do not answer" in silent.detail
    assert replace(silent, is_stale=False, detail=running.detail) == running
    forgotten = opened().poll([NAME])[NAME]
    assert (forgotten.state, forgotten.is_stale) == (RunState.PENDING, True)
    slurm.configure(faults={})
    assert runs.status().exit_code == 0


def test_site_without_accounts_runs_jobs_and_tells_ends_while_the_queue_has_them(
    slurm: FakeSlurm, runs: Runs
) -> None:
    slurm.configure(has_accounts=False)
    runs.start("exit 3")
    assert runs.until(RunState.ENDED).exit_code == 3
    assert runs.cluster.poll(["never.1.0"]) == {}
    slurm.configure(min_job_age_s=-1)
    assert runs.status().state is RunState.LOST


def test_accounts_that_are_down_do_not_stop_submissions(slurm: FakeSlurm, runs: Runs) -> None:
    slurm.configure(faults={"sacct": "down"})
    assert runs.start("exit 0") == "1"
    assert runs.until(RunState.ENDED).exit_code == 0


# ---------------------------------------------------------------------------------- energy


def test_energy_is_that_of_the_accounts_once_they_have_closed_the_job(
    slurm: FakeSlurm, opened: Open
) -> None:
    now_s = int(time.time())
    ended = {"state": "COMPLETED", "start_s": now_s - 100, "end_s": now_s}
    slurm.add("gt-job.1.0", **ended, energy_j="36000")
    reading = opened(reads_energy=True, terms=SlurmTerms(is_exclusive=True))
    assert Capability.ENERGY_READING in reading.capabilities
    assert reading.poll([NAME])[NAME].energy_kwh == 0.01
    shared = opened(reads_energy=True)  # nodes are shared: the figure is not the job's own
    assert Capability.ENERGY_READING not in shared.capabilities
    assert shared.poll([NAME])[NAME].energy_kwh is None


def test_end_waits_for_the_accounts_where_energy_is_read_but_not_for_ever(
    slurm: FakeSlurm, opened: Open
) -> None:
    now_s = int(time.time())
    slurm.add("gt-job.1.0", state="COMPLETED", start_s=now_s - 100, end_s=now_s)
    slurm.configure(faults={"sacct": "down"})
    wall = [float(now_s)]
    reading = opened(reads_energy=True, terms=SlurmTerms(is_exclusive=True), wall=lambda: wall[0])
    assert reading.poll([NAME])[NAME].state is RunState.RUNNING
    wall[0] += 1000
    assert reading.poll([NAME])[NAME].state is RunState.ENDED


# -------------------------------------------------------------------------------- capacity


def test_nodes_out_of_service_have_no_free_devices(slurm: FakeSlurm, opened: Open) -> None:
    nodes = [
        {"name": "c1", "partition": "cpu", "cpus": 8, "gpus": 0, "state": "IDLE+DRAIN"},
        {"name": "c2", "partition": "cpu", "cpus": 4, "gpus": 0},
        {"name": "g1", "partition": "gpu", "cpus": 8, "gpus": 2, "reservation": "theirs"},
    ]
    slurm.configure(nodes=nodes)
    assert opened().free_devices() == {"CPU": 4, "H100": 0}
    theirs = opened(terms=SlurmTerms(reservation="theirs"))
    assert theirs.free_devices() == {"CPU": 0, "H100": 2}


def test_waiting_runs_of_ours_take_their_devices(slurm: FakeSlurm, runs: Runs) -> None:
    slurm.add(
        "gt-a.1.0",
        state="PENDING",
        nodes="",
        begin_s=2**40,
        comment="gridtide:key=a.1.0;asks=CPU:3",
    )
    slurm.add("other", state="PENDING", nodes="", begin_s=2**40, comment="asks=CPU:3")
    assert runs.cluster.free_devices()["CPU"] == 5
    with pytest.raises(ClusterFullError):
        runs.start("exit 0", gpus=6)


def test_where_runs_may_queue_nothing_is_full(slurm: FakeSlurm, runs: Runs, opened: Open) -> None:
    runs.start("touch ready; sleep 60", gpus=8)
    runs.until_file("ready")
    patient = opened(may_queue=True)
    assert patient.free_devices() == {"CPU": 8, "H100": 2}
    patient.submit(runs.dispatch("exit 0", "next.1.0"))
    assert patient.poll(["next.1.0"])["next.1.0"].state is RunState.PENDING
    runs.cluster.cancel("next.1.0", grace_s=60)
    gone = patient.poll(["next.1.0"])["next.1.0"]
    assert (gone.state, gone.exit_code, gone.spans) == (RunState.ENDED, None, ())


# ---------------------------------------------------------------------------------- ending


def test_end_of_the_grace_is_kept_in_the_comment(
    slurm: FakeSlurm, runs: Runs, runner: NotingRunner
) -> None:
    runs.start("trap 'touch asked' TERM; touch ready; while [ ! -e go ]; do sleep 0.01; done")
    runs.until_file("ready")
    runs.cluster.cancel(NAME, grace_s=60)
    assert ";kill=" in slurm.jobs()[0]["comment"]
    runner.taken()
    runs.cluster.cancel(NAME, grace_s=0)  # repeated by every tick: costs nothing
    assert runner.taken() == []
    (runs.folder / "go").touch()
    assert runs.until(RunState.ENDED).exit_code == 0


def test_run_that_ends_while_it_is_being_cancelled_is_no_error(
    slurm: FakeSlurm, runs: Runs, runner: NotingRunner
) -> None:
    runs.start("touch ready; while [ ! -e go ]; do sleep 0.01; done")
    runs.until_file("ready")

    def end_first(command: Sequence[str]) -> Completed | None:
        if command[0] == "scancel" and "--signal=TERM" in command:
            (runs.folder / "go").touch()
            wait_until(lambda: slurm.jobs()[0]["state"] == "COMPLETED", "it has ended")
        return None

    runner.answer = end_first
    runs.cluster.cancel(NAME, grace_s=60)
    assert runs.until(RunState.ENDED).exit_code == 0


def test_trouble_of_the_shared_disk_is_told(tmp_path: Path, runner: NotingRunner) -> None:
    (tmp_path / "shared").write_text("a file")
    with pytest.raises(ClusterUnavailableError, match="check the disk"):
        open_cluster(tmp_path, runner)


# ---------------------------------------------------------------------------------- doctor


def details(cluster: SlurmCluster, *, is_ok: bool) -> str:
    return "; ".join(check.detail for check in cluster.checks() if check.is_ok == is_ok)


def test_doctor_tells_of_a_healthy_cluster(opened: Open) -> None:
    assert details(opened(), is_ok=False) == ""
    told = details(opened(), is_ok=True)
    for part in ("slurm 22.05.8", "cpu*, gpu", "sacct", "CPU 8, H100 2", "same folder"):
        assert part in told


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"scontrol": "down"}, "does not answer scontrol ping"),
        ({"sacct": "down"}, "ends are known for 300 s only"),
        ({"sinfo": "munge"}, "Munge encode failed"),
    ],
)
def test_doctor_tells_what_does_not_work(
    slurm: FakeSlurm, opened: Open, faults: dict[str, str], words: str
) -> None:
    slurm.configure(faults=faults)
    assert words in details(opened(), is_ok=False)


def test_doctor_tells_of_missing_accounts_as_of_a_choice(slurm: FakeSlurm, opened: Open) -> None:
    slurm.configure(has_accounts=False)
    assert "no accounts are kept: an end is known for 300 s" in details(opened(), is_ok=True)


def test_doctor_tells_of_a_partition_that_is_not_there(opened: Open) -> None:
    cluster = opened(terms=SlurmTerms(partition="main"))
    assert "no partition main; there are: cpu, gpu" in details(cluster, is_ok=False)


def test_missing_programs_are_told(tmp_path: Path, slurm: FakeSlurm) -> None:
    cluster = open_cluster(tmp_path, HereRunner(programs=tmp_path / "nowhere"))
    assert "install Slurm's client commands" in details(cluster, is_ok=False)
    with pytest.raises(ClusterUnavailableError, match="cannot be run"):
        cluster.poll([NAME])


def test_root_that_cannot_be_used_is_told(opened: Open, tmp_path: Path) -> None:
    cluster = opened()
    (tmp_path / "shared").rename(tmp_path / "unmounted")
    assert "cannot be written to: No such file" in details(cluster, is_ok=False)
