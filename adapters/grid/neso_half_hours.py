"""Half-hours of NESO's intensity API, the same for the nation and its regions: read, checked, joined."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
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
        source: name of the adapter.
        place: for people.
        may_be_zero: whether there are hours without any emission.
    """

    source: str
    zone_id: str
    place: str
    may_be_zero: bool

    def forecast(self, periods: object, start_at: datetime) -> IntensitySeries:
        """The forecasts among the periods of a reply that was asked from that half-hour on.

        Raises:
            ForecastRejectedError: not of the documented shape, not about that time, or values that
                contradict each other or cannot be.
            ForecastUnavailableError: not one half-hour.
        """
        read = self.read(periods, Window(start_at, start_at + _REACH))
        series = self.series(read, is_forecast=True)
        first_s, stop_s = series.coverage_s
        if not first_s <= start_at.timestamp() < stop_s:
            raise self.rejected(
                f"asked from {format_instant(start_at)}, answered from {_text(first_s)} "
                f"to {_text(stop_s)}"
            )
        return series

    def read(self, periods: object, asked: Window) -> list[HalfHour]:
        """The periods, of which each must be half an hour of the window `asked` or close to it."""
        try:
            read = _HALF_HOURS.validate_python(periods)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(("data", *map(str, first["loc"])))
            raise self.rejected(f"{where}: {first['msg']}, not {first['input']!r:.80}") from error
        for one in read:
            begins_s, ends_s = self._epoch_s(one.begins), self._epoch_s(one.ends)
            if ends_s - begins_s != STEP_S or begins_s % STEP_S:
                raise self.rejected(f"{one.begins} to {one.ends} is not half an hour of the clock")
            before_s = asked.start_at.timestamp() - begins_s
            if before_s > STALE_AFTER.total_seconds() or begins_s > asked.end_at.timestamp():
                raise self.rejected(
                    f"asked for {format_instant(asked.start_at)} to {format_instant(asked.end_at)}, "
                    f"answered for {one.begins}" + (": stale" if before_s > 0 else "")
                )
        return read

    def series(self, read: list[HalfHour], *, is_forecast: bool) -> IntensitySeries:
        """Their forecasts or actual values; null, and half-hours that are missing, are gaps."""
        if not read:
            raise ForecastUnavailableError(
                f"{self.source}: the reply is empty", zone=self.zone_id, source=self.source
            )
        known = self._known(read, is_forecast=is_forecast)
        if is_forecast and not known:
            raise self.rejected("every value is null")
        every_s = [self._epoch_s(one.begins) for one in read]
        starts = np.arange(min(every_s), max(every_s) + STEP_S, STEP_S, dtype=np.int64)
        return IntensitySeries.from_g_per_kwh(
            self.zone_id,
            np.append(starts, starts[-1] + STEP_S),
            np.array([known.get(int(at), float("nan")) for at in starts]),
            Provenance(
                source=self.source,
                signal=SignalKind.AVERAGE,
                scope=Scope.DIRECT,
                quality=Quality.FORECAST if is_forecast else Quality.ESTIMATED,
            ),
        )

    def rejected(self, why: str) -> ForecastRejectedError:
        """The error for an answer that cannot be true."""
        return ForecastRejectedError(f"{self.source}: {why}", zone=self.zone_id, source=self.source)

    def _known(self, read: list[HalfHour], *, is_forecast: bool) -> dict[int, float]:
        known: dict[int, float] = {}
        for one in read:
            value = one.intensity.forecast if is_forecast else one.intensity.actual
            if value is None:
                continue
            if not 0 <= value <= 1000 or (value == 0 and not self.may_be_zero):
                raise self.rejected(
                    f"intensity {value} at {one.begins} cannot be true for {self.place}"
                )
            if known.setdefault(self._epoch_s(one.begins), value) != value:
                raise self.rejected(f"two values for {one.begins}")
        return known

    def _epoch_s(self, text: str) -> int:
        try:
            return int(datetime.strptime(text, _FORMAT).replace(tzinfo=UTC).timestamp())
        except ValueError as error:
            raise self.rejected(f"time {text!r} is not of the form YYYY-MM-DDThh:mmZ") from error


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


def _text(at_s: int) -> str:
    return format_instant(datetime.fromtimestamp(at_s, UTC))
