"""The adapter of the ENTSO-E platform against a fake of it: what it asks, and what it makes of it."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from adapters.grid.entsoe import Entsoe, build_mix
from adapters.grid.entsoe_documents import Line
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.fakes.clock import ManualClock
from tests.fakes.entsoe import FakeEntsoe, acknowledgement, written, written_series
from tests.fakes.loopback_http import Behaviour, Exchange, raw_reply

# 18:40 in Brussels: tomorrow's wind and sun are out.
NOW = datetime(2026, 1, 20, 17, 40, tzinfo=UTC)
HOUR = timedelta(hours=1)
DE = "10Y1001A1001A83F"
FACTORS = {"B04": 490, "B05": 820, "B14": 12, "B16": 45, "B19": 11}
Made = tuple[FakeEntsoe, Entsoe]


@pytest.fixture
def made() -> Iterator[Made]:
    with FakeEntsoe(NOW) as api:
        http = client(api)
        yield api, Entsoe(http, clock=ManualClock(NOW))
        http.close()


def client(api: FakeEntsoe, token: str = FakeEntsoe.token) -> HttpClient:
    return HttpClient(
        api.url,
        secret_params={"securityToken": token},
        limits=Limits(attempts=2),
        wait=lambda _: None,
    )


def grams(at: datetime) -> float:
    mw = {kind: FakeEntsoe.mw(kind, at) for kind in FACTORS}
    return sum(mw[kind] * FACTORS[kind] for kind in FACTORS) / sum(mw.values())


def known(series: IntensitySeries) -> dict[datetime, float]:
    return {
        datetime.fromtimestamp(int(at), UTC): int(mg) / 1000
        for at, mg in zip(series.edges_s[:-1], series.mg_per_kwh, strict=True)
        if mg != GAP_MG
    }


def questions(api: FakeEntsoe) -> list[tuple[str, ...]]:
    """Document, process, domain parameter, start, end of every request."""
    asked = []
    for one in api.asked:
        query = {name: values[0] for name, values in parse_qs(urlsplit(one.path).query).items()}
        assert query.pop("securityToken") == FakeEntsoe.token
        side = next(name for name in query if name.endswith("Domain"))
        assert query[side] == DE
        keys = ("documentType", "processType", "periodStart", "periodEnd")
        kind, process, start, end = (query[key] for key in keys)
        asked.append((kind, process, side, start, end))
    return asked


def changed(api: FakeEntsoe, kind: str, change: Callable[[str], str]) -> Behaviour:
    """Answers questions for that document with what `change` makes of the good one."""

    def answer(to: Exchange) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(to.path).query).items()}
        text = api.document(query)
        is_meant = query["documentType"] + query["processType"] == kind
        to.reply((change(text) if is_meant else text).encode(), content_type="application/xml")

    return answer


# ------------------------------------------------------------------------------- forecast


def test_forecast_is_derived_to_the_end_of_the_next_day(made: Made) -> None:
    api, source = made
    series = source.fetch_forecast("DE", Scope.LIFECYCLE, Window(NOW, NOW + 96 * HOUR))
    assert series.coverage_s == (
        int(datetime(2026, 1, 20, 17, 30, tzinfo=UTC).timestamp()),
        int(datetime(2026, 1, 21, 23, tzinfo=UTC).timestamp()),
    )
    assert known(series) == {at: pytest.approx(grams(at), abs=0.001) for at in known(series)}
    assert len(known(series)) == len(series.mg_per_kwh) == 2 + 29 * 4
    # At 18:00 UTC, 6 h from noon on a Tuesday, day 739636 of the calendar (1 mod 5, 2 mod 7):
    # no sun, wind 1500 + 2 * 400, rest 6000 + 6 * 200 + 300, of it 5625 gas and 1875 coal.
    six = datetime(2026, 1, 20, 18, tzinfo=UTC)
    assert (six.toordinal() % 5, six.toordinal() % 7) == (1, 2)
    by_hand = (5625 * 490 + 1875 * 820 + 3000 * 12 + 2300 * 11) / (7500 + 3000 + 2300)
    assert known(series)[six] == pytest.approx(by_hand, abs=0.001)
    assert api.allowed == 400 - 5


def test_forecast_states_where_it_comes_from(made: Made) -> None:
    provenance = made[1].fetch_forecast("DE", Scope.DIRECT, Window(NOW, NOW + HOUR)).provenance
    assert provenance.source == "entsoe (production, derived; factors 2026-08)"
    assert provenance.signal is SignalKind.AVERAGE
    assert provenance.scope is Scope.DIRECT
    assert provenance.quality is Quality.FORECAST
    assert provenance.issued_at is None


def test_forecast_asks_for_its_inputs_once_in_utc(made: Made) -> None:
    api, source = made
    local = NOW.astimezone(tz=None)
    source.fetch_forecast("DE", Scope.LIFECYCLE, Window(local, local + 3 * HOUR))
    assert questions(api) == [
        ("A65", "A01", "outBiddingZone_Domain", "202601201700", "202601202100"),
        ("A69", "A01", "in_Domain", "202601201700", "202601202100"),
        ("A75", "A16", "in_Domain", "202601061700", "202601131700"),
        ("A75", "A16", "in_Domain", "202601131700", "202601201700"),
        ("A65", "A16", "outBiddingZone_Domain", "202601061700", "202601201700"),
    ]
    assert api.asked[0].headers["Accept"] == "application/xml, text/xml"


def test_before_the_day_ahead_is_out_the_forecast_ends_tonight(made: Made) -> None:
    api, source = made
    api.now = NOW - 2 * HOUR
    series = source.fetch_forecast("DE", Scope.LIFECYCLE, Window(NOW, NOW + 96 * HOUR))
    assert series.coverage_s[1] == datetime(2026, 1, 20, 23, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        (datetime(2026, 3, 28, 18, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)),
        (datetime(2026, 10, 24, 17, tzinfo=UTC), datetime(2026, 10, 25, 23, tzinfo=UTC)),
        (datetime(2026, 12, 31, 18, tzinfo=UTC), datetime(2027, 1, 1, 23, tzinfo=UTC)),
    ],
)
def test_change_of_clocks_and_year_move_nothing(now: datetime, midnight: datetime) -> None:
    with FakeEntsoe(now) as api:
        http = client(api)
        source = Entsoe(http, clock=ManualClock(now))
        series = source.fetch_forecast("DE", Scope.LIFECYCLE, Window(now, now + 48 * HOUR))
        actuals = source.fetch_actuals("DE", Scope.LIFECYCLE, Window(now - 48 * HOUR, now))
        http.close()
    assert series.coverage_s[1] == midnight.timestamp()
    for one in (series, actuals):
        assert known(one) == {at: pytest.approx(grams(at), abs=0.001) for at in known(one)}


def test_forecast_without_wind_that_matters_has_gaps(made: Made) -> None:
    api, source = made

    def without_wind(text: str) -> str:
        return re.sub(r"<TimeSeries>(?:(?!</TimeSeries>).)*B19.*?</TimeSeries>", "", text)

    api.misbehave(always=changed(api, "A69A01", without_wind))
    with pytest.raises(ForecastUnavailableError, match="no usable generation of zone DE"):
        source.fetch_forecast("DE", Scope.LIFECYCLE, Window(NOW, NOW + HOUR))


def test_zone_without_wind_and_sun_needs_no_forecast_of_them(made: Made) -> None:
    api, source = made

    def answer(to: Exchange) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(to.path).query).items()}
        low, high = (
            datetime.strptime(query[name], "%Y%m%d%H%M").replace(tzinfo=UTC)
            for name in ("periodStart", "periodEnd")
        )
        kind, process = query["documentType"], query["processType"]
        side, psr_type = ("out", None) if kind == "A65" else ("in", "B12")
        series = written_series(side, DE, psr_type, "PT60M", lambda _: 100.0, low, high)
        text = written(kind, process, series, created_at=NOW)
        if kind == "A69":
            text = acknowledgement("No matching data found")
        to.reply(text.encode(), content_type="text/xml")

    api.misbehave(always=answer)
    series = source.fetch_forecast("DE", Scope.LIFECYCLE, Window(NOW, NOW + 3 * HOUR))
    assert set(known(series).values()) == {24.0}


def test_no_load_forecast_yet_is_no_answer(made: Made) -> None:
    api, source = made
    with pytest.raises(ForecastUnavailableError) as caught:
        source.fetch_forecast("DE", Scope.LIFECYCLE, Window(NOW + 72 * HOUR, NOW + 73 * HOUR))
    assert caught.value.message == "entsoe: no load forecast of zone DE for then yet"
    assert caught.value.fields == {"zone": "DE", "source": "entsoe"}
    assert len(api.asked) == 1


# -------------------------------------------------------------------------------- actuals


def test_actuals_are_those_of_the_mix_less_what_pumps_take(made: Made) -> None:
    api, source = made
    series = source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - 30 * HOUR, NOW))
    # Settled until an hour before the full hour.
    assert series.coverage_s == (
        int(datetime(2026, 1, 19, 11, 30, tzinfo=UTC).timestamp()),
        int(datetime(2026, 1, 20, 16, tzinfo=UTC).timestamp()),
    )
    assert known(series) == {at: pytest.approx(grams(at), abs=0.001) for at in known(series)}
    assert series.provenance.quality is Quality.ESTIMATED
    assert series.provenance.issued_at is None
    # Seven days before the window, to judge what is whole, in pages of seven.
    assert questions(api) == [
        ("A75", "A16", "in_Domain", "202601121100", "202601191100"),
        ("A75", "A16", "in_Domain", "202601191100", "202601201800"),
    ]


def test_direct_emissions_are_those_of_what_burns(made: Made) -> None:
    at = datetime(2026, 1, 20, 3, tzinfo=UTC)
    series = made[1].fetch_actuals("DE", Scope.DIRECT, Window(at, at))
    mw = {kind: FakeEntsoe.mw(kind, at) for kind in FACTORS}
    expected = (mw["B04"] * 370 + mw["B05"] * 760) / sum(mw.values())
    assert known(series) == {at: pytest.approx(expected, abs=0.001)}


def test_range_that_is_too_long_is_asked_for_in_halves(made: Made) -> None:
    api, source = made
    api.longest = timedelta(days=3)
    series = source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - 24 * HOUR, NOW))
    assert len(known(series)) == 23 * 4 - 2
    spans = [(start, end) for *_, start, end in questions(api)]
    assert spans[:5] == [
        ("202601121700", "202601191700"),
        ("202601121700", "202601160500"),
        ("202601121700", "202601141100"),
        ("202601141100", "202601160500"),
        ("202601160500", "202601191700"),
    ]


def test_range_that_is_never_short_enough_is_given_up(made: Made) -> None:
    api, source = made
    api.longest = timedelta(0)
    with pytest.raises(ForecastUnavailableError, match="exceeds allowed limit"):
        source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - 24 * HOUR, NOW))
    # Seven days, three and a half, 42 h, 21 h.
    assert len(api.asked) == 4


@pytest.mark.parametrize("status", [200, 400])
def test_no_matching_data_is_no_answer_with_either_status(made: Made, status: int) -> None:
    api, source = made
    api.no_data_status = status
    api.now = NOW - 40 * 24 * HOUR
    with pytest.raises(ForecastUnavailableError) as caught:
        source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - 2 * HOUR, NOW))
    assert "no usable generation of zone DE from 2026-01-20T15:40:00Z" in caught.value.message


def test_page_without_data_is_a_gap_among_others(made: Made) -> None:
    api, source = made
    api.misbehave(
        raw_reply(acknowledgement("No matching data found").encode(), content_type="text/xml")
    )
    series = source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - 24 * HOUR, NOW))
    assert len(known(series)) == 23 * 4 - 2


def test_time_to_come_has_no_actual_values(made: Made) -> None:
    api, source = made
    with pytest.raises(ForecastUnavailableError, match="nothing is settled yet in zone DE"):
        source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW + HOUR, NOW + 2 * HOUR))
    assert api.asked == []


def test_hours_that_lack_a_large_type_are_gaps(made: Made) -> None:
    api, source = made
    noon = datetime(2026, 1, 20, 12, tzinfo=UTC)

    def without_coal_at_noon(text: str) -> str:
        # The last Period of hard coal begins an hour before the window: noon is position 3.
        head, coal, tail = text.rpartition("<psrType>B05</psrType>")
        series, end, rest = tail.partition("</TimeSeries>")
        before, last, points = series.rpartition("<Period>")
        points = re.sub(r"<Point><position>3</position>.*?</Point>", "", points)
        return head + coal + before + last + points + end + rest

    api.misbehave(always=changed(api, "A75A16", without_coal_at_noon))
    series = source.fetch_actuals("DE", Scope.LIFECYCLE, Window(noon - HOUR, noon + 2 * HOUR))
    quarters = [noon + quarter * timedelta(minutes=15) for quarter in range(-4, 8)]
    assert list(known(series)) == quarters[:4] + quarters[8:]


def test_pumps_are_taken_off_and_what_they_take_is_no_generation() -> None:
    hour = Window(NOW.replace(minute=0), NOW.replace(minute=0) + HOUR)
    unknown = float("nan")
    mix = build_mix(
        {
            Line("B10", is_consumption=False): np.array([500.0, 0.0, 100.0, unknown]),
            Line("B10", is_consumption=True): np.array([0.0, 400.0, 30.0, unknown]),
            Line("B16", is_consumption=True): np.array([2.0, 2.0, 2.0, 2.0]),
        },
        hour,
    )
    np.testing.assert_array_equal(mix.mw["B10"], [500, 0, 70, unknown])
    np.testing.assert_array_equal(mix.mw["B16"], [0, 0, 0, 0])


# ----------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace(DE, "10YFR-RTE------C"), "answered for '10YFR-RTE------C'"),
        (lambda text: text.replace("<type>A75", "<type>A74"), "of type 'A74'"),
        (lambda text: text.replace("2026-", "2024-"), "answered for 2024-01-12T16:00:00Z: stale"),
        (lambda text: text.replace("PT30M", "P1M"), "resolution 'P1M'"),
        (lambda text: text[: len(text) // 2], "broken XML"),
    ],
)
def test_answer_that_cannot_be_is_rejected(
    made: Made, change: Callable[[str], str], says: str
) -> None:
    api, source = made
    api.misbehave(always=changed(api, "A75A16", change))
    with pytest.raises(ForecastRejectedError) as caught:
        source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - 24 * HOUR, NOW))
    assert says in caught.value.message
    assert caught.value.fields == {"zone": "DE", "source": "entsoe"}
    with pytest.raises(ForecastRejectedError, match="A75 of zone DE"):
        source.fetch_forecast("DE", Scope.LIFECYCLE, Window(NOW, NOW + 24 * HOUR))


def test_wrong_token_is_no_answer_and_never_shown() -> None:
    with FakeEntsoe(NOW) as api:
        http = client(api, token="s3cret")
        source = Entsoe(http, clock=ManualClock(NOW))
        with pytest.raises(ForecastUnavailableError) as caught:
            source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - HOUR, NOW))
        http.close()
        assert len(api.asked) == 1
    assert caught.value.message == f"{api.url}/api answered 401"
    shown = caught.value.message + repr(caught.value.fields) + repr(source) + repr(http)
    assert "s3cret" not in shown


def test_ban_is_no_answer(made: Made) -> None:
    api, source = made
    api.allowed = 0
    with pytest.raises(ForecastUnavailableError, match=r"answered 429 \(2 tries\)"):
        source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - HOUR, NOW))


def test_bad_request_that_is_no_acknowledgement_is_no_answer(made: Made) -> None:
    api, source = made
    api.misbehave(raw_reply(b"<html>Bad Request</html>", status=400, content_type="text/html"))
    with pytest.raises(ForecastUnavailableError, match="answered 400"):
        source.fetch_actuals("DE", Scope.LIFECYCLE, Window(NOW - HOUR, NOW))


def test_zone_that_it_has_not_is_refused_without_asking(made: Made) -> None:
    api, source = made
    for fetch in (source.fetch_forecast, source.fetch_actuals):
        with pytest.raises(ForecastUnavailableError) as caught:
            fetch("SE-SE33", Scope.DIRECT, Window(NOW, NOW + HOUR))
        assert "no direct values for zone 'SE-SE33'; did you mean SE-SE3" in caught.value.message
    assert api.asked == []


def test_fake_refuses_what_the_platform_refuses() -> None:
    with FakeEntsoe(NOW) as api:
        http = client(api)
        good = {"documentType": "A75", "processType": "A16", "in_Domain": DE}
        for changes, says in (
            ({"periodStart": "2026-01-20T00:00Z"}, "Wrong format"),
            ({"periodStart": "202601200015"}, "full hours"),
            ({"periodStart": "202401200000"}, "exceeds allowed limit"),
            ({"in_Domain": "DE"}, "not valid for this area"),
            ({"documentType": "A99"}, "dependency tables"),
        ):
            span = {"periodStart": "202601200000", "periodEnd": "202601200300"}
            with pytest.raises(ForecastUnavailableError, match="answered 400") as caught:
                http.get_text("/api", {**good, **span, **changes})
            assert says in str(caught.value.fields["answer"])
        http.close()
