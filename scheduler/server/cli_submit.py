"""`gridtide submit`: jobs from options, files and manifests."""

from pathlib import Path
from typing import Annotated, Any

import typer

from scheduler.core.errors import InfeasibleError, InvalidInputError
from scheduler.server.cli_options import Format, Output, connected
from scheduler.server.cli_output import print_document


def submit(  # noqa: PLR0913, PLR0917 - options of a command
    words: Annotated[list[str] | None, typer.Argument(metavar="[FILE] [-- COMMAND...]")] = None,
    file_option: Annotated[
        str | None,
        typer.Option(
            "-f", "--file", metavar="FILE", help="jobs, or a Job of Kubernetes; - for stdin"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="a-z, 0-9 and -; default: the script's name")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(help="finish by: 'friday 09:00', +12h, ISO 8601")
    ] = None,
    patience: Annotated[str | None, typer.Option(help="how long it may wait, such as 24h")] = None,
    duration: Annotated[str | None, typer.Option(help="expected run time, such as 4h")] = None,
    duration_p95: Annotated[str | None, typer.Option(help="run time in a bad case")] = None,
    gpus: Annotated[str | None, typer.Option(help="such as H100:8 or CPU:2")] = None,
    not_before: Annotated[str | None, typer.Option(help="earliest start")] = None,
    start_by: Annotated[str | None, typer.Option(help="latest start")] = None,
    regions: Annotated[
        str | None, typer.Option(help="allowed regions, separated by commas")
    ] = None,
    interruptible: Annotated[
        bool, typer.Option("--interruptible", help="it may be paused")
    ] = False,
    power_w: Annotated[float | None, typer.Option(help="watts of all its devices")] = None,
    priority: Annotated[int | None, typer.Option(help="higher goes first")] = None,
    project: Annotated[str | None, typer.Option()] = None,
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE, repeatable")] = None,
    workdir: Annotated[
        str | None, typer.Option(help="where the command runs; default: here")
    ] = None,
    max_retries: Annotated[int | None, typer.Option()] = None,
    after: Annotated[
        list[str] | None, typer.Option("--after", help="job that must succeed first, repeatable")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(help="most money that it may cost")] = None,
    max_carbon_g: Annotated[float | None, typer.Option(help="most grams that it may emit")] = None,
    carbon_price: Annotated[float | None, typer.Option(help="currency per tonne of CO2e")] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", help="term of sbatch, such as account=ml, repeatable"),
    ] = None,
    image: Annotated[str | None, typer.Option(help="container image, on Kubernetes")] = None,
    array: Annotated[
        str | None, typer.Option(help="one job for each index, such as 0-9 or 1,3,7")
    ] = None,
    script: Annotated[
        Path | None, typer.Option(help="shell script to run instead of a command")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say when and where; submit nothing")
    ] = False,
    output: Format = Output.TABLE,
) -> None:
    """Submit a job: from options and a command, or from a file whose fields the options override.

    The file is YAML or JSON: jobs of ours, or a Job (batch/v1) as for kubectl, whose annotations gridtide.dev/deadline and so on
    may state fields as well.
    """
    from scheduler.server import cli_jobs  # noqa: PLC0415 - imported late: help must be fast
    from scheduler.server.job_arrays import expand  # noqa: PLC0415 - likewise

    file, command = cli_jobs.split_words(words or [], file_option)
    if not (file or command or script):
        raise InvalidInputError(
            "command: none given; add -- COMMAND, --script FILE, or a file with jobs",
            field="command",
            valid="a program and its arguments",
        )
    changes: dict[str, Any] = {
        "name": name,
        "duration": duration,
        "duration_p95": duration_p95,
        "patience": patience,
        "deadline": deadline and cli_jobs.instant(deadline, field="deadline"),
        "not_before": not_before and cli_jobs.instant(not_before, field="not_before"),
        "start_by": start_by and cli_jobs.instant(start_by, field="start_by"),
        "resources": {"accelerators": gpus} if gpus else None,
        "regions": [one.strip() for one in regions.split(",")] if regions else None,
        "interruptible": interruptible or None,
        "power_w": power_w,
        "priority": priority,
        "project": project,
        "env": cli_jobs.env(env or []) or None,
        # A folder of this machine is none in a container: its image has one of its own.
        "workdir": workdir or (None if file or image else str(Path.cwd())),
        "max_retries": max_retries,
        "after": after or None,
        "max_cost": max_cost,
        "max_carbon_g": max_carbon_g,
        "carbon_price": carbon_price,
        "slurm": cli_jobs.slurm(slurm or []) or None,
        "kubernetes": {"image": image} if image else None,
        "command": command or None,
        "array": array,
        "script": script and cli_jobs.script_text(script),
    }
    given = {key: value for key, value in changes.items() if value is not None}
    jobs = cli_jobs.load_jobs(file) if file else [{}]
    specs = [cli_jobs.merged(job, given) for job in jobs]
    for spec in specs:
        if "name" not in spec and (script or spec.get("command")):
            spec["name"] = cli_jobs.default_name([str(script)] if script else spec["command"])
    tasks = [task for spec in specs for task in expand(spec)]
    _send(tasks, file, dry_run=dry_run, output=output)


def _send(specs: list[dict[str, Any]], file: Path | None, *, dry_run: bool, output: Output) -> None:
    from scheduler.server import cli_jobs  # noqa: PLC0415 - likewise

    with connected() as client:
        try:
            if dry_run:
                for spec in specs:
                    print_dry_run(client.dry_run(spec), output)
                return
            jobs = cli_jobs.send(client, specs)
        except (InvalidInputError, InfeasibleError) as error:
            if file is not None:
                error.message = f"{file}: {error.message}"
            raise
    cli_jobs.print_submitted(jobs, output)
    cli_jobs.tell_notes(jobs)


def print_dry_run(document: dict[str, Any], output: Output) -> None:
    """When and where a job would run, and why."""
    if output is Output.JSON:
        print_document(document)
    else:
        print_reasons(document["explanation"])


def print_reasons(explanation: dict[str, Any]) -> None:
    """The reasons, and what else is to be known."""
    for reason in explanation["reasons"]:
        typer.echo(reason)
    for note in explanation["notes"]:
        typer.echo(f"note: {note}")
