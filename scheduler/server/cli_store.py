"""`gridtide store`: commands on what remembers the jobs."""

from typing import Annotated

import typer

from scheduler.server.cli_options import Format, Output

app = typer.Typer(help="What remembers the jobs.", no_args_is_help=True)


@app.callback()
def store() -> None:
    """What remembers the jobs."""


@app.command()
def copy(  # noqa: PLR0917 - options of a command
    origin: Annotated[
        str,
        typer.Option("--from", help="sqlite:PATH, redis://host:port/db#name, or a settings file"),
    ],
    goal: Annotated[str, typer.Option("--to", help="the same; it must be empty")],
    from_password_env: Annotated[
        str | None, typer.Option("--from-password-env", help="variable with the password")
    ] = None,
    to_password_env: Annotated[
        str | None, typer.Option("--to-password-env", help="likewise")
    ] = None,
    output: Format = Output.TABLE,
) -> None:
    """Copy all jobs, events, ledger entries and documents to an empty store, and compare both.

    Every service on both must be stopped; one that plans is noticed and the copy refused. A copy that was cut off goes on when it is run again.
    """
    from scheduler.server.store_copy import Place, run  # noqa: PLC0415 - imports the stores

    run(
        Place(field="from", text=origin, password_env=from_password_env),
        Place(field="to", text=goal, password_env=to_password_env),
        output,
    )
