"""Runs with pauses: cases counted by hand, and the kernels compiled and interpreted alike."""

from collections.abc import Iterator
from math import ceil

import numpy as np
import pytest

from scheduler.core.planner import boundaries, kernels, pauses, segments
from scheduler.core.planner.arrays import INFINITE, Floats
from scheduler.core.planner.pauses import PriceRow, Run, bound_segments, exact_segments
from scheduler.core.planner.segments import (
    cheapest_segments,
    least_segments,
    scratch_size,
)
from tests.unit.core.interpreting import interpret

HOUR = 3600


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels as plain Python: slow, but its lines can be followed."""
    interpret(monkeypatch, kernels, segments, boundaries, pauses)
    return


def row(*costs: float, closed: tuple[int, ...] = ()) -> PriceRow:
    return PriceRow(np.array(costs, dtype=np.float64), np.isin(np.arange(len(costs)), closed), HOUR)


def run(hours: float, *, window: tuple[float, float], **rules: float) -> Run:
    return Run(
        duration_s=round(hours * HOUR),
        earliest_s=round(window[0] * HOUR),
        deadline_s=round(window[1] * HOUR),
        min_chunk_s=round(rules.get("chunk", 0) * HOUR),
        checkpoint_cost_s=round(rules.get("restore", 0) * HOUR),
        max_interruptions=round(rules.get("pauses", 0)),
    )


def hours(found: pauses.Segments | None) -> list[tuple[float, float]]:
    assert found is not None
    return [(a / HOUR, b / HOUR) for a, b in zip(found.start_s, found.stop_s, strict=True)]


DAY = row(9, 1, 9, 9, 2, 9, 3, 9)


def test_job_with_no_pause_runs_in_its_cheapest_hours() -> None:
    # Pairs cost 10, 10, 18, 11, 11, 12, 12: the first.
    found = exact_segments(DAY, run(2, window=(0, 8)))
    assert hours(found) == [(0, 2)]
    assert found is not None
    assert found.cost == 10
    assert found.is_exact


def test_pause_skips_dear_hours() -> None:
    assert hours(exact_segments(DAY, run(2, window=(0, 8), pauses=1))) == [(1, 2), (4, 5)]
    assert hours(exact_segments(DAY, run(3, window=(0, 8), pauses=5))) == [(1, 2), (4, 5), (6, 7)]


def test_restore_is_run_and_paid_for() -> None:
    # 2 h 15 min: the quarter beside the cheap hours costs 9/4.
    found = exact_segments(DAY, run(2, window=(0, 8), pauses=1, restore=0.25, chunk=0.5))
    assert found is not None
    assert found.cost == pytest.approx(1 + 2 + 9 / 4)
    assert sum(b - a for a, b in hours(found)) == 2.25
    # 2 h more for the second segment: 1 + 2 + 9 + 9 against 9 + 1 in one piece.
    assert hours(exact_segments(DAY, run(2, window=(0, 8), pauses=1, restore=2))) == [(0, 2)]


def test_segments_are_no_shorter_than_min_chunk() -> None:
    # Two segments of 90 min: 1 + 4.5 and 2 + 4.5, or 1 + 4.5 and 3 + 4.5; in one piece 1 + 18.
    found = exact_segments(DAY, run(3, window=(0, 8), pauses=2, chunk=1.5))
    assert found is not None
    assert found.cost == pytest.approx(12)
    # A job shorter than min_chunk has one segment.
    assert len(hours(exact_segments(DAY, run(2, window=(0, 8), pauses=3, chunk=3)))) == 1


def test_no_slack_means_run_now() -> None:
    assert hours(exact_segments(DAY, run(3, window=(2, 5), pauses=3))) == [(2, 5)]
    assert bound_segments(DAY, run(3, window=(2, 5), pauses=3)) == pytest.approx(20)


@pytest.mark.parametrize(
    ("asked", "closed"),
    [
        (run(3, window=(2, 4), pauses=3), ()),
        (run(3, window=(6, 12), pauses=3), ()),
        (run(3, window=(0, 6), pauses=1), (1, 3, 5)),
        (run(2, window=(0, 8), pauses=1, chunk=2), (1, 3, 5, 7)),
        (run(2, window=(0, 8)), (1, 3, 5, 7)),
        (run(5, window=(0, 8), pauses=7), (1, 3, 5, 7)),
    ],
)
def test_what_does_not_fit_has_no_answer_and_no_bound(asked: Run, closed: tuple[int, ...]) -> None:
    place = row(9, 1, 9, 9, 2, 9, 3, 9, closed=closed)
    assert exact_segments(place, asked) is None
    assert bound_segments(place, asked) == INFINITE


def test_closed_hours_are_run_around() -> None:
    place = row(9, 1, 9, 9, 2, 9, 3, 9, closed=(1, 5))
    assert hours(exact_segments(place, run(2, window=(0, 8), pauses=1))) == [(4, 5), (6, 7)]
    assert hours(exact_segments(place, run(2, window=(0, 8)))) == [(3, 5)]


def test_bound_stops_early_where_the_row_cannot_win() -> None:
    # The three cheapest hours cost 6, with a restore of an hour 15.
    asked = run(3, window=(0, 8), pauses=2, restore=0.5)
    assert bound_segments(DAY, asked, below=5) == pytest.approx(6)
    assert bound_segments(DAY, asked) > 10


def test_rounded_answers_stay_above_and_rounded_bounds_below_the_optimum() -> None:
    # The exact grid is of minutes; with fewer cells allowed it is coarser.
    asked = Run(
        duration_s=7260,
        earliest_s=420,
        deadline_s=8 * HOUR - 780,
        min_chunk_s=1860,
        checkpoint_cost_s=360,
        max_interruptions=2,
    )
    exact = exact_segments(DAY, asked, most_cells=10**9)
    rounded = exact_segments(DAY, asked, most_cells=20_000)
    assert exact is not None
    assert rounded is not None
    assert exact.is_exact
    assert not rounded.is_exact
    assert exact.cost <= rounded.cost <= exact.cost * 1.02
    for cells in (1, 1000, 10_000, 1_000_000):
        assert 0.5 * exact.cost <= bound_segments(DAY, asked, most_cells=cells) <= exact.cost
    short = Run(duration_s=61, earliest_s=0, deadline_s=8 * HOUR, max_interruptions=1)
    assert bound_segments(DAY, short, most_cells=1) == pytest.approx(61 / HOUR)


def test_a_run_that_only_whole_slots_would_not_fit_is_found_in_one_piece() -> None:
    # From 0:30 to 2:30 without a pause: no whole hours fit, and one piece does.
    found = exact_segments(DAY, run(2, window=(0.5, 2.5), pauses=1), most_cells=1)
    assert hours(found) == [(0.5, 2.5)]


def daily(n: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    wave = 300 + 120 * np.sin(2 * np.pi * (np.arange(n) - 9) / 24)
    return np.maximum(wave + rng.normal(0, 20, n).cumsum() + rng.uniform(0, 30, n), 20.0)


@pytest.mark.parametrize(
    ("job", "window", "restore", "chunk"),
    [(6, 30, 0, 1), (6, 30, 1, 3), (24, 48, 0.25, 1), (24, 48, 1, 3), (24, 168, 0.25, 3)],
)
def test_search_beats_both_one_piece_and_the_cheapest_hours_with_their_restores(
    job: int, window: int, restore: float, chunk: int
) -> None:
    for seed in range(6):
        costs = daily(window, seed)
        place = PriceRow(costs, np.zeros(window, dtype=np.bool_), HOUR)
        asked = {"chunk": chunk, "restore": restore}
        found = exact_segments(place, run(job, window=(0, window), pauses=job, **asked))
        whole = exact_segments(place, run(job, window=(0, window)))
        assert found is not None
        assert whole is not None
        assert found.cost <= whole.cost
        # The cheapest hours at whatever length, each restart paid at the dearest hour beside it.
        taken = np.sort(np.argsort(costs, kind="stable")[:job])
        lengths = np.diff(np.flatnonzero(np.diff(np.r_[-9, taken, window + 9]) > 1))
        if restore == 0:
            assert lengths.min() >= chunk
            assert found.cost == pytest.approx(costs[taken].sum())
        elif lengths.min() >= chunk:
            restarts = restore * (len(lengths) - 1)
            assert found.cost <= costs[taken].sum() + restarts * costs.max()


def random_units(seed: int) -> tuple[tuple[object, ...], int]:
    rng = np.random.default_rng(seed)
    n, most = int(rng.integers(4, 16)), int(rng.integers(1, 5))
    lengths = rng.integers(1, 4) + rng.integers(0, 9) / 4 + np.arange(most) * rng.integers(0, 4) / 4
    need = np.ceil(lengths).astype(np.int64)
    chunk = min(float(rng.choice([0.25, 0.5, 1, 1.5, 2])), lengths[0])
    shortest = int(np.ceil(chunk))
    closed = rng.random(n) < 0.1
    costs = rng.integers(0, 9, n).astype(np.float64)
    gap = int(rng.integers(1, 3))
    surplus = need - lengths
    size = scratch_size(n, need, surplus, shortest)
    return (costs, closed, need, surplus, shortest, chunk, gap), size


def test_compiled_kernels_answer_as_interpreted_ones(request: pytest.FixtureRequest) -> None:
    def answers() -> list[object]:
        made: list[object] = []
        for seed in range(1000):
            asked, size = random_units(seed)
            starts, stops = np.zeros((2, len(asked[2])), dtype=np.int64)  # type: ignore[arg-type]
            scratch = np.zeros(size)
            cheapest, least = segments.cheapest_segments, segments.least_segments
            answer = cheapest(*asked, scratch, starts, stops)  # type: ignore[arg-type]
            count = answer[1]
            made += [answer, starts[:count].tolist(), stops[:count].tolist()]
            made.append(least(*asked, scratch))  # type: ignore[arg-type]
        return made

    assert segments.cheapest_segments is cheapest_segments
    assert segments.least_segments is least_segments
    compiled = answers()
    request.getfixturevalue("interpreted")
    assert answers() == compiled


def test_search_trims_where_the_cheapest_whole_units_may_not_be_trimmed() -> None:
    # Two segments of 1 + 1 units cost 0 and none may shrink; of 1 + 2 units one loses half of a 9: 4.5. In one piece 9.
    assert solve_units([0, 9, 0, 9], [2, 3], [0.0, 0.5]) == (4.5, 2)
    # In one piece 2 units less a half of 9 is 4.5; two segments must be of 1 + 1 and cannot be trimmed.
    assert solve_units([0, 9, 0, 9], [2, 2], [0.5, 0.0]) == (0.0, 2)
    # Two segments of 2 units, neither of which may lose three quarters: 9 in one piece.
    assert solve_units([0, 0, 9, 0, 0, 9], [4, 4], [0.0, 0.75], chunk=1.5) == (9.0, 1)
    # The same where one piece does not fit.
    closed = (2, 5)
    assert solve_units([0, 0, 9, 0, 0, 9], [4, 4], [0.0, 0.75], chunk=1.5, closed=closed) == (
        INFINITE,
        0,
    )
    # Hours 1, 2, 5 and 6 less three quarters of the 7: the second segment lies right behind a closed hour.
    costs = [8.0, 2, 7, 3, 0, 0, 4]
    assert solve_units(costs, [4, 4], [0.75, 0.75], closed=(0, 4)) == (7.75, 2)


def solve_units(
    costs: list[float],
    need: list[int],
    surplus: list[float],
    *,
    chunk: float = 1.0,
    closed: tuple[int, ...] = (),
) -> tuple[float, int]:
    shortest = ceil(chunk)
    asked, parts = np.array(need), np.array(surplus)
    starts, stops = np.zeros((2, len(need)), dtype=np.int64)
    scratch = np.zeros(scratch_size(len(costs), asked, parts, shortest))
    shut = np.isin(np.arange(len(costs)), closed)
    found = segments.cheapest_segments(
        np.array(costs, dtype=np.float64),
        shut,
        asked,
        parts,
        shortest,
        chunk,
        1,
        scratch,
        starts,
        stops,
    )
    return found[0], found[1]


@pytest.mark.usefixtures("interpreted")
def test_interpreted_kernels_keep_every_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    test_pause_skips_dear_hours()
    test_closed_hours_are_run_around()
    test_search_trims_where_the_cheapest_whole_units_may_not_be_trimmed()
    test_bound_stops_early_where_the_row_cannot_win()
    test_a_run_that_only_whole_slots_would_not_fit_is_found_in_one_piece()
    place = row(9, 1, 9, 9, 2, 9, 3, 9, closed=(5,))
    for asked in (
        run(2.1, window=(0.3, 7.7), pauses=2, chunk=0.4, restore=0.2),
        run(2.6, window=(0, 8), pauses=1, chunk=1.3, restore=0.1),
        run(1.5, window=(0.5, 7.5), pauses=2, chunk=0.25, restore=0.25),
        run(3.25, window=(0.25, 8), pauses=1, chunk=1.5, restore=0.5),
    ):
        rounded = exact_segments(place, asked, most_cells=1)
        exact = exact_segments(place, asked, most_cells=10**6)
        assert rounded is not None
        assert exact is not None
        assert rounded.cost >= exact.cost - 1e-9
        assert bound_segments(place, asked, most_cells=1) <= exact.cost
    assert bound_segments(place, run(7, window=(0, 8), pauses=9)) < INFINITE
    # From 1:30 to 2:30 costs 0.5 + 4.5; half an hour sooner 1.
    start_s, stop_s = np.array([5400]), np.array([9000])
    boundaries.polish(DAY.costs, DAY.closed, HOUR, (0, 8 * HOUR, 1), start_s, stop_s)
    assert (start_s.tolist(), stop_s.tolist()) == ([HOUR], [2 * HOUR])
    monkeypatch.setattr(boundaries, "MOST_ROUNDS", 0)
    assert exact_segments(DAY, run(2, window=(0, 8), pauses=1), most_cells=1) is not None
