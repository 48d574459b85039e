"""How many refusals a report counts, and that it looks at few others."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.store.sqlite import SqliteStore
from scheduler.ports import Event
from scheduler.server.refusals import Refusals, count_refusals
from tests.unit.service.world import START


class CountedStore(SqliteStore):
    """Counts the events that are read."""

    read = 0

    def events(self, **query: Any) -> list[Event]:
        found = super().events(**query)
        self.read += len(found)
        return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountedStore]:
    """One refusal a day for 100 days, with other events between."""
    made = CountedStore(tmp_path / "gridtide.db")
    for number in range(100):
        at = START + timedelta(days=number)
        made.add_event(Event(at=at, kind="other", job_id=None))
        made.add_event(Event(at=at, kind="refused", job_id=None))
    yield made
    made.close()


def day(number: float) -> datetime:
    return START + timedelta(days=number)


@pytest.mark.parametrize(
    ("begin", "end", "count"),
    [
        (None, None, 100),
        (day(0), None, 100),
        (day(90), None, 10),
        (day(90.01), None, 9),
        (day(-5), day(3), 3),
        (day(40), day(50), 10),
        (None, day(0), 0),
        (day(99), day(99.5), 1),
        (day(200), None, 0),
    ],
)
def test_refusals_of_the_period_are_counted(
    store: CountedStore, begin: datetime | None, end: datetime | None, count: int
) -> None:
    assert count_refusals(store, from_at=begin, to_at=end) == Refusals(count)


def test_refusals_long_before_the_period_are_not_read(store: CountedStore) -> None:
    count_refusals(store, from_at=day(97))
    # 3 in the period; the way there takes one for each doubling and each halving of 200 numbers.
    assert store.read <= 3 + 2 * 9


def test_more_than_the_bound_are_told_as_such(store: CountedStore) -> None:
    assert count_refusals(store, most=60) == Refusals(60, is_complete=False)
    assert store.read == 60
    assert count_refusals(store, from_at=day(50), most=60) == Refusals(50)


def test_store_without_refusals_has_none(tmp_path: Path) -> None:
    empty = SqliteStore(tmp_path / "empty.db")
    assert count_refusals(empty) == count_refusals(empty, from_at=START) == Refusals(0)
    empty.close()
