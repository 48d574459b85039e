"""Great Britain's public intensity API by NESO: average, direct, half-hourly, 48 h ahead, no key."""

from datetime import datetime, timedelta
from typing import Final

from adapters.grid.answer import Answer, require_served
from adapters.grid.neso_half_hours import (
    ATTRIBUTION,
    STEP,
    STEP_S,
    HalfHour,
    HalfHours,
    ceil,
    floor,
    path_from,
    path_to,
)
from adapters.http_client import HttpClient
from scheduler.core.forecast import IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from scheduler.ports import SourceInfo

_NAME: Final = "national_grid_gb"
_ZONE: Final = "GB"
ZONES: Final = frozenset({_ZONE})
_MAX_SPAN: Final = timedelta(days=13, hours=23)
"""The API takes at most 14 days a request."""
_GB: Final = HalfHours(answer=Answer(_NAME, _ZONE), place="Great Britain", may_be_zero=False)


class NationalGridGB:
    """A `ForecastSource` and `HistorySource` for zone GB."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    @property
    def info(self) -> SourceInfo:
        """One zone, direct emissions only, 47 h to be relied on."""
        return SourceInfo(
            name=_NAME,
            zone_ids=ZONES,
            signal=SignalKind.AVERAGE,
            scopes={_ZONE: frozenset({Scope.DIRECT})},
            horizon_s=47 * 3600,
            step_s=STEP_S,
            cadence_s=1800,
            attribution=ATTRIBUTION,
            is_live=True,
            history_s=8 * 366 * 86_400,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Up to 48 h from the half-hour that holds the window's start."""
        require_served(self.info, zone_id, scope)
        start_at = floor(window.start_at)
        body = self._http.get_json(f"/intensity/{path_from(start_at)}/fw48h")
        return parse_forecast(body, start_at)

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Settled half-hours of the window; gaps where none is published yet."""
        require_served(self.info, zone_id, scope)
        low, read = floor(window.start_at), list[HalfHour]()
        stop = max(ceil(window.end_at), low + STEP)
        while low < stop:
            high = min(low + _MAX_SPAN, stop)
            body = self._http.get_json(f"/intensity/{path_from(low)}/{path_to(high)}")
            read += _GB.read(_periods(body), Window(low, high))
            low = high
        return _GB.series(read, window, Quality.ESTIMATED)


def parse_forecast(body: object, start_at: datetime) -> IntensitySeries:
    """The forecasts of a reply that was asked from that half-hour on.

    Order does not matter; null, and half-hours that are missing, are gaps.

    Raises:
        ForecastRejectedError: not of the documented shape, not about that time, or values that
            contradict each other or cannot be.
        ForecastUnavailableError: not one half-hour.
    """
    return _GB.forecast(_periods(body), start_at)


def _periods(body: object) -> list[object]:
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list | dict):
        raise _GB.answer.rejected(f"the reply has no data: {body!r:.200}")
    return data if isinstance(data, list) else [data]
