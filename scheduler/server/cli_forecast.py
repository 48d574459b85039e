"""`gridtide forecast`: what the service expects, forecasts from files, and the archive behind both."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from scheduler.core.errors import InvalidInputError
from scheduler.server.cli_options import Config, Format, Output, connected

_DEFAULT: Final = "ask"
_SERVED_HOURS: Final = "48h"


class _Unnamed(typer.Context):
    """Of a command that nobody names: it is called as its group is, in usage lines too."""

    @property
    def command_path(self) -> str:
        """The words before its own options."""
        return self.parent.command_path if self.parent else super().command_path


class _Ask(TyperCommand):
    """The command that is meant where no other is named."""

    context_class = _Unnamed


class _Group(TyperGroup):
    """A group whose first command is meant where no other is named, and whose help shows its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the command that is meant before the words."""
        if args and args[0] not in self.commands:
            args = ["--help"] if "--help" in args else [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options of that command, then the other commands."""
        command = self.commands[_DEFAULT]
        command.format_options(typer.Context(command, parent=ctx), formatter)
        self.format_commands(ctx, formatter)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    options_metavar="[OPTIONS]",
    subcommand_metavar="[ZONE] | COMMAND ...",
)


@app.callback()
def forecast() -> None:
    """Forecast the intensity of a zone, from now or as of the past.

    `gridtide forecast DE` asks the running service. `gridtide forecast --history FILE --zone DE
    --issued-at T` needs no service: only rows that were known at T are used. `--issued-from A
    --issued-to B` makes a forecast every 24 h, both ends included where they are reached.
    """


@app.command(_DEFAULT, cls=_Ask, hidden=True)
def ask(  # noqa: PLR0913, PLR0917 - options of a command
    zone: Annotated[
        str | None,
        typer.Argument(metavar="ZONE", help="zone, cloud region, country or provider's key"),
    ] = None,
    horizon: Annotated[str, typer.Option(help="how far ahead, at most 14d")] = _SERVED_HOURS,
    history: Annotated[
        Path | None,
        typer.Option(help="CSV or Parquet with zone, time, g_per_kwh; forecast from it"),
    ] = None,
    zones: Annotated[
        list[str] | None, typer.Option("--zone", help="zone of the history, repeatable")
    ] = None,
    issued_at: Annotated[
        str | None, typer.Option(help="as of this time; nothing later is used")
    ] = None,
    issued_from: Annotated[str | None, typer.Option(help="first of many such times")] = None,
    issued_to: Annotated[str | None, typer.Option(help="last of them")] = None,
    every: Annotated[str | None, typer.Option(help="time between them; default 24h")] = None,
    quantiles: Annotated[
        str | None, typer.Option(help="between 0 and 1; default 0.1,0.5,0.9")
    ] = None,
    weather: Annotated[
        Path | None, typer.Option(help="weather forecasts with zone, issued_at, time, ...")
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="forecasts of others: zone, issued_at, time, g_per_kwh")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="write charts there as a page")] = None,
    output: Format = Output.TABLE,
) -> None:
    """Forecast the intensity of a zone."""
    named = [*([zone] if zone else []), *(zones or [])]
    if history is None:
        offline = {
            "issued-at": issued_at,
            "issued-from": issued_from,
            "issued-to": issued_to,
            "every": every,
            "quantiles": quantiles,
            "weather": weather,
            "published": published,
        }
        _refuse_without_history([name for name, value in offline.items() if value is not None])
        _ask_service(named, horizon, html, output)
        return
    from scheduler.server import (  # noqa: PLC0415 - likewise
        forecast_prints,
        forecast_requests,
        forecast_runs,
    )

    issues = forecast_requests.parse_issues(issued_at, issued_from, issued_to, every)
    n_hours = forecast_requests.parse_horizon(horizon)
    shares = forecast_requests.parse_shares(quantiles or "0.1,0.5,0.9")
    files = forecast_runs.ForecastFiles(history=history, weather=weather, published=published)
    forecast_prints.make_and_print(
        forecast_runs.FileForecasts(files, named, issued_text=issued_at),
        issues=issues,
        n_hours=n_hours,
        shares=shares,
        kind=output,
        page=html,
    )


def _refuse_without_history(given: list[str]) -> None:
    if given:
        raise InvalidInputError(
            f"{given[0]}: needs --history FILE; the service forecasts from now on, from its own sources",
            field=given[0],
            valid="with --history FILE",
        )


def _ask_service(zones: list[str], horizon: str, html: Path | None, output: Output) -> None:
    from scheduler.server.forecast_prints import print_served  # noqa: PLC0415 - only needed here
    from scheduler.server.forecast_requests import parse_horizon  # noqa: PLC0415 - likewise

    parse_horizon(horizon)
    if len(zones) != 1:
        raise InvalidInputError(
            f"zone: name one, such as `gridtide forecast DE`; {len(zones)} are given", field="zone"
        )
    with connected() as client:
        document = client.forecast(zones[0], horizon=horizon)
    print_served(document, output, html)


@app.command()
def ingest(  # noqa: PLR0913, PLR0917 - options of a command
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV or Parquet with zone, time, g_per_kwh, and fetched_at if known"),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="what to call the source of the file from now on")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="fetch from this kind of source, such as energy_charts")
    ] = None,
    zones: Annotated[
        list[str] | None,
        typer.Option("--zone", help="zone to fetch; of a file only these, repeatable"),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="how far back to fetch, or from when; default 400d")
    ] = None,
    signal: Annotated[
        str | None, typer.Option(help="of a file: average or marginal; default average")
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="lifecycle or direct; default lifecycle, or that of the settings"),
    ] = None,
    config: Config = None,
    output: Format = Output.TABLE,
) -> None:
    """Bring history into the service's archive.

    From a file, or from a provider: with its settings where it is configured, or else with its
    defaults and the credential in the environment. Twice is once, and revisions are kept.
    """
    from scheduler.server import cli_ingest  # noqa: PLC0415 - imports everything

    cli_ingest.run(
        cli_ingest.Wish(
            file=file,
            source=source,
            provider=provider,
            zones=tuple(zones or ()),
            since=since,
            signal=signal,
            scope=scope,
        ),
        config,
        output,
    )


@app.command()
def score(  # noqa: PLR0917 - options of a command
    zone: Annotated[
        str | None,
        typer.Argument(metavar="[ZONE]", help="any name of a zone; default: all of the service"),
    ] = None,
    history: Annotated[Path | None, typer.Option(help="what came, as for `forecast`")] = None,
    published: Annotated[
        Path | None, typer.Option(help="forecasts to score: zone, issued_at, time, g_per_kwh")
    ] = None,
    zones: Annotated[
        list[str] | None, typer.Option("--zone", help="zone of the files, repeatable")
    ] = None,
    output: Format = Output.TABLE,
) -> None:
    """Say how good forecasts were, now that the truth is known.

    Those of the running service, or those of a file of published forecasts.
    """
    from scheduler.server import forecast_prints  # noqa: PLC0415 - only needed here

    named = [*([zone] if zone else []), *(zones or [])]
    if (history is None) != (published is None):
        raise InvalidInputError(
            "score: give both --history FILE and --published FILE, or neither for the service",
            field="history",
        )
    if history is not None and published is not None:
        from scheduler.server.forecast_runs import score_files  # noqa: PLC0415 - imports numpy

        document = score_files(history, published, named)
    else:
        with connected() as client:
            all_ = named or [one["zone"] for one in client.regions()["regions"]]
            found = [client.forecast_scores(one) for one in dict.fromkeys(all_)]
        scores = [one for part in found for one in part["scores"]]
        document = {"schema": "gridtide/forecast-scores/v1", "scores": scores}
    forecast_prints.print_scores(document, output)
