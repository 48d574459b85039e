"""`gridtide forecast ingest`: what is asked for, checked and done."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import typer

from scheduler.core.errors import InvalidInputError
from scheduler.core.forecast import Scope, SignalKind
from scheduler.core.names import suggest
from scheduler.server.cli_output import say, tracked
from scheduler.server.forecast_prints import print_ingested
from scheduler.server.ingest import PROVIDERS, Ingestion, ingest_file, ingest_provider
from scheduler.server.settings import Settings, load_settings

_Named = TypeVar("_Named", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The words of the command; None for what was not given."""

    file: Path | None
    source: str | None
    provider: str | None
    zones: tuple[str, ...]
    since: str | None
    signal: str | None
    scope: str | None


def run(wish: Wish, config: Path | None, kind: str) -> None:
    """Ingests, and prints what became of the rows.

    Raises:
        InvalidInputError: options that do not go together, or values that are none.
        Exit: 1 where a provider failed before all was fetched.
    """
    if (wish.file is None) == (wish.provider is None):
        raise InvalidInputError(
            f"ingest: give either a FILE or --provider KIND, which is {', '.join(PROVIDERS)}",
            field="file",
        )
    settings = load_settings(config)
    ingested = (
        _from_file(settings, wish, wish.file) if wish.file else _from_provider(settings, wish)
    )
    print_ingested(ingested.document(), kind)
    if ingested.error is not None:
        say(f"error: {ingested.error.message}")
        say("what came before that is kept; run it again to go on")
        raise typer.Exit(1)


def _from_file(settings: Settings, wish: Wish, file: Path) -> Ingestion:
    if wish.source is None:
        raise InvalidInputError(
            "source: say how the source of the file is called, such as --source grid-operator",
            field="source",
            valid="--source NAME",
        )
    if wish.since is not None:
        raise InvalidInputError("since: only with --provider; a file is read whole", field="since")
    return ingest_file(
        settings,
        file,
        source=wish.source,
        zones=wish.zones,
        signal=_named(SignalKind, wish.signal, "signal"),
        scope=_named(Scope, wish.scope, "scope") or Scope.LIFECYCLE,
    )


def _from_provider(settings: Settings, wish: Wish) -> Ingestion:
    assert wish.provider is not None
    for name, value in (("source", wish.source), ("signal", wish.signal)):
        if value is not None:
            raise InvalidInputError(f"{name}: a provider states its own", field=name, value=value)
    if len(wish.zones) != 1:
        raise InvalidInputError(
            f"zone: name one with --zone; {len(wish.zones)} are given", field="zone"
        )
    return ingest_provider(
        settings,
        wish.provider,
        zone=wish.zones[0],
        since=wish.since or "400d",
        scope=_named(Scope, wish.scope, "scope"),
        track=tracked,
    )


def _named(kinds: type[_Named], text: str | None, field: str) -> _Named | None:
    if text is None:
        return None
    try:
        return kinds(text)
    except ValueError:
        raise InvalidInputError(
            f"{field}: {text!r} is not {' or '.join(kinds)}; {suggest(text, list(kinds))}",
            field=field,
            value=text,
            valid=", ".join(kinds),
        ) from None
