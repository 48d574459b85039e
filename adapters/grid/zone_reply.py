"""What a reply about one zone becomes: a series on a uniform grid, or a refusal that names the fault."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope
from scheduler.core.names import suggest
from scheduler.core.timegrid import Window, format_instant
from scheduler.ports import SourceInfo

Point = tuple[int, float | None]
"""Start of an interval in seconds since the Unix epoch; grams CO2e per kWh, None for a gap."""
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneReply:
    """A reply about one zone, whose intervals are all equally long and begin at multiples of that.

    Args:
        step_s: length of an interval.
        provenance: of all its values. A forecast must have a value, the past may be a gap.
    """

    zone_id: str
    step_s: int
    provenance: Provenance

    def rejected(self, why: str) -> ForecastRejectedError:
        """The error for an answer that cannot be true."""
        source = self.provenance.source
        return ForecastRejectedError(f"{source}: {why}", zone=self.zone_id, source=source)

    def unavailable(self, why: str) -> ForecastUnavailableError:
        """The error for an answer that is of no use."""
        source = self.provenance.source
        return ForecastUnavailableError(f"{source}: {why}", zone=self.zone_id, source=source)

    def shaped(self, model: type[_Model], body: object) -> _Model:
        """The body in the shape of that model.

        Raises:
            ForecastRejectedError: it has another shape; names the first field and what it holds.
        """
        try:
            return model.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the reply"
            raise self.rejected(f"{where}: {first['msg']}, not {first['input']!r:.80}") from error

    def series(self, points: Iterable[Point], window: Window) -> IntensitySeries:
        """The points of the window, from the interval that holds its start to the last known one.

        Order does not matter; null, and intervals that are missing, are gaps; what lies outside the
        window is left out.

        Raises:
            ForecastRejectedError: a value that cannot be, two values or an odd time for one
                interval, or a forecast of another time.
            ForecastUnavailableError: no points at all, or a forecast without one value.
        """
        known = self._merged(points)
        if not known:
            raise self.unavailable("the reply is empty")
        first_s = math.floor(window.start_at.timestamp() / self.step_s) * self.step_s
        stop_s = max(window.end_at.timestamp(), first_s + 1)
        inside = [at_s for at_s in known if first_s <= at_s < stop_s]
        if self.provenance.quality is Quality.FORECAST:
            self._require_value(known, inside, window)
        last_s = max(inside, default=first_s)
        starts = np.arange(first_s, last_s + self.step_s, self.step_s, dtype=np.int64)
        values = [known.get(int(at_s)) for at_s in starts]
        return IntensitySeries.from_g_per_kwh(
            self.zone_id,
            np.append(starts, last_s + self.step_s),
            np.array([math.nan if value is None else value for value in values]),
            self.provenance,
        )

    def _merged(self, points: Iterable[Point]) -> dict[int, float | None]:
        known: dict[int, float | None] = {}
        for at_s, value in points:
            if at_s % self.step_s:
                raise self.rejected(f"{instant(at_s)} is not the start of {self.step_s} s")
            if value is not None and not 0 <= value < math.inf:
                raise self.rejected(f"intensity {value} at {instant(at_s)} cannot be true")
            before = known.get(at_s)
            if before is not None and value not in {None, before}:
                raise self.rejected(f"two values for {instant(at_s)}: {before} and {value}")
            known[at_s] = before if value is None else value
        return known

    def _require_value(
        self, known: dict[int, float | None], inside: list[int], window: Window
    ) -> None:
        if not inside:
            raise self.rejected(
                f"asked from {format_instant(window.start_at)}, answered from "
                f"{instant(min(known))} to {instant(max(known) + self.step_s)}"
            )
        if all(known[at_s] is None for at_s in inside):
            raise self.unavailable(
                f"no value from {format_instant(window.start_at)} to {instant(max(inside))}"
            )


def require_served(info: SourceInfo, zone_id: str, scope: Scope) -> None:
    """Refuses a zone or scope that the source does not declare, with the nearest names."""
    scopes = info.scopes.get(zone_id)
    if scopes is None or scope not in scopes:
        known = f"it has {' and '.join(sorted(scopes))} values" if scopes else ""
        raise ForecastUnavailableError(
            f"{info.name}: no {scope} values for zone {zone_id!r}; "
            + (known or suggest(zone_id, info.zone_ids)),
            zone=zone_id,
            source=info.name,
        )


def instant(at_s: int) -> str:
    """ISO 8601 of an instant in epoch seconds, for messages, however far away it is."""
    try:
        return format_instant(datetime.fromtimestamp(at_s, UTC))
    except (ValueError, OverflowError, OSError):
        return "a time beyond the calendar"
