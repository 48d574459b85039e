from datetime import timedelta

import pytest

from scheduler.core.capacity import Reservation, build_capacity
from scheduler.core.fleet import Fleet
from scheduler.core.outlook import Outlook, shortfalls
from scheduler.core.timegrid import SlotGrid, Window
from tests.unit.core.builders import T0, cluster


def taken(gpus: int, start_h: float, end_h: float, accelerator: str = "H100") -> Reservation:
    window = Window(T0 + timedelta(hours=start_h), T0 + timedelta(hours=end_h))
    return Reservation(cluster_id="c-de", accelerator=accelerator, gpus=gpus, window=window)


def missing(configured: int, total: int, *held: Reservation) -> list[tuple[int, float, float]]:
    found = shortfalls(cluster(gpus=configured), Outlook(totals={"H100": total}, taken=held))
    assert {one.cluster_id for one in found} <= {"c-de"}
    return [
        (
            one.gpus,
            (one.window.start_at - T0).total_seconds() / 3600,
            (one.window.end_at - T0).total_seconds() / 3600,
        )
        for one in found
    ]


def test_nothing_is_missing_where_nobody_else_is() -> None:
    assert missing(8, 8) == []


def test_what_others_hold_is_missing_as_long_as_they_hold_it() -> None:
    assert missing(8, 8, taken(2, 0, 3), taken(4, 1, 2)) == [(2, 0, 1), (6, 1, 2), (2, 2, 3)]


def test_others_may_hold_what_was_never_ours() -> None:
    assert missing(8, 12, taken(4, 0, 5)) == []
    assert missing(8, 12, taken(4, 0, 5), taken(1, 2, 3)) == [(1, 2, 3)]


def test_gaps_between_them_are_free() -> None:
    assert missing(8, 8, taken(8, 0, 1), taken(8, 2, 3)) == [(8, 0, 1), (8, 2, 3)]


def test_what_is_configured_beyond_what_there_is_is_always_missing() -> None:
    made = shortfalls(cluster(gpus=8), Outlook(totals={"H100": 5}, taken=(taken(2, 1, 3),)))
    assert [one.gpus for one in made] == [3, 5, 3]
    grid = SlotGrid(T0, 3600, 5)
    free = build_capacity(grid, Fleet((cluster(gpus=8),)), made).free
    assert free[0].tolist() == [5, 3, 3, 5, 5]


def test_what_passes_is_missing_as_well() -> None:
    told = Outlook(totals={"H100": 8}, taken=(taken(2, 0, 2),), passing=(taken(1, 1, 3),))
    assert [one.gpus for one in shortfalls(cluster(gpus=8), told)] == [2, 3, 1]


@pytest.mark.parametrize("held", [taken(2, 0, 3, "A100"), taken(2, 0, 0)])
def test_other_hardware_and_no_time_take_nothing(held: Reservation) -> None:
    assert missing(8, 8, held) == []


def test_a_cluster_that_says_nothing_of_a_kind_has_it_as_configured() -> None:
    assert shortfalls(cluster(gpus=8), Outlook(totals={}, taken=(taken(2, 0, 3),))) == []
