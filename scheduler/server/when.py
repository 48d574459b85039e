"""Deadlines as people say them: `friday 09:00`, `tomorrow 18:00`, `+12h`. A closed grammar: nothing is guessed."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

from scheduler.core.errors import InvalidInputError
from scheduler.core.timegrid import as_utc
from scheduler.core.units import parse_duration

VALID: Final = "2026-11-27T09:00:00+01:00, 'friday 09:00', 'next monday 08:00', 'tomorrow 18:00', 'today 23:00', '09:00', or +12h"
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK: Final = re.compile(
    r"(?:(?P<day>[a-z]+(?: [a-z]+)?)\s+)?(?P<hour>\d{1,2}):(?P<minute>\d{2})"
)
_AHEAD: Final = re.compile(r"(?:\+|in\s+)\s*(?P<span>.+)")


def parse_when(
    text: str,
    *,
    now: datetime,
    zone: tzinfo,
    field: str = "deadline",
    takes_local: bool = False,
) -> datetime:
    """The UTC instant that the text means for somebody in `zone` at `now`.

    A weekday is the next one whose time is still ahead; `next` skips the days of this week. With `takes_local`
    an ISO time without offset is one of `zone`, as the commands of Slurm read it.

    Raises:
        InvalidInputError: another form, an ISO time without offset, or a local time that the clocks skip.
    """
    said = " ".join(text.strip().lower().split())
    ahead = _AHEAD.fullmatch(said)
    if ahead:
        return as_utc(now) + timedelta(seconds=parse_duration(ahead["span"], field=field))
    clock = _CLOCK.fullmatch(said)
    if clock:
        return _on_the_clock(text, clock, now.astimezone(zone), zone, field)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise _invalid(text, field, "is not a time") from None
    if at.tzinfo is not None:
        return as_utc(at, field=field)
    if not takes_local:
        raise _invalid(text, field, "has no offset")
    return _in_zone(text, at, zone, field)


def _on_the_clock(  # noqa: PLR0917 - a parse step
    text: str, clock: re.Match[str], here: datetime, zone: tzinfo, field: str
) -> datetime:
    try:
        at = time(int(clock["hour"]), int(clock["minute"]))
    except ValueError:
        raise _invalid(text, field, "has no such time of day") from None
    days = _days_ahead(clock["day"], here, at)
    if days is None:
        raise _invalid(text, field, f"names no day: {clock['day']!r}")
    day = here.date() + timedelta(days=days)
    moment = _in_zone(text, datetime.combine(day, at), zone, field)
    if moment <= here.astimezone(UTC):
        raise _invalid(text, field, "is in the past")
    return moment


def _in_zone(text: str, local: datetime, zone: tzinfo, field: str) -> datetime:
    """The UTC instant at which clocks in the zone show that time; the first one, where they show it twice."""
    moment = local.replace(tzinfo=zone).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) != local:
        raise _invalid(text, field, "does not exist on that day: the clocks go forward")
    return moment


def _days_ahead(day: str | None, here: datetime, at: time) -> int | None:
    is_over = here.time() >= at
    if day is None:
        return 1 if is_over else 0
    if day in ("today", "tomorrow"):
        return int(day == "tomorrow")
    is_next, name = day.startswith("next "), day.removeprefix("next ")
    matches = [
        index for index, full in enumerate(_DAYS) if len(name) >= 3 and full.startswith(name)
    ]
    if len(matches) != 1:
        return None
    if is_next:
        return 7 - here.weekday() + matches[0]
    days = (matches[0] - here.weekday()) % 7
    return 7 if days == 0 and is_over else days


def _invalid(text: str, field: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{field}: {text!r} {why}; write {VALID}", field=field, value=text, valid=VALID
    )
