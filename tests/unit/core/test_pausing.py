"""Jobs with pauses on prices and beside a load: cases counted by hand, kernels compiled and interpreted alike."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.data_moves import DataMove
from scheduler.core.planner import kernels, pausing, pausing_kernels, segments
from scheduler.core.planner.arrays import INFINITE
from scheduler.core.planner.pausing import PausingJobs, PausingSearch
from scheduler.core.planner.snapshot import PlanRequest
from scheduler.core.terms import Interruptible, Limits
from tests.unit.core.builders import HOUR, cluster, request, snapshot
from tests.unit.core.interpreting import interpret

BOTH = (cluster("DE", gpus=2), cluster("FR", gpus=2))
PAUSES = Interruptible(min_chunk_s=HOUR // 2, checkpoint_cost_s=0, max_interruptions=2)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels as plain Python: slow, but its lines can be followed."""
    interpret(monkeypatch, kernels, segments, pausing_kernels, pausing)
    return


def job(name: str, hours: float, **fields: object) -> PlanRequest:
    known: dict[str, object] = {"deadline": 6, "interruptible": PAUSES}
    return request(name, BOTH, hours=hours, **(known | fields))  # type: ignore[arg-type]


def search(de: Sequence[float], fr: Sequence[float], *jobs: PlanRequest) -> PausingSearch:
    """A search in units of an hour."""
    made = snapshot({"DE": de, "FR": fr}, jobs, clusters=BOTH, hours=6)
    return PausingSearch(PausingJobs(made, jobs, (0.0,)), made, made.forecast.grid)


def nothing() -> np.ndarray:
    return np.zeros((2, 6))


DE = [9.0, 1, 9, 9, 2, 9]
FR = [8.0, 8, 8, 3, 8, 8]


def check_answers() -> None:
    # Two and a half hours in DE: hours 1 and 4, and half of a 9: 7.5 g. In FR 3 + 8 + 4 = 15 g.
    asked = search(DE, FR, job("a", 2.5))
    load, paid = asked.answer(nothing())
    assert paid == pytest.approx(7.5)
    assert load[1].tolist() == [0] * 6
    assert load.sum() == 2.5
    assert load[0, [1, 4]].tolist() == [1, 1]
    # A price of 10 on hour 1 of DE: 3 + 8 + 4 = 15 g in FR, 2 + 9 + 4.5 = 15.5 g in DE.
    charged = nothing()
    charged[0, 1] = 10
    load, paid = asked.answer(charged)
    assert paid == pytest.approx(15)
    assert load[1].sum() == 2.5


def check_places() -> None:
    asked = search(DE, FR, job("a", 2), job("b", 7, deadline=6))
    found = asked.find(0, nothing())
    assert found is not None
    assert [(start // HOUR, stop // HOUR) for start, stop, _, _ in found.stretches] == [
        (1, 2),
        (4, 5),
    ]
    assert found.cost == pytest.approx(3)
    # Both devices of hour 4 are taken: hours 1 and the one beside it, 10 g, are cheaper than 11 g in FR.
    taken = nothing()
    taken[0, 4] = 2
    found = asked.find(0, taken)
    assert found is not None
    assert (found.row, found.cost) == (0, pytest.approx(10))
    # With next to nothing free in DE, it goes to FR; with nothing free anywhere, nowhere; like what is too long.
    taken[0, :5] = 2
    found = asked.find(0, taken)
    assert found is not None
    assert (found.row, found.cost) == (1, pytest.approx(11))
    assert asked.find(0, nothing() + 2) is None
    assert asked.find(1, nothing()) is None


def check_trimmed_limits() -> None:
    # Hours 1 and 4 and half an hour at 9 g are 7.5 g; with a limit below it nothing is left, FR emits 15 g.
    for limit, is_found in ((7.6, True), (7.4, False)):
        asked = search(DE, FR, job("a", 2.5, limits=Limits(max_carbon_g=limit)))
        assert (asked.find(0, nothing()) is not None) is is_found
    # A limit that only FR keeps, where money says DE.
    priced = [
        cluster(zone, gpus=2, price_per_gpu_hour=cost) for zone, cost in (("DE", 1), ("FR", 5))
    ]
    one = request(
        "a",
        priced,
        hours=2.5,
        deadline=6,
        interruptible=PAUSES,
        limits=Limits(max_carbon_g=16, carbon_price=10),
    )
    made = snapshot({"DE": [9.0] * 6, "FR": FR}, [one], clusters=priced, hours=6)
    found = PausingSearch(PausingJobs(made, [one], (0.0,)), made, made.forecast.grid).find(
        0, nothing()
    )
    assert found is not None
    assert found.choice.cluster.zone_id == "FR"


def check_trims_at_either_end() -> None:
    # One piece of 90 minutes: the dear hour is entered late, or left early.
    whole = replace(PAUSES, max_interruptions=1, min_chunk_s=2 * HOUR)
    for de, piece in (([9, 4, 1, 9, 9, 9], (1.5, 3)), ([9, 1, 4, 9, 9, 9], (1, 2.5))):
        limits = Limits(max_carbon_g=3.1)
        asked = search(
            [float(g) for g in de], FR, job("a", 1.5, interruptible=whole, limits=limits)
        )
        found = asked.find(0, nothing())
        assert found is not None
        start, stop, _, _ = found.stretches[0]
        assert (start / HOUR, stop / HOUR) == piece
        assert found.cost == pytest.approx(3)
        assert asked.answer(nothing())[0][0].sum() == pytest.approx(1.5)


def check_data() -> None:
    # In FR hours 3 and 4 are 10 g, and half a kWh of data in hour 3 are 1.5 g; in DE, at home, two hours are 40 g.
    one, fr = job("a", 2), [8.0, 8, 8, 3, 7, 8]
    home, there = one.choices
    for kwh, row, cost in ((0.5, 1, 11.5), (2, 1, 16), (20, 0, 40)):
        moving = replace(one, choices=(home, replace(there, move=DataMove(kwh=kwh, seconds=60))))
        found = search([20.0] * 6, fr, moving).find(0, nothing())
        assert found is not None
        assert (found.row, found.cost) == (row, pytest.approx(cost))


CHECKS = (check_answers, check_places, check_trimmed_limits, check_trims_at_either_end, check_data)


@pytest.mark.parametrize("check", CHECKS)
def test_pauses_are_where_counting_by_hand_puts_them(check: object) -> None:
    check()  # type: ignore[operator]


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("check", CHECKS)
def test_interpreted_kernels_put_them_there_too(check: object) -> None:
    check()  # type: ignore[operator]


@pytest.mark.usefixtures("interpreted")
def test_fraction_of_the_cheapest_open_units_costs_no_more_than_any_run() -> None:
    costs, closed = np.array([5.0, 1, 3, 2]), np.array([False, False, False, True])
    # Open are 1, 3 and 5: two and a half units are 1 + 3 + 2.5; four are not open.
    assert pausing_kernels.fraction_cost(costs, closed, 2.5) == 6.5
    assert pausing_kernels.fraction_cost(costs, closed, 2.0) == 4
    assert pausing_kernels.fraction_cost(costs, closed, 4.0) == INFINITE


def test_compiled_kernels_answer_as_interpreted_ones(test_request: pytest.FixtureRequest) -> None:
    def answers() -> list[object]:
        made: list[object] = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            jobs = [
                job(
                    f"j{n}",
                    float(rng.choice([1.25, 2, 2.5, 3])),
                    earliest=int(rng.integers(2)),
                    deadline=int(rng.integers(3, 7)),
                    margin_h=int(rng.integers(2)),
                    limits=Limits(max_carbon_g=float(rng.integers(5, 40)) if n else None),
                    interruptible=replace(PAUSES, checkpoint_cost_s=int(rng.integers(3)) * 900),
                )
                for n in range(3)
            ]
            de, fr = rng.integers(1, 20, (2, 6)).astype(float)
            if seed % 4 == 0:
                de[2] = np.nan
            asked = search(de.tolist(), fr.tolist(), *jobs)
            load, paid = asked.answer(rng.integers(0, 9, (2, 6)).astype(float))
            made += [load.tolist(), paid]
            for n in range(3):
                found = asked.find(n, rng.integers(0, 3, (2, 6)).astype(float))
                made.append(found and (found.row, found.stretches, found.cost))
        return made

    compiled = answers()
    test_request.getfixturevalue("interpreted")
    assert answers() == compiled


@pytest.fixture(name="test_request")
def _test_request(request: pytest.FixtureRequest) -> pytest.FixtureRequest:
    return request
