"""Jobs that users put into a cluster's own queue: planned there, guarded, and theirs to the end."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.core.capacity import Reservation
from scheduler.core.errors import ConflictError
from scheduler.core.guard import GUARD_BEFORE_S
from scheduler.core.job import JobRecord, JobState
from scheduler.core.timegrid import Window, format_instant
from scheduler.ports import News
from tests.fakes.clock import ManualClock
from tests.fakes.native_cluster import FakeNativeCluster, FakeTellingCluster
from tests.unit.service.world import START, DailySource, Make, World, make_world

# The grid of DE is clean from 12:00 to 18:00.
DEADLINE = START + timedelta(hours=24)
CLEAN = START + timedelta(hours=12)
WORDS = {"deadline": format_instant(DEADLINE), "duration": "4h", "power_w": "1000"}
GUARD = DEADLINE - timedelta(hours=4, seconds=GUARD_BEFORE_S)


class Site:
    def __init__(self, world: World, cluster: FakeNativeCluster) -> None:
        self.world, self.cluster, self.clock = world, cluster, world.clock

    def tick(self) -> None:
        self.world.cycle.tick()
        assert self.world.cycle.report.failures == 0, self.world.cycle.report.last_error

    def run_for(self, hours: float) -> None:
        self.world.run_for(hours)
        assert self.world.cycle.report.failures == 0, self.world.cycle.report.last_error

    def jobs(self) -> list[JobRecord]:
        return self.world.store.list_jobs()[0]

    @property
    def job(self) -> JobRecord:
        (record,) = self.jobs()
        return record

    def kinds(self) -> list[str]:
        return [event.kind for event in self.world.store.events()]


@pytest.fixture
def site(make: Make) -> Site:
    return make_site(make)


def make_site(make: Make, **changes: object) -> Site:
    clock = ManualClock(START)
    cluster = FakeNativeCluster("c-de", clock, {"H100": 2})
    return Site(make(clusters={"c-de": cluster}, clock=clock, **changes), cluster)


def test_a_held_job_is_guarded_planned_and_released_at_its_window(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    assert site.job.state is JobState.PLANNED
    assert site.job.placement is not None
    assert site.job.placement.window.start_at == CLEAN
    assert site.cluster.queue["7"].guard_at == GUARD
    assert not site.cluster.queue["7"].is_held
    assert site.job.job.native is not None
    assert (site.job.job.native.ref, site.job.job.native.user) == ("7", "ada")
    site.run_for(24)
    assert site.job.state is JobState.SUCCEEDED
    (run,) = site.job.runs
    assert run.ref == "7"
    assert [(one.start_at, one.end_at) for one in run.spans] == [
        (CLEAN, CLEAN + timedelta(hours=4))
    ]
    (entry,) = site.world.store.entries()
    assert entry.runs[0].cluster_ref == "7"
    assert entry.saving_g > 0
    assert site.cluster.calls.count("adopt 7") == 1


def test_with_the_service_gone_it_starts_at_its_guard_and_is_taken_up_later(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    site.clock.move(hours=21)  # nobody ticks
    site.cluster.native_jobs()
    site.clock.move(hours=0.5)
    site.tick()
    site.tick()
    assert site.job.state is JobState.RUNNING
    assert site.job.started_at is not None
    assert site.job.started_at >= GUARD
    site.run_for(5)
    assert site.job.state is JobState.SUCCEEDED
    assert "c-de without us" in str([event.detail for event in site.world.store.events()])


def test_one_that_began_and_ended_while_nobody_looked_has_its_account(site: Site) -> None:
    site.cluster.sbatch("7", WORDS, hours=1)
    site.tick()
    site.cluster.scontrol_start("7", START)
    site.cluster.native_jobs()
    site.clock.move(hours=3)
    site.tick()
    site.tick()
    assert site.job.state is JobState.SUCCEEDED
    assert len(site.world.store.entries()) == 1


def test_a_start_by_hand_is_respected(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    site.clock.move(hours=1)
    site.cluster.scontrol_start("7", site.clock.now())
    site.tick()
    site.tick()
    assert site.job.state is JobState.RUNNING
    assert site.job.started_at == START + timedelta(hours=1)


def test_a_time_chosen_by_hand_is_planned_and_not_moved(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    chosen = START + timedelta(hours=5)
    site.cluster.scontrol_start("7", chosen)
    site.tick()
    assert site.job.state is JobState.PLANNED
    assert site.job.is_pinned
    assert site.job.placement is not None
    assert site.job.placement.window.start_at == chosen
    site.run_for(4)
    assert site.cluster.queue["7"].starts_at == chosen
    site.run_for(6)
    assert site.job.started_at == chosen
    assert site.kinds().count("start_chosen") == 1


def test_a_hold_by_hand_holds_and_a_release_plans_it_again(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    site.cluster.scontrol_hold("7")
    site.tick()
    assert site.job.state is JobState.HELD
    assert site.job.placement is None
    site.run_for(13)
    assert site.job.state is JobState.HELD
    assert site.cluster.queue["7"].is_held
    site.cluster.scontrol_release("7")
    site.tick()
    assert site.job.state is JobState.DISPATCHED  # it is the clean hour
    site.run_for(5)
    assert site.job.state is JobState.SUCCEEDED


def test_a_held_one_that_was_let_go_at_once_is_taken_up(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    site.cluster.scontrol_hold("7")
    site.tick()
    site.cluster.scontrol_start("7", site.clock.now())
    site.cluster.native_jobs()
    site.tick()
    site.tick()
    assert site.job.state is JobState.RUNNING


def test_one_that_is_taken_away_is_cancelled(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    site.cluster.scancel("7")
    site.tick()
    assert site.job.state is JobState.CANCELLED
    assert site.job.reason == "taken from the queue of c-de before it began"


def test_our_cancel_reaches_the_queue(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    site.world.queue.cancel(site.job.job.job_id)
    site.tick()
    assert site.job.state is JobState.CANCELLED
    assert "7" not in site.cluster.queue
    site.tick()
    assert len(site.jobs()) == 1


@pytest.mark.parametrize("verb", ["hold", "release"])
def test_hold_and_release_are_left_to_the_cluster(site: Site, verb: str) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    with pytest.raises(ConflictError, match=f"scontrol {verb} 7"):
        getattr(site.world.queue, verb)(site.job.job.job_id)


def test_another_deadline_moves_the_guard(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    later = DEADLINE + timedelta(hours=10)
    site.world.queue.amend(site.job.job.job_id, deadline_at=later, priority=None)
    site.tick()
    assert site.cluster.queue["7"].guard_at == GUARD + timedelta(hours=10)
    site.run_for(24)
    assert site.job.state is JobState.SUCCEEDED


def test_it_pauses_and_goes_on_in_place_with_both_stretches(make: Make) -> None:
    grams = [400.0] * 6 + [100.0] * 3 + [400.0] * 6 + [100.0] * 4 + [400.0] * 5
    site = make_site(make, sources=[DailySource({"DE": grams})])
    # The grid is clean for three hours and then for four; the restore is paid for once.
    pause = {"interruptible": "yes", "min_chunk": "1h", "checkpoint_cost": "30m"}
    site.cluster.sbatch("7", WORDS | pause | {"duration": "5h"}, hours=5.5)
    site.tick()
    placement = site.job.placement
    assert placement is not None
    assert len(placement.segments) == 2
    site.run_for(10)
    assert site.job.state is JobState.SUSPENDED
    assert site.cluster.queue["7"].guard_at is not None
    # Its guard is moved to what the rest needs.
    assert site.cluster.queue["7"].guard_at > DEADLINE - timedelta(hours=5)
    site.run_for(11)
    assert site.job.state is JobState.SUCCEEDED
    (run,) = site.job.runs
    assert [one.duration_s / 3600 for one in run.spans] == [3, 2.5]
    (entry,) = site.world.store.entries()
    assert len(entry.runs) == 2


def test_a_paused_one_that_its_guard_let_go_on_is_followed(site: Site) -> None:
    site.cluster.sbatch("7", WORDS | {"interruptible": "yes", "min_chunk": "1h"})
    site.tick()
    site.cluster.scontrol_start("7", START)
    site.run_for(1)
    assert site.job.state is JobState.RUNNING
    site.cluster.pause("native:7", grace_s=0)
    site.tick()
    assert site.job.state is JobState.SUSPENDED
    site.cluster.resume("native:7")
    site.tick()
    assert site.job.state is JobState.RUNNING
    assert "not by Gridtide" in str([event.detail for event in site.world.store.events()])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"deadline": "tomorrow", "duration": "4h"}, "deadline: 'tomorrow'"),
        ({"deadline": format_instant(DEADLINE)}, "duration: neither stated"),
        ({"deadline": format_instant(START), "duration": "4h"}, "is in the past"),
        ({"deadlin": "x"}, "deadlin: not a word that can be stated; did you mean deadline?"),
        (WORDS | {"power_w": "much"}, "power_w: 'much' is not a number"),
        (WORDS | {"priority": "1.5"}, "priority: '1.5' is not a number"),
        (WORDS | {"interruptible": "maybe"}, "interruptible: 'maybe' is not yes or no"),
        (WORDS | {"carbon_price": "80"}, "carbon_price: 80 cannot be weighed"),
        (WORDS | {"duration": "4000h"}, "deadline:"),
    ],
)
def test_words_that_are_wrong_are_told_and_nothing_is_changed(
    site: Site, words: dict[str, str], message: str
) -> None:
    site.cluster.sbatch("7", words)
    site.tick()
    assert site.jobs() == []
    assert message in site.cluster.refused["7"]
    assert site.cluster.queue["7"].is_held
    assert site.kinds() == ["refused"]
    site.tick()
    assert site.kinds() == ["refused"]


def test_what_the_cluster_cannot_hand_over_is_refused(site: Site) -> None:
    site.cluster.sbatch("7", WORDS, trouble="it is an array")
    site.tick()
    assert site.cluster.refused["7"] == "it is an array"


def test_a_deadline_that_cannot_be_met_starts_at_once_and_is_late(site: Site) -> None:
    site.cluster.sbatch("7", WORDS | {"deadline": format_instant(START + timedelta(hours=2))})
    site.tick()
    site.run_for(5)
    assert site.job.state is JobState.SUCCEEDED
    assert site.job.has_missed_deadline
    assert site.job.started_at == START


def test_it_is_not_given_up_at_its_deadline(site: Site) -> None:
    for ref in ("1", "2"):  # the cluster is full until long after
        site.cluster.sbatch(ref, WORDS, hours=40)
    site.run_for(13)
    late = WORDS | {"deadline": format_instant(START + timedelta(hours=18))}
    site.cluster.sbatch("7", late, hours=1)
    site.cluster.native_jobs()
    site.run_for(1)
    states = {record.job.native.ref: record.state for record in site.jobs() if record.job.native}
    assert states["7"] is not JobState.MISSED


def test_after_a_crash_between_guard_and_store_it_is_adopted_once(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)

    def crash(*_: object) -> None:
        raise OSError("killed")

    real: Callable[..., object] = site.world.store.add_jobs
    site.world.store.add_jobs = crash  # type: ignore[method-assign, assignment]
    site.world.cycle.tick()
    assert site.cluster.queue["7"].guard_at == GUARD
    assert site.world.cycle.report.failures == 1
    site.world.store.add_jobs = real  # type: ignore[method-assign, assignment]
    site.world.cycle.tick()
    assert site.job.state is JobState.PLANNED
    assert site.job.job.job_id == site.cluster.queue["7"].job_id


@pytest.mark.parametrize("fault", ["silent", "no-rights"])
def test_a_silent_cluster_or_a_missing_right_stops_nothing(site: Site, fault: str) -> None:
    site.cluster.sbatch("7", WORDS)
    site.cluster.fault = fault
    site.tick()
    assert site.jobs() == []
    site.cluster.fault = None
    site.tick()
    assert site.job.state is JobState.PLANNED


def hold_everything(site: Site, hours: float) -> None:
    window = Window(START, START + timedelta(hours=hours))
    held = Reservation(cluster_id="c-de", accelerator="H100", gpus=2, window=window)
    outlooks = site.world.planning._outlooks
    outlooks._missing["c-de"] = outlooks._lasting["c-de"] = [held]
    site.world.planning._outlooks._version += 1


def test_cluster_that_is_full_beyond_the_horizon_is_no_reason_to_leave_a_job_without_guard(
    site: Site,
) -> None:
    hold_everything(site, 24 * 30)
    site.cluster.sbatch("7", WORDS)
    site.tick()
    assert site.cluster.refused == {}
    assert (site.cluster.queue["7"].guard_at, site.job.placement) == (GUARD, None)
    hold_everything(site, 0)
    site.tick()
    assert site.job.placement is not None
    assert site.job.placement.window.start_at == CLEAN


def test_run_that_no_horizon_holds_is_refused_and_one_that_a_later_one_holds_is_not(
    site: Site,
) -> None:
    far = {"deadline": format_instant(START + timedelta(days=90))}
    site.cluster.sbatch("7", WORDS | far | {"duration": "1000h"})
    site.tick()
    assert "a run of 41d16h" in site.cluster.refused["7"]
    later = {"not_before": format_instant(START + timedelta(days=60))}
    site.cluster.sbatch("8", WORDS | far | later)
    site.tick()
    assert "8" not in site.cluster.refused
    assert site.cluster.queue["8"].guard_at is not None


def test_guard_is_never_before_the_job_may_start(site: Site) -> None:
    earliest = START + timedelta(hours=15)
    words = WORDS | {"not_before": format_instant(earliest), "duration_p95": "10h"}
    site.cluster.sbatch("7", words)
    site.tick()
    assert site.cluster.queue["7"].guard_at == earliest


def test_chosen_start_that_is_missed_is_caught_up_with(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    chosen = START + timedelta(hours=2)
    site.cluster.scontrol_start("7", chosen)
    site.tick()
    site.cluster.fault = "silent"
    site.clock.move(hours=8)
    site.tick()
    site.cluster.fault = None
    site.clock.move(hours=1)
    site.tick()
    assert site.job.state in (JobState.DISPATCHED, JobState.RUNNING)


def test_start_that_the_user_chose_is_kept_by_a_new_store(site: Site, tmp_path: Path) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    chosen = START + timedelta(hours=5)
    site.cluster.scontrol_start("7", chosen)
    world = make_world(tmp_path / "anew", clusters={"c-de": site.cluster}, clock=site.clock)
    anew = Site(world, site.cluster)
    anew.tick()
    anew.tick()
    assert site.cluster.queue["7"].starts_at == chosen
    assert anew.job.placement is not None
    assert anew.job.placement.window.start_at == chosen
    world.store.close()


def test_other_words_by_hand_are_planned_anew(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    first = site.job
    sooner = DEADLINE - timedelta(hours=7)
    site.cluster.reword("7", WORDS | {"deadline": format_instant(sooner)})
    site.tick()
    assert site.job.job.deadline_at == sooner
    assert site.job.job.job_id == first.job.job_id
    assert site.cluster.queue["7"].guard_at == GUARD - timedelta(hours=7)
    assert site.kinds().count("amended") == 1
    site.run_for(17)
    assert site.job.state is JobState.SUCCEEDED
    assert not site.job.has_missed_deadline


def test_other_words_that_are_wrong_leave_the_plan_as_it_was(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    site.cluster.reword("7", WORDS | {"duration": "long"})
    site.tick()
    assert site.job.state is JobState.PLANNED
    assert site.cluster.queue["7"].guard_at == GUARD
    assert "duration: 'long'" in site.cluster.refused["7"]
    assert site.cluster.refused["7"].endswith("its plan stays as it was")


def paused(site: Site) -> None:
    site.cluster.sbatch("7", WORDS | {"interruptible": "yes", "min_chunk": "1h"})
    site.tick()
    site.cluster.scontrol_start("7", START)
    site.run_for(1)
    site.cluster.pause("native:7", grace_s=0)
    site.tick()
    assert site.job.state is JobState.SUSPENDED


def test_other_words_while_it_is_paused_are_planned_with_what_is_left(site: Site) -> None:
    paused(site)
    later = DEADLINE + timedelta(hours=24)
    words = dict(site.cluster.queue["7"].words)
    site.cluster.reword("7", words | {"deadline": format_instant(later)})
    site.tick()
    assert site.job.state is JobState.SUSPENDED
    assert site.job.job.deadline_at == later
    site.run_for(24)
    assert site.job.state is JobState.SUCCEEDED


def test_paused_one_that_is_taken_away_is_cancelled(site: Site) -> None:
    paused(site)
    site.cluster.queue.pop("7")
    site.cluster.runs.pop("native:7")
    site.tick()
    assert site.job.state is JobState.CANCELLED
    assert site.job.reason == "taken from c-de while it was paused"


def test_one_that_was_held_while_paused_and_runs_again_is_followed(site: Site) -> None:
    paused(site)
    site.cluster.scontrol_hold("7")
    site.tick()
    assert site.job.state is JobState.HELD
    site.cluster.resume("native:7")
    site.tick()
    assert site.job.state is JobState.RUNNING
    site.run_for(6)
    assert site.job.state is JobState.SUCCEEDED


def make_telling(make: Make) -> tuple[Site, FakeTellingCluster]:
    clock = ManualClock(START)
    cluster = FakeTellingCluster("c-de", clock, {"H100": 2})
    return Site(make(clusters={"c-de": cluster}, clock=clock), cluster), cluster


def test_user_is_told_the_plan_once(make: Make) -> None:
    site, cluster = make_telling(make)
    cluster.sbatch("7", WORDS)
    site.tick()
    words = "planned for 2026-03-02T12:00Z at 100 g/kWh, starts by 2026-03-02T19:58Z at the latest"
    assert cluster.told == [("7", News.PLANNED, words)]
    site.run_for(2)
    assert len(cluster.told) == 1


def test_user_is_never_told_of_a_plan_after_the_latest_start(make: Make) -> None:
    site, cluster = make_telling(make)
    deadline = {"deadline": format_instant(CLEAN + timedelta(hours=4))}
    cluster.sbatch("7", WORDS | deadline)
    site.tick()
    assert site.job.placement is not None
    assert site.job.placement.window.start_at == CLEAN
    (_, _, words) = cluster.told[-1]
    assert words.startswith("planned for 2026-03-02T11:58Z at ")
    assert words.endswith("starts by 2026-03-02T11:58Z at the latest")


def test_user_is_told_of_a_hold_and_of_what_comes_after_a_pause(make: Make) -> None:
    site, cluster = make_telling(make)
    paused(site)
    (_, news, words) = cluster.told[-1]
    assert news is News.PLANNED
    assert words.startswith("goes on 2026-03-02T12:00Z at 100 g/kWh, starts by ")
    cluster.scontrol_hold("7")
    site.tick()
    assert cluster.told[-1] == ("7", News.HELD, "held by its user")


def test_user_of_a_late_job_without_room_is_told_so(make: Make) -> None:
    site, cluster = make_telling(make)
    for ref in ("1", "2"):
        cluster.sbatch(ref, WORDS, hours=40)
        site.tick()
        cluster.scontrol_start(ref, START)
    site.tick()
    site.tick()
    cluster.sbatch("7", WORDS | {"deadline": format_instant(START + timedelta(hours=3))})
    site.cluster.queue["7"] = replace(cluster.queue["7"], starts_at=None)
    site.tick()
    assert ("7", News.WAITING, "late; starts as soon as it can") in cluster.told


def test_cluster_that_cannot_tell_now_stops_nothing(make: Make) -> None:
    site, cluster = make_telling(make)
    cluster.sbatch("7", WORDS)
    site.tick()
    cluster.told.clear()
    cluster.fault = "no-rights"
    cluster.scontrol_hold("7")
    site.tick()
    assert cluster.told == []
    cluster.fault = None
    site.tick()
    assert len(cluster.told) == 1


def test_one_that_asks_for_nothing_any_more_is_let_go_and_has_not_failed(site: Site) -> None:
    site.cluster.sbatch("7", WORDS)
    site.tick()
    site.cluster.fault = "reworded"
    site.run_for(13)
    assert site.job.state is JobState.CANCELLED
    assert "does not say any more" in (site.job.reason or "")
