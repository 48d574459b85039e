"""Loads the table of accelerators."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from adapters.csv_table import read_table
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
            text, where = path.read_text(encoding="utf-8-sig"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidDataError(f"{path}: cannot be read: {error}", field="path") from error
    return parse_hardware(text, where)


def parse_hardware(text: str, where: str) -> HardwareTable:
    """The table of that CSV text; `where` names it in errors."""
    accelerators = []
    taken: dict[str, str] = {}
    for place, row in read_table(text, where, _COLUMNS):
        accelerator = _accelerator(row, place)
        for name in (accelerator.name, *accelerator.aliases):
            first = taken.setdefault(name.casefold(), place)
            if first != place or not name.strip():
                raise InvalidDataError(
                    f"{place}: name {name!r} is empty or used in line {first.rpartition(':')[2]} already",
                    field="name",
                    value=name,
                )
        accelerators.append(accelerator)
    return HardwareTable(tuple(accelerators))


def _accelerator(row: list[str], where: str) -> Accelerator:
    name, tdp_w, aliases, source = row
    try:
        return Accelerator(
            name=name,
            tdp_w=float(tdp_w),
            aliases=tuple(alias for alias in aliases.split("|") if alias),
            source=source,
        )
    except (ValueError, InvalidDataError) as error:
        raise InvalidDataError(
            f"{where}: tdp_w {tdp_w!r} is not a number of watts above 0, such as 400",
            field="tdp_w",
            value=tdp_w,
        ) from error
