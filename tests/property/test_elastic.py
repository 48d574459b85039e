"""Elastic widths against trying them all."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.planner.arrays import INFINITE
from scheduler.core.planner.elastic import (
    MOST_LABELS,
    Widths,
    bound_elastic,
    build_free_machine,
    build_machine,
    cheapest_widths,
)

_Rules = tuple[int, int, float]


def segments_of(way: tuple[int, ...]) -> list[list[int]]:
    made: list[list[int]] = []
    for slot, width in enumerate(way):
        if width >= 0:
            if slot and way[slot - 1] >= 0:
                made[-1].append(slot)
            else:
                made.append([slot])
    return made


def work_of(way: tuple[int, ...], work: list[float], rules: _Rules | None) -> float:
    """Work done; -1 where the rules do not allow it. Rules are most segments, shortest, and checkpoint slots."""
    runs = segments_of(way)
    if rules is None:
        return sum(work[w] for w in way if w >= 0)
    most, shortest, checkpoint = rules
    if len(runs) > most or (len(runs) > 1 and min(map(len, runs)) < shortest):
        return -1.0
    done = 0.0
    for index, run in enumerate(runs):
        for age, slot in enumerate(run):
            lost = min(max(checkpoint - age, 0.0), 1.0) if index else 0.0
            done += work[way[slot]] * (1.0 - lost)
    return done


@st.composite
def cases(
    draw: st.DrawFn,
) -> tuple[list[list[float]], list[list[bool]], list[float], float, _Rules | None]:
    slots, widths = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    costs = [[float(draw(st.integers(0, 9))) for _ in range(slots)] for _ in range(widths)]
    closed = [[draw(st.integers(0, 5)) == 0 for _ in range(slots)] for _ in range(widths)]
    work = [float(draw(st.integers(1, 6))) for _ in range(widths)]
    rules = draw(
        st.none()
        | st.just((1, 1, 0.0))
        | st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([0.0, 0.25, 1.0, 1.5]))
    )
    return costs, closed, work, draw(st.integers(1, 24)) / 2, rules


@settings(max_examples=300, deadline=None)
@given(cases())
def test_widths_are_the_cheapest_of_all_and_the_bound_stays_below(
    case: tuple[list[list[float]], list[list[bool]], list[float], float, _Rules | None],
) -> None:
    costs, closed, work, need, rules = case
    slots = len(costs[0])
    expected = INFINITE
    for way in itertools.product(range(-1, len(work)), repeat=slots):
        taken = [(w, t) for t, w in enumerate(way) if w >= 0]
        if not any(closed[w][t] for w, t in taken) and work_of(way, work, rules) >= need - 1e-9:
            expected = min(expected, sum(costs[w][t] for w, t in taken))
    machine = (
        build_free_machine()
        if rules is None
        else build_machine(most_segments=rules[0], shortest=rules[1], checkpoint_slots=rules[2])
    )
    widths = Widths(np.array(costs), np.array(closed), np.array(work))
    chosen = np.zeros(slots, dtype=np.int64)
    cost, is_proven = cheapest_widths(widths, machine, need, MOST_LABELS, chosen)
    assert is_proven
    assert cost == pytest.approx(expected)
    assert bound_elastic(widths, machine, need) <= expected * (1 + 1e-9)
    assert bound_elastic(widths, build_free_machine(), need) <= expected * (1 + 1e-9)
    if cost < INFINITE:
        way = tuple(chosen.tolist())
        assert work_of(way, work, rules) >= need * (1 - 1e-9)
        assert sum(costs[w][t] for t, w in enumerate(way) if w >= 0) == pytest.approx(cost)
    else:
        assert (chosen == -1).all()
