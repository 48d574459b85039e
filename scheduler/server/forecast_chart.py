"""A forecast as a chart in the terminal: a line of braille dots in a shaded band."""

from collections.abc import Callable, Sequence
from typing import Final

from scheduler.server.forecast_pictures import ForecastPicture, Step, here

HEIGHT: Final = 12
"""Lines of the plot."""
_MARGIN: Final = 8
_LEAST_WIDTH: Final = 24
_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot of a braille cell, by row and column. Source: Unicode, block U+2800."""
_BAND: Final = "░"
_NOW: Final = "┊"

Cells = list[list[str]]


def draw(picture: ForecastPicture, *, width: int) -> list[str]:
    """The lines of the chart: title, plot, times, marks of fallbacks, and where it comes from.

    Args:
        picture: what to show; what came later is left out.
        width: columns of the terminal.
    """
    plot = max(width - _MARGIN, _LEAST_WIDTH)
    begin_s, end_s = picture.span_s
    step_s = picture.ahead[0].stop_s - picture.ahead[0].start_s if picture.ahead else 3600.0
    steps = max(round((end_s - begin_s) / step_s), 1)
    # Every interval gets the same number of columns, where there is room.
    columns = plot // steps * steps or plot
    axis = _Axis(begin_s, end_s, columns)
    ticks = picture.ticks
    cells = [[" "] * columns for _ in range(HEIGHT)]
    rows = _Rows(ticks[0], ticks[-1])
    _shade(cells, picture, axis, rows)
    now = axis.column(picture.begins_s)
    if picture.past and 0 <= now < columns:
        for line in cells:
            line[now] = _NOW
    for steps_shown in (picture.past, picture.ahead):
        _line(cells, steps_shown, axis, rows)
    labels = {rows.cell(tick): f"{tick:.4g}" for tick in ticks}
    lines = [f"{picture.zone_id}  g/kWh; {picture.facts()}"]
    for row, line in enumerate(cells):
        text = labels.get(row, "")
        lines.append(f"{text:>{_MARGIN - 2}} {'┤' if text else '│'}{''.join(line)}".rstrip())
    lines += _foot(picture, axis)
    has_band = any(one.low is not None for one in picture.ahead)
    key = [f"{_BAND} from p10 to p90"] if has_band else []
    key += [f"left of {_NOW} measured"] if picture.past else []
    return lines + ([f"{' ' * _MARGIN}{'; '.join(key)}"] if key else []) + list(picture.notes)


class _Axis:
    """Time to columns."""

    def __init__(self, begin_s: float, end_s: float, columns: int) -> None:
        self.begin_s = begin_s
        self.columns = columns
        self.per_column_s = (end_s - begin_s) / columns

    def column(self, at_s: float) -> int:
        return int((at_s - self.begin_s) / self.per_column_s)

    def means(
        self, steps: Sequence[Step], parts: int, of: Callable[[Step], float | None]
    ) -> list[float | None]:
        """Mean of each column divided in so many parts; None where nothing is known."""
        count, part_s = self.columns * parts, self.per_column_s / parts
        sums, known_s = [0.0] * count, [0.0] * count
        for step in steps:
            value = of(step)
            if value is None:
                continue
            low, high = (
                (step.start_s - self.begin_s) / part_s,
                (step.stop_s - self.begin_s) / part_s,
            )
            for part in range(max(int(low), 0), min(int(-(-high // 1)), count)):
                share = min(high, part + 1) - max(low, part)
                sums[part] += value * share
                known_s[part] += share
        return [
            total / known if known > 0.5 - 1e-9 else None
            for total, known in zip(sums, known_s, strict=True)
        ]


class _Rows:
    """Intensity to rows of dots, four a line, counted from the top."""

    def __init__(self, low: float, high: float) -> None:
        self._high = high
        self._per_dot = (high - low) / (4 * HEIGHT - 1)

    def dot(self, g_per_kwh: float) -> int:
        return min(max(round((self._high - g_per_kwh) / self._per_dot), 0), 4 * HEIGHT - 1)

    def cell(self, g_per_kwh: float) -> int:
        return self.dot(g_per_kwh) // 4


def _shade(cells: Cells, picture: ForecastPicture, axis: _Axis, rows: _Rows) -> None:
    lows = axis.means(picture.ahead, 1, lambda one: getattr(one, "low", None))
    highs = axis.means(picture.ahead, 1, lambda one: getattr(one, "high", None))
    for column, (low, high) in enumerate(zip(lows, highs, strict=True)):
        if low is not None and high is not None:
            for row in range(rows.cell(high), rows.cell(low) + 1):
                cells[row][column] = _BAND


def _line(cells: Cells, steps: Sequence[Step], axis: _Axis, rows: _Rows) -> None:
    """Dots two a column, joined where the value jumps."""
    bits: dict[tuple[int, int], int] = {}
    before: int | None = None
    for place, value in enumerate(axis.means(steps, 2, lambda one: one.g_per_kwh)):
        if value is None:
            before = None
            continue
        dot = rows.dot(value)
        joined = range(min(dot, before), max(dot, before) + 1) if before is not None else (dot,)
        for one in joined:
            key = one // 4, place // 2
            bits[key] = bits.get(key, 0) | _DOTS[one % 4][place % 2]
        before = dot
    for (row, column), dots in bits.items():
        cells[row][column] = chr(0x2800 + dots)


def _foot(picture: ForecastPicture, axis: _Axis) -> list[str]:
    """The axis of time in the reader's zone, and a mark under every slot that is a fallback."""
    marks, texts = ["─"] * axis.columns, [" "] * axis.columns
    free = 0
    for column in range(axis.columns):
        at_s = axis.begin_s + column * axis.per_column_s
        text = _tick(at_s, axis)
        if text and column >= free and column + len(text) <= axis.columns:
            marks[column] = "┬"
            texts[column : column + len(text)] = text
            free = column + len(text) + 1
    lines = [
        f"{' ' * (_MARGIN - 1)}└{''.join(marks)}",
        f"{' ' * _MARGIN}{''.join(texts)}".rstrip(),
    ]
    fallbacks = axis.means(picture.ahead, 1, lambda one: float(getattr(one, "is_fallback", False)))
    if any(fallbacks):
        lines.append(f"{' ' * _MARGIN}{''.join('!' if one else ' ' for one in fallbacks)}".rstrip())
    return lines


def _tick(at_s: float, axis: _Axis) -> str:
    """The label of a column in which a day begins, or, in a short chart, a sixth hour."""
    is_short = axis.columns * axis.per_column_s <= 2.5 * 86_400
    every_h = 6 if is_short else 24
    last = here(at_s - axis.per_column_s)
    now = here(at_s)
    if (last.date(), last.hour // every_h) == (now.date(), now.hour // every_h):
        return ""
    return f"{now:%H:%M}" if now.hour // every_h else f"{now:%a %d %b}"
