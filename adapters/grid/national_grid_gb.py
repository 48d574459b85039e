"""Great Britain's public intensity API by NESO: average, direct, half-hourly, 48 h ahead, no key."""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from adapters.http_client import HttpClient
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window, format_instant
from scheduler.ports import SourceInfo

_NAME: Final = "national_grid_gb"
_ZONE: Final = "GB"
_FORMAT: Final = "%Y-%m-%dT%H:%MZ"
_STEP: Final = timedelta(minutes=30)
_MAX_SPAN: Final = timedelta(days=13, hours=23)
"""The API takes at most 14 days a request."""
STALE_AFTER: Final = timedelta(minutes=90)


class _Figures(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    forecast: float | None = None
    actual: float | None = None


class _Point(BaseModel):
    model_config = ConfigDict(extra="ignore")
    intensity: _Figures
    # `from` and `to` are texts without seconds; strptime checks them.
    begins: str
    ends: str


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")
    data: list[dict[str, object]] | dict[str, object]


_POINTS: Final = TypeAdapter(list[_Point])


class NationalGridGB:
    """A `ForecastSource` and `HistorySource` for zone GB."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    @property
    def info(self) -> SourceInfo:
        """One zone, direct emissions only, 47 h to be relied on."""
        return SourceInfo(
            name=_NAME,
            zone_ids=frozenset({_ZONE}),
            signal=SignalKind.AVERAGE,
            scopes={_ZONE: frozenset({Scope.DIRECT})},
            horizon_s=47 * 3600,
            step_s=1800,
            cadence_s=1800,
            attribution="Carbon Intensity API of NESO (CC BY 4.0). Supported by National Energy SO Open Data",
            is_live=True,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Up to 48 h from the half-hour that holds the window's start."""
        _require_served(zone_id, scope)
        start_at = _floor(window.start_at)
        # One minute past the border: on it, the half-hour that ends there would come first.
        asked = (start_at + timedelta(minutes=1)).strftime(_FORMAT)
        series = parse_intensity(self._http.get_json(f"/intensity/{asked}/fw48h"), is_forecast=True)
        first, stop = series.coverage_s
        if (
            not first <= start_at.timestamp() < stop
            or start_at.timestamp() - first > STALE_AFTER.total_seconds()
        ):
            raise ForecastRejectedError(
                f"{_NAME}: asked from {format_instant(start_at)}, answered from "
                f"{format_instant(datetime.fromtimestamp(first, UTC))}: stale",
                zone=_ZONE,
                source=_NAME,
            )
        return series

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Settled half-hours of the window; gaps where none is published yet."""
        _require_served(zone_id, scope)
        low, points = _floor(window.start_at), list[_Point]()
        while low < window.end_at:
            high = min(low + _MAX_SPAN, window.end_at)
            asked = (low + timedelta(minutes=1)).strftime(_FORMAT)
            body = self._http.get_json(f"/intensity/{asked}/{high.strftime(_FORMAT)}")
            points += _points(body)
            low = high
        return _series(points, is_forecast=False)


def parse_intensity(body: object, *, is_forecast: bool) -> IntensitySeries:
    """The series of a reply: its forecasts, or its actual values.

    Raises:
        ForecastRejectedError: not of the documented shape, out of order, or values that cannot be.
    """
    return _series(_points(body), is_forecast=is_forecast)


def _points(body: object) -> list[_Point]:
    try:
        data = _Reply.model_validate(body).data
        listed = data if isinstance(data, list) else [data]
        return _POINTS.validate_python(
            [{**one, "begins": one.get("from"), "ends": one.get("to")} for one in listed]
        )
    except (ValidationError, AttributeError) as error:
        raise _rejected(f"the reply has another shape: {str(error).splitlines()[0]}") from error


def _series(points: list[_Point], *, is_forecast: bool) -> IntensitySeries:
    by_start: dict[int, float] = {}
    for point in points:
        begins, ends = _epoch_s(point.begins), _epoch_s(point.ends)
        if ends - begins != _STEP.total_seconds():
            raise _rejected(f"{point.begins} to {point.ends} is not half an hour")
        value = point.intensity.forecast if is_forecast else point.intensity.actual
        if value is not None and not 0 < value <= 1000:
            raise _rejected(f"intensity {value} at {point.begins} cannot be true for Great Britain")
        grams = float("nan") if value is None else value
        known = by_start.setdefault(begins, grams)
        if known != grams and known == known and grams == grams:  # noqa: PLR0124 - NaN is no contradiction
            raise _rejected(f"two values for {point.begins}")
    if not by_start:
        raise ForecastUnavailableError(f"{_NAME}: the reply is empty", zone=_ZONE, source=_NAME)
    if all(value != value for value in by_start.values()):  # noqa: PLR0124 - NaN
        raise _rejected("every value is null")
    step_s = int(_STEP.total_seconds())
    starts = np.arange(min(by_start), max(by_start) + step_s, step_s, dtype=np.int64)
    return IntensitySeries.from_g_per_kwh(
        _ZONE,
        np.append(starts, starts[-1] + step_s),
        np.array([by_start.get(int(at), float("nan")) for at in starts]),
        Provenance(
            source=_NAME,
            signal=SignalKind.AVERAGE,
            scope=Scope.DIRECT,
            quality=Quality.FORECAST if is_forecast else Quality.MEASURED,
        ),
    )


def _require_served(zone_id: str, scope: Scope) -> None:
    if zone_id != _ZONE or scope is not Scope.DIRECT:
        raise ForecastUnavailableError(
            f"{_NAME}: serves zone GB with direct emissions, not {zone_id!r} {scope}; did you mean GB?",
            zone=zone_id,
            source=_NAME,
        )


def _epoch_s(text: str) -> int:
    try:
        return int(datetime.strptime(text, _FORMAT).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise _rejected(f"time {text!r} is not of the form YYYY-MM-DDThh:mmZ") from error


def _floor(at: datetime) -> datetime:
    return at.replace(minute=at.minute - at.minute % 30, second=0, microsecond=0)


def _rejected(why: str) -> ForecastRejectedError:
    return ForecastRejectedError(f"{_NAME}: {why}", zone=_ZONE, source=_NAME)
