"""Half-hours of NESO's intensity API, the same for the nation and its regions: read, checked, joined."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from adapters.grid.answer import Answer, Point, instant_text
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window, format_instant

ATTRIBUTION: Final = (
    "Carbon Intensity API of NESO (CC BY 4.0). Supported by National Energy SO Open Data"
)
STEP: Final = timedelta(minutes=30)
STEP_S: Final = 1800
STALE_AFTER: Final = timedelta(minutes=90)
_FORMAT: Final = "%Y-%m-%dT%H:%MZ"
_REACH: Final = timedelta(hours=48)


class _Figures(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)
    forecast: float | None = None
    actual: float | None = None


class HalfHour(BaseModel):
    """One period of a reply."""

    model_config = ConfigDict(extra="ignore")
    intensity: _Figures
    # Texts without seconds; strptime checks them.
    begins: str = Field(alias="from")
    ends: str = Field(alias="to")


_HALF_HOURS: Final = TypeAdapter(list[HalfHour])


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfHours:
    """Reads the half-hours of one zone.

    Args:
        answer: names the adapter and the zone.
        place: for people.
        may_be_zero: whether there are hours without any emission.
    """

    answer: Answer
    place: str
    may_be_zero: bool

    def forecast(self, periods: object, start_at: datetime) -> IntensitySeries:
        """The forecasts among the periods of a reply that was asked from that half-hour on.

        Raises:
            ForecastRejectedError: not of the documented shape, not about that time, or values that
                contradict each other or cannot be.
            ForecastUnavailableError: not one half-hour, or none with a value.
        """
        asked = Window(start_at, start_at + _REACH)
        series = self.series(self.read(periods, asked), asked, Quality.FORECAST)
        first_s, stop_s = series.coverage_s
        if start_at.timestamp() < first_s:
            raise self.answer.rejected(
                f"asked from {format_instant(start_at)}, answered from {instant_text(first_s)} "
                f"to {instant_text(stop_s)}"
            )
        return series

    def read(self, periods: object, asked: Window) -> list[HalfHour]:
        """The periods, of which each must be half an hour of the window `asked` or close to it."""
        read = self.answer.validated(_HALF_HOURS, periods, under=("data",))
        for one in read:
            begins_s, ends_s = self._epoch_s(one.begins), self._epoch_s(one.ends)
            if ends_s - begins_s != STEP_S or begins_s % STEP_S:
                raise self.answer.rejected(
                    f"{one.begins} to {one.ends} is not half an hour of the clock"
                )
            before_s = asked.start_at.timestamp() - begins_s
            if before_s > STALE_AFTER.total_seconds() or begins_s > asked.end_at.timestamp():
                raise self.answer.rejected(
                    f"asked for {format_instant(asked.start_at)} to {format_instant(asked.end_at)}, "
                    f"answered for {one.begins}" + (": stale" if before_s > 0 else "")
                )
        return read

    def series(self, read: list[HalfHour], asked: Window, quality: Quality) -> IntensitySeries:
        """Their forecasts or actual values in the window; null, and what is missing, are gaps."""
        provenance = Provenance(
            source=self.answer.source,
            signal=SignalKind.AVERAGE,
            scope=Scope.DIRECT,
            quality=quality,
        )
        return self.answer.series([self._point(one, quality) for one in read], asked, provenance)

    def _point(self, one: HalfHour, quality: Quality) -> Point:
        figures = one.intensity
        value = figures.forecast if quality is Quality.FORECAST else figures.actual
        is_possible = value is None or 0 < value <= 1000 or (value == 0 and self.may_be_zero)
        if not is_possible:
            raise self.answer.rejected(
                f"intensity {value} at {one.begins} cannot be true for {self.place}"
            )
        return self.answer.interval(self._epoch_s(one.begins), STEP_S, value)

    def _epoch_s(self, text: str) -> int:
        try:
            return int(datetime.strptime(text, _FORMAT).replace(tzinfo=UTC).timestamp())
        except ValueError as error:
            raise self.answer.rejected(
                f"time {text!r} is not of the form YYYY-MM-DDThh:mmZ"
            ) from error


def floor(at: datetime) -> datetime:
    """The start of the half-hour that holds the instant."""
    return at.replace(minute=at.minute - at.minute % 30, second=0, microsecond=0)


def ceil(at: datetime) -> datetime:
    """The first start of a half-hour that is not before the instant."""
    start_at = floor(at)
    return start_at if start_at == at else start_at + STEP


def path_from(start_at: datetime) -> str:
    """How a request names the half-hour to begin with.

    One minute past the border: on it, the half-hour that ends there would come first.
    """
    return (start_at + timedelta(minutes=1)).strftime(_FORMAT)


def path_to(end_at: datetime) -> str:
    """How a request names its end."""
    return end_at.strftime(_FORMAT)
