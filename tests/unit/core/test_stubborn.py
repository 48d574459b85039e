"""Jobs that the joint placing leaves out at first: those that fit only in pieces, or only to the second."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scheduler.core.planner import arrays
from scheduler.core.planner.joint import build_problem
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.prices import Prices
from scheduler.core.planner.shaking import NO_SHAKING
from scheduler.core.planner.snapshot import Plan, PlanRequest, UnplacedReason, Watch
from scheduler.core.planner.stubborn import place_first, stubborn
from scheduler.core.terms import Elastic, Interruptible, Width
from tests.unit.core.builders import at, cluster, request, reservation, snapshot

ONE = cluster("DE", gpus=4)
PAUSES = Interruptible(min_chunk_s=3600, checkpoint_cost_s=0, max_interruptions=3)
FLAT = [100.0] * 12


def planned(*jobs: PlanRequest, hours: int = 12, taken: tuple[float, float] | None = None) -> Plan:
    reserved = [] if taken is None else [reservation(*taken, gpus=4)]
    made = snapshot({"DE": FLAT}, jobs, clusters=(ONE,), hours=hours, reserved=reserved)
    return build_plan(made, shaking=NO_SHAKING)


def hours_of(plan: Plan, name: str) -> list[tuple[float, float]]:
    (placed,) = [one for one in plan.placements if one.job_id == name]
    return [
        ((one.start_at - at(0)).total_seconds() / 3600, (one.end_at - at(0)).total_seconds() / 3600)
        for one in placed.segments
    ]


def in_pieces(name: str = "pieces", **terms: Any) -> PlanRequest:
    return replace(
        request(name, (ONE,), gpus=4, hours=5, deadline=7, **terms), interruptible=PAUSES
    )


def test_job_that_fits_only_with_a_pause_is_not_crowded_out_by_one_that_can_wait() -> None:
    # Three hours are reserved from 3 to 5: five hours until 7 are only there in two pieces.
    other = request("whole", (ONE,), gpus=4, hours=5, earliest=5, deadline=12)
    plan = planned(other, in_pieces(), taken=(3, 5))
    assert plan.unplaced == ()
    assert hours_of(plan, "pieces") == [(0, 3), (5, 7)]
    assert hours_of(plan, "whole") == [(7, 12)]
    assert math.isfinite(plan.gap)


def test_pieces_that_begin_after_the_latest_start_are_no_place() -> None:
    late = replace(in_pieces(), start_by_at=at(0.5), earliest_at=at(0))
    plan = planned(replace(late, earliest_at=at(0)), taken=(0, 2))
    assert [one.job_id for one in plan.unplaced] == ["pieces"]


def test_higher_priority_without_slack_is_placed_to_the_second_before_a_lower_one() -> None:
    # Odd seconds lie in no minute: rounded up, the job would be longer than its window.
    length = 21_728 / 3600
    tight = request("high", (ONE,), gpus=4, hours=length, deadline=length, priority=10)
    low = request("low", (ONE,), gpus=4, hours=2, deadline=6)
    plan = planned(low, tight)
    assert hours_of(plan, "high") == [(0, pytest.approx(length))]
    assert [one.job_id for one in plan.unplaced] == ["low"]


def test_only_jobs_that_go_first_leave_nothing_to_plan_around() -> None:
    made = snapshot({"DE": FLAT}, [in_pieces()], clusters=(ONE,), hours=12)
    problem = build_problem(made, made.requests)
    found = Prices(np.zeros((1, 12)), 0.0)
    first = stubborn(problem, {}, 60)
    placed, left = place_first(problem, first, found, shaking=NO_SHAKING, seed=0)
    assert set(placed) == {"pieces"}
    assert left.free.sum() == 12 * 4 - 5 * 4


def test_widths_find_a_place_where_the_stated_width_does_not() -> None:
    # Five hours of one device in two: at four devices twice as fast.
    wide = Elastic(
        widths=(
            Width(gpus=1, throughput=1.0, power_w=1000.0),
            Width(gpus=4, throughput=4.0, power_w=4000.0),
        )
    )
    short = replace(request("wide", (ONE,), gpus=1, hours=5, deadline=2), elastic=wide)
    never = replace(request("never", (ONE,), gpus=1, hours=9, deadline=2), elastic=wide)
    plan = planned(short, never)
    assert hours_of(plan, "wide") == [(0, 1), (1, 2)]  # at four devices, then at one
    assert {one.job_id: one.reason for one in plan.unplaced} == {
        "never": UnplacedReason.PAST_DEADLINE
    }


def test_search_that_is_over_makes_no_second_try() -> None:
    other = request("whole", (ONE,), gpus=4, hours=5, earliest=5, deadline=12)
    made = snapshot(
        {"DE": FLAT},
        [other, in_pieces()],
        clusters=(ONE,),
        hours=12,
        reserved=[reservation(3, 5, gpus=4)],
    )
    plan = build_plan(made, watch=Watch(is_over=lambda: True))
    assert {one.job_id for one in plan.placements} == {"whole"}


def test_gap_is_not_known_where_nothing_is_proven() -> None:
    plan = planned(request("job", (ONE,), hours=1))
    assert replace(plan, lower_bound_g=0.0).gap == math.inf
    assert Plan(placements=(), unplaced=()).gap == 0.0


def test_predecessor_looks_for_its_place_in_spite_of_followers_that_have_none() -> None:
    # Reserved until 3: the first ends at 5, too late for one that must end at 7 after 3 hours.
    first = request("first", (ONE,), gpus=4, hours=2, deadline=10)
    never = replace(request("never", (ONE,), gpus=4, hours=3, deadline=7), after=("first",))
    then = replace(request("then", (ONE,), gpus=4, hours=1, deadline=11), after=("first",))
    plan = planned(first, never, then, taken=(0, 3))
    assert hours_of(plan, "first") == [(3, 5)]
    assert hours_of(plan, "then") == [(5, 6)]
    assert [one.job_id for one in plan.unplaced] == ["never"]


def test_bound_of_a_movable_job_allows_for_moves() -> None:
    # One place is clean in the first hour, the other in the fourth; an hour costs 1 kWh.
    both = (cluster("DE", gpus=1), cluster("FR", gpus=1))
    how = Interruptible(min_chunk_s=3600, checkpoint_cost_s=0, max_interruptions=1, is_movable=True)
    job = replace(request("moves", both, hours=2, deadline=4), interruptible=how)
    prices = {"DE": [10.0, 400, 400, 400], "FR": [400.0, 400, 400, 20]}
    plan = build_plan(snapshot(prices, [job], clusters=both, hours=4))
    assert plan.lower_bound_g == pytest.approx(30)
    stays = replace(job, interruptible=replace(how, is_movable=False))
    plan = build_plan(snapshot(prices, [stays], clusters=both, hours=4))
    assert plan.lower_bound_g == pytest.approx(410)


def test_kernels_work_without_a_folder_for_their_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    real = arrays.njit

    def no_cache(**options: bool) -> Callable[[Any], Any]:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)  # type: ignore[no-any-return]

    monkeypatch.setattr(arrays, "njit", no_cache)

    @arrays.compiled
    def twice(value: float) -> float:
        return 2 * value

    assert twice(1.5) == 3


def test_full_disk_does_not_keep_kernels_from_working(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def save_overload(self, *_: object) -> None:
            raise OSError(28, "No space left on device")

    class Made:
        _cache = Full()

        def __call__(self) -> str:
            self._cache.save_overload("signature", "code")
            return "done"

    monkeypatch.setattr(arrays, "njit", lambda **_: lambda _function: Made())
    assert arrays.compiled(lambda: None)() == "done"
