"""Elastic widths: a published profile to the milligram, cases counted by hand, and kernels compiled and interpreted alike."""

from collections.abc import Iterator

import numpy as np
import pytest

from scheduler.core.planner import elastic, kernels
from scheduler.core.planner.arrays import INFINITE
from scheduler.core.planner.elastic import (
    MOST_LABELS,
    Machine,
    Widths,
    bound_elastic,
    build_free_machine,
    build_machine,
    cheapest_widths,
)
from tests.unit.core.interpreting import interpret

# CarbonScaler's profile nbody100k, 1 to 4 nodes.
NBODY_WORK = np.array([1757.89, 3496.40, 5104.39, 6661.95])
NBODY_W = np.array([54.780, 109.805, 161.224, 217.607])
NBODY_G_PER_KWH = np.array([420.0, 310, 150, 90, 130, 280])


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels as plain Python: slow, but its lines can be followed."""
    interpret(monkeypatch, kernels, elastic)
    return


def nbody(*widths: int) -> Widths:
    chosen = [width - 1 for width in widths]
    costs = np.outer(NBODY_W[chosen], NBODY_G_PER_KWH) / 1000
    return Widths(costs, np.zeros(costs.shape, dtype=np.bool_), NBODY_WORK[chosen])


def solve(
    widths: Widths, machine: Machine, need: float, most_labels: int = MOST_LABELS
) -> tuple[list[int], float, bool]:
    chosen = np.zeros(widths.costs.shape[1], dtype=np.int64)
    cost, is_proven = elastic.cheapest_widths(widths, machine, need, most_labels, chosen)
    return (chosen + 1).tolist(), cost, is_proven


def check_nbody() -> None:
    # 4 node-hours. Hour 3 at 4 nodes: 19.58463 g, 6661.95; hour 4 at 1 node: 7.1214 g, 1757.89.
    need = 4 * NBODY_WORK[0]
    for machine in (build_free_machine(), build_machine()):
        nodes, cost, is_proven = solve(nbody(1, 2, 3, 4), machine, need)
        assert nodes == [0, 0, 0, 4, 1, 0]
        assert round(cost, 3) == 26.706
        assert is_proven
        assert elastic.bound_elastic(nbody(1, 2, 3, 4), machine, need) <= cost
    # One node only, pausing: its four cleanest hours, 90 + 130 + 150 + 280.
    nodes, cost, _ = solve(nbody(1), build_free_machine(), need)
    assert nodes == [0, 0, 1, 1, 1, 1]
    assert round(cost, 3) == 35.607


def test_published_profile_costs_what_trying_everything_found() -> None:
    check_nbody()


@pytest.mark.usefixtures("interpreted")
def test_interpreted_kernels_find_the_same() -> None:
    check_nbody()


def small(
    *rows: tuple[float, ...], work: tuple[float, ...], closed: tuple[int, ...] = ()
) -> Widths:
    costs = np.array(rows)
    shut = np.zeros(costs.shape, dtype=np.bool_)
    shut[:, list(closed)] = True
    return Widths(costs, shut, np.array(work))


def test_contiguous_job_pays_for_the_dear_slot_between() -> None:
    # Work 2: slots 0 and 2 cost 2 with a pause; in one piece 0 and 1 or 1 and 2 cost 6.
    place = small((1.0, 5.0, 1.0), work=(1.0,))
    assert solve(place, build_free_machine(), 2)[:2] == ([1, 0, 1], 2.0)
    assert solve(place, build_machine(), 2)[1] == 6.0
    assert solve(place, build_machine(most_segments=2), 2)[:2] == ([1, 0, 1], 2.0)


def test_restore_draws_power_without_work() -> None:
    # A second segment loses half a slot: work 2.5 takes three slots with a pause, 1 + 1 + 2; in one piece 11.
    place = small((1.0, 9.0, 1.0, 2.0), work=(1.0,))
    assert solve(place, build_machine(most_segments=2, checkpoint_slots=0.5), 2.5) == (
        [1, 0, 1, 1],
        4.0,
        True,
    )


def test_segments_are_no_shorter_than_asked_but_a_job_done_sooner_has_one() -> None:
    place = small((1.0, 9.0, 1.0, 2.0, 9.0), work=(1.0,))
    rules = build_machine(most_segments=2, shortest=2)
    # Slots 2 and 3. Work of 1 is done in less than the shortest segment.
    assert solve(place, rules, 2)[:2] == ([0, 0, 1, 1, 0], 3.0)
    assert solve(place, rules, 1)[1] == 1.0


def test_closed_slots_stay_idle_and_too_much_work_has_no_answer() -> None:
    place = small((1.0, 5.0, 1.0), work=(1.0,), closed=(1,))
    assert solve(place, build_machine(), 2) == ([0, 0, 0], INFINITE, True)
    assert bound_elastic(place, build_machine(), 2) == INFINITE
    assert solve(place, build_free_machine(), 2)[:2] == ([1, 0, 1], 2.0)
    assert solve(place, build_free_machine(), 3) == ([0, 0, 0], INFINITE, True)


def random_case(seed: int) -> tuple[Widths, Machine, float]:
    rng = np.random.default_rng(seed)
    slots, options = int(rng.integers(2, 12)), int(rng.integers(1, 4))
    work = rng.integers(1, 9, options).astype(np.float64)
    machines = (
        build_free_machine(),
        build_machine(),
        build_machine(most_segments=2, shortest=2, checkpoint_slots=0.25),
        build_machine(most_segments=3, checkpoint_slots=1.5),
    )
    costs = rng.integers(0, 99, (options, slots)).astype(np.float64)
    place = Widths(costs, rng.random((options, slots)) < 0.1, work)
    return place, machines[seed % 4], float(rng.integers(1, slots * 4))


def test_compiled_kernels_answer_as_interpreted_ones(request: pytest.FixtureRequest) -> None:
    cases = [random_case(seed) for seed in range(60)]

    def answers() -> list[object]:
        made: list[object] = [solve(*case) for case in cases]
        return made + [elastic.bound_elastic(*case) for case in cases]

    assert elastic.cheapest_widths is cheapest_widths
    compiled = answers()
    request.getfixturevalue("interpreted")
    assert answers() == compiled


def hard() -> tuple[Widths, Machine, float]:
    """Widths whose work and power are all unlike, so that few labels can be dropped."""
    rng = np.random.default_rng(3)
    work = np.array([1.0, 2.11, 2.97, 4.03])
    costs = np.outer(work ** (1 + rng.uniform(-0.01, 0.01, 4)), rng.uniform(50, 60, 24))
    return Widths(costs, np.zeros(costs.shape, dtype=np.bool_), work), build_free_machine(), 31.37


def test_answer_is_not_proven_where_labels_had_to_be_dropped() -> None:
    place, machine, need = hard()
    _, rough, is_proven = solve(place, machine, need, most_labels=2)
    assert not is_proven
    _, cost, is_proven = solve(place, machine, need)
    assert is_proven
    assert bound_elastic(place, machine, need) <= cost <= rough <= 1.01 * cost


@pytest.mark.usefixtures("interpreted")
def test_interpreted_search_drops_labels_and_grows_its_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elastic, "_FEW_LABELS", 2)
    monkeypatch.setattr(elastic, "_ROOM", 16)
    place, machine, need = hard()
    _, cost, is_proven = solve(place, machine, need, most_labels=3)
    assert not is_proven
    assert cost >= elastic.bound_elastic(place, machine, need)
    # A second search as short as the first finds nothing cheaper and keeps the answer.
    nodes, rough, is_proven = solve(place, machine, need, most_labels=2)
    assert not is_proven
    assert rough >= cost
    assert sum(place.costs[w - 1, t] for t, w in enumerate(nodes) if w) == pytest.approx(rough)


@pytest.mark.usefixtures("interpreted")
def test_interpreted_search_raises_the_price_where_the_job_must_run_through_dear_slots() -> None:
    # In one piece, the dear slot comes with a cheap one that does the work: no ratio of one slot is enough.
    place = Widths(np.array([[0.0, 90.0, 0.0]]), np.zeros((1, 3), dtype=np.bool_), np.array([1.0]))
    slow = build_machine(most_segments=2, checkpoint_slots=1.0)
    assert solve(place, slow, 3)[1:] == (90.0, True)
    restore = build_machine(most_segments=2, checkpoint_slots=0.5)
    assert solve(place._replace(costs=np.array([[0.0, 0.0, 9.0]])), restore, 3)[1] == 9.0
