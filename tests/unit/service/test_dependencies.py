"""Jobs that wait for others: never started early, cancelled in vain, all from what is stored."""

from datetime import timedelta

import pytest

from scheduler.core.errors import ConflictError, InfeasibleError, InvalidJobError
from scheduler.core.job import JobRecord, JobState
from scheduler.core.timegrid import format_instant
from tests.unit.service.world import START, DailySource, Make, World

RISING = {"DE": [100.0 + 10 * hour for hour in range(24)]}


def after(*records: JobRecord) -> dict[str, object]:
    return {"after": tuple(record.job.job_id for record in records)}


def started_hour(world: World, job: JobRecord) -> float:
    started_at = world.record(job).started_at
    assert started_at is not None
    return (started_at - START) / timedelta(hours=1)


def test_job_starts_only_after_all_that_it_waits_for_has_succeeded(make: Make) -> None:
    world = make(gpus=4)
    one = world.submit("one", hours=3, patience=0)
    two = world.submit("two", hours=5, patience=0)
    last = world.submit("last", hours=1, patience=30, **after(one, two))
    world.run_for(5)
    assert world.record(last).state is JobState.PLANNED
    world.run_for(20)
    assert world.record(last).state is JobState.SUCCEEDED
    # The clean hours are 12 to 18; both others have ended by 5.
    assert started_hour(world, last) == 12


@pytest.mark.parametrize(("took", "starts"), [(3.6, 3.75), (1.0, 1.0)])
def test_overdue_predecessor_pushes_the_job_and_an_early_one_pulls_it(
    make: Make, took: float, starts: float
) -> None:
    world = make(gpus=4, sources=[DailySource(RISING)])
    world.clusters["c-de"].run_hours["first"] = took
    first = world.submit("first", hours=2, patience=0)
    last = world.submit("last", hours=1, patience=12, **after(first))
    world.run_for(8)
    assert world.record(last).state is JobState.SUCCEEDED
    assert started_hour(world, last) == starts


def test_placement_at_submission_begins_after_what_it_waits_for(make: Make) -> None:
    world = make(gpus=4, sources=[DailySource(RISING)])
    first = world.submit("first", hours=4, patience=0)
    last = world.submit("last", hours=1, patience=12, **after(first))
    assert last.placement is not None
    assert last.placement.window.start_at == START + timedelta(hours=4)
    # Had both run at once, it would have begun when the first had ended.
    assert last.baseline.window.start_at == START + timedelta(hours=4)


def test_deadline_that_cannot_be_met_after_the_others_is_refused_with_the_earliest_finish(
    make: Make,
) -> None:
    world = make(gpus=4)
    first = world.submit("first", hours=4, patience=0)
    with pytest.raises(InfeasibleError) as caught:
        world.submit("last", hours=2, patience=3, **after(first))
    assert caught.value.fields["earliest_finish"] == format_instant(START + timedelta(hours=6))
    assert f"after {first.job.job_id}" in caught.value.message
    assert len(world.store.active_jobs()) == 1


def test_unknown_job_is_refused_by_name(make: Make) -> None:
    world = make()
    with pytest.raises(InvalidJobError, match="no job has the id 'nope'") as caught:
        world.submit(after=("nope",))
    assert caught.value.fields["field"] == "after"


@pytest.mark.parametrize("how", ["failed", "cancelled", "missed"])
def test_job_after_one_that_ended_in_vain_is_refused_by_name(make: Make, how: str) -> None:
    world = make()
    cluster = world.clusters["c-de"]
    cluster.exit_codes["first"] = [3]
    cluster.fault = "unavailable" if how == "missed" else None
    first = world.submit("first", hours=1, patience=0)
    if how == "cancelled":
        world.queue.cancel(first.job.job_id)
    world.run_for(2)
    with pytest.raises(InfeasibleError, match=first.job.job_id) as caught:
        world.submit(after=(first.job.job_id,))
    assert caught.value.fields["state"] == how
    # It is a refusal, not a mistake in the form.
    assert len(world.store.events(kind="refused")) == 1


def test_dependent_jobs_are_cancelled_down_the_chain_with_the_reason(make: Make) -> None:
    world = make()
    world.clusters["c-de"].exit_codes["first"] = [3]
    first = world.submit("first", hours=1, patience=0)
    # Ids in the reverse of the order in which they wait.
    second = world.submit("z", hours=1, patience=20, **after(first))
    third = world.submit("y", hours=1, patience=20, **after(second))
    held = world.submit("x", hours=1, patience=20, **after(third))
    other = world.submit("w", hours=1, patience=20)
    world.queue.hold(held.job.job_id)
    world.run_for(1)
    found = [world.record(one) for one in (second, third, held)]
    assert {record.state for record in found} == {JobState.CANCELLED}
    assert [record.reason for record in found] == [
        f"it was to run after {first.job.job_id}, which has failed",
        f"it was to run after {second.job.job_id}, which was cancelled",
        f"it was to run after {third.job.job_id}, which was cancelled",
    ]
    assert world.record(other).state is JobState.PLANNED
    assert len(world.store.entries()) == 4


def test_job_waits_while_the_other_is_held_and_says_so(make: Make) -> None:
    world = make(gpus=4)
    first = world.submit("first", hours=1, patience=20)
    last = world.submit("last", hours=1, patience=30, **after(first))
    world.queue.hold(first.job.job_id)
    world.run_for(1)
    record = world.record(last)
    assert record.state is JobState.QUEUED
    assert record.reason is not None
    assert f"it waits for {first.job.job_id}, which is held" in record.reason
    world.queue.release(first.job.job_id)
    world.run_for(28)
    assert world.record(last).state is JobState.SUCCEEDED
    assert started_hour(world, last) > started_hour(world, first)


def test_job_after_one_that_is_held_is_accepted_where_it_could_still_make_it(make: Make) -> None:
    world = make()
    first = world.submit("first", hours=2, patience=20)
    world.queue.hold(first.job.job_id)
    world.cycle.tick()
    last = world.submit("last", hours=1, patience=2, **after(first))
    assert last.placement is not None
    assert last.placement.window.start_at >= START + timedelta(hours=2)
    with pytest.raises(InfeasibleError):
        world.submit("last", hours=1, patience=1, **after(first))


def test_late_predecessor_makes_the_job_late_rather_than_lost(make: Make) -> None:
    world = make(gpus=4)
    world.clusters["c-de"].run_hours["first"] = 3
    first = world.submit("first", hours=2, patience=0)
    last = world.submit("last", hours=1, patience=2.5, **after(first))
    world.run_for(8)
    record = world.record(last)
    assert (record.state, record.has_missed_deadline) == (JobState.SUCCEEDED, True)
    assert started_hour(world, last) == 3


def test_predecessor_moves_forward_for_a_job_with_a_near_deadline(make: Make) -> None:
    world = make()
    first = world.submit("first", hours=2, patience=20)
    world.cycle.tick()
    # Planned at 12 h, in the clean hours; both can be done by 6 h.
    last = world.submit("last", hours=2, patience=4, **after(first))
    world.run_for(7)
    assert world.record(last).state is JobState.SUCCEEDED
    assert not world.record(last).has_missed_deadline


def test_job_cannot_be_run_now_before_its_predecessor(make: Make) -> None:
    world = make()
    first = world.submit("first", hours=1, patience=20)
    last = world.submit("last", hours=1, patience=30, **after(first))
    with pytest.raises(ConflictError, match=f"waits for {first.job.job_id}"):
        world.queue.run_now(last.job.job_id, lambda record: pytest.fail("not to be planned"))


def test_job_after_one_that_has_succeeded_is_like_any_other(make: Make) -> None:
    world = make()
    first = world.submit("first", hours=1, patience=0)
    world.run_for(2)
    last = world.submit("last", hours=1, patience=0, **after(first))
    world.cycle.tick()
    assert world.record(last).state is JobState.DISPATCHED


def test_restart_just_after_the_failure_is_stored_still_cancels_what_waits(make: Make) -> None:
    world = make()
    world.clusters["c-de"].exit_codes["first"] = [3]
    first = world.submit("first", hours=1, patience=0)
    last = world.submit("last", hours=1, patience=20, **after(first))
    world.run_for(0.75)
    world.clock.move(hours=1)
    original = world.store.update_job

    def dies_before_the_second(record: JobRecord, *args: object, **kwargs: object) -> None:
        if record.job.job_id == last.job.job_id:
            raise KeyboardInterrupt
        original(record, *args, **kwargs)  # type: ignore[arg-type]

    world.store.update_job = dies_before_the_second  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        world.cycle.tick()
    assert world.record(first).state is JobState.FAILED
    assert world.record(last).state is JobState.PLANNED
    world.store.close()
    again = make(clusters=world.clusters, clock=world.clock)
    again.cycle.tick()
    assert again.record(last).state is JobState.CANCELLED
    assert len(again.clusters["c-de"].runs) == 1


def test_restart_while_it_waits_starts_nothing_early_and_nothing_twice(make: Make) -> None:
    world = make(gpus=4)
    first = world.submit("first", hours=2, patience=0)
    last = world.submit("last", hours=1, patience=2, **after(first))
    for _ in range(20):
        world.run_for(0.25)
        world.store.close()
        world = make(gpus=4, clusters=world.clusters, clock=world.clock)
    assert world.record(last).state is JobState.SUCCEEDED
    assert started_hour(world, last) >= 2
    assert len(world.clusters["c-de"].runs) == 2
