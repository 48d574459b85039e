"""What `gridtide forecast` and its subcommands print."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from scheduler.core.errors import InvalidInputError
from scheduler.server.cli_output import local, print_document, print_rows, say, tracked
from scheduler.server.forecast_chart import draw
from scheduler.server.forecast_page import render_page
from scheduler.server.forecast_pictures import (
    ForecastPicture,
    here,
    picture_of_document,
    picture_of_made,
)
from scheduler.server.forecast_requests import share_name

if TYPE_CHECKING:
    from scheduler.server.forecast_runs import FileForecasts, MadeForecast

Document = dict[str, Any]
WIDTH: Final = 100
"""Of a chart that is not printed on a terminal."""
_MANY: Final = 4
"""From so many forecasts on, a table tells more than charts."""
_MOST_CHARTS: Final = 60
_SHOWN_PAST: Final = timedelta(days=1)
_PAGE_PAST: Final = timedelta(days=7)
_SERVED: Final = (
    *("zone", "issued_at", "time", "g_per_kwh", "p10", "p90", "source", "quality", "is_fallback"),
)


def print_served(document: Document, kind: str, page: Path | None) -> None:
    """A forecast of the running service."""
    if page is not None:
        write_page(page, [picture_of_document(document, UTC)])
    if kind == "table":
        _print_charts([picture_of_document(document)])
        return
    rows = [
        [document["zone"], *(point[name] for name in _SERVED[1:])] for point in document["points"]
    ]
    print_rows(kind, document, _SERVED, rows)


def make_and_print(
    forecasts: "FileForecasts",
    *,
    issues: Sequence[Any],
    n_hours: int,
    shares: Sequence[float],
    kind: str,
    page: Path | None,
) -> None:
    """Forecasts from files: for every zone, as of every time.

    Raises:
        InfeasibleError: the history of a zone does not reach one of the times.
    """
    asked = [(zone_id, issued_at) for zone_id in forecasts.zone_ids for issued_at in issues]
    if page is not None and len(asked) > _MOST_CHARTS:
        raise InvalidInputError(
            f"html: {len(asked)} charts would be too many for a page; ask for at most {_MOST_CHARTS}",
            field="html",
            value=len(asked),
        )
    made = [
        forecasts.make(zone_id, issued_at, n_hours=n_hours, shares=shares)
        for zone_id, issued_at in tracked(asked, "forecasting")
    ]
    if page is not None:
        write_page(page, [_picture(forecasts, one, past=_PAGE_PAST, zone=UTC) for one in made])
    _print_made(forecasts, made, shares, kind)
    if kind == "table":
        say(f"signal: {forecasts.signal} intensity")


def _print_made(
    forecasts: "FileForecasts", made: Sequence["MadeForecast"], shares: Sequence[float], kind: str
) -> None:
    from scheduler.server.forecast_runs import (  # noqa: PLC0415 - imports numpy
        csv_rows,
        forecast_document,
    )

    if kind == "csv":
        columns = ("zone", "issued_at", "time", "g_per_kwh", *map(share_name, shares))
        print_rows(kind, None, columns, (row for one in made for row in csv_rows(one)))
    elif kind == "json":
        documents = [forecast_document(one, shares) for one in made]
        several = {"schema": "gridtide/forecasts/v1", "forecasts": documents}
        print_document(documents[0] if len(documents) == 1 else several)
    elif len(made) < _MANY:
        _print_charts([_picture(forecasts, one, past=_SHOWN_PAST) for one in made])
    else:
        pictures = [_picture(forecasts, one, past=_SHOWN_PAST) for one in made]
        rows = [_summary(one, picture) for one, picture in zip(made, pictures, strict=True)]
        print_rows(
            kind,
            None,
            ("zone", "issued", "by", "mean g/kWh", "least g/kWh", "at", "error %"),
            rows,
        )


def _summary(made: "MadeForecast", picture: ForecastPicture) -> Sequence[object]:
    least = min(picture.ahead, key=lambda one: one.g_per_kwh)
    mean = sum(one.g_per_kwh for one in picture.ahead) / len(picture.ahead)
    return (
        made.zone_id,
        local(made.issued_at.isoformat()),
        made.method,
        f"{mean:.0f}",
        f"{least.g_per_kwh:.0f}",
        f"{here(least.start_s):%a %d %b %H:%M}",
        _error(picture),
    )


def _error(picture: ForecastPicture) -> str | None:
    """Mean absolute error in percent where the truth of whole hours is in the file too."""
    said = {one.start_s: one.g_per_kwh for one in picture.ahead}
    errors = [
        abs(said[one.start_s] / one.g_per_kwh - 1)
        for one in picture.came
        if one.start_s in said and one.stop_s - one.start_s == 3600 and one.g_per_kwh > 0
    ]
    return f"{100 * sum(errors) / len(errors):.1f}" if errors else None


def _picture(
    forecasts: "FileForecasts",
    made: "MadeForecast",
    *,
    past: timedelta,
    zone: tzinfo | None = None,
) -> ForecastPicture:
    published = forecasts.newest_published(made.zone_id, made.issued_at)
    return picture_of_made(made, forecasts.actual(made.zone_id), published, past=past, zone=zone)


def _print_charts(pictures: Iterable[ForecastPicture]) -> None:
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    text = "\n\n".join("\n".join(draw(picture, width=width)) for picture in pictures)
    if not sys.stdout.isatty():
        sys.stdout.write(text + "\n")
        return
    from rich.console import Console  # noqa: PLC0415 - imported late: help must be fast
    from rich.text import Text  # noqa: PLC0415 - likewise

    shown = Text(text, no_wrap=True)
    shown.highlight_regex("[\u2800-\u28ff]+", "bold cyan")
    shown.highlight_regex("[░┊]+", "dim")
    shown.highlight_regex("!+|! fallback", "yellow")
    Console(highlight=False, soft_wrap=True).print(shown)


def write_page(path: Path, pictures: Sequence[ForecastPicture]) -> None:
    """Writes the charts as a page. Raises InvalidInputError where that cannot be."""
    try:
        path.write_text(render_page(pictures), encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(
            f"html: {path} cannot be written: {error.strerror}", field="html", value=str(path)
        ) from error
    say(f"wrote {path}")


# ------------------------------------------------------------------------------- scores, ingest


def print_scores(document: Document, kind: str) -> None:
    """Errors by lead day, bias, coverage and the saving that plans keep, in percent."""
    scores = document["scores"]
    if kind == "table" and not scores:
        typer.echo("no forecast has come true yet")
        return
    days = [
        day
        for day in range(max((len(one["mape"]) for one in scores), default=0))
        if kind == "csv" or any(one["mape"][day] is not None for one in scores)
    ]
    if kind == "csv":
        columns = ("zone", "source", "forecasts", *(f"mape_d{day + 1}" for day in days))
        rows = [
            [one["zone"], one["source"], one["forecasts"], *one["mape"], *_rest(one)]
            for one in scores
        ]
        print_rows(kind, document, (*columns, "bias", "coverage", "kept"), rows)
        return
    columns = ("zone", "source", "forecasts", *(f"day {day + 1} %" for day in days))
    rows = [
        [
            one["zone"],
            one["source"],
            one["forecasts"],
            *(_percent(one["mape"][day]) for day in days),
            _percent(one["bias"], signed=True),
            *map(_percent, _rest(one)[1:]),
        ]
        for one in scores
    ]
    print_rows(kind, document, (*columns, "bias %", "in p10-p90 %", "saving kept %"), rows)
    if kind == "table":
        say(
            "error by day ahead; saving kept: of what a perfect forecast saves for jobs of 4 h that may wait a day"
        )


def _rest(score: Mapping[str, Any]) -> list[float | None]:
    return [score["bias"], score["coverage"], score["kept"]]


def _percent(share: float | None, *, signed: bool = False) -> str | None:
    if share is None:
        return None
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"


def print_ingested(document: Document, kind: str) -> None:
    """What became of the rows, by zone."""
    columns = ("zone", "rows", "new", "revised", "repeated", "from", "to")
    rows = [
        [one[name] if kind == "csv" else _cell(one, name) for name in columns]
        for one in document["zones"]
    ]
    print_rows(kind, document, columns, rows)
    if kind == "table":
        say(
            f"{document['rows']:,} rows of {document['source']} ({document['signal']}, {document['scope']}): "
            f"{document['new']:,} new, {document['revised']:,} revised, {document['repeated']:,} repeated; "
            f"kept in {document['archive']}"
        )


def _cell(zone: Mapping[str, Any], name: str) -> object:
    value = zone[name]
    return f"{value:,}" if isinstance(value, int) else value
