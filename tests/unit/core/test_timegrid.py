"""Instants, windows and slots."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.core.errors import InvalidInputError
from scheduler.core.timegrid import (
    SlotGrid,
    Window,
    as_utc,
    covering,
    format_instant,
    parse_instant,
    within_reach,
)
from tests.unit.core.builders import HOUR, T0, at

BERLIN = ZoneInfo("Europe/Berlin")


def test_naive_time_is_refused_because_its_instant_is_unknown() -> None:
    with pytest.raises(InvalidInputError, match=r"deadline: .*no time zone"):
        as_utc(datetime(2026, 3, 2), field="deadline")
    with pytest.raises(InvalidInputError, match="no time zone"):
        parse_instant("2026-03-02T09:00:00")


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_times_that_are_none_in_utc_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"start_by: .* from the year 1000 to 9000"):
        parse_instant(text, field="start_by")


@pytest.mark.parametrize("year", [1, 999, 9001, 9999])
def test_times_that_cannot_be_reckoned_with_are_refused(year: int) -> None:
    with pytest.raises(InvalidInputError, match=r"deadline: .* from the year 1000 to 9000"):
        within_reach(datetime(year, 6, 1, tzinfo=UTC), field="deadline")
    assert as_utc(datetime(year, 6, 1, tzinfo=UTC)).year == year


@pytest.mark.parametrize("text", ["tomorrow", "", "2026-13-01T00:00:00Z", "1767225600"])
def test_text_that_is_no_iso_time_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InvalidInputError, match="not an ISO 8601 time") as caught:
        parse_instant(text)
    assert caught.value.fields["value"] == text


def test_instant_keeps_its_fraction_and_is_written_in_utc() -> None:
    assert format_instant(parse_instant(" 2026-03-02T01:00:00+01:00 ")) == "2026-03-02T00:00:00Z"
    assert format_instant(T0 + timedelta(microseconds=5)) == "2026-03-02T00:00:00.000005Z"


@pytest.mark.parametrize("fold", [0, 1])
def test_the_doubled_hour_of_autumn_is_two_different_instants(fold: int) -> None:
    local = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=fold)
    assert as_utc(local) == datetime(2026, 10, 25, fold, 30, tzinfo=UTC)
    assert as_utc(local).astimezone(BERLIN) == local


def test_a_day_of_spring_has_23_slots_and_one_of_autumn_25() -> None:
    for day, slots in ((datetime(2026, 3, 29), 23), (datetime(2026, 10, 25), 25)):
        start = day.replace(tzinfo=BERLIN)
        end = (day + timedelta(days=1)).replace(tzinfo=BERLIN)
        grid = SlotGrid(as_utc(start), HOUR, 48)
        touched = grid.slots_touched(Window(start, end))
        assert touched.stop - touched.start == slots


def test_window_ends_no_earlier_than_it_begins() -> None:
    assert Window(T0, T0).duration_s == 0
    with pytest.raises(InvalidInputError, match="before its start"):
        Window(at(1), T0)


def test_covering_spans_all_windows() -> None:
    assert covering([Window(at(2), at(3)), Window(at(0), at(5)), Window(at(1), at(2))]) == Window(
        at(0), at(5)
    )


@pytest.mark.parametrize(
    ("origin", "slot_s", "n_slots", "field"),
    [
        (T0, 0, 4, "slot"),
        (T0, -60, 4, "slot"),
        (T0, 7 * 60, 4, "slot"),
        (T0, HOUR, 0, "horizon"),
        (at(0.5), HOUR, 4, "origin_at"),
    ],
)
def test_grid_that_does_not_fit_the_day_is_refused(
    origin: datetime, slot_s: int, n_slots: int, field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        SlotGrid(origin, slot_s, n_slots)
    assert caught.value.fields["field"] == field


def test_grid_around_now_begins_on_a_border_and_reaches_the_horizon() -> None:
    grid = SlotGrid.around(T0 + timedelta(minutes=17, seconds=3.5), slot_s=900, horizon_s=HOUR)
    assert grid.origin_at == T0 + timedelta(minutes=15)
    assert grid.n_slots == 5
    assert grid.end_at == T0 + timedelta(minutes=90)
    with pytest.raises(InvalidInputError):
        SlotGrid.around(T0, slot_s=0, horizon_s=HOUR)


def test_offsets_round_towards_the_safe_side() -> None:
    grid = SlotGrid(T0, HOUR, 4)
    between = T0 + timedelta(seconds=10.25)
    assert (grid.offset_up_s(between), grid.offset_down_s(between)) == (11, 10)
    assert (grid.offset_up_s(at(-1)), grid.offset_down_s(at(1))) == (-3600, 3600)


@pytest.mark.parametrize(
    ("start", "end", "slots"),
    [
        (0, 1, (0, 1)),
        (0.5, 1.5, (0, 2)),
        (-3, -1, (0, 0)),
        (-1, 0.1, (0, 1)),
        (3.5, 9, (3, 4)),
        (9, 10, (4, 4)),
    ],
)
def test_slots_touched_are_clipped_to_the_horizon(
    start: float, end: float, slots: tuple[int, int]
) -> None:
    touched = SlotGrid(T0, HOUR, 4).slots_touched(Window(at(start), at(end)))
    assert (touched.start, touched.stop) == slots
