"""Electricity Maps: flow-traced average intensity of the world's zones, hourly, up to 72 h ahead."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter

from adapters.grid.answer import Answer, Point, pages, require_served
from adapters.http_client import HttpClient
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import (
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
    epoch_s,
)
from scheduler.core.timegrid import Window
from scheduler.ports import Clock, SourceInfo

DEFAULT_URL: Final = "https://api.electricitymaps.com"
_NAME: Final = "electricity_maps"
_STEP_S: Final = 3600
_HORIZONS_H: Final = (6, 24, 48, 72)
_LONGEST: Final = timedelta(days=10)
_RECENT: Final = timedelta(hours=24)
_STALE_AFTER: Final = timedelta(hours=24)
"""How often forecasts are made is not documented."""
_NO_LOOKUP: Final = {
    "v3": {"shouldUseFallbackCallerLookup": "false"},
    "v4": {"disableCallerLookup": "true"},
}
"""Without it, a zone that the token does not know is answered with that of the caller's address."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)


class _Hour(_Shape):
    begins: str = Field(alias="datetime")
    grams: float | None = Field(alias="carbonIntensity")
    zone: str | None = None
    factors: str | None = Field(None, alias="emissionFactorType")
    is_estimated: bool | None = Field(None, alias="isEstimated")


class _Reply(_Shape):
    zone: str
    hours: list[_Hour] = Field(validation_alias=AliasChoices("forecast", "data", "history"))
    made_at: str | None = Field(None, alias="updatedAt")
    granularity: str | None = Field(None, alias="temporalGranularity")
    factors: str | None = Field(None, alias="emissionFactorType")


_REPLY: Final = TypeAdapter(_Reply)


class ElectricityMaps:
    """A `ForecastSource` and `HistorySource` for the zones that the token may read.

    Args:
        http: with the header `auth-token`.
        clock: tells how far ahead a window ends.
        zones: of the world's, those that are served.
        version: of the API.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        clock: Clock,
        zones: frozenset[str],
        version: Literal["v3", "v4"] = "v3",
    ) -> None:
        self._http = http
        self._clock = clock
        self._zones = zones
        self._version = version
        self._has_served = False

    @property
    def info(self) -> SourceInfo:
        """Both scopes in every zone; how far the token's plan reaches shows when it is asked."""
        return SourceInfo(
            name=_NAME,
            zone_ids=self._zones,
            signal=SignalKind.AVERAGE,
            scopes={zone: frozenset(Scope) for zone in self._zones},
            horizon_s=_HORIZONS_H[-1] * 3600,
            step_s=_STEP_S,
            cadence_s=1800,
            attribution="Carbon intensity by Electricity Maps",
            is_live=True,
            history_s=366 * 86_400,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """The newest forecast, from the hour that runs; of the offered lengths the one that suffices."""
        answer, now = self._answer(zone_id, scope), self._clock.now()
        ahead_h = (window.end_at - now) / timedelta(hours=1)
        horizon_h = next((hours for hours in _HORIZONS_H if hours >= ahead_h), _HORIZONS_H[-1])
        try:
            body = self._get("forecast", zone_id, scope, horizonHours=str(horizon_h))
        except ForecastUnavailableError as error:
            raise self._explained(answer, error, "forecast") from error
        return parse_forecast(body, zone_id=zone_id, scope=scope, asked=window, now=now)

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Hours of the past; only the last 24 where the token's plan has no more."""
        answer = self._answer(zone_id, scope)
        try:
            bodies = [
                self._get("past-range", zone_id, scope, start=start, end=end)
                for start, end in pages(window, step_s=_STEP_S, longest=_LONGEST)
            ]
        except ForecastUnavailableError as error:
            if not _is_outside_plan(error):
                raise self._explained(answer, error, "past") from error
            bodies = [self._recent(answer, scope, window)]
        return parse_past(bodies, zone_id=zone_id, scope=scope, asked=window)

    def _recent(self, answer: Answer, scope: Scope, window: Window) -> object:
        if window.end_at <= self._clock.now() - _RECENT:
            raise answer.unavailable("this token's plan has no past beyond the last 24 hours")
        try:
            return self._get("history", answer.zone_id, scope)
        except ForecastUnavailableError as error:
            raise self._explained(answer, error, "past") from error

    def _answer(self, zone_id: str, scope: Scope) -> Answer:
        require_served(self.info, zone_id, scope)
        return Answer(_NAME, zone_id)

    def _get(self, name: str, zone_id: str, scope: Scope, **params: str) -> object:
        body = self._http.get_json(
            f"/{self._version}/carbon-intensity/{name}",
            {
                "zone": zone_id,
                "emissionFactorType": scope.value,
                **_NO_LOOKUP[self._version],
                **params,
            },
        )
        self._has_served = True
        return body

    def _explained(
        self, answer: Answer, error: ForecastUnavailableError, what: str
    ) -> ForecastUnavailableError:
        meaning = None
        if _is_outside_plan(error):
            meaning = f"this token's plan has no {what}"
        elif "unauthorized for zone" in _text(error):
            meaning = f"this token's plan does not include zone {answer.zone_id}"
        elif error.fields.get("status") == 401:
            # A token that has served is refused where requests come too fast. Only the second
            # refusal in a row says that it is bad.
            meaning = (
                "a token that served before was refused (401): too many requests, as it seems"
                if self._has_served
                else "the auth-token was refused (401); check it"
            )
            self._has_served = False
        return answer.failed(error, meaning)


def parse_forecast(
    body: object, *, zone_id: str, scope: Scope, asked: Window, now: datetime
) -> IntensitySeries:
    """The series of a forecast reply, as far as it shares time with the window; null is a gap.

    Raises:
        ForecastRejectedError: another shape, zone, scope, step or time, or impossible values.
        ForecastUnavailableError: no value.
    """
    answer = Answer(_NAME, zone_id)
    reply = _reply(answer, body, scope)
    made_at = answer.instant(reply.made_at) if reply.made_at is not None else None
    if made_at is not None:
        answer.require_young(made_at, now, _STALE_AFTER)
    return _series(answer, reply.hours, asked, _provenance(scope, Quality.FORECAST, made_at))


def parse_past(
    bodies: Iterable[object], *, zone_id: str, scope: Scope, asked: Window
) -> IntensitySeries:
    """The series of replies about the past; estimated where any of its hours is. Raises as above."""
    answer = Answer(_NAME, zone_id)
    hours = [hour for body in bodies for hour in _reply(answer, body, scope).hours]
    series = _series(answer, hours, asked, _provenance(scope, Quality.MEASURED))
    first_s, stop_s = series.coverage_s
    used = (one for one in hours if first_s <= epoch_s(answer.instant(one.begins)) < stop_s)
    # An hour of which nothing is said may be an estimate.
    if all(one.is_estimated is False for one in used if one.grams is not None):
        return series
    return _series(answer, hours, asked, _provenance(scope, Quality.ESTIMATED))


def _reply(answer: Answer, body: object, scope: Scope) -> _Reply:
    reply = answer.validated(_REPLY, body)
    if reply.granularity not in {None, "hourly"}:
        raise answer.rejected(f"temporalGranularity {reply.granularity!r:.80} instead of hourly")
    for zone in {reply.zone, *(hour.zone for hour in reply.hours)} - {None, answer.zone_id}:
        raise answer.rejected(
            f"asked for zone {answer.zone_id}, answered for zone {zone!r:.80}, "
            "as for zones that the token does not know"
        )
    for factors in {reply.factors, *(hour.factors for hour in reply.hours)} - {None, scope.value}:
        raise answer.rejected(f"emissionFactorType {factors!r:.80} instead of {scope}")
    return reply


def _series(
    answer: Answer, hours: Iterable[_Hour], asked: Window, provenance: Provenance
) -> IntensitySeries:
    points = []
    for hour in hours:
        start_s = epoch_s(answer.instant(hour.begins, step_s=_STEP_S))
        points.append(Point(start_s, start_s + _STEP_S, hour.grams))
    return answer.series(points, asked, provenance)


def _provenance(scope: Scope, quality: Quality, made_at: datetime | None = None) -> Provenance:
    return Provenance(
        source=_NAME,
        signal=SignalKind.AVERAGE,
        scope=scope,
        quality=quality,
        issued_at=made_at,
    )


def _is_outside_plan(error: ForecastUnavailableError) -> bool:
    return "endpoint not available" in _text(error)


def _text(error: ForecastUnavailableError) -> str:
    """What came with a refusal; its status is not documented, so the text decides."""
    return str(error.fields.get("answer", "")).lower()
