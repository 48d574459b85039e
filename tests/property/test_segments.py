"""Segments with pauses against trying them all."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.planner.arrays import INFINITE
from scheduler.core.planner.pauses import PriceRow, Run, bound_segments, exact_segments
from scheduler.core.planner.segments import cheapest_segments, least_segments, scratch_size

SLOT_S = 4
_Cuts = tuple[tuple[int, int], ...]


def cuts(
    units: int, total: int, count: int, shortest: int, gap: int, begin: int = 0
) -> Iterator[_Cuts]:
    """Every way to lay `count` segments of `total` units."""
    if count == 0:
        if total == 0:
            yield ()
        return
    for start in range(begin, units):
        for length in range(shortest, min(total, units - start) + 1):
            for rest in cuts(units, total - length, count - 1, shortest, gap, start + length + gap):
                yield ((start, start + length), *rest)


def cheapest_by_trial(costs: list[float], closed: list[bool], run: Run) -> float:
    """Over all whole seconds: exact, as an optimum has whole seconds where everything asked has."""
    second = np.repeat(np.array(costs) / SLOT_S, SLOT_S)
    shut = np.repeat(closed, SLOT_S)
    best = INFINITE
    most = run.max_interruptions if run.duration_s >= run.min_chunk_s else 0
    for k in range(most + 1):
        total = run.duration_s + k * run.checkpoint_cost_s
        stop = min(len(second), run.deadline_s)
        shortest = max(1, min(run.min_chunk_s, run.duration_s))
        for cut in cuts(stop, total, k + 1, shortest, SLOT_S, run.earliest_s):
            taken = np.concatenate([np.arange(*segment) for segment in cut])
            if not shut[taken].any():
                best = min(best, float(second[taken].sum()))
    return best


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[float], list[bool], Run]:
    n = draw(st.integers(1, 6))
    costs = draw(st.lists(st.integers(0, 9).map(float), min_size=n, max_size=n))
    closed = draw(st.lists(st.sampled_from([False, False, False, True]), min_size=n, max_size=n))
    horizon = n * SLOT_S
    run = Run(
        duration_s=draw(st.integers(1, 10)),
        earliest_s=draw(st.integers(0, 5)),
        deadline_s=draw(st.integers(max(1, horizon - 6), horizon + 2)),
        min_chunk_s=draw(st.integers(0, 6)),
        checkpoint_cost_s=draw(st.integers(0, 5)),
        max_interruptions=draw(st.integers(0, 2)),
    )
    return costs, closed, run


@settings(max_examples=300, deadline=None)
@given(cases(), st.sampled_from([3_000_000, 60, 1]))
def test_segments_are_the_cheapest_of_all_and_bounds_stay_below(
    case: tuple[list[float], list[bool], Run], most_cells: int
) -> None:
    costs, closed, run = case
    row = PriceRow(np.array(costs), np.array(closed), SLOT_S)
    expected = cheapest_by_trial(costs, closed, run)
    bound = bound_segments(row, run, most_cells=most_cells)
    found = exact_segments(row, run, most_cells=most_cells)
    assert bound <= expected * (1 + 1e-9)
    if found is None:
        assert expected == INFINITE or most_cells < 3_000_000
        return
    obeys(found.start_s, found.stop_s, closed, run)
    assert found.cost >= expected - 1e-9
    assert found.cost == pytest.approx(
        sum(
            costs[t // SLOT_S] / SLOT_S
            for start, stop in zip(found.start_s, found.stop_s, strict=True)
            for t in range(start, stop)
        )
    )
    whole = Run(duration_s=run.duration_s, earliest_s=run.earliest_s, deadline_s=run.deadline_s)
    assert found.cost <= cheapest_by_trial(costs, closed, whole) + 1e-9
    if found.is_exact:
        assert found.cost == pytest.approx(expected)
    if most_cells == 3_000_000:
        assert found.is_exact
        assert bound == pytest.approx(expected)


def obeys(start_s: tuple[int, ...], stop_s: tuple[int, ...], closed: list[bool], run: Run) -> None:
    k = len(start_s)
    assert 1 <= k <= run.max_interruptions + 1
    lengths = [stop - start for start, stop in zip(start_s, stop_s, strict=True)]
    assert sum(lengths) == run.duration_s + (k - 1) * run.checkpoint_cost_s
    assert min(lengths) >= min(run.min_chunk_s, run.duration_s)
    assert k == 1 or run.duration_s >= run.min_chunk_s
    assert start_s[0] >= run.earliest_s
    assert stop_s[-1] <= min(run.deadline_s, len(closed) * SLOT_S)
    assert all(start_s[i + 1] - stop_s[i] >= SLOT_S for i in range(k - 1))
    for start, stop in zip(start_s, stop_s, strict=True):
        assert not any(closed[t // SLOT_S] for t in range(start, stop))


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[float], list[bool], list[tuple[int, float]], float, int]:
    n = draw(st.integers(1, 9))
    costs = draw(st.lists(st.integers(0, 9).map(float), min_size=n, max_size=n))
    closed = draw(st.lists(st.sampled_from([False] * 4 + [True]), min_size=n, max_size=n))
    lengths = draw(
        st.lists(
            st.tuples(st.integers(1, 7), st.sampled_from([0.0, 0.25, 0.5, 0.75])),
            min_size=1,
            max_size=3,
        )
    )
    chunk = draw(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0]))
    return (
        costs,
        closed,
        lengths,
        min(chunk, lengths[0][0] - lengths[0][1]),
        draw(st.integers(1, 2)),
    )


def cheapest_units(
    costs: list[float],
    closed: list[bool],
    lengths: list[tuple[int, float]],
    chunk: float,
    gap: int,
) -> float:
    best = INFINITE
    for k, (units, part) in enumerate(lengths):
        if units - part < (k + 1) * chunk:
            continue
        for cut in cuts(len(costs), units, k + 1, int(np.ceil(chunk)), gap):
            taken = np.concatenate([np.arange(*segment) for segment in cut])
            ends = [0.0] if part == 0 else []
            for start, stop in cut:
                if stop - start - part >= chunk:
                    ends += [costs[start], costs[stop - 1]]
            if ends and not np.array(closed)[taken].any():
                best = min(best, float(np.array(costs)[taken].sum()) - part * max(ends))
    return best


@settings(max_examples=500, deadline=None)
@given(grids())
def test_units_that_overshoot_are_trimmed_where_it_saves_most(
    case: tuple[list[float], list[bool], list[tuple[int, float]], float, int],
) -> None:
    costs, closed, lengths, chunk, gap = case
    need = np.array([units for units, _ in lengths])
    surplus = np.array([part for _, part in lengths])
    shortest = int(np.ceil(chunk))
    expected = cheapest_units(costs, closed, lengths, chunk, gap)
    starts, stops = np.zeros((2, len(need)), dtype=np.int64)
    asked = (np.array(costs), np.array(closed), need, surplus, shortest, chunk, gap)
    scratch = np.full(scratch_size(len(costs), need, surplus, shortest), 7.0)
    cost, count, trimmed, end = cheapest_segments(*asked, scratch, starts, stops)
    least = least_segments(*asked, scratch)
    assert cost == pytest.approx(expected)
    assert least <= cost + 1e-9
    if not surplus.any():
        assert least == pytest.approx(cost)
    if count:
        assert (stops - starts)[:count].sum() == need[count - 1]
        assert (starts[1:count] - stops[: count - 1] >= gap).all()
        assert ((stops - starts)[:count] >= shortest).all()
        paid = sum(costs[t] for i in range(count) for t in range(starts[i], stops[i]))
        if trimmed >= 0:
            length = stops[trimmed] - starts[trimmed] - surplus[count - 1]
            assert length >= chunk - 1e-9
            unit = stops[trimmed] - 1 if end else starts[trimmed]
            paid -= surplus[count - 1] * costs[unit]
        assert paid == pytest.approx(cost)
