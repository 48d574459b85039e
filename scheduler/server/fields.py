"""Kinds of fields that documents and settings share, and their base class."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scheduler.core.errors import InvalidInputError
from scheduler.core.timegrid import parse_instant
from scheduler.core.units import parse_duration

T = TypeVar("T")


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
