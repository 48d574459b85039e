"""What commands print: tables for people, JSON and CSV for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

Document = dict[str, Any]
_Item = TypeVar("_Item")
_LONG: Final = 3
"""So few items are done before a bar is seen."""
BARS: Final = " ▁▂▃▄▅▆▇█"


def print_document(document: object) -> None:
    """JSON on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_rows(
    kind: str, document: object, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """The rows as a table or CSV, or the whole document as JSON."""
    if kind == "json":
        print_document(document)
    elif kind == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    else:
        _print_table(columns, rows)


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - imported late: help must be fast
    from rich.table import Table  # noqa: PLC0415 - likewise
    from rich.text import Text  # noqa: PLC0415 - likewise

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        is_number = column.endswith((" g", " %", "kWh", "g/kWh"))
        # A long sentence in the last column must not push the others out of sight.
        is_last = index == len(columns) - 1
        table.add_column(
            column,
            justify="right" if is_number else "left",
            no_wrap=not is_last,
            overflow="fold" if is_last else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def tracked(items: Sequence[_Item], what: str) -> Iterable[_Item]:
    """The items, with a bar on stderr while they are worked through, where that is a terminal."""
    if len(items) < _LONG or not sys.stderr.isatty():
        return items
    from rich.console import Console  # noqa: PLC0415 - imported late: help must be fast
    from rich.progress import track  # noqa: PLC0415 - likewise

    return track(items, description=what, console=Console(stderr=True), transient=True)


def say(message: str) -> None:
    """A message for people, on stderr."""
    sys.stderr.write(message + "\n")


def local(text: str | None) -> str | None:
    """An ISO time in the reader's own zone, to the minute."""
    if text is None:
        return None
    return datetime.fromisoformat(text).astimezone().strftime("%a %d %b %H:%M")


def grams(value: float | None) -> str | None:
    """Grams with thousands separators; None stays None: unknown is not zero."""
    return None if value is None else f"{value:,.1f}"
