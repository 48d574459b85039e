"""WattTime v3: marginal direct emissions by region, every five minutes, 72 h ahead; with a login."""

import base64
import math
import re
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

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
from scheduler.ports import Clock, Quota, SourceInfo

DEFAULT_URL: Final = "https://api.watttime.org"
_NAME: Final = "watttime"
_SIGNAL: Final = "co2_moer"
_UNITS: Final = "lbs_co2_per_mwh"
_KG_PER_LB: Final = 0.45359237
"""Exact by definition; lb/MWh times this is kg/MWh, which is g/kWh."""
_STEP_S: Final = 300
_HORIZON_H: Final = 72
_LONGEST: Final = timedelta(days=32)
_STALE_AFTER: Final = timedelta(hours=3)
"""A new forecast comes every five minutes."""
_TOKEN_LIFE: Final = timedelta(minutes=29)
"""Tokens live for 30 minutes."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LAG: Final = timedelta(minutes=15)
"""How old the newest forecast may be; its horizon counts from when it was made."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)


class _Value(_Shape):
    point_time: str
    value: float | None


class _Model(_Shape):
    date: str


class _Meta(_Shape):
    region: str
    signal_type: str
    units: str
    data_point_period_seconds: int = Field(gt=0)
    generated_at: str | None = None
    model: _Model | None = None


class _Reply(_Shape):
    data: list[_Value]
    meta: _Meta


class _Place(_Shape):
    region: str
    signal_type: str


_REPLY: Final = TypeAdapter(_Reply)
_PLACE: Final = TypeAdapter(_Place)


class WattTime:
    """A `ForecastSource` and `HistorySource` for the zones whose WattTime region is given.

    Args:
        http: without credentials of its own.
        clock: for the age of tokens and forecasts.
        user: of the account; never shown, like the password.
        password: of the account.
        regions: WattTime's region of each zone.

    Raises:
        InvalidConfigError: the password would go over plain http to another machine.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        clock: Clock,
        user: str,
        password: str,
        regions: Mapping[str, str],
    ) -> None:
        http.require_private()
        self._session = _Session(http, clock, f"{user}:{password}")
        self._clock = clock
        self._regions = dict(regions)

    @property
    def info(self) -> SourceInfo:
        """Marginal emissions of power stations, without their life cycle."""
        return SourceInfo(
            name=_NAME,
            zone_ids=frozenset(self._regions),
            signal=SignalKind.MARGINAL,
            scopes={zone: frozenset({Scope.DIRECT}) for zone in self._regions},
            horizon_s=_HORIZON_H * 3600,
            step_s=_STEP_S,
            cadence_s=300,
            attribution="Marginal emissions data by WattTime",
            is_live=True,
            history_s=2 * 366 * 86_400,
            quota=Quota(requests=3000, per_s=300),
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """The newest forecast, up to 72 h from when it was made."""
        region, now = self._region(zone_id, scope), self._clock.now()
        hours = math.ceil((window.end_at + _LAG - now) / timedelta(hours=1))
        body = self._get(
            Answer(_NAME, zone_id),
            "/v3/forecast",
            region,
            horizon_hours=str(min(max(hours, 1), _HORIZON_H)),
        )
        return parse_forecast(body, zone_id=zone_id, region=region, asked=window, now=now)

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Marginal emissions of the past, as the model has them today."""
        region, answer = self._region(zone_id, scope), Answer(_NAME, zone_id)
        bodies = [
            self._get(answer, "/v3/historical", region, start=start, end=end)
            for start, end in pages(window, step_s=_STEP_S, longest=_LONGEST)
        ]
        return parse_historical(bodies, zone_id=zone_id, region=region, asked=window)

    def find_region(self, latitude: float, longitude: float) -> str | None:
        """The region at a place in degrees, None where there is none. Borders move: ask monthly."""
        answer = Answer(_NAME, f"{latitude:.4f},{longitude:.4f}")
        query = {"signal_type": _SIGNAL, "latitude": str(latitude), "longitude": str(longitude)}
        try:
            body = self._session.get_json("/v3/region-from-loc", query)
        except ForecastUnavailableError as error:
            if "no coverage" in str(error.fields.get("answer")).lower():
                return None
            raise answer.failed(error) from error
        place = answer.validated(_PLACE, body)
        if place.signal_type != _SIGNAL:
            raise answer.rejected(f"signal_type {place.signal_type!r:.80} instead of {_SIGNAL}")
        return place.region

    def _region(self, zone_id: str, scope: Scope) -> str:
        require_served(self.info, zone_id, scope)
        return self._regions[zone_id]

    def _get(self, answer: Answer, path: str, region: str, **params: str) -> object:
        query = {"region": region, "signal_type": _SIGNAL, **params}
        try:
            return self._session.get_json(path, query)
        except ForecastUnavailableError as error:
            is_plan = error.fields.get("status") == 403 and not _is_login_refused(error)
            meaning = f"the account has no access to {path} for region {region}"
            raise answer.failed(error, meaning if is_plan else None) from error


def parse_forecast(
    body: object, *, zone_id: str, region: str, asked: Window, now: datetime
) -> IntensitySeries:
    """The series of a `/v3/forecast` reply, as far as it shares time with the window.

    Raises:
        ForecastRejectedError: another shape, region, signal, unit or time, or impossible values.
        ForecastUnavailableError: no value.
    """
    answer = Answer(_NAME, zone_id)
    reply = _reply(answer, body, region)
    made_at = None
    if reply.meta.generated_at is not None:
        made_at = answer.instant(reply.meta.generated_at)
        answer.require_young(made_at, now, _STALE_AFTER)
    return _series(answer, [reply], asked, _provenance([reply], Quality.FORECAST, made_at))


def parse_historical(
    bodies: Iterable[object], *, zone_id: str, region: str, asked: Window
) -> IntensitySeries:
    """The series of the pages of a `/v3/historical` reply. Raises as `parse_forecast` does."""
    answer = Answer(_NAME, zone_id)
    replies = [_reply(answer, body, region) for body in bodies]
    return _series(answer, replies, asked, _provenance(replies, Quality.ESTIMATED))


def _reply(answer: Answer, body: object, region: str) -> _Reply:
    reply = answer.validated(_REPLY, body)
    for field, wanted in (("region", region), ("signal_type", _SIGNAL), ("units", _UNITS)):
        given = getattr(reply.meta, field)
        if given != wanted:
            raise answer.rejected(f"meta.{field} {given!r:.80} instead of {wanted}")
    return reply


def _series(
    answer: Answer, replies: Iterable[_Reply], asked: Window, provenance: Provenance
) -> IntensitySeries:
    points = []
    for reply in replies:
        step_s = reply.meta.data_point_period_seconds
        for one in reply.data:
            start_s = epoch_s(answer.instant(one.point_time, step_s=step_s))
            grams = None if one.value is None else one.value * _KG_PER_LB
            points.append(Point(start_s, start_s + step_s, grams))
    return answer.series(points, asked, provenance)


def _provenance(
    replies: Iterable[_Reply], quality: Quality, made_at: datetime | None = None
) -> Provenance:
    """With the model's date: another model is another level of values."""
    dates = sorted({reply.meta.model.date for reply in replies if reply.meta.model})
    model = f" model {' and '.join(dates)}"[:80] if dates else ""
    return Provenance(
        source=f"{_NAME} {_SIGNAL}{model}",
        signal=SignalKind.MARGINAL,
        scope=Scope.DIRECT,
        quality=quality,
        issued_at=made_at,
    )


class _Session:
    """Asks with a token, logging in when there is none, it is old, or the server refuses it."""

    def __init__(self, http: HttpClient, clock: Clock, credentials: str) -> None:
        self._http = http
        self._clock = clock
        self._basic = "Basic " + base64.b64encode(credentials.encode()).decode()
        self._token: str | None = None
        self._renew_at = clock.now()
        self._lock = threading.Lock()

    def get_json(self, path: str, params: Mapping[str, str]) -> object:
        """As the HTTP client does, with one more try after a new login where the token is refused."""
        token = self._valid_token()
        try:
            return self._ask(path, params, token)
        except ForecastUnavailableError as error:
            if not _is_login_refused(error):
                raise
        return self._ask(path, params, self._valid_token(refused=token))

    def _ask(self, path: str, params: Mapping[str, str], token: str) -> object:
        return self._http.get_json(path, params, headers={"Authorization": f"Bearer {token}"})

    def _valid_token(self, *, refused: str | None = None) -> str:
        with self._lock:
            now = self._clock.now()
            if self._token is None or self._token == refused or now >= self._renew_at:
                self._token, self._renew_at = self._login(), now + _TOKEN_LIFE
            return self._token

    def _login(self) -> str:
        try:
            body = self._http.get_json("/login", headers={"Authorization": self._basic})
        except ForecastUnavailableError as error:
            if not _is_login_refused(error):
                raise
            raise ForecastUnavailableError(
                f"the login was refused ({error.fields['status']}); check user and password"
            ) from error
        token = body.get("token") if isinstance(body, dict) else None
        # Never shown: whatever came may hold a token.
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ForecastUnavailableError("the reply to the login has no token")
        return token


def _is_login_refused(error: ForecastUnavailableError) -> bool:
    """True for 401, and for the web server's own page with 403 that comes in its place."""
    status, answer = error.fields.get("status"), str(error.fields.get("answer", ""))
    return status == 401 or (status == 403 and answer.lstrip().startswith("<"))
