"""A site's own Carbon Aware SDK WebAPI: forecasts and past values of whatever source it is set up with."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel, to_pascal

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
from scheduler.ports import SourceInfo

_NAME: Final = "carbon_aware_sdk"
_LONGEST: Final = timedelta(days=10)
"""What every source behind it can answer at once."""
_WIDEST_STEP_S: Final = 3600
"""Of past values: pages begin where one of any source begins."""
_LONGEST_STEP_S: Final = 86_400
_STALE_AFTER: Final = timedelta(hours=24)
_TIME_SPAN: Final = re.compile(r"(?:(\d{1,3})\.)?(\d\d):(\d\d):(\d\d)(?:\.\d{1,7})?")
"""How .NET writes a duration: `[days.]hours:minutes:seconds[.fraction]`."""


def _either_case(name: str) -> AliasChoices:
    return AliasChoices(to_camel(name), to_pascal(name))


class _Shape(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        strict=True,
        alias_generator=AliasGenerator(validation_alias=_either_case),
    )


class _Value(_Shape):
    """A value of a forecast, or of the past: the same under other names."""

    begins: str = Field(validation_alias=AliasChoices("timestamp", "Timestamp", "time", "Time"))
    grams: float | None = Field(validation_alias=AliasChoices("value", "Value", "rating", "Rating"))
    duration: int | str


class _Forecast(_Shape):
    location: str
    forecast_data: list[_Value]
    generated_at: str | None = None
    requested_at: str | None = None


_FORECASTS: Final = TypeAdapter(list[_Forecast])
_VALUES: Final = TypeAdapter(list[_Value])


class CarbonAwareSdk:
    """A `ForecastSource` and `HistorySource` for the zones whose location is given.

    What the values mean depends on the source behind the WebAPI, which it does not tell: the
    operator declares it.

    Args:
        http: the site's; with headers where a proxy asks for them.
        locations: the WebAPI's location of each zone.
        signal: average or marginal.
        scope: the one that its source counts.
        step_s: how long its values hold: 300 with WattTime behind it, 3600 with Electricity Maps.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        locations: Mapping[str, str],
        signal: SignalKind,
        scope: Scope,
        step_s: int = 300,
    ) -> None:
        self._http = http
        self._locations = dict(locations)
        self._signal = signal
        self._scope = scope
        self._step_s = step_s

    @property
    def info(self) -> SourceInfo:
        """As declared by the operator; 24 h ahead is what its sources have without more options."""
        return SourceInfo(
            name=_NAME,
            zone_ids=frozenset(self._locations),
            signal=self._signal,
            scopes={zone: frozenset({self._scope}) for zone in self._locations},
            horizon_s=24 * 3600,
            step_s=self._step_s,
            cadence_s=max(self._step_s, 300),
            attribution="Carbon Aware SDK of the Green Software Foundation, with the data of its source",
            is_live=True,
            history_s=86_400,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """The whole current forecast: bounds outside it would be refused, a window size would average."""
        answer, location = self._answer(zone_id, scope), self._locations[zone_id]
        body = self._get(answer, "/emissions/forecasts/current", {"location": location})
        if body is None:
            raise answer.unavailable(f"the reply for location {location} is empty")
        return parse_forecast(
            body,
            location=location,
            asked=window,
            provenance=self._provenance(Quality.FORECAST),
            zone_id=zone_id,
        )

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Past values; nothing tells measured from estimated ones, so they count as the latter."""
        answer, location = self._answer(zone_id, scope), self._locations[zone_id]
        bodies = [
            self._get(
                answer,
                "/emissions/bylocation",
                {"location": location, "time": start, "toTime": end},
            )
            for start, end in pages(window, step_s=_WIDEST_STEP_S, longest=_LONGEST)
        ]
        return parse_emissions(
            bodies, asked=window, provenance=self._provenance(Quality.ESTIMATED), zone_id=zone_id
        )

    def _answer(self, zone_id: str, scope: Scope) -> Answer:
        require_served(self.info, zone_id, scope)
        return Answer(_NAME, zone_id)

    def _get(self, answer: Answer, path: str, params: Mapping[str, str]) -> object:
        try:
            return self._http.get_json(path, params)
        except ForecastUnavailableError as error:
            is_missing = error.fields.get("status") == 501
            raise answer.failed(
                error, f"its data source cannot serve {path} (501)" if is_missing else None
            ) from error

    def _provenance(self, quality: Quality) -> Provenance:
        return Provenance(source=_NAME, signal=self._signal, scope=self._scope, quality=quality)


def parse_forecast(
    body: object, *, zone_id: str, location: str, asked: Window, provenance: Provenance
) -> IntensitySeries:
    """The forecast of that location in a reply, as far as it shares time with the window.

    Its points name the grid's own zone, so that only the forecast itself shows whose it is.

    Raises:
        ForecastRejectedError: another shape, location or time, or impossible values.
        ForecastUnavailableError: no value.
    """
    answer = Answer(_NAME, zone_id)
    forecasts = answer.validated(_FORECASTS, body)
    if not forecasts:
        raise answer.unavailable("the reply is empty")
    for forecast in forecasts:
        if forecast.location.casefold() == location.casefold():
            break
    else:
        raise answer.rejected(
            f"asked for location {location}, answered for {forecasts[0].location!r:.80}"
        )
    if forecast.generated_at is not None:
        made_at = answer.instant(forecast.generated_at)
        provenance = replace(provenance, issued_at=made_at)
        # Both by the clock of the server.
        asked_at = answer.instant(forecast.requested_at or forecast.generated_at)
        answer.require_young(made_at, asked_at, _STALE_AFTER)
    return answer.series(_points(answer, forecast.forecast_data), asked, provenance)


def parse_emissions(
    bodies: Iterable[object], *, zone_id: str, asked: Window, provenance: Provenance
) -> IntensitySeries:
    """The series of replies about the past; None among them is an empty one. Raises as above."""
    answer = Answer(_NAME, zone_id)
    points = [
        point
        for body in bodies
        if body is not None
        for point in _points(answer, answer.validated(_VALUES, body))
    ]
    return answer.series(points, asked, provenance)


def _points(answer: Answer, values: list[_Value]) -> list[Point]:
    points = []
    for one in values:
        start_s, length_s = epoch_s(answer.instant(one.begins)), _seconds(answer, one.duration)
        # A lone value comes with no length at all: nobody knows how long it holds.
        if length_s > 0:
            points.append(Point(start_s, start_s + length_s, one.grams))
    return points


def _seconds(answer: Answer, duration: int | str) -> int:
    """Of whole minutes, as forecasts have them, or of a time span, as the past has."""
    if isinstance(duration, int):
        length_s = duration * 60
    elif match := _TIME_SPAN.fullmatch(duration):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        length_s = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    else:
        raise answer.rejected(f"duration {duration!r:.80} is not of the form [d.]hh:mm:ss")
    if not 0 <= length_s <= _LONGEST_STEP_S:
        raise answer.rejected(f"duration {duration!r:.80} is not within a day")
    return length_s
