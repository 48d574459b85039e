"""Regions of Great Britain by NESO's intensity API: average, direct, half-hourly, 48 h ahead, no key."""

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from adapters.grid.answer import Answer, require_served
from adapters.grid.neso_half_hours import ATTRIBUTION, STEP_S, HalfHours, floor, path_from
from adapters.http_client import HttpClient
from scheduler.core.forecast import IntensitySeries, Scope, SignalKind
from scheduler.core.timegrid import Window
from scheduler.ports import SourceInfo

DEFAULT_URL: Final = "https://api.carbonintensity.org.uk"
_NAME: Final = "neso_regions_gb"
REGIONS: Final = {
    "GB-North-Scotland": 1,
    "GB-South-Scotland": 2,
    "GB-North-West-England": 3,
    "GB-North-East-England": 4,
    "GB-Yorkshire": 5,
    "GB-North-Wales-Merseyside": 6,
    "GB-South-Wales": 7,
    "GB-West-Midlands": 8,
    "GB-East-Midlands": 9,
    "GB-East-England": 10,
    "GB-South-West-England": 11,
    "GB-South-England": 12,
    "GB-London": 13,
    "GB-South-East-England": 14,
    "GB-England": 15,
    "GB-Scotland": 16,
    "GB-Wales": 17,
}
"""Our zones, named after the API's short names, and the numbers that it knows them by."""


class _Region(BaseModel):
    model_config = ConfigDict(extra="ignore")
    region_id: int = Field(alias="regionid", strict=True)
    periods: list[object] = Field(alias="data")


# A list in the documentation, a bare object in real replies.
_REGIONS: Final = TypeAdapter(list[_Region])


class NesoRegionsGB:
    """A `ForecastSource` for the zones in `REGIONS`; actual values exist for the whole of GB only."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    @property
    def info(self) -> SourceInfo:
        """17 regions, the last three of which hold the others; direct, 47 h to be relied on."""
        return SourceInfo(
            name=_NAME,
            zone_ids=frozenset(REGIONS),
            signal=SignalKind.AVERAGE,
            scopes=dict.fromkeys(REGIONS, frozenset({Scope.DIRECT})),
            horizon_s=47 * 3600,
            step_s=STEP_S,
            cadence_s=1800,
            attribution=ATTRIBUTION,
            is_live=True,
            history_s=0,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Up to 48 h from the half-hour that holds the window's start."""
        require_served(self.info, zone_id, scope)
        start_at = floor(window.start_at)
        body = self._http.get_json(
            f"/regional/intensity/{path_from(start_at)}/fw48h/regionid/{REGIONS[zone_id]}"
        )
        return parse_forecast(body, zone_id, start_at)


def parse_forecast(body: object, zone_id: str, start_at: datetime) -> IntensitySeries:
    """The forecasts of a reply about one region, asked from that half-hour on.

    Raises:
        ForecastRejectedError: not of the documented shape, of another region or time, or values
            that contradict each other or cannot be.
        ForecastUnavailableError: not one half-hour.
    """
    answer = Answer(_NAME, zone_id)
    regions = _regions(answer, body)
    for region in regions:
        if region.region_id != REGIONS[zone_id]:
            raise answer.rejected(
                f"asked for region {REGIONS[zone_id]}, answered for {region.region_id}"
            )
    half_hours = HalfHours(answer=answer, place=zone_id, may_be_zero=True)
    return half_hours.forecast([one for region in regions for one in region.periods], start_at)


def _regions(answer: Answer, body: object) -> list[_Region]:
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list | dict):
        raise answer.rejected(f"the reply has no data: {body!r:.200}")
    return answer.validated(_REGIONS, data if isinstance(data, list) else [data], under=("data",))
