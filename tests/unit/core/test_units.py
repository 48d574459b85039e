"""Durations as people write them."""

import pytest

from scheduler.core.errors import InvalidInputError
from scheduler.core.units import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4h", 14_400),
        ("90m", 5400),
        ("1h30m", 5400),
        (" 1H 30M ", 5400),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("PT4H", 14_400),
        ("P1DT2H", 93_600),
        ("45s", 45),
        ("1d2h3m4s", 93_784),
        ("366d", 366 * 86_400),
    ],
)
def test_duration_forms(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("4", "has no unit"),
        ("-4", "has no unit"),
        ("", "is not a duration"),
        ("P", "is not a duration"),
        ("PT", "is not a duration"),
        ("4 hours", "is not a duration"),
        ("-4h", "is not a duration"),
        ("1m1h", "is not a duration"),
        ("nan h", "is not a duration"),
        ("0h", "longer than 0 s"),
        ("0.1s", "longer than 0 s"),
        ("367d", "at most 366 days"),
        ("9" * 400 + "d", "at most 366 days"),
    ],
)
def test_wrong_duration_names_field_value_and_form(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        parse_duration(text, field="slack")
    assert caught.value.fields["field"] == "slack"
    assert caught.value.fields["value"] == text
    assert "4h" in str(caught.value.fields["valid"])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (5400, "1h30m"), (-60, "-1m"), (93_784, "1d2h3m4s")]
)
def test_duration_is_written_in_its_shortest_form(seconds: int, text: str) -> None:
    assert format_duration(seconds) == text
