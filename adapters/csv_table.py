"""Reads a small table in CSV whose columns are fixed."""

import csv
import io
from collections.abc import Sequence

from scheduler.core.errors import InvalidDataError


def read_table(text: str, where: str, columns: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The rows below the header, one cell a column, each with its place for errors: `FILE:LINE`.

    Raises:
        InvalidDataError: not CSV, other columns, a row of another length, or no row; `where` names it.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InvalidDataError(
            f"{where}:{reader.line_num}: not CSV: {error}", field="columns"
        ) from error
    header = rows[0][1] if rows else []
    if header != list(columns):
        raise InvalidDataError(
            f"{where}: columns {', '.join(header)}; needed are {', '.join(columns)}",
            field="columns",
        )
    for line, row in rows[1:]:
        if len(row) != len(columns):
            raise InvalidDataError(
                f"{where}:{line}: {len(row)} cells under {len(columns)} columns; "
                "put text with commas in quotes",
                field="columns",
                value=len(row),
            )
    if not rows[1:]:
        raise InvalidDataError(f"{where}: no rows", field="path", value=where)
    return [(f"{where}:{line}", row) for line, row in rows[1:]]
