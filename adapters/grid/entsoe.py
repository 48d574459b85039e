"""ENTSO-E Transparency Platform: Europe's zones, intensity derived from their production."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.grid.answer import Answer, require_served
from adapters.grid.entsoe_documents import (
    SOURCE,
    STEP_S,
    Line,
    Question,
    RangeTooLongError,
    Reply,
    join_replies,
    parse_reply,
    quarters,
)
from adapters.grid.generation_mix import (
    FACTORS_VERSION,
    LEAD_DAYS,
    Fuel,
    GenerationMix,
    build_series,
    hour_floor,
)
from adapters.grid.residual_dispatch import HISTORY_DAYS, Outlook, forecast_mix
from adapters.http_client import HttpClient
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from scheduler.ports import Clock, Quota, SourceInfo

DEFAULT_URL: Final = "https://web-api.tp.entsoe.eu"
_FORMAT: Final = "%Y%m%d%H%M"
_HOUR: Final = timedelta(hours=1)
_REACH: Final = timedelta(hours=48)
_SHORTEST: Final = timedelta(days=1)
_PAGE: Final = {"A75": timedelta(days=7), "A65": timedelta(days=28), "A69": timedelta(days=28)}
"""Of one request: a page of quarter-hours of all types stays below two megabytes."""
ZONES: Final = {
    "AT": "10YAT-APG------L",
    "BE": "10YBE----------2",
    "CH": "10YCH-SWISSGRIDZ",
    "CZ": "10YCZ-CEPS-----N",
    "DE": "10Y1001A1001A83F",
    "DK-DK1": "10YDK-1--------W",
    "DK-DK2": "10YDK-2--------M",
    "ES": "10YES-REE------0",
    "FI": "10YFI-1--------U",
    "FR": "10YFR-RTE------C",
    "GR": "10YGR-HTSO-----Y",
    "HU": "10YHU-MAVIR----U",
    "IE": "10YIE-1001A00010",
    "IT-NO": "10Y1001A1001A73I",
    "NL": "10YNL----------L",
    "NO-NO1": "10YNO-1--------2",
    "NO-NO2": "10YNO-2--------T",
    "PL": "10YPL-AREA-----S",
    "PT": "10YPT-REN------W",
    "RO": "10YRO-TEL------P",
    "SE-SE3": "10Y1001A1001A46L",
    "SE-SE4": "10Y1001A1001A47J",
}
_FUELS: Final = {
    "B01": Fuel.BIOMASS,
    "B02": Fuel.COAL,  # lignite
    "B03": Fuel.GAS,  # coal gas
    "B04": Fuel.GAS,
    "B05": Fuel.COAL,
    "B06": Fuel.OIL,
    "B07": Fuel.COAL,  # oil shale
    "B08": Fuel.COAL,  # peat
    "B09": Fuel.GEOTHERMAL,
    "B10": Fuel.STORAGE,
    "B11": Fuel.HYDRO,  # run-of-river
    "B12": Fuel.HYDRO,
    "B14": Fuel.NUCLEAR,
    "B16": Fuel.SOLAR,
    "B17": Fuel.BIOMASS,  # waste
    "B18": Fuel.WIND,
    "B19": Fuel.WIND,
    "B25": Fuel.STORAGE,
}
_LOAD: Final = Line(None, is_consumption=True)
_STEADY: Final = frozenset({"B11", "B14"})
_SOLAR_AND_WIND: Final = ("B16", "B18", "B19")
_NEGLIGIBLE: Final = 0.01
"""A type of wind or solar below this part of the generation needs no forecast."""

_Values = NDArray[np.float64]


class Entsoe:
    """A `ForecastSource` and `HistorySource` for bidding zones of Europe.

    Args:
        http: with the token among its `secret_params`, as `securityToken`.
        clock: forecasts rest on the days before it, whatever window is asked for.
    """

    def __init__(self, http: HttpClient, *, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    @property
    def info(self) -> SourceInfo:
        """Both scopes of every zone; forecasts reach to the end of the day that is forecast."""
        scopes = frozenset(Scope)
        return SourceInfo(
            name=SOURCE,
            zone_ids=frozenset(ZONES),
            signal=SignalKind.AVERAGE,
            scopes=dict.fromkeys(ZONES, scopes),
            horizon_s=30 * 3600,
            step_s=STEP_S,
            cadence_s=3600,
            attribution="Intensity derived from data of the ENTSO-E Transparency Platform",
            is_live=True,
            history_s=5 * 366 * 86_400,
            quota=Quota(requests=400, per_s=60),
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Derived from day-ahead forecasts of load, wind and sun, as far as all of them reach.

        Source: residual load split by recent shares, see `residual_dispatch`.
        """
        require_served(self.info, zone_id, scope)
        low, now = hour_floor(window.start_at), hour_floor(self._clock.now())
        ahead = Window(low, min(_hour_ceil(window), low + _REACH))
        load = self._ask(zone_id, "A65", "A01", ahead)
        if not any(_LOAD in reply.mw for reply in load):
            raise Answer(SOURCE, zone_id).unavailable(
                f"no load forecast of zone {zone_id} for then yet"
            )
        weather = self._ask(zone_id, "A69", "A01", ahead)
        past = Window(min(now, low) - timedelta(days=HISTORY_DAYS), max(now, low))
        whole = Window(past.start_at, max(ahead.end_at, past.end_at))
        ran = build_mix(join_replies(self._ask(zone_id, "A75", "A16", past), whole), whole)
        past_load = join_replies(self._ask(zone_id, "A65", "A16", past), whole)
        mix = forecast_mix(
            Outlook(
                ran=ran,
                load_mw=past_load.get(_LOAD, np.full(len(ran), np.nan)),
                coming_load_mw=join_replies(load, whole)[_LOAD],
                coming_mw=_coming(join_replies(weather, whole), ran),
                steady=_STEADY,
            )
        )
        # No time of issue: that of a document may be when it was asked for, and a forecast made the
        # evening before is the newest there is all day.
        return build_series(zone_id, mix, window, _provenance(scope, Quality.FORECAST))

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Derived from the generation of each type; gaps where too much of it is not published."""
        require_served(self.info, zone_id, scope)
        low = hour_floor(window.start_at)
        high = min(_hour_ceil(window), hour_floor(self._clock.now()) + _HOUR)
        if high <= low:
            raise Answer(SOURCE, zone_id).unavailable(f"nothing is settled yet in zone {zone_id}")
        whole = Window(low - timedelta(days=LEAD_DAYS), high)
        lines = join_replies(self._ask(zone_id, "A75", "A16", whole), whole)
        provenance = _provenance(scope, Quality.ESTIMATED)
        return build_series(zone_id, build_mix(lines, whole), window, provenance)

    def _ask(self, zone_id: str, kind: str, process: str, window: Window) -> list[Reply]:
        replies, low = list[Reply](), window.start_at
        while low < window.end_at:
            high = min(low + _PAGE[kind], window.end_at)
            asked = Question(
                zone_id=zone_id,
                kind=kind,
                process=process,
                domain=ZONES[zone_id],
                window=Window(low, high),
            )
            replies += self._replies(asked)
            low = high
        return replies

    def _replies(self, asked: Question) -> Iterator[Reply]:
        """The reply, or those to halves of the question where the platform wants it shorter."""
        try:
            yield parse_reply(self._document(asked), asked)
        except RangeTooLongError:
            low, high = asked.window.start_at, asked.window.end_at
            if high - low <= _SHORTEST:
                raise
            middle = hour_floor(low + (high - low) / 2)
            for half in (Window(low, middle), Window(middle, high)):
                yield from self._replies(replace(asked, window=half))

    def _document(self, asked: Question) -> str:
        side = "outBiddingZone_Domain" if asked.kind == "A65" else "in_Domain"
        try:
            return self._http.get_text(
                "/api",
                {
                    "documentType": asked.kind,
                    "processType": asked.process,
                    side: asked.domain,
                    "periodStart": asked.window.start_at.strftime(_FORMAT),
                    "periodEnd": asked.window.end_at.strftime(_FORMAT),
                },
            )
        except ForecastUnavailableError as error:
            answer = str(error.fields.get("answer", ""))
            # "No matching data" comes with 200 or with 400; it is the same document.
            if error.fields.get("status") == 400 and "Acknowledgement_MarketDocument" in answer:
                return answer
            raise


def build_mix(lines: Mapping[Line, _Values], window: Window) -> GenerationMix:
    """The net generation of every type: what it generated less what it took, never below 0.

    Unknown where neither is known.
    """
    unknown = np.full(quarters(window), np.nan)
    mw = {}
    for kind in sorted({line.psr_type or "" for line in lines}):
        made = lines.get(Line(kind, is_consumption=False), unknown)
        taken = lines.get(Line(kind, is_consumption=True), unknown)
        net = np.maximum(np.nan_to_num(made) - np.nan_to_num(taken), 0.0)
        mw[kind] = np.where(np.isnan(made) & np.isnan(taken), np.nan, net)
    return GenerationMix(
        start_s=int(window.start_at.timestamp()),
        step_s=STEP_S,
        mw=mw or {"": unknown},
        fuels=_FUELS,
    )


def _coming(lines: Mapping[Line, _Values], ran: GenerationMix) -> dict[str, _Values]:
    """Forecasts of solar and wind; unknown where one that matters is missing."""
    total = float(np.sum(ran.total_mw()))
    coming = {}
    for kind in _SOLAR_AND_WIND:
        unknown = np.full(len(ran), np.nan)
        mw = lines.get(Line(kind, is_consumption=False), unknown)
        matters = float(np.nansum(ran.mw.get(kind, unknown))) > _NEGLIGIBLE * total
        coming[kind] = mw if matters else np.nan_to_num(mw)
    return coming


def _hour_ceil(window: Window) -> datetime:
    """The full hour at or after the end, but after the start."""
    last = max(window.end_at, window.start_at + timedelta(microseconds=1))
    return hour_floor(last + _HOUR - timedelta(microseconds=1))


def _provenance(scope: Scope, quality: Quality) -> Provenance:
    return Provenance(
        source=f"{SOURCE} (production, derived; factors {FACTORS_VERSION})",
        signal=SignalKind.AVERAGE,
        scope=scope,
        quality=quality,
    )
