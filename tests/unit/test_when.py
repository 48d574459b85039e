"""Deadlines as people say them, on a Wednesday morning in Berlin."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from scheduler.core.errors import InvalidInputError
from scheduler.server.when import parse_when

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)  # Wednesday 10:30 in Berlin


def _when(text: str, now: datetime = NOW) -> str:
    return parse_when(text, now=now, zone=BERLIN).isoformat().removesuffix("+00:00")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("friday 09:00", "2026-11-27T08:00:00"),
        ("Fri 9:00", "2026-11-27T08:00:00"),
        ("wednesday 11:00", "2026-11-25T10:00:00"),
        ("wednesday 10:30", "2026-12-02T09:30:00"),
        ("tuesday 09:00", "2026-12-01T08:00:00"),
        ("next friday 09:00", "2026-12-04T08:00:00"),
        ("next monday 08:00", "2026-11-30T07:00:00"),
        ("tomorrow 18:00", "2026-11-26T17:00:00"),
        ("today 23:00", "2026-11-25T22:00:00"),
        ("11:00", "2026-11-25T10:00:00"),
        ("10:30", "2026-11-26T09:30:00"),
        ("+12h", "2026-11-25T21:30:00"),
        ("in 90m", "2026-11-25T11:00:00"),
        ("2026-11-27T09:00:00+01:00", "2026-11-27T08:00:00"),
        ("  friday   09:00 ", "2026-11-27T08:00:00"),
    ],
)
def test_what_people_say_means_one_instant(text: str, instant: str) -> None:
    assert _when(text) == instant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("soon", "is not a time"),
        ("friday", "is not a time"),
        ("", "is not a time"),
        ("2026-11-27T09:00:00", "has no offset"),
        ("2026-11-27", "has no offset"),
        ("friday 25:00", "has no such time of day"),
        ("someday 09:00", "names no day"),
        ("t 09:00", "names no day"),
        ("today 09:00", "is in the past"),
        ("+12", "no unit"),
    ],
)
def test_anything_else_is_refused_with_the_forms(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        _when(text)
    assert caught.value.fields["field"] == "deadline"


def test_time_that_the_clocks_skip_does_not_exist() -> None:
    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
    with pytest.raises(InvalidInputError, match="does not exist on that day"):
        _when("sunday 02:30", spring)
    assert _when("sunday 03:30", spring) == "2026-03-29T01:30:00"


def test_time_that_comes_twice_means_the_first() -> None:
    autumn = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert _when("sunday 02:30", autumn) == "2026-10-25T00:30:00"
