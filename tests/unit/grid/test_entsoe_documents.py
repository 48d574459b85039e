"""Documents of the platform, written by hand: each of its manners, and each refusal by name."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from adapters.grid.entsoe_documents import (
    Line,
    Question,
    RangeTooLongError,
    Reply,
    join_replies,
    parse_reply,
)
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.timegrid import Window
from tests.fakes.entsoe import acknowledgement

START = datetime(2026, 2, 9, 23, tzinfo=UTC)
DE = "10Y1001A1001A83F"
ASKED = Question(
    zone_id="DE",
    kind="A75",
    process="A16",
    domain=DE,
    window=Window(START, START + timedelta(hours=2)),
)
GAS = Line("B04", is_consumption=False)
NAN = float("nan")


def document(*series: str, kind: str = "A75", version: str = "3:0") -> str:
    name = f"urn:iec62325.351:tc57wg16:451-6:generationloaddocument:{version}"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<GL_MarketDocument xmlns="{name}">'
        f"<mRID>1</mRID><type>{kind}</type><createdDateTime>2026-02-09T18:33:40Z</createdDateTime>"
        f"{''.join(series)}</GL_MarketDocument>"
    )


def series(
    *periods: str,
    psr_type: str | None = "B04",
    side: str = "in",
    domain: str = DE,
    unit: str = "MAW",
    curve: str | None = "A01",
) -> str:
    return (
        f'<TimeSeries><mRID>1</mRID><{side}BiddingZone_Domain.mRID codingScheme="A01">{domain}'
        f"</{side}BiddingZone_Domain.mRID>"
        f"<quantity_Measure_Unit.name>{unit}</quantity_Measure_Unit.name>"
        + (f"<curveType>{curve}</curveType>" if curve else "")
        + (f"<MktPSRType><psrType>{psr_type}</psrType></MktPSRType>" if psr_type else "")
        + "".join(periods)
        + "</TimeSeries>"
    )


def period(
    points: dict[int, object],
    resolution: str = "PT60M",
    start: str = "2026-02-09T23:00Z",
    end: str = "2026-02-10T01:00Z",
) -> str:
    written = "".join(
        f"<Point><position>{position}</position><quantity>{quantity}</quantity></Point>"
        for position, quantity in points.items()
    )
    return (
        f"<Period><timeInterval><start>{start}</start><end>{end}</end></timeInterval>"
        f"<resolution>{resolution}</resolution>{written}</Period>"
    )


def quarters(text: str, line: Line = GAS, asked: Question = ASKED) -> list[float]:
    return parse_reply(text, asked).mw[line].tolist()


def rejection(text: str, asked: Question = ASKED) -> str:
    with pytest.raises(ForecastRejectedError) as caught:
        parse_reply(text, asked)
    assert caught.value.fields == {"zone": "DE", "source": "entsoe"}
    assert caught.value.message.startswith("entsoe: A75 of zone DE: ")
    return caught.value.message


# ------------------------------------------------------------------------------- manners


@pytest.mark.parametrize("version", ["3:0", "7:0", "7:3"])
def test_namespace_of_any_version_is_read(version: str) -> None:
    text = document(series(period({1: 10, 2: 20})), version=version)
    assert quarters(text) == [10.0] * 4 + [20.0] * 4


@pytest.mark.parametrize(
    ("resolution", "points", "expected"),
    [
        ("PT15M", dict(enumerate(range(1, 9), 1)), [1, 2, 3, 4, 5, 6, 7, 8]),
        ("PT30M", {1: 1, 2: 2, 3: 3, 4: 4}, [1, 1, 2, 2, 3, 3, 4, 4]),
        ("PT60M", {1: 1, 2: 2.5}, [1, 1, 1, 1, 2.5, 2.5, 2.5, 2.5]),
        ("PT1H", {2: 2, 1: 1}, [1, 1, 1, 1, 2, 2, 2, 2]),
    ],
)
def test_every_resolution_stands_on_quarter_hours(
    resolution: str, points: dict[int, object], expected: list[float]
) -> None:
    assert quarters(document(series(period(points, resolution)))) == expected


def test_resolutions_may_be_mixed_in_one_reply() -> None:
    text = document(
        series(period({1: 7, 2: 8})),
        series(period({1: 1, 2: 2, 3: 3, 4: 4}, "PT30M"), psr_type="B05"),
        series(period({1: 5}, "PT15M", end="2026-02-09T23:15Z"), psr_type="B16"),
    )
    reply = parse_reply(text, ASKED)
    assert [line.psr_type for line in reply.mw] == ["B04", "B05", "B16"]
    assert reply.mw[Line("B05", is_consumption=False)].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert np.isnan(reply.mw[Line("B16", is_consumption=False)]).sum() == 7


def test_curve_a03_repeats_what_is_left_out_to_the_end_of_its_period() -> None:
    text = document(
        series(
            period({1: 5, 3: 6}, "PT15M", end="2026-02-10T00:00Z"),
            period({1: 0}, "PT15M", start="2026-02-10T00:00Z"),
            curve="A03",
        )
    )
    assert quarters(text) == [5, 5, 6, 6, 0, 0, 0, 0]


def test_curve_a03_knows_nothing_before_its_first_position() -> None:
    text = document(series(period({2: 6}), curve="A03"))
    np.testing.assert_array_equal(quarters(text), [NAN] * 4 + [6.0] * 4)


@pytest.mark.parametrize("curve", ["A01", None])
def test_without_curve_a03_what_is_left_out_is_a_gap(curve: str | None) -> None:
    text = document(series(period({1: 5, 4: 6}, "PT30M"), curve=curve))
    np.testing.assert_array_equal(quarters(text), [5, 5, NAN, NAN, NAN, NAN, 6, 6])


def test_points_outside_the_window_are_left_out() -> None:
    wide = period(
        dict(enumerate(range(1, 7), 1)), start="2026-02-09T21:00Z", end="2026-02-10T03:00Z"
    )
    assert quarters(document(series(wide))) == [3.0] * 4 + [4.0] * 4


def test_consumption_is_a_line_of_its_own() -> None:
    text = document(
        series(period({1: 10, 2: 10}), psr_type="B10"),
        series(period({1: 0, 2: 90}), psr_type="B10", side="out"),
    )
    assert quarters(text, Line("B10", is_consumption=False)) == [10.0] * 8
    assert quarters(text, Line("B10", is_consumption=True)) == [0.0] * 4 + [90.0] * 4


def test_load_has_no_type() -> None:
    asked = Question(zone_id="DE", kind="A65", process="A01", domain=DE, window=ASKED.window)
    text = document(series(period({1: 1, 2: 2}), psr_type=None, side="out"), kind="A65")
    assert quarters(text, Line(None, is_consumption=True), asked)[4:] == [2.0] * 4


def test_several_series_of_one_type_are_joined_and_repeats_merged() -> None:
    text = document(
        series(period({1: 1}, end="2026-02-10T00:00Z")),
        series(period({1: 2}, start="2026-02-10T00:00Z"), period({2: 2})),
    )
    assert quarters(text) == [1.0] * 4 + [2.0] * 4


@pytest.mark.parametrize(
    ("start", "end", "positions"),
    [
        # The clocks of central Europe go forward, and back.
        ("2026-03-28T23:00Z", "2026-03-29T22:00Z", 92),
        ("2026-10-24T22:00Z", "2026-10-25T23:00Z", 100),
        ("2026-12-30T23:00Z", "2026-12-31T23:00Z", 96),
    ],
)
def test_local_days_are_counted_from_their_start_in_utc(
    start: str, end: str, positions: int
) -> None:
    low, high = (
        datetime.strptime(at, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC) for at in (start, end)
    )
    asked = Question(zone_id="DE", kind="A75", process="A16", domain=DE, window=Window(low, high))
    points = dict(enumerate(range(positions), 1))
    text = document(series(period(points, "PT15M", start, end)))
    assert quarters(text, asked=asked) == list(range(positions))
    too_many = document(series(period(points | {positions + 1: 0}, "PT15M", start, end)))
    assert f"position '{positions + 1}' is not one of 1 to {positions}" in rejection(
        too_many, asked
    )


def test_replies_about_parts_are_joined_with_gaps_between() -> None:
    hour = timedelta(hours=1)
    parts = [
        Reply(
            window=Window(START + first * hour, START + (first + 1) * hour),
            mw={GAS: np.full(4, value)},
        )
        for first, value in ((0, 1.0), (2, 3.0))
    ]
    whole = Window(START - hour, START + 3 * hour)
    np.testing.assert_array_equal(
        join_replies(parts, whole)[GAS], [NAN] * 4 + [1] * 4 + [NAN] * 4 + [3] * 4
    )


# ---------------------------------------------------------------------- acknowledgements


def test_no_matching_data_is_a_reply_without_lines() -> None:
    reply = parse_reply(acknowledgement("No matching data found for Data item X"), ASKED)
    assert reply.mw == {}


@pytest.mark.parametrize(
    "text",
    [
        "The amount of requested data exceeds allowed limit. Requested 400",
        "The number of instances (149) exceeds the allowed maximum (100)",
    ],
)
def test_too_much_asked_is_told_apart(text: str) -> None:
    with pytest.raises(RangeTooLongError) as caught:
        parse_reply(acknowledgement(text), ASKED)
    assert text in caught.value.message


@pytest.mark.parametrize(
    "text", ["10Y… is not valid for this area", "check you request against dependency tables"]
)
def test_other_acknowledgement_is_no_answer_and_shown(text: str) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        parse_reply(acknowledgement(text), ASKED)
    assert caught.value.message == f"entsoe: A75: {text}"
    assert caught.value.fields == {"zone": "DE", "source": "entsoe"}


# ------------------------------------------------------------------------------ refusals

GOOD = period({1: 10, 2: 20})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (document(series(GOOD), kind="A69"), "answered with GL_MarketDocument of type 'A69'"),
        ("<html><body>maintenance</body></html>", "answered with html of type None"),
        ("", "broken XML"),
        ("not XML", "broken XML"),
        (document(series(GOOD))[:-30], "broken XML"),
        (document(), "the reply has no series"),
        (document(series(GOOD, domain="10YFR-RTE------C")), "answered for '10YFR-RTE------C'"),
        (document(series(GOOD, unit="KWT")), "unit 'KWT' is not MAW"),
        (document(series(GOOD, curve="A02")), "curveType 'A02' is neither A01 nor A03"),
        (document(series(period({1: 1}, "P1D"))), "resolution 'P1D' is not one of PT15M"),
        (document(series(period({1: 1}, start="2026-02-09"))), "time '2026-02-09' is not"),
        (
            document(series(period({1: 1}, end="2026-02-10T00:30Z"))),
            "from 2026-02-09T23:00:00Z to 2026-02-10T00:30:00Z does not hold steps of PT60M",
        ),
        (document(series(period({}, end="2026-02-09T23:00Z"))), "does not hold steps"),
        (document(series(period({}, end="2026-02-08T23:00Z"))), "does not hold steps"),
        (
            document(series(period({1: 1}, start="2026-02-09T23:05Z", end="2026-02-10T00:05Z"))),
            "does not hold steps",
        ),
        (document(series(period({1: 1}, start="0001-01-01T00:00Z"))), "does not hold steps"),
        (document(series(period({0: 1}))), "position '0' is not one of 1 to 2"),
        (document(series(period({3: 1}))), "position '3' is not one of 1 to 2"),
        (document(series(period({-1: 1}))), "position '-1' is not one of 1 to 2"),
        (document(series(period({10**30: 1}))), "is not one of 1 to 2"),
        (document(series(period({1: "n/e"}))), "quantity 'n/e' is not a number of MW"),
        (document(series(period({1: "NaN"}))), "quantity 'NaN' is not a number of MW"),
        (document(series(period({1: "Infinity"}))), "quantity 'Infinity' is not"),
        (document(series(period({1: "1e400"}))), "quantity '1e400' is not a number of MW"),
        (document(series(period({1: -0.5}))), "quantity '-0.5' is not a number of MW"),
        (document(series(period({1: 2_000_000}))), "quantity '2000000' is not a number of MW"),
        (document(series(period({1: ""}))), "Point has no quantity"),
        (
            document(series(GOOD.replace("<position>2<", "<position>1<"))),
            "two values for 2026-02-09T23:00:00Z: 10.0, 20.0",
        ),
        (
            document(series(GOOD), series(period({2: 21}))),
            "two values of B04 for 2026-02-10T00:00:00Z: 20.0, 21.0",
        ),
        (
            document(series(period({1: 1}, start="2026-02-08T23:00Z", end="2026-02-09T00:00Z"))),
            "asked for 2026-02-09T23:00:00Z to 2026-02-10T01:00:00Z, "
            "answered for 2026-02-08T23:00:00Z: stale",
        ),
    ],
)
def test_reply_that_cannot_be_is_rejected_and_named(text: str, says: str) -> None:
    message = rejection(text)
    assert says in message
    assert len(message) < 300


def test_bomb_of_entities_is_never_unpacked() -> None:
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in ("ab", "bc", "cd", "de")
    )
    bomb = document(series(period({1: "&e;"}))).replace("?>\n", f"?>\n<!DOCTYPE x [{entities}]>", 1)
    assert "answered with a DOCTYPE, which is never read" in rejection(bomb)


def test_file_of_the_machine_is_never_read() -> None:
    text = document(series(period({1: "&f;"}))).replace(
        "?>\n", '?>\n<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]>', 1
    )
    assert "DOCTYPE" in rejection(text)
    assert "broken XML: undefined entity" in rejection(document(series(period({1: "&f;"}))))


def test_deep_nesting_is_no_trouble() -> None:
    deep = "<a>" * 100_000 + "</a>" * 100_000
    assert "answered with a of type None" in rejection(deep)
