"""Documents of the ENTSO-E Transparency Platform: XML to megawatts on a grid of quarter-hours."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from adapters.grid.answer import Answer
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.timegrid import Window, format_instant

SOURCE: Final = "entsoe"
STEP_S: Final = 900
"""All resolutions of the platform are whole multiples, so that no value is changed."""
_FORMAT: Final = "%Y-%m-%dT%H:%MZ"
_RESOLUTIONS: Final = {"PT15M": 900, "PT30M": 1800, "PT60M": 3600, "PT1H": 3600}
_MAX_POSITIONS: Final = 366 * 96 + 4
_MAX_MW: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the platform.

    Args:
        kind: document type, such as A75.
        process: process type, such as A16.
        domain: EIC of the zone.
        window: on whole hours.
    """

    zone_id: str
    kind: str
    process: str
    domain: str
    window: Window

    def rejected(self, why: str) -> ForecastRejectedError:
        """The error for a reply that cannot be true."""
        return Answer(SOURCE, self.zone_id).rejected(f"{self.kind} of zone {self.zone_id}: {why}")


class RangeTooLongError(ForecastUnavailableError):
    """The platform wants shorter windows."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a series is about: a production type (None for load), generated or consumed."""

    psr_type: str | None
    is_consumption: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """One Period of a TimeSeries: mean MW, shape (n,), NaN where nothing is said."""

    line: Line
    start_s: int
    step_s: int
    mw: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Mean MW of every line on the quarter-hours asked for, NaN where unknown.

    Args:
        window: what was asked for.
    """

    window: Window
    mw: Mapping[Line, NDArray[np.float64]]


def parse_reply(text: str, asked: Question) -> Reply:
    """The reply to a question; without any line where the platform has no matching data.

    Points outside the window are left out.

    Raises:
        RangeTooLongError: to be asked again in parts.
        ForecastUnavailableError: the platform acknowledged and said something else.
        ForecastRejectedError: not the documented shape, another zone or time, or values that
            contradict each other or cannot be.
    """
    root = _root(text, asked)
    if root.tag == "Acknowledgement_MarketDocument":
        _require_no_match(root, asked)
        return Reply(window=asked.window, mw={})
    if root.tag != "GL_MarketDocument" or _text(root, "type", asked) != asked.kind:
        raise asked.rejected(f"answered with {root.tag} of type {root.findtext('type')!r:.40}")
    stretches = [
        stretch for series in root.iterfind("TimeSeries") for stretch in _stretches(series, asked)
    ]
    return Reply(window=asked.window, mw=_on_grid(stretches, asked))


def join_replies(replies: Iterable[Reply], window: Window) -> dict[Line, NDArray[np.float64]]:
    """Mean MW of every line on the quarter-hours of the window, NaN where no reply knows it.

    Args:
        replies: about windows that lie in this one and do not overlap.
        window: on whole hours.
    """
    lines: dict[Line, NDArray[np.float64]] = {}
    for reply in replies:
        first = quarters(Window(window.start_at, reply.window.start_at))
        for line, mw in reply.mw.items():
            whole = lines.setdefault(line, np.full(quarters(window), np.nan))
            whole[first : first + len(mw)] = mw
    return lines


def quarters(window: Window) -> int:
    """Quarter-hours in a window on whole hours."""
    return int(window.duration_s) // STEP_S


def _root(text: str, asked: Question) -> ET.Element:
    # Entities, and with them bombs of entities, can be declared in a DOCTYPE only, which no document
    # of the platform has: without one the standard library's parser is safe, and no package is needed.
    # The text is decoded already, so that no other encoding can hide the word.
    if "<!DOCTYPE" in text:
        raise asked.rejected("answered with a DOCTYPE, which is never read")
    try:
        root = ET.fromstring(text)  # noqa: S314 - there is no DOCTYPE
    except (ET.ParseError, ValueError) as error:
        raise asked.rejected(f"answered with broken XML: {error}") from error
    for element in root.iter():
        # The version in the namespace changes from year to year.
        element.tag = element.tag.rpartition("}")[2]
    return root


def _require_no_match(root: ET.Element, asked: Question) -> None:
    """Returns where the platform says that it has no such data. Raises where it says anything else."""
    says = "; ".join(reason.text or "" for reason in root.iterfind("Reason/text"))
    if "no matching data" in says.lower():
        return
    error = Answer(SOURCE, asked.zone_id).unavailable(
        f"{asked.kind}: {says or 'no reason given'!s:.300}"
    )
    if "exceed" in says.lower():
        raise RangeTooLongError(error.message, **error.fields)
    raise error


def _stretches(series: ET.Element, asked: Question) -> Iterable[_Stretch]:
    consumed_in = series.findtext("outBiddingZone_Domain.mRID")
    domain = consumed_in or series.findtext("inBiddingZone_Domain.mRID")
    if domain != asked.domain:
        raise asked.rejected(f"asked for {asked.domain}, answered for {domain!r:.40}")
    unit = series.findtext("quantity_Measure_Unit.name")
    if unit != "MAW":
        raise asked.rejected(f"unit {unit!r:.40} is not MAW")
    curve = series.findtext("curveType", "A01")
    if curve not in {"A01", "A03"}:
        raise asked.rejected(f"curveType {curve!r:.40} is neither A01 nor A03")
    line = Line(series.findtext("MktPSRType/psrType"), consumed_in is not None)
    for period in series.iterfind("Period"):
        yield _stretch(period, line, asked, repeats=curve == "A03")


def _stretch(period: ET.Element, line: Line, asked: Question, *, repeats: bool) -> _Stretch:
    start_s, end_s = (
        int(_instant(_text(period, f"timeInterval/{edge}", asked), asked, _FORMAT).timestamp())
        for edge in ("start", "end")
    )
    resolution = _text(period, "resolution", asked)
    step_s = _RESOLUTIONS.get(resolution)
    if step_s is None:
        raise asked.rejected(
            f"resolution {resolution!r:.40} is not one of {', '.join(_RESOLUTIONS)}"
        )
    count, rest = divmod(end_s - start_s, step_s)
    if rest or start_s % STEP_S or not 0 < count <= _MAX_POSITIONS:
        raise asked.rejected(
            f"a period from {_at(start_s)} to {_at(end_s)} does not hold steps of {resolution}"
        )
    mw = np.full(count, np.nan)
    for point in period.iterfind("Point"):
        position, quantity = _position(point, count, asked), _quantity(point, asked)
        if not np.isnan(mw[position]) and mw[position] != quantity:
            raise asked.rejected(
                f"two values for {_at(start_s + position * step_s)}: {mw[position]}, {quantity}"
            )
        mw[position] = quantity
    return _Stretch(
        line=line, start_s=start_s, step_s=step_s, mw=_filled_forward(mw) if repeats else mw
    )


def _position(point: ET.Element, count: int, asked: Question) -> int:
    text = _text(point, "position", asked)
    position = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= position <= count:
        raise asked.rejected(f"position {text!r:.40} is not one of 1 to {count}")
    return position - 1


def _quantity(point: ET.Element, asked: Question) -> float:
    text = _text(point, "quantity", asked)
    try:
        quantity = float(text)
    except ValueError:
        quantity = math.nan
    if not 0 <= quantity <= _MAX_MW:
        raise asked.rejected(f"quantity {text!r:.40} is not a number of MW")
    return quantity


def _filled_forward(mw: NDArray[np.float64]) -> NDArray[np.float64]:
    """With values that are left out because they equal the one before."""
    last = np.maximum.accumulate(np.where(np.isnan(mw), 0, np.arange(len(mw))))
    return mw[last]


def _on_grid(stretches: list[_Stretch], asked: Question) -> dict[Line, NDArray[np.float64]]:
    low_s, n = int(asked.window.start_at.timestamp()), quarters(asked.window)
    lines: dict[Line, NDArray[np.float64]] = {}
    for stretch in stretches:
        first = (stretch.start_s - low_s) // STEP_S
        mw = np.repeat(stretch.mw, stretch.step_s // STEP_S)
        low, high = max(first, 0), min(first + len(mw), n)
        if low >= high:
            continue
        new = mw[low - first : high - first]
        held = lines.setdefault(stretch.line, np.full(n, np.nan))[low:high]
        differs = np.flatnonzero(~np.isnan(held) & ~np.isnan(new) & (held != new))
        if len(differs):
            where, at = differs[0], _at(low_s + (low + int(differs[0])) * STEP_S)
            raise asked.rejected(
                f"two values of {stretch.line.psr_type} for {at}: {held[where]}, {new[where]}"
            )
        np.copyto(held, new, where=~np.isnan(new))
    if not lines:
        raise asked.rejected(_elsewhere(stretches, asked))
    return lines


def _elsewhere(stretches: list[_Stretch], asked: Question) -> str:
    if not stretches:
        return "the reply has no series"
    return (
        f"asked for {format_instant(asked.window.start_at)} to "
        f"{format_instant(asked.window.end_at)}, answered for "
        f"{_at(min(stretch.start_s for stretch in stretches))}: stale"
    )


def _text(element: ET.Element, path: str, asked: Question) -> str:
    text = element.findtext(path)
    if not text:
        raise asked.rejected(f"{element.tag} has no {path}")
    return text.strip()


def _instant(text: str, asked: Question, form: str) -> datetime:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError as error:
        raise asked.rejected(f"time {text!r:.40} is not of the form {form}") from error


def _at(at_s: int) -> str:
    return format_instant(datetime.fromtimestamp(at_s, UTC))
