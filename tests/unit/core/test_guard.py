"""The start that a cluster is given, so that a job begins in time by itself."""

from datetime import timedelta

import pytest

from scheduler.core.guard import guard_at, latest_start_at
from tests.unit.core.builders import T0, at, job


@pytest.mark.parametrize(
    ("fields", "hours"),
    [
        ({}, 20),
        ({"duration_p95_s": 5 * 3600}, 19),
        ({"start_by_at": at(2)}, 2),
        ({"start_by_at": at(23)}, 20),
    ],
)
def test_latest_start_leaves_room_for_a_long_run(fields: dict[str, object], hours: float) -> None:
    # Four hours, to be done in a day.
    assert latest_start_at(job(**fields)) == at(hours)


def test_guard_comes_two_minutes_before_in_whole_seconds() -> None:
    latest = T0 + timedelta(minutes=30, seconds=1, microseconds=9)
    assert guard_at(latest, earliest_at=T0) == T0 + timedelta(minutes=28, seconds=1)


def test_guard_is_never_before_the_job_may_start() -> None:
    assert guard_at(T0 + timedelta(seconds=119), earliest_at=T0) == T0
