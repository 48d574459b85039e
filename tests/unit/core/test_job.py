"""The job, its records, and the one table of legal changes."""

from datetime import datetime, timedelta

import pytest

from scheduler.core.errors import IllegalTransitionError, InvalidInputError, InvalidJobError
from scheduler.core.job import (
    ACTIVE_STATES,
    ENDED_STATES,
    TRANSITIONS,
    JobState,
    Placement,
    next_record,
)
from scheduler.core.terms import Elastic, Interruptible, Width
from scheduler.core.timegrid import Window
from tests.unit.core.builders import HOUR, T0, at, cluster, job, option, record, run


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"name": "Train"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": ""}, "name"),
        ({"command": ()}, "command"),
        ({"command": ("",)}, "command"),
        ({"command": ("sh", "a\0b")}, "command"),
        ({"options": ()}, "resources"),
        ({"duration_p95_s": HOUR}, "duration_p95"),
        ({"priority": 1001}, "priority"),
        ({"max_retries": -1}, "max_retries"),
        ({"deadline_at": T0}, "deadline"),
        ({"start_by_at": at(-1)}, "start_by"),
    ],
)
def test_wrong_job_names_the_field_the_value_and_the_valid_form(
    fields: dict[str, object], names: str
) -> None:
    with pytest.raises(InvalidJobError, match=f"^{names}: ") as caught:
        job(**fields)
    assert caught.value.fields["field"] == names
    assert caught.value.fields["valid"]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"gpus": 0}, "resources.accelerators"),
        ({"gpus": -1}, "resources.accelerators"),
        ({"gpus": 8, "num_nodes": 3}, "resources.num_nodes"),
        ({"num_nodes": 0}, "resources.num_nodes"),
        ({"duration_s": 0}, "duration"),
        ({"power_w": 0.0}, "power_w"),
        ({"power_w": float("nan")}, "power_w"),
        ({"power_w": float("inf")}, "power_w"),
    ],
)
def test_wrong_option_names_the_field(fields: dict[str, object], names: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        option(**fields)
    assert caught.value.fields["field"] == names


@pytest.mark.parametrize("name", ["min_chunk", "checkpoint_cost", "max_interruptions"])
def test_wrong_pauses_name_the_field(name: str) -> None:
    key = name if name == "max_interruptions" else f"{name}_s"
    with pytest.raises(InvalidJobError) as caught:
        Interruptible(**{key: -1})
    assert caught.value.fields["field"] == f"interruptible.{name}"


def test_naive_times_are_refused_by_name() -> None:
    for name in ("submitted_at", "deadline_at", "earliest_start_at", "start_by_at"):
        with pytest.raises(InvalidInputError, match=r"deadline|submitted|not_before|start_by"):
            job(**{name: datetime(2026, 3, 3)})


def test_latest_start_leaves_the_run_before_the_deadline_and_obeys_start_by() -> None:
    assert job().latest_start_at(option()) == at(20)
    assert job(start_by_at=at(3)).latest_start_at(option()) == at(3)
    assert job(start_by_at=at(23)).latest_start_at(option()) == at(20)


def test_margin_scales_with_the_option() -> None:
    made = job(duration_p95_s=5 * HOUR)
    assert job().margin_s(option()) == 0
    assert made.margin_s(option()) == HOUR
    assert made.margin_s(option(duration_s=8 * HOUR)) == 2 * HOUR
    assert made.margin_s(option(duration_s=1)) == 1


def test_regions_and_clusters_allowed_and_forbidden() -> None:
    one, other = cluster("A"), cluster("B")
    assert job().allows(one)
    assert job(regions=("r-a",)).allows(one)
    assert not job(regions=("r-a",)).allows(other)
    assert not job(forbid_regions=("r-b",)).allows(other)
    assert job(cluster_ids=("c-b",)).allows(other)
    assert not job(cluster_ids=("c-b",)).allows(one)
    assert not job(cluster_ids=("c-b",), forbid_regions=("r-b",)).allows(other)


def test_every_state_has_its_row_and_ended_ones_have_no_way_out() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {str(state) for state in ENDED_STATES} == {"succeeded", "failed", "cancelled", "missed"}
    assert set(JobState) == ENDED_STATES | ACTIVE_STATES
    for state in ACTIVE_STATES:
        reached, frontier = {state}, [state]
        while frontier:
            following = TRANSITIONS[frontier.pop()] - reached
            reached |= following
            frontier += following
        assert reached & ENDED_STATES, f"{state} can never end"


@pytest.mark.parametrize("source", list(JobState))
@pytest.mark.parametrize("to", list(JobState))
def test_only_the_steps_of_the_table_are_taken(source: JobState, to: JobState) -> None:
    before = record(source)
    if to in TRANSITIONS[source]:
        after = next_record(before, to, at=at(1), reason="because")
        assert (after.state, after.version, after.updated_at) == (to, before.version + 1, at(1))
        assert after.reason == "because"
    else:
        with pytest.raises(IllegalTransitionError, match=f"is {source}; it cannot become {to}"):
            next_record(before, to, at=at(1), reason=None)


def test_speed_is_relative_to_the_stated_width() -> None:
    widths = tuple(Width(gpus=n, throughput=t, power_w=1.0) for n, t in ((1, 2.0), (2, 3.0)))
    assert job(elastic=Elastic(widths=widths)).speed(2) == 1.5
    assert job().speed(7) == 1.0
    assert record().gpus_of(run(0, 1, gpus=2)) == 2
    assert record().gpus_of(run(0, 1)) == 1


def test_record_before_any_run() -> None:
    made = record(JobState.QUEUED)
    assert (made.run, made.attempt, made.done_share, made.run_s) == (None, 0, 0, 0)
    assert (made.started_at, made.ended_at, made.has_missed_deadline) == (None, None, False)


def test_record_sums_its_runs() -> None:
    runs = [run(1, 2, work_s=3600.0), run(5, 8, attempt=2, segment=1, work_s=7200.0)]
    made = record(JobState.SUCCEEDED, runs)
    # Only the present attempt counts: 2 h of 4 h.
    assert (made.attempt, made.done_share, made.run_s) == (2, 0.5, 4 * HOUR)
    assert (made.started_at, made.ended_at) == (at(1), at(8))
    assert record(JobState.RUNNING, runs).ended_at is None
    assert made.run is runs[1]
    assert record(JobState.RUNNING, [run(1, 2, spans=(), since=at(3))]).started_at == at(3)
    assert made.with_run(run(5, 9)).runs == (runs[0], run(5, 9))


def test_deadline_is_missed_by_ending_late_or_never_starting() -> None:
    assert record(JobState.SUCCEEDED, [run(20, 24.1)]).has_missed_deadline
    assert not record(JobState.SUCCEEDED, [run(20, 24)]).has_missed_deadline
    assert not record(JobState.FAILED, [run(20, 30)]).has_missed_deadline
    assert record(JobState.MISSED).has_missed_deadline


def test_window_of_a_placement_spans_its_segments() -> None:
    placement = Placement(
        job_id=job().job_id,
        cluster_id="c",
        region_id="r",
        zone_id="DE",
        option=0,
        accelerator="H100",
        gpus=1,
        power_w=1.0,
        pue=1.0,
        segments=(Window(at(1), at(2)), Window(at(5), at(6))),
        energy_kwh=1.0,
        planned_g=None,
        provenance=None,
    )
    assert placement.window.duration_s == timedelta(hours=5).total_seconds()
