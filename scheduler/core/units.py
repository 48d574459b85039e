"""Durations and unit conversions. Every name carries its unit."""

import re
from typing import Final

from scheduler.core.errors import InvalidInputError

SECONDS_PER_HOUR: Final = 3600
WATT_SECONDS_PER_KWH: Final = 3_600_000
MG_PER_G: Final = 1000

_FORMS: Final = "a number with a unit, such as 4h, 90m, 1h30m, 2d or PT4H"
_PLAIN: Final = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?",
)
_ISO: Final = re.compile(
    r"p(?:(?P<d>\d+(?:\.\d+)?)d)?(?:t(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?)?",
)
_UNIT_S: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
MAX_DURATION_S: Final = 366 * 86_400


def parse_duration(text: str, *, field: str = "duration") -> int:
    """Whole seconds (rounded to the nearest) of a duration such as `4h`, `1h30m`, `PT4H`.

    Raises:
        InvalidInputError: a bare number, an unknown form, zero, or more than 366 days.
    """
    compact = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", compact):
        raise InvalidInputError(
            f"{field}: {text!r} has no unit; write {_FORMS}",
            field=field,
            value=text,
            valid=_FORMS,
        )
    match = _ISO.fullmatch(compact) or _PLAIN.fullmatch(compact)
    parts = match.groupdict() if match else {}
    if not any(parts.values()):
        raise InvalidInputError(
            f"{field}: {text!r} is not a duration; write {_FORMS}",
            field=field,
            value=text,
            valid=_FORMS,
        )
    exact_s = sum(float(n) * _UNIT_S[unit] for unit, n in parts.items() if n)
    seconds = round(
        min(exact_s, 2.0 * MAX_DURATION_S)
    )  # hundreds of digits make an infinite number
    if not 0 < seconds <= MAX_DURATION_S:
        raise InvalidInputError(
            f"{field}: {text!r} must be longer than 0 s and at most 366 days",
            field=field,
            value=text,
            valid=_FORMS,
        )
    return seconds


def format_duration(seconds: int) -> str:
    """The shortest `1d2h3m4s` form of a number of seconds; negative ones get a leading minus."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    parts = []
    for unit, size in _UNIT_S.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
