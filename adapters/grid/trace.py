"""Intensity from a file: CSV (also gzipped) or Parquet with zone, time, g_per_kwh."""

import math
from collections import defaultdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from adapters.grid.intervals import require_even, usual_step_s, with_gaps
from adapters.table_files import read_table
from scheduler.core.errors import ForecastUnavailableError, InvalidDataError
from scheduler.core.forecast import (
    MAX_G_PER_KWH,
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
)
from scheduler.core.names import suggest
from scheduler.core.timegrid import Window, format_instant
from scheduler.ports import SourceInfo


class TraceSource:
    """Replays a file: as a forecast it is known ahead, as history it is measured.

    Args:
        path: the file; `time` is the start of an interval and carries an offset.
        name: how provenance calls it.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """

    def __init__(self, path: Path, *, name: str, signal: SignalKind, scope: Scope) -> None:
        self._path = path
        self._name = name
        self._signal = signal
        self._scope = scope
        self._values = _load(path)

    @cached_property
    def info(self) -> SourceInfo:
        """The zones of the file, in the one signal and scope that the configuration states."""
        zones = frozenset(self._values)
        return SourceInfo(
            name=self._name,
            zone_ids=zones,
            signal=self._signal,
            scopes=dict.fromkeys(zones, frozenset({self._scope})),
            horizon_s=366 * 86_400,
            step_s=min(usual_step_s(sorted(values)) for values in self._values.values()),
            cadence_s=366 * 86_400,
            attribution=f"Intensity from {self._path.name}, as configured",
            is_live=False,
            history_s=366 * 86_400,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """The file's own values, marked as known ahead."""
        return self._series(
            zone_id,
            scope,
            window,
            quality=Quality.FORECAST,
            source=f"{self._name} (replay, known ahead)",
        )

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """The file's values as measured."""
        return self._series(zone_id, scope, window, quality=Quality.MEASURED, source=self._name)

    def _series(
        self, zone_id: str, scope: Scope, window: Window, *, quality: Quality, source: str
    ) -> IntensitySeries:
        values = self._values.get(zone_id)
        if values is None or scope is not self._scope:
            raise ForecastUnavailableError(
                f"{self._name}: no {scope} values for zone {zone_id!r}; {suggest(zone_id, self._values)}",
                zone=zone_id,
                source=self._name,
            )
        times = sorted(values)
        step_s = usual_step_s(times)
        low, high = window.start_at.timestamp(), window.end_at.timestamp()
        kept = [at for at in times if at + step_s > low and at < max(high, low + 1)]
        if not kept:
            raise ForecastUnavailableError(
                f"{self._name}: zone {zone_id} is known from {_text(times[0])} to {_text(times[-1] + step_s)}, "
                f"not at {format_instant(window.start_at)}",
                zone=zone_id,
                source=self._name,
            )
        starts_s = np.array(kept, dtype=np.int64)
        known = np.array([values[at] for at in kept])
        edges_s, grams = with_gaps(starts_s, starts_s + step_s, known)
        return IntensitySeries.from_g_per_kwh(
            zone_id,
            edges_s,
            grams,
            Provenance(source=source, signal=self._signal, scope=scope, quality=quality),
        )


def zones_in(path: Path) -> frozenset[str]:
    """The zones that a file names.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """
    return frozenset(_load(path))


def _load(path: Path) -> dict[str, dict[int, float]]:
    """Per zone, grams per kWh by epoch second; NaN for gaps."""
    table = read_table(path, ("zone", "time", "g_per_kwh"))
    zones, times = table.names("zone"), table.instants_s("time").tolist()
    grams = table.numbers("g_per_kwh", 0, MAX_G_PER_KWH).tolist()
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for row, (zone, at, value) in enumerate(zip(zones, times, grams, strict=True)):
        known = values[zone].setdefault(at, value)
        if known != value and not (math.isnan(known) and math.isnan(value)):
            raise InvalidDataError(
                f"{path}:{table.lines[row]}: zone {zone} has {known} and {value} g/kWh for {_text(at)}",
                field="g_per_kwh",
                value=value,
            )
    for zone, series in values.items():
        require_even(path, zone, sorted(series))
    return dict(values)


def _text(at_s: int) -> str:
    return format_instant(datetime.fromtimestamp(at_s, UTC))
