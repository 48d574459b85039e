"""What `doctor` and `/readyz` say about clusters, and about where intensity comes from."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from adapters.store.archive_file import check_archive_file
from scheduler.core.errors import GridtideError, StoreError
from scheduler.core.timegrid import format_instant
from scheduler.core.units import format_duration
from scheduler.ports import Check, ClusterAdapter
from scheduler.service.cycle import Cycle
from scheduler.service.forecaster import Forecaster, SourceStatus
from scheduler.service.queue_waits import QueueWaits
from scheduler.service.sparing_archive import SparingArchive


def cycle_check(cycle: Cycle) -> Check:
    """Whether the cycle runs and the store did all that it was last asked for."""
    report = cycle.report
    detail = f"{report.ticks} ticks, {report.failures} failed stages"
    if (trouble := cycle.trouble) is not None:
        detail += f"; the store failed when it was last needed: {trouble}"
    elif report.last_error:
        detail += f"; last: {report.last_error}"
    return Check(subject="cycle", is_ok=report.ticks > 0 and trouble is None, detail=detail)


def archive_check(archive: SparingArchive) -> Check:
    """Whether what sources say is kept in the file."""
    return _archive_check(archive.error)


def _archive_check(error: str | None) -> Check:
    detail = (
        "keeps forecasts, history and weather"
        if error is None
        else f"in memory only, to be fetched again after a restart: {error}"
    )
    return Check(subject="intensity archive", is_ok=error is None, detail=detail)


def source_checks(forecaster: Forecaster) -> list[Check]:
    """One check a zone and source, and one that says on what plans in the zone rest now."""
    checks = [
        Check(
            subject=f"intensity {status.zone_id} {status.source}",
            is_ok=status.is_usable,
            detail=_source_detail(status),
        )
        for status in forecaster.statuses()
    ]
    checks += _skipped_checks(forecaster.skipped)
    return checks + [_serving_check(forecaster, zone_id) for zone_id in forecaster.infos]


def _skipped_checks(skipped: Mapping[str, Sequence[str]]) -> list[Check]:
    """One line for the sources of the common list that do not serve every zone; none where all do."""
    if not skipped:
        return []
    zones = "; ".join(f"{zone_id} without {', '.join(skipped[zone_id])}" for zone_id in skipped)
    detail = f"some do not serve every zone in this signal and scope: {zones}"
    return [Check(subject="intensity sources", is_ok=True, detail=detail)]


def _source_detail(status: SourceStatus) -> str:
    if not status.is_live:
        return "always there"
    parts = ["" if status.age_s is None else f"{status.age_s:.0f} s old", status.error or ""]
    if status.claimed_until is not None:
        until = format_instant(status.claimed_until)
        parts.append(f"being fetched by another process until {until}")
    return "; ".join(part for part in parts if part) or "not fetched yet"


def _serving_check(forecaster: Forecaster, zone_id: str) -> Check:
    rests_on = forecaster.serving(zone_id)
    if rests_on is None:
        detail = "nothing covers the coming hour: jobs start in time, not by carbon"
    else:
        made = f", made {format_instant(rests_on.issued_at)}" if rests_on.issued_at else ""
        detail = rests_on.source + made + ("; a fallback" if rests_on.is_fallback else "")
    return Check(subject=f"plans in {zone_id} rest on", is_ok=rests_on is not None, detail=detail)


def archive_file_checks(path: Path) -> list[Check]:
    """What is to be said of an archive that is there; none is made, and nothing written."""
    if not path.exists():
        return []
    try:
        check_archive_file(path)
    except StoreError as error:
        return [_archive_check(error.message)]
    return [_archive_check(None)]


def cluster_checks(clusters: Iterable[ClusterAdapter]) -> list[Check]:
    """What each cluster says of itself; one that cannot say anything keeps no other from it."""
    checks = []
    for cluster in clusters:
        try:
            checks += cluster.checks()
        except GridtideError as error:
            checks.append(Check(subject=cluster.cluster_id, is_ok=False, detail=error.message))
    return checks


def wait_checks(waits: QueueWaits) -> list[Check]:
    """How long jobs wait in the clusters' own queues, where that is worth a margin."""
    return [
        Check(
            subject=f"cluster {cluster_id}",
            is_ok=True,
            detail=f"its own queue takes up to {format_duration(wait_s)} (9 of 10 of the last {count} runs); "
            "so much is kept free before deadlines",
        )
        for cluster_id, wait_s, count in waits.learned_s()
        if wait_s
    ]
