"""Clocks: the real one, and one that runs fast from a fixed anchor."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MAX_HELD_S: Final = 3600.0
"""A wall clock set back by more than this was wrong before: it is followed."""


class SystemClock:
    """Real time, which stands still while the wall clock catches up after it was set back."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:  # noqa: TID251 - this is the clock
        self._wall = wall
        self._latest_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The present instant."""
        with self._lock:
            wall_s = self._wall()
            if not 0 <= self._latest_s - wall_s <= MAX_HELD_S:
                self._latest_s = wall_s
            return self.at_wall(self._latest_s)

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
