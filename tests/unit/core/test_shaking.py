"""Shaking: small plans are optimal, jobs find room where there is any, and higher priority never loses to lower."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.planner import kernels, shaking, shaking_kernels
from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.kernels import cell_grams
from scheduler.core.planner.placing import Placing, nowhere, place_in_order
from scheduler.core.planner.prices import find_prices
from scheduler.core.planner.shaking import (
    CHUNK,
    Shaking,
    greedies,
    make_room,
    shaken,
    shaking_for,
    worth,
)
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot, Watch
from scheduler.core.terms import Limits
from tests.unit.core.builders import cluster, request, snapshot
from tests.unit.core.interpreting import interpret

QUICK = Shaking(rounds=3, steps=600, tries=30)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels as plain Python: slow, but its lines can be followed."""
    interpret(monkeypatch, kernels, shaking_kernels, shaking)
    return


def drawn(seed: int, *, jobs: int = 4, hours: int = 7, levels: int = 1) -> PlanSnapshot:
    """Few jobs on two small clusters: parts of hours, margins, priorities, and now and then an hour without forecast."""
    rng = np.random.default_rng(seed)
    clusters = cluster("DE", gpus=3, pue=1.2), cluster("FR", gpus=2)
    g = rng.integers(20, 500, (2, hours)).astype(float)
    if seed % 3 == 0:
        g[0, rng.integers(hours)] = np.nan
    asked = [
        request(
            f"j{n}",
            clusters[: int(rng.integers(1, 3))],
            hours=float(rng.choice([1, 1.5, 2, 2.25, 3])),
            earliest=int(rng.integers(0, 2)),
            deadline=int(rng.integers(4, hours + 1)),
            gpus=int(rng.integers(1, 3)),
            priority=int(rng.integers(levels)),
            margin_h=float(rng.choice([0, 0, 1])) if seed % 2 else 0,
        )
        for n in range(jobs)
    ]
    return snapshot(
        {"DE": g[0].tolist(), "FR": g[1].tolist()}, asked, clusters=clusters, hours=hours
    )


def instance_of(made: PlanSnapshot) -> Instance:
    return build_instance(made, made.requests)


def cells_of(instance: Instance, j: int, *, is_easy: bool) -> list[tuple[float, int, int, int]]:
    """Grams, choice, link and slot of every open cell of a job."""
    jobs = instance.easy if is_easy else instance.jobs
    market, tables = instance.market, instance.tables
    found = []
    for link in range(jobs.first[j], jobs.first[j + 1]):
        k = int(jobs.table[link])
        for c in range(tables.first[k], tables.first[k + 1]):
            for slot in range(jobs.low[link], jobs.high[link] + 1):
                shut = market.closed_sum[0, tables.row[c]]
                if shut[slot + tables.touched[k]] == shut[slot]:
                    grams = jobs.scale[j] * cell_grams(market, tables, k, c, slot)
                    found.append((grams, c, link, slot))
    return found


def load_of(instance: Instance, placing: Placing) -> np.ndarray:
    load = np.zeros_like(instance.market.free)
    cells, tables, jobs = placing.cells, instance.tables, instance.jobs
    for j in np.flatnonzero(cells.choice >= 0):
        n, c = tables.touched[jobs.table[cells.link[j]]], cells.choice[j]
        load[tables.row[c], cells.slot[j] : cells.slot[j] + n] += tables.gpus[c] * jobs.scale[j]
    return load


def check(instance: Instance, placing: Placing) -> None:
    """Every promise of a placing, counted again from its cells."""
    cells = placing.cells
    for j in np.flatnonzero(cells.choice >= 0).tolist():
        open_cells = [one[1:] for one in cells_of(instance, j, is_easy=True)]
        assert (cells.choice[j], cells.link[j], cells.slot[j]) in open_cells
    assert (load_of(instance, placing) <= instance.market.free).all()
    np.testing.assert_allclose(load_of(instance, placing), placing.load, atol=1e-9)


def optimum(instance: Instance) -> tuple[tuple[int, ...], float]:
    """The best worth of all ways to place the jobs or not."""
    count, nothing = len(instance.requests), (0.0, -1, -1, -1)
    best: tuple[tuple[int, ...], float] | None = None
    choices = [[nothing, *cells_of(instance, j, is_easy=True)] for j in range(count)]
    levels = np.unique(instance.priority)[::-1]
    for made in itertools.product(*choices):
        lost = np.array([one[1] < 0 for one in made])
        value = (
            tuple(int((lost & (instance.priority == level)).sum()) for level in levels),
            sum(one[0] for one in made),
        )
        if best is None or value < best:
            cells = nowhere(count)
            for j, one in enumerate(made):
                cells.grams[j], cells.choice[j], cells.link[j], cells.slot[j] = one
            load = load_of(instance, Placing(cells, np.zeros(0)))
            if (load <= instance.market.free).all():
                best = value
    assert best is not None
    return best


def shake_all(instance: Instance, effort: Shaking = QUICK) -> Placing:
    start = place_in_order(instance, np.arange(len(instance.requests)))
    return shaken(instance, find_prices(instance, passes=5).prices, [start], effort=effort)


@pytest.mark.parametrize("seed", range(0, 24, 2))
@pytest.mark.parametrize("levels", [1, 3])
def test_tiny_plans_are_the_optimum_of_all_placements(seed: int, levels: int) -> None:
    instance = instance_of(drawn(seed, jobs=3, levels=levels))
    found = shake_all(instance)
    check(instance, found)
    lost, grams = optimum(instance)
    assert worth(instance, found)[0] == lost
    assert found.grams == pytest.approx(grams)


def test_where_there_are_too_many_cells_none_is_listed_and_the_best_start_stays() -> None:
    instance = instance_of(drawn(4, jobs=12))
    wide = shake_all(instance, replace(QUICK, cells=0))
    unshaken = shake_all(instance, replace(QUICK, rounds=0))
    assert wide.cells.slot.tolist() == unshaken.cells.slot.tolist()
    assert wide.grams > shake_all(instance).grams


@pytest.mark.parametrize("seed", range(1, 24, 2))
def test_with_margins_as_many_jobs_have_a_place_as_can(seed: int) -> None:
    instance = instance_of(drawn(seed, jobs=3, hours=6, levels=2))
    found = shake_all(instance)
    check(instance, found)
    assert worth(instance, found)[0] == optimum(instance)[0]


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("seed", range(6))
def test_interpreted_kernels_keep_every_promise(seed: int) -> None:
    instance = instance_of(drawn(seed, jobs=12, levels=2))
    start = place_in_order(instance, np.arange(12))
    found = shake_all(instance, Shaking(rounds=2, steps=200, tries=20))
    check(instance, found)
    assert worth(instance, found) <= worth(instance, start)


def hard(seed: int) -> PlanSnapshot:
    """A crowd with limits, options too long for their windows, hours with fewer devices, and jobs that fit nowhere."""
    made = drawn(seed, jobs=14, hours=8, levels=2)
    asked = []
    for n, one in enumerate(made.requests):
        short = one.choices
        long = tuple(replace(choice, option=1, duration_s=9 * 3600) for choice in short)
        limits = Limits(max_carbon_g=(150.0, 600, None)[n % 3])
        asked.append(replace(one, choices=(*short, *long) if n % 2 else short, limits=limits))
    asked.append(request("wide", tuple(made.fleet), hours=2, deadline=8, gpus=3))
    asked.append(request("wider", tuple(made.fleet), hours=1, deadline=8, gpus=9))
    free = made.capacity.free.copy()
    free[0, 2] = free[1, 5] = 1
    return replace(made, requests=tuple(asked), capacity=replace(made.capacity, free=free))


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("seed", range(3))
def test_interpreted_kernels_keep_limits_and_what_is_free(seed: int) -> None:
    instance = instance_of(hard(seed))
    found = shake_all(instance, Shaking(rounds=2, steps=300, tries=20))
    check(instance, found)
    here = found.cells.choice >= 0
    assert (found.cells.grams[here] <= instance.jobs.limit[here] * (1 + 1e-9)).all()
    assert not here[-1]  # nine devices are nowhere


def test_compiled_kernels_do_the_same_as_interpreted_ones(request: pytest.FixtureRequest) -> None:
    instance = instance_of(drawn(3, jobs=10, levels=2))
    effort = Shaking(rounds=2, steps=200, tries=10)
    compiled = shake_all(instance, effort)
    request.getfixturevalue("interpreted")
    found = shake_all(instance, effort)
    assert compiled.cells.slot.tolist() == found.cells.slot.tolist()
    assert compiled.cells.choice.tolist() == found.cells.choice.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_no_greedy_places_more_jobs_of_a_priority(seed: int) -> None:
    instance = instance_of(drawn(seed, jobs=25, hours=12, levels=3))
    found = shake_all(instance, Shaking(rounds=0, steps=0, tries=20))
    check(instance, found)
    lost = worth(instance, found)[0]
    assert sum(lost) > 0
    assert lost <= min(worth(instance, one)[0] for one in greedies(instance))


def blocked() -> list[PlanRequest]:
    """Three jobs for one device: whoever comes first at its best hour leaves the last one none, but all fit."""
    one = (cluster(),)
    return [
        request("a", one, hours=2, earliest=0, deadline=6),
        request("b", one, hours=2, earliest=0, deadline=4),
        request("c", one, hours=2, earliest=0, deadline=2),
    ]


def test_chains_make_room_for_a_job_that_only_the_first_hours_hold() -> None:
    # a takes hours 0-2 and b 2-4: c must send a away, which must send b away or go to 4-6.
    made = snapshot({"DE": [1.0, 1, 2, 2, 3, 3]}, blocked(), clusters=(cluster(),), hours=6)
    instance = instance_of(made)
    start = place_in_order(instance, np.arange(3))
    assert start.placed == 2
    found = shaken(
        instance,
        0 * instance.market.free,
        [start],
        effort=Shaking(rounds=0, steps=0),
    )
    assert found.cells.slot.tolist() == [4, 2, 0]


def test_higher_priority_takes_the_place_of_lower_ones() -> None:
    low, high = (
        request(name, hours=3, deadline=3, priority=level) for name, level in (("a", 0), ("b", 5))
    )
    instance = instance_of(snapshot({"DE": [1.0] * 3}, [low, high], hours=3))
    start = place_in_order(instance, np.arange(2))
    assert start.cells.choice.tolist() == [0, -1]
    assert shake_all(instance).cells.choice.tolist() == [-1, 0]


def test_search_that_is_over_gives_the_best_start() -> None:
    instance = instance_of(drawn(2, jobs=12))
    start = place_in_order(instance, np.arange(12))
    asked = 0

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    for over in (lambda: True, is_over):
        found = shaken(instance, 0 * instance.market.free, [start], effort=QUICK, watch=Watch(over))
        check(instance, found)
        assert worth(instance, found) <= worth(instance, start)


def test_annealing_that_is_over_gives_the_best_seen() -> None:
    # Two jobs want hour 0: with no prices nothing tells that 10 + 90 is the least, so that shaking goes on until it is over.
    made = snapshot(
        {"DE": [10.0, 90, 500]}, [request(n, hours=1, deadline=3) for n in "ab"], hours=3
    )
    instance = instance_of(made)
    start = place_in_order(instance, np.arange(2))
    answers = iter([False, True, True])
    found = shaken(
        instance,
        0 * instance.market.free,
        [start],
        effort=QUICK,
        watch=Watch(is_over=lambda: next(answers)),
    )
    assert found.grams == pytest.approx(100)
    assert next(answers, None) is None


def test_making_room_ends_when_all_have_a_place() -> None:
    made = snapshot({"DE": [1.0, 1, 2, 2, 3, 3]}, blocked(), clusters=(cluster(),), hours=6)
    instance = instance_of(made)
    start = place_in_order(instance, np.arange(3))
    asked = 0

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        return False

    found = make_room(
        instance,
        start,
        chance=np.random.default_rng(0),
        effort=Shaking(rounds=0, steps=0, tries=10 * CHUNK),
        watch=Watch(is_over),
    )
    assert found.placed == 3
    assert asked == 2  # not all of the ten chunks


def test_same_seed_same_placing_and_starts_are_left_alone() -> None:
    instance = instance_of(drawn(4, jobs=12))
    start = place_in_order(instance, np.arange(12))
    before = start.cells.slot.tolist()
    first, second = shake_all(instance), shake_all(instance)
    assert first.cells.slot.tolist() == second.cells.slot.tolist()
    assert start.cells.slot.tolist() == before


def test_jobs_that_fit_nowhere_are_left_out() -> None:
    made = snapshot({"DE": [1.0] * 4}, [request(hours=2, gpus=9)], hours=4)
    made = replace(made, requests=(*made.requests, request("late", hours=3, deadline=2)))
    assert shake_all(instance_of(made)).placed == 0


def test_small_plans_are_shaken_and_large_ones_are_not() -> None:
    assert shaking_for(60).rounds * shaking_for(60).steps > 0
    assert shaking_for(200).rounds * shaking_for(200).steps > 0
    assert shaking_for(10_000).rounds == 0
