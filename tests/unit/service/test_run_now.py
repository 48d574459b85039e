"""A start that the user wants at once: kept until it happens, wherever room comes first."""

from datetime import timedelta

from scheduler.core.errors import ClusterUnavailableError
from scheduler.core.job import JobRecord, JobState, Placement
from tests.fakes.clock import ManualClock
from tests.fakes.cluster import FakeCluster
from tests.unit.service.world import START, Make, World


class SilentCluster(FakeCluster):
    is_silent = False

    def free_devices(self, *_: object) -> dict[str, int]:
        if self.is_silent:
            raise ClusterUnavailableError(f"{self.cluster_id} does not answer")
        return dict(super().free_devices())


def worlds(make: Make) -> tuple[World, SilentCluster]:
    clock = ManualClock(START)
    cluster = SilentCluster("c-de", clock, {"H100": 2})
    return make(clusters={"c-de": cluster}, clock=clock), cluster


def run_now(world: World, record: JobRecord) -> JobRecord:
    def at_once(waiting: JobRecord) -> Placement:
        records = world.store.active_jobs()
        placement = world.planning.place_at(waiting, world.clock.now(), records)
        assert placement is not None
        return placement

    return world.queue.run_now(record.job.job_id, at_once)


def test_run_now_outlasts_a_silent_cluster(make: Make) -> None:
    world, cluster = worlds(make)
    record = world.submit("job", hours=1, gpus=2)
    world.cycle.tick()
    run_now(world, record)
    cluster.is_silent = True
    for _ in range(4):
        world.cycle.tick()
        world.clock.move(hours=0.5)
    cluster.is_silent = False
    world.cycle.tick()
    world.clock.move(hours=0.2)
    world.cycle.tick()
    started = world.record(record)
    assert started.state in (JobState.DISPATCHED, JobState.RUNNING)


def test_run_now_on_a_full_cluster_starts_when_it_is_free_and_not_when_it_was_thought_to_be(
    make: Make,
) -> None:
    world, _ = worlds(make)
    first = world.submit("first", hours=10, gpus=2)
    world.cycle.tick()
    run_now(world, first)
    world.cycle.tick()
    second = world.submit("second", hours=1, gpus=2)
    world.cycle.tick()
    wanted = run_now(world, second)
    assert wanted.placement is not None
    assert wanted.placement.window.start_at == world.clock.now()
    assert "as soon as c-de has room" in (wanted.reason or "")
    world.cycle.tick()
    assert "needed, 0 free" in (world.record(second).reason or "")
    world.queue.cancel(first.job.job_id)
    for _ in range(3):
        world.clock.move(hours=0.05)
        world.cycle.tick()
    assert world.record(second).state in (JobState.DISPATCHED, JobState.RUNNING)


def test_run_now_is_never_planned_for_later(make: Make) -> None:
    world, cluster = worlds(make)
    record = world.submit("job", hours=1, gpus=2)
    world.cycle.tick()
    run_now(world, record)
    cluster.is_silent = True
    for _ in range(10):
        world.cycle.tick()
        waiting = world.record(record)
        assert waiting.is_pinned
        assert waiting.placement is not None
        assert waiting.placement.window.start_at <= world.clock.now()
        world.clock.move(hours=0.5)
    assert world.clock.now() == START + timedelta(hours=5)
