"""Planned pauses and widths: how a placement of several segments is carried out, and what may go wrong."""

from dataclasses import replace
from datetime import timedelta

import pytest

from scheduler.core.job import JobRecord, JobState, next_record
from scheduler.core.terms import Elastic, Interruptible, Width
from scheduler.core.timegrid import Window, format_instant
from tests.unit.service.world import START, DailySource, Make, World

COST = 1 / 6
"""Hours that a resume costs, as `make_job` states it."""


@pytest.fixture
def make(make: Make) -> Make:
    """Worlds that have planned before: they plan again when something changes, not at the next tick."""

    def build(**kwargs: object) -> World:
        world = make(**kwargs)
        world.cycle.tick()
        return world

    return build


def window(start: float, end: float) -> Window:
    return Window(START + timedelta(hours=start), START + timedelta(hours=end))


def place(
    world: World, job: JobRecord, *segments: tuple[float, float], **fields: object
) -> JobRecord:
    """Gives a new job these segments, as a planner that pauses would, and has them noticed."""
    record = world.record(job)
    assert record.placement is not None
    windows = tuple(window(*one) for one in segments)
    placement = replace(record.placement, segments=windows, **fields)  # type: ignore[arg-type]
    planned = next_record(
        replace(record, placement=placement), JobState.PLANNED, at=world.clock.now(), reason=None
    )
    world.store.update_job(planned)
    world.cycle.tick()
    return planned


def paused(world: World, *, hours: float = 6, patience: float = 14, **fields: object) -> JobRecord:
    """A job with a pause planned from 3 to 12 h, where the clean hours begin."""
    job = world.submit("train", hours=hours, patience=patience, is_interruptible=True, **fields)
    place(world, job, (1, 3), (12, 12 + hours - 2 + COST))
    return job


def env(world: World, name: str) -> dict[str, str]:
    found = {key: run for cluster in world.clusters.values() for key, run in cluster.runs.items()}
    return dict(found[name].dispatch.env)


def test_job_leaves_at_the_end_of_its_segment_and_goes_on_at_the_next_one(make: Make) -> None:
    world = make()
    job = paused(world)
    world.run_for(5)
    assert world.record(job).state is JobState.SUSPENDED
    world.clusters["c-de"].run_hours["train"] = 4 + COST
    world.run_for(13)
    record = world.record(job)
    assert record.state is JobState.SUCCEEDED
    assert [run.spans for run in record.runs] == [(window(1, 3),), (window(12, 16 + COST),)]
    assert record.done_share == pytest.approx(1)
    told = [env(world, f"{job.job.job_id}.1.{segment}") for segment in (0, 1)]
    assert [one["GRIDTIDE_SEGMENT"] for one in told] == ["0", "1"]
    assert [one["GRIDTIDE_WINDOW_END"] for one in told] == [
        format_instant(window(1, 3).end_at),
        format_instant(window(12, 16 + COST).end_at),
    ]
    (entry,) = world.store.entries()
    # 2 h at 400 g, 4 h 10 min at 100 g; the counterfactual does without the restore.
    assert entry.emissions_g == pytest.approx(800 + 100 * (4 + COST))
    assert [run.segment for run in entry.runs] == [0, 1]
    assert entry.baseline.emissions_g == pytest.approx(6 * 400)


def test_devices_are_free_for_others_during_the_pause(make: Make) -> None:
    world = make(gpus=1)
    job = paused(world)
    world.run_for(1.25)
    other = world.submit("other", hours=4, patience=2.5)
    assert other.placement is not None
    assert other.placement.window.start_at >= window(1, 3).end_at
    world.run_for(2.75)
    assert world.record(other).state is JobState.RUNNING
    world.clusters["c-de"].run_hours["train"] = 4 + COST
    world.run_for(14)
    assert world.record(job).state is JobState.SUCCEEDED


def test_rest_is_planned_anew_when_the_job_has_left(make: Make) -> None:
    source = DailySource({"DE": [400.0] * 12 + [100.0] * 6 + [400.0] * 6})
    world = make(sources=[source])
    job = paused(world, patience=30)
    source.day_g["DE"] = [400.0] * 19 + [50.0] * 5
    world.run_for(4)
    record = world.record(job)
    assert record.state is JobState.SUSPENDED
    assert record.placement is not None
    assert record.placement.window == window(19, 23 + COST)


def test_job_stays_where_an_earlier_plan_put_it_where_moving_gains_nothing(make: Make) -> None:
    world = make()
    job = world.submit("train", hours=2, patience=20)
    # As clean as any of the hours from 12 to 18, of which the first would be chosen.
    place(world, job, (14, 16))
    world.submit("other", hours=2, patience=20)
    world.cycle.tick()
    record = world.record(job)
    assert record.placement is not None
    assert record.placement.window == window(14, 16)


def test_run_that_began_late_is_not_paused_where_that_would_cost_the_deadline(make: Make) -> None:
    world = make()
    job = world.submit("train", hours=4, patience=2, is_interruptible=True)
    place(world, job, (0.25, 2.25), (4 - COST, 6))
    devices = world.clusters["c-de"].devices
    devices["H100"] = 0
    world.run_for(0.25)
    world.clock.move(hours=0.25)
    devices["H100"] = 2
    # It begins at 0.5 h and has 2 h 15 min left at 2.25 h: after a pause it would end at 6 h 15 min.
    world.run_for(5)
    record = world.record(job)
    assert record.state is JobState.SUCCEEDED
    assert len(record.runs) == 1
    assert record.ended_at == START + timedelta(hours=4.5)
    kinds = [event.kind for event in world.store.events(job_id=job.job.job_id)]
    assert kinds.count("pause_left_out") == 1


def test_run_that_never_leaves_is_let_run_and_keeps_its_devices(make: Make) -> None:
    world = make(gpus=1)
    world.clusters["c-de"].pause_code = None
    job = paused(world)
    world.run_for(5)
    record = world.record(job)
    assert record.state is JobState.RUNNING
    free = world.planning.snapshot([record]).capacity.free[0]
    assert (free[0], free[15]) == (0, 1)
    world.run_for(3)
    assert world.record(job).state is JobState.SUCCEEDED


def test_work_lost_in_a_pause_is_done_again_whole_and_in_time(make: Make) -> None:
    world = make()
    world.clusters["c-de"].pause_code = -9
    job = paused(world, patience=12)
    world.run_for(4)
    record = world.record(job)
    assert record.state is JobState.SUSPENDED
    assert record.done_share == 0
    assert record.placement is not None
    assert record.placement.segments == (window(18 - 6 - COST, 18),)
    world.clusters["c-de"].run_hours["train"] = 6
    world.run_for(15)
    assert world.record(job).state is JobState.SUCCEEDED
    assert not world.record(job).has_missed_deadline


@pytest.mark.parametrize(("is_movable", "goes_on"), [(True, "c-fr"), (False, "c-de")])
def test_paused_job_goes_on_elsewhere_where_its_checkpoint_can_be_read(
    make: Make, is_movable: bool, goes_on: str
) -> None:
    world = make(zones=("DE", "FR"))
    how = Interruptible(checkpoint_cost_s=600, is_movable=is_movable)
    job = world.submit("train", hours=8, patience=15.5, interruptible=how, regions=("r-de", "r-fr"))
    de = {"cluster_id": "c-de", "region_id": "r-de", "zone_id": "DE"}
    place(world, job, (12, 18), (21, 23 + COST), **de)
    world.run_for(18.5)
    record = world.record(job)
    assert record.placement is not None
    # 2 h 10 min are left: at 200 g there, at 400 g here.
    assert record.placement.cluster_id == goes_on


def test_crash_just_after_the_request_to_leave_pauses_once(make: Make) -> None:
    world = make()
    job = paused(world)
    world.run_for(2.75)
    world.clock.move(hours=0.25)
    cluster = world.clusters["c-de"]
    original = cluster.pause

    def dies_after_asking(name: str, *, grace_s: float) -> None:
        original(name, grace_s=grace_s)
        raise KeyboardInterrupt

    cluster.pause = dies_after_asking  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.cycle.tick()
    world.store.close()
    cluster.pause = original  # type: ignore[method-assign]
    again = make(clusters=world.clusters, clock=world.clock)
    cluster.run_hours["train"] = 4 + COST
    again.run_for(15)
    assert again.record(job).state is JobState.SUCCEEDED
    assert [run.segment for run in again.record(job).runs] == [0, 1]


def test_frozen_run_goes_on_in_place_at_its_next_segment(make: Make) -> None:
    world = make()
    world.clusters["c-de"].is_freezing = True
    job = paused(world)
    world.run_for(4)
    record = world.record(job)
    assert record.state is JobState.SUSPENDED
    assert record.placement is not None
    # Nothing has to be restored.
    assert record.placement.segments == (window(12, 16),)
    world.run_for(14)
    record = world.record(job)
    assert record.state is JobState.SUCCEEDED
    assert [run.spans for run in record.runs] == [(window(1, 3), window(12, 16))]
    assert record.done_share == pytest.approx(1)


def test_frozen_job_that_was_held_goes_on_after_its_release(make: Make) -> None:
    world = make()
    world.clusters["c-de"].is_freezing = True
    job = world.submit("train", hours=4, patience=20, is_interruptible=True)
    world.run_for(14)
    world.queue.hold(job.job.job_id)
    world.run_for(0.5)
    assert world.record(job).state is JobState.HELD
    world.queue.release(job.job.job_id)
    world.run_for(4)
    assert world.record(job).state is JobState.SUCCEEDED


# --------------------------------------------------------------------------------------- widths


WIDTHS = Elastic(
    widths=(
        Width(gpus=1, throughput=1.0, power_w=1000.0),
        Width(gpus=2, throughput=1.6, power_w=1800.0),
        Width(gpus=4, throughput=2.0, power_w=3000.0),
    )
)


def test_each_width_is_a_run_of_its_own_with_its_devices_and_power(make: Make) -> None:
    world = make(gpus=4)
    job = world.submit("train", hours=4, patience=20, is_interruptible=True, elastic=WIDTHS)
    place(world, job, (1, 2), (2, 4), widths=(4, 1))
    world.clusters["c-de"].run_hours["train"] = 9
    world.run_for(1.25)
    record = world.record(job)
    free = world.planning.snapshot([record]).capacity.free[0]
    # Minutes from 1:15 h on: all four devices until 2 h, one until 4 h.
    assert free.tolist()[:180] == [0] * 45 + [3] * 120 + [4] * 15
    world.run_for(1.75)
    record = world.record(job)
    assert [(run.gpus, run.power_w) for run in record.runs] == [(4, 3000.0), (1, 1000.0)]
    told = [env(world, f"{job.job.job_id}.1.{segment}")["GRIDTIDE_GPUS"] for segment in (0, 1)]
    assert told == ["4", "1"]
    # An hour twice as fast as stated.
    assert record.runs[0].work_s == pytest.approx(2 * 3600)


def test_elastic_job_is_planned_at_the_width_that_emits_least(make: Make) -> None:
    world = make(gpus=4)
    wide = Elastic(widths=(WIDTHS.widths[0], Width(gpus=4, throughput=4.0, power_w=3000.0)))
    job = world.submit("train", hours=4, patience=20, elastic=wide)
    # Four devices take 1 h and 3 kWh, one takes 4 h and 4 kWh.
    assert job.placement is not None
    assert (job.placement.gpus, job.placement.window) == (4, window(12, 13))
    # The baseline keeps the width that was stated.
    assert (job.baseline.gpus, job.baseline.power_w) == (1, 1000.0)
