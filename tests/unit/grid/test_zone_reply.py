"""Points of a reply on a uniform grid, and the refusals that name what is wrong with them."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from adapters.grid.zone_reply import Point, ZoneReply, instant
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

AT = datetime(2026, 1, 20, 14, tzinfo=UTC)
AT_S = int(AT.timestamp())
STEP_S = 300
WINDOW = Window(AT + timedelta(minutes=2), AT + timedelta(minutes=20))


def reply(quality: Quality = Quality.FORECAST) -> ZoneReply:
    return ZoneReply(
        zone_id="XX",
        step_s=STEP_S,
        provenance=Provenance(
            source="mine", signal=SignalKind.AVERAGE, scope=Scope.DIRECT, quality=quality
        ),
    )


def points(*grams: float | None, first: int = 0) -> list[Point]:
    return [(AT_S + (first + index) * STEP_S, value) for index, value in enumerate(grams)]


def shape(series: IntensitySeries) -> tuple[int, list[float | None]]:
    """Intervals from 14:00 to the first, and grams."""
    grams = [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]
    return (int(series.edges_s[0]) - AT_S) // STEP_S, grams


def test_series_is_clipped_to_the_intervals_that_the_window_touches() -> None:
    # 14:02 to 14:20 touches those from 14:00 to 14:15, not the one at 14:20.
    series = reply().series(points(1, 2, 3, 4, 5, 6, 7, first=-1), WINDOW)
    assert shape(series) == (0, [2, 3, 4, 5])


def test_window_of_no_length_gets_one_interval() -> None:
    for at in (AT, AT + timedelta(minutes=4)):
        assert shape(reply().series(points(1, 2), Window(at, at))) == (0, [1])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (points(1, 2, 3)[::-1], [1, 2, 3]),
        (points(1, 2, 3) + points(1, 2, 3), [1, 2, 3]),
        (points(1, None, 3), [1, None, 3]),
        (points(1, None, 3) + points(None, 2), [1, 2, 3]),
        (points(1) + points(3, first=2), [1, None, 3]),
        (points(3, first=2), [None, None, 3]),
        (points(1, None, None), [1, None, None]),
        (points(0, 1e-4), [0, 0]),
    ],
    ids=["order", "repeats", "null", "null beside value", "hole", "late", "end", "zero"],
)
def test_points_become_a_grid_with_gaps(given: list[Point], expected: list[float | None]) -> None:
    assert shape(reply().series(given, WINDOW)) == (0, expected)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (points(1, -0.5), "intensity -0.5 at 2026-01-20T14:05:00Z cannot be true"),
        (points(math.nan), "intensity nan at 2026-01-20T14:00:00Z cannot be true"),
        (points(math.inf), "intensity inf at 2026-01-20T14:00:00Z cannot be true"),
        (points(3000.1), "values outside 0 to 3000 g/kWh"),
        ([(AT_S + 1, 1.0)], "2026-01-20T14:00:01Z is not the start of 300 s"),
        (points(1) + points(2), "two values for 2026-01-20T14:00:00Z: 1 and 2"),
        (
            points(1, 2, first=-12),
            "asked from 2026-01-20T14:02:00Z, answered from 2026-01-20T13:00:00Z to 2026-01-20T13:10:00Z",
        ),
        (points(1, first=4), "answered from 2026-01-20T14:20:00Z"),
    ],
)
def test_point_that_cannot_be_is_rejected_and_named(given: list[Point], says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        reply().series(given, WINDOW)
    assert says in caught.value.message
    assert caught.value.fields == {"zone": "XX", "source": "mine"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "mine: the reply is empty"),
        (
            points(None, None),
            "mine: no value from 2026-01-20T14:02:00Z to 2026-01-20T14:05:00Z",
        ),
    ],
)
def test_forecast_without_a_value_is_no_answer(given: list[Point], says: str) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        reply().series(given, WINDOW)
    assert caught.value.message == says
    assert caught.value.fields == {"zone": "XX", "source": "mine"}


def test_past_without_a_value_yet_is_a_gap() -> None:
    past = reply(Quality.ESTIMATED)
    assert shape(past.series(points(None, None), WINDOW)) == (0, [None, None])
    assert shape(past.series(points(1, 2, first=-2), WINDOW)) == (0, [None])
    with pytest.raises(ForecastUnavailableError, match="the reply is empty"):
        past.series([], WINDOW)


class Shape(BaseModel):
    numbers: list[int]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"numbers": [1, "x"]}, "mine: numbers.1: Input should be a valid integer"),
        ({}, "mine: numbers: Field required, not {}"),
        ([], "mine: the reply: Input should be a valid dictionary"),
        (None, "mine: the reply: Input should be a valid dictionary"),
        ({"numbers": "x" * 10_000}, "mine: numbers: Input should be a valid list"),
    ],
)
def test_body_of_another_shape_is_rejected_and_named(body: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        reply().shaped(Shape, body)
    assert caught.value.message.startswith(says)
    assert len(caught.value.message) < 250


def test_instant_beyond_the_calendar_is_told_in_short() -> None:
    assert instant(AT_S) == "2026-01-20T14:00:00Z"
    for at_s in (10**18, -(10**18), 10**400):
        assert instant(at_s) == "a time beyond the calendar"
