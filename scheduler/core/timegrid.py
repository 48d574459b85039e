"""Time: aware UTC at the edges, integer slots inside. Only this module rounds."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from scheduler.core.errors import InvalidInputError

FIRST_YEAR: Final = 1000
LAST_YEAR: Final = 9000


def as_utc(at: datetime, *, field: str = "time") -> datetime:
    """The same instant in UTC.

    Raises:
        InvalidInputError: the time has no offset, so its instant is unknown; or none in UTC.
    """
    if at.tzinfo is UTC:  # by far the most are
        return at
    if at.tzinfo is None:
        raise InvalidInputError(
            f"{field}: {at.isoformat()} has no time zone; add an offset, such as 2026-11-27T09:00:00+01:00 or ...Z",
            field=field,
            value=at.isoformat(),
            valid="ISO 8601 with an offset",
        )
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise _beyond(at, field) from error


def within_reach(at: datetime, *, field: str) -> datetime:
    """The same instant in UTC, well within what can be reckoned with, whatever is added to it or taken from it.

    Raises:
        InvalidInputError: it is centuries away, or has no offset.
    """
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise _beyond(at, field)
    return as_utc(at, field=field)


def _beyond(at: datetime, field: str) -> InvalidInputError:
    valid = f"a time from the year {FIRST_YEAR} to {LAST_YEAR}"
    return InvalidInputError(
        f"{field}: {at.isoformat()} is not {valid}", field=field, value=at.isoformat(), valid=valid
    )


def whole_second_up(at: datetime) -> datetime:
    """The instant, or the next whole second after it."""
    return (as_utc(at) + timedelta(microseconds=999_999)).replace(microsecond=0)


def parse_instant(text: str, *, field: str = "time") -> datetime:
    """The UTC instant of an ISO 8601 text with an offset.

    Raises:
        InvalidInputError: not ISO 8601, or without an offset.
    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInputError(
            f"{field}: {text!r} is not an ISO 8601 time; write it like 2026-11-27T09:00:00+01:00",
            field=field,
            value=text,
            valid="ISO 8601 with an offset",
        ) from error
    return as_utc(at, field=field)


def format_instant(at: datetime) -> str:
    """ISO 8601 in UTC with `Z`, to the second, or to the microsecond where there is a fraction."""
    return f"{as_utc(at).isoformat()[: -len('+00:00')]}Z"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Half-open stretch of time `[start_at, end_at)`, aware UTC."""

    start_at: datetime
    end_at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_at", as_utc(self.start_at, field="start_at"))
        object.__setattr__(self, "end_at", as_utc(self.end_at, field="end_at"))
        if self.end_at < self.start_at:
            raise InvalidInputError(
                f"window ends at {format_instant(self.end_at)}, before its start {format_instant(self.start_at)}",
                field="end_at",
                value=format_instant(self.end_at),
            )

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_at - self.start_at).total_seconds()


def covering(windows: Iterable[Window]) -> Window:
    """The shortest window that holds all of them. Raises ValueError where there is none."""
    ordered = sorted(windows)
    return Window(ordered[0].start_at, max(window.end_at for window in ordered))


@dataclass(frozen=True, slots=True)
class SlotGrid:
    """Equal slots from `origin_at`: slot i is `[origin + i*slot_s, origin + (i+1)*slot_s)`.

    Args:
        origin_at: aware UTC; must lie on a multiple of `slot_s` since the epoch, so that grids made
            at different times share their borders.
        slot_s: length of a slot in seconds; must divide one day.
        n_slots: how many slots the horizon has.
    """

    origin_at: datetime
    slot_s: int
    n_slots: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin_at", as_utc(self.origin_at, field="origin_at"))
        if self.slot_s <= 0 or 86_400 % self.slot_s:
            raise InvalidInputError(
                f"slot: {self.slot_s} s does not divide a day; use 1m, 5m, 15m, 30m or 1h",
                field="slot",
                value=self.slot_s,
            )
        if self.n_slots <= 0:
            raise InvalidInputError(
                f"horizon: {self.n_slots} slots; at least one is needed",
                field="horizon",
                value=self.n_slots,
            )
        if self.origin_at.timestamp() % self.slot_s:
            raise InvalidInputError(
                f"origin_at: {format_instant(self.origin_at)} is not on a border of {self.slot_s} s slots",
                field="origin_at",
                value=format_instant(self.origin_at),
            )

    @classmethod
    def around(cls, now: datetime, *, slot_s: int, horizon_s: int) -> "SlotGrid":
        """The grid whose first slot holds `now` and that reaches at least `horizon_s` beyond it."""
        now_s = int(as_utc(now, field="now").timestamp())
        origin_s = now_s - now_s % slot_s if slot_s > 0 else now_s
        n_slots = -(-(now_s + horizon_s - origin_s) // slot_s) if slot_s > 0 else 0
        return cls(datetime.fromtimestamp(origin_s, UTC), slot_s, n_slots)

    def finer(self, finest_s: int) -> "SlotGrid":
        """The same time in equal parts of these slots, none longer than `finest_s` needs."""
        part_s = max(s for s in range(1, min(finest_s, self.slot_s) + 1) if self.slot_s % s == 0)
        return SlotGrid(self.origin_at, part_s, self.horizon_s // part_s)

    @property
    def end_at(self) -> datetime:
        """First instant after the horizon."""
        return self.at(self.horizon_s)

    @property
    def horizon_s(self) -> int:
        """Length of the whole grid in seconds."""
        return self.slot_s * self.n_slots

    def at(self, offset_s: float) -> datetime:
        """The instant `offset_s` seconds after the origin."""
        return self.origin_at + timedelta(seconds=offset_s)

    def offset_up_s(self, at: datetime) -> int:
        """Whole seconds from the origin to `at`, rounded up: for earliest starts and ends of use."""
        return -((self.origin_at - as_utc(at)) // timedelta(seconds=1))

    def offset_down_s(self, at: datetime) -> int:
        """Whole seconds from the origin to `at`, rounded down: for deadlines and coverage."""
        return (as_utc(at) - self.origin_at) // timedelta(seconds=1)

    def slots_touched(self, window: Window) -> slice:
        """The slots that share time with the window, clipped to the horizon."""
        first = self.offset_down_s(window.start_at) // self.slot_s
        stop = -(-self.offset_up_s(window.end_at) // self.slot_s)
        clipped = min(max(first, 0), self.n_slots)
        return slice(clipped, min(max(stop, clipped), self.n_slots))
