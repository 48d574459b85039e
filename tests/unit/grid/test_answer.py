"""What adapters share: points become a series, or are refused with zone and source."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel, TypeAdapter

from adapters.grid.answer import Answer, Point, instant_text, pages, require_served
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import (
    GAP_MG,
    IntensitySeries,
    Provenance,
    Quality,
    Scope,
    SignalKind,
)
from scheduler.core.timegrid import Window
from scheduler.ports import SourceInfo

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOON_S = int(NOON.timestamp())
HOUR = timedelta(hours=1)
ASKED = Window(NOON, NOON + 3 * HOUR)
ANSWER = Answer("some", "DE")
FIELDS = {"zone": "DE", "source": "some"}
PAST = (Quality.ESTIMATED, Quality.MEASURED)


def hour(index: int, grams: float | None, *, length_s: int = 3600) -> Point:
    start_s = NOON_S + index * 3600
    return Point(start_s, start_s + length_s, grams)


def series(
    *points: Point, asked: Window = ASKED, quality: Quality = Quality.FORECAST
) -> IntensitySeries:
    provenance = Provenance(
        source="some", signal=SignalKind.AVERAGE, scope=Scope.DIRECT, quality=quality
    )
    return ANSWER.series(points, asked, provenance)


def steps(made: IntensitySeries) -> list[tuple[float, float | None]]:
    """Hours after noon at which each value begins, and its grams."""
    return [
        ((int(at) - NOON_S) / 3600, None if mg == GAP_MG else int(mg) / 1000)
        for at, mg in zip(made.edges_s[:-1], made.mg_per_kwh, strict=True)
    ]


def test_points_are_put_in_order_and_those_outside_the_window_left_out() -> None:
    made = series(hour(2, 30.5), hour(-1, 5), hour(0, 10), hour(1, 20), hour(3, 40))
    assert steps(made) == [(0, 10), (1, 20), (2, 30.5)]
    assert made.edges_s[-1] == NOON_S + 3 * 3600


def test_interval_that_the_window_touches_in_part_is_whole() -> None:
    minute = timedelta(minutes=1)
    asked = Window(NOON + 2 * minute, NOON + 2 * HOUR + minute)
    made = series(*(hour(index, 10) for index in range(-2, 5)), asked=asked)
    assert [at for at, _ in steps(made)] == [0, 1, 2]
    assert [at for at, _ in steps(series(hour(0, 1), hour(2, 1), asked=ASKED))] == [0, 1, 2]


def test_window_of_no_length_takes_the_interval_that_holds_it() -> None:
    for minutes, value in ((0, 20), (59, 20), (60, 30)):
        at = NOON + HOUR + timedelta(minutes=minutes)
        made = series(hour(0, 10), hour(1, 20), hour(2, 30), asked=Window(at, at))
        assert [grams for _, grams in steps(made)] == [value]


def test_missing_hours_and_nulls_are_gaps() -> None:
    assert steps(series(hour(0, 10), hour(2, 30))) == [(0, 10), (1, None), (2, 30)]
    assert steps(series(hour(0, 10), hour(1, None), hour(2, 30))) == [(0, 10), (1, None), (2, 30)]


def test_intervals_of_different_lengths_keep_them() -> None:
    quarter = Point(NOON_S + 3600, NOON_S + 4500, 20)
    made = series(hour(0, 10), quarter)
    assert made.edges_s.tolist() == [NOON_S, NOON_S + 3600, NOON_S + 4500]


def test_repeated_point_counts_once_and_a_value_beats_a_null() -> None:
    once = series(hour(0, 10), hour(1, 20))
    for points in (
        [hour(0, 10), hour(0, 10), hour(1, 20)],
        [hour(0, None), hour(0, 10), hour(1, 20)],
        [hour(0, 10), hour(0, None), hour(1, 20)],
    ):
        assert steps(series(*points)) == steps(once)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([hour(0, 10), hour(0, 11)], "two values for 2026-03-02T12:00:00Z: 10 and 11"),
        ([hour(0, 10), hour(0, 10, length_s=900)], "two intervals overlap at 2026-03-02T12:00:00Z"),
        ([hour(0, 10, length_s=5400), hour(1, 10)], "overlap at 2026-03-02T13:00:00Z"),
        ([hour(0, -0.001)], "intensity -0.001 g/kWh at 2026-03-02T12:00:00Z cannot be true"),
        ([hour(0, 10), hour(9, 3001)], "intensity 3001 g/kWh at 2026-03-02T21:00:00Z"),
        ([hour(0, float("nan"))], "intensity nan g/kWh"),
        ([hour(0, float("inf"))], "intensity inf g/kWh"),
        (
            [hour(-30, 10), hour(-29, 10)],
            "asked for 2026-03-02T12:00:00Z to 2026-03-02T15:00:00Z, "
            "answered for 2026-03-01T06:00:00Z to 2026-03-01T08:00:00Z",
        ),
        ([hour(3, 10)], "answered for 2026-03-02T15:00:00Z"),
        ([hour(-1, 10), hour(3, 10)], "answered for 2026-03-02T11:00:00Z"),
        ([hour(-1, None)], "answered for 2026-03-02T11:00:00Z"),
    ],
)
def test_points_that_cannot_be_are_refused(points: list[Point], says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        series(*points)
    assert says in caught.value.message
    assert caught.value.fields == {"zone": "DE", "source": "some"}


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([], "some: the reply is empty"),
        (
            [hour(0, None), hour(1, None)],
            "some: no value from 2026-03-02T12:00:00Z to 2026-03-02T14:00:00Z",
        ),
        (
            [hour(0, None), hour(9, 1)],
            "some: no value from 2026-03-02T12:00:00Z to 2026-03-02T13:00:00Z",
        ),
    ],
)
def test_forecast_without_a_value_is_no_answer(points: list[Point], says: str) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        series(*points)
    assert caught.value.message == says
    assert caught.value.fields == FIELDS


@pytest.mark.parametrize("quality", PAST)
def test_past_without_a_value_yet_is_a_gap(quality: Quality) -> None:
    nulls = series(hour(0, None), hour(1, None), quality=quality)
    assert steps(nulls) == [(0, None), (1, None)]
    for points in ([hour(-2, 10), hour(-1, 20)], [hour(-20, 10)], [hour(-1, 10), hour(3, 5)]):
        made = series(*points, quality=quality)
        assert steps(made) == [(0, None)]
        assert made.edges_s[-1] == NOON_S + 3 * 3600


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_instant_of_the_past_without_a_value_is_a_gap_of_whole_seconds(seconds: float) -> None:
    at = NOON + timedelta(seconds=seconds)
    made = series(hour(-1, 1), asked=Window(at, at), quality=Quality.MEASURED)
    assert made.edges_s.tolist() == [NOON_S, NOON_S + 1]


@pytest.mark.parametrize("quality", PAST)
def test_past_that_was_not_answered_is_no_gap(quality: Quality) -> None:
    with pytest.raises(ForecastUnavailableError, match="the reply is empty"):
        series(quality=quality)
    for points in ([hour(-25, 10)], [hour(27, 10)], [hour(-99, 10), hour(99, 10)]):
        with pytest.raises(ForecastRejectedError, match="asked for 2026-03-02T12:00:00Z to"):
            series(*points, quality=quality)


def test_interval_begins_at_a_multiple_of_its_length() -> None:
    assert ANSWER.interval(NOON_S, 300, 7.5) == Point(NOON_S, NOON_S + 300, 7.5)
    with pytest.raises(ForecastRejectedError) as caught:
        ANSWER.interval(NOON_S + 1, 300, 7.5)
    assert caught.value.message == "some: 2026-03-02T12:00:01Z is not the start of 300 s"
    assert caught.value.fields == FIELDS


class Shape(BaseModel):
    numbers: list[int]


SHAPE = TypeAdapter(Shape)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"numbers": [1, "x"]}, "some: numbers.1: Input should be a valid integer"),
        ({}, "some: numbers: Field required, not {}"),
        ([], "some: the reply: Input should be a valid dictionary"),
        (None, "some: the reply: Input should be a valid dictionary"),
        ({"numbers": "x" * 10_000}, "some: numbers: Input should be a valid list"),
    ],
)
def test_body_of_another_shape_is_rejected_and_named(body: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        ANSWER.validated(SHAPE, body)
    assert caught.value.message.startswith(says)
    assert len(caught.value.message) < 250
    assert caught.value.fields == FIELDS


def test_part_of_a_body_is_named_by_where_it_stands() -> None:
    assert ANSWER.validated(SHAPE, {"numbers": [1]}, under=("data",)).numbers == [1]
    with pytest.raises(ForecastRejectedError, match=r"some: data\.0\.numbers: Field required"):
        ANSWER.validated(TypeAdapter(list[Shape]), [{}], under=("data",))


def test_instant_beyond_the_calendar_is_told_in_short() -> None:
    assert instant_text(NOON_S) == "2026-03-02T12:00:00Z"
    for at_s in (10**18, -(10**18), 10**400):
        assert instant_text(at_s) == "a time beyond the calendar"


INFO = SourceInfo(
    name="some",
    zone_ids=frozenset({"DE", "FR"}),
    signal=SignalKind.AVERAGE,
    scopes={"DE": frozenset({Scope.DIRECT}), "FR": frozenset(Scope)},
    horizon_s=3600,
    step_s=3600,
    cadence_s=3600,
    attribution="mine",
    is_live=True,
    history_s=0,
)


@pytest.mark.parametrize(
    ("zone_id", "scope", "says"),
    [
        ("DE", Scope.LIFECYCLE, "no lifecycle values for zone 'DE'; it has direct values"),
        ("DEE", Scope.DIRECT, "no direct values for zone 'DEE'; did you mean DE?"),
        ("XX", Scope.DIRECT, "no direct values for zone 'XX'; known: DE, FR"),
    ],
)
def test_zone_or_scope_that_is_not_declared_is_refused(
    zone_id: str, scope: Scope, says: str
) -> None:
    for served in Scope:
        require_served(INFO, "FR", served)
    with pytest.raises(ForecastUnavailableError) as caught:
        require_served(INFO, zone_id, scope)
    assert caught.value.message == f"some: {says}"
    assert caught.value.fields == {"zone": zone_id, "source": "some"}


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T12:00:00Z",
        "2026-03-02T12:00:00.000Z",
        "2026-03-02T13:00:00+01:00",
        "2026-03-02T12:00:00.0000000+00:00",
    ],
)
def test_instant_is_read_in_every_form(text: str) -> None:
    assert ANSWER.instant(text, step_s=3600) == NOON


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-03-02T12:00:00", "is not ISO 8601 with an offset"),
        ("2026-03-02", "is not ISO 8601 with an offset"),
        ("noon", "is not ISO 8601 with an offset"),
        ("", "is not ISO 8601 with an offset"),
        ("0001-01-01T00:00:00+05:00", "is not ISO 8601 with an offset"),
        ("9999-12-31T23:00:00Z", "cannot be true"),
        ("2026-03-02T12:30:00Z", "is not on a multiple of 3600 s"),
        ("2026-03-02T12:00:00.5Z", "is not on a multiple of 3600 s"),
    ],
)
def test_instant_that_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        ANSWER.instant(text, step_s=3600)
    assert f"time {text!r}" in caught.value.message
    assert says in caught.value.message


def test_pages_meet_without_sharing_a_step() -> None:
    asked = Window(NOON + timedelta(minutes=7), NOON + timedelta(days=2, minutes=1))
    assert pages(asked, step_s=3600, longest=timedelta(days=1)) == [
        ("2026-03-02T12:00:00Z", "2026-03-03T11:59:59Z"),
        ("2026-03-03T12:00:00Z", "2026-03-04T11:59:59Z"),
        ("2026-03-04T12:00:00Z", "2026-03-04T12:00:59Z"),
    ]


@pytest.mark.parametrize(
    ("minutes", "page"),
    [
        (5, ("2026-03-02T12:05:00Z", "2026-03-02T12:05:01Z")),
        (7, ("2026-03-02T12:05:00Z", "2026-03-02T12:07:01Z")),
    ],
)
def test_window_of_no_length_is_one_page_that_holds_a_start(
    minutes: int, page: tuple[str, str]
) -> None:
    at = NOON + timedelta(minutes=minutes)
    assert pages(Window(at, at), step_s=300, longest=timedelta(days=1)) == [page]
