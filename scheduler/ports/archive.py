"""What remembers series of intensity and weather, and how fetches go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecast import IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.forecasting.weather import WeatherRun


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Which series: never mixed with another in one comparison."""

    source: str
    zone_id: str
    signal: SignalKind
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchState:
    """How the fetches of one series go. Times in epoch seconds, None for never.

    Args:
        failures: in a row.
        next_s: not before then is it tried again.
        reached_s: how far back the history was asked for.
    """

    tried_s: int | None = None
    fetched_s: int | None = None
    failures: int = 0
    next_s: int = 0
    reached_s: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Sightings:
    """Actual values of one series, each as it was seen at a time; arrays of int64, shape (n,).

    Args:
        start_s: when each interval begins, epoch seconds.
        stop_s: when it ends.
        mg_per_kwh: 0 or more.
        seen_s: when the source said so.
    """

    start_s: NDArray[np.int64]
    stop_s: NDArray[np.int64]
    mg_per_kwh: NDArray[np.int64]
    seen_s: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SightingCount:
    """What became of sightings.

    Args:
        new: of intervals of which nothing was known.
        revised: that differ from what was seen before them.
        repeated: that say what was known by then.
    """

    new: int = 0
    revised: int = 0
    repeated: int = 0

    def __add__(self, other: "SightingCount") -> "SightingCount":
        return SightingCount(
            self.new + other.new, self.revised + other.revised, self.repeated + other.repeated
        )


class IntensityArchive(Protocol):
    """Remembers what sources said and when: actual values with their revisions, forecasts, weather.

    Shared by all processes of a service. Every method is safe to call from any thread, and raises
    StoreError where the archive cannot be used.
    """

    def claim(self, key: SeriesKey, *, now_s: int, until_s: int) -> FetchState | None:
        """The state, for the one caller that is to fetch now; None for all others, until `until_s`.

        Also None before the state's `next_s`. Where it is certain that the caller's process has ended, so has
        the claim.
        """
        ...

    def renew(self, key: SeriesKey, *, until_s: int) -> None:
        """Makes a claim of this process last until then; without one, nothing happens."""
        ...

    def claimed_until_s(self, key: SeriesKey, *, now_s: int) -> int | None:
        """Until when a claim of another process lasts; None where there is none."""
        ...

    def state(self, key: SeriesKey) -> FetchState:
        """How its fetches went; also the end of a claim."""
        ...

    def put_state(self, key: SeriesKey, state: FetchState) -> None:
        """Keeps the state, and ends the claim."""
        ...

    def add_actuals(self, key: SeriesKey, series: IntensitySeries, *, seen_s: int) -> int:
        """Keeps the values that are new or differ from those seen last; returns how many."""
        ...

    def add_sightings(self, key: SeriesKey, seen: Sightings, *, quality: Quality) -> SightingCount:
        """Keeps values of the past as they were seen one after another; twice is once."""
        ...

    def actuals(
        self, key: SeriesKey, *, since_s: int, until_s: int, seen_by_s: int | None = None
    ) -> IntensitySeries | None:
        """Values of intervals that touch `[since_s, until_s)`, each as last seen (by that time)."""
        ...

    def add_vintage(self, key: SeriesKey, vintage: Vintage) -> None:
        """Keeps a forecast as it was known at its time; the same time again replaces it."""
        ...

    def vintages(self, key: SeriesKey, *, since_s: int) -> list[Vintage]:
        """Forecasts issued since then, oldest first."""
        ...

    def add_runs(self, zone_id: str, runs: Sequence[WeatherRun]) -> None:
        """Keeps weather; a run issued at the same time is replaced."""
        ...

    def runs(self, zone_id: str, *, since_s: int) -> list[WeatherRun]:
        """Weather issued since then, oldest first."""
        ...

    def known_series(self) -> list[SeriesKey]:
        """Every series that has actual values."""
        ...

    def forget(self, *, vintages_before_s: int, actuals_before_s: int) -> None:
        """Drops what is older."""
        ...

    def close(self) -> None:
        """Releases the archive."""
        ...
