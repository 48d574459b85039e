"""EIA Open Data v2: hourly generation by fuel of the balancing authorities of the United States."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adapters.grid.answer import Answer, require_served
from adapters.grid.generation_mix import (
    FACTORS_VERSION,
    LEAD_DAYS,
    Fuel,
    GenerationMix,
    build_series,
    hour_floor,
)
from adapters.http_client import HttpClient
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window, format_instant
from scheduler.ports import SourceInfo

DEFAULT_URL: Final = "https://api.eia.gov"
_NAME: Final = "eia"
_PATH: Final = "/v2/electricity/rto/fuel-type-data/data/"
_PERIOD: Final = "%Y-%m-%dT%H"
_HOUR: Final = timedelta(hours=1)
_HOUR_S: Final = 3600
_UNIT: Final = "megawatthours"
_PAGE_ROWS: Final = 5000
"""The most that one reply holds."""
_MAX_TYPES: Final = 40
_MAX_MW: Final = 1e6
_RESPONDENTS: Final = {
    "CAL": ("BANC", "CISO", "IID", "LDWP"),
    "CAR": ("CPLE", "DUK", "SC", "SCEG"),
    "CENT": ("SWPP",),
    "FLA": ("FMPP", "FPC", "FPL", "JEA", "SEC", "TEC"),
    "MIDA": ("PJM",),
    "MIDW": ("AECI", "LGEE", "MISO"),
    "NE": ("ISNE",),
    "NW": ("AVA", "BPAT", "IPCO", "NEVP", "NWMT", "PACE", "PACW", "PGE", "PSCO", "PSEI", "WACM"),
    "NY": ("NYIS",),
    "SE": ("SOCO",),
    "SW": ("AZPS", "EPE", "PNM", "SRP", "TEPC", "WALC"),
    "TEN": ("TVA",),
    "TEX": ("ERCO",),
}
ZONES: Final = {
    f"US-{area}-{respondent}": respondent
    for area, respondents in _RESPONDENTS.items()
    for respondent in respondents
}
_FUELS: Final = {
    "COL": Fuel.COAL,
    "NG": Fuel.GAS,
    "OIL": Fuel.OIL,
    "NUC": Fuel.NUCLEAR,
    "WAT": Fuel.HYDRO,
    "SUN": Fuel.SOLAR,
    "SNB": Fuel.SOLAR,  # with a battery of its own
    "WND": Fuel.WIND,
    "WNB": Fuel.WIND,  # likewise
    "GEO": Fuel.GEOTHERMAL,
    "BM": Fuel.BIOMASS,
    "BIO": Fuel.BIOMASS,
    "BAT": Fuel.STORAGE,
    "PS": Fuel.STORAGE,
    "OES": Fuel.STORAGE,
    "UES": Fuel.STORAGE,  # codespell:ignore ues
}


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    period: str
    respondent: str
    fueltype: str
    # Megawatthours of an hour: texts in newer replies, numbers in older ones.
    value: float | None = None
    unit: str = Field(default=_UNIT, alias="value-units")

    @field_validator("value", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("is a boolean")  # noqa: TRY004 - pydantic takes ValueErrors
        return value


class _Page(BaseModel):
    model_config = ConfigDict(extra="ignore")
    total: int
    data: list[_Row]


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore")
    response: _Page


class Eia:
    """A `HistorySource` for the United States; the data set has no forecast of generation.

    Args:
        http: with the key among its `secret_params`, as `api_key`.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    @property
    def info(self) -> SourceInfo:
        """Both scopes of every zone; values come some hours to a day late, and are revised."""
        return SourceInfo(
            name=_NAME,
            zone_ids=frozenset(ZONES),
            signal=SignalKind.AVERAGE,
            scopes=dict.fromkeys(ZONES, frozenset(Scope)),
            horizon_s=0,
            step_s=_HOUR_S,
            cadence_s=_HOUR_S,
            attribution="Intensity derived from EIA-930, U.S. Energy Information Administration",
            is_live=True,
            history_s=5 * 366 * 86_400,
        )

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Derived from the generation by fuel; gaps where too much of it is not published."""
        require_served(self.info, zone_id, scope)
        low = hour_floor(window.start_at) - timedelta(days=LEAD_DAYS)
        # An hour more than needed, whether the last period counts as inside or not.
        whole = Window(low, hour_floor(window.end_at) + 2 * _HOUR)
        mix = build_mix(self._rows(zone_id, whole), zone_id, whole)
        provenance = Provenance(
            source=f"{_NAME} (production, derived; factors {FACTORS_VERSION})",
            signal=SignalKind.AVERAGE,
            scope=scope,
            quality=Quality.ESTIMATED,
        )
        return build_series(zone_id, mix, window, provenance)

    def _rows(self, zone_id: str, window: Window) -> list[_Row]:
        rows = list[_Row]()
        while True:
            body = self._http.get_json(_PATH, _query(zone_id, window, offset=len(rows)))
            page = _page(body, zone_id, window)
            rows += page.data
            if len(rows) >= page.total:
                break
            if not page.data:
                why = f"zone {zone_id}: the pages end after {len(rows)} of {page.total} rows"
                raise Answer(_NAME, zone_id).unavailable(why)
        different = len({(row.period, row.fueltype) for row in rows})
        if len(rows) > _PAGE_ROWS and different < len(rows):
            why = f"pages overlap: {different} of {len(rows)} rows are different"
            raise Answer(_NAME, zone_id).rejected(why)
        return rows


def parse_rows(body: object, zone_id: str, window: Window) -> GenerationMix:
    """Generation by fuel over the window, from a reply of a single page.

    Raises:
        ForecastRejectedError: not of the documented shape, of another zone or time, or values that
            contradict each other or cannot be.
        ForecastUnavailableError: not one row.
    """
    return build_mix(_page(body, zone_id, window).data, zone_id, window)


def _page(body: object, zone_id: str, window: Window) -> _Page:
    try:
        page = _Document.model_validate(body).response
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the reply"
        raise Answer(_NAME, zone_id).rejected(
            f"{where}: {first['msg']}, not {first['input']!r:.80}"
        ) from error
    hours = int(window.duration_s) // _HOUR_S
    if page.total > hours * _MAX_TYPES:
        raise Answer(_NAME, zone_id).rejected(
            f"total {page.total} is more than {hours} hours can have"
        )
    return page


def build_mix(rows: Sequence[_Row], zone_id: str, window: Window) -> GenerationMix:
    """Generation by fuel over the window; raises as `parse_rows` does.

    Plants that take more than they make, and storage that takes, count as 0.
    """
    if not rows:
        raise Answer(_NAME, zone_id).unavailable(f"no rows of zone {zone_id} for then")
    low_s, hours = int(window.start_at.timestamp()), int(window.duration_s) // _HOUR_S
    ends_s = {period: _epoch_s(period, zone_id) for period in {row.period for row in rows}}
    mw: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        hour = (ends_s[row.period] - low_s) // _HOUR_S - 1
        value = _mw(row, zone_id)
        if not 0 <= hour < hours:
            continue
        of_type = mw.setdefault(row.fueltype, np.full(hours, np.nan))
        if not np.isnan(of_type[hour]) and of_type[hour] != value and not np.isnan(value):
            why = f"two values of {row.fueltype} for {row.period}: {of_type[hour]}, {value}"
            raise Answer(_NAME, zone_id).rejected(why)
        if not np.isnan(value):
            of_type[hour] = value
    if not mw:
        raise Answer(_NAME, zone_id).rejected(
            f"asked for {format_instant(window.start_at)} to {format_instant(window.end_at)}, "
            f"answered for {rows[-1].period}: stale",
        )
    return GenerationMix(start_s=low_s, step_s=_HOUR_S, mw=mw, fuels=_FUELS)


def _query(zone_id: str, window: Window, *, offset: int) -> dict[str, str]:
    return {
        "frequency": "hourly",
        "data[0]": "value",
        "facets[respondent][]": ZONES[zone_id],
        # Periods are named by the hour's end.
        "start": (window.start_at + _HOUR).strftime(_PERIOD),
        "end": window.end_at.strftime(_PERIOD),
        # Without an order of all rows, pages overlap.
        "sort[0][column]": "period",
        "sort[0][direction]": "asc",
        "sort[1][column]": "fueltype",
        "sort[1][direction]": "asc",
        "offset": str(offset),
        "length": str(_PAGE_ROWS),
    }


def _mw(row: _Row, zone_id: str) -> float:
    """Mean MW of the hour, NaN for null."""
    if row.respondent != ZONES[zone_id]:
        why = f"asked for {ZONES[zone_id]}, answered for {row.respondent!r:.40}"
        raise Answer(_NAME, zone_id).rejected(why)
    if row.unit != _UNIT:
        raise Answer(_NAME, zone_id).rejected(f"value-units {row.unit!r:.40} is not {_UNIT}")
    if row.value is None:
        return math.nan
    if abs(row.value) > _MAX_MW:
        raise Answer(_NAME, zone_id).rejected(f"value {row.value} of {row.period} cannot be MW")
    return max(row.value, 0.0)


def _epoch_s(period: str, zone_id: str) -> int:
    try:
        return int(datetime.strptime(period, _PERIOD).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        why = f"period {period!r:.40} is not of the form YYYY-MM-DDTHH"
        raise Answer(_NAME, zone_id).rejected(why) from error
