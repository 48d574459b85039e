"""What a forecast from files is asked for: as of when, how far ahead, which quantiles."""

from datetime import datetime, timedelta
from typing import Final

from scheduler.core.errors import InvalidInputError
from scheduler.core.timegrid import parse_instant
from scheduler.core.units import SECONDS_PER_HOUR, parse_duration

MAX_HORIZON_S: Final = 14 * 86_400
MAX_ISSUES: Final = 20_000


def parse_issues(
    at: str | None, first: str | None, last: str | None, every: str | None
) -> tuple[datetime, ...]:
    """The times of one forecast, or of many from the first to the last, both included where reached.

    Raises:
        InvalidInputError: neither or both forms, or times that are none.
    """
    if at is not None and first is None and last is None and every is None:
        return (_instant(at, "issued_at"),)
    if at is not None or first is None or last is None:
        raise InvalidInputError(
            "issued_at: give either --issued-at T, or --issued-from A, --issued-to B and --every 24h",
            field="issued_at",
            valid="--issued-at, or --issued-from and --issued-to",
        )
    begin = _instant(first, "issued_from")
    end = _instant(last, "issued_to")
    step = timedelta(seconds=parse_duration(every or "24h", field="every"))
    count = (end - begin) // step + 1
    if not 0 < count <= MAX_ISSUES:
        why = "before issued_from" if end < begin else f"after {count} forecasts"
        raise InvalidInputError(
            f"issued_to: {last!r} comes {why}; 1 to {MAX_ISSUES} forecasts of each zone can be made",
            field="issued_to",
            value=last,
        )
    return tuple(begin + step * index for index in range(count))


def _instant(text: str, field: str) -> datetime:
    """The instant; errors quote it as it was written."""
    try:
        return parse_instant(text, field=field)
    except InvalidInputError as error:
        valid = "2026-11-27T09:00:00+01:00 or 2026-11-27T08:00:00Z"
        raise InvalidInputError(
            f"{field}: {text!r} is not an ISO 8601 time with an offset; write it like {valid}",
            field=field,
            value=text,
            valid=valid,
        ) from error


def parse_horizon(text: str) -> int:
    """Whole hours that cover the duration.

    Raises:
        InvalidInputError: no duration, or more than 14 days.
    """
    try:
        horizon_s = parse_duration(text, field="horizon")
    except InvalidInputError as error:
        # Its limit is that of durations at large, not that of forecasts.
        message = error.message.replace("366 days", "14d")
        raise InvalidInputError(message, **error.fields) from error
    if horizon_s > MAX_HORIZON_S:
        raise InvalidInputError(
            f"horizon: {text!r} is more than 14d; beyond that nothing is known of the weather and little of the day",
            field="horizon",
            value=text,
            valid="at most 14d",
        )
    return -(-horizon_s // SECONDS_PER_HOUR)


def parse_shares(text: str) -> tuple[float, ...]:
    """The quantiles, in order.

    Raises:
        InvalidInputError: one is no number between 0 and 1.
    """
    shares = set[float]()
    for part in text.split(","):
        try:
            share = float(part)
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            raise InvalidInputError(
                f"quantiles: {part.strip()!r} is not a number between 0 and 1; write 0.1,0.5,0.9",
                field="quantiles",
                value=part.strip(),
                valid="numbers between 0 and 1, separated by commas",
            )
        shares.add(share)
    return tuple(sorted(shares))


def share_name(share: float) -> str:
    """`p10` for 0.1, `p05` for 0.05, `p2.5` for 0.025."""
    percent = round(100 * share, 6)
    return f"p{percent:02.0f}" if percent == int(percent) else f"p{percent:g}"
