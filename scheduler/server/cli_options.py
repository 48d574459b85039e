"""Options and the client that commands share; nothing heavy is imported before a command runs."""

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scheduler.client import GridtideClient


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Format = Annotated[Output, typer.Option("--format", help="table, json or csv")]
Config = Annotated[
    Path | None, typer.Option("--config", help="settings file; default gridtide.yaml")
]


@contextlib.contextmanager
def connected() -> Iterator["GridtideClient"]:
    """A client of the running service."""
    from scheduler.client import GridtideClient  # noqa: PLC0415 - imports httpx

    with GridtideClient() as client:
        yield client
