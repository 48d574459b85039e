"""Commands that run beside the service, for Jobs that users gave to Kubernetes themselves."""

from typing import Annotated

import typer

from scheduler.server.cli_options import Config


def guard(
    config: Config = None,
    every: Annotated[str, typer.Option(help="how often to look, such as 30s")] = "30s",
    once: Annotated[bool, typer.Option("--once", help="look once, and end")] = False,
) -> None:
    """Start users' own Jobs on Kubernetes in time, should the service not do it. It needs nothing but the settings."""
    from scheduler.core.units import parse_duration  # noqa: PLC0415 - heavy modules are imported by who needs them
    from scheduler.server.guard_watch import guard as run  # noqa: PLC0415 - likewise

    is_well = run(config, every_s=parse_duration(every, field="every"), is_once=once)
    if once and not is_well:
        raise typer.Exit(1)


def dispatcher(
    config: Config = None,
    every: Annotated[str, typer.Option(help="how often to look, such as 15s")] = "15s",
    once: Annotated[bool, typer.Option("--once", help="look once, and end")] = False,
) -> None:
    """Nominate clusters of MultiKueue by the plans of the service: its external dispatcher."""
    from scheduler.core.units import parse_duration  # noqa: PLC0415 - likewise
    from scheduler.server.multikueue_dispatcher import dispatch  # noqa: PLC0415 - likewise

    is_well = dispatch(config, every_s=parse_duration(every, field="every"), is_once=once)
    if once and not is_well:
        raise typer.Exit(1)
