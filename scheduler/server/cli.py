"""The command line. Results on stdout, messages on stderr; heavy modules are imported by the command that needs them."""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scheduler.core.errors import GridtideError, InfeasibleError, InvalidInputError, NotFoundError
from scheduler.server.cli_forecast import app as forecast_app
from scheduler.server.cli_kubernetes import dispatcher, guard
from scheduler.server.cli_options import Config, Format, Output, connected
from scheduler.server.cli_output import grams, local, print_document, print_rows, say
from scheduler.server.cli_sbatch import Untouched, sbatch
from scheduler.server.cli_store import app as store_app
from scheduler.server.cli_submit import print_dry_run, print_reasons, submit

if TYPE_CHECKING:
    pass

app = typer.Typer(
    name="gridtide",
    help="Runs training jobs where and when the grid is cleanest, and never at the price of a deadline.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
token_app = typer.Typer(
    help="Tokens for a service that listens beyond loopback.", no_args_is_help=True
)
app.add_typer(token_app, name="token")
app.add_typer(store_app, name="store")


@app.command()
def serve(
    config: Config = None,
    api_only: Annotated[
        bool,
        typer.Option(
            "--api-only", help="answer requests, and leave planning to others on the same Redis"
        ),
    ] = False,
) -> None:
    """Run the service until it is told to stop. Running jobs go on without it."""
    from scheduler.server.serving import serve as run  # noqa: PLC0415 - imports everything

    run(config, schedules=not api_only)


app.command()(guard)
app.command()(dispatcher)


app.command()(submit)
app.command(cls=Untouched)(sbatch)


@app.command()
def plan(  # noqa: PLR0917 - options of a command
    file: Annotated[
        Path | None, typer.Argument(help="YAML or JSON file with jobs, for the running service")
    ] = None,
    snapshot: Annotated[
        Path | None, typer.Option("--snapshot", help="plan this file; needs no service")
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option("--time-limit", help="give the best plan so far after this, such as 30s"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of the order in which jobs move")] = 0,
    output: Format = Output.TABLE,
) -> None:
    """Say where and when jobs would run, and why. Nothing is submitted."""
    from scheduler.server.cli_jobs import load_jobs, plan_snapshot  # noqa: PLC0415 - imports yaml
    from scheduler.server.cli_plans import print_plan  # noqa: PLC0415 - only needed here
    from scheduler.server.job_arrays import expand  # noqa: PLC0415 - likewise

    if (file is None) == (snapshot is None):
        raise InvalidInputError(
            "plan: give either a file with jobs or --snapshot FILE", field="file"
        )
    if snapshot is not None:
        document = plan_snapshot(snapshot, time_limit=time_limit, seed=seed)
        print_plan(document, output)
        if document["unplaced"] and not document["placements"]:
            raise typer.Exit(3)  # not possible as asked
        return
    assert file is not None
    with connected() as client:
        for spec in (task for job in load_jobs(file) for task in expand(job)):
            print_dry_run(client.dry_run(spec), output)


@app.command("list")
def list_(
    state: Annotated[list[str] | None, typer.Option(help="only these states, repeatable")] = None,
    project: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    output: Format = Output.TABLE,
) -> None:
    """List jobs, newest first."""
    jobs: list[dict[str, Any]] = []
    after: str | None = None
    with connected() as client:
        while len(jobs) < limit:
            page = client.list_jobs(
                states=state or (), project=project, after=after, limit=min(1000, limit - len(jobs))
            )
            jobs += page["jobs"]
            after = page["next"]
            if after is None:
                break
    rows = [
        (
            job["id"],
            job["state"],
            (job["placement"] or {}).get("region"),
            local(job["started_at"] or (job["placement"] or {}).get("start")),
            local(job["deadline"]),
            job["reason"],
        )
        for job in jobs
    ]
    columns = ("id", "state", "region", "start", "deadline", "reason")
    print_rows(output, {"schema": "gridtide/jobs/v1", "jobs": jobs}, columns, rows)
    if after is not None:
        say(
            f"these are the {len(jobs)} newest; there are more: --limit {10 * limit} shows more of them"
        )


@app.command()
def show(job: str, output: Format = Output.TABLE) -> None:
    """Show a job and what happened to it."""
    from scheduler.server import cli_jobs  # noqa: PLC0415 - imports yaml

    with connected() as client:
        document = client.get_job(job)
        events = client.events(job)
    if output is Output.JSON:
        print_document({**document, "events": events})
        return
    if output is Output.TABLE:
        for key in ("id", "state", "reason", "deadline", "started_at", "ended_at"):
            typer.echo(f"{key}: {document[key]}")
        for line in cli_jobs.terms(document):
            typer.echo(line)
    rows = [(event["at"], event["kind"], event["state"], event["detail"]) for event in events]
    print_rows(output, events, ("at", "event", "state", "detail"), rows)


@app.command()
def explain(job: str, output: Format = Output.TABLE) -> None:
    """Say why a job runs there and then, what came second, and what more time would buy."""
    with connected() as client:
        document = client.explain(job)
    if output is Output.JSON:
        print_document(document)
        return
    print_reasons(document)


def _verb(job: str, verb: str) -> None:
    with connected() as client:
        document = getattr(client, verb)(job)
    wish = "" if document["wanted"] == "run" else f" ({document['wanted']} requested)"
    typer.echo(f"{document['id']}: {document['state']}{wish}")


@app.command()
def cancel(job: str) -> None:
    """Cancel a job; a running one gets SIGTERM and time to leave."""
    _verb(job, "cancel")


@app.command()
def hold(job: str) -> None:
    """Keep a job from starting; pause one that runs and can be paused."""
    _verb(job, "hold")


@app.command()
def release(job: str) -> None:
    """Let a held job go on."""
    _verb(job, "release")


@app.command("run-now")
def run_now(job: str) -> None:
    """Start a waiting job at once, whatever it emits."""
    _verb(job, "run_now")


@app.command(context_settings={"ignore_unknown_options": True})  # -33.9,18.4 is no option
def regions(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME...]",
            help="zone, cloud region, country, provider's key, or latitude,longitude",
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="list every name of the table")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="settings file whose sites are known as well")
    ] = None,
    output: Format = Output.TABLE,
) -> None:
    """List the service's regions with their zone, clusters and sources; or, without a service, resolve names."""
    from scheduler.server import cli_regions  # noqa: PLC0415 - imports the sources

    if names or all_:
        cli_regions.resolve(names or [], is_all=all_, config=config, output=output)
        return
    with connected() as client:
        document = client.regions()
    rows = [
        (
            one["region"],
            one["zone"],
            " ".join(cluster["cluster"] for cluster in one["clusters"]),
            " ".join(source["name"] for source in one["sources"]),
        )
        for one in document["regions"]
    ]
    print_rows(output, document, ("region", "zone", "clusters", "sources"), rows)


app.add_typer(forecast_app, name="forecast")


@app.command()
def report(
    output: Annotated[str, typer.Option("--format", help="table, json, csv or html")] = "table",
    file: Annotated[
        Path | None, typer.Option("--output", help="write there instead of stdout")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="jobs submitted from here on")] = None,
    to: Annotated[str | None, typer.Option(help="and before this")] = None,
) -> None:
    """Report planned, measured and counterfactual carbon of the jobs that have ended."""
    if output not in ("table", "json", "csv", "html"):
        raise InvalidInputError(
            f"format: {output!r} is not table, json, csv or html", field="format", value=output
        )
    period = {key: value for key, value in (("from", from_), ("to", to)) if value}
    with connected() as client:
        if output in ("csv", "html"):
            text = client.report_text(output, **period)
            if file is None:
                typer.echo(text, nl=False)
            else:
                file.write_text(text, encoding="utf-8")
            return
        document = client.report_json(**period)
    if file is not None:
        import json  # noqa: PLC0415 - likewise

        file.write_text(json.dumps(document, indent=1), encoding="utf-8")
        return
    rows = [
        (
            entry["name"],
            entry["state"],
            local(entry["started_at"]),
            f"{entry['energy_kwh']:.2f}",
            grams(entry["planned_g"]),
            grams(entry["emissions_g"]),
            grams(entry["baseline"]["emissions_g"]),
            grams(entry["saving_g"]),
        )
        for entry in document["entries"]
    ]
    columns = ("job", "state", "started", "kWh", "planned g", "emitted g", "at once g", "saved g")
    print_rows(output, document, columns, rows)


@app.command()
def doctor(config: Config = None, output: Format = Output.TABLE) -> None:
    """Check the running service, or with --config (or without a service) the settings."""
    from scheduler.client import ServiceUnreachableError  # noqa: PLC0415 - imports httpx

    checks: list[dict[str, Any]] | None = None
    if config is None:
        try:
            with connected() as client:
                checks = client.readiness()["checks"]
        except ServiceUnreachableError:
            say("no service answers; checking the settings here instead")
    if checks is None:
        from scheduler.server.wiring import doctor as examine  # noqa: PLC0415 - imports everything

        checks = [
            {"subject": one.subject, "ok": one.is_ok, "detail": one.detail}
            for one in examine(config)
        ]
    rows = [("ok" if one["ok"] else "FAIL", one["subject"], one["detail"]) for one in checks]
    document = {"schema": "gridtide/doctor/v1", "checks": checks}
    print_rows(output, document, ("", "subject", "detail"), rows)
    if not all(one["ok"] for one in checks):
        raise typer.Exit(1)


@app.command()
def schema(name: Annotated[str, typer.Argument(help="job or settings")]) -> None:
    """Print the JSON Schema of a document."""
    from scheduler.core.names import suggest  # noqa: PLC0415 - likewise
    from scheduler.server.schemas import JobSpec  # noqa: PLC0415 - imports pydantic
    from scheduler.server.settings import settings_reference  # noqa: PLC0415 - likewise

    known = {"job": JobSpec.model_json_schema, "settings": settings_reference}
    if name not in known:
        raise InvalidInputError(
            f"schema: {name!r} does not exist; {suggest(name, known)}", field="schema", value=name
        )
    print_document(known[name]())


@app.command()
def demo(output: Annotated[Path, typer.Option("--output")] = Path("build/demo")) -> None:
    """Run the demo: two regions, real processes, a clock that runs fast."""
    from scheduler.server.demo import main as run  # noqa: PLC0415 - imports everything

    raise typer.Exit(run(output))


@token_app.command("new")
def token_new() -> None:
    """Print a new token, and the hash of it that the settings take."""
    from scheduler.server.auth import hash_token, new_token  # noqa: PLC0415 - likewise

    token = new_token()
    typer.echo(token)
    say(f"for server.token_hashes: {hash_token(token)}")


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed  # noqa: PLC0415 - slow to import

    typer.echo(installed("gridtide"))


def main() -> None:
    """Runs the command; errors end in one clear line and an exit code, never in a traceback."""
    try:
        app()
    except GridtideError as error:
        say(f"error: {error.message}")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        say(f"error: the output cannot be written: {error.strerror}")
        sys.exit(1)


def exit_code(error: GridtideError) -> int:
    """2 for bad input, 3 for what is not possible as asked, 1 for everything else."""
    if isinstance(error, InfeasibleError):
        return 3
    return 2 if isinstance(error, InvalidInputError | NotFoundError) else 1


if __name__ == "__main__":
    main()
