"""Kinds of fields that documents and settings share, and their base class."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scheduler.core.errors import InvalidInputError
from scheduler.core.timegrid import parse_instant
from scheduler.core.units import MAX_DURATION_S, parse_duration

T = TypeVar("T")
_SECONDS: Final = re.compile(r"(\d+(?:\.\d+)?) ?s?")


def _or_value_error(parse: Callable[[str], T], text: str) -> T:
    """What pydantic understands, so that the error names the whole path of the field."""
    try:
        return parse(text)
    except InvalidInputError as error:
        raise ValueError(error.message.partition(": ")[2]) from error


def _duration_s(value: object) -> int:
    if isinstance(value, str):
        return _or_value_error(parse_duration, value)
    raise ValueError(f"{value!r} has no unit; write a text such as '4h', '90m' or 'PT4H'")


def _zero_or_duration_s(value: object) -> int:
    is_zero = isinstance(value, str) and value.strip().lower() in ("0s", "0m", "0h", "pt0s")
    return 0 if is_zero else _duration_s(value)


def seconds_between(low: float, high: float) -> BeforeValidator:
    """Seconds within those bounds, as a number or as a text such as `0.5s` or `2m`."""
    valid = (
        f"from {_time(low)} to {_time(high)}: a number of seconds, or a text such as '{high:g}s'"
    )

    def parse(value: object) -> float:
        seconds = _number_of_seconds(value)
        if seconds is None or not low <= seconds <= high:
            raise ValueError(f"{value!r:.80} is not valid; it must be {valid}")
        return seconds

    return BeforeValidator(parse, json_schema_input_type=str | float)


def _number_of_seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(min(value, MAX_DURATION_S + 1))
    if not isinstance(value, str):
        return None
    if match := _SECONDS.fullmatch(value.strip().lower()):
        return float(match[1])  # with its fraction
    try:
        return parse_duration(value)
    except InvalidInputError:
        return None


def _time(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:g} {unit}"
    return f"{seconds:g} s"


def _instant(value: object) -> datetime:
    if isinstance(value, datetime):  # YAML reads unquoted times by itself
        return _or_value_error(parse_instant, value.isoformat())
    if isinstance(value, str):
        return _or_value_error(parse_instant, value)
    raise ValueError(f"{value!r} is not an ISO 8601 time such as '2026-11-27T09:00:00+01:00'")


DurationS = Annotated[int, BeforeValidator(_duration_s, json_schema_input_type=str)]
ZeroOrDurationS = Annotated[int, BeforeValidator(_zero_or_duration_s, json_schema_input_type=str)]
Instant = Annotated[datetime, BeforeValidator(_instant, json_schema_input_type=str)]
Amount = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Strict(BaseModel):
    """A model of ours: a field that it does not know is refused."""

    model_config = ConfigDict(extra="forbid")
