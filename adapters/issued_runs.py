"""Forecasts in a table: rows of zone, issue and time, gathered into runs."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from adapters.table_files import Table
from scheduler.core.errors import InvalidDataError
from scheduler.core.names import suggest
from scheduler.core.timegrid import format_instant


@dataclass(frozen=True, slots=True)
class IssuedRun:
    """The rows of one zone that were issued together.

    Args:
        issued_s: epoch seconds, like the times.
        times_s: int64, shape (times,), strictly increasing.
        values: float64, shape (times, variables).
    """

    zone_id: str
    issued_s: int
    times_s: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def issued_at(self) -> datetime:
        """The same instant in UTC."""
        return datetime.fromtimestamp(self.issued_s, UTC)


def issued_runs(
    table: Table, zones: Collection[str], values: NDArray[np.float64]
) -> Iterator[IssuedRun]:
    """The runs of these zones, by zone and then by issue; a row may come twice.

    Args:
        table: with the columns `zone`, `issued_at` and `time`.
        zones: others are left out.
        values: shape (rows, variables), NaN where unknown.

    Raises:
        InvalidDataError: naming file, line, column and value; also where no zone is there at all, or
            one time of a run has two values.
    """
    names = table.names("zone")
    known = sorted(set(names) & set(zones))
    if not known:
        raise InvalidDataError(
            f"{table.path}: no rows of zone {', '.join(sorted(zones))}; "
            + suggest(min(zones, default=""), names),
            field="zone",
        )
    number = {zone_id: index for index, zone_id in enumerate(known)}
    keys = np.stack(
        [
            np.array([number.get(name, -1) for name in names], dtype=np.int64),
            table.instants_s("issued_at"),
            table.instants_s("time"),
        ],
        axis=1,
    )
    order = np.lexsort(keys.T[::-1])
    order = _each_once(table, keys, values, order[keys[order, 0] >= 0])
    borders = np.flatnonzero((np.diff(keys[order, :2], axis=0) != 0).any(axis=1)) + 1
    for rows in np.split(order, borders):
        zone, issued_s, _ = keys[rows[0]].tolist()
        yield IssuedRun(known[zone], issued_s, keys[rows, 2], values[rows])


def _each_once(
    table: Table, keys: NDArray[np.int64], values: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The rows without repeats, which must not contradict each other."""
    before, after = order[:-1], order[1:]
    repeats = (keys[before] == keys[after]).all(axis=1)
    is_same = (values[before] == values[after]) | (
        np.isnan(values[before]) & np.isnan(values[after])
    )
    wrong = np.flatnonzero(repeats & ~is_same.all(axis=1))
    if len(wrong):
        row = int(after[wrong[0]])
        at, issued = (
            format_instant(datetime.fromtimestamp(int(keys[row, axis]), UTC)) for axis in (2, 1)
        )
        raise InvalidDataError(
            f"{table.path}:{table.lines[row]}: zone {table.columns['zone'][row]} has two values for "
            f"time {at}, issued at {issued}",
            field="time",
            value=at,
        )
    return np.concatenate([order[:1], after[~repeats]])
