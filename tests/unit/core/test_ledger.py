"""What a job was planned to emit, what it emitted, and what running at once would have."""

from collections.abc import Callable

import pytest

from scheduler.core.forecast import Quality
from scheduler.core.job import JobRecord, JobState
from scheduler.core.ledger import LedgerEntry, Reading, build_entry, counterfactual_run_s, summarise
from scheduler.core.terms import Elastic, Interruptible, Width
from scheduler.core.timegrid import Window
from tests.unit.core.builders import HOUR, T0, at, baseline, job, option, provenance, record, run

PLACES = {"c-de": ("r-de", "DE"), "c-fr": ("r-fr", "FR")}
Read = Callable[[str, Window], Reading | None]


def reader(g_by_zone: dict[str, float], **fields: object) -> Read:
    quality = {"quality": Quality.MEASURED} | fields

    def read(zone_id: str, window: Window) -> Reading | None:
        grams = g_by_zone.get(zone_id)
        if grams is None:
            return None
        return Reading(
            integral_mg_s=grams * 1000 * window.duration_s, provenance=provenance(**quality)
        )

    return read


def entry_of(made: JobRecord, read: Read) -> LedgerEntry:
    return build_entry(made, zone_by_cluster=PLACES, read=read)


def test_run_elsewhere_is_compared_with_the_same_run_time_at_home() -> None:
    made = record(runs=[run(10, 13, cluster_id="c-fr", planned_g=90.0, ref="77")])
    entry = entry_of(made, reader({"DE": 400, "FR": 50}))
    assert entry.energy_kwh == pytest.approx(3)
    assert entry.emissions_g == pytest.approx(150)
    assert entry.planned_g == 90
    # Planned for 4 h, ran for 3 h: the counterfactual runs 3 h too.
    assert entry.baseline.window == Window(T0, at(3))
    assert entry.baseline.emissions_g == pytest.approx(1200)
    assert entry.baseline.planned_g == 1600
    assert entry.saving_g == pytest.approx(1050)
    assert entry.is_settled
    assert (entry.runs[0].region_id, entry.runs[0].cluster_ref) == ("r-fr", "77")
    assert (entry.started_at, entry.ended_at) == (at(10), at(13))


def test_waiting_that_made_it_worse_shows_as_a_negative_saving() -> None:
    entry = entry_of(record(runs=[run(10, 12, cluster_id="c-fr")]), reader({"DE": 100, "FR": 300}))
    assert entry.saving_g == pytest.approx(-400)


def test_measured_energy_replaces_the_power_of_the_table() -> None:
    entry = entry_of(record(runs=[run(0, 2, energy_kwh=1.0, pue=1.5)]), reader({"DE": 100}))
    (only,) = entry.runs
    assert only.is_energy_measured
    assert (only.power_w, only.energy_kwh) == (500, 1.5)
    assert only.emissions_g == pytest.approx(150)


def test_run_of_no_time_keeps_its_stated_power() -> None:
    entry = entry_of(record(runs=[run(2, 2, energy_kwh=1.0)]), reader({"DE": 100}))
    assert not entry.runs[0].is_energy_measured
    assert entry.emissions_g == 0


def test_lost_attempts_count_as_emitted_and_in_the_counterfactual() -> None:
    made = record(runs=[run(0, 1, exit_code=1), run(2, 6, attempt=2)])
    entry = entry_of(made, reader({"DE": 100}))
    assert entry.emissions_g == pytest.approx(500)
    assert entry.baseline.emissions_g == pytest.approx(500)


def test_restores_that_our_pauses_caused_are_not_in_the_counterfactual() -> None:
    paused = job(interruptible=Interruptible(checkpoint_cost_s=600))
    made = record(runs=[run(0, 2), run(5, 7, segment=1), run(9, 9.1, segment=2)], job=paused)
    assert counterfactual_run_s(made) == pytest.approx(4.1 * HOUR - 600 - 360)
    assert counterfactual_run_s(record(runs=[run(0, 2), run(3, 4, segment=1)])) == 3 * HOUR


def test_no_intensity_means_no_figure_and_not_zero() -> None:
    runs = [run(0, 1), run(2, 3, cluster_id="c-fr")]
    entry = entry_of(record(runs=runs), reader({"DE": 100}))
    assert (entry.emissions_g, entry.saving_g) == (None, None)
    assert entry.runs[0].emissions_g == pytest.approx(100)
    assert entry.runs[1].provenance is None
    assert not entry.is_settled
    assert entry_of(record(runs=[run(0, 1)]), reader({})).baseline.emissions_g is None


def test_home_without_intensity_leaves_the_saving_open() -> None:
    entry = entry_of(record(runs=[run(0, 1, cluster_id="c-fr")]), reader({"FR": 100}))
    assert entry.emissions_g == pytest.approx(100)
    assert entry.saving_g is None


@pytest.mark.parametrize(
    ("quality", "is_fallback", "is_settled"),
    [
        (Quality.MEASURED, False, True),
        (Quality.MEASURED, True, True),
        (Quality.TYPICAL, False, True),
        (Quality.TYPICAL, True, False),
        (Quality.FORECAST, False, False),
        (Quality.ESTIMATED, False, True),
    ],
)
def test_entry_is_settled_when_nothing_better_will_come(
    quality: Quality, is_fallback: bool, is_settled: bool
) -> None:
    read = reader({"DE": 1}, quality=quality, is_fallback=is_fallback)
    assert entry_of(record(runs=[run(0, 1)]), read).is_settled is is_settled


def test_job_that_never_ran_emits_nothing_and_saves_nothing() -> None:
    entry = entry_of(record(JobState.CANCELLED), reader({"DE": 400}))
    assert (entry.energy_kwh, entry.emissions_g, entry.saving_g) == (0, 0, 0)
    assert entry.planned_g is None
    assert entry.baseline.window == Window(T0, T0)


def test_counterfactual_of_a_run_on_slower_hardware_is_as_long_as_on_that_of_home() -> None:
    two = job(options=(option(), option(accelerator="A100", duration_s=8 * HOUR)))
    made = record(runs=[run(0, 6, option=1)], job=two)
    # 8 h there are 4 h at home: 6 h are 3 h.
    assert counterfactual_run_s(made) == pytest.approx(3 * HOUR)
    elsewhere = record(runs=made.runs, job=two, baseline=baseline(accelerator="old"))
    assert counterfactual_run_s(elsewhere) == pytest.approx(6 * HOUR)


def test_counterfactual_of_a_wider_run_is_as_long_as_at_the_width_of_home() -> None:
    widths = tuple(Width(gpus=n, throughput=t, power_w=1.0) for n, t in ((1, 1.0), (4, 3.0)))
    wide = job(elastic=Elastic(widths=widths), interruptible=Interruptible(checkpoint_cost_s=HOUR))
    made = record(runs=[run(0, 1, gpus=4), run(2, 5, gpus=1, segment=1)], job=wide)
    # 1 h three times as fast, and 3 h of which one was the restore.
    assert counterfactual_run_s(made) == pytest.approx(5 * HOUR)
    assert entry_of(made, reader({"DE": 1})).gpus == 1


def test_every_segment_is_in_the_account() -> None:
    runs = [run(0, 1), run(4, 6, segment=1, cluster_id="c-fr")]
    entry = entry_of(record(runs=runs), reader({"DE": 400, "FR": 50}))
    assert [(one.segment, one.window) for one in entry.runs] == [
        (0, Window(at(0), at(1))),
        (1, Window(at(4), at(6))),
    ]
    assert entry.emissions_g == pytest.approx(400 + 100)


def test_hardware_is_that_of_the_last_run() -> None:
    two = job(options=(option(), option(accelerator="A100", gpus=4, is_power_estimated=True)))
    entry = entry_of(record(runs=[run(0, 1, option=1)], job=two), reader({"DE": 1}))
    assert (entry.accelerator, entry.gpus, entry.is_power_estimated) == ("A100", 4, True)


def test_summary_adds_what_is_known_and_counts_what_is_not() -> None:
    made = [
        entry_of(record(runs=[run(0, 2, planned_g=150.0)]), reader({"DE": 100})),
        entry_of(
            record(runs=[run(0, 1, cluster_id="c-fr", planned_g=60.0)]),
            reader({"DE": 300, "FR": 50}, is_fallback=True),
        ),
        entry_of(record(runs=[run(0, 1)]), reader({})),
        entry_of(record(JobState.MISSED, baseline=baseline()), reader({"DE": 100})),
    ]
    summary = summarise(made, refused=3)
    assert (summary.jobs, summary.missed_deadlines, summary.refused) == (4, 1, 3)
    assert summary.unaccounted == 1
    assert summary.energy_kwh == pytest.approx(4)
    assert summary.planned_g == pytest.approx(210)
    assert summary.emissions_g == pytest.approx(250)
    assert summary.baseline_g == pytest.approx(500)
    assert summary.saving_g == pytest.approx(250)
    assert summary.fallback_share == pytest.approx(50 / 250)


def test_summary_of_nothing_is_all_zero() -> None:
    summary = summarise([], refused=0)
    assert (summary.jobs, summary.saving_g, summary.fallback_share) == (0, 0, 0)
