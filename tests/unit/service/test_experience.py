"""What the service learns of queues and clusters, and how plans use it."""

from datetime import timedelta

import pytest
import structlog

from scheduler.core.capacity import Reservation
from scheduler.core.errors import ClusterUnavailableError, InfeasibleError, StoreError
from scheduler.core.fleet import Fleet
from scheduler.core.job import JobState
from scheduler.core.outlook import Outlook
from scheduler.core.timegrid import Window
from scheduler.ports import Dispatch, RunState, RunStatus
from scheduler.server.checks import wait_checks
from scheduler.service.outlooks import Outlooks
from scheduler.service.queue_waits import LAST_WAITS, QueueWaits
from tests.fakes.clock import ManualClock
from tests.fakes.cluster import FakeCluster
from tests.unit.core.builders import cluster as place
from tests.unit.service.world import START, Make


class SharedCluster(FakeCluster):
    """Others hold some of its devices."""

    told: Outlook | None = None
    looks = 0

    def outlook(self) -> Outlook:
        self.looks += 1
        if self.told is None:
            raise ClusterUnavailableError("cluster does not answer")
        return self.told


def held(gpus: int, start_h: float, end_h: float) -> Outlook:
    window = Window(START + timedelta(hours=start_h), START + timedelta(hours=end_h))
    one = Reservation(cluster_id="c-de", accelerator="H100", gpus=gpus, window=window)
    return Outlook(totals={"H100": 2}, taken=(one,))


def shared() -> SharedCluster:
    return SharedCluster("c-de", ManualClock(START), {"H100": 2})


def test_plans_keep_clear_of_what_others_hold(make: Make) -> None:
    cluster = shared()
    world = make(clusters={"c-de": cluster}, clock=cluster.clock)
    cluster.told = held(2, 12, 14)
    world.cycle.tick()
    record = world.submit("job", hours=4, gpus=2)
    world.cycle.tick()
    placement = world.record(record).placement
    assert placement is not None
    # The grid is clean from 12 to 18, but until 14 the devices are others'.
    assert placement.window.start_at == START + timedelta(hours=14)


def test_news_of_the_cluster_moves_what_was_planned(make: Make) -> None:
    cluster = shared()
    world = make(clusters={"c-de": cluster}, clock=cluster.clock)
    world.planning._outlooks._every_s = 0
    cluster.told = Outlook(totals={"H100": 2})
    record = world.submit("job", hours=4, gpus=2)
    world.cycle.tick()
    placement = world.record(record).placement
    assert placement is not None
    assert placement.window.start_at == START + timedelta(hours=12)
    cluster.told = held(1, 11, 14)
    world.cycle.tick()
    placement = world.record(record).placement
    assert placement is not None
    assert placement.window.start_at == START + timedelta(hours=14)


def test_what_passes_is_gone_round_but_refuses_no_job(make: Make) -> None:
    cluster = shared()
    world = make(clusters={"c-de": cluster}, clock=cluster.clock)
    cluster.told = Outlook(totals={"H100": 2}, passing=held(2, 0, 14).taken)
    world.cycle.tick()
    roomy = world.submit("roomy", hours=2, gpus=2)
    tight = world.submit("tight", hours=2, gpus=2, patience=1)
    for _ in range(2):
        first, second = (world.record(one).placement for one in (roomy, tight))
        assert first is not None
        assert second is not None
        assert first.window.start_at == START + timedelta(hours=14)
        assert second.window.end_at <= START + timedelta(hours=3)
        world.cycle.tick()


def test_what_no_node_has_refuses_a_job_though_something_else_passes(make: Make) -> None:
    cluster = shared()
    world = make(clusters={"c-de": cluster}, clock=cluster.clock)
    lasting, passing = held(1, 0, 14).taken, held(1, 0, 14).taken
    cluster.told = Outlook(totals={"H100": 2}, taken=lasting, passing=passing)
    world.cycle.tick()
    with pytest.raises(
        InfeasibleError,
        match=r"no allowed cluster is free .*; c-de says that up to 1 H100 are missing",
    ):
        world.submit("wide", hours=2, gpus=2, patience=1)


def test_a_silent_cluster_is_planned_with_its_last_word() -> None:
    cluster = shared()
    outlooks = Outlooks(clusters={"c-de": cluster}, fleet=Fleet((place(gpus=2),)), every_s=0)
    outlooks.refresh()
    assert outlooks.reservations() == []
    cluster.told = held(1, 0, 3)
    outlooks.refresh()
    assert [one.gpus for one in outlooks.reservations()] == [1]
    assert outlooks.version == 1
    cluster.told = None
    outlooks.refresh()
    assert [one.gpus for one in outlooks.reservations()] == [1]


def test_what_is_missing_later_or_longer_is_news_but_not_what_moves_on_with_the_clock() -> None:
    cluster = shared()
    outlooks = Outlooks(clusters={"c-de": cluster}, fleet=Fleet((place(gpus=2),)), every_s=0)

    def version(*spans: tuple[float, float]) -> int:
        taken = tuple(one for span in spans for one in held(1, *span).taken)
        cluster.told = Outlook(totals={"H100": 2}, taken=taken)
        outlooks.refresh()
        return outlooks.version

    assert version((0, 4), (6, 7)) == 1
    assert version((0.1, 4.1), (6, 7)) == 1
    assert outlooks.reservations()[0].window.end_at == START + timedelta(hours=4.1)
    assert version((0.2, 4.2), (6, 7)) == 2, "it has moved by twelve minutes since it was news"
    assert version((0.2, 4.2), (5, 7)) == 3
    assert version((0.9, 4.2), (5, 7)) == 3, "it has begun anyway"
    assert version((5, 7)) == 4
    assert version((5, 9)) == 5


def test_clusters_are_not_asked_all_the_time() -> None:
    cluster = shared()
    outlooks = Outlooks(clusters={"c-de": cluster}, fleet=Fleet((place(gpus=2),)), every_s=3600)
    for _ in range(3):
        outlooks.refresh()
    assert cluster.looks == 1


class QueueingCluster(FakeCluster):
    """Lets each run wait for an hour."""

    def poll(self, names):  # type: ignore[no-untyped-def]
        found = dict(super().poll(names))
        for name, status in found.items():
            begins = self.runs[name].since
            if begins is not None and self.clock.now() < begins:
                found[name] = RunStatus(name=name, ref=status.ref, state=RunState.PENDING)
        return found

    def _begin(self, dispatch: Dispatch) -> None:
        super()._begin(dispatch)
        begun = self.runs[dispatch.name]
        assert begun.since is not None
        begun.since += timedelta(hours=1)


def test_waits_in_the_queue_become_a_margin_and_outlive_a_restart(make: Make) -> None:
    clock = ManualClock(START)
    cluster = QueueingCluster("c-de", clock, {"H100": 10})
    world = make(clusters={"c-de": cluster}, clock=clock, gpus=10)
    (own,) = world.planning._fleet
    for _ in range(6):
        world.submit("job", hours=1, patience=0.5)
    world.run_for(4)
    states = [record.state for record in world.store.list_jobs()[0]]
    assert states == [JobState.SUCCEEDED] * 6
    again = QueueWaits(world.store, world.planning._fleet)
    assert again.extra_s(own) == 3600
    assert list(again.learned_s()) == [("c-de", 3600, 6)]
    (check,) = wait_checks(again)
    assert check.detail.startswith("its own queue takes up to 1h (9 of 10 of the last 6 runs)")
    record = world.submit("job", hours=1, patience=2)
    placement = record.placement
    assert placement is not None
    latest = record.job.deadline_at - timedelta(hours=2)
    assert placement.window.start_at <= latest


def test_only_the_last_waits_count_and_a_full_disk_stops_nothing(make: Make) -> None:
    world = make()
    waits = QueueWaits(world.store, world.planning._fleet)
    (own,) = world.planning._fleet
    for wait_s in [900.0] * LAST_WAITS + [0.0] * LAST_WAITS:
        waits.note("c-de", wait_s)
    assert waits.extra_s(own) == 0

    def full(key: str, text: str) -> None:
        raise StoreError("no space left")

    world.store.put_document = full  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        for _ in range(LAST_WAITS):
            waits.note("c-de", 900.0)
    assert waits.extra_s(own) == 900
    assert logs[0]["event"] == "queue_waits_unwritable"


def test_a_clock_that_was_set_back_is_no_wait(make: Make) -> None:
    world = make()
    waits = QueueWaits(world.store, world.planning._fleet)
    waits.note("c-de", -5.0)
    assert world.store.get_document("queue_waits:c-de") == "[0.0]"
