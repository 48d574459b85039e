"""Time, as the service sees it."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time of the service: real, or running fast for the demo and simulations."""

    def now(self) -> datetime:
        """The present instant, aware UTC. Stands still rather than go backwards, within reason."""
        ...

    def at_wall(self, wall_s: float) -> datetime:
        """The service's time at a wall-clock instant in Unix seconds, such as a file's mtime."""
        ...
