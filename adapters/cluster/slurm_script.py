"""The batch script of one run. Pure: texts in, bytes out."""

import re
import shlex
from pathlib import PurePosixPath
from typing import Final

from scheduler.ports import Dispatch

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff]")
_ESCAPED: Final = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff\\']")
EX_NOT_OURS: Final = 69
EX_NO_FOLDER: Final = 72


def build_script(
    dispatch: Dispatch,
    *,
    run_folder: PurePosixPath,
    checkpoints: PurePosixPath,
    ticket: str,
    keeps_exit: bool = False,
) -> bytes:
    """The script that runs the command in place of itself, so that signals and exit code are its own.

    It takes its ticket first: a file that exactly one job can rename, and that Gridtide withdraws when
    it has given the submission up. What Slurm starts without a ticket ends at once.

    Where `keeps_exit`, the script stays, to write the command's exit code to `exit-ID`: for accounts that
    cannot tell it.

    Raises:
        UnicodeEncodeError: a value that no file can hold.
    """
    workdir = dispatch.shared_workdir or str(run_folder)
    checkpoint = str(checkpoints / dispatch.checkpoint_key)
    command = "exec -- " + " ".join(quote(part) for part in dispatch.command)
    lines = [
        "#!/bin/bash",
        # A command before all else ends what sbatch takes for its own directives.
        "unset SLURM_EXPORT_ENV  # or srun would start its steps without these variables",
        *_enter(str(run_folder)),
        'started="started-$SLURM_JOB_ID"',
        f'if ! mv -- {quote(ticket)} "$started" 2>/dev/null && [ ! -e "$started" ]; then',
        f'    echo "gridtide: this submission was given up, or has run before" >&2; exit {EX_NOT_OURS}',
        "fi",
        f"mkdir -p -- {quote(checkpoint)} || exit {EX_NO_FOLDER}",
        *_enter(workdir),
        *(f"export {name}={quote(value)}" for name, value in dispatch.env),
        f"export GRIDTIDE_CHECKPOINT_DIR={quote(checkpoint)}",
        *(_run(command, run_folder) if keeps_exit else [command]),
    ]
    return ("\n".join(lines) + "\n").encode("utf-8")


def quote(text: str) -> str:
    r"""The text as one word of bash, on one line: control characters in the form $'\n'.

    sbatch reads scripts line by line, and refuses those with a carriage return before a line feed. JSON,
    in which slurmrestd takes them, has no place for bytes that are no UTF-8: they become $'\377' too.
    """
    if _CONTROL.search(text) is None:
        return shlex.quote(text)
    return "$'" + _ESCAPED.sub(lambda match: _escape(match[0]), text) + "'"


def _escape(character: str) -> str:
    return f"\\{character}" if character in "\\'" else f"\\{ord(character) & 0xFF:03o}"


def _enter(folder: str) -> list[str]:
    # slurmd goes to /tmp where the folder of --chdir is missing: better not to run at all.
    return [f"cd -- {quote(folder)} || exit {EX_NO_FOLDER}"]


def _run(command: str, run_folder: PurePosixPath) -> list[str]:
    """Runs the command in a child, notes its exit code, and leaves as it left."""
    exit_file = quote(f"{run_folder}/exit-")
    return [
        # Signals go to every process of a job: the command acts on them, this shell waits for it.
        "trap : HUP INT QUIT USR1 USR2 ALRM TERM XCPU",
        f"( {command} )",
        "code=$?",
        f'kept={exit_file}"$SLURM_JOB_ID"',
        'echo "$code" > "$kept.tmp" && mv -f -- "$kept.tmp" "$kept"',
        'if [ "$code" -gt 128 ] && name=$(kill -l "$code" 2>/dev/null); then',
        '    ulimit -c 0; trap - "$name"; kill -s "$name" $$  # dies of it as the command did',
        "fi",
        'exit "$code"',
    ]
