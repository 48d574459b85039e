"""Forecasts as one HTML page that needs nothing else, neither network nor scripts."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Final

from scheduler.server.forecast_pictures import ForecastPicture, Step

WIDTH: Final = 1180
_LEFT, _RIGHT, _TOP, _PLOT, _AXIS = 52.0, 10.0, 10.0, 260.0, 34.0
_DAY_S: Final = 86_400


def render_page(pictures: Sequence[ForecastPicture]) -> str:
    """The page, a chart a forecast; all times are UTC."""
    style = "".join(
        files("scheduler.server").joinpath(name).read_text(encoding="utf-8")
        for name in ("report.css", "forecast.css")
    )
    zones = list(dict.fromkeys(one.zone_id for one in pictures))
    title = "Carbon intensity forecast: " + ", ".join(zones)
    body = "".join(_section(one, number) for number, one in enumerate(pictures))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>Grams of CO₂e a kilowatt-hour. All times are UTC.</p></header>"
        f"{body}</main></body></html>"
    )


def _section(picture: ForecastPicture, number: int) -> str:
    notes = "".join(f"<p>{escape(note)}</p>" for note in picture.notes)
    return (
        f"<section><h2>{escape(picture.zone_id)}, {_at(picture.begins_s)}</h2>{notes}{_legend(picture)}"
        f'<div class="scroll">{chart(picture, number)}</div>'
        f'<details><summary>Hours as a table</summary><div class="scroll">{_table(picture)}</div></details></section>'
    )


def chart(picture: ForecastPicture, number: int = 0) -> str:
    """The chart as SVG.

    Args:
        picture: what to show.
        number: makes the ids of its title and description unique in the page.
    """
    plot = _Plot(picture)
    has_band = any(one.low is not None for one in picture.ahead)
    parts = [
        f'<title id="t{number}">{escape(f"Carbon intensity of {picture.zone_id}")}</title>',
        f'<desc id="d{number}">{escape(_described(picture))}</desc>',
        plot.grid(),
        plot.band() if has_band else "",
        *(
            f'<path class="{kind}" d="{plot.line(steps)}"/>'
            for kind, steps in _lines(picture)
            if steps
        ),
        _fallbacks(picture, plot),
        plot.now(),
        *(_spot(one, plot) for one in picture.ahead),
    ]
    return (
        f'<svg class="forecast" role="img" aria-labelledby="t{number} d{number}" '
        f'viewBox="0 0 {WIDTH} {_TOP + _PLOT + _AXIS:.0f}">{"".join(parts)}</svg>'
    )


def _lines(picture: ForecastPicture) -> tuple[tuple[str, Sequence[Step]], ...]:
    return (
        ("past", picture.past),
        ("came", picture.came),
        ("published", picture.published),
        ("ahead", picture.ahead),
    )


class _Plot:
    """Time and intensity to pixels."""

    def __init__(self, picture: ForecastPicture) -> None:
        self._picture = picture
        self._begin_s, self._end_s = picture.span_s
        self._ticks = picture.ticks

    def x(self, at_s: float) -> float:
        share = (at_s - self._begin_s) / (self._end_s - self._begin_s)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, g_per_kwh: float) -> float:
        low, high = self._ticks[0], self._ticks[-1]
        return _TOP + (high - g_per_kwh) / (high - low) * _PLOT

    def line(self, steps: Iterable[Step]) -> str:
        """A path of level pieces, broken where nothing is known."""
        path, stop_s = list[str](), None
        for step in steps:
            pen = f"V{self.y(step.g_per_kwh):.1f}"
            if step.start_s != stop_s:
                pen = f"M{self.x(step.start_s):.1f} {self.y(step.g_per_kwh):.1f}"
            path.append(f"{pen}H{self.x(step.stop_s):.1f}")
            stop_s = step.stop_s
        return "".join(path)

    def band(self) -> str:
        """The area between the quantiles, a piece for every stretch without a gap."""
        pieces = list[str]()
        known = [
            (one.start_s, one.stop_s, one.low, one.high)
            for one in self._picture.ahead
            if one.low is not None and one.high is not None
        ]
        # Steps that follow one another have the same start less what came before them.
        for _, group in groupby(
            enumerate(known), key=lambda one: one[1][0] - one[0] * (known[0][1] - known[0][0])
        ):
            stretch = [one for _, one in group]
            upper = "".join(
                f"V{self.y(high):.1f}H{self.x(stop):.1f}" for _, stop, _, high in stretch
            )
            lower = "".join(
                f"V{self.y(low):.1f}H{self.x(start):.1f}" for start, _, low, _ in reversed(stretch)
            )
            start, _, low, _ = stretch[0]
            pieces.append(f"M{self.x(start):.1f} {self.y(low):.1f}{upper}{lower}Z")
        return f'<path class="band" d="{"".join(pieces)}"/>'

    def grid(self) -> str:
        """Lines and labels of intensities and days."""
        right, bottom = WIDTH - _RIGHT, _TOP + _PLOT
        parts = [
            f'<line class="tick" x1="{_LEFT}" x2="{right}" y1="{self.y(tick):.1f}" y2="{self.y(tick):.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
            for tick in self._ticks
        ]
        days = int((self._end_s - self._begin_s) // _DAY_S) + 1
        first = -int(-self._begin_s // (6 * 3600))
        for quarter in range(first, int(self._end_s // (6 * 3600)) + 1):
            at = datetime.fromtimestamp(quarter * 6 * 3600, UTC)
            x = self.x(at.timestamp())
            if at.hour == 0:
                parts.append(
                    f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
                )
            is_shown = at.hour == 0 or (at.hour == 12 and days <= 14) or days <= 5
            if is_shown and x <= right - 20:
                parts.append(
                    f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{at:%H:%M}</text>'
                )
            if at.hour == 0 and x <= right - 20 and (days <= 16 or at.day % 2):
                parts.append(
                    f'<text class="day" x="{x:.1f}" y="{bottom + 29}" text-anchor="middle">{at:%a %d %b}</text>'
                )
        return "".join(parts)

    def now(self) -> str:
        """When the forecast was made."""
        x = self.x(self._picture.begins_s)
        return f'<line class="now" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _PLOT}"/>'

    def column(self, step: Step) -> str:
        """The place of a step over the whole height."""
        x = self.x(step.start_s)
        return f'x="{x:.1f}" width="{self.x(step.stop_s) - x:.1f}"'


def _fallbacks(picture: ForecastPicture, plot: _Plot) -> str:
    return "".join(
        f'<rect class="fallback" {plot.column(one)} y="{_TOP + _PLOT - 4}" height="4"/>'
        for one in picture.ahead
        if one.is_fallback
    )


def _spot(one: Step, plot: _Plot) -> str:
    """An invisible column that shows its figures under the pointer."""
    low, high = getattr(one, "low", None), getattr(one, "high", None)
    band = f" ({low:.0f} to {high:.0f})" if low is not None and high is not None else ""
    return (
        f'<rect class="spot" {plot.column(one)} y="{_TOP}" height="{_PLOT}">'
        f"<title>{_at(one.start_s)}: {one.g_per_kwh:.0f} g/kWh{band}</title></rect>"
    )


def _described(picture: ForecastPicture) -> str:
    values = [one.g_per_kwh for one in picture.ahead]
    if not values:
        return "Nothing is known about these hours."
    text = (
        f"Forecast from {_at(picture.ahead[0].start_s)} to {_at(picture.ahead[-1].stop_s)}: mean "
        f"{sum(values) / len(values):.0f}, lowest {min(values):.0f}, highest {max(values):.0f} grams per kilowatt-hour."
    )
    for name, steps in (
        ("Measured before", picture.past),
        ("Measured since", picture.came),
        ("Published forecast", picture.published),
    ):
        if steps:
            mean = sum(one.g_per_kwh for one in steps) / len(steps)
            text += f" {name}: mean {mean:.0f}."
    return text


def _legend(picture: ForecastPicture) -> str:
    shown = [
        ("ahead", "forecast", picture.ahead),
        ("band", "10 to 90 %", [one for one in picture.ahead if one.low is not None]),
        ("past", "measured", picture.past),
        ("came", "measured since", picture.came),
        ("published", "published forecast", picture.published),
        ("fallback", "from a fallback", [one for one in picture.ahead if one.is_fallback]),
    ]
    items = "".join(
        f'<span class="key"><i class="{kind}"></i>{text}</span>'
        for kind, text, steps in shown
        if steps
    )
    return f'<p class="keys">{items}</p>'


def _table(picture: ForecastPicture) -> str:
    came = {one.start_s: one.g_per_kwh for one in picture.came}
    published = {one.start_s: one.g_per_kwh for one in picture.published}
    columns = ["time", "g/kWh", "p10", "p90"]
    columns += ["published"] * bool(published) + ["measured"] * bool(came)
    head = "".join(f'<th scope="col">{one}</th>' for one in columns)
    rows = []
    for one in picture.ahead:
        cells = [one.g_per_kwh, one.low, one.high]
        cells += [published.get(one.start_s)] * bool(published) + [came.get(one.start_s)] * bool(
            came
        )
        figures = "".join(
            f'<td class="n">{"unknown" if cell is None else f"{cell:.1f}"}</td>' for cell in cells
        )
        rows.append(f'<tr><th scope="row">{_at(one.start_s)}</th>{figures}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _at(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%a %d %b %Y %H:%M}"
