"""The batch script: what the command sees, and what sbatch must not see in it."""

import os
import signal
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from adapters.cluster.slurm_folder import SlurmFolder
from adapters.cluster.slurm_script import EX_NO_FOLDER, EX_NOT_OURS, build_script, quote
from scheduler.core.job import JobId
from scheduler.ports import Dispatch
from tests.unit.cluster.runs import wait_until

HARD = [
    "",
    " a  b ",
    "'\"\\",
    "$HOME `id` $(id) ${x} !!",
    "two\nlines\r\nand\ttabs\x01\x7f",
    "*?[a]",
    "-n",
    "大🌱ä",
    "x\n#SBATCH --time=1\n",
    "\\n",
    "\udcff",
]


def make_dispatch(folder: Path, **fields: object) -> Dispatch:
    known: dict[str, object] = {
        "name": "job.1.0",
        "job_id": JobId("job"),
        "command": ("/usr/bin/env", "-0"),
        "env": (),
        "workdir": str(folder),
        "accelerator": "CPU",
        "gpus": 1,
        "num_nodes": 1,
        "checkpoint_key": "job",
    }
    return Dispatch(**(known | fields))  # type: ignore[arg-type]


def run_script(
    folder: Path, *, keeps_exit: bool = False, **fields: Any
) -> subprocess.CompletedProcess[bytes]:
    command, env = script_command(folder, keeps_exit=keeps_exit, **fields)
    return subprocess.run(command, env=env, capture_output=True, check=False)


def script_command(
    folder: Path,
    *,
    job_id: str = "7",
    ticket: bool = True,
    keeps_exit: bool = False,
    **fields: object,
) -> tuple[list[str], dict[str, str]]:
    run_folder = folder / "run 'x' %"
    run_folder.mkdir(exist_ok=True)
    if ticket:
        (run_folder / "ticket-1").touch()
    script = build_script(
        make_dispatch(folder, **fields),
        run_folder=PurePosixPath(run_folder),
        checkpoints=PurePosixPath(folder / "check points"),
        ticket="ticket-1",
        keeps_exit=keeps_exit,
    )
    (folder / "script").write_bytes(script)
    env = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": job_id, "SLURM_EXPORT_ENV": "NONE"}
    return ["/bin/bash", str(folder / "script")], env


def variables(out: bytes) -> dict[bytes, bytes]:
    pairs = [pair.split(b"=", 1) for pair in out.split(b"\0") if b"=" in pair]
    return {pair[0]: pair[1] for pair in pairs}


@pytest.mark.parametrize("value", HARD)
def test_value_arrives_as_it_is(tmp_path: Path, value: str) -> None:
    done = run_script(tmp_path, env=(("MINE", value),))
    assert variables(done.stdout)[b"MINE"] == value.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("value", HARD)
def test_argument_arrives_as_it_is(tmp_path: Path, value: str) -> None:
    done = run_script(tmp_path, command=("/usr/bin/printf", "%s|", value, "last"))
    assert done.stdout == value.encode("utf-8", "surrogateescape") + b"|last|"


@pytest.mark.parametrize("value", HARD)
def test_every_word_stays_on_one_line_without_control_characters(value: str) -> None:
    assert not any(ord(character) < 32 or ord(character) == 127 for character in quote(value))


def test_directives_cannot_be_smuggled_in(tmp_path: Path) -> None:
    run_script(tmp_path, env=(("MINE", "\n#SBATCH --partition=other\n"),))
    lines = (tmp_path / "script").read_text().splitlines()
    assert not any(line.startswith("#SBATCH") for line in lines)
    assert lines[0] == "#!/bin/bash"
    assert lines[1].startswith("unset ")


def test_steps_of_srun_will_inherit_the_variables(tmp_path: Path) -> None:
    assert b"SLURM_EXPORT_ENV" not in variables(run_script(tmp_path).stdout)


def test_checkpoint_directory_is_made_and_told(tmp_path: Path) -> None:
    seen = variables(run_script(tmp_path).stdout)[b"GRIDTIDE_CHECKPOINT_DIR"].decode()
    assert seen == str(tmp_path / "check points" / "job")
    assert Path(seen).is_dir()


def test_command_takes_the_place_of_the_script(tmp_path: Path) -> None:
    done = run_script(tmp_path, command=("/bin/sh", "-c", "kill -SEGV $$"))
    assert done.returncode == -11


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_command_that_cannot_be_run_tells_by_its_code(
    tmp_path: Path, command: str, code: int
) -> None:
    assert run_script(tmp_path, command=(command,)).returncode == code


def test_missing_workdir_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    done = run_script(tmp_path, workdir=str(tmp_path / "gone"))
    assert (done.returncode, done.stdout) == (EX_NO_FOLDER, b"")


def test_submission_without_a_ticket_does_nothing(tmp_path: Path) -> None:
    done = run_script(tmp_path, ticket=False)
    assert (done.returncode, done.stdout) == (EX_NOT_OURS, b"")


def test_only_one_job_takes_the_ticket_and_may_begin_again_when_requeued(tmp_path: Path) -> None:
    assert run_script(tmp_path, job_id="7").returncode == 0
    assert run_script(tmp_path, job_id="8", ticket=False).returncode == EX_NOT_OURS
    assert run_script(tmp_path, job_id="7", ticket=False).returncode == 0


# ---------------------------------------------------------------- scripts that note their exit code


def noted(folder: Path) -> int | None:
    return SlurmFolder(folder / "run 'x' %").exit_code("7")


@pytest.mark.parametrize("code", [0, 1, 75, 128, 255])
def test_exit_code_is_noted_and_kept(tmp_path: Path, code: int) -> None:
    done = run_script(tmp_path, keeps_exit=True, command=("/bin/sh", "-c", f"exit {code}"))
    assert (done.returncode, noted(tmp_path)) == (code, code)


def test_without_need_nothing_is_noted(tmp_path: Path) -> None:
    assert run_script(tmp_path, command=("/bin/sh", "-c", "exit 3")).returncode == 3
    assert noted(tmp_path) is None


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_script_dies_of_the_signal_that_its_command_died_of(tmp_path: Path, number: int) -> None:
    done = run_script(tmp_path, keeps_exit=True, command=("/bin/sh", "-c", f"kill -{number} $$"))
    assert done.returncode == -number


@pytest.mark.parametrize("value", HARD)
def test_argument_arrives_as_it_is_in_a_script_that_stays(tmp_path: Path, value: str) -> None:
    done = run_script(tmp_path, keeps_exit=True, command=("/usr/bin/printf", "%s|", value))
    assert done.stdout == value.encode("utf-8", "surrogateescape") + b"|"


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_command_that_cannot_be_run_is_noted(tmp_path: Path, command: str, code: int) -> None:
    assert run_script(tmp_path, keeps_exit=True, command=(command,)).returncode == code
    assert noted(tmp_path) == code


@pytest.mark.parametrize(
    ("trap", "code"),
    [("trap 'exit 75' TERM", 75), (":", -signal.SIGTERM), ("trap 'exit 0' TERM", 0)],
)
def test_signal_to_all_processes_is_answered_by_the_command(
    tmp_path: Path, trap: str, code: int
) -> None:
    """As slurmrestd sends it: to the script as well as to what it runs."""
    ready = tmp_path / "ready"
    wait = f"{trap}; touch {ready}; while :; do sleep 0.01; done"
    command, env = script_command(tmp_path, keeps_exit=True, command=("/bin/sh", "-c", wait))
    with subprocess.Popen(command, env=env, start_new_session=True) as process:
        wait_until(ready.exists, "the command runs")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait() == code
    assert noted(tmp_path) == (code if code >= 0 else 128 - code)


@pytest.mark.parametrize("text", ["", "x", "-1", "256", "3 4"])
def test_note_that_cannot_be_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "exit-7").write_text(text)
    assert SlurmFolder(tmp_path).exit_code("7") is None
