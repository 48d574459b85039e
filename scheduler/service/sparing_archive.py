"""An archive that goes on in memory while its file cannot be used: plans must not wait for a disk."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from scheduler.core.errors import StoreError
from scheduler.core.forecast import IntensitySeries, Quality
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.forecasting.weather import WeatherRun
from scheduler.ports import FetchState, IntensityArchive, SeriesKey, SightingCount, Sightings

_log = structlog.get_logger(__name__)
T = TypeVar("T")


class SparingArchive:
    """An `IntensityArchive` over two others: the second takes and gives what the first cannot.

    What was kept in the spare is not carried over: sources are simply asked again.
    """

    def __init__(self, first: IntensityArchive, spare: IntensityArchive) -> None:
        self._first = first
        self._spare = spare
        self._error: str | None = None

    @property
    def error(self) -> str | None:
        """Why the first cannot be used at the moment; None while it can."""
        return self._error

    def claim(self, key: SeriesKey, *, now_s: int, until_s: int) -> FetchState | None:
        """As the port says."""
        return self._try(lambda one: one.claim(key, now_s=now_s, until_s=until_s))

    def state(self, key: SeriesKey) -> FetchState:
        """Of the two, the one tried last."""
        states = [self._try(lambda one: one.state(key)), self._spare.state(key)]
        return max(states, key=lambda state: state.tried_s or 0)

    def put_state(self, key: SeriesKey, state: FetchState) -> None:
        """As the port says."""
        self._try(lambda one: one.put_state(key, state))

    def add_actuals(self, key: SeriesKey, series: IntensitySeries, *, seen_s: int) -> int:
        """As the port says."""
        return self._try(lambda one: one.add_actuals(key, series, seen_s=seen_s))

    def add_sightings(self, key: SeriesKey, seen: Sightings, *, quality: Quality) -> SightingCount:
        """As the port says."""
        return self._try(lambda one: one.add_sightings(key, seen, quality=quality))

    def actuals(
        self, key: SeriesKey, *, since_s: int, until_s: int, seen_by_s: int | None = None
    ) -> IntensitySeries | None:
        """As the port says; from the spare only where the first has nothing."""

        def ask(one: IntensityArchive) -> IntensitySeries | None:
            return one.actuals(key, since_s=since_s, until_s=until_s, seen_by_s=seen_by_s)

        found = self._try(ask)
        return ask(self._spare) if found is None else found

    def add_vintage(self, key: SeriesKey, vintage: Vintage) -> None:
        """As the port says."""
        self._try(lambda one: one.add_vintage(key, vintage))

    def vintages(self, key: SeriesKey, *, since_s: int) -> list[Vintage]:
        """Those of both."""
        spare = self._spare.vintages(key, since_s=since_s)
        first = self._try(lambda one: one.vintages(key, since_s=since_s))
        by_time = {one.issued_s: one for one in (*spare, *first)}
        return [by_time[issued_s] for issued_s in sorted(by_time)]

    def add_runs(self, zone_id: str, runs: Sequence[WeatherRun]) -> None:
        """As the port says."""
        self._try(lambda one: one.add_runs(zone_id, runs))

    def runs(self, zone_id: str, *, since_s: int) -> list[WeatherRun]:
        """As the port says."""
        return self._try(lambda one: one.runs(zone_id, since_s=since_s))

    def known_series(self) -> list[SeriesKey]:
        """As the port says."""
        return self._try(lambda one: one.known_series())

    def forget(self, *, vintages_before_s: int, actuals_before_s: int) -> None:
        """In both."""
        for one in (self._first, self._spare):
            one.forget(vintages_before_s=vintages_before_s, actuals_before_s=actuals_before_s)

    def close(self) -> None:
        """Both."""
        self._first.close()
        self._spare.close()

    def _try(self, ask: Callable[[IntensityArchive], T]) -> T:
        try:
            answer = ask(self._first)
        except StoreError as error:
            if self._error is None:
                _log.error("archive_unusable", error=error.message)
            self._error = error.message
            return ask(self._spare)
        self._error = None
        return answer
