"""How many jobs were refused in a period, for reports; the work is bounded, however many there were."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.ports import Event, JobStore

_KIND: Final = "refused"
_PAGE: Final = 5_000
MOST: Final = 100_000
"""So many are counted at most; a report says where there were more."""
_SLACK: Final = timedelta(hours=1)
"""Events stand in the order of their writing; the clocks of several processes may differ by so much."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """A number of refused jobs, and whether it is all of them."""

    count: int
    is_complete: bool = True


def count_refusals(
    store: JobStore,
    *,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    most: int = MOST,
) -> Refusals:
    """Refusals in `[from_at, to_at)`; None for no limit on that side."""
    seq = 0 if from_at is None else _last_before(store, from_at - _SLACK)
    count, read = 0, 0
    size = min(_PAGE, most)
    while read < most:
        page = store.events(kind=_KIND, after_seq=seq, limit=size)
        read += len(page)
        count += sum(
            (from_at is None or event.at >= from_at) and (to_at is None or event.at < to_at)
            for event in page
        )
        if len(page) < size or (to_at is not None and page[-1].at >= to_at + _SLACK):
            return Refusals(count)
        seq = page[-1].seq
    return Refusals(count, is_complete=False)


def _last_before(store: JobStore, at: datetime) -> int:
    """A number after which no refusal is older than that instant: found by halves, one event at a time."""

    def next_after(seq: int) -> Event | None:
        return next(iter(store.events(kind=_KIND, after_seq=seq, limit=1)), None)

    def is_older(seq: int) -> bool:
        event = next_after(seq)
        return event is not None and event.at < at

    return _last_true(is_older) + 1 if is_older(0) else 0


def _last_true(holds: Callable[[int], bool]) -> int:
    """The largest number for which it holds; it holds for 0, and from some number on never again."""
    low, high = 0, 1
    while holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
