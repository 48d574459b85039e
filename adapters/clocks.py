"""Clocks: the real one, and one that runs fast from a fixed anchor."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        """The present instant."""
        return self.at_wall(time.time())  # noqa: TID251 - this is the system clock

    def at_wall(self, wall_s: float) -> datetime:
        """The same instant: service time is wall time."""
        return datetime.fromtimestamp(wall_s, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class FastClock:
    """Time that runs `speed` times as fast as real time.

    Args:
        origin_at: service time at the anchor.
        anchor_wall_s: Unix seconds of the anchor; kept in the settings, so that a restart of the
            service does not set the clock back.
        speed: service seconds per real second.
    """

    origin_at: datetime
    anchor_wall_s: float
    speed: float

    def now(self) -> datetime:
        """The present instant in service time."""
        return self.at_wall(time.time())  # noqa: TID251 - this is a clock

    def at_wall(self, wall_s: float) -> datetime:
        """Service time at a wall-clock instant."""
        return self.origin_at + timedelta(seconds=(wall_s - self.anchor_wall_s) * self.speed)
