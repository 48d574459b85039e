"""What only the local cluster does: supervisors, run folders, and processes of this machine."""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.cluster import local_supervisor
from adapters.cluster.local import LocalCluster
from scheduler.core.errors import (
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
)
from scheduler.core.slurm_terms import JobSlurm
from scheduler.ports import RunState
from tests.fakes.clock import ManualClock
from tests.unit.cluster.interrupted import N_RUNS
from tests.unit.cluster.runs import Runs, lines, wait_until

REPO = Path(__file__).parents[3]
NAME = "job.1.0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cluster"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def runs(root: Path, folder: Path) -> Iterator[Runs]:
    runs = Runs(make_cluster(root), folder)
    yield runs
    runs.finish()


def make_cluster(root: Path, **fields: Any) -> LocalCluster:
    devices = {"CPU": 4, "H100": 4}
    return LocalCluster("here", root=root, devices=devices, clock=ManualClock(), **fields)


def document(root: Path, name: str, run: str = NAME) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / "runs" / run / name).read_text(encoding="utf-8"))
    return loaded


def is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def pid_in(path: Path) -> int:
    wait_until(lambda: bool(lines(path)), f"{path.name} holds a process id")
    return int(lines(path)[0])


def kill_supervisor(root: Path) -> None:
    os.kill(document(root, "started.json")["supervisor"], signal.SIGKILL)


def run_module(name: str, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.unit.cluster.{name}", *map(str, arguments)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    )
    return done.stdout


def test_job_goes_on_from_its_checkpoint_in_a_cluster_that_shares_the_folder(
    root: Path, folder: Path
) -> None:
    for number, script in enumerate(
        (
            'echo 41 > "$GRIDTIDE_CHECKPOINT_DIR/step"; exit 75',
            'cp "$GRIDTIDE_CHECKPOINT_DIR/step" .',
        )
    ):
        cluster = make_cluster(root / str(number), checkpoints=root / "shared")
        runs = Runs(cluster, folder)
        runs.start(script, f"job.1.{number}")
        runs.until(RunState.ENDED, name=f"job.1.{number}")
        runs.finish()
    assert lines(folder / "step") == ["41"]


# ------------------------------------------------------------------------------ exactly once


def test_service_killed_anywhere_in_a_submission_starts_the_run_once_when_asked_again(
    root: Path, folder: Path
) -> None:
    run_module("interrupted", root, folder)
    runs = Runs(make_cluster(root), folder)
    for number in range(N_RUNS):
        name = f"job{number}.1.0"
        with contextlib.suppress(DispatchUncertainError):
            runs.start(f"echo x >> starts-{number}", name)
        assert runs.until(RunState.ENDED, name=name).exit_code == 0
    runs.finish()
    starts = {number: lines(folder / f"starts-{number}") for number in range(N_RUNS)}
    assert starts == {number: ["x"] for number in range(N_RUNS)}


def test_run_prepared_before_a_crash_is_unknown_takes_no_devices_and_can_start(
    runs: Runs, root: Path
) -> None:
    runs.start("exit 0", gpus=4)
    runs.finish()
    prepared = root / "runs" / "other.1.0"
    prepared.mkdir()
    shutil.copy(root / "runs" / NAME / "spec.json", prepared)
    again = Runs(make_cluster(root), runs.folder)
    assert again.cluster.free_devices()["CPU"] == 4
    assert again.cluster.poll(["other.1.0"]) == {}
    again.start("echo x >> starts", "other.1.0")
    assert again.until(RunState.ENDED, name="other.1.0").exit_code == 0
    assert lines(runs.folder / "starts") == ["x"]
    again.finish()


def test_run_whose_supervisor_has_not_begun_yet_is_pending_and_not_started_again(
    root: Path, folder: Path
) -> None:
    begun = root / "runs" / NAME
    begun.mkdir(parents=True)
    spec = {"accelerator": "CPU", "device_ids": [0, 1, 2, 3]}
    (begun / "spec.json").write_text(json.dumps(spec))
    with (begun / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = Runs(make_cluster(root), folder)
        with pytest.raises(DispatchUncertainError):
            runs.start("echo x >> starts", gpus=4)
        assert runs.cluster.free_devices()["CPU"] == 0
        assert runs.status().state is RunState.PENDING
        runs.cluster.cancel(NAME, grace_s=0)
        assert runs.status().state is RunState.PENDING
    assert runs.cluster.poll([NAME]) == {}
    assert not (folder / "starts").exists()


def test_second_supervisor_of_a_run_starts_nothing(runs: Runs, root: Path) -> None:
    runs.start("echo x >> starts")
    ended = runs.until(RunState.ENDED)
    lock, ready = (os.open(os.devnull, os.O_RDONLY) for _ in range(2))
    try:
        second = subprocess.run(
            [
                sys.executable,
                local_supervisor.__file__,
                root / "runs" / NAME,
                str(lock),
                str(ready),
            ],
            pass_fds=(lock, ready),
            timeout=50,
            check=False,
        )
    finally:
        os.close(lock)
        os.close(ready)
    assert second.returncode == 0
    assert lines(runs.folder / "starts") == ["x"]
    assert Runs(make_cluster(root), runs.folder).status() == ended


def test_run_whose_supervisor_died_while_starting_it_is_lost_and_never_starts(
    runs: Runs, root: Path
) -> None:
    marked = root / "runs" / NAME
    marked.mkdir()
    (marked / "started.json").touch()
    with pytest.raises(DispatchUncertainError):
        runs.start("echo x >> starts")
    assert runs.status().state is RunState.LOST
    assert runs.status().spans == ()
    assert not (runs.folder / "starts").exists()


def test_submission_fails_plainly_when_no_process_can_be_started(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(ClusterUnavailableError, match="/nowhere/python"):
            runs.start("echo x >> starts", gpus=4)
    assert runs.cluster.free_devices()["CPU"] == 4
    assert runs.cluster.poll([NAME]) == {}
    runs.start("echo x >> starts", gpus=4)
    assert runs.until(RunState.ENDED).exit_code == 0
    assert lines(runs.folder / "starts") == ["x"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a\0b", "ä", "x" * 300])
def test_name_that_is_no_plain_folder_name_is_rejected(runs: Runs, root: Path, name: str) -> None:
    with pytest.raises(DispatchRejectedError):
        runs.cluster.submit(runs.dispatch("exit 0", name))
    with pytest.raises(DispatchRejectedError):
        runs.cluster.submit(runs.dispatch("exit 0", checkpoint_key=name))
    assert list((root / "runs").iterdir()) == []


def test_several_nodes_are_rejected(runs: Runs) -> None:
    with pytest.raises(DispatchRejectedError, match="2 nodes"):
        runs.cluster.submit(runs.dispatch("exit 0", gpus=2, num_nodes=2))


# --------------------------------------------------------------------- commands that fail early


def test_command_that_does_not_exist_ends_with_127_and_its_name(runs: Runs) -> None:
    runs.start("", command=("/nowhere/train",))
    status = runs.until(RunState.ENDED)
    assert status.exit_code == 127
    assert "/nowhere/train" in status.detail
    assert runs.cluster.free_devices()["CPU"] == 4


def test_workdir_that_does_not_exist_is_named(runs: Runs) -> None:
    runs.start("exit 0", workdir="/nowhere/data")
    status = runs.until(RunState.ENDED)
    assert status.exit_code == 127
    assert "/nowhere/data" in status.detail


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 0\n", "no program at all\n"])
def test_file_that_cannot_be_executed_ends_with_126(runs: Runs, text: str) -> None:
    program = runs.folder / "program"
    program.write_text(text)
    program.chmod(0o755 if text.startswith("no") else 0o644)
    runs.start("", command=(str(program),))
    status = runs.until(RunState.ENDED)
    assert status.exit_code == 126
    assert str(program) in status.detail


@pytest.mark.parametrize(("name", "value"), [("A", "b\0c"), ("A=B", "c"), ("A", "\ud800")])
def test_variable_that_no_environment_can_hold_fails_the_run_not_the_cluster(
    runs: Runs, name: str, value: str
) -> None:
    runs.start("exit 0", env=((name, value),))
    status = runs.until(RunState.ENDED)
    assert status.exit_code == 126
    assert status.detail


# -------------------------------------------------------------------------------- environment


def test_environment_of_the_service_is_not_inherited(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDTIDE_TOKEN", "secret")
    monkeypatch.setenv("WANTED", "yes")
    monkeypatch.setenv("MINE", "of the service")
    runs = Runs(make_cluster(root, pass_env=("PATH", "WANTED", "MINE", "ABSENT")), folder)
    runs.start("env -0 > seen", env=(("MINE", "of the job"),))
    runs.until(RunState.ENDED)
    runs.finish()
    text = (folder / "seen").read_text(encoding="utf-8")
    seen = dict(line.split("=", 1) for line in text.rstrip("\0").split("\0"))
    of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert set(seen) - of_the_shell == {"PATH", "WANTED", "MINE", "GRIDTIDE_CHECKPOINT_DIR"}
    assert (seen["WANTED"], seen["MINE"]) == ("yes", "of the job")


def test_gpu_runs_at_the_same_time_see_different_devices(runs: Runs) -> None:
    show = 'echo "$CUDA_VISIBLE_DEVICES" > "seen-$GRIDTIDE_RUN"; sleep 60'
    for name, gpus in (("a.1.0", 1), ("b.1.0", 2), ("c.1.0", 1)):
        runs.start(show, name, gpus=gpus, accelerator="H100", env=(("GRIDTIDE_RUN", name),))
        runs.until_file(f"seen-{name}")
    wait_until(lambda: bool(lines(runs.folder / "seen-c.1.0")), "the last one has written")
    seen = [lines(runs.folder / f"seen-{name}")[0] for name in ("a.1.0", "b.1.0", "c.1.0")]
    assert seen == ["0", "1,2", "3"]


def test_output_goes_to_files_and_there_is_no_input(runs: Runs, root: Path) -> None:
    runs.start("cat; echo out; echo err >&2")
    assert runs.until(RunState.ENDED).exit_code == 0
    assert lines(root / "runs" / NAME / "stdout.log") == ["out"]
    assert lines(root / "runs" / NAME / "stderr.log") == ["err"]
    assert lines(root / "runs" / NAME / "supervisor.log") == []


def test_command_begins_in_its_run_folder_where_no_workdir_is_given(runs: Runs, root: Path) -> None:
    runs.start("", command=("/bin/pwd",))
    runs.until(RunState.ENDED)
    assert lines(root / "runs" / NAME / "stdout.log") == [str(root / "runs" / NAME)]


def test_command_begins_where_its_user_was(runs: Runs, root: Path, tmp_path: Path) -> None:
    runs.start("", command=("/bin/pwd",), submitted_from=str(tmp_path))
    runs.until(RunState.ENDED)
    assert lines(root / "runs" / NAME / "stdout.log") == [str(tmp_path)]


def test_run_folder_is_private_to_its_user(runs: Runs, root: Path) -> None:
    runs.start("exit 0", env=(("API_KEY", "secret"),))
    assert stat.S_IMODE((root / "runs" / NAME).stat().st_mode) == 0o700


# ------------------------------------------------------------------------- processes of a run


def test_what_the_command_leaves_behind_dies_with_it(runs: Runs) -> None:
    runs.start("sleep 300 & echo $! > child; exit 0")
    runs.until(RunState.ENDED)
    child = pid_in(runs.folder / "child")
    wait_until(lambda: is_dead(child), "the grandchild is dead")


def test_grandchildren_that_ignore_sigterm_die_at_the_end_of_the_grace(runs: Runs) -> None:
    runs.start("(trap '' TERM; sh -c 'echo $$ > child; while :; do sleep 1; done') & sleep 300")
    child = pid_in(runs.folder / "child")
    runs.cluster.cancel(NAME, grace_s=0.05)
    assert runs.until(RunState.ENDED).exit_code == -signal.SIGTERM
    wait_until(lambda: is_dead(child), "the grandchild is dead")


def test_run_whose_supervisor_is_killed_is_lost_and_nothing_of_it_goes_on(
    runs: Runs, root: Path
) -> None:
    runs.start("sleep 300 & echo $! > child; sleep 300")
    child = pid_in(runs.folder / "child")
    leader = document(root, "started.json")["pid"]
    kill_supervisor(root)
    assert runs.until(RunState.LOST).exit_code is None
    wait_until(lambda: is_dead(leader) and is_dead(child), "the whole group is dead")
    assert runs.cluster.free_devices()["CPU"] == 4


def test_what_outlives_the_command_dies_although_its_leader_is_gone(runs: Runs, root: Path) -> None:
    runs.start("(sleep 300 & echo $! > child); while [ ! -e go ]; do sleep 0.01; done")
    child = pid_in(runs.folder / "child")
    leader = document(root, "started.json")["pid"]
    kill_supervisor(root)
    wait_until(lambda: is_dead(leader), "the leader is dead")
    assert not is_dead(child)
    runs.until(RunState.LOST)
    wait_until(lambda: is_dead(child), "the grandchild is dead")


def test_lost_run_never_starts_again_and_counts_until_its_last_output(
    runs: Runs, root: Path
) -> None:
    runs.start("echo x >> starts; echo out; sleep 300")
    log = root / "runs" / NAME / "stdout.log"
    wait_until(lambda: lines(log) == ["out"], "it has written")
    began_s = document(root, "started.json")["wall_s"]
    os.utime(log, (began_s + 100, began_s + 100))
    kill_supervisor(root)
    lost = runs.until(RunState.LOST)
    assert [span.duration_s for span in lost.spans] == [pytest.approx(100, abs=0.001)]
    runs.start("echo x >> starts")
    assert runs.status() == lost
    assert lines(runs.folder / "starts") == ["x"]


def test_process_that_left_the_group_does_not_keep_a_lost_run_alive(runs: Runs, root: Path) -> None:
    runs.start("setsid sh -c 'echo $$ > daemon; exec sleep 300' & sleep 300")
    daemon = pid_in(runs.folder / "daemon")
    try:
        kill_supervisor(root)
        assert runs.until(RunState.LOST).exit_code is None
    finally:
        os.kill(daemon, signal.SIGKILL)


@pytest.mark.parametrize("mark", [None, "/another/job"])
def test_stranger_that_took_over_the_process_id_is_left_alone(
    root: Path, folder: Path, mark: str | None
) -> None:
    env = {} if mark is None else {"GRIDTIDE_CHECKPOINT_DIR": mark}
    stranger = subprocess.Popen(["/bin/sleep", "300"], start_new_session=True, env=env)
    try:
        old = root / "runs" / NAME
        old.mkdir(parents=True)
        spec = {
            "env": {"GRIDTIDE_CHECKPOINT_DIR": str(root / "checkpoints" / "job")},
            "accelerator": "CPU",
            "device_ids": [0],
        }
        began_s = psutil.Process(stranger.pid).create_time()
        started = {"pid": stranger.pid, "supervisor": 1, "wall_s": began_s}
        (old / "spec.json").write_text(json.dumps(spec))
        (old / "started.json").write_text(json.dumps(started))
        (old / "lock").touch()
        cluster = make_cluster(root)
        cluster.cancel(NAME, grace_s=0)
        assert cluster.poll([NAME])[NAME].state is RunState.LOST
        assert not is_dead(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_run_goes_on_when_the_service_is_gone(root: Path, folder: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from tests.unit.cluster.test_local import *\n"
        f"runs = Runs(make_cluster(Path({str(root)!r})), Path({str(folder)!r}))\n"
        "runs.start('while [ ! -e go ]; do sleep 0.01; done; exit 6')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, timeout=50, check=False)
    assert done.returncode == -signal.SIGKILL
    runs = Runs(make_cluster(root), folder)
    assert runs.until(RunState.RUNNING)
    (folder / "go").touch()
    assert runs.until(RunState.ENDED).exit_code == 6


# -------------------------------------------------------------------------- disks and folders


def test_full_disk_is_told_and_the_run_starts_once_there_is_room(root: Path, folder: Path) -> None:
    report = json.loads(run_module("full_disk", root, folder))
    assert "check the disk" in report["message"]
    assert report["free"] == {"CPU": 1}
    assert (report["known"], report["code"]) == (0, 0)
    assert lines(folder / "starts") == ["x"]


def test_end_that_cannot_be_written_is_written_once_it_can(runs: Runs, root: Path) -> None:
    runs.start("touch ready; while [ ! -e go ]; do sleep 0.01; done; exit 0")
    runs.until_file("ready")
    in_the_way = root / "runs" / NAME / "exit.json.tmp"
    in_the_way.mkdir()
    leader = document(root, "started.json")["pid"]
    (runs.folder / "go").touch()
    wait_until(lambda: is_dead(leader), "the command has ended")
    assert runs.status().state is RunState.RUNNING
    in_the_way.rmdir()
    assert runs.until(RunState.ENDED).exit_code == 0


def test_cluster_whose_folder_is_gone_says_so_and_calls_no_run_unknown(
    runs: Runs, root: Path
) -> None:
    runs.start("touch ready; sleep 60")
    runs.until_file("ready")
    root.rename(root.with_name("unmounted"))
    calls = [
        lambda: runs.cluster.poll([NAME]),
        lambda: runs.cluster.submit(runs.dispatch("exit 0", "new.1.0")),
        lambda: runs.cluster.pause(NAME, grace_s=1),
        lambda: runs.cluster.resume(NAME),
        lambda: runs.cluster.cancel(NAME, grace_s=1),
        runs.cluster.free_devices,
    ]
    for call in calls:
        with pytest.raises(ClusterUnavailableError, match="cannot be used"):
            call()
    assert [check.is_ok for check in runs.cluster.checks()] == [False]
    root.with_name("unmounted").rename(root)
    assert runs.status().state is RunState.RUNNING


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(ClusterUnavailableError, match="cannot be made"):
        make_cluster(tmp_path / "file" / "cluster")


def test_run_folder_that_cannot_be_made_is_told_and_takes_no_devices(
    runs: Runs, root: Path
) -> None:
    (root / "checkpoints").rmdir()
    (root / "checkpoints").write_text("a file")
    with pytest.raises(ClusterUnavailableError, match="cannot be used"):
        runs.start("touch started", gpus=4)
    assert runs.cluster.free_devices()["CPU"] == 4
    assert runs.cluster.poll([NAME]) == {}
    assert not (runs.folder / "started").exists()


def test_submission_works_in_a_service_with_thousands_of_open_files(runs: Runs) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"this user may open {hard} files only: ulimit -Hn 4096 enables it")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        runs.start("exit 0")
        assert runs.until(RunState.ENDED).exit_code == 0
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_end_of_a_run_is_told_without_a_poll(runs: Runs) -> None:
    told = threading.Event()
    runs.cluster.tell_ends(told.set)
    runs.start("true")
    assert told.wait(30)


def test_run_with_terms_for_slurm_is_refused(tmp_path: Path) -> None:
    cluster = LocalCluster("here", root=tmp_path, devices={"CPU": 1}, clock=ManualClock())
    with pytest.raises(DispatchRejectedError, match="terms for Slurm"):
        Runs(cluster, tmp_path).start("true", slurm=JobSlurm(account="ml"))
