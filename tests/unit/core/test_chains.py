"""Jobs that wait for others: order, slack, and what is said where a chain cannot hold."""

from collections.abc import Sequence

import pytest

from scheduler.core.errors import InvalidDataError
from scheduler.core.planner.chains import find_cycle
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.snapshot import Plan, PlanRequest, UnplacedReason
from scheduler.core.terms import Elastic, Width
from tests.unit.core.builders import (
    cluster,
    hours_of,
    place_of,
    request,
    reservation,
    snapshot,
)


def planned(g: Sequence[float], *jobs: PlanRequest, gpus: int = 1) -> Plan:
    one = cluster(gpus=gpus)
    return build_plan(snapshot({"DE": g}, jobs, clusters=(one,), hours=len(g)))


def start_of(plan: Plan, name: str) -> float:
    return hours_of(place_of(plan, name))[0][0]


def reasons(plan: Plan) -> dict[str, UnplacedReason]:
    return {str(one.job_id): one.reason for one in plan.unplaced}


def test_each_job_of_a_chain_takes_the_clean_hour_of_its_part() -> None:
    # The first may end by hour 3, the second begins then: 100 + 100 g, the least that two hours can emit.
    found = planned(
        [500, 100, 500, 500, 100, 500],
        request("first", hours=1, deadline=6),
        request("then", hours=1, deadline=6, after=("first",)),
    )
    assert hours_of(place_of(found, "first")) == [(1, 2)]
    assert hours_of(place_of(found, "then")) == [(4, 5)]
    assert found.emissions_g == pytest.approx(200)
    assert found.lower_bound_g <= 200


def test_job_uses_the_time_that_its_follower_leaves() -> None:
    # Shared out evenly, the first has hours 0 to 4. Its follower takes hour 5 (90 g), so it may move on to hour 4.
    found = planned(
        [500, 500, 500, 500, 100, 90, 500, 500],
        request("first", hours=1, deadline=8),
        request("then", hours=1, deadline=8, after=("first",)),
    )
    assert (start_of(found, "first"), start_of(found, "then")) == (4, 5)
    assert found.emissions_g == pytest.approx(190)


def test_job_uses_the_time_that_its_predecessor_leaves() -> None:
    # The follower has hours 4 to 8; its predecessor is done after hour 0, so that hour 1 (90 g) is its.
    found = planned(
        [100, 90, 500, 500, 500, 500, 500, 500],
        request("first", hours=1, deadline=8, start_by=0),
        request("then", hours=1, deadline=8, after=("first",)),
    )
    assert (start_of(found, "first"), start_of(found, "then")) == (0, 1)


def test_slack_is_not_used_for_no_gain() -> None:
    found = planned(
        [100] * 8,
        request("first", hours=1, deadline=8),
        request("then", hours=1, deadline=8, after=("first",)),
    )
    # Where every hour emits the same, each begins as early as its part of the time does.
    assert (start_of(found, "first"), start_of(found, "then")) == (0, 4)


def test_diamond_keeps_its_order_and_runs_what_may_run_together() -> None:
    jobs = (
        request("end", hours=1, deadline=3, after=("left", "right")),
        request("left", hours=1, deadline=3, after=("begin",)),
        request("right", hours=1, deadline=3, after=("begin",)),
        request("begin", hours=1, deadline=3),
    )
    found = planned([100] * 3, *jobs, gpus=2)
    starts = {name: start_of(found, name) for name in ("begin", "left", "right", "end")}
    assert starts == {"begin": 0, "left": 1, "right": 1, "end": 2}
    # On one device the two arms follow each other: no time is left for the end.
    narrow = planned([100] * 3, *jobs)
    assert reasons(narrow) == {"end": UnplacedReason.PAST_DEADLINE}


def test_unequal_arms_each_have_time() -> None:
    # The long arm takes 3 of the 5 hours between begin and end.
    found = planned(
        [100] * 5,
        request("begin", hours=1, deadline=5),
        request("long", hours=3, deadline=5, after=("begin",)),
        request("short", hours=1, deadline=5, after=("begin",)),
        request("end", hours=1, deadline=5, after=("long", "short")),
        gpus=2,
    )
    assert not found.unplaced
    assert start_of(found, "end") == 4
    assert hours_of(place_of(found, "long")) == [(1, 4)]
    assert 1 <= start_of(found, "short") <= 3


def test_follower_that_must_start_soon_makes_its_predecessor_end_by_then() -> None:
    found = planned(
        [500, 400, 300, 100, 100, 100],
        request("first", hours=1, deadline=6),
        request("then", hours=1, deadline=6, start_by=2, after=("first",)),
    )
    # By hour 2 the first has ended, so it takes hour 1 rather than 3.
    assert (start_of(found, "first"), start_of(found, "then")) == (1, 2)


def test_job_that_waits_for_one_outside_the_snapshot_is_free_to_start() -> None:
    found = planned([100, 500], request("then", hours=1, deadline=2, after=("ended",)))
    assert start_of(found, "then") == 0


def test_elastic_follower_needs_only_the_time_of_its_widest() -> None:
    # Four hours on one device are two on two; at one device it could not end by hour 4 behind an hour of another.
    widths = tuple(Width(gpus=n, throughput=float(n), power_w=1000.0 * n) for n in (1, 2))
    found = planned(
        [100] * 4,
        request("first", hours=1, deadline=4),
        request("grows", hours=4, deadline=4, after=("first",), elastic=Elastic(widths=widths)),
        gpus=2,
    )
    assert not found.unplaced
    first, grows = place_of(found, "first"), place_of(found, "grows")
    assert first.window.end_at <= grows.window.start_at
    assert grows.gpus == 2
    assert found.emissions_g == pytest.approx(500)


def test_follower_that_cannot_end_in_time_has_no_place_and_hurries_nobody() -> None:
    # An hour and three behind it cannot end by hour 3: the first keeps its own deadline, and its clean hour 6.
    found = planned(
        [500, 500, 500, 500, 500, 500, 100, 500],
        request("first", hours=1, deadline=8),
        request("then", hours=3, deadline=3, after=("first",)),
    )
    assert start_of(found, "first") == 6
    assert reasons(found) == {"then": UnplacedReason.PAST_DEADLINE}
    assert found.lower_bound_g == pytest.approx(100)


def test_all_that_wait_for_a_job_without_a_place_have_none() -> None:
    found = planned(
        [100] * 8,
        request("wide", hours=1, deadline=8, gpus=2),
        request("then", hours=1, deadline=8, after=("wide",)),
        request("last", hours=1, deadline=8, after=("then",)),
        request("wider", hours=1, deadline=8, gpus=3, after=("wide",)),
        request("other", hours=1, deadline=8),
    )
    assert reasons(found) == {
        "wide": UnplacedReason.NO_CAPACITY,
        "then": UnplacedReason.AFTER_UNPLACED,
        "last": UnplacedReason.AFTER_UNPLACED,
        "wider": UnplacedReason.AFTER_UNPLACED,
    }
    by_name = {one.job_id: one.detail for one in found.unplaced}
    assert by_name["then"] == "it waits for wide, which has no place"  # type: ignore[index]
    assert by_name["last"] == "it waits for then, which has no place"  # type: ignore[index]
    # What the orphans had is free again: only the other job takes anything.
    assert found.memory is not None
    assert found.memory.left.free.sum() * found.memory.left.grid.slot_s == 7 * 3600


def test_job_of_a_chain_finds_room_between_its_neighbours() -> None:
    # Its own part of the time, hours 0 to 3, is taken; its follower is in hour 5, and hour 4 is free.
    one = cluster()
    made = snapshot(
        {"DE": [100, 100, 100, 300, 300, 90]},
        [
            request("first", hours=1, deadline=6),
            request("then", hours=1, deadline=6, after=("first",)),
        ],
        clusters=(one,),
        hours=6,
        reserved=[reservation(0, 4)],
    )
    found = build_plan(made)
    assert (start_of(found, "first"), start_of(found, "then")) == (4, 5)


def test_jobs_in_a_circle_are_refused_by_name() -> None:
    with pytest.raises(InvalidDataError) as raised:
        planned(
            [100] * 4,
            request("a", hours=1, deadline=4, after=("b",)),
            request("b", hours=1, deadline=4, after=("a",)),
            request("c", hours=1, deadline=4, after=("b",)),
        )
    assert str(raised.value) == "after: jobs wait for each other in a circle: a -> b -> a"


@pytest.mark.parametrize(
    ("after", "circle"),
    [
        ({}, None),
        ({"a": []}, None),
        # A job that is reached twice is no circle.
        ({"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": []}, None),
        ({"a": ["gone"]}, None),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"]),
        ({"x": [], "a": ["x", "b"], "b": ["x", "a"]}, ["a", "b", "a"]),
    ],
)
def test_circles_are_found_and_named_from_the_first_job_on(
    after: dict[str, list[str]], circle: list[str] | None
) -> None:
    assert find_cycle(after) == circle
