"""Energinet's Energi Data Service: average, direct intensity of Denmark's areas, every 5 min, no key."""

import json
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from adapters.grid.answer import Answer, Point, require_served
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from scheduler.ports import Clock, Quota, SourceInfo

DEFAULT_URL: Final = "https://api.energidataservice.dk"
LIMITS: Final = Limits(attempts=1)
"""For the `HttpClient`: a second try within the minute would break the provider's rule."""
FORECASTS: Final = "CO2EmisProg"
ACTUALS: Final = "CO2Emis"
_NAME: Final = "energinet"
_AREAS: Final = {"DK-DK1": "DK1", "DK-DK2": "DK2"}
ZONES: Final = frozenset(_AREAS)
_STEP_S: Final = 300
_CADENCE: Final = timedelta(minutes=15)
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_MAX_SPAN: Final = timedelta(days=45)
"""Of actual values: both areas over so many days fit into one reply of `Limits.max_body_bytes`."""
_FORMAT: Final = "%Y-%m-%dT%H:%M:%S"


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)
    # UTC without saying so. The Danish time beside it repeats an hour each autumn.
    begins: str = Field(alias="Minutes5UTC")
    area: str = Field(alias="PriceArea")
    g_per_kwh: float | None = Field(alias="CO2Emission")


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")
    dataset: str | None = None
    records: list[_Record]


_REPLY: Final = TypeAdapter(_Reply)


class Energinet:
    """A `ForecastSource` and `HistorySource` for DK-DK1 and DK-DK2.

    One request serves both areas, for a quarter of an hour; the clock keeps a minute between two
    requests to one dataset.
    """

    def __init__(self, http: HttpClient, *, clock: Clock) -> None:
        self._clock = clock
        self._forecasts = _Dataset(http, clock, FORECASTS)
        self._actuals = _Dataset(http, clock, ACTUALS)

    @property
    def info(self) -> SourceInfo:
        """Both areas, direct; forecasts end tonight at worst, tomorrow night after midday."""
        return SourceInfo(
            name=_NAME,
            zone_ids=ZONES,
            signal=SignalKind.AVERAGE,
            scopes=dict.fromkeys(_AREAS, frozenset({Scope.DIRECT})),
            horizon_s=11 * 3600,
            step_s=_STEP_S,
            cadence_s=int(_CADENCE.total_seconds()),
            attribution="Energi Data Service by Energinet",
            is_live=True,
            history_s=int(_MAX_SPAN.total_seconds()),
            quota=Quota(requests=1, per_s=60),
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Five-minute forecasts from the window's start to its end, or as far as there are.

        Raises:
            ForecastUnavailableError: also where it would take a second request within a minute.
        """
        require_served(self.info, zone_id, scope)
        body = self._forecasts.reply(zone_id, _Days(window.start_at.date()))
        return parse_emissions(body, zone_id, window, is_forecast=True)

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Five-minute values of the window's newest 45 days; gaps where none is published yet.

        Raises:
            ForecastUnavailableError: also where it would take a second request within a minute.
        """
        require_served(self.info, zone_id, scope)
        window = Window(max(window.start_at, window.end_at - _MAX_SPAN), window.end_at)
        is_past = window.end_at.date() < self._clock.now().date()
        # Two days on: midnight in Denmark comes up to two hours before that of the date in UTC.
        stop = window.end_at.date() + 2 * _DAY if is_past else None
        body = self._actuals.reply(zone_id, _Days(window.start_at.date(), stop))
        return parse_emissions(body, zone_id, window, is_forecast=False)


def parse_emissions(
    body: object, zone_id: str, window: Window, *, is_forecast: bool
) -> IntensitySeries:
    """The series of one area in a reply about both, within the window.

    Raises:
        ForecastRejectedError: not of the documented shape, of another dataset, area or time, or
            values that contradict each other or cannot be.
        ForecastUnavailableError: nothing about that area.
    """
    answer = Answer(_NAME, zone_id)
    reply = answer.validated(_REPLY, body)
    wanted = FORECASTS if is_forecast else ACTUALS
    if reply.dataset not in {None, wanted}:
        raise answer.rejected(f"asked for {wanted}, answered with dataset {reply.dataset!r:.80}")
    points = [_point(answer, record) for record in reply.records if _is_of(answer, record)]
    provenance = Provenance(
        source=_NAME,
        signal=SignalKind.AVERAGE,
        scope=Scope.DIRECT,
        quality=Quality.FORECAST if is_forecast else Quality.ESTIMATED,
    )
    return answer.series(points, window, provenance)


def _is_of(answer: Answer, record: _Record) -> bool:
    if record.area not in _AREAS.values():
        raise answer.rejected(f"asked for DK1 and DK2, answered with area {record.area!r:.80}")
    return record.area == _AREAS[answer.zone_id]


def _point(answer: Answer, record: _Record) -> Point:
    try:
        begins_at = datetime.strptime(record.begins, _FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise answer.rejected(
            f"Minutes5UTC {record.begins!r:.80} is not of the form YYYY-MM-DDThh:mm:ss"
        ) from error
    return answer.interval(int(begins_at.timestamp()), _STEP_S, record.g_per_kwh)


@dataclass(frozen=True, slots=True)
class _Days:
    """Days in Denmark `[since, until)`, or all from `since` on.

    The API reads times as Danish ones. Midnight there comes one or two hours before that of the same
    date in UTC, and neither repeats nor is skipped when clocks change.
    """

    since: date
    until: date | None = None

    def hold(self, other: "_Days") -> bool:
        """Whether all of the other days are among these."""
        if self.until is None:
            return self.since <= other.since
        return self.since <= other.since and other.until is not None and other.until <= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The last request to a dataset; without a body where it failed."""

    at: datetime
    days: _Days
    body: object = None
    error: str | None = None

    @property
    def told(self) -> str:
        """What became of it, for people."""
        if self.error is not None:
            return f"it failed with {self.error!r}"
        return f"other days, from {self.days.since}, were asked for"


class _Dataset:
    """A dataset that is asked for both areas at once, at most once a minute, and kept for a while."""

    def __init__(self, http: HttpClient, clock: Clock, name: str) -> None:
        self._http = http
        self._clock = clock
        self._name = name
        self._last: _Request | None = None
        self._lock = threading.Lock()

    def reply(self, zone_id: str, days: _Days) -> object:
        """What the API says about those days, or said within the cadence.

        Raises:
            ForecastUnavailableError: no answer, or the next request has to wait.
        """
        with self._lock:
            now = self._clock.now()
            if self._last is not None:
                age = now - self._last.at
                if timedelta() <= age < _CADENCE and self._answers(self._last, days):
                    return self._last.body
                # A clock that was set back says nothing about when to ask.
                if timedelta() <= age < _MINUTE:
                    raise ForecastUnavailableError(
                        f"{_NAME}: {self._name} may be asked once a minute; {self._last.told} "
                        f"{age.total_seconds():.0f} s ago",
                        zone=zone_id,
                        source=_NAME,
                    )
            return self._ask(now, days)

    @staticmethod
    def _answers(request: _Request, days: _Days) -> bool:
        return request.error is None and request.days.hold(days)

    def _ask(self, now: datetime, days: _Days) -> object:
        query = {
            "start": days.since.isoformat(),
            "filter": json.dumps({"PriceArea": sorted(_AREAS.values())}),
            "columns": "Minutes5UTC,PriceArea,CO2Emission",
            "sort": "Minutes5UTC ASC",
            # None: the default is 100, the newest first.
            "limit": "0",
        }
        if days.until is not None:
            query["end"] = days.until.isoformat()
        try:
            body = self._http.get_json(f"/dataset/{self._name}", query)
        except ForecastUnavailableError as error:
            self._last = _Request(at=now, days=days, error=error.message)
            raise
        self._last = _Request(at=now, days=days, body=body)
        return body
