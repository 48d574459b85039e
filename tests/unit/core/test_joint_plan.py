"""The joint planner: what prices and sweeps must do, compiled and interpreted alike."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from scheduler.core.data_moves import DataMove
from scheduler.core.planner import (
    elastic,
    finer,
    joint,
    kernels,
    pausing_kernels,
    placing,
    plan,
    prices,
    shaking,
    shaking_kernels,
    starting_kernels,
)
from scheduler.core.planner import instance as instance_module
from scheduler.core.planner.instance import build_instance
from scheduler.core.planner.joint import effort_for
from scheduler.core.planner.placing import Effort
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.prices import find_prices, prove
from scheduler.core.planner.shaking import NO_SHAKING
from scheduler.core.planner.snapshot import Choice, Plan, PlanRequest, PlanSnapshot, Watch
from scheduler.core.planner.warm import warm_up
from scheduler.core.terms import NO_LIMITS, Limits
from tests.unit.core.builders import HOUR, at, cluster, request, reservation, snapshot
from tests.unit.core.interpreting import interpret

MODULES: tuple[ModuleType, ...] = (
    kernels,
    starting_kernels,
    prices,
    placing,
    instance_module,
    finer,
    joint,
    plan,
    shaking,
)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels as plain Python: slow, but its lines can be followed."""
    interpret(monkeypatch, *MODULES)
    monkeypatch.setattr(shaking, "shaking_for", lambda _: NO_SHAKING)
    monkeypatch.setattr(joint, "effort_for", lambda _: Effort(starts=1, sweeps=4))
    return


def options(*hours_watts_gpus: tuple[float, float, int], clusters: int = 2) -> tuple[Choice, ...]:
    made = [cluster("DE", gpus=8, pue=1.2), cluster("FR", gpus=4)][:clusters]
    return tuple(
        Choice(
            cluster=one,
            option=index,
            accelerator="H100",
            gpus=gpus,
            duration_s=round(hours * HOUR),
            power_w=watts,
        )
        for index, (hours, watts, gpus) in enumerate(hours_watts_gpus)
        for one in made
    )


def crowded(*, n: int = 12, hours: float = 2, closed: bool = False) -> PlanSnapshot:
    """More jobs than the clean hours of the clean place have room for."""
    de = [400.0, 380, 300, 100, 90, 110, 300, 400, 420, 400, 410, 400]
    fr = [60.0, 70, 50, 40, 60, 80, 90, 60, 50, 70, 60, 50]
    if closed:
        fr[5] = float("nan")
    choices = options((hours, 2000.0, 2), (hours * 1.5, 1200.0, 2))
    asked = [
        PlanRequest(
            job_id=f"j{index:02}",  # type: ignore[arg-type]
            choices=choices,
            earliest_at=at(index % 3),
            deadline_at=at(min(12, 7 + index % 5)),
            priority=index % 2,
        )
        for index in range(n)
    ]
    return snapshot(
        {"DE": de, "FR": fr},
        asked,
        clusters=(cluster("DE", gpus=8, pue=1.2), cluster("FR", gpus=4)),
        hours=12,
    )


def far_apart() -> PlanSnapshot:
    """Jobs of one kind, some in hours of nothing, some in the dirtiest until the horizon ends; one fits nowhere."""
    one = cluster("DE", gpus=2)
    made = [request(f"clean{n}", (one,), hours=2, deadline=4) for n in range(2)]
    made += [request(f"dirty{n}", (one,), hours=2, earliest=6, deadline=12) for n in range(4)]
    made += [request("never", (one,), hours=2, earliest=6, deadline=7)]
    return snapshot(
        {"DE": [0.0] * 4 + [1.0] * 2 + [2900.0, 2950, 2900, 2900, 2900, 100]},
        made,
        clusters=(one,),
        hours=12,
    )


def with_terms() -> PlanSnapshot:
    """Jobs whose data move to the clean place, and that may emit and cost only so much."""
    made = crowded(n=6)
    asked = [
        replace(
            one,
            choices=tuple(
                replace(choice, move=DataMove(kwh=0.5 + index % 3, seconds=600))
                if choice.cluster.zone_id == "FR"
                else choice
                for choice in one.choices
            ),
            limits=Limits(max_carbon_g=400) if index % 2 else NO_LIMITS,
        )
        for index, one in enumerate(made.requests)
    ]
    return replace(made, requests=tuple(asked))


def on_the_rim() -> PlanSnapshot:
    """An hour from half a minute after the hour on, while it gets dirtier every hour: no whole minute is as clean."""
    asked = request("job", hours=1, earliest=1 / 120, deadline=3)
    return snapshot({"DE": [100.0, 500, 900]}, [asked], hours=3)


CASES: dict[str, Callable[[], PlanSnapshot]] = {
    "crowded": crowded,
    "parts of slots": lambda: crowded(n=8, hours=1.25),
    "a gap in the forecast": lambda: crowded(n=8, closed=True),
    "more than there is room for": lambda: crowded(n=40),
    "far apart": far_apart,
    "data and limits": with_terms,
    "to the second": on_the_rim,
    "one job": lambda: crowded(n=1),
    "nothing free": lambda: replace(
        crowded(n=3),
        capacity=replace(crowded().capacity, free=np.zeros_like(crowded().capacity.free)),
    ),
}


def check(made: PlanSnapshot, found: Plan) -> None:
    """Every promise of a plan, counted again from its placements."""
    asked = {one.job_id: one for one in made.requests}
    assert {one.job_id for one in (*found.placements, *found.unplaced)} == set(asked)
    assert len(found.placements) + len(found.unplaced) == len(asked)
    for placed in found.placements:
        wanted = asked[placed.job_id]
        assert wanted.earliest_at <= placed.window.start_at
        assert placed.window.end_at <= wanted.deadline_at
        assert placed.planned_g is not None
    for row, (cluster_id, _) in enumerate(made.capacity.rows):
        here = [one for one in found.placements if one.cluster_id == cluster_id]
        for one in here:
            used = sum(
                other.gpus
                for other in here
                if other.window.start_at <= one.window.start_at < other.window.end_at
            )
            slot = made.forecast.grid.slots_touched(one.window).start
            assert used <= made.capacity.free[row, slot]
    assert found.emissions_g >= found.lower_bound_g * (1 - 1e-9)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("case", CASES)
def test_interpreted_kernels_keep_every_promise(case: str) -> None:
    made = CASES[case]()
    check(made, build_plan(made))


@pytest.mark.parametrize("case", CASES)
def test_compiled_kernels_plan_the_same_as_interpreted_ones(
    case: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaking, "shaking_for", lambda _: NO_SHAKING)
    monkeypatch.setattr(joint, "effort_for", lambda _: Effort(starts=1, sweeps=4))
    compiled = build_plan(CASES[case]())
    request.getfixturevalue("interpreted")
    found = build_plan(CASES[case]())
    assert [one.window for one in compiled.placements] == [one.window for one in found.placements]
    assert compiled.lower_bound_g == pytest.approx(found.lower_bound_g)


@pytest.mark.parametrize("case", CASES)
def test_order_of_the_requests_changes_nothing(case: str) -> None:
    made = CASES[case]()
    forward, backward = build_plan(made), build_plan(replace(made, requests=made.requests[::-1]))
    assert forward.placements == backward.placements[::-1]
    assert forward.lower_bound_g == backward.lower_bound_g


def test_where_capacity_does_not_bind_the_plan_is_the_proven_optimum() -> None:
    found = build_plan(crowded(n=2))
    assert found.gap == pytest.approx(0, abs=1e-9)
    assert found.lower_bound_g > 0


def test_prices_are_asked_where_it_is_crowded_and_nowhere_else() -> None:
    found = find_prices(build_instance(crowded(), crowded().requests))
    assert found.prices[1].max() > 0
    assert found.bound_g > prove(build_instance(crowded(), crowded().requests), 0 * found.prices)


def test_bound_holds_for_every_feasible_plan_of_small_instances() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        g = rng.integers(50, 500, 6).astype(float).tolist()
        one = cluster("DE", gpus=2)
        jobs = [
            request(f"j{n}", (one,), hours=int(rng.integers(1, 4)), deadline=6, gpus=1)
            for n in range(4)
        ]
        made = snapshot({"DE": g}, jobs, clusters=(one,), hours=6)
        best = _optimum(g, [round(job.choices[0].duration_s / HOUR) for job in jobs], gpus=2)
        found = build_plan(made)
        if best is not None:
            assert not found.unplaced
            assert found.lower_bound_g <= best * (1 + 1e-9)
            assert best * (1 - 1e-9) <= found.emissions_g <= best * 1.1


def _optimum(g: list[float], hours: list[int], *, gpus: int) -> float | None:
    """Least grams of all ways to start one-kilowatt jobs on whole hours; None where there is none."""
    best: float | None = None
    for starts in itertools.product(*(range(len(g) - one + 1) for one in hours)):
        used = np.zeros(len(g))
        for start, length in zip(starts, hours, strict=True):
            used[start : start + length] += 1
        if used.max() <= gpus:
            total = sum(
                sum(g[start : start + length]) for start, length in zip(starts, hours, strict=True)
            )
            best = total if best is None else min(best, total)
    return best


def test_search_that_is_over_gives_the_best_so_far_with_its_gap() -> None:
    made = crowded()
    found = build_plan(made, watch=Watch(is_over=lambda: True))
    check(made, found)
    assert found.gap > 0


def test_prices_of_an_earlier_plan_give_at_least_its_bound() -> None:
    first = build_plan(crowded())
    again = build_plan(crowded(), start_prices=first.prices)
    assert again.lower_bound_g >= first.lower_bound_g * (1 - 1e-9)


def test_tight_jobs_that_fit_no_whole_slot_are_placed_to_the_second() -> None:
    one = cluster("DE", gpus=1)
    tight = request("tight", (one,), hours=1.5, earliest=0.25, deadline=1.75)
    loose = request("loose", (one,), hours=1, deadline=6)
    found = build_plan(snapshot({"DE": [100.0] * 8}, [loose, tight], clusters=(one,), hours=8))
    assert found.placements[1].window.start_at == at(0.25)
    assert found.placements[0].window.start_at >= at(1.75)  # to the second, not to the slot


def test_start_is_on_the_rim_of_what_is_allowed_where_that_is_cheaper() -> None:
    # From 0:00:30 on: 59.5 minutes of hour 0 at 100 and half a minute of hour 1 at 500: 100 + 400 / 120 g.
    found = build_plan(on_the_rim())
    assert found.placements[0].window.start_at == at(1 / 120)
    assert found.emissions_g == pytest.approx(100 + 400 / 120)


def test_jobs_with_places_only_without_their_margin_get_those() -> None:
    one = cluster("DE", gpus=1)
    jobs = [request(f"j{n}", (one,), hours=2, deadline=4, margin_h=2) for n in range(2)]
    found = build_plan(snapshot({"DE": [100.0] * 8}, jobs, clusters=(one,), hours=8))
    assert sorted(placed.window.start_at for placed in found.placements) == [at(0), at(2)]


def test_no_requests_and_requests_without_choices() -> None:
    assert build_plan(snapshot({"DE": [1.0] * 8}, [])).prices is None
    found = build_plan(snapshot({"DE": [1.0] * 8}, [request(clusters=())]))
    assert (found.gap, found.emissions_g) == (0, 0)


def test_reserved_devices_are_not_given_again() -> None:
    made = crowded()
    held = snapshot(
        {"DE": [100.0] * 12, "FR": [50.0] * 12},
        made.requests,
        clusters=tuple(made.fleet),
        hours=12,
        reserved=[reservation(0, 6, gpus=7), reservation(3, 9, gpus=4, name="c-fr")],
    )
    check(held, build_plan(held))


def test_effort_falls_with_the_number_of_jobs() -> None:
    work = [effort_for(n).starts * effort_for(n).sweeps for n in (10, 1000, 10_000, 10**5, 10**6)]
    assert work == sorted(work, reverse=True)
    assert effort_for(10).growth == pytest.approx(300 ** (1 / 60))


def test_warming_up_calls_every_kernel() -> None:
    found = warm_up()
    assert len(found.placements) == 4
    called = (kernels.running_sums, kernels.cheapest_sum, kernels.spread, kernels.sweep)
    called += (kernels.weigh, kernels.admit, kernels.improve, starting_kernels.settle_starts)
    called += (shaking_kernels.shake, pausing_kernels.respond, elastic.cheapest_widths)
    assert [kernel.py_func.__name__ for kernel in called if not kernel.signatures] == []  # type: ignore[attr-defined]
