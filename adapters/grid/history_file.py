"""Intensity of the past from a file: zone, time, g_per_kwh, and when each was seen where the file says so."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.grid.intervals import usual_step_s, with_gaps
from adapters.table_files import Table, read_table
from scheduler.core.errors import InvalidDataError
from scheduler.core.forecast import (
    MAX_G_PER_KWH,
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
)
from scheduler.core.names import suggest
from scheduler.core.plausibility import SKEW_S
from scheduler.core.timegrid import format_instant
from scheduler.ports import Sightings

_DOUBTFUL_G: Final = 1.0
"""No grid emits so little over its lifecycle: such values may be in kilograms."""


class HistoryFile:
    """A file of actual values: CSV (also gzipped) or Parquet, an interval a row, at any step.

    An interval ends where the next one of its zone begins, and after the usual step at the latest.
    Columns `kind` (average or marginal) and `fetched_at` are read where they are there.

    Raises:
        InvalidDataError: naming file, line, column and value; also for a file of two kinds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table = read_table(
            path, ("zone", "time", "g_per_kwh"), optional=("kind", "fetched_at")
        )
        self.signal = _signal(self._table)
        names = self._table.names("zone")
        self.zone_ids = sorted(set(names))
        number = {zone_id: index for index, zone_id in enumerate(self.zone_ids)}
        self._zones = np.array([number[name] for name in names], dtype=np.int64)
        self._starts_s = self._table.instants_s("time")
        self._fetched_s = self._table.instants_s("fetched_at") if self.has_seen else None
        self._grams = self._table.numbers("g_per_kwh", 0, MAX_G_PER_KWH)

    @property
    def has_seen(self) -> bool:
        """Whether it says when each value was seen."""
        return "fetched_at" in self._table.columns

    def grams(self, zone_id: str) -> NDArray[np.float64]:
        """The values of all rows of one zone in g/kWh, in their order; NaN where a row has none."""
        return self._grams[self._rows(zone_id)]

    def series(
        self, zone_id: str, *, scope: Scope, seen_by_s: float | None = None
    ) -> IntensitySeries | None:
        """The values of one zone; of a file with `fetched_at`, each as it was seen last (by that time).

        Returns:
            None where nothing was seen by then.

        Raises:
            InvalidDataError: no such zone, or two values for one interval.
        """
        rows = self._rows(zone_id)
        if seen_by_s is not None:
            rows = rows[self._seen_s(rows, 0) <= seen_by_s]
        if not len(rows):
            return None
        order = rows[np.lexsort((self._seen_s(rows, 0), self._starts_s[rows]))]
        starts_s, grams = self._starts_s[order], self._grams[order]
        is_last = np.append(starts_s[1:] != starts_s[:-1], True)
        if not self.has_seen:
            self._require_same(order, is_last)
        starts_s, grams = starts_s[is_last], grams[is_last]
        edges, values = with_gaps(starts_s, _stops_s(starts_s), grams)
        return IntensitySeries.from_g_per_kwh(
            zone_id,
            edges,
            values,
            Provenance(
                source=self._path.name,
                signal=self.signal or SignalKind.AVERAGE,
                scope=scope,
                quality=Quality.MEASURED,
            ),
        )

    def sightings(self, zone_id: str, *, now_s: int) -> Sightings:
        """The values of one zone, each with when it was seen: now, where the file does not say.

        Raises:
            InvalidDataError: no such zone, a value seen in the future or before its interval began, or
                two values for one interval that were seen together.
        """
        rows = self._rows(zone_id)
        seen_s = self._seen_s(rows, now_s)
        column = "fetched_at" if self.has_seen else "time"
        for wrong, why in (
            (seen_s > now_s + SKEW_S, "lies in the future"),
            (seen_s < self._starts_s[rows], "had not begun when it was seen: that is a forecast"),
        ):
            if wrong.any():
                raise self._table.refused(int(rows[np.argmax(wrong)]), column, why)
        order = np.lexsort((seen_s, self._starts_s[rows]))
        rows, seen_s = rows[order], seen_s[order]
        starts_s = self._starts_s[rows]
        is_last = np.append((starts_s[1:] != starts_s[:-1]) | (seen_s[1:] != seen_s[:-1]), True)
        self._require_same(rows, is_last)
        distinct, place = np.unique(starts_s, return_inverse=True)
        is_kept = ~np.isnan(self._grams[rows])
        return Sightings(
            start_s=starts_s[is_kept],
            stop_s=_stops_s(distinct)[place][is_kept],
            mg_per_kwh=np.rint(self._grams[rows][is_kept] * 1000).astype(np.int64),
            seen_s=seen_s[is_kept],
        )

    def _seen_s(self, rows: NDArray[np.int64], otherwise_s: int) -> NDArray[np.int64]:
        if self._fetched_s is None:
            return np.full(len(rows), otherwise_s, dtype=np.int64)
        return self._fetched_s[rows]

    def _rows(self, zone_id: str) -> NDArray[np.int64]:
        if zone_id not in self.zone_ids:
            raise unknown_zone(self._path, zone_id, self.zone_ids)
        return np.flatnonzero(self._zones == self.zone_ids.index(zone_id))

    def _require_same(self, rows: NDArray[np.int64], is_last: NDArray[np.bool_]) -> None:
        """Refuses rows in order of which one that is not the last of its interval says something else."""
        before, after = self._grams[rows[:-1]], self._grams[rows[1:]]
        is_same = (before == after) | (np.isnan(before) & np.isnan(after))
        wrong = np.flatnonzero(~is_last[:-1] & ~is_same)
        if len(wrong):
            row = int(rows[wrong[0] + 1])
            at = format_instant(datetime.fromtimestamp(int(self._starts_s[row]), UTC))
            zone_id = self.zone_ids[self._zones[row]]
            raise self._table.refused(
                row,
                "g_per_kwh",
                f"is the second value of zone {zone_id} for {at}, after {before[wrong[0]]:g}",
            )


def unit_doubt(g_per_kwh: NDArray[np.float64]) -> str | None:
    """Why these values can hardly be grams per kilowatt-hour; None where they can, or there are none."""
    known = g_per_kwh[~np.isnan(g_per_kwh)]
    if not len(known):
        return None
    if not known.any():
        return f"all {len(known):,} values are zero: is something missing?"
    median = float(np.median(known))
    return f"median of {median:.3g} g/kWh: is the unit g/kWh?" if median < _DOUBTFUL_G else None


def unknown_zone(path: Path, zone_id: str, known: Collection[str]) -> InvalidDataError:
    """The error for a zone that a file lacks; it says which are most like it."""
    hint = suggest(zone_id, known)
    return InvalidDataError(
        f"{path}: no rows of zone {zone_id!r}; {hint}", field="zone", value=zone_id, valid=hint
    )


def _signal(table: Table) -> SignalKind | None:
    """The one kind that the column says; None without such a column."""
    if "kind" not in table.columns:
        return None
    kinds = table.columns["kind"]
    for row in _first_rows(kinds):
        if kinds[row] not in list(SignalKind):
            raise table.refused(row, "kind", f"is not {' or '.join(SignalKind)}")
        if kinds[row] != kinds[0]:
            raise table.refused(
                row,
                "kind",
                f"stands beside {kinds[0]!r}: average and marginal intensity cannot be mixed; "
                "keep only the rows of one kind",
            )
    return SignalKind(str(kinds[0]))


def _first_rows(cells: Collection[object]) -> Iterator[int]:
    """Where each distinct cell stands first."""
    seen = set[object]()
    for row, cell in enumerate(cells):
        if cell not in seen:
            seen.add(cell)
            yield row


def _stops_s(starts_s: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where intervals end that begin at these times, which are in order and distinct."""
    step_s = usual_step_s(starts_s.tolist())
    stops_s: NDArray[np.int64] = np.minimum(
        starts_s + step_s, np.append(starts_s[1:], starts_s[-1] + step_s)
    )
    return stops_s
