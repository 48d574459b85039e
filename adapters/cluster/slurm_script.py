"""The batch script of one run. Pure: texts in, bytes out."""

import re
import shlex
from pathlib import PurePosixPath
from typing import Final

from scheduler.ports import Dispatch

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED: Final = re.compile(r"[\x00-\x1f\x7f\\']")
EX_NOT_OURS: Final = 69
EX_NO_FOLDER: Final = 72


def build_script(
    dispatch: Dispatch, *, run_folder: PurePosixPath, checkpoints: PurePosixPath, ticket: str
) -> bytes:
    """The script that runs the command in place of itself, so that signals and exit code are its own.

    It takes its ticket first: a file that exactly one job can rename, and that Gridtide withdraws when
    it has given the submission up. What Slurm starts without a ticket ends at once.

    Raises:
        UnicodeEncodeError: a value that no file can hold.
    """
    workdir = dispatch.workdir or str(run_folder)
    checkpoint = str(checkpoints / dispatch.checkpoint_key)
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
        "exec -- " + " ".join(quote(part) for part in dispatch.command),
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", errors="surrogateescape")


def quote(text: str) -> str:
    r"""The text as one word of bash, on one line: control characters in the form $'\n'.

    sbatch reads scripts line by line, and refuses those with a carriage return before a line feed.
    """
    if _CONTROL.search(text) is None:
        return shlex.quote(text)
    return "$'" + _ESCAPED.sub(lambda match: _escape(match[0]), text) + "'"


def _escape(character: str) -> str:
    return f"\\{character}" if character in "\\'" else f"\\{ord(character):03o}"


def _enter(folder: str) -> list[str]:
    # slurmd goes to /tmp where the folder of --chdir is missing: better not to run at all.
    return [f"cd -- {quote(folder)} || exit {EX_NO_FOLDER}"]
