"""The adapter of EIA's open data against a fake of it: right hours and grams, every fault named."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from adapters.grid.eia import Eia, parse_rows
from adapters.grid.generation_mix import Fuel
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.cases_eia import grams
from tests.fakes.eia import FakeEia, Row
from tests.fakes.loopback_http import Behaviour, json_reply

NOW = datetime(2026, 1, 20, 14, 20, tzinfo=UTC)
# The newest whole hour: five hours behind, and one that lacks most fuels.
LAST = datetime(2026, 1, 20, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
PJM = "US-MIDA-PJM"
NIGHT = Window(datetime(2026, 5, 1, 9, tzinfo=UTC), datetime(2026, 5, 1, 12, tzinfo=UTC))
NAN = float("nan")
Made = tuple[FakeEia, Eia]


@pytest.fixture
def made() -> Iterator[Made]:
    with FakeEia(NOW) as api:
        http = client(api)
        yield api, Eia(http)
        http.close()


def client(api: FakeEia, key: str = FakeEia.key) -> HttpClient:
    return HttpClient(
        api.url,
        secret_params={"api_key": key} if key else None,
        limits=Limits(attempts=2),
        wait=lambda _: None,
    )


def known(series: IntensitySeries) -> dict[datetime, float]:
    return {
        datetime.fromtimestamp(int(at), UTC): int(mg) / 1000
        for at, mg in zip(series.edges_s[:-1], series.mg_per_kwh, strict=True)
        if mg != GAP_MG
    }


def row(period: str, fueltype: str, value: object, **changes: object) -> Row:
    return {
        "period": period,
        "respondent": "PJM",
        "respondent-name": "PJM Interconnection, LLC",
        "fueltype": fueltype,
        "type-name": "Whatever",
        "value": value,
        "value-units": "megawatthours",
        **changes,
    }


def reply(*rows: Row, total: object = None) -> Row:
    return {"response": {"total": len(rows) if total is None else total, "data": list(rows)}}


def parsed(*rows: Row) -> dict[str, list[float]]:
    mix = parse_rows(reply(*rows), PJM, NIGHT)
    assert mix.start_s == NIGHT.start_at.timestamp()
    return {kind: mw.tolist() for kind, mw in mix.mw.items()}


# -------------------------------------------------------------------------------- parsing


def test_period_is_the_end_of_its_hour() -> None:
    # 10, 11 and 12 are the hours that begin at 9, 10 and 11.
    rows = [row(f"2026-05-01T{hour}", "WND", f"{hour}00") for hour in (10, 11, 12)]
    assert parsed(*rows) == {"WND": [1000, 1100, 1200]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("20093", 20093), (20093, 20093), (20.5, 20.5), ("-3", 0), (-3, 0), ("0", 0)],
)
def test_value_may_be_text_or_number_and_is_never_below_zero(
    value: object, expected: float
) -> None:
    assert parsed(row("2026-05-01T10", "NG", value))["NG"][0] == expected


def test_null_and_missing_hours_are_gaps() -> None:
    made = parsed(row("2026-05-01T10", "NG", None), row("2026-05-01T11", "NG", 5))
    np.testing.assert_array_equal(made["NG"], [NAN, 5, NAN])


def test_order_and_equal_repeats_do_not_matter() -> None:
    rows = [row(f"2026-05-01T{hour}", "NG", hour) for hour in (12, 10, 11, 10)]
    assert parsed(*rows, row("2026-05-01T10", "NG", None)) == {"NG": [10, 11, 12]}


def test_hours_outside_the_window_are_left_out() -> None:
    rows = [row(f"2026-05-01T{hour:02}", "NG", hour) for hour in range(8, 15)]
    assert parsed(*rows) == {"NG": [10, 11, 12]}


def test_fuels_have_their_names() -> None:
    kinds = ("COL", "NG", "OIL", "NUC", "WAT", "SUN", "SNB", "WND", "GEO", "BM", "BAT", "PS", "OTH")
    mix = parse_rows(reply(*(row("2026-05-01T10", kind, 1) for kind in kinds)), PJM, NIGHT)
    assert [mix.fuel(kind) for kind in kinds] == [
        Fuel.COAL,
        Fuel.GAS,
        Fuel.OIL,
        Fuel.NUCLEAR,
        Fuel.HYDRO,
        Fuel.SOLAR,
        Fuel.SOLAR,
        Fuel.WIND,
        Fuel.GEOTHERMAL,
        Fuel.BIOMASS,
        Fuel.STORAGE,
        Fuel.STORAGE,
        Fuel.UNKNOWN,
    ]


GOOD = row("2026-05-01T10", "NG", "5")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "the reply: Input should be a valid dictionary"),
        ([], "the reply: Input should be"),
        ({"error": "maintenance"}, "response: Field required"),
        ({"response": {"data": []}}, "response.total: Field required"),
        (reply(GOOD, total="many"), "response.total: Input should be a valid integer"),
        (reply(GOOD, total=10**9), "total 1000000000 is more than 3 hours can have"),
        ({"response": {"total": 1, "data": {}}}, "response.data: Input should be a valid list"),
        (reply({"period": "2026-05-01T10"}), "response.data.0.respondent: Field required"),
        (reply(row("2026-05-01T10", "NG", "much")), "data.0.value: Input should be a valid number"),
        (reply(row("2026-05-01T10", "NG", "nan")), "data.0.value: Input should be a finite number"),
        (reply(row("2026-05-01T10", "NG", "inf")), "data.0.value: Input should be a finite number"),
        (reply(row("2026-05-01T10", "NG", True)), "data.0.value: Value error, is a boolean"),
        (reply(row("2026-05-01T10", "NG", [1])), "data.0.value: Input should be a valid number"),
        (reply(row("2026-05-01T10", "NG", 2e6)), "value 2000000.0 of 2026-05-01T10 cannot be MW"),
        (reply(row("2026-05-01", "NG", 1)), "period '2026-05-01' is not of the form"),
        (reply(row("2026-05-01T10-05", "NG", 1)), "period '2026-05-01T10-05' is not of the form"),
        (reply({**GOOD, "respondent": "CISO"}), "asked for PJM, answered for 'CISO'"),
        (reply({**GOOD, "value-units": "GWh"}), "value-units 'GWh' is not megawatthours"),
        (reply(GOOD, {**GOOD, "value": "6"}), "two values of NG for 2026-05-01T10: 5.0, 6.0"),
        (
            reply({**GOOD, "period": "2025-05-01T10"}),
            "asked for 2026-05-01T09:00:00Z to 2026-05-01T12:00:00Z, "
            "answered for 2025-05-01T10: stale",
        ),
    ],
)
def test_reply_that_cannot_be_is_rejected_and_named(body: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        parse_rows(body, PJM, NIGHT)
    assert says in caught.value.message
    assert caught.value.message.startswith("eia: ")
    assert len(caught.value.message) < 300
    assert caught.value.fields == {"zone": PJM, "source": "eia"}


def test_reply_without_rows_is_no_answer() -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        parse_rows(reply(), PJM, NIGHT)
    assert caught.value.message == "eia: no rows of zone US-MIDA-PJM for then"
    assert caught.value.fields == {"zone": PJM, "source": "eia"}


# ------------------------------------------------------------------------------- fetching


def test_actuals_have_the_published_hours_and_grams(made: Made) -> None:
    series = made[1].fetch_actuals(PJM, Scope.LIFECYCLE, Window(NOW - 24 * HOUR, NOW))
    first = datetime(2026, 1, 19, 14, tzinfo=UTC)
    assert list(known(series)) == [first + index * HOUR for index in range(18)]
    assert known(series) == {at: pytest.approx(grams(at), abs=0.001) for at in known(series)}
    # Monday 18:00: 1000 coal, 4800 gas, 2000 nuclear, 50 other, 2400 sun, 400 water, 800 wind.
    by_hand = (820e3 + 4800 * 490 + 2000 * 12 + 50 * 700 + 2400 * 45 + 400 * 24 + 800 * 11) / 11450
    assert known(series)[first + 4 * HOUR] == pytest.approx(by_hand, abs=0.001)


def test_newest_hour_that_lacks_most_fuels_is_left_out(made: Made) -> None:
    series = made[1].fetch_actuals(PJM, Scope.LIFECYCLE, Window(LAST - HOUR, NOW))
    assert list(known(series)) == [LAST - HOUR]
    with pytest.raises(ForecastUnavailableError, match="no usable generation of zone US-MIDA-PJM"):
        made[1].fetch_actuals(PJM, Scope.LIFECYCLE, Window(LAST, NOW))


def test_provenance_says_derived_and_estimated(made: Made) -> None:
    window = Window(LAST - HOUR, LAST)
    provenance = made[1].fetch_actuals(PJM, Scope.DIRECT, window).provenance
    assert provenance.source == "eia (production, derived; factors 2026-08)"
    assert provenance.signal is SignalKind.AVERAGE
    assert provenance.scope is Scope.DIRECT
    assert provenance.quality is Quality.ESTIMATED


def test_one_request_asks_for_the_week_before_in_hours_by_their_end(made: Made) -> None:
    api, source = made
    source.fetch_actuals(PJM, Scope.LIFECYCLE, Window(LAST - 1.5 * HOUR, LAST))
    assert len(api.asked) == 1
    query = parse_qs(urlsplit(api.asked[0].path).query)
    assert {name: values[0] for name, values in query.items()} == {
        "api_key": "k3y",
        "frequency": "hourly",
        "data[0]": "value",
        "facets[respondent][]": "PJM",
        "start": "2026-01-13T07",
        "end": "2026-01-20T10",
        "sort[0][column]": "period",
        "sort[0][direction]": "asc",
        "sort[1][column]": "fueltype",
        "sort[1][direction]": "asc",
        "offset": "0",
        "length": "5000",
    }


def test_long_window_comes_in_pages(made: Made) -> None:
    api, source = made
    # 67 days of 24 hours and 8 fuels, with the week before.
    window = Window(LAST - 60 * 24 * HOUR, LAST)
    series = source.fetch_actuals(PJM, Scope.LIFECYCLE, window)
    offsets = [parse_qs(urlsplit(one.path).query)["offset"][0] for one in api.asked]
    assert offsets == ["0", "5000", "10000"]
    assert len(known(series)) == 60 * 24
    assert known(series) == {at: pytest.approx(grams(at), abs=0.001) for at in known(series)}


def test_page_of_exactly_5000_rows_is_the_last(made: Made) -> None:
    api, source = made
    rows = api.rows("PJM", LAST - 624 * HOUR, LAST)[:5000]
    assert len(rows) == 5000
    api.misbehave(json_reply(api.page(rows)))
    window = Window(LAST - 600 * HOUR, LAST - 2 * HOUR)
    assert source.fetch_actuals(PJM, Scope.LIFECYCLE, window).integral_mg_s(window) is not None
    assert len(api.asked) == 1


def test_pages_that_end_early_are_no_answer(made: Made) -> None:
    api, source = made
    rows = api.rows("PJM", LAST - 24 * HOUR, LAST)
    api.misbehave(json_reply(api.page(rows, total=300)), always=json_reply(api.page([], total=300)))
    with pytest.raises(ForecastUnavailableError, match="pages end after 200 of 300 rows"):
        source.fetch_actuals(PJM, Scope.LIFECYCLE, Window(LAST - HOUR, LAST))


def test_pages_that_overlap_are_rejected(made: Made) -> None:
    api, source = made
    rows = api.rows("PJM", LAST - 700 * HOUR, LAST)[:5500]
    api.misbehave(
        json_reply(api.page(rows[:5000], total=5500)),
        json_reply(api.page(rows[4900:5400], total=5500)),
    )
    with pytest.raises(ForecastRejectedError, match="overlap: 5400 of 5500 rows are different"):
        source.fetch_actuals(PJM, Scope.LIFECYCLE, Window(LAST - 700 * HOUR, LAST))


@pytest.mark.parametrize(
    "at",
    [
        # Clocks change in the United States at 07:00 UTC (eastern), and the year ends.
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
        datetime(2026, 1, 1, 0, tzinfo=UTC),
    ],
)
def test_change_of_clocks_and_year_move_nothing(made: Made, at: datetime) -> None:
    api, source = made
    api.now = at + 99 * HOUR
    series = source.fetch_actuals(PJM, Scope.LIFECYCLE, Window(at - 5 * HOUR, at + 5 * HOUR))
    assert list(known(series)) == [at + index * HOUR for index in range(-5, 5)]
    assert known(series) == {hour: pytest.approx(grams(hour), abs=0.001) for hour in known(series)}


def test_hour_with_a_small_part_of_its_generation_is_a_gap(made: Made) -> None:
    api, source = made
    broken = LAST - 3 * HOUR

    def change(rows: list[Row]) -> list[Row]:
        ends = (broken + HOUR).strftime("%Y-%m-%dT%H")
        return [
            {**one, "value": str(int(one["value"]) // 50)} if one["period"] == ends else one
            for one in rows
        ]

    window = Window(LAST - 6 * HOUR, LAST)
    api.misbehave(serving(api, window, change))
    series = source.fetch_actuals(PJM, Scope.LIFECYCLE, window)
    assert len(series.mg_per_kwh) == 6
    assert broken not in known(series)
    assert len(known(series)) == 5


def serving(api: FakeEia, window: Window, change: Callable[[list[Row]], list[Row]]) -> Behaviour:
    rows = api.rows("PJM", window.start_at - 7 * 24 * HOUR, window.end_at)
    return json_reply(api.page(change(rows)))


def test_discharging_counts_with_the_mean_of_the_day_before(made: Made) -> None:
    api, source = made

    def change(rows: list[Row]) -> list[Row]:
        ends = LAST.strftime("%Y-%m-%dT%H")
        return [
            {**one, "value": "9000"} if (one["period"], one["fueltype"]) == (ends, "PS") else one
            for one in rows
        ]

    at = LAST - HOUR
    api.misbehave(serving(api, Window(at, LAST), change))
    series = source.fetch_actuals(PJM, Scope.LIFECYCLE, Window(at, LAST))

    def made_mw(hour: datetime) -> float:
        return sum(max(FakeEia.mw(fuel, hour), 0) for fuel in ("COL", "NG", "NUC", "OTH")) + sum(
            FakeEia.mw(fuel, hour) for fuel in ("SUN", "WAT", "WND")
        )

    day = [at - index * HOUR for index in range(1, 25)]
    mean = sum(grams(hour) * made_mw(hour) for hour in day) / sum(made_mw(hour) for hour in day)
    expected = (grams(at) * made_mw(at) + 9000 * mean) / (made_mw(at) + 9000)
    assert known(series) == {at: pytest.approx(expected, abs=0.001)}


# ----------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(("key", "code"), [("", "API_KEY_MISSING"), ("s3cret", "API_KEY_INVALID")])
def test_key_that_is_refused_is_no_answer_and_never_shown(key: str, code: str) -> None:
    with FakeEia(NOW) as api:
        http = client(api, key)
        source = Eia(http)
        with pytest.raises(ForecastUnavailableError) as caught:
            source.fetch_actuals(PJM, Scope.LIFECYCLE, Window(LAST - HOUR, LAST))
        http.close()
        assert len(api.asked) == 1
    assert caught.value.message.endswith("/v2/electricity/rto/fuel-type-data/data/ answered 403")
    assert code in str(caught.value.fields["answer"])
    shown = caught.value.message + repr(caught.value.fields) + repr(source) + repr(http)
    assert "s3cret" not in shown


def test_rate_limit_is_no_answer(made: Made) -> None:
    api, source = made
    api.allowed = 0
    with pytest.raises(ForecastUnavailableError, match=r"answered 429 \(2 tries\)"):
        source.fetch_actuals(PJM, Scope.LIFECYCLE, Window(LAST - HOUR, LAST))


def test_zone_that_it_has_not_is_refused_without_asking(made: Made) -> None:
    api, source = made
    with pytest.raises(ForecastUnavailableError) as caught:
        source.fetch_actuals("PJM", Scope.DIRECT, Window(LAST - HOUR, LAST))
    assert "no direct values for zone 'PJM'" in caught.value.message
    assert api.asked == []


def test_zones_of_the_reference_are_there(made: Made) -> None:
    zones = made[1].info.zone_ids
    assert zones >= {"US-CAL-CISO", PJM, "US-TEX-ERCO", "US-NW-BPAT", "US-NY-NYIS", "US-NE-ISNE"}
    assert zones >= {"US-MIDW-MISO", "US-CENT-SWPP", "US-TEN-TVA", "US-SE-SOCO", "US-FLA-FPL"}
    assert all(zone.startswith("US-") and zone.count("-") == 2 for zone in zones)


def test_fake_refuses_what_the_service_refuses() -> None:
    good = {
        "frequency": "hourly",
        "data[0]": "value",
        "facets[respondent][]": "PJM",
        "start": "2026-01-01T00",
        "end": "2026-01-03T00",
        "offset": "0",
        "length": "5000",
    }
    with FakeEia(NOW) as api:
        http = client(api)
        path = "/v2/electricity/rto/fuel-type-data/data/"
        for changes in ({"start": "2026-01-01"}, {"sort": "period"}, {"frequency": "daily"}):
            with pytest.raises(ForecastUnavailableError, match="answered 400"):
                http.get_json(path, {**good, **changes})
        pages: list[Any] = [
            http.get_json(path, {**good, "offset": str(offset), "length": "50"})
            for offset in range(0, 400, 50)
        ]
        rows = [one for page in pages for one in page["response"]["data"]]
        # Without an order, pages overlap.
        assert len({json.dumps(one) for one in rows}) < len(rows)
        http.close()
