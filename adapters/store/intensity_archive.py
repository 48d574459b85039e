"""The archive of intensity in an SQLite file of its own, shared by all processes of one machine."""

import json
import sqlite3
import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from adapters.store.archive_file import (
    APPLICATION_ID,
    VERSION,
    archive_error,
    open_archive_file,
    refused,
    require_sound,
)
from adapters.store.claim_owner import is_gone, new_owner
from scheduler.core.errors import StoreError
from scheduler.core.forecast import (
    GAP_MG,
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
)
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.forecasting.weather import VARIABLES, WeatherRun
from scheduler.ports import FetchState, SeriesKey, SightingCount, Sightings

_SET_BACK_S: Final = 600
"""A clock that was set back by more than this does not wait for what was written before."""
_PROVENANCE: Final = TypeAdapter(Provenance)
_SCHEMA: Final = (
    """
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, source TEXT NOT NULL, zone TEXT NOT NULL, signal TEXT NOT NULL,
        scope TEXT NOT NULL, claimed_until_s INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT '{}',
        UNIQUE (source, zone, signal, scope)
    ) STRICT
    """,
    # Each value as it was first seen, and again whenever it changed.
    """
    CREATE TABLE actuals (
        series INTEGER NOT NULL, start_s INTEGER NOT NULL, seen_s INTEGER NOT NULL,
        stop_s INTEGER NOT NULL, mg_per_kwh INTEGER NOT NULL, quality TEXT NOT NULL,
        PRIMARY KEY (series, start_s, seen_s)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE vintages (
        series INTEGER NOT NULL, issued_s INTEGER NOT NULL, provenance TEXT NOT NULL,
        intervals INTEGER NOT NULL, packed BLOB NOT NULL, PRIMARY KEY (series, issued_s)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE weather (
        zone TEXT NOT NULL, issued_s INTEGER NOT NULL, packed BLOB NOT NULL, PRIMARY KEY (zone, issued_s)
    ) STRICT, WITHOUT ROWID
    """,
)
# Made in every file: those of before have none.
_CLAIMANTS: Final = """
    CREATE TABLE IF NOT EXISTS claimants (series INTEGER PRIMARY KEY, owner TEXT NOT NULL) STRICT
    """
_CLAIM: Final = (
    "SELECT claimed_until_s, coalesce(owner, ''), state FROM series LEFT JOIN claimants ON series = id"
    " WHERE source = ? AND zone = ? AND signal = ? AND scope = ?"
)


_SERIES_ID: Final = (
    "SELECT id FROM series WHERE source = ? AND zone = ? AND signal = ? AND scope = ?"
)


class SqliteIntensityArchive:
    """An `IntensityArchive`. Values can be fetched again: a crash may lose the last ones, never the file.

    Args:
        path: the file, made where missing; None keeps everything in memory.
        max_bytes: it grows no larger; None for no limit.

    Raises:
        StoreError: the file cannot be used, or is another application's.
    """

    def __init__(self, path: Path | None, *, max_bytes: int | None = None) -> None:
        self._path = path or Path(":memory:")
        self._lock = threading.Lock()
        self._owner = new_owner()
        try:
            self._db = open_archive_file(path)
        except (sqlite3.Error, OSError) as error:
            raise archive_error(self._path, error) from error
        try:
            self._prepare()
            if max_bytes is not None:
                (page_bytes,) = self._db.execute("PRAGMA page_size").fetchone()
                self._db.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_bytes)}")
        except (sqlite3.Error, StoreError):
            self._db.close()
            raise

    def _prepare(self) -> None:
        with self._transaction() as db:
            tables = require_sound(self._path, db)
            if not tables:
                for statement in _SCHEMA:
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute(_CLAIMANTS)
        with self._guarded():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")

    # ------------------------------------------------------------------------- fetches

    def claim(self, key: SeriesKey, *, now_s: int, until_s: int) -> FetchState | None:
        """The state for the one that may fetch; None for all others."""
        with self._transaction() as db:
            series = self._series(db, key)
            claimed_until_s, owner, text = db.execute(_CLAIM, _columns(key)).fetchone()
            state = FetchState(**json.loads(text))
            # What was written by a clock that ran ahead must not stop fetches until then.
            is_claimed = now_s < claimed_until_s <= until_s + _SET_BACK_S and not is_gone(owner)
            is_ahead = (state.tried_s or 0) > now_s + _SET_BACK_S
            if is_claimed or (now_s < state.next_s and not is_ahead):
                return None
            db.execute("UPDATE series SET claimed_until_s = ? WHERE id = ?", (until_s, series))
            db.execute("INSERT OR REPLACE INTO claimants VALUES (?, ?)", (series, self._owner))
            return state

    def renew(self, key: SeriesKey, *, until_s: int) -> None:
        """Makes the claim last until then, where it is ours."""
        with self._transaction() as db:
            db.execute(
                "UPDATE series SET claimed_until_s = ? WHERE id = ? AND claimed_until_s > 0"
                " AND EXISTS (SELECT 1 FROM claimants WHERE series = id AND owner = ?)",
                (until_s, self._known(key), self._owner),
            )

    def claimed_until_s(self, key: SeriesKey, *, now_s: int) -> int | None:
        """Until when another process may fetch, and we may not; None where none does."""
        with self._guarded():
            row = self._db.execute(_CLAIM, _columns(key)).fetchone()
        if row is None:
            return None
        until_s, owner, _ = row
        is_ours = owner == self._owner or is_gone(owner)
        return None if until_s <= now_s or is_ours else int(until_s)

    def state(self, key: SeriesKey) -> FetchState:
        """How its fetches went."""
        with self._guarded():
            row = self._db.execute(
                "SELECT state FROM series WHERE source = ? AND zone = ? AND signal = ? AND scope = ?",
                _columns(key),
            ).fetchone()
        return FetchState(**json.loads(row[0])) if row else FetchState()

    def put_state(self, key: SeriesKey, state: FetchState) -> None:
        """Keeps the state, and ends the claim."""
        with self._transaction() as db:
            db.execute(
                "UPDATE series SET state = ?, claimed_until_s = 0 WHERE id = ?",
                (json.dumps(asdict(state)), self._series(db, key)),
            )

    # ------------------------------------------------------------------------- actuals

    def add_actuals(self, key: SeriesKey, series: IntensitySeries, *, seen_s: int) -> int:
        """Keeps the values that are new or changed; returns how many."""
        quality = series.provenance.quality
        given = [
            (int(start_s), int(stop_s), int(value))
            for start_s, stop_s, value in zip(
                series.edges_s[:-1], series.edges_s[1:], series.mg_per_kwh, strict=True
            )
            if value != GAP_MG
        ]
        if not given:
            return 0
        with self._transaction() as db:
            known = _Revisions(db, self._series(db, key), given[0][0], given[-1][0])
            for start_s, stop_s, value in given:
                known.see_last(start_s, seen_s, (stop_s, value, quality))
            known.keep(db)
        return len(known.fresh)

    def add_sightings(self, key: SeriesKey, seen: Sightings, *, quality: Quality) -> SightingCount:
        """Keeps what is new or was revised, each as of when it was seen, in one transaction."""
        if not len(seen.start_s):
            return SightingCount()
        order = np.lexsort((seen.start_s, seen.seen_s))
        columns = (seen.start_s, seen.stop_s, seen.mg_per_kwh, seen.seen_s)
        given = zip(*(column[order].tolist() for column in columns), strict=True)
        with self._transaction() as db:
            number = self._series(db, key)
            known = _Revisions(db, number, int(seen.start_s.min()), int(seen.start_s.max()))
            for start_s, stop_s, mg, seen_s in given:
                known.see(start_s, seen_s, (stop_s, mg, quality))
            known.keep(db)
        return SightingCount(known.new, known.revised, known.repeated)

    def actuals(
        self, key: SeriesKey, *, since_s: int, until_s: int, seen_by_s: int | None = None
    ) -> IntensitySeries | None:
        """Values of the stretch, each as last seen; None where there is none."""
        with self._guarded():
            number = self._known(key)
            rows = _last_seen(self._db, number, (since_s, until_s), seen_by_s)
        if not rows:
            return None
        edges, values = _joined(rows)
        return IntensitySeries(
            zone_id=key.zone_id,
            edges_s=np.array(edges),
            mg_per_kwh=np.array(values),
            provenance=Provenance(
                source=key.source,
                signal=key.signal,
                scope=key.scope,
                quality=max((Quality(row.quality) for row in rows), key=list(Quality).index),
            ),
        )

    def known_series(self) -> list[SeriesKey]:
        """Every series that has actual values."""
        with self._guarded():
            rows = self._db.execute(
                "SELECT source, zone, signal, scope FROM series WHERE EXISTS"
                " (SELECT 1 FROM actuals WHERE series = id) ORDER BY source, zone"
            ).fetchall()
        return [
            SeriesKey(source, zone, SignalKind(signal), Scope(scope))
            for source, zone, signal, scope in rows
        ]

    # ------------------------------------------------------------------------- forecasts, weather

    def add_vintage(self, key: SeriesKey, vintage: Vintage) -> None:
        """Keeps a forecast; the same time again replaces it."""
        series = vintage.series
        arrays = [series.edges_s, series.mg_per_kwh]
        if series.low_mg is not None and series.high_mg is not None:
            arrays += [series.low_mg, series.high_mg]
        provenance = _PROVENANCE.dump_json(series.provenance).decode()
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO vintages VALUES (?, ?, ?, ?, ?)",
                (
                    self._series(db, key),
                    vintage.issued_s,
                    provenance,
                    len(series.mg_per_kwh),
                    _packed(np.concatenate(arrays)),
                ),
            )

    def vintages(self, key: SeriesKey, *, since_s: int) -> list[Vintage]:
        """Forecasts issued since then, oldest first."""
        with self._guarded():
            rows = self._db.execute(
                "SELECT issued_s, provenance, intervals, packed FROM vintages WHERE series = ? AND issued_s >= ?"
                " ORDER BY issued_s",
                (self._known(key), since_s),
            ).fetchall()
            return [_vintage(key, row) for row in rows]

    def add_runs(self, zone_id: str, runs: Sequence[WeatherRun]) -> None:
        """Keeps weather; a run issued at the same time is replaced."""
        rows = [
            (
                zone_id,
                run.issued_s,
                _packed(np.column_stack([run.times_s.astype(np.float64), run.values])),
            )
            for run in runs
        ]
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO weather VALUES (?, ?, ?)", rows)

    def runs(self, zone_id: str, *, since_s: int) -> list[WeatherRun]:
        """Weather issued since then, oldest first."""
        with self._guarded():
            rows = self._db.execute(
                "SELECT issued_s, packed FROM weather WHERE zone = ? AND issued_s >= ? ORDER BY issued_s",
                (zone_id, since_s),
            ).fetchall()
            return [_run(*row) for row in rows]

    def forget(self, *, vintages_before_s: int, actuals_before_s: int) -> None:
        """Drops what is older; weather goes with the actual values it explains."""
        with self._transaction() as db:
            db.execute("DELETE FROM vintages WHERE issued_s < ?", (vintages_before_s,))
            db.execute("DELETE FROM actuals WHERE start_s < ?", (actuals_before_s,))
            db.execute("DELETE FROM weather WHERE issued_s < ?", (actuals_before_s,))

    def close(self) -> None:
        """Ends the claims that are held, and releases the file."""
        try:
            with self._transaction() as db:
                ours = "SELECT series FROM claimants WHERE owner = ?"
                db.execute(
                    f"UPDATE series SET claimed_until_s = 0 WHERE id IN ({ours})",  # noqa: S608 - no input in it
                    (self._owner,),
                )
        except StoreError:
            pass  # they end by themselves
        with self._lock:
            self._db.close()

    # ------------------------------------------------------------------------- inside

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise archive_error(self._path, error) from error
            except (zlib.error, ValueError) as error:
                what = f"is damaged: it holds what was not written so ({error})"
                raise refused(self._path, what, is_damaged=True) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite may have rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @staticmethod
    def _series(db: sqlite3.Connection, key: SeriesKey) -> int:
        columns = _columns(key)
        db.execute(
            "INSERT OR IGNORE INTO series (source, zone, signal, scope) VALUES (?, ?, ?, ?)",
            columns,
        )
        (number,) = db.execute(_SERIES_ID, columns).fetchone()
        return int(number)

    def _known(self, key: SeriesKey) -> int:
        """The number of a series, 0 where there is none: reading must not need to write."""
        row = self._db.execute(_SERIES_ID, _columns(key)).fetchone()
        return int(row[0]) if row else 0


class _Revisions:
    """Every value that a series had and has, by the start of its interval."""

    def __init__(self, db: sqlite3.Connection, series: int, first_s: int, last_s: int) -> None:
        self._series = series
        self._told: dict[int, list[tuple[int, tuple[int, int, str]]]] = {}
        self.fresh: list[tuple[int, int, int, int, int, str]] = []
        self.new = self.revised = self.repeated = 0
        rows = db.execute(
            "SELECT start_s, seen_s, stop_s, mg_per_kwh, quality FROM actuals"
            " WHERE series = ? AND start_s BETWEEN ? AND ? ORDER BY start_s, seen_s",
            (series, first_s, last_s),
        )
        for start_s, seen_s, *value in rows:
            self._told.setdefault(start_s, []).append((seen_s, (value[0], value[1], value[2])))

    def see_last(self, start_s: int, seen_s: int, value: tuple[int, int, str]) -> None:
        """As `see`, but never before what it replaces, though the clock was set back since."""
        told = self._told.get(start_s)
        self.see(start_s, max(seen_s, told[-1][0]) if told else seen_s, value)

    def see(self, start_s: int, seen_s: int, value: tuple[int, int, str]) -> None:
        """Counts the value, and remembers it where it differs from what was known by then."""
        told = self._told.setdefault(start_s, [])
        at = bisect_right(told, seen_s, key=itemgetter(0))
        if at and told[at - 1][1] == value:
            self.repeated += 1
            return
        if told:
            self.revised += 1
        else:
            self.new += 1
        told.insert(at, (seen_s, value))
        stop_s, mg, quality = value
        self.fresh.append((self._series, start_s, seen_s, stop_s, mg, quality))

    def keep(self, db: sqlite3.Connection) -> None:
        """Writes what is fresh."""
        db.executemany("INSERT OR REPLACE INTO actuals VALUES (?, ?, ?, ?, ?, ?)", self.fresh)


def _columns(key: SeriesKey) -> tuple[str, str, str, str]:
    return key.source, key.zone_id, key.signal, key.scope


class _Row(NamedTuple):
    """An interval of actual values, as stored."""

    start_s: int
    stop_s: int
    mg_per_kwh: int
    quality: str
    seen_s: int


def _last_seen(
    db: sqlite3.Connection, series: int, stretch_s: tuple[int, int], seen_by_s: int | None
) -> list[_Row]:
    """Each interval as seen last, in order of time."""
    since_s, until_s = stretch_s
    rows = db.execute(
        "SELECT start_s, stop_s, mg_per_kwh, quality, max(seen_s) FROM actuals"
        # No interval is longer than a day: the index need not be read from its beginning.
        " WHERE series = ? AND start_s >= ? AND start_s < ? AND stop_s > ? AND seen_s <= ?"
        " GROUP BY start_s ORDER BY start_s",
        (series, since_s - 86_400, until_s, since_s, 1 << 62 if seen_by_s is None else seen_by_s),
    )
    return [_Row(*row) for row in rows]


def _joined(rows: Sequence[_Row]) -> tuple[list[int], list[int]]:
    """Edges and values. Where a source changed its step and two overlap, the one seen last counts."""
    edges, values, seen_s = [rows[0].start_s], list[int](), list[int]()
    for row in rows:
        while row.start_s < edges[-1] and row.seen_s > seen_s[-1]:
            if row.start_s > edges[-2]:
                edges[-1] = row.start_s
            else:
                del edges[-1], values[-1], seen_s[-1]
        start_s = max(row.start_s, edges[-1])
        if row.stop_s <= start_s:
            continue
        if start_s > edges[-1]:
            edges.append(start_s)
            values.append(GAP_MG)
            seen_s.append(row.seen_s)
        edges.append(row.stop_s)
        values.append(row.mg_per_kwh)
        seen_s.append(row.seen_s)
    return edges, values


def _packed(array: NDArray[np.int64] | NDArray[np.float64]) -> bytes:
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 1)


def _run(issued_s: int, packed: bytes) -> WeatherRun:
    table = np.frombuffer(zlib.decompress(packed)).reshape(-1, 1 + len(VARIABLES))
    return WeatherRun(issued_s, table[:, 0].astype(np.int64), table[:, 1:])


def _vintage(key: SeriesKey, row: tuple[int, str, int, bytes]) -> Vintage:
    issued_s, provenance, intervals, packed = row
    flat = np.frombuffer(zlib.decompress(packed), dtype=np.int64)
    edges, *parts = np.split(flat, np.arange(intervals + 1, len(flat), intervals))
    low, high = parts[1:] if len(parts) == 3 else (None, None)
    return Vintage(
        issued_s,
        IntensitySeries(
            zone_id=key.zone_id,
            edges_s=edges,
            mg_per_kwh=parts[0],
            provenance=_PROVENANCE.validate_json(provenance),
            low_mg=low,
            high_mg=high,
        ),
    )
