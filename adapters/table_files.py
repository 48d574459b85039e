"""Tables in files: CSV (also gzipped) or Parquet, read by columns; errors name line, column and value."""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from scheduler.core.errors import InvalidConfigError, InvalidDataError, InvalidInputError
from scheduler.core.timegrid import parse_instant

_Cell = TypeVar("_Cell")
_INSTANT: Final = "must be ISO 8601 with an offset, such as 2026-01-31T14:00:00Z"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a file, by column.

    Args:
        path: for errors.
        lines: where each row stands in the file; in Parquet, its number from 1.
        columns: cells of each column: texts, or whatever Parquet holds.
    """

    path: Path
    lines: Sequence[int]
    columns: Mapping[str, Sequence[object]]

    def names(self, column: str) -> list[str]:
        """The cells as names. Raises InvalidDataError where one is not a text or is empty."""
        return self._read(column, _name, "must be a name, such as DE")

    def instants_s(self, column: str) -> NDArray[np.int64]:
        """The cells as epoch seconds, shape (rows,).

        Raises:
            InvalidDataError: a cell is no time, or one without an offset.
        """
        return np.array(self._read(column, _instant_s, _INSTANT), dtype=np.int64)

    def numbers(self, column: str, low: float, high: float) -> NDArray[np.float64]:
        """The cells as numbers, shape (rows,); NaN where a cell is empty or NaN.

        Raises:
            InvalidDataError: a cell is no number from `low` to `high`.
        """
        numbers = np.array([_number(cell) for cell in self.columns[column]], dtype=np.float64)
        wrong = np.flatnonzero((numbers < low) | (numbers > high))
        if len(wrong):
            raise self.refused(int(wrong[0]), column, f"is not from {low:g} to {high:g}")
        return numbers

    def refused(self, row: int, column: str, why: str) -> InvalidDataError:
        """The error for a cell, which says where it stands and what it holds."""
        value = self.columns[column][row]
        return InvalidDataError(
            f"{self.path}:{self.lines[row]}: {column} {value!r:.80} {why}",
            field=column,
            value=f"{value!s:.80}",
        )

    def _read(self, column: str, read: Callable[[object], _Cell | None], why: str) -> list[_Cell]:
        """What `read` makes of the cells, of which each distinct one is read once."""
        cells = self.columns[column]
        found = {cell: read(cell) for cell in set(cells)}
        wrong = {cell for cell, value in found.items() if value is None}
        if wrong:
            raise self.refused(
                next(row for row, cell in enumerate(cells) if cell in wrong), column, why
            )
        return [value for cell in cells if (value := found[cell]) is not None]


def read_table(
    path: Path, needed: Sequence[str | tuple[str, ...]], *, optional: Sequence[str] = ()
) -> Table:
    """The rows of a file, of which there is one at least; columns that are not named are left out.

    Args:
        path: ends in `.parquet`, in `.gz` for gzipped CSV, or in anything else for CSV.
        needed: names of columns; of several in a tuple, the first that is there is taken.
        optional: names of columns that are read where they are there.

    Raises:
        InvalidDataError: the file cannot be read, lacks a column, or has no rows.
        InvalidConfigError: Parquet is not installed.
    """
    read = _from_parquet if path.suffix == ".parquet" else _from_csv
    table = read(path, needed, optional)
    if not table.lines:
        raise InvalidDataError(f"{path}: no rows", field="path", value=str(path))
    return table


def _from_csv(
    path: Path, needed: Sequence[str | tuple[str, ...]], optional: Sequence[str]
) -> Table:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: cannot be read: {error}", field="path") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    # One flat list: a list for each row would keep the garbage collector busy.
    cells, lines = list[str](), list[int]()
    try:
        header = next(reader, [])
        names = _present(path, needed, optional, header)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InvalidDataError(
                    f"{path}:{reader.line_num}: {len(row)} cells under {len(header)} columns: "
                    f"{','.join(row)!r:.80}; write decimals with a point",
                    field="columns",
                    value=len(row),
                )
            cells.extend(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InvalidDataError(
            f"{path}:{reader.line_num}: not CSV: {error}", field="path"
        ) from error
    columns = {name: cells[header.index(name) :: len(header)] for name in names}
    return Table(path, lines, columns)


def _from_parquet(
    path: Path, needed: Sequence[str | tuple[str, ...]], optional: Sequence[str]
) -> Table:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra of 170 MB
    except ImportError as error:
        raise InvalidConfigError(
            f"{path}: Parquet needs pyarrow; install gridtide[parquet], or use CSV", field="path"
        ) from error
    try:
        names = _present(path, needed, optional, parquet.read_schema(path).names)
        table = parquet.read_table(path, columns=names)
        columns = {name: _cells(table.column(name)) for name in names}
    except (OSError, ValueError, NotImplementedError) as error:
        # pyarrow's own errors are ValueErrors, but for cells that are lists or records.
        raise InvalidDataError(f"{path}: cannot be read: {error}", field="path") from error
    return Table(path, range(1, table.num_rows + 1), columns)


def _cells(column: Any) -> list[object]:
    """The cells of an Arrow column, of which each distinct one is made once."""
    encoded = column.combine_chunks().dictionary_encode()
    distinct = [*encoded.dictionary.to_pylist(), None]
    return [distinct[index] for index in encoded.indices.fill_null(len(distinct) - 1).to_pylist()]


def _present(
    path: Path,
    needed: Sequence[str | tuple[str, ...]],
    optional: Sequence[str],
    header: Iterable[str],
) -> list[str]:
    """The needed columns as they are called in the file, and the optional ones that are there."""
    there, names = set(header), list[str]()
    groups = [(one,) if isinstance(one, str) else one for one in needed]
    for group in groups:
        name = next((name for name in group if name in there), None)
        if name is None:
            wanted = ", ".join(" or ".join(group) for group in groups)
            raise InvalidDataError(
                f"{path}: column {' or '.join(map(repr, group))} is missing; needed are {wanted}",
                field=group[0],
            )
        names.append(name)
    return names + [name for name in optional if name in there]


def _name(cell: object) -> str | None:
    return cell if isinstance(cell, str) and cell.strip() else None


def _instant_s(cell: object) -> int | None:
    if isinstance(cell, datetime) and cell.tzinfo is not None:
        return int(cell.timestamp())
    try:
        return int(parse_instant(str(cell)).timestamp())
    except (InvalidInputError, OverflowError):
        return None


def _number(cell: object) -> float:
    """Infinite where it is none."""
    try:
        return float(str(cell))
    except ValueError:
        return math.nan if cell is None or not str(cell).strip() else math.inf
