"""The whole cycle on a manual clock: what a job goes through, and what goes wrong on the way."""

import threading
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from scheduler.core.errors import ConflictError, InfeasibleError
from scheduler.core.forecast import IntensitySeries, Scope
from scheduler.core.job import JobState, Wanted
from scheduler.core.planner.snapshot import Plan, PlanSnapshot
from scheduler.core.timegrid import Window
from scheduler.service import planning
from scheduler.service.job_queue import Submission
from tests.unit.service.world import DAY_G, START, DailySource, Make, make_job


def test_job_waits_for_the_clean_hours_and_its_saving_is_accounted(make: Make) -> None:
    world = make()
    job = world.submit(hours=4, patience=20)
    world.run_for(18)
    record = world.record(job)
    assert record.state is JobState.SUCCEEDED
    assert record.started_at == START + timedelta(hours=12)
    (entry,) = world.store.entries()
    # 1 kW for 4 h: at 100 g/kWh 400 g, at once at 400 g/kWh 1600 g.
    assert entry.emissions_g == pytest.approx(400)
    assert entry.baseline.emissions_g == pytest.approx(1600)
    assert entry.saving_g == pytest.approx(1200)
    assert entry.is_settled


def test_job_without_slack_starts_at_once(make: Make) -> None:
    world = make()
    world.clock.move(minutes=7)
    job = world.submit(hours=4, patience=0)
    world.cycle.tick()
    assert world.record(job).state is JobState.DISPATCHED


def test_job_moves_to_the_cleaner_region(make: Make) -> None:
    world = make(zones=("DE", "FR"))
    job = world.submit(hours=4, patience=2)
    world.cycle.tick()
    placement = world.record(job).placement
    assert placement is not None
    assert placement.cluster_id == "c-fr"


def test_clean_hours_are_shared_out_and_every_deadline_holds(make: Make) -> None:
    world = make(gpus=2)
    jobs = [world.submit(f"j{index}", hours=3, patience=30) for index in range(8)]
    world.run_for(40)
    records = [world.record(job) for job in jobs]
    assert {record.state for record in records} == {JobState.SUCCEEDED}
    assert not any(record.has_missed_deadline for record in records)
    assert len(world.clusters["c-de"].runs) == 8


def test_impossible_job_is_refused_with_the_earliest_finish_and_leaves_no_job(make: Make) -> None:
    world = make(gpus=1)
    world.submit("first", hours=4, patience=0)
    with pytest.raises(InfeasibleError) as caught:
        world.submit("second", hours=4, patience=2)
    assert caught.value.fields["earliest_finish"] == "2026-03-02T08:00:00Z"
    assert [record.job.name for record in world.store.active_jobs()] == ["first"]
    assert [event.kind for event in world.store.events(kind="refused")] == ["refused"]


def test_job_that_its_cluster_gives_back_is_planned_anew_and_costs_no_attempt(make: Make) -> None:
    world = make()
    cluster = world.clusters["c-de"]
    cluster.fault = "unstarted"
    job = world.submit(hours=1, patience=10)
    world.run_for(2)
    assert any(one.detail == "no node has room" for one in world.store.events(kind="not_started"))
    cluster.fault = None
    world.run_for(12)
    record = world.record(job)
    assert record.state is JobState.SUCCEEDED
    assert [(run.attempt, run.segment) for run in record.runs] == [(1, 0)]


def test_job_that_was_given_back_can_be_cancelled(make: Make) -> None:
    world = make()
    cluster = world.clusters["c-de"]
    job = world.submit(hours=1, patience=0)
    world.cycle.tick()
    world.queue.cancel(job.job.job_id)
    cluster.fault = "unstarted"
    world.cycle.tick()
    assert world.record(job).state is JobState.CANCELLED


def test_failed_job_is_retried_as_often_as_asked_and_all_its_runs_are_accounted(make: Make) -> None:
    world = make()
    world.clusters["c-de"].exit_codes["flaky"] = [3, 0]
    job = world.submit("flaky", hours=1, patience=10, max_retries=1)
    world.run_for(12)
    record = world.record(job)
    assert record.state is JobState.SUCCEEDED
    assert [run.exit_code for run in record.runs] == [3, 0]
    (entry,) = world.store.entries()
    assert entry.energy_kwh == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("code", "reason"), [(3, "exit code 3"), (-11, "signal 11"), (None, "exit code unknown")]
)
def test_failure_without_retries_says_why(make: Make, code: int | None, reason: str) -> None:
    world = make()
    world.clusters["c-de"].exit_codes["bad"] = [code]
    job = world.submit("bad", hours=1, patience=0)
    world.run_for(2)
    assert world.record(job).state is JobState.FAILED
    assert world.record(job).reason == reason


def test_held_running_job_is_paused_and_goes_on_where_it_was(make: Make) -> None:
    world = make()
    job = world.submit("train", hours=4, patience=20, is_interruptible=True)
    world.run_for(14)
    world.queue.hold(job.job.job_id)
    world.run_for(0.5)
    assert world.record(job).state is JobState.HELD
    world.queue.release(job.job.job_id)
    # 2 h are done; what is left is 2 h and the restore of 10 min.
    world.clusters["c-de"].run_hours["train"] = 2 + 1 / 6
    world.run_for(10)
    record = world.record(job)
    assert record.state is JobState.SUCCEEDED
    assert [run.segment for run in record.runs] == [0, 1]
    assert record.done_share == pytest.approx(1)
    (entry,) = world.store.entries()
    assert entry.baseline.window.duration_s == pytest.approx(4 * 3600)


def test_hold_that_is_taken_back_before_anything_was_paused_changes_nothing(make: Make) -> None:
    world = make()
    job = world.submit(hours=1, patience=0, is_interruptible=True)
    world.run_for(0.25)
    world.queue.hold(job.job.job_id)
    assert world.queue.release(job.job.job_id).wanted is Wanted.RUN
    world.run_for(2)
    record = world.record(job)
    assert record.state is JobState.SUCCEEDED
    assert len(record.runs) == 1


def test_holding_a_running_job_that_cannot_pause_is_a_conflict(make: Make) -> None:
    world = make()
    job = world.submit(patience=0)
    world.run_for(1)
    with pytest.raises(ConflictError, match="not interruptible"):
        world.queue.hold(job.job.job_id)


def test_cancel_reaches_a_running_job_in_the_next_tick(make: Make) -> None:
    world = make()
    job = world.submit(patience=0)
    world.run_for(1)
    world.queue.cancel(job.job.job_id)
    world.run_for(0.5)
    assert world.record(job).state is JobState.CANCELLED
    (entry,) = world.store.entries()
    assert entry.energy_kwh == pytest.approx(1.0)


def test_cancelling_a_waiting_job_is_immediate_and_repeatable(make: Make) -> None:
    world = make()
    job = world.submit()
    world.queue.cancel(job.job.job_id)
    assert world.queue.cancel(job.job.job_id).state is JobState.CANCELLED
    world.run_for(24)
    assert world.clusters["c-de"].runs == {}


@pytest.mark.parametrize("fault", ["lost-before", "lost-after"])
def test_lost_reply_leads_to_exactly_one_run(make: Make, fault: str) -> None:
    world = make()
    job = world.submit(hours=2, patience=8)
    world.clusters["c-de"].fault = fault
    world.run_for(5)
    world.clusters["c-de"].fault = None
    world.run_for(5)
    assert world.record(job).state is JobState.SUCCEEDED
    assert len(world.clusters["c-de"].runs) == 1


@pytest.mark.parametrize("code", [0, 1])
def test_job_that_is_cancelled_while_its_start_is_in_doubt_is_cancelled_once_it_is_not_found(
    make: Make, code: int
) -> None:
    """Also at its second attempt: of a job that has run no deadline makes an end."""
    world = make()
    job = world.submit(hours=1, patience=4, max_retries=1)
    cluster = world.clusters["c-de"]
    cluster.exit_codes["job"] = [1] if code else []
    while code and len(world.record(job).runs) < 1:
        world.run_for(0.25)
    cluster.fault = "lost-before"
    while world.record(job).state is not JobState.UNCERTAIN:
        world.run_for(0.25)
    world.queue.cancel(job.job.job_id)
    cluster.fault = None
    world.run_for(0.5)
    record = world.record(job)
    assert (record.state, record.reason) == (JobState.CANCELLED, "by the user")
    assert len(record.runs) == code


def test_cluster_that_does_not_answer_delays_nothing_else(make: Make) -> None:
    world = make(zones=("DE", "FR"))
    away = world.submit("away", hours=2, patience=0, regions=("r-de",))
    near = world.submit("near", hours=2, patience=0, regions=("r-fr",))
    world.clusters["c-de"].fault = "unavailable"
    world.cycle.tick()
    assert world.record(near).state is JobState.DISPATCHED
    assert world.record(away).state in (JobState.QUEUED, JobState.PLANNED)


def test_job_refused_for_good_by_its_cluster_fails_with_the_reason(make: Make) -> None:
    world = make()
    world.clusters["c-de"].fault = "rejected"
    job = world.submit(patience=0)
    world.cycle.tick()
    assert world.record(job).state is JobState.FAILED
    assert world.record(job).reason == "no such partition"


def test_without_any_forecast_jobs_start_as_soon_as_there_is_room_and_stay_marked(
    make: Make,
) -> None:
    source = DailySource(DAY_G)
    source.fails = True
    world = make(sources=[source])
    job = world.submit(hours=2, patience=20)
    world.cycle.tick()
    assert world.record(job).state is JobState.DISPATCHED
    assert world.record(job).is_degraded


def test_stale_live_forecast_is_replaced_by_the_fallback_and_marked(make: Make) -> None:
    live = DailySource({"DE": [300.0] * 24}, name="live", is_live=True)
    world = make(sources=[live, DailySource(DAY_G)])
    world.cycle.refresh()
    fresh = world.submit("fresh")
    live.fails = True
    world.clock.move(hours=7)
    world.cycle.refresh()
    stale = world.submit("stale")
    world.cycle.tick()
    assert fresh.placement is not None
    assert stale.placement is not None
    assert fresh.placement.provenance is not None
    assert stale.placement.provenance is not None
    assert (fresh.placement.provenance.source, fresh.placement.provenance.is_fallback) == (
        "live",
        False,
    )
    assert (stale.placement.provenance.source, stale.placement.provenance.is_fallback) == (
        "daily",
        True,
    )


def test_job_that_nowhere_finds_room_before_its_deadline_is_missed_and_counted(make: Make) -> None:
    world = make(gpus=1)
    job = world.submit(hours=2, patience=1)
    world.clusters["c-de"].fault = "unavailable"
    world.run_for(4)
    assert world.record(job).state is JobState.MISSED
    (entry,) = world.store.entries()
    assert entry.has_missed_deadline


def test_restart_between_intent_and_reply_starts_nothing_twice(make: Make, tmp_path: Path) -> None:
    world = make()
    job = world.submit(hours=2, patience=0)
    cluster = world.clusters["c-de"]
    original = cluster.submit

    def dies_after_starting(dispatch: object) -> str:
        original(dispatch)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    cluster.submit = dies_after_starting  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        world.cycle.tick()
    assert world.record(job).state is JobState.DISPATCHING
    world.store.close()
    cluster.submit = original  # type: ignore[method-assign]
    again = make(clusters=world.clusters, clock=world.clock)
    again.run_for(3)
    assert again.record(job).state is JobState.SUCCEEDED
    assert len(cluster.runs) == 1


def test_amended_deadline_moves_the_job(make: Make) -> None:
    world = make()
    job = world.submit(hours=4, patience=20)
    world.cycle.tick()
    world.queue.amend(job.job.job_id, deadline_at=START + timedelta(hours=6), priority=None)
    world.cycle.tick()
    placement = world.record(job).placement
    assert placement is not None
    assert placement.window.end_at <= START + timedelta(hours=6)


def test_early_end_of_one_job_lets_another_move_into_cleaner_hours(make: Make) -> None:
    world = make(gpus=1)
    world.clusters["c-de"].run_hours["short"] = 0.5
    world.submit("short", hours=6, patience=10)
    later = world.submit("later", hours=6, patience=18)
    world.run_for(24)
    assert world.record(later).state is JobState.SUCCEEDED


def test_explanation_names_runner_up_now_and_slack(make: Make) -> None:
    world = make(zones=("DE", "FR"))
    job = world.submit(hours=4, patience=18)
    world.cycle.tick()
    found = world.planning.explain(world.record(job), world.store.active_jobs())
    assert found is not None
    assert [sentence.split(" ")[0] for sentence in found.reasons] == [
        "Runs",
        "Second:",
        "Starting",
        "6",
    ]


def test_explanation_of_what_cannot_be_chosen_any_more_offers_nothing_else(make: Make) -> None:
    world = make(zones=("DE", "FR"))
    job = world.submit(hours=4, patience=0)
    told = dict[JobState, str]()
    for _ in range(6):
        world.run_for(1)
        found = world.planning.explain(world.record(job), [])
        assert found is not None
        assert (found.runner_up, found.run_now, found.with_more_slack) == (None, None, None)
        told[world.record(job).state] = found.reasons[1]
    assert "no other place or hour is looked for" in told[JobState.RUNNING]
    assert told[JobState.SUCCEEDED].startswith("It is over (succeeded")


def test_full_fleet_that_takes_long_to_plan_anew_does_not_keep_everybody_waiting(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(gpus=1)
    world.submit("first", hours=4, patience=0)
    made, now_s = list[float](), count(0.0, 10.0)
    monkeypatch.setattr(planning, "time", SimpleNamespace(monotonic=lambda: next(now_s)))
    make_plan = world.planning._make

    def slowly(snapshot: PlanSnapshot) -> Plan:
        made.append(next(now_s))
        return make_plan(snapshot)

    monkeypatch.setattr(world.planning, "_make", slowly)
    for _ in range(9):
        with pytest.raises(InfeasibleError, match="no allowed cluster is free for 4h"):
            world.submit("second", hours=4, patience=0)
    # Each try takes 20 s of this clock, and so does the rest after it: every other submission tries.
    assert len(made) == 5


def test_new_job_never_takes_the_window_of_one_that_was_admitted(make: Make) -> None:
    world = make(gpus=1)
    first = make_job(world.clock, "first", hours=4, patience=1)
    world.queue.submit([Submission(job=first)])
    with pytest.raises(InfeasibleError):
        world.submit("second", hours=4, patience=1, priority=100)
    world.run_for(6)
    assert world.store.get_job(first.job_id).state is JobState.SUCCEEDED


def test_sources_that_hang_delay_no_tick(make: Make) -> None:
    may_go_on, hanging = threading.Event(), threading.Barrier(13)

    class Hanging(DailySource):
        def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
            hanging.wait(10)
            assert may_go_on.wait(10)
            return super().fetch_forecast(zone_id, scope, window)

    sources = [Hanging(DAY_G, name=f"source-{index}", is_live=True) for index in range(12)]
    world = make(sources=sources)
    world.cycle.start()
    try:
        # All of them hang at the same time, and ticks go on.
        hanging.wait(10)
        world.submit("job", hours=1, patience=0)
        ticks, pause = world.cycle.report.ticks, threading.Event()
        for _ in range(500):
            if world.cycle.report.ticks >= ticks + 2:
                break
            pause.wait(0.02)
        assert world.cycle.report.ticks >= ticks + 2
        assert world.cycle.report.failures == 0
    finally:
        may_go_on.set()
        world.cycle.stop()
        assert world.cycle.join(within_s=10)


def test_cycle_that_was_stopped_waits_for_no_source_and_ticks_no_more(make: Make) -> None:
    may_go_on, hanging = threading.Event(), threading.Event()

    class Hanging(DailySource):
        def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
            hanging.set()
            assert may_go_on.wait(10)
            return super().fetch_forecast(zone_id, scope, window)

    world = make(sources=[Hanging(DAY_G, is_live=True)])
    world.cycle.start()
    assert hanging.wait(10)
    world.cycle.stop()
    ticks = world.cycle.report.ticks
    assert world.cycle.tick().ticks == ticks
    assert not world.cycle.join(within_s=0.05)
    may_go_on.set()
    assert world.cycle.join(within_s=10)
    assert world.cycle.report.failures == 0
