"""A clock that tests set."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class ManualClock:
    """Time stands still until it is moved."""

    at: datetime = field(default_factory=lambda: datetime(2026, 3, 2, tzinfo=UTC))

    def now(self) -> datetime:
        return self.at

    def at_wall(self, wall_s: float) -> datetime:
        return datetime.fromtimestamp(wall_s, UTC)

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)
