"""The adapter of Electricity Maps against a fake of it: zones, scopes, plans, estimates, faults."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.grid.electricity_maps import ElectricityMaps, parse_forecast, parse_past
from adapters.http_client import HttpClient
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.fakes.clock import ManualClock
from tests.fakes.electricity_maps import FREE, FakeElectricityMaps, Plan, instant
from tests.fakes.loopback_http import json_reply

NOW = datetime(2026, 10, 1, 8, 20, tzinfo=UTC)
EIGHT = datetime(2026, 10, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
AHEAD = Window(NOW, NOW + 24 * HOUR)
LATELY = Window(NOW - 6 * HOUR, NOW)
ZONES = frozenset({"DE", "FR", "ES"})
Document = dict[str, Any]


@pytest.fixture(scope="module")
def served() -> Iterator[FakeElectricityMaps]:
    with FakeElectricityMaps(NOW) as api:
        yield api


@pytest.fixture
def api(served: FakeElectricityMaps) -> FakeElectricityMaps:
    served.misbehave_no_more()
    served.now = NOW
    return served


@pytest.fixture
def http(api: FakeElectricityMaps) -> Iterator[HttpClient]:
    client = HttpClient(api.url, headers={"auth-token": api.token}, wait=lambda _: None)
    yield client
    client.close()


@pytest.fixture
def source(http: HttpClient) -> ElectricityMaps:
    return ElectricityMaps(http, clock=ManualClock(NOW), zones=ZONES)


def forecast(
    source: ElectricityMaps, window: Window = AHEAD, zone_id: str = "DE"
) -> IntensitySeries:
    return source.fetch_forecast(zone_id, Scope.LIFECYCLE, window)


def actuals(source: ElectricityMaps, window: Window = LATELY) -> IntensitySeries:
    return source.fetch_actuals("DE", Scope.LIFECYCLE, window)


def asked(api: FakeElectricityMaps) -> list[tuple[str, dict[str, str]]]:
    urls = [urlsplit(one.path) for one in api.asked]
    return [(url.path, {name: one for name, [one] in parse_qs(url.query).items()}) for url in urls]


def grams(series: IntensitySeries) -> list[float | None]:
    return [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]


def document(*values: object, key: str = "forecast", **more: object) -> Document:
    """A reply about 08:00 and the hours after it."""
    return {
        "zone": "DE",
        key: [
            {"carbonIntensity": value, "datetime": instant(EIGHT + index * HOUR)}
            for index, value in enumerate(values)
        ],
        "updatedAt": "2026-10-01T07:48:27.926Z",
        "temporalGranularity": "hourly",
        **more,
    }


def parsed(body: object) -> IntensitySeries:
    return parse_forecast(body, zone_id="DE", scope=Scope.LIFECYCLE, asked=AHEAD, now=NOW)


def past(*bodies: object) -> IntensitySeries:
    return parse_past(bodies, zone_id="DE", scope=Scope.LIFECYCLE, asked=AHEAD)


def hours(*estimated: bool | None, value: int | None = 300) -> list[Document]:
    """Hours from 08:00 on; None leaves out whether it is an estimate."""
    return [
        {
            "zone": "DE",
            "carbonIntensity": value,
            "datetime": instant(EIGHT + index * HOUR),
            "emissionFactorType": "lifecycle",
            **({} if one is None else {"isEstimated": one}),
        }
        for index, one in enumerate(estimated)
    ]


# -------------------------------------------------------------------------------- parsing


def test_hours_begin_at_their_times_and_null_is_a_gap() -> None:
    series = parsed(document(302, None, 288.5))
    assert grams(series) == [302, None, 288.5]
    first_s = int(EIGHT.timestamp())
    assert series.edges_s.tolist() == [first_s + index * 3600 for index in range(4)]


def test_provenance_says_when_the_forecast_was_made() -> None:
    provenance = parsed(document(302)).provenance
    assert provenance.source == "electricity_maps"
    assert provenance.signal is SignalKind.AVERAGE
    assert provenance.scope is Scope.LIFECYCLE
    assert provenance.quality is Quality.FORECAST
    assert provenance.issued_at == datetime(2026, 10, 1, 7, 48, 27, 926_000, tzinfo=UTC)


def test_25th_value_of_24_hours_is_used_where_the_window_reaches_it() -> None:
    values = list(range(100, 125))
    assert grams(parsed(document(*values))) == values
    shorter = Window(NOW, EIGHT + 24 * HOUR)
    series = parse_forecast(
        document(*values), zone_id="DE", scope=Scope.LIFECYCLE, asked=shorter, now=NOW
    )
    assert grams(series) == values[:24]


def test_forecast_that_begins_with_the_next_hour_is_not_stretched_back() -> None:
    body = document(302, 288)
    del body["forecast"][0]
    assert parsed(body).edges_s[0] == (EIGHT + HOUR).timestamp()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (document(302, zone="US-CAL-CISO"), "asked for zone DE, answered for zone 'US-CAL-CISO'"),
        (document(302, temporalGranularity="15_minutes"), "'15_minutes' instead of hourly"),
        (document(302, emissionFactorType="direct"), "emissionFactorType 'direct' instead of life"),
        (document(302, updatedAt="2026-09-30T07:48:27Z"), "25 h ago: stale"),
        (document(302, updatedAt="2026-10-01T07:48:27"), "is not ISO 8601 with an offset"),
        (document(302, -1), "intensity -1 g/kWh at 2026-10-01T09:00:00Z cannot be true"),
        (document(302, 3001), "intensity 3001 g/kWh at 2026-10-01T09:00:00Z cannot be true"),
        (document(float("nan")), "forecast.0.carbonIntensity: Input should be a finite number"),
        (document("302"), "forecast.0.carbonIntensity: Input should be a valid number, not '302'"),
        (document(302, forecast=[{"carbonIntensity": 1}]), "forecast.0.datetime: Field required"),
        (
            document(
                302, forecast=[{"carbonIntensity": 1, "datetime": "2026-10-01T08:30:00.000Z"}]
            ),
            "is not on a multiple of 3600 s",
        ),
        (
            document(
                302, forecast=[{"carbonIntensity": 1, "datetime": "2026-10-01T07:00:00.000Z"}]
            ),
            "answered for 2026-10-01T07:00:00Z to 2026-10-01T08:00:00Z",
        ),
        ({"zone": "DE", "updatedAt": "2026-10-01T07:48:27Z"}, "forecast: Field required"),
        ({"status": "no-data", "data": {}}, "zone: Field required"),
        ({"zone": None, "forecast": []}, "zone: Input should be a valid string"),
        ([], "the reply: Input should be a valid dictionary"),
    ],
)
def test_reply_that_cannot_be_is_refused_and_named(body: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        parsed(body)
    assert says in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.fields == {"zone": "DE", "source": "electricity_maps"}


@pytest.mark.parametrize("body", [document(), document(None, None)])
def test_reply_without_a_value_is_no_answer(body: object) -> None:
    with pytest.raises(ForecastUnavailableError):
        parsed(body)


@pytest.mark.parametrize("key", ["data", "history"])
def test_past_comes_under_either_key(key: str) -> None:
    assert grams(past({"zone": "DE", key: hours(False, False)})) == [300, 300]


@pytest.mark.parametrize(
    ("estimated", "quality"),
    [
        ([False, False], Quality.MEASURED),
        ([True, True], Quality.ESTIMATED),
        ([False, True], Quality.ESTIMATED),
        ([False, None], Quality.ESTIMATED),
    ],
)
def test_past_is_measured_only_where_every_hour_is(
    estimated: list[bool | None], quality: Quality
) -> None:
    assert past({"zone": "DE", "data": hours(*estimated)}).provenance.quality is quality


def test_estimates_outside_the_window_or_without_a_value_do_not_count() -> None:
    estimate = {**hours(True)[0], "datetime": instant(EIGHT - 5 * HOUR)}
    body = {"zone": "DE", "data": [estimate, *hours(False, False)]}
    assert past(body).provenance.quality is Quality.MEASURED
    body["data"][-1] |= {"carbonIntensity": None, "isEstimated": True}
    assert past(body).provenance.quality is Quality.MEASURED


def test_hour_of_another_zone_or_scope_is_refused() -> None:
    for field, value in (("zone", "FR"), ("emissionFactorType", "direct")):
        body = {"zone": "DE", "data": [hours(False)[0], hours(False)[0] | {field: value}]}
        with pytest.raises(ForecastRejectedError, match=repr(value)):
            past(body)


# ------------------------------------------------------------------------------- forecast


@pytest.mark.parametrize(
    ("version", "lookup"),
    [
        ("v3", {"shouldUseFallbackCallerLookup": "false"}),
        ("v4", {"disableCallerLookup": "true"}),
    ],
)
def test_each_version_is_asked_for_the_zone_and_never_for_the_callers(
    api: FakeElectricityMaps, http: HttpClient, version: Any, lookup: dict[str, str]
) -> None:
    source = ElectricityMaps(http, clock=ManualClock(NOW), zones=ZONES, version=version)
    # 1 October, 08:00: 200 + 24 + 10.
    assert grams(forecast(source))[0] == 234
    actuals(source)
    with pytest.raises(ForecastUnavailableError, match='No recent data for zone "ES"'):
        forecast(source, zone_id="ES")
    common = {"zone": "DE", "emissionFactorType": "lifecycle", **lookup}
    span = {"start": "2026-10-01T02:00:00Z", "end": "2026-10-01T08:19:59Z"}
    assert asked(api) == [
        (f"/{version}/carbon-intensity/forecast", {**common, "horizonHours": "24"}),
        (f"/{version}/carbon-intensity/past-range", {**common, **span}),
        (f"/{version}/carbon-intensity/forecast", {**common, "zone": "ES", "horizonHours": "24"}),
    ]


@pytest.mark.parametrize(
    ("hours_ahead", "horizon"),
    [(0, "6"), (6, "6"), (6.1, "24"), (24, "24"), (30, "48"), (48, "48"), (72, "72"), (300, "72")],
)
def test_shortest_horizon_that_suffices_is_asked_for(
    api: FakeElectricityMaps, source: ElectricityMaps, hours_ahead: float, horizon: str
) -> None:
    forecast(source, Window(NOW, NOW + hours_ahead * HOUR))
    assert asked(api)[0][1]["horizonHours"] == horizon


def test_direct_and_lifecycle_are_different_values(source: ElectricityMaps) -> None:
    direct = source.fetch_forecast("DE", Scope.DIRECT, AHEAD)
    assert direct.provenance.scope is Scope.DIRECT
    assert grams(direct)[0] == 174
    assert grams(forecast(source))[0] == 234


def test_zone_that_is_not_configured_is_refused_without_asking(
    api: FakeElectricityMaps, source: ElectricityMaps
) -> None:
    for fetch in (source.fetch_forecast, source.fetch_actuals):
        with pytest.raises(ForecastUnavailableError) as caught:
            fetch("de-", Scope.DIRECT, AHEAD)
        assert caught.value.message == (
            "electricity_maps: no direct values for zone 'de-'; did you mean DE?"
        )
    assert api.asked == []


def test_answer_for_the_callers_own_zone_is_refused(
    api: FakeElectricityMaps, source: ElectricityMaps
) -> None:
    api.serve_changed(lambda document: {**document, "zone": api.caller_zone})
    with pytest.raises(ForecastRejectedError, match="answered for zone 'US-CAL-CISO'"):
        forecast(source)


# -------------------------------------------------------------------------------- history


def test_long_past_is_asked_for_in_pages_of_10_days(
    api: FakeElectricityMaps, source: ElectricityMaps
) -> None:
    window = Window(EIGHT - timedelta(days=22), EIGHT - 4 * HOUR)
    series = actuals(source, window)
    assert [(query["start"], query["end"]) for _, query in asked(api)] == [
        ("2026-09-09T08:00:00Z", "2026-09-19T07:59:59Z"),
        ("2026-09-19T08:00:00Z", "2026-09-29T07:59:59Z"),
        ("2026-09-29T08:00:00Z", "2026-10-01T03:59:59Z"),
    ]
    assert series.integral_mg_s(window) is not None
    assert len(series.mg_per_kwh) == 22 * 24 - 4
    assert series.provenance.quality is Quality.MEASURED
    # 9 September, 08:00: 200 + 24 + 90, and 5 more in the past.
    assert grams(series)[0] == 319


def test_newest_hours_are_estimates(source: ElectricityMaps) -> None:
    assert actuals(source).provenance.quality is Quality.ESTIMATED


@pytest.mark.parametrize(
    ("start", "length_h"),
    # In Germany the clocks went forward on 29 March and go back on 25 October.
    [
        ("2026-03-29T00:00:00+01:00", 23),
        ("2026-10-25T00:00:00+02:00", 25),
        ("2025-12-31T12:00:00+01:00", 24),
    ],
)
def test_local_days_of_23_and_25_hours_are_complete(
    api: FakeElectricityMaps, source: ElectricityMaps, start: str, length_h: int
) -> None:
    api.now = datetime(2026, 12, 1, tzinfo=UTC)
    start_at = datetime.fromisoformat(start).astimezone(UTC)
    series = actuals(source, Window(start_at, start_at + length_h * HOUR))
    assert series.edges_s[0] == start_at.timestamp()
    assert grams(series) == [
        api.lifecycle_g(start_at + index * HOUR) + 5 for index in range(length_h)
    ]


# ------------------------------------------------------------------------- plans and tokens


def test_free_token_gets_the_last_24_hours(
    api: FakeElectricityMaps, source: ElectricityMaps
) -> None:
    api.plans = {api.token: Plan(endpoints=FREE)}
    window = Window(NOW - 48 * HOUR, NOW)
    series = actuals(source, window)
    assert [path for path, _ in asked(api)] == [
        "/v3/carbon-intensity/past-range",
        "/v3/carbon-intensity/history",
    ]
    assert series.edges_s[0] == (EIGHT - 23 * HOUR).timestamp()
    assert len(series.mg_per_kwh) == 24


def test_free_token_has_nothing_older(api: FakeElectricityMaps, source: ElectricityMaps) -> None:
    api.plans = {api.token: Plan(endpoints=FREE)}
    with pytest.raises(ForecastUnavailableError, match="no past beyond the last 24 hours"):
        actuals(source, Window(NOW - 72 * HOUR, NOW - 48 * HOUR))


def test_plan_without_any_past_is_named(api: FakeElectricityMaps, source: ElectricityMaps) -> None:
    api.plans = {api.token: Plan(endpoints=frozenset({"latest"}))}
    with pytest.raises(ForecastUnavailableError, match="this token's plan has no past: Endpoint"):
        actuals(source)


def test_plan_without_forecasts_is_named(api: FakeElectricityMaps, source: ElectricityMaps) -> None:
    api.plans = {api.token: Plan(endpoints=FREE)}
    with pytest.raises(ForecastUnavailableError) as caught:
        forecast(source)
    assert caught.value.message == (
        "electricity_maps: this token's plan has no forecast: Endpoint not available for this token"
    )
    assert caught.value.fields == {"zone": "DE", "source": "electricity_maps"}
    assert len(api.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_plan_without_the_zone_is_named_whatever_the_status(
    api: FakeElectricityMaps, source: ElectricityMaps, status: int
) -> None:
    error = {"error": "Token unauthorized for zoneKey=DE"}
    api.misbehave(always=json_reply(error, status=status))
    for fetch in (forecast, actuals):
        with pytest.raises(ForecastUnavailableError, match="plan does not include zone DE"):
            fetch(source)


def test_token_that_never_served_is_refused_as_wrong(
    api: FakeElectricityMaps, source: ElectricityMaps
) -> None:
    api.plans = {"another": Plan()}
    for fetch in (forecast, actuals, forecast):
        with pytest.raises(ForecastUnavailableError) as caught:
            fetch(source)
        assert "the auth-token was refused (401); check it: Invalid auth-token" in (
            caught.value.message
        )
    assert len(api.asked) == 3


def test_refusal_after_a_success_counts_once_as_too_many_requests(
    api: FakeElectricityMaps, source: ElectricityMaps
) -> None:
    api.requests = 1
    forecast(source)
    with pytest.raises(ForecastUnavailableError, match="too many requests, as it seems"):
        forecast(source)
    with pytest.raises(ForecastUnavailableError, match="the auth-token was refused"):
        forecast(source)
    api.requests = 1
    forecast(source)
    with pytest.raises(ForecastUnavailableError, match="too many requests, as it seems"):
        forecast(source)


def test_token_shows_in_no_error(api: FakeElectricityMaps, source: ElectricityMaps) -> None:
    api.misbehave(always=json_reply({"error": f"bad token {api.token}"}, status=400))
    with pytest.raises(ForecastUnavailableError) as caught:
        forecast(source)
    cause = caught.value.__cause__
    shown = f"{caught.value!r} {cause!r} {vars(cause or caught.value)} {source!r}"
    assert "bad token ***" in caught.value.message
    assert api.token not in shown
