"""The ledger: what a job was planned to emit, what it emitted, and what running at once would have."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.core.footprint import emissions_g, energy_kwh
from scheduler.core.forecast import Provenance, Quality
from scheduler.core.job import JobId, JobRecord, JobState, Run
from scheduler.core.timegrid import Window
from scheduler.core.units import WATT_SECONDS_PER_KWH


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Intensity over one window: integral in mg/kWh x s, and where it comes from."""

    integral_mg_s: float
    provenance: Provenance


ReadIntensity = Callable[[str, Window], Reading | None]
"""Best known intensity of (zone_id, window); None where nothing covers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRun:
    """One stretch of drawing power. `emissions_g` is None while no intensity covers it."""

    attempt: int
    segment: int
    cluster_id: str
    region_id: str
    zone_id: str
    cluster_ref: str | None
    window: Window
    power_w: float
    pue: float
    energy_kwh: float
    is_energy_measured: bool
    emissions_g: float | None
    provenance: Provenance | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBaseline:
    """The counterfactual: the frozen place, start and power, for the run time that was measured."""

    cluster_id: str
    region_id: str
    zone_id: str
    window: Window
    power_w: float
    pue: float
    energy_kwh: float
    planned_g: float | None
    emissions_g: float | None
    provenance: Provenance | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """The account of one ended job. Planned, measured and counterfactual figures stay apart.

    Args:
        planned_g: footprint that the plan expected when the job was first dispatched.
        emissions_g: footprint of the runs as measured in time, on the best known intensity.
        saving_g: baseline less emissions; negative where waiting made it worse.
        is_settled: no better intensity will come; until then the entry is provisional.
        is_degraded: a decision was made without a usable forecast.
    """

    job_id: JobId
    name: str
    project: str
    state: JobState
    submitted_at: datetime
    deadline_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    has_missed_deadline: bool
    accelerator: str
    gpus: int
    is_power_estimated: bool
    runs: tuple[LedgerRun, ...]
    energy_kwh: float
    planned_g: float | None
    emissions_g: float | None
    baseline: LedgerBaseline
    saving_g: float | None
    is_settled: bool
    is_degraded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSummary:
    """Totals over entries. Grams are sums over the entries that have both figures."""

    jobs: int
    missed_deadlines: int
    refused: int
    energy_kwh: float
    planned_g: float
    emissions_g: float
    baseline_g: float
    saving_g: float
    unaccounted: int
    fallback_share: float


def build_entry(
    record: JobRecord, *, zone_by_cluster: dict[str, tuple[str, str]], read: ReadIntensity
) -> LedgerEntry:
    """The ledger entry of a job that has ended.

    Args:
        record: a job in an ended state.
        zone_by_cluster: (region_id, zone_id) of each cluster it ran on.
        read: best known intensity.
    """
    runs = tuple(
        _ledger_run(run, span, zone_by_cluster[run.cluster_id], read)
        for run in record.runs
        for span in run.spans
    )
    baseline = _ledger_baseline(record, read)
    total_g = _sum_known(run.emissions_g for run in runs)
    option = record.job.options[record.runs[-1].option if record.runs else 0]
    gpus = record.gpus_of(record.runs[-1]) if record.runs else option.gpus
    saving_g = (
        None if total_g is None or baseline.emissions_g is None else baseline.emissions_g - total_g
    )
    sources = [run.provenance for run in runs] + [baseline.provenance]
    return LedgerEntry(
        job_id=record.job.job_id,
        name=record.job.name,
        project=record.job.project,
        state=record.state,
        submitted_at=record.job.submitted_at,
        deadline_at=record.job.deadline_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        has_missed_deadline=record.has_missed_deadline,
        accelerator=option.accelerator,
        gpus=gpus,
        is_power_estimated=option.is_power_estimated,
        runs=runs,
        energy_kwh=sum(run.energy_kwh for run in runs),
        planned_g=record.runs[0].planned_g if record.runs else None,
        emissions_g=total_g,
        baseline=baseline,
        saving_g=saving_g,
        is_settled=all(source is not None and _is_final(source) for source in sources),
        is_degraded=record.is_degraded,
    )


def counterfactual_run_s(record: JobRecord) -> float:
    """Seconds the job would have run at home if started once and left alone.

    Its measured run time, less the restores that only our pauses caused. What ran on other hardware or
    at another width is brought to that of the baseline by the stated durations and throughputs.
    """
    cost_s = record.job.interruptible.checkpoint_cost_s if record.job.interruptible else 0
    return sum(
        (run.run_s - (min(cost_s, run.run_s) if run.segment > 0 else 0.0))
        * _home_seconds(record, run)
        for run in record.runs
    )


def _home_seconds(record: JobRecord, run: Run) -> float:
    """Seconds that the baseline takes for what this run does in one."""
    job, home = record.job, record.baseline
    if job.elastic is not None:
        return job.speed(record.gpus_of(run)) / job.speed(home.gpus)
    used = job.options[run.option]
    hardware = (home.accelerator, home.gpus)
    same = [one for one in job.options if (one.accelerator, one.gpus) == hardware]
    return same[0].duration_s / used.duration_s if same else 1.0


def summarise(entries: Iterable[LedgerEntry], *, refused: int) -> LedgerSummary:
    """Totals. Entries without figures are counted in `unaccounted`, never as zero grams."""
    listed = list(entries)
    known = [entry for entry in listed if entry.saving_g is not None]
    emitted_g = sum(entry.emissions_g or 0.0 for entry in known)
    baseline_g = sum(entry.baseline.emissions_g or 0.0 for entry in known)
    fallback_g = sum(
        run.emissions_g or 0.0
        for entry in known
        for run in entry.runs
        if run.provenance is not None and run.provenance.is_fallback
    )
    return LedgerSummary(
        jobs=len(listed),
        missed_deadlines=sum(entry.has_missed_deadline for entry in listed),
        refused=refused,
        energy_kwh=sum(entry.energy_kwh for entry in listed),
        planned_g=sum(entry.planned_g or 0.0 for entry in known),
        emissions_g=emitted_g,
        baseline_g=baseline_g,
        saving_g=baseline_g - emitted_g,
        unaccounted=len(listed) - len(known),
        fallback_share=fallback_g / emitted_g if emitted_g else 0.0,
    )


def _ledger_run(run: Run, span: Window, place: tuple[str, str], read: ReadIntensity) -> LedgerRun:
    region_id, zone_id = place
    reading = read(zone_id, span)
    power_w, pue, is_measured = run.power_w, run.pue, False
    if run.energy_kwh is not None and run.run_s > 0:
        power_w, is_measured = run.energy_kwh * WATT_SECONDS_PER_KWH / run.run_s, True
    return LedgerRun(
        attempt=run.attempt,
        segment=run.segment,
        cluster_id=run.cluster_id,
        region_id=region_id,
        zone_id=zone_id,
        cluster_ref=run.ref,
        window=span,
        power_w=power_w,
        pue=pue,
        energy_kwh=energy_kwh(power_w=power_w, duration_s=span.duration_s, pue=pue),
        is_energy_measured=is_measured,
        emissions_g=None
        if reading is None
        else emissions_g(power_w=power_w, pue=pue, integral_mg_s=reading.integral_mg_s),
        provenance=None if reading is None else reading.provenance,
    )


def _ledger_baseline(record: JobRecord, read: ReadIntensity) -> LedgerBaseline:
    frozen = record.baseline
    run_s = counterfactual_run_s(record)
    window = Window(frozen.window.start_at, frozen.window.start_at + timedelta(seconds=run_s))
    reading = read(frozen.zone_id, window)
    return LedgerBaseline(
        cluster_id=frozen.cluster_id,
        region_id=frozen.region_id,
        zone_id=frozen.zone_id,
        window=window,
        power_w=frozen.power_w,
        pue=frozen.pue,
        energy_kwh=energy_kwh(power_w=frozen.power_w, duration_s=run_s, pue=frozen.pue),
        planned_g=frozen.planned_g,
        emissions_g=None
        if reading is None
        else emissions_g(
            power_w=frozen.power_w, pue=frozen.pue, integral_mg_s=reading.integral_mg_s
        ),
        provenance=None if reading is None else reading.provenance,
    )


def _is_final(provenance: Provenance) -> bool:
    """Whether nothing better is to come: a typical value is all there is where nothing else is asked."""
    if provenance.quality is Quality.TYPICAL:
        return not provenance.is_fallback
    return provenance.quality in (Quality.MEASURED, Quality.ESTIMATED)


def _sum_known(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
