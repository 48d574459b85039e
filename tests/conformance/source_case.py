"""What the suite of intensity sources knows about each of them by other means."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scheduler.core.forecast import IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from scheduler.ports import ForecastSource, HistorySource

HOUR = timedelta(hours=1)
# A Tuesday, at the start of a half-hour.
NOW = datetime(2026, 1, 20, 14, tzinfo=UTC)


class Source(ForecastSource, HistorySource):
    """Both ports in one."""


@dataclass(frozen=True)
class Side:
    """Forecasts, or actual values, of one zone.

    Args:
        window: is covered from its start to its end.
        grams: intensity at an instant of the window, in g/kWh.
    """

    fetch: Callable[[str, Scope, Window], IntensitySeries]
    zone_id: str
    scope: Scope
    window: Window
    quality: Quality
    grams: Callable[[datetime], float]

    def series(self, window: Window | None = None) -> IntensitySeries:
        return self.fetch(self.zone_id, self.scope, window or self.window)


@dataclass(frozen=True)
class Case:
    """A source and what is known about it by other means.

    Args:
        qualities: of forecasts and of actual values.
        ahead: forecasts cover it from its start to its end; None for a source without forecasts.
        past: actual values cover it likewise; None for a source without history.
        ends: no forecast lies outside; None where there is no end.
        settled_until: no actual value lies after it; None where there is no end.
        forecast_g: intensity at an instant of `ahead`; `actual_g` of `past`.
        misspelt: a name near `zone_id` that it does not have.
    """

    source: Source | ForecastSource | HistorySource
    zone_id: str
    scope: Scope
    signal: SignalKind
    qualities: tuple[Quality, Quality]
    ahead: Window | None
    past: Window | None
    ends: Window | None
    settled_until: datetime | None
    forecast_g: Callable[[datetime], float]
    actual_g: Callable[[datetime], float]
    misspelt: str

    @property
    def sides(self) -> list[Side]:
        """Forecasts, then actual values, as far as the source is a port for them."""
        sides = []
        if self.ahead is not None:
            assert isinstance(self.source, ForecastSource)
            fetch = self.source.fetch_forecast
            sides.append(self._side(fetch, self.ahead, self.qualities[0], self.forecast_g))
        if self.past is not None:
            assert isinstance(self.source, HistorySource)
            fetch = self.source.fetch_actuals
            sides.append(self._side(fetch, self.past, self.qualities[1], self.actual_g))
        return sides

    def _side(
        self,
        fetch: Callable[[str, Scope, Window], IntensitySeries],
        window: Window,
        quality: Quality,
        grams: Callable[[datetime], float],
    ) -> Side:
        return Side(fetch, self.zone_id, self.scope, window, quality, grams)

    def forecast(self, window: Window | None = None) -> IntensitySeries:
        return self.sides[0].series(window)

    def actuals(self, window: Window | None = None) -> IntensitySeries:
        return self.sides[-1].series(window)
