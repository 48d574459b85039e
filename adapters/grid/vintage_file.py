"""Published forecasts from a file, each with when it was known: zone, issued_at, time, g_per_kwh."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

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

_QUANTILES: Final = ("p10", "p90")


def load_vintages(
    path: Path, zones: Collection[str], *, signal: SignalKind, scope: Scope
) -> dict[str, tuple[Vintage, ...]]:
    """The forecasts of each of these zones that the file has, in the order of their issue.

    Args:
        path: CSV (also gzipped) or Parquet. `time` is the start of an interval; an empty `g_per_kwh`
            is a gap. Quantiles in `p10` and `p90` are kept where a forecast states both throughout.
        zones: others are left out.
        signal: which kilowatt-hour all values are about.
        scope: which emissions they count.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """
    table = read_table(path, ("zone", "issued_at", "time", "g_per_kwh"), optional=_QUANTILES)
    names = ["g_per_kwh", *(_QUANTILES if set(_QUANTILES) <= set(table.columns) else ())]
    values = np.stack([table.numbers(name, 0, MAX_G_PER_KWH) for name in names], axis=1)
    found: dict[str, list[Vintage]] = defaultdict(list)
    for run in issued_runs(table, zones, values):
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
    stops_s = run.times_s + usual_step_s(starts_s)
    edges_s, grams = with_gaps(run.times_s, stops_s, run.values[:, 0])
    series = IntensitySeries.from_g_per_kwh(run.zone_id, edges_s, grams, provenance)
    quantiles = np.rint(run.values[:, 1:] * 1000)
    if not quantiles.shape[1] or len(quantiles) != len(grams) or np.isnan(quantiles).any():
        return series
    low, high = quantiles.T.astype(np.int64)
    return replace(series, low_mg=low, high_mg=high)
