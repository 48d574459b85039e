"""Windows by prefix sums against trying every second, and plans against their promises."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.core.job import Placement
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.shaking import NO_SHAKING
from scheduler.core.planner.snapshot import PlanRequest
from scheduler.core.planner.windows import NO_COST, Profile, best_start, best_starts
from tests.unit.core.builders import at, cluster, request, snapshot

SLOT_S = 6
_Query = tuple[int, int, int]


def brute_force(
    values: Sequence[int], blocked: Sequence[bool], query: _Query
) -> tuple[int, int] | None:
    """First cheapest (start, cost) over every whole second."""
    duration_s, earliest_s, latest_s = query
    second = np.repeat(values, SLOT_S)
    is_blocked = np.repeat(blocked, SLOT_S)
    best: tuple[int, int] | None = None
    for start in range(earliest_s, min(latest_s, len(second) - duration_s) + 1):
        window = slice(start, start + duration_s)
        if not is_blocked[window].any():
            cost = int(second[window].sum())
            if best is None or cost < best[1]:
                best = (start, cost)
    return best


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], list[bool], list[_Query]]:
    n = draw(st.integers(1, 8))
    values = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    blocked = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    horizon = n * SLOT_S
    times = st.integers(0, horizon + 3)
    query = st.tuples(st.integers(1, horizon + 3), times, st.integers(-5, horizon + 3))
    queries = draw(st.lists(query, min_size=1, max_size=24))
    return values, blocked if draw(st.booleans()) else [False] * n, queries


@settings(max_examples=400, deadline=None)
@given(cases())
def test_best_start_is_the_first_cheapest_of_all_seconds(
    case: tuple[list[int], list[bool], list[_Query]],
) -> None:
    values, blocked, queries = case
    profile = Profile.build(np.array(values), SLOT_S, np.array(blocked))
    columns = [np.array(column) for column in zip(*queries, strict=True)]
    start_s, cost = best_starts(profile, *columns)
    for index, query in enumerate(queries):
        expected = brute_force(values, blocked, query)
        assert best_start(profile, *query) == expected
        if expected is None:
            assert cost[index] == NO_COST
        else:
            assert (start_s[index], cost[index]) == expected


@pytest.mark.parametrize("shortest_range_s", [-9, 30])
@pytest.mark.parametrize("n_jobs", [1, 7, 24, 300])
def test_both_ways_of_range_minimum_agree_with_trying_every_second(
    n_jobs: int, shortest_range_s: int
) -> None:
    rng = np.random.default_rng(n_jobs)
    values, blocked = rng.integers(0, 9, 40), rng.random(40) < 0.1
    duration_s = rng.choice([6, 12, 15], n_jobs)
    earliest_s = rng.integers(0, 150, n_jobs)
    latest_s = earliest_s + rng.integers(shortest_range_s, 90, n_jobs)
    start_s, cost = best_starts(
        Profile.build(values, SLOT_S, blocked), duration_s, earliest_s, latest_s
    )
    for index in range(n_jobs):
        query = (int(duration_s[index]), int(earliest_s[index]), int(latest_s[index]))
        expected = brute_force(list(values), list(blocked), query)
        assert (cost[index] == NO_COST) == (expected is None)
        assert expected is None or (start_s[index], cost[index]) == expected


def test_no_jobs_give_no_starts() -> None:
    none = np.array([], dtype=np.int64)
    start_s, cost = best_starts(Profile.build(np.array([1]), SLOT_S), none, none, none)
    assert (len(start_s), len(cost)) == (0, 0)


def test_more_intensity_never_makes_a_window_cheaper() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 500, 60)
    query = [np.array([20]), np.array([0]), np.array([300])]
    _, before = best_starts(Profile.build(values, SLOT_S), *query)
    _, after = best_starts(Profile.build(values + rng.integers(0, 9, 60), SLOT_S), *query)
    assert after[0] >= before[0]


requests = st.builds(
    request,
    hours=st.integers(1, 20).map(lambda quarters: quarters / 4),
    earliest=st.integers(0, 40).map(lambda quarters: quarters / 4),
    deadline=st.integers(1, 80).map(lambda quarters: quarters / 4),
    gpus=st.integers(1, 3),
    margin_h=st.integers(0, 2),
    priority=st.integers(-1, 1),
    clusters=st.sampled_from(
        [(cluster("DE", gpus=3),), (cluster("FR", gpus=2), cluster("DE", gpus=3))]
    ),
)
intensities = st.lists(st.integers(0, 900).map(float), min_size=24, max_size=24)


@settings(max_examples=120, deadline=None)
@given(
    jobs=st.lists(requests, min_size=1, max_size=10),
    de=intensities,
    fr=intensities,
    is_fail_open=st.booleans(),
)
@example(jobs=[request(deadline=1, hours=2)], de=[0.0] * 24, fr=[0.0] * 24, is_fail_open=True)
def test_every_plan_keeps_its_promises(
    jobs: list[PlanRequest], de: list[float], fr: list[float], is_fail_open: bool
) -> None:
    named = [_named(one, index) for index, one in enumerate(jobs)]
    made = snapshot(
        {"DE": de, "FR": fr},
        named,
        clusters=(cluster("DE", gpus=3), cluster("FR", gpus=2)),
        is_fail_open=is_fail_open,
    )
    plan = build_plan(made, shaking=NO_SHAKING)
    assert sorted([one.job_id for one in (*plan.placements, *plan.unplaced)]) == sorted(
        one.job_id for one in named
    )
    by_id = {one.job_id: one for one in named}
    for placed in plan.placements:
        asked = by_id[placed.job_id]
        assert asked.earliest_at <= placed.window.start_at
        assert placed.window.end_at <= asked.deadline_at
        assert placed.window.duration_s == asked.choices[0].duration_s
        assert placed.cluster_id in {one.cluster.cluster_id for one in asked.choices}
    for name, gpus in (("c-de", 3), ("c-fr", 2)):
        assert _peak([one for one in plan.placements if one.cluster_id == name]) <= gpus
    again = build_plan(replace(made, requests=made.requests[::-1]), shaking=NO_SHAKING)
    assert again.placements == plan.placements[::-1]
    assert again.lower_bound_g == plan.lower_bound_g
    if not is_fail_open:
        assert plan.emissions_g >= plan.lower_bound_g * (1 - 1e-9)


def _named(one: PlanRequest, index: int) -> PlanRequest:
    return request(
        f"j{index}",
        [choice.cluster for choice in one.choices],
        hours=one.choices[0].duration_s / 3600,
        earliest=(one.earliest_at - at(0)).total_seconds() / 3600,
        deadline=(one.deadline_at - at(0)).total_seconds() / 3600,
        gpus=min(one.choices[0].gpus, *(choice.cluster.gpus("H100") for choice in one.choices)),
        margin_h=one.choices[0].margin_s / 3600,
        priority=one.priority,
    )


def _peak(placements: list[Placement]) -> int:
    """Devices in use at the busiest instant, counted from the windows themselves."""
    return max(
        (
            sum(
                other.gpus
                for other in placements
                if other.window.start_at <= one.window.start_at < other.window.end_at
            )
            for one in placements
        ),
        default=0,
    )


@settings(max_examples=100, deadline=None)
@given(asked=requests, slack=st.integers(0, 20), g=intensities)
def test_more_slack_never_costs_carbon(asked: PlanRequest, slack: int, g: list[float]) -> None:
    def best(extra: int) -> float | None:
        made = request(
            clusters=(cluster("DE", gpus=3),),
            hours=asked.choices[0].duration_s / 3600,
            earliest=(asked.earliest_at - at(0)).total_seconds() / 3600,
            deadline=(asked.deadline_at - at(0)).total_seconds() / 3600 + extra,
        )
        plan = build_plan(snapshot({"DE": g}, [made], clusters=(cluster("DE", gpus=3),)))
        return plan.placements[0].planned_g if plan.placements else None

    tight, loose = best(0), best(slack)
    assert tight is None or (loose is not None and loose <= tight + 1e-9)
