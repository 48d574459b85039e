"""Checks under a deadline: what hangs is named, and not asked over and over."""

import threading
import time

import pytest

from scheduler.core.errors import StoreError
from scheduler.ports import Check
from scheduler.server.timed_checks import TimedChecks

WELL = Check(subject="cycle", is_ok=True, detail="3 ticks")


def well() -> list[Check]:
    return [WELL]


class Hanging:
    """Answers once it is let go."""

    def __init__(self) -> None:
        self.go, self.asked = threading.Event(), 0

    def __call__(self) -> list[Check]:
        self.asked += 1
        assert self.go.wait(30)
        return [Check(subject="store", is_ok=True, detail="there")]


def test_what_hangs_is_named_and_keeps_no_other_from_answering() -> None:
    hanging, timed = Hanging(), TimedChecks()
    began_s = time.monotonic()
    found = timed.ask({"store": hanging, "cycle": well}, within_s=0.1)
    assert time.monotonic() - began_s < 10
    late = Check(subject="store", is_ok=False, detail="no answer within 0.1 s")
    assert found == {"store": [late], "cycle": [WELL]}
    hanging.go.set()


def test_several_that_hang_share_one_deadline() -> None:
    several, timed = {str(number): Hanging() for number in range(20)}, TimedChecks()
    began_s = time.monotonic()
    timed.ask(several, within_s=0.2)
    assert time.monotonic() - began_s < 3  # one after another would take 4 s
    for one in several.values():
        one.go.set()


def test_probes_that_repeat_while_one_hangs_start_no_more_threads() -> None:
    hanging, timed = Hanging(), TimedChecks()
    for _ in range(5):
        timed.ask({"store": hanging}, within_s=0.01)
    assert hanging.asked == 1
    hanging.go.set()
    until_s = time.monotonic() + 30
    while not timed.ask({"store": hanging}, within_s=5)["store"][0].is_ok:
        assert time.monotonic() < until_s
    timed.ask({"store": hanging}, within_s=5)
    assert hanging.asked > 1  # once it has answered it is asked anew


def test_check_that_fails_says_why_and_a_defect_is_not_hidden() -> None:
    def failing() -> list[Check]:
        raise StoreError("the file is gone")

    def broken() -> list[Check]:
        raise ZeroDivisionError

    timed = TimedChecks()
    (said,) = timed.ask({"store": failing}, within_s=30)["store"]
    assert (said.subject, said.is_ok, said.detail) == ("store", False, "the file is gone")
    with pytest.raises(ZeroDivisionError):
        timed.ask({"store": broken}, within_s=30)
