"""Energy-Charts by Fraunhofer ISE: average intensity of European countries, to the next day, no key.

It states grams of CO2 *equivalent* per kWh of a country's public generation and no more. The scope is
declared as life-cycle on the strength of that unit alone: the provider's text on the method was not
at hand. `/co2eq` itself is not among the documented endpoints, though their rules of countries and
times hold for it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from adapters.grid.answer import Answer, Point, instant_text, require_served
from adapters.http_client import HttpClient
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window, format_instant
from scheduler.ports import SourceInfo

DEFAULT_URL: Final = "https://api.energy-charts.info"
_NAME: Final = "energy_charts"
_STEP_S: Final = 900
_HOUR: Final = timedelta(hours=1)
_FORMAT: Final = "%Y-%m-%dT%H:%MZ"
_REACH: Final = timedelta(days=4)
"""Beyond any forecast seen."""
_PAGE: Final = timedelta(days=92)
"""Of actual values a request. No limit is stated; whole years have been fetched at once."""
ZONES: Final = frozenset(
    {
        *("AT", "BA", "BE", "BG", "CH", "CY", "CZ", "DE", "EE", "ES", "FI", "FR", "GR", "HR", "HU"),
        *("IE", "IT", "LT", "LU", "LV", "MD", "ME", "MK", "NL", "PL", "PT", "RO", "RS", "SI", "SK"),
        "XK",
    }
)
"""Countries that the API lists and that are one zone, by the code that both share in another case.

Left out: DK, NO and SE, whose zones differ too much for one number; `uk`, which is not GB; and the
countries east of these, whose generation is not reported. IT is the whole country, not IT-NO.
"""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)
    unix_seconds: list[int] | None
    co2eq: list[float | None] | None = None
    co2eq_forecast: list[float | None] | None = None


_REPLY: Final = TypeAdapter(_Reply)


class EnergyCharts:
    """A `ForecastSource` and `HistorySource` for the countries in `ZONES`.

    Reported and forecast values come in one reply and are kept apart: actuals are the reported ones
    only, forecasts the forecast ones only, so that a provenance is true for all it stands on.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    @property
    def info(self) -> SourceInfo:
        """Countries, life-cycle; forecasts end tonight at worst, tomorrow night after midday."""
        return SourceInfo(
            name=_NAME,
            zone_ids=ZONES,
            signal=SignalKind.AVERAGE,
            scopes=dict.fromkeys(ZONES, frozenset({Scope.LIFECYCLE})),
            horizon_s=11 * 3600,
            step_s=_STEP_S,
            cadence_s=1800,
            attribution="Energy-Charts.info by Fraunhofer ISE (CC BY 4.0)",
            is_live=True,
            history_s=366 * 86_400,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Forecast quarters of an hour from the window's start to its end, or as far as there are."""
        require_served(self.info, zone_id, scope)
        window = Window(window.start_at, min(window.end_at, window.start_at + _REACH))
        return parse_co2eq(self._body(zone_id, window), zone_id, window, is_forecast=True)

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Reported quarters of an hour of the window; gaps where none is reported yet."""
        require_served(self.info, zone_id, scope)
        answer, points = Answer(_NAME, zone_id), list[Point]()
        low = _hour(window.start_at)
        stop = max(_hour(window.end_at) + _HOUR, low + _HOUR)
        while low < stop:
            page = Window(low, min(low + _PAGE, stop))
            within = range(*(int(at.timestamp()) for at in (page.start_at, page.end_at)))
            quarters = _quarters(answer, self._body(zone_id, page), page, Quality.ESTIMATED)
            # What was revised between two requests must not contradict itself.
            points += [point for point in quarters if point.start_s in within]
            low = page.end_at
        return answer.series(points, window, _provenance(Quality.ESTIMATED))

    def _body(self, zone_id: str, window: Window) -> object:
        asked = _asked(window)
        return self._http.get_json(
            "/co2eq",
            {
                "country": zone_id.lower(),
                "start": asked.start_at.strftime(_FORMAT),
                "end": asked.end_at.strftime(_FORMAT),
            },
        )


def parse_co2eq(
    body: object, zone_id: str, window: Window, *, is_forecast: bool
) -> IntensitySeries:
    """The forecast values, or the reported ones, of a reply that was fetched for that window.

    Hourly values fill their four quarters. Zeros and negative values stand for missing ones here.

    Raises:
        ForecastRejectedError: not of the known shape, for another time, or contradicting itself.
        ForecastUnavailableError: nothing in it, or no forecast.
    """
    answer, quality = Answer(_NAME, zone_id), Quality.FORECAST if is_forecast else Quality.ESTIMATED
    points = _quarters(answer, body, window, quality)
    return answer.series(points, window, _provenance(quality))


def _provenance(quality: Quality) -> Provenance:
    return Provenance(
        source=_NAME, signal=SignalKind.AVERAGE, scope=Scope.LIFECYCLE, quality=quality
    )


def _asked(window: Window) -> Window:
    """Whole hours around the window, and the one before: its distance shows how long values hold."""
    return Window(_hour(window.start_at) - _HOUR, _hour(window.end_at) + _HOUR)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _quarters(answer: Answer, body: object, window: Window, quality: Quality) -> list[Point]:
    """Each value at every quarter of an hour that it holds for, of the hours that were asked for."""
    axis, values = _columns(answer, body, quality)
    asked = _asked(window)
    low_s, high_s = int(asked.start_at.timestamp()), int(asked.end_at.timestamp())
    if axis and not any(low_s <= at_s <= high_s for at_s in axis):
        raise answer.rejected(
            f"asked for {format_instant(asked.start_at)} to {format_instant(asked.end_at)}, "
            f"answered for {instant_text(min(axis))} to {instant_text(max(axis))}: stale"
        )
    holds = _lengths(axis)
    return [
        answer.interval(quarter_s, _STEP_S, value if value and value > 0 else None)
        for at_s, value in zip(axis, values, strict=True)
        for quarter_s in range(at_s, at_s + holds[at_s], _STEP_S)
        if low_s <= at_s <= high_s
    ]


def _columns(
    answer: Answer, body: object, quality: Quality
) -> tuple[list[int], Sequence[float | None]]:
    reply = answer.validated(_REPLY, body)
    name = "co2eq_forecast" if quality is Quality.FORECAST else "co2eq"
    axis = reply.unix_seconds or []
    values: list[float | None] | None = getattr(reply, name)
    if values is None:
        raise answer.unavailable(f"the reply has no {name}")
    if len(values) != len(axis):
        raise answer.rejected(f"{len(values)} values of {name} for {len(axis)} unix_seconds")
    return axis, values


def _lengths(axis: Sequence[int]) -> dict[int, int]:
    """The seconds that the value at each start holds for: a quarter of an hour, or up to an hour.

    The nearer of its neighbours decides, so that a hole in the axis stretches nothing.
    """
    starts = sorted(set(axis))
    if len(starts) < 2:
        return dict.fromkeys(starts, _STEP_S)
    gaps = [after - before for before, after in pairwise(starts)]
    neighbours = zip(starts, [3600, *gaps], [*gaps, 3600], strict=True)
    return {at_s: min(before_s, after_s, 3600) for at_s, before_s, after_s in neighbours}
