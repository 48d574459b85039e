"""A job's script, as a command of its shell. Pure."""

import re
from typing import Final

from scheduler.core.errors import InvalidJobError

SHELLS: Final = ("bash", "sh", "dash", "ksh", "zsh")
MAX_BYTES: Final = 120_000
"""Linux takes no argument of a command that is longer than 128 KiB."""
_DIRECTIVE: Final = re.compile(r"^#SBATCH\b.*", re.MULTILINE)


def build_command(script: str, name: str) -> tuple[str, ...]:
    """The command that runs the script by the shell of its first line, bash where it names none.

    Args:
        script: its text.
        name: of the job; the script sees it as `$0`.

    Raises:
        InvalidJobError: no text, too long a one, not for a shell, or lines that only sbatch understands.
    """
    if not script.strip():
        raise _refused("it is empty", script, "the text of a shell script")
    if len(script.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        why = f"it is longer than {MAX_BYTES} bytes; put it into a file that the job can read, and give command"
        raise _refused(why, f"{len(script)} characters", f"at most {MAX_BYTES} bytes")
    directive = _DIRECTIVE.search(script)
    if directive:
        why = (
            f"the line {directive[0]!r} is for sbatch: state it in slurm: {{…}} or resources, or let "
            "gridtide sbatch submit the script"
        )
        raise _refused(why, directive[0], "a script without lines that begin with #SBATCH")
    return (*_interpreter(script), "-c", script, name)


def _interpreter(script: str) -> list[str]:
    first = script.split("\n", 1)[0]
    if not first.startswith("#!"):
        return ["bash"]
    words = first.removeprefix("#!").split()
    if words and words[0].rsplit("/", 1)[-1] == "env":
        words = words[1:]
    if not words or words[0].rsplit("/", 1)[-1] not in SHELLS:
        why = f"its first line {first!r} names no shell; give command: [{', '.join(words)}, FILE] instead"
        raise _refused(why, first, f"#! with one of {', '.join(SHELLS)}, or no such line")
    return words


def _refused(why: str, value: str, valid: str) -> InvalidJobError:
    return InvalidJobError(f"script: {why}", field="script", value=value, valid=valid)
