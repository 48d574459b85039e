"""The pictures of the report, as SVG text: intensity strips with jobs laid over them, and savings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from html import escape
from typing import Final

from scheduler.core.forecast import GAP_MG, IntensitySeries
from scheduler.core.ledger import LedgerEntry, LedgerRun
from scheduler.core.timegrid import Window

WIDTH: Final = 1180
LEFT: Final = 96
STRIP: Final = 44
BAR: Final = 17
AXIS: Final = 34
# Seven steps from viridis, clean to dirty: readable in print and without red-green vision.
PALETTE: Final = ("#fde725", "#90d743", "#35b779", "#21918c", "#31688e", "#443983", "#440154")


@dataclass(frozen=True, slots=True)
class Scale:
    """Time to horizontal position."""

    window: Window

    def x(self, at: datetime) -> float:
        """Pixels from the left, within the plot."""
        share = (at - self.window.start_at) / (self.window.end_at - self.window.start_at)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - 8)


def pack_lanes(windows: Sequence[Window]) -> list[int]:
    """A lane for each window, so that no two in one lane overlap; as few lanes as it takes."""
    taken = list[tuple[datetime, int]]()
    free = list[int]()
    chosen = [0] * len(windows)
    for index in sorted(range(len(windows)), key=lambda one: (windows[one].start_at, one)):
        window = windows[index]
        while taken and taken[0][0] <= window.start_at:
            heappush(free, heappop(taken)[1])
        lane = heappop(free) if free else len(taken)
        heappush(taken, (window.end_at, lane))
        chosen[index] = lane
    return chosen


@dataclass(frozen=True, slots=True)
class Colours:
    """Intensity to colour, from the page's cleanest to its dirtiest hour, in g/kWh."""

    lowest: float
    highest: float

    @classmethod
    def over(cls, intensity: Mapping[str, IntensitySeries], window: Window) -> "Colours":
        """The scale of all values that the window shows."""
        begin_s, end_s = window.start_at.timestamp(), window.end_at.timestamp()
        shown = [
            mg / 1000
            for series in intensity.values()
            for mg, low, high in zip(
                series.mg_per_kwh.tolist(),
                series.edges_s[:-1].tolist(),
                series.edges_s[1:].tolist(),
                strict=True,
            )
            if mg != GAP_MG and high > begin_s and low < end_s
        ]
        return cls(min(shown, default=0.0), max(shown, default=1.0))

    def border(self, step: int) -> float:
        """Lower border of a colour step."""
        return self.lowest + (self.highest - self.lowest) * step / len(PALETTE)

    def of(self, g_per_kwh: float) -> str:
        """The colour of an intensity."""
        reach = self.highest - self.lowest
        step = int(len(PALETTE) * (g_per_kwh - self.lowest) / reach) if reach > 0 else 0
        return PALETTE[min(max(step, 0), len(PALETTE) - 1)]


def timeline(
    entries: Sequence[LedgerEntry],
    intensity: Mapping[str, IntensitySeries],
    regions: Mapping[str, str],
    window: Window,
) -> str:
    """One strip of intensity per region, with every run laid under it in time."""
    scale = Scale(window)
    colours = Colours.over(intensity, window)
    parts, top = [_ticks(scale)], 4.0
    for region_id, zone_id in regions.items():
        parts.append(_strip(region_id, zone_id, intensity.get(zone_id), scale, (top, colours)))
        drawn, height = _jobs(entries, region_id, scale, top + STRIP + 4)
        parts.append(drawn)
        top += STRIP + height + 22
    parts.append(_axis(scale, top))
    return (
        f'<svg role="img" aria-label="Carbon intensity of each region over time, with the jobs that ran there" '
        f'viewBox="0 0 {WIDTH} {top + AXIS:.0f}">{"".join(parts)}</svg>'
    )


def legend(colours: Colours) -> str:
    """The colour scale in g/kWh."""
    size = 44
    cells = "".join(
        f'<rect x="{index * size}" y="0" width="{size}" height="12" fill="{shade}"/>'
        f'<text x="{index * size}" y="26">{colours.border(index):.0f}</text>'
        for index, shade in enumerate(PALETTE)
    )
    width = size * len(PALETTE)
    said = (
        f"Colour scale from {colours.lowest:.0f} to {colours.highest:.0f} grams per kilowatt-hour"
    )
    return (
        f'<svg class="legend" role="img" aria-label="{said}" viewBox="0 0 {width + 100} 32">{cells}'
        f'<text x="{width}" y="26">{colours.highest:.0f} g/kWh</text></svg>'
    )


def savings(entries: Sequence[LedgerEntry]) -> str:
    """A bar a job: to the right what it saved, to the left what it cost more."""
    known = [entry for entry in entries if entry.saving_g is not None]
    if not known:
        return "<p>No job has figures yet.</p>"
    reach = max(abs(entry.saving_g or 0) for entry in known) or 1.0
    low = max((-(entry.saving_g or 0) for entry in known), default=0.0)
    left, span = 210.0, float(WIDTH - 210 - 110)
    zero = left + span * max(0.0, low) / (reach + max(0.0, low))
    unit = span / (reach + max(0.0, low))
    rows = []
    for index, entry in enumerate(sorted(known, key=lambda one: -(one.saving_g or 0))):
        saved = entry.saving_g or 0.0
        y, length = index * 24, abs(saved) * unit
        x = zero if saved >= 0 else zero - length
        label = f"{saved:+,.0f} g"
        at = f'x="{zero + length + 6:.1f}"' if saved >= 0 else f'x="{zero + 6:.1f}"'
        rows.append(
            f'<text class="name" x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(entry.name[:28])}</text>'
            f'<rect class="{"good" if saved >= 0 else "bad"}" x="{x:.1f}" y="{y + 3}" width="{length:.1f}" '
            f'height="16" rx="2"><title>{escape(entry.name)}: {label}</title></rect>'
            f'<text {at} y="{y + 15}">{label}</text>'
        )
    height = len(known) * 24 + 4
    line = f'<line class="axis" x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="{height}"/>'
    return (
        f'<svg role="img" aria-label="Saved grams per job" viewBox="0 0 {WIDTH} {height}">'
        f"{line}{''.join(rows)}</svg>"
    )


def _strip(  # noqa: PLR0917 - the parts of a picture
    region_id: str,
    zone_id: str,
    series: IntensitySeries | None,
    scale: Scale,
    place: tuple[float, Colours],
) -> str:
    top, colours = place
    label = (
        f'<text class="region" x="0" y="{top + 18}">{escape(region_id)}</text>'
        f'<text class="zone" x="0" y="{top + 34}">{escape(zone_id)}</text>'
    )
    if series is None:
        return (
            label
            + f'<rect class="gap" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 8}" height="{STRIP}"/>'
        )
    cells = [label]
    epoch = scale.window.start_at.timestamp()
    for low, high, mg in zip(
        series.edges_s[:-1].tolist(),
        series.edges_s[1:].tolist(),
        series.mg_per_kwh.tolist(),
        strict=True,
    ):
        begins = scale.window.start_at + timedelta(seconds=low - epoch)
        ends = scale.window.start_at + timedelta(seconds=high - epoch)
        x, width = scale.x(begins), scale.x(ends) - scale.x(begins)
        if width <= 0:
            continue
        is_known = mg != GAP_MG
        fill = f'fill="{colours.of(mg / 1000)}"' if is_known else 'class="gap"'
        text = f"{mg / 1000:.0f} g/kWh" if is_known else "unknown"
        cells.append(
            f'<rect {fill} x="{x:.2f}" y="{top}" width="{width + 0.3:.2f}" height="{STRIP}">'
            f"<title>{escape(region_id)} {begins:%a %d %b %H:%M}: {text}</title></rect>"
        )
    return "".join(cells)


def _jobs(
    entries: Sequence[LedgerEntry], region_id: str, scale: Scale, top: float
) -> tuple[str, float]:
    """The runs in this region, in lanes; and the height that they take."""
    drawn: list[tuple[LedgerEntry, list[LedgerRun]]] = []
    for entry in entries:
        runs = [run for run in entry.runs if run.region_id == region_id]
        if runs:
            drawn.append((entry, runs))
    least = timedelta(seconds=(scale.window.duration_s) * 0.004)
    spans = [
        Window(
            min(entry.submitted_at, runs[0].window.start_at),
            max(runs[-1].window.end_at, runs[0].window.start_at + least),
        )
        for entry, runs in drawn
    ]
    lanes = pack_lanes(spans)
    parts = [
        _job(entry, runs, scale, top + lane * (BAR + 4))
        for (entry, runs), lane in zip(drawn, lanes, strict=True)
    ]
    return "".join(parts), (max(lanes, default=-1) + 1) * (BAR + 4)


def _job(entry: LedgerEntry, runs: Sequence[LedgerRun], scale: Scale, y: float) -> str:
    middle = y + BAR / 2
    first, last = scale.x(runs[0].window.start_at), scale.x(runs[-1].window.end_at)
    waited = scale.x(entry.submitted_at)
    parts = [f'<line class="wait" x1="{waited:.1f}" x2="{first:.1f}" y1="{middle}" y2="{middle}"/>']
    if len(runs) > 1:
        parts.append(
            f'<line class="pause" x1="{first:.1f}" x2="{last:.1f}" y1="{middle}" y2="{middle}"/>'
        )
    for run in runs:
        x, end = scale.x(run.window.start_at), scale.x(run.window.end_at)
        figures = "unknown" if run.emissions_g is None else f"{run.emissions_g:,.0f} g"
        parts.append(
            f'<rect class="run" x="{x:.1f}" y="{y}" width="{max(end - x, 2):.1f}" height="{BAR}" rx="3">'
            f"<title>{escape(entry.name)}, attempt {run.attempt}, segment {run.segment}: "
            f"{run.window.start_at:%a %H:%M} to {run.window.end_at:%a %H:%M}, {run.energy_kwh:.2f} kWh, {figures}</title></rect>"
        )
    room = max(scale.x(run.window.end_at) - scale.x(run.window.start_at) for run in runs)
    text = escape(_cut(entry.name, int(room / 6.2)))
    widest = max(runs, key=lambda run: run.window.duration_s)
    parts.append(
        f'<text class="job" x="{scale.x(widest.window.start_at) + 4:.1f}" y="{y + 12.5}">{text}</text>'
    )
    if entry.deadline_at <= scale.window.end_at:
        x = scale.x(entry.deadline_at)
        parts.append(
            f'<line class="deadline" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + BAR - 1}">'
            f"<title>deadline of {escape(entry.name)}: {entry.deadline_at:%a %H:%M}</title></line>"
        )
    return f"<g>{''.join(parts)}</g>"


def _cut(name: str, letters: int) -> str:
    """The name, or as much of it as there is room for; nothing where that would tell nothing."""
    if len(name) <= letters:
        return name
    return name[: letters - 1] + "…" if letters >= 4 else ""


def _hours(scale: Scale) -> list[datetime]:
    """Instants to label: full hours, at most about two dozen."""
    hours = scale.window.duration_s / 3600
    every = next((step for step in (1, 3, 6, 12, 24, 48, 168) if hours / step <= 24), 336)
    first = int(scale.window.start_at.timestamp()) // 3600
    last = int(scale.window.end_at.timestamp()) // 3600
    return [
        datetime.fromtimestamp(hour * 3600, UTC)
        for hour in range(first, last + 1)
        if hour % every == 0 and hour * 3600 >= scale.window.start_at.timestamp()
    ]


def _ticks(scale: Scale) -> str:
    return "".join(
        f'<line class="tick" x1="{scale.x(at):.1f}" x2="{scale.x(at):.1f}" y1="0" y2="100%"/>'
        for at in _hours(scale)
    )


def _axis(scale: Scale, top: float) -> str:
    parts: list[str] = []
    for at in _hours(scale):
        x = scale.x(at)
        parts.append(f'<text x="{x:.1f}" y="{top + 12}">{at:%H:%M}</text>')
        if at.hour == 0 or len(parts) == 1:
            parts.append(f'<text class="day" x="{x:.1f}" y="{top + 26}">{at:%a %d %b}</text>')
    return "".join(parts)
