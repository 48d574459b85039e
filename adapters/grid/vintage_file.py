"""Published forecasts from a file, each with when it was known: zone, issued_at, time, g_per_kwh."""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import numpy as np

from adapters.grid.intervals import require_even, usual_step_s, with_gaps
from adapters.issued_runs import IssuedRun, issued_runs
from adapters.table_files import read_table
from scheduler.core.forecast import (
    MAX_G_PER_KWH,
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
)
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.timegrid import format_instant


def load_vintages(
    path: Path, zones: Collection[str], *, signal: SignalKind, scope: Scope
) -> dict[str, tuple[Vintage, ...]]:
    """The forecasts of each of these zones that the file has, in the order of their issue.

    Args:
        path: CSV (also gzipped) or Parquet. `time` is the start of an interval; an empty `g_per_kwh`
            is a gap.
        zones: others are left out.
        signal: which kilowatt-hour all values are about.
        scope: which emissions they count.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """
    table = read_table(path, ("zone", "issued_at", "time", "g_per_kwh"))
    grams = table.numbers("g_per_kwh", 0, MAX_G_PER_KWH)
    found: dict[str, list[Vintage]] = defaultdict(list)
    for run in issued_runs(table, zones, grams[:, None]):
        provenance = Provenance(
            source=path.name,
            signal=signal,
            scope=scope,
            quality=Quality.FORECAST,
            issued_at=run.issued_at,
        )
        found[run.zone_id].append(Vintage(run.issued_s, _series(path, run, provenance)))
    return {zone_id: tuple(vintages) for zone_id, vintages in found.items()}


def _series(path: Path, run: IssuedRun, provenance: Provenance) -> IntensitySeries:
    starts_s = run.times_s.tolist()
    require_even(path, f"{run.zone_id}, issued at {format_instant(run.issued_at)},", starts_s)
    edges, grams = with_gaps(starts_s, run.values[:, 0].tolist(), usual_step_s(starts_s))
    return IntensitySeries.from_g_per_kwh(
        run.zone_id, np.array(edges, dtype=np.int64), np.array(grams), provenance
    )
