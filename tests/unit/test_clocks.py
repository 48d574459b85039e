"""Clocks: what happens when the wall clock jumps."""

from datetime import UTC, datetime, timedelta

from adapters.clocks import FastClock, SystemClock

T = datetime(2026, 3, 2, tzinfo=UTC)


def test_time_stands_still_while_a_clock_that_was_set_back_catches_up() -> None:
    walls = iter([100.0, 40.0, 99.0, 101.0])
    clock = SystemClock(lambda: next(walls))
    assert [clock.now().timestamp() for _ in range(4)] == [100, 100, 100, 101]


def test_clock_that_was_hours_ahead_is_followed_back() -> None:
    walls = iter([1_000_000.0, 100.0, 101.0])
    clock = SystemClock(lambda: next(walls))
    assert [clock.now().timestamp() for _ in range(3)] == [1_000_000, 100, 101]


def test_fast_clock_counts_from_its_anchor() -> None:
    clock = FastClock(origin_at=T, anchor_wall_s=1000.0, speed=60)
    assert clock.at_wall(1010.0) == T + timedelta(minutes=10)
    assert clock.now() > T
