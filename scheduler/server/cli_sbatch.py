"""`gridtide sbatch`: the site's sbatch, with our words as options of it. It needs no service of ours."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from scheduler.core.errors import InvalidInputError, NotFoundError
from scheduler.server.cli_output import local, say

if TYPE_CHECKING:
    from scheduler.server.sbatch_line import SbatchLine
    from scheduler.server.sbatch_options import Takes
    from scheduler.server.sbatch_request import SbatchRequest

_HELP_S: Final = 10.0


class Untouched(TyperCommand):
    """A command that is given its arguments as they were written, `--` and all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: D102 - Typer's own
        ctx.params["arguments"] = list(args)
        return []


def sbatch(
    ctx: typer.Context,
    arguments: Annotated[
        list[str], typer.Argument(metavar="[OPTIONS OF SBATCH] SCRIPT [ARGUMENTS]")
    ],
) -> None:
    """Submit a job with the site's sbatch, to be planned.

    Such as gridtide sbatch --deadline +20h --duration 4h --gres=gpu:2 train.sh. Besides the options of sbatch there are:
    --deadline or --patience; --duration (else its time limit), --duration-p95, --not-before, --start-by;
    --interruptible with --min-chunk, --checkpoint-cost, --max-interruptions, --signal USR1; --power-w, --priority,
    --project, --carbon-price, --max-cost, --max-carbon-g; --dry-run prints what would be run. Slurm starts the job at its latest safe start, whatever becomes of Gridtide.
    """
    from scheduler.server.sbatch_line import split_line  # noqa: PLC0415 - imports pydantic

    line = split_line(arguments, ask_site=_ask_site)
    if "help" in line.options:
        typer.echo(ctx.get_help())
        return
    if line.options.keys() & {"version", "usage"} and not line.words:
        raise typer.Exit(_run(line.passed, None))
    if not line.words.keys() & {"deadline", "patience"}:
        raise InvalidInputError(
            "deadline: not stated; write --deadline (finish by) or --patience (how long it may wait)",
            field="deadline",
        )
    stdin = _stdin(line)
    request = _request(line, stdin)
    if line.is_dry_run:
        typer.echo(shlex.join(["sbatch", *request.arguments]))
        return
    note = _note(line, request)
    if note and "wait" in line.options:
        say(note)
    code = _run(request.arguments, stdin)
    if note and "wait" not in line.options and code == 0:
        say(note)
    raise typer.Exit(code)


def _run(arguments: Sequence[str], stdin: bytes | None) -> int:
    """How sbatch ends. It may wait for the job, and ^C ends both."""
    done = subprocess.run(  # noqa: S603 - an argument list, no shell
        [_program(), *arguments], input=stdin, check=False
    )
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _request(line: "SbatchLine", stdin: bytes | None) -> "SbatchRequest":
    from tzlocal import get_localzone  # noqa: PLC0415 - likewise

    from adapters.hardware_tables import load_hardware  # noqa: PLC0415 - likewise
    from scheduler.server.sbatch_request import Surroundings, build_request  # noqa: PLC0415

    around = Surroundings(
        script=(_script(line) if stdin is None else stdin).decode(errors="replace"),
        variables=os.environ,
        now=datetime.now(UTC),  # noqa: TID251 - what the user says is relative to the user's now
        zone=get_localzone(),
        hardware=load_hardware(),
    )
    return build_request(line, around)


def _stdin(line: "SbatchLine") -> bytes | None:
    """The script that sbatch would read from its input; None where it has another."""
    if line.script_name is not None or "wrap" in line.options:
        return None
    return sys.stdin.buffer.read()


def _script(line: "SbatchLine") -> bytes:
    """The script's bytes; none where sbatch itself will not find it, and say so."""
    if line.script_name is None:
        return b""
    path = _find_script(line.script_name, line.options.get("chdir"))
    try:
        return path.read_bytes() if path is not None else b""
    except OSError:
        return b""


def _find_script(name: str, chdir: str | None) -> Path | None:
    """Where sbatch looks: a name that begins with . or / is a path, others lie in the working folder, or on PATH."""
    if name.startswith((".", "/")):
        return Path(name)
    folders = [chdir or ".", *os.get_exec_path()]
    return next((path for path in (Path(one, name) for one in folders) if path.is_file()), None)


def _note(line: "SbatchLine", request: "SbatchRequest") -> str | None:
    """By when it starts; None where nobody asks, or nothing is submitted."""
    if line.options.keys() & {"quiet", "test-only"}:
        return None
    at = local(request.begin_at.isoformat())
    gone = "; #SBATCH --begin gave way to that" if "begin" in request.overruled else ""
    return f"starts at {at} at the latest{gone}; its plan, once it is adopted: gridtide list"


def _program() -> str:
    path = shutil.which("sbatch")
    if path is None:
        raise NotFoundError("sbatch is not on PATH; run this where jobs are submitted to Slurm")
    return path


def _ask_site() -> Mapping[str, "Takes"]:
    """The options that the site's sbatch lists; none where it does not answer."""
    from scheduler.server.sbatch_options import parse_help  # noqa: PLC0415 - likewise

    try:
        done = subprocess.run(  # noqa: S603 - an argument list, no shell
            [_program(), "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_HELP_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_help(done.stdout)
