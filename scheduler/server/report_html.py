"""The report: one HTML page that needs nothing else, neither network nor scripts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files

from scheduler.core.forecast import IntensitySeries
from scheduler.core.ledger import LedgerEntry, LedgerSummary
from scheduler.core.timegrid import Window
from scheduler.server import report_svg


def render_report(  # noqa: PLR0913 - the parts of a page
    *,
    title: str,
    generated_at: datetime,
    entries: Sequence[LedgerEntry],
    summary: LedgerSummary,
    intensity: Mapping[str, IntensitySeries],
    regions: Mapping[str, str],
    notes: Sequence[str],
    attributions: Sequence[str],
    window: Window,
    period: str = "",
    unlisted: Sequence[LedgerEntry] = (),
    is_refused_complete: bool = True,
) -> str:
    """The page. Times in UTC; unknown figures are shown as unknown, never as zero.

    The summary covers the unlisted entries, too; where not all refusals were counted, it has the least number.
    The period is a sentence on what is shown.
    """
    style = files("scheduler.server").joinpath("report.css").read_text(encoding="utf-8")
    body = f"""
<header><h1>{escape(title)}</h1><p>{generated_at:%A %d %B %Y, %H:%M} UTC. All times are UTC.</p>{_shown(period, len(entries), len(unlisted))}</header>
{_cards(summary, is_refused_complete)}
<section><h2>When and where the jobs ran</h2>
<p>Colour is the carbon intensity of the grid. A thin line is the wait since submission, a bar a run, a dotted
line a pause, a red tick the deadline.</p>
{report_svg.legend(report_svg.Colours.over(intensity, window))}
<div class="scroll">{report_svg.timeline(entries, intensity, regions, window)}</div></section>
<section><h2>What each job saved</h2>
<p>Against running at once at home. To the left of the line waiting or moving made it worse.</p>
<div class="scroll">{report_svg.savings(entries)}</div></section>
<section><h2>Ledger</h2><div class="scroll">{_table(entries)}</div></section>
<section><h2>How these numbers are made</h2><ul>{_method([*unlisted, *entries], notes)}</ul></section>
<footer>{"".join(f"<p>{escape(line)}</p>" for line in attributions)}</footer>"""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>"
    )


def _shown(period: str, n_listed: int, n_unlisted: int) -> str:
    said = [period] if period else []
    if n_unlisted:
        said.append(
            f"The {n_listed:,} newest are listed and drawn; {n_unlisted:,} earlier ones are not, "
            "but the sums cover them."
        )
    return f"<p>{escape(' '.join(said))}</p>" if said else ""


def _cards(summary: LedgerSummary, is_refused_complete: bool) -> str:
    share = f"{summary.saving_g / summary.baseline_g:+.1%}" if summary.baseline_g else "unknown"
    met = summary.jobs - summary.missed_deadlines
    is_good = summary.saving_g >= 0
    said = "saved" if is_good else "more than at once"
    least = "" if is_refused_complete else "at least "
    cards = (
        ("", str(summary.jobs), f"jobs ended, {least}{summary.refused} refused"),
        ("bad" if summary.missed_deadlines else "", f"{met} of {summary.jobs}", "deadlines met"),
        ("", mass(summary.emissions_g), "CO₂e emitted"),
        ("", mass(summary.baseline_g), "had they run at once at home"),
        ("good" if is_good else "bad", mass(abs(summary.saving_g)), f"{said} ({share})"),
    )
    cells = "".join(
        f'<div class="card {kind}"><b>{escape(figure)}</b><span>{escape(label)}</span></div>'
        for kind, figure, label in cards
    )
    left_out = (
        f"<p>{summary.unaccounted} jobs have no figures and are left out of the totals.</p>"
        if summary.unaccounted
        else ""
    )
    return f'<section class="cards" aria-label="Totals">{cells}</section>{left_out}'


def _table(entries: Sequence[LedgerEntry]) -> str:
    heads = "job,state,region,started,ended,to deadline,kWh,planned g,emitted g,at once g,saved g,saved %,marks"
    head = "".join(f'<th scope="col">{one}</th>' for one in heads.split(","))
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, entries))}</tbody></table>"
    )


def _row(entry: LedgerEntry) -> str:
    baseline_g = entry.baseline.emissions_g
    share = (
        f"{entry.saving_g / baseline_g:+.1%}"
        if entry.saving_g is not None and baseline_g
        else "unknown"
    )
    slack = (
        f"{(entry.deadline_at - entry.ended_at).total_seconds() / 3600:+.1f} h"
        if entry.ended_at
        else "–"
    )
    places = "+".join(dict.fromkeys(run.region_id for run in entry.runs)) or "–"
    texts = (entry.name, str(entry.state), places, _time(entry.started_at), _time(entry.ended_at))
    figures = (
        slack,
        f"{entry.energy_kwh:.2f}",
        _grams(entry.planned_g),
        _grams(entry.emissions_g),
        _grams(baseline_g),
        _grams(entry.saving_g, signed=True),
        share,
    )
    kind = "bad" if (entry.saving_g or 0) < 0 or entry.has_missed_deadline else ""
    return (
        f'<tr class="{kind}">'
        + "".join(f"<td>{escape(text)}</td>" for text in texts)
        + "".join(f'<td class="n">{escape(text)}</td>' for text in figures)
        + f"<td>{escape(', '.join(marks(entry)))}</td></tr>"
    )


def marks(entry: LedgerEntry) -> list[str]:
    """What a reader must know about the quality of an entry's figures."""
    sources = [run.provenance for run in entry.runs] + [entry.baseline.provenance]
    known = [source for source in sources if source is not None]
    found = {
        "missed its deadline": entry.has_missed_deadline,
        "degraded": entry.is_degraded,
        "fallback intensity": any(source.is_fallback for source in known),
        "typical intensity": any(str(source.quality) == "typical" for source in known),
        "provisional": not entry.is_settled,
        "estimated power": entry.is_power_estimated,
        f"{len(entry.runs)} runs": len(entry.runs) > 1,
    }
    return [name for name, applies in found.items() if applies]


def _method(entries: Sequence[LedgerEntry], notes: Sequence[str]) -> str:
    sources = {
        f"{run.provenance.source}: {run.provenance.signal}, {run.provenance.scope}, {run.provenance.quality}"
        for entry in entries
        for run in entry.runs
        if run.provenance is not None
    }
    lines = [
        "Emissions are power × PUE × the intensity of each moment that the job really ran.",
        "The baseline is the job run whole and at once on the first cluster that it may use. Place, start and power "
        "are frozen at submission; its length is the run time that was measured, so that a generous estimate is no saving.",
        "Planned, emitted and baseline are separate figures. A negative saving is shown as one.",
        *notes,
        *(f"Intensity from {source}." for source in sorted(sources)),
    ]
    return "".join(f"<li>{escape(line)}</li>" for line in lines)


def mass(grams: float) -> str:
    """Grams, kilograms or tonnes, three figures."""
    for size, unit in ((1e6, "t"), (1e3, "kg")):
        if abs(grams) >= size:
            return f"{grams / size:,.1f} {unit}"
    return f"{grams:,.0f} g"


def _grams(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "unknown"
    return f"{value:+,.0f}" if signed else f"{value:,.0f}"


def _time(at: datetime | None) -> str:
    return f"{at:%a %d %b %H:%M}" if at else "–"
