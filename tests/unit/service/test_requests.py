"""What the planner is asked: for new jobs, and for what is left of paused ones."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.store.sqlite import SqliteStore
from scheduler.core.data_moves import DataMoves
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.job import JobId, JobRecord, JobState, Run
from scheduler.core.planner.snapshot import PlanRequest
from scheduler.core.terms import DataNeed, Elastic, Interruptible, Limits, Width
from scheduler.core.timegrid import Window
from scheduler.ports import Event, NewJob
from scheduler.service.experience import Experience
from scheduler.service.outlooks import Outlooks
from scheduler.service.requests import Requests
from scheduler.service.run_times import RunTimes
from tests.unit.core.builders import HOUR, T0, at, job, option, record, run
from tests.unit.service.world import START, Make

COST_S = 600
HOW = Interruptible(checkpoint_cost_s=COST_S, max_interruptions=3)
WIDTHS = Elastic(
    widths=(
        Width(gpus=1, throughput=1.0, power_w=1000.0),
        Width(gpus=2, throughput=1.6, power_w=1800.0),
    )
)


class NoHistory:
    def factor(self, job: object) -> float:
        return 1.0


class Waits:
    def __init__(self, extra_s: int) -> None:
        self._extra_s = extra_s

    def extra_s(self, cluster: Cluster) -> int:
        return self._extra_s


def requests(*, gpus: int = 2, wait_s: int = 0, learned_s: int = 0) -> Requests:
    fleet = Fleet(
        tuple(
            Cluster(
                cluster_id=f"c-{zone}",
                region_id=f"r-{zone}",
                zone_id=zone,
                pue=1.0,
                capacity=(("H100", gpus),),
                queue_wait_s=wait_s,
            )
            for zone in ("de", "fr")
        )
    )
    moves = DataMoves(gb_per_s=1.0)
    experience = Experience(
        run_times=NoHistory(),  # type: ignore[arg-type]
        queue_waits=Waits(learned_s),  # type: ignore[arg-type]
        outlooks=Outlooks(clusters={}, fleet=fleet),
    )
    return Requests(fleet=fleet, moves=moves, experience=experience)


def suspended(*runs: Run, **fields: object) -> JobRecord:
    made = job(**({"interruptible": HOW} | fields))
    return record(JobState.SUSPENDED, runs, job=made)


def pause(start: float, end: float, *, work_h: float, segment: int = 0, **fields: object) -> Run:
    known = {"exit_code": 75, "work_s": work_h * HOUR, "segment": segment}
    return run(start, end, **(known | fields))


def shapes(request: PlanRequest) -> list[tuple[str, int, int]]:
    return [(one.cluster.cluster_id, one.gpus, one.duration_s) for one in request.choices]


def test_new_job_has_all_its_terms_and_each_width_as_a_choice_the_stated_one_first() -> None:
    limits = Limits(max_carbon_g=5.0)
    made = job(elastic=WIDTHS, interruptible=HOW, limits=limits, options=(option(gpus=2),))
    asked = requests().new(made)
    assert (asked.elastic, asked.interruptible, asked.limits) == (None, HOW, limits)
    # 4 h at two devices are 6.4 h at one.
    assert shapes(asked) == [
        ("c-de", 2, 4 * HOUR),
        ("c-fr", 2, 4 * HOUR),
        ("c-de", 1, 6.4 * HOUR),
        ("c-fr", 1, 6.4 * HOUR),
    ]
    assert [one.power_w for one in asked.choices] == [1800.0, 1800.0, 1000.0, 1000.0]
    assert shapes(requests(gpus=1).new(made)) == [("c-de", 1, 6.4 * HOUR), ("c-fr", 1, 6.4 * HOUR)]


@pytest.mark.parametrize(("wait_s", "learned_s"), [(300, 0), (0, 300), (100, 200)])
def test_rest_is_what_is_left_and_a_restore_with_the_pauses_that_remain(
    wait_s: int, learned_s: int
) -> None:
    made = suspended(
        pause(0, 1, work_h=1),
        pause(3, 4 + 1 / 6, work_h=1, segment=1),
        duration_p95_s=5 * HOUR,
        limits=Limits(carbon_price=80, max_cost=1, max_carbon_g=1),
        start_by_at=at(1),
    )
    asked = requests(wait_s=wait_s, learned_s=learned_s).of(made, at(5))
    assert shapes(asked) == [("c-de", 1, 2 * HOUR + COST_S)]
    # Half of the margin of 1 h is left, and the whole wait.
    assert asked.choices[0].margin_s == HOUR // 2 + 300
    assert asked.interruptible == replace(HOW, max_interruptions=1)
    assert asked.limits == Limits(carbon_price=80)
    assert asked.start_by_at is None


def test_job_with_a_movable_checkpoint_may_go_on_anywhere_with_its_data_moved_there() -> None:
    how = replace(HOW, is_movable=True)
    made = suspended(
        pause(0, 1, work_h=1), interruptible=how, data=DataNeed(gb=60, region_id="r-xx")
    )
    asked = requests().of(made, at(5))
    assert [(one.cluster.cluster_id, one.move.seconds) for one in asked.choices] == [
        ("c-de", 0),
        ("c-fr", 60),
    ]


def test_run_that_lost_its_work_in_a_pause_is_not_paused_again() -> None:
    made = suspended(pause(0, 2, work_h=0, exit_code=-9, pause_requested_at=at(2)))
    asked = requests().of(made, at(5))
    assert shapes(asked) == [("c-de", 1, 4 * HOUR + COST_S)]
    assert asked.interruptible is not None
    assert asked.interruptible.max_interruptions == 0


def test_frozen_run_goes_on_as_wide_as_it_is_without_a_restore() -> None:
    how = replace(HOW, is_movable=True)
    frozen = pause(0, 1, work_h=0, is_ended=False, exit_code=None, gpus=2)
    asked = requests().of(suspended(frozen, interruptible=how, elastic=WIDTHS), at(5))
    # An hour at two devices was worth 1.6 h: 2.4 h are left, at two devices 1.5 h.
    assert shapes(asked) == [("c-de", 2, 1.5 * HOUR)]


def test_rest_of_an_elastic_job_may_take_another_width_where_it_is() -> None:
    asked = requests().of(suspended(pause(0, 1, work_h=1.6, gpus=2), elastic=WIDTHS), at(5))
    assert shapes(asked) == [("c-de", 1, 2.4 * HOUR + COST_S), ("c-de", 2, 1.5 * HOUR + COST_S)]


def test_job_that_left_by_itself_without_saying_that_it_can_pause_goes_on_in_one_piece() -> None:
    asked = requests().of(suspended(pause(0, 1, work_h=1), interruptible=None), at(5))
    assert shapes(asked) == [("c-de", 1, 3 * HOUR)]
    assert asked.interruptible is None


def test_job_that_should_have_ended_by_now_still_has_something_to_do() -> None:
    asked = requests().of(suspended(pause(0, 5, work_h=5)), at(5))
    assert shapes(asked) == [("c-de", 1, 60 + COST_S)]


# ------------------------------------------------------------------------------- learned margins


def earlier_runs(count: int, *, ratio: float) -> list[NewJob]:
    made = []
    for index in range(count):
        one = job(job_id=JobId(f"old-{index}"), name="train", submitted_at=T0 - timedelta(days=1))
        ran = run(0, 4 * ratio, work_s=4 * HOUR * ratio)
        made.append(
            NewJob(
                record=record(runs=[ran], job=one),
                event=Event(at=T0, kind="submitted", job_id=one.job_id),
            )
        )
    return made


@pytest.mark.parametrize(
    ("count", "fields", "ends"),
    [
        (5, {}, 17.0),  # clean from 12 to 18; 1.5 times 4 h need 2 h before the deadline of 19
        (4, {}, 18.0),  # too few to tell
        (5, {"duration_p95_s": 4 * HOUR}, 18.0),  # the user knows better
        (5, {"project": "other"}, 18.0),
    ],
)
def test_runs_that_took_longer_leave_a_margin_before_the_deadline(
    make: Make, count: int, fields: dict[str, object], ends: float
) -> None:
    world = make()
    world.sources[0].day_g["DE"] = [400.0 - 10 * hour for hour in range(18)] + [400.0] * 6
    world.store.add_jobs(earlier_runs(count, ratio=1.5))
    made = world.submit("train", hours=4, patience=15, **fields)
    assert made.placement is not None
    assert made.placement.window == Window(
        START + timedelta(hours=ends - 4), START + timedelta(hours=ends)
    )


def test_name_is_looked_up_once_until_a_job_of_it_ends(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "gridtide.db")
    times = RunTimes(store)
    made = job(name="train")
    assert times.factor(made) == 1.0
    store.add_jobs(earlier_runs(5, ratio=1.25))
    assert times.factor(made) == 1.0
    times.forget(made)
    assert times.factor(made) == 1.25
    store.close()
    assert times.factor(made) == 1.25
    # What cannot be read is no reason to refuse a job, and is asked again.
    assert times.factor(job(name="other")) == 1.0


def test_success_of_a_job_has_its_name_looked_up_anew(make: Make) -> None:
    world = make()
    world.sources[0].day_g["DE"] = [400.0 - 10 * hour for hour in range(24)]
    world.store.add_jobs(earlier_runs(4, ratio=1.5))
    world.submit("train", hours=1, patience=0)
    world.clusters["c-de"].run_hours["train"] = 1.5
    world.run_for(2)
    made = world.submit("train", hours=4, patience=15.9)
    assert made.placement is not None
    # With the fifth run, all of which took 1.5 times: 2 h are kept free before 21:54.
    assert made.placement.window.end_at == START + timedelta(hours=19.9)
