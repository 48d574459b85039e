"""Loads the table of accelerators."""

import csv
import io
from importlib.resources import files
from pathlib import Path
from typing import Final

from scheduler.core.errors import InvalidDataError
from scheduler.core.hardware import Accelerator, HardwareTable

_SHIPPED: Final = "hardware/accelerators.csv"
_COLUMNS: Final = ("name", "tdp_w", "aliases", "source")


def load_hardware(path: Path | None = None) -> HardwareTable:
    """The table of a CSV file with name, tdp_w, aliases (separated by |), source; else the shipped one.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """
    if path is None:
        text, where = files("configs").joinpath(_SHIPPED).read_text(encoding="utf-8"), _SHIPPED
    else:
        try:
            text, where = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidDataError(f"{path}: cannot be read: {error}", field="path") from error
    return parse_hardware(text, where)


def parse_hardware(text: str, where: str) -> HardwareTable:
    """The table of that CSV text; `where` names it in errors."""
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        raise InvalidDataError(
            f"{where}: columns {', '.join(reader.fieldnames or ())}; needed are {', '.join(_COLUMNS)}",
            field="columns",
        )
    accelerators = []
    taken: dict[str, int] = {}
    for line, row in enumerate(reader, start=2):
        aliases = tuple(alias for alias in row["aliases"].split("|") if alias)
        for name in (row["name"], *aliases):
            first = taken.setdefault(name.casefold(), line)
            if first != line or not name:
                raise InvalidDataError(
                    f"{where}:{line}: name {name!r} is empty or used in line {first} already",
                    field="name",
                    value=name,
                )
        try:
            tdp_w = float(row["tdp_w"])
        except ValueError as error:
            raise InvalidDataError(
                f"{where}:{line}: tdp_w {row['tdp_w']!r} is not a number of watts",
                field="tdp_w",
                value=row["tdp_w"],
            ) from error
        accelerators.append(
            Accelerator(name=row["name"], tdp_w=tdp_w, aliases=aliases, source=row["source"])
        )
    return HardwareTable(tuple(accelerators))
