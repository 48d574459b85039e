"""Great Britain's public intensity API by NESO: average, direct, half-hourly, 48 h ahead, no key."""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from adapters.http_client import HttpClient
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window, format_instant
from scheduler.ports import SourceInfo

_NAME: Final = "national_grid_gb"
_ZONE: Final = "GB"
_FORMAT: Final = "%Y-%m-%dT%H:%MZ"
_STEP: Final = timedelta(minutes=30)
_STEP_S: Final = 1800
_MAX_SPAN: Final = timedelta(days=13, hours=23)
"""The API takes at most 14 days a request."""
_REACH: Final = timedelta(hours=48)
STALE_AFTER: Final = timedelta(minutes=90)


class _Figures(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)
    forecast: float | None = None
    actual: float | None = None


class _Point(BaseModel):
    model_config = ConfigDict(extra="ignore")
    intensity: _Figures
    # Texts without seconds; strptime checks them.
    begins: str = Field(alias="from")
    ends: str = Field(alias="to")


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
            history_s=8 * 366 * 86_400,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Up to 48 h from the half-hour that holds the window's start."""
        _require_served(zone_id, scope)
        start_at = _floor(window.start_at)
        # One minute past the border: on it, the half-hour that ends there would come first.
        asked = (start_at + timedelta(minutes=1)).strftime(_FORMAT)
        body = self._http.get_json(f"/intensity/{asked}/fw48h")
        series = parse_intensity(body, Window(start_at, start_at + _REACH), is_forecast=True)
        first_s, stop_s = series.coverage_s
        if not first_s <= start_at.timestamp() < stop_s:
            raise _rejected(
                f"asked from {format_instant(start_at)}, answered from {_text(first_s)} "
                f"to {_text(stop_s)}"
            )
        return series

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Settled half-hours of the window; gaps where none is published yet."""
        _require_served(zone_id, scope)
        low, points = _floor(window.start_at), list[_Point]()
        stop = max(_ceil(window.end_at), low + _STEP)
        while low < stop:
            high = min(low + _MAX_SPAN, stop)
            asked = (low + timedelta(minutes=1)).strftime(_FORMAT)
            body = self._http.get_json(f"/intensity/{asked}/{high.strftime(_FORMAT)}")
            points += _points(body, Window(low, high))
            low = high
        return _series(points, is_forecast=False)


def parse_intensity(body: object, asked: Window, *, is_forecast: bool) -> IntensitySeries:
    """The series of a reply about the window `asked`: its forecasts, or its actual values.

    Order does not matter; null, and half-hours that are missing, are gaps.

    Raises:
        ForecastRejectedError: not of the documented shape, not about that window, or values that
            contradict each other or cannot be.
        ForecastUnavailableError: not one half-hour.
    """
    return _series(_points(body, asked), is_forecast=is_forecast)


def _points(body: object, asked: Window) -> list[_Point]:
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list | dict):
        raise _rejected(f"the reply has no data: {body!r:.200}")
    try:
        points = _POINTS.validate_python(data if isinstance(data, list) else [data])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _rejected(f"data.{where}: {first['msg']}, not {first['input']!r:.80}") from error
    for point in points:
        begins_s, ends_s = _epoch_s(point.begins), _epoch_s(point.ends)
        if ends_s - begins_s != _STEP_S or begins_s % _STEP_S:
            raise _rejected(f"{point.begins} to {point.ends} is not half an hour of the clock")
        before_s = asked.start_at.timestamp() - begins_s
        if before_s > STALE_AFTER.total_seconds() or begins_s > asked.end_at.timestamp():
            raise _rejected(
                f"asked for {format_instant(asked.start_at)} to {format_instant(asked.end_at)}, "
                f"answered for {point.begins}" + (": stale" if before_s > 0 else "")
            )
    return points


def _series(points: list[_Point], *, is_forecast: bool) -> IntensitySeries:
    if not points:
        raise ForecastUnavailableError(f"{_NAME}: the reply is empty", zone=_ZONE, source=_NAME)
    known: dict[int, float] = {}
    for point in points:
        value = point.intensity.forecast if is_forecast else point.intensity.actual
        if value is None:
            continue
        if not 0 < value <= 1000:
            raise _rejected(f"intensity {value} at {point.begins} cannot be true for Great Britain")
        if known.setdefault(_epoch_s(point.begins), value) != value:
            raise _rejected(f"two values for {point.begins}")
    if is_forecast and not known:
        raise _rejected("every value is null")
    every_s = [_epoch_s(point.begins) for point in points]
    starts = np.arange(min(every_s), max(every_s) + _STEP_S, _STEP_S, dtype=np.int64)
    return IntensitySeries.from_g_per_kwh(
        _ZONE,
        np.append(starts, starts[-1] + _STEP_S),
        np.array([known.get(int(at), float("nan")) for at in starts]),
        Provenance(
            source=_NAME,
            signal=SignalKind.AVERAGE,
            scope=Scope.DIRECT,
            quality=Quality.FORECAST if is_forecast else Quality.ESTIMATED,
        ),
    )


def _require_served(zone_id: str, scope: Scope) -> None:
    if zone_id != _ZONE or scope is not Scope.DIRECT:
        raise ForecastUnavailableError(
            f"{_NAME}: no {scope} values for zone {zone_id!r}; known: GB with direct emissions",
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


def _ceil(at: datetime) -> datetime:
    floor = _floor(at)
    return floor if floor == at else floor + _STEP


def _text(at_s: int) -> str:
    return format_instant(datetime.fromtimestamp(at_s, UTC))


def _rejected(why: str) -> ForecastRejectedError:
    return ForecastRejectedError(f"{_NAME}: {why}", zone=_ZONE, source=_NAME)
