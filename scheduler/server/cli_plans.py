"""What `gridtide plan --snapshot` prints: a table with a timeline, or the document."""

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from scheduler.server.cli_output import grams, local, print_document, print_rows

COLUMNS = ("job", "cluster", "on", "start", "end", "planned g", "at once g")

CSV_COLUMNS = (
    "job",
    "cluster",
    "accelerator",
    "segment",
    "start",
    "end",
    "gpus",
    "job_energy_kwh",
    "job_emissions_g",
    "job_baseline_g",
    "job_cost",
    "unplaced_reason",
)


def print_plan(document: dict[str, Any], kind: str) -> None:
    """The placements, what has none and why, and how good the plan is."""
    spans = {
        one["job"]: [(part["start"], part["end"]) for part in one["segments"]]
        for one in document["placements"]
    }
    rows: list[tuple[object, ...]] = [
        (
            one["job"],
            one["cluster"],
            one["accelerator"],
            local(one["segments"][0]["start"]),
            local(one["segments"][-1]["end"]),
            grams(one["emissions_g"]),
            grams(one["baseline_g"]),
        )
        for one in document["placements"]
    ]
    if kind == "csv":
        print_rows(kind, document, CSV_COLUMNS, _csv_rows(document))
        return
    if kind == "json":
        print_document(document)
        return
    if rows:
        times = [
            datetime.fromisoformat(at) for span in spans.values() for part in span for at in part
        ]
        bars = [timeline(span, (min(times), max(times))) for span in spans.values()]
        rows = [(*row, bar) for row, bar in zip(rows, bars, strict=True)]
    print_rows(kind, document, (*COLUMNS, "when"), rows)
    for one in document["unplaced"]:
        finish = local(one["earliest_finish"])
        when = f"; it could end by {finish}" if finish else ""
        sys.stdout.write(f"{one['job']}: {one['reason']}: {one['detail']}{when}\n")
    gap = "not known" if document["gap"] is None else f"{document['gap']:.2%}"
    sys.stdout.write(
        f"{len(rows)} placed, {len(document['unplaced'])} not: {grams(document['emissions_g'])} g, "
        f"at once at home {grams(document['baseline_g'])} g; no plan of these jobs emits less than "
        f"{grams(document['lower_bound_g'])} g (gap {gap})\n"
    )


def _csv_rows(document: dict[str, Any]) -> list[tuple[object, ...]]:
    """A line a segment, and one for each job without a place."""
    rows: list[tuple[object, ...]] = [
        (
            one["job"],
            one["cluster"],
            one["accelerator"],
            number,
            part["start"],
            part["end"],
            part["gpus"],
            one["energy_kwh"],
            one["emissions_g"],
            one["baseline_g"],
            one["cost"],
            None,
        )
        for one in document["placements"]
        for number, part in enumerate(one["segments"])
    ]
    empty = (None,) * (len(CSV_COLUMNS) - 2)
    return rows + [(one["job"], *empty, one["reason"]) for one in document["unplaced"]]


def timeline(
    spans: Iterable[tuple[str, str]], window: tuple[datetime, datetime], width: int = 32
) -> str:
    """Spans of ISO times as a bar over the window: full where one covers most of a cell, light where it touches it."""
    start_at, end_at = window
    cell_s = max((end_at - start_at).total_seconds() / width, 1e-9)
    covered = [0.0] * width
    for first, last in spans:
        low = (datetime.fromisoformat(first) - start_at).total_seconds() / cell_s
        high = (datetime.fromisoformat(last) - start_at).total_seconds() / cell_s
        for cell in range(width):
            covered[cell] += max(0.0, min(high, cell + 1) - max(low, cell))
    return "".join("█" if share > 0.5 else "▒" if share > 1e-9 else "·" for share in covered)
