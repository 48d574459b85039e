"""What keeps jobs waiting: said once, and not tried again at every tick."""

from datetime import timedelta

import pytest

from scheduler.service.obstacles import LONGEST_REST_S, Rests
from tests.unit.core.builders import T0


def rests_after(failures: int) -> Rests:
    rests = Rests()
    for _ in range(failures):
        rests.begin("hpc", "disk full", now=T0)
    return rests


@pytest.mark.parametrize(("failures", "rest_s"), [(1, 2), (2, 4), (5, 32), (6, 60), (2000, 60)])
def test_rest_doubles_with_each_failure_up_to_a_minute(failures: int, rest_s: int) -> None:
    rests = rests_after(failures)
    assert rests.words("hpc", now=T0 + timedelta(seconds=rest_s - 1)) == "disk full"
    assert rests.words("hpc", now=T0 + timedelta(seconds=rest_s)) is None
    assert rest_s <= LONGEST_REST_S


def test_success_ends_the_rest_and_the_next_failure_begins_anew() -> None:
    rests = rests_after(5)
    rests.end("hpc", "job")
    assert rests.words("hpc", now=T0) is None
    rests.begin("hpc", "again", now=T0)
    assert rests.words("hpc", now=T0 + timedelta(seconds=2)) is None


def test_what_is_gone_is_forgotten() -> None:
    rests = rests_after(1)
    rests.begin("job", "full", now=T0)
    rests.keep({"job"})
    assert rests.words("hpc", now=T0) is None
    assert rests.words("job", now=T0) == "full"
