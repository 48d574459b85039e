"""An archive that goes on in memory while its file cannot be used: plans must not wait for a disk."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np
import structlog

from scheduler.core.errors import StoreError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.forecasting.weather import WeatherRun
from scheduler.ports import FetchState, IntensityArchive, SeriesKey, SightingCount, Sightings

_log = structlog.get_logger(__name__)
T = TypeVar("T")
_READ: Final = "read"
_WRITE: Final = "write"


class SparingArchive:
    """An `IntensityArchive` over two others: the spare takes what the first cannot, and adds what it has.

    What was kept in the spare is not carried over: sources are simply asked again.

    Args:
        first: None where it could not even be opened.
        spare: in memory.
        error: why there is no first.
    """

    def __init__(
        self, first: IntensityArchive | None, spare: IntensityArchive, *, error: str | None = None
    ) -> None:
        self._first = spare if first is None else first
        self._spare = spare
        self._lasting = error
        # Apart: a full disk can still be read, and says so no less for that.
        self._errors: dict[str, str] = {}
        self._is_closed = False

    @property
    def error(self) -> str | None:
        """Why the first cannot be used at the moment; None while it can."""
        return self._lasting or next(iter(self._errors.values()), None)

    def claim(self, key: SeriesKey, *, now_s: int, until_s: int) -> FetchState | None:
        """As the port says; where the first cannot be written, how far it came is gone on from."""
        claimed = self._write(lambda one: one.claim(key, now_s=now_s, until_s=until_s))
        return None if claimed is None else self.state(key)

    def renew(self, key: SeriesKey, *, until_s: int) -> None:
        """As the port says."""
        self._write(lambda one: one.renew(key, until_s=until_s))

    def claimed_until_s(self, key: SeriesKey, *, now_s: int) -> int | None:
        """As the port says."""
        return self._read(lambda one: one.claimed_until_s(key, now_s=now_s))

    def state(self, key: SeriesKey) -> FetchState:
        """Of the two, the one tried last."""
        states = [self._read(lambda one: one.state(key)), self._spare.state(key)]
        return max(states, key=lambda state: state.tried_s or 0)

    def put_state(self, key: SeriesKey, state: FetchState) -> None:
        """As the port says."""
        self._write(lambda one: one.put_state(key, state))

    def add_actuals(self, key: SeriesKey, series: IntensitySeries, *, seen_s: int) -> int:
        """As the port says."""
        return self._write(lambda one: one.add_actuals(key, series, seen_s=seen_s))

    def add_sightings(self, key: SeriesKey, seen: Sightings, *, quality: Quality) -> SightingCount:
        """As the port says."""
        return self._write(lambda one: one.add_sightings(key, seen, quality=quality))

    def actuals(
        self, key: SeriesKey, *, since_s: int, until_s: int, seen_by_s: int | None = None
    ) -> IntensitySeries | None:
        """As the port says; from the spare where the first has nothing."""

        def ask(one: IntensityArchive) -> IntensitySeries | None:
            return one.actuals(key, since_s=since_s, until_s=until_s, seen_by_s=seen_by_s)

        found = [one for one in (self._read(ask), ask(self._spare)) if one is not None]
        return _filled(*found) if len(found) > 1 else next(iter(found), None)

    def add_vintage(self, key: SeriesKey, vintage: Vintage) -> None:
        """As the port says."""
        self._write(lambda one: one.add_vintage(key, vintage))

    def vintages(self, key: SeriesKey, *, since_s: int) -> list[Vintage]:
        """Those of both."""
        spare = self._spare.vintages(key, since_s=since_s)
        first = self._read(lambda one: one.vintages(key, since_s=since_s))
        by_time = {one.issued_s: one for one in (*spare, *first)}
        return [by_time[issued_s] for issued_s in sorted(by_time)]

    def add_runs(self, zone_id: str, runs: Sequence[WeatherRun]) -> None:
        """As the port says."""
        self._write(lambda one: one.add_runs(zone_id, runs))

    def runs(self, zone_id: str, *, since_s: int) -> list[WeatherRun]:
        """Those of both."""
        spare = self._spare.runs(zone_id, since_s=since_s)
        first = self._read(lambda one: one.runs(zone_id, since_s=since_s))
        by_time = {one.issued_s: one for one in (*spare, *first)}
        return [by_time[issued_s] for issued_s in sorted(by_time)]

    def known_series(self) -> list[SeriesKey]:
        """Those of both."""
        first = self._read(lambda one: one.known_series())
        return [*first, *(key for key in self._spare.known_series() if key not in first)]

    def forget(self, *, vintages_before_s: int, actuals_before_s: int) -> None:
        """In both."""

        def drop(one: IntensityArchive) -> None:
            one.forget(vintages_before_s=vintages_before_s, actuals_before_s=actuals_before_s)

        self._write(drop)
        drop(self._spare)

    def close(self) -> None:
        """Both. Who still uses it gets a StoreError."""
        self._is_closed = True
        self._first.close()
        self._spare.close()

    def _read(self, ask: Callable[[IntensityArchive], T]) -> T:
        return self._try(_READ, ask)

    def _write(self, ask: Callable[[IntensityArchive], T]) -> T:
        return self._try(_WRITE, ask)

    def _try(self, how: str, ask: Callable[[IntensityArchive], T]) -> T:
        try:
            answer = ask(self._first)
        except StoreError as error:
            if self._is_closed:
                raise
            if how not in self._errors:
                _log.error("archive_unusable", to=how, error=error.message)
            self._errors[how] = error.message
            if error.fields.get("is_damaged"):
                # What else can be read of the file makes it no sounder.
                self._lasting = error.message
            return ask(self._spare)
        if self._errors.pop(how, None) is not None:
            _log.info("archive_usable_again", to=how)
        return answer


def _filled(first: IntensitySeries, spare: IntensitySeries) -> IntensitySeries:
    """The first series, and the spare one where the first has no value."""
    edges_s = np.union1d(first.edges_s, spare.edges_s)
    values = np.full(len(edges_s) - 1, GAP_MG, dtype=np.int64)
    for one in (spare, first):
        index = np.searchsorted(one.edges_s, edges_s[:-1], side="right") - 1
        is_inside = (index >= 0) & (index < len(one.mg_per_kwh))
        there = one.mg_per_kwh[np.clip(index, 0, len(one.mg_per_kwh) - 1)]
        values = np.where(is_inside & (there != GAP_MG), there, values)
    qualities = [first.provenance.quality, spare.provenance.quality]
    worst = max(qualities, key=list(Quality).index)
    provenance = replace(first.provenance, quality=worst)
    return IntensitySeries(
        zone_id=first.zone_id, edges_s=edges_s, mg_per_kwh=values, provenance=provenance
    )
