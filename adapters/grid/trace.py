"""Intensity from a file: CSV (also gzipped) or Parquet with zone, time, g_per_kwh."""

import csv
import gzip
import io
import itertools
import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from scheduler.core.errors import (
    ForecastUnavailableError,
    InvalidConfigError,
    InvalidDataError,
    InvalidInputError,
)
from scheduler.core.forecast import (
    MAX_G_PER_KWH,
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
)
from scheduler.core.names import suggest
from scheduler.core.timegrid import Window, format_instant, parse_instant
from scheduler.ports import SourceInfo

_COLUMNS: Final = ("zone", "time", "g_per_kwh")
_Row = tuple[int, object, object, object]


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
            step_s=min(_step_s(sorted(values)) for values in self._values.values()),
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
        step_s = _step_s(times)
        low, high = window.start_at.timestamp(), window.end_at.timestamp()
        kept = [at for at in times if at + step_s > low and at < max(high, low + 1)]
        if not kept:
            raise ForecastUnavailableError(
                f"{self._name}: zone {zone_id} is known from {_text(times[0])} to {_text(times[-1] + step_s)}, "
                f"not at {format_instant(window.start_at)}",
                zone=zone_id,
                source=self._name,
            )
        edges, grams = _with_gaps(kept, values, step_s)
        return IntensitySeries.from_g_per_kwh(
            zone_id,
            np.array(edges, dtype=np.int64),
            np.array(grams),
            Provenance(source=source, signal=self._signal, scope=scope, quality=quality),
        )


def zones_in(path: Path) -> frozenset[str]:
    """The zones that a file names.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """
    return frozenset(_load(path))


def _with_gaps(
    times: list[int], values: dict[int, float], step_s: int
) -> tuple[list[int], list[float]]:
    """Edges and values in which missing intervals stand as NaN."""
    edges, grams = [times[0]], list[float]()
    for at in times:
        if at > edges[-1]:
            edges.append(at)
            grams.append(math.nan)
        edges.append(at + step_s)
        grams.append(values[at])
    return edges, grams


def _step_s(times: list[int]) -> int:
    """The most common distance of two values; an hour where there is one value only."""
    steps = np.diff(times)
    if not len(steps):
        return 3600
    found, counts = np.unique(steps, return_counts=True)
    return int(found[np.argmax(counts)])


def _load(path: Path) -> dict[str, dict[int, float]]:
    """Per zone, grams per kWh by epoch second; NaN for gaps."""
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for line, zone, time, grams in _rows(path):
        if not isinstance(zone, str) or not zone.strip():
            raise InvalidDataError(
                f"{path}:{line}: zone {zone!r} must be a name, such as DE", field="zone"
            )
        at = _instant(time, path, line)
        value = _grams(grams, path, line)
        known = values[zone].setdefault(at, value)
        if known != value and not (math.isnan(known) and math.isnan(value)):
            raise InvalidDataError(
                f"{path}:{line}: zone {zone} has {known} and {value} g/kWh for {_text(at)}",
                field="g_per_kwh",
                value=value,
            )
    if not values:
        raise InvalidDataError(f"{path}: no rows", field="path", value=str(path))
    for zone, series in values.items():
        times = sorted(series)
        step_s = _step_s(times)
        for before, after in itertools.pairwise(times):
            if after - before < step_s:
                raise InvalidDataError(
                    f"{path}: zone {zone} mixes steps: time {_text(after)} comes {after - before} s "
                    f"after the one before, most come after {step_s} s",
                    field="time",
                    value=_text(after),
                )
    return dict(values)


def _rows(path: Path) -> Iterator[_Row]:
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: cannot be read: {error}", field="path") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader, [])
        _require_columns(path, header)
        indexes = [header.index(name) for name in _COLUMNS]
        for row in reader:
            if row and len(row) != len(header):
                raise InvalidDataError(
                    f"{path}:{reader.line_num}: {len(row)} cells under {len(header)} columns: "
                    f"{','.join(row)!r:.80}; write decimals with a point",
                    field="columns",
                    value=len(row),
                )
            if row:
                zone, time, grams = (row[index] for index in indexes)
                yield reader.line_num, zone, time, grams
    except csv.Error as error:
        raise InvalidDataError(
            f"{path}:{reader.line_num}: not CSV: {error}", field="path"
        ) from error


def _parquet_rows(path: Path) -> Iterator[_Row]:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra of 170 MB
    except ImportError as error:
        raise InvalidConfigError(
            f"{path}: Parquet needs pyarrow; install gridtide[parquet], or use CSV", field="path"
        ) from error
    try:
        schema = parquet.read_schema(path)
        _require_columns(path, schema.names)
        table = parquet.read_table(path, columns=list(_COLUMNS))
        columns = [table.column(name).to_pylist() for name in _COLUMNS]
    except (OSError, ValueError) as error:
        # pyarrow's own errors are ValueErrors.
        raise InvalidDataError(f"{path}: cannot be read: {error}", field="path") from error
    for number, (zone, time, grams) in enumerate(zip(*columns, strict=True), start=1):
        yield number, zone, time, grams


def _require_columns(path: Path, names: Iterable[str]) -> None:
    missing = [name for name in _COLUMNS if name not in set(names)]
    if missing:
        raise InvalidDataError(
            f"{path}: column {missing[0]!r} is missing; needed are {', '.join(_COLUMNS)}",
            field=missing[0],
        )


def _instant(value: object, path: Path, line: int) -> int:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return int(value.timestamp())
    try:
        return int(parse_instant(str(value)).timestamp())
    except InvalidInputError as error:
        raise InvalidDataError(
            f"{path}:{line}: time {value!r} must be ISO 8601 with an offset, such as 2026-01-31T14:00:00Z",
            field="time",
            value=str(value),
        ) from error


def _grams(value: object, path: Path, line: int) -> float:
    if value is None or str(value).strip() == "":
        return math.nan
    try:
        grams = float(str(value))
    except ValueError:
        grams = math.inf
    if math.isnan(grams) or 0 <= grams <= MAX_G_PER_KWH:
        return grams
    raise InvalidDataError(
        f"{path}:{line}: g_per_kwh {value!r} is not from 0 to {MAX_G_PER_KWH:.0f}",
        field="g_per_kwh",
        value=str(value),
    )


def _text(at_s: int) -> str:
    return format_instant(datetime.fromtimestamp(at_s, UTC))
