"""The ledger as documents: JSON that an auditor can recompute, and CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from scheduler.core.ledger import LedgerBaseline, LedgerEntry, LedgerRun, summarise
from scheduler.core.timegrid import format_instant
from scheduler.server.refusals import Refusals
from scheduler.server.views import provenance_view

Document = dict[str, Any]


def ledger_document(entries: Sequence[LedgerEntry], *, refused: Refusals) -> Document:
    """`gridtide/ledger/v1`: totals, and every entry with all that its figures were made from.

    `refused_is_complete` is false where more were refused than were counted.
    """
    summary = asdict(summarise(entries, refused=refused.count))
    return {
        "schema": "gridtide/ledger/v1",
        "summary": summary | {"refused_is_complete": refused.is_complete},
        "entries": [entry_document(entry) for entry in entries],
    }


def entry_document(entry: LedgerEntry) -> Document:
    """One entry. Times keep microseconds and numbers all digits, so that recomputing is exact."""
    return {
        "job": entry.job_id,
        "name": entry.name,
        "project": entry.project,
        "state": str(entry.state),
        "submitted_at": format_instant(entry.submitted_at),
        "deadline": format_instant(entry.deadline_at),
        "started_at": _instant(entry.started_at),
        "ended_at": _instant(entry.ended_at),
        "missed_deadline": entry.has_missed_deadline,
        "accelerator": entry.accelerator,
        "gpus": entry.gpus,
        "power_estimated": entry.is_power_estimated,
        "runs": [_run(run) for run in entry.runs],
        "energy_kwh": entry.energy_kwh,
        "planned_g": entry.planned_g,
        "emissions_g": entry.emissions_g,
        "baseline": _baseline(entry.baseline),
        "saving_g": entry.saving_g,
        "settled": entry.is_settled,
        "degraded": entry.is_degraded,
    }


def ledger_csv(entries: Sequence[LedgerEntry]) -> str:
    """One line a job, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    documents = [entry_document(entry) for entry in entries]
    columns = [name for name in _CSV_COLUMNS if name not in ("baseline_g", "regions")]
    writer.writerow([*columns, "regions", "baseline_g"])
    for document in documents:
        regions = "+".join(dict.fromkeys(run["region"] for run in document["runs"]))
        writer.writerow(
            [*(document[name] for name in columns), regions, document["baseline"]["emissions_g"]]
        )
    return text.getvalue()


_CSV_COLUMNS = (
    "job",
    "name",
    "project",
    "state",
    "submitted_at",
    "deadline",
    "started_at",
    "ended_at",
    "missed_deadline",
    "accelerator",
    "gpus",
    "power_estimated",
    "energy_kwh",
    "planned_g",
    "emissions_g",
    "saving_g",
    "settled",
    "degraded",
)


def _run(run: LedgerRun) -> Document:
    return {
        "attempt": run.attempt,
        "segment": run.segment,
        "cluster": run.cluster_id,
        "region": run.region_id,
        "zone": run.zone_id,
        "cluster_ref": run.cluster_ref,
        "start": format_instant(run.window.start_at),
        "end": format_instant(run.window.end_at),
        "power_w": run.power_w,
        "pue": run.pue,
        "energy_kwh": run.energy_kwh,
        "energy_kind": "measured" if run.is_energy_measured else "estimated",
        "emissions_g": run.emissions_g,
        "intensity": provenance_view(run.provenance),
    }


def _baseline(baseline: LedgerBaseline) -> Document:
    return {
        "cluster": baseline.cluster_id,
        "region": baseline.region_id,
        "zone": baseline.zone_id,
        "start": format_instant(baseline.window.start_at),
        "end": format_instant(baseline.window.end_at),
        "power_w": baseline.power_w,
        "pue": baseline.pue,
        "energy_kwh": baseline.energy_kwh,
        "planned_g": baseline.planned_g,
        "emissions_g": baseline.emissions_g,
        "intensity": provenance_view(baseline.provenance),
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)
