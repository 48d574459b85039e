"""The adapter of WattTime against a fake of it: logins, units, models, and every fault named."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.grid.watttime import DEFAULT_URL, WattTime, parse_forecast, parse_historical
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import (
    ForecastRejectedError,
    ForecastUnavailableError,
    GridtideError,
    InvalidConfigError,
)
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.fakes.clock import ManualClock
from tests.fakes.loopback_http import json_reply, raw_reply
from tests.fakes.watttime import NGINX_403, FakeWattTime

NOW = datetime(2026, 5, 3, 10, 7, 30, tzinfo=UTC)
FIVE_PAST = datetime(2026, 5, 3, 10, 5, tzinfo=UTC)
STEP = timedelta(minutes=5)
HOUR = timedelta(hours=1)
ZONE, REGION = "US-CAL-CISO", "CAISO_NORTH"
AHEAD = Window(NOW, NOW + 24 * HOUR)
Document = dict[str, Any]


@pytest.fixture(scope="module")
def served() -> Iterator[FakeWattTime]:
    with FakeWattTime(NOW) as api:
        yield api


@pytest.fixture
def api(served: FakeWattTime) -> FakeWattTime:
    served.misbehave_no_more()
    served.now, served.logins = NOW, 0
    served.model_date, served.refuses_by_page = "2023-03-01", False
    return served


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def source(api: FakeWattTime, clock: ManualClock) -> Iterator[WattTime]:
    http = HttpClient(api.url, limits=Limits(attempts=2), wait=lambda _: None)
    yield watttime(api, http, clock)
    http.close()


def watttime(
    api: FakeWattTime, http: HttpClient, clock: ManualClock, password: str | None = None
) -> WattTime:
    return WattTime(
        http,
        clock=clock,
        user=api.user,
        password=password or api.password,
        regions={ZONE: REGION, "US-MIDA-PJM": "PJM_NJ"},
    )


def forecast(source: WattTime, window: Window = AHEAD, zone_id: str = ZONE) -> IntensitySeries:
    return source.fetch_forecast(zone_id, Scope.DIRECT, window)


def paths(api: FakeWattTime) -> list[str]:
    return [urlsplit(one.path).path for one in api.asked]


def queries(api: FakeWattTime, path: str) -> list[dict[str, str]]:
    asked = [urlsplit(one.path) for one in api.asked]
    return [
        {name: value for name, [value] in parse_qs(url.query).items()}
        for url in asked
        if url.path == path
    ]


def grams(series: IntensitySeries) -> list[float | None]:
    return [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]


def document(*values: object, **meta: object) -> Document:
    """A reply about 10:05 and the steps after it."""
    return {
        "data": [
            {"point_time": (FIVE_PAST + index * STEP).isoformat(), "value": value}
            for index, value in enumerate(values)
        ],
        "meta": {
            "data_point_period_seconds": 300,
            "region": REGION,
            "warnings": [{"type": "EXAMPLE", "message": "read me"}],
            "signal_type": "co2_moer",
            "units": "lbs_co2_per_mwh",
            "generated_at": FIVE_PAST.isoformat(),
            "model": {"date": "2023-03-01", "type": "binned_regression"},
            **meta,
        },
    }


def parsed(body: object) -> IntensitySeries:
    return parse_forecast(body, zone_id=ZONE, region=REGION, asked=AHEAD, now=NOW)


# -------------------------------------------------------------------------------- parsing


def test_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour() -> None:
    # 1000 lb is 453.59237 kg, and kg/MWh is g/kWh; in whole milligrams.
    assert grams(parsed(document(1000, 870.0, 0))) == [453.592, 394.625, 0]


def test_times_are_starts_of_five_minutes() -> None:
    series = parsed(document(900, 900))
    first_s = int(FIVE_PAST.timestamp())
    assert series.edges_s.tolist() == [first_s, first_s + 300, first_s + 600]


def test_provenance_says_signal_model_and_when_it_was_made() -> None:
    provenance = parsed(document(900)).provenance
    assert provenance.source == "watttime co2_moer model 2023-03-01"
    assert provenance.signal is SignalKind.MARGINAL
    assert provenance.scope is Scope.DIRECT
    assert provenance.quality is Quality.FORECAST
    assert provenance.issued_at == FIVE_PAST


def test_reply_without_model_or_warnings_is_accepted() -> None:
    body = document(900)
    del body["meta"]["model"], body["meta"]["warnings"], body["meta"]["generated_at"]
    provenance = parsed(body).provenance
    assert provenance.source == "watttime co2_moer"
    assert provenance.issued_at is None


def test_null_is_a_gap() -> None:
    assert grams(parsed(document(1000, None, 1000))) == [453.592, None, 453.592]


def test_points_past_the_window_are_left_out_whatever_their_order() -> None:
    body = document(*[1000] * 400)
    body["data"].reverse()
    series = parsed(body)
    # 10:05 to 10:10 of the next day holds the window's end, 10:07:30.
    assert series.edges_s[-1] == (FIVE_PAST + 24 * HOUR + STEP).timestamp()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (document(900, region="PJM_NJ"), "meta.region 'PJM_NJ' instead of CAISO_NORTH"),
        (document(900, signal_type="co2_aoer"), "meta.signal_type 'co2_aoer' instead of co2_moer"),
        (document(50, units="percentile"), "meta.units 'percentile' instead of lbs_co2_per_mwh"),
        (document(900, data_point_period_seconds=0), "meta.data_point_period_seconds"),
        (document(900, generated_at="2026-05-03T10:00:00"), "is not ISO 8601 with an offset"),
        (document(900, generated_at="2026-05-03T06:07:00Z"), "4 h ago: stale"),
        (document(-1), "intensity -0.453592 g/kWh at 2026-05-03T10:05:00Z cannot be true"),
        (document(9000), "intensity 4082.33 g/kWh at 2026-05-03T10:05:00Z cannot be true"),
        (document(float("nan")), "data.0.value: Input should be a finite number"),
        (document("870"), "data.0.value: Input should be a valid number, not '870'"),
        (document(True), "data.0.value: Input should be a valid number"),
        ({**document(900), "data": None}, "data: Input should be a valid list, not None"),
        ({"data": []}, "meta: Field required"),
        ({**document(900), "data": document(900)["data"] + document(901)["data"]}, "two values"),
        ({"error": "x", "message": "y"}, "data: Field required"),
        ([], "the reply: Input should be a valid dictionary"),
        (None, "the reply: Input should be a valid dictionary"),
    ],
)
def test_reply_that_cannot_be_is_refused_and_named(body: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        parsed(body)
    assert says in caught.value.message
    assert caught.value.message.startswith("watttime: ")
    assert len(caught.value.message) < 300
    assert caught.value.fields == {"zone": ZONE, "source": "watttime"}


@pytest.mark.parametrize("body", [document(), document(None, None)])
def test_reply_without_a_value_is_no_answer(body: object) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        parsed(body)
    assert caught.value.fields == {"zone": ZONE, "source": "watttime"}


def test_change_of_the_model_between_pages_shows() -> None:
    later = document(900, model={"date": "2026-05-01"})
    later["data"][0]["point_time"] = (FIVE_PAST + STEP).isoformat()
    series = parse_historical([document(900), later], zone_id=ZONE, region=REGION, asked=AHEAD)
    assert series.provenance.source == "watttime co2_moer model 2023-03-01 and 2026-05-01"
    assert len(series.mg_per_kwh) == 2


# ------------------------------------------------------------------------------- forecast


def test_forecast_has_the_published_values_from_the_running_five_minutes_on(
    api: FakeWattTime, source: WattTime
) -> None:
    series = forecast(source)
    assert series.edges_s[0] == FIVE_PAST.timestamp()
    # 10:05 is 600 + 100 + 1 lb, 10:10 one more: 701 and 702 times 0.45359237.
    assert grams(series)[:2] == [317.968, 318.422]
    assert series.integral_mg_s(AHEAD) is not None
    [query] = queries(api, "/v3/forecast")
    assert query == {"region": REGION, "signal_type": "co2_moer", "horizon_hours": "25"}


@pytest.mark.parametrize(
    ("hours_ahead", "asked"),
    [(0, "1"), (0.5, "1"), (5.5, "6"), (71, "72"), (72, "72"), (500, "72")],
)
def test_horizon_reaches_the_end_of_the_window_but_72_h_at_most(
    api: FakeWattTime, source: WattTime, hours_ahead: float, asked: str
) -> None:
    forecast(source, Window(NOW, NOW + hours_ahead * HOUR))
    assert queries(api, "/v3/forecast")[0]["horizon_hours"] == asked


def test_change_of_the_model_shows(api: FakeWattTime, source: WattTime) -> None:
    before = forecast(source).provenance
    api.model_date = "2026-05-01"
    after = forecast(source).provenance
    assert (before.source, after.source) == (
        "watttime co2_moer model 2023-03-01",
        "watttime co2_moer model 2026-05-01",
    )


# -------------------------------------------------------------------------------- history


def test_long_past_is_asked_for_in_pages_of_32_days(api: FakeWattTime, source: WattTime) -> None:
    window = Window(FIVE_PAST - timedelta(days=70), FIVE_PAST)
    series = source.fetch_actuals(ZONE, Scope.DIRECT, window)
    spans = [(query["start"], query["end"]) for query in queries(api, "/v3/historical")]
    assert spans == [
        ("2026-02-22T10:05:00Z", "2026-03-26T10:04:59Z"),
        ("2026-03-26T10:05:00Z", "2026-04-27T10:04:59Z"),
        ("2026-04-27T10:05:00Z", "2026-05-03T10:04:59Z"),
    ]
    assert len(series.mg_per_kwh) == 70 * 288
    assert series.integral_mg_s(window) is not None
    assert series.provenance.quality is Quality.ESTIMATED
    # 701 lb and the 7 more that the past has.
    assert grams(series)[0] == 321.143


@pytest.mark.parametrize(
    ("day", "hours"),
    # In California the clocks went forward on 8 March and back on 1 November.
    [("2026-03-08", 23), ("2026-11-01", 25), ("2025-12-31", 24)],
)
def test_local_days_of_23_and_25_hours_are_complete(
    api: FakeWattTime, source: WattTime, day: str, hours: int
) -> None:
    api.now = datetime(2026, 12, 1, tzinfo=UTC)
    offset = {23: "-08:00", 25: "-07:00", 24: "-08:00"}[hours]
    start_at = datetime.fromisoformat(f"{day}T00:00:00{offset}")
    window = Window(start_at, start_at + hours * HOUR)
    series = source.fetch_actuals(ZONE, Scope.DIRECT, window)
    assert len(series.mg_per_kwh) == hours * 12
    assert series.edges_s[0] == start_at.timestamp()
    assert grams(series) == [
        round((api.moer_lb(window.start_at + index * STEP) + 7) * 0.45359237, 3)
        for index in range(hours * 12)
    ]


def test_past_that_is_not_published_yet_is_no_answer(source: WattTime) -> None:
    with pytest.raises(ForecastUnavailableError, match="watttime: the reply is empty"):
        source.fetch_actuals(ZONE, Scope.DIRECT, Window(FIVE_PAST, NOW))


# ---------------------------------------------------------------------------------- login


def test_token_is_kept_for_its_half_hour(
    api: FakeWattTime, source: WattTime, clock: ManualClock
) -> None:
    for _ in range(3):
        forecast(source)
    assert paths(api) == ["/login"] + ["/v3/forecast"] * 3
    assert api.asked[1].headers["Authorization"] == f"Bearer {api.tokens[-1]}"
    clock.move(minutes=31)
    api.now += timedelta(minutes=31)
    forecast(source, Window(clock.now(), clock.now() + HOUR))
    assert paths(api)[4:] == ["/login", "/v3/forecast"]


@pytest.mark.parametrize("by_page", [False, True], ids=["401", "page with 403"])
def test_token_that_ends_early_is_replaced_once(
    api: FakeWattTime, source: WattTime, *, by_page: bool
) -> None:
    api.refuses_by_page = by_page
    forecast(source)
    api.forget_tokens()
    assert forecast(source).zone_id == ZONE
    assert paths(api) == ["/login", "/v3/forecast", "/v3/forecast", "/login", "/v3/forecast"]


@pytest.mark.parametrize(
    "refusal",
    [
        json_reply({"error": "Unauthorized"}, status=401),
        raw_reply(NGINX_403, status=403, content_type="text/html"),
    ],
)
def test_token_refused_right_after_a_login_is_an_error(
    api: FakeWattTime, source: WattTime, refusal: Any
) -> None:
    forecast(source)
    api.asked.clear()
    token = json_reply({"token": "another"})
    api.misbehave(refusal, token, refusal)
    with pytest.raises(ForecastUnavailableError, match="/v3/forecast answered 40"):
        forecast(source)
    assert paths(api) == ["/v3/forecast", "/login", "/v3/forecast"]


@pytest.mark.parametrize(("by_page", "status"), [(False, 401), (True, 403)])
def test_wrong_password_is_named_after_one_login(
    api: FakeWattTime, clock: ManualClock, *, by_page: bool, status: int
) -> None:
    api.refuses_by_page = by_page
    http = HttpClient(api.url, wait=lambda _: None)
    with pytest.raises(ForecastUnavailableError) as caught:
        forecast(watttime(api, http, clock, password="wrong-one"))
    http.close()
    assert caught.value.message == (
        f"watttime: the login was refused ({status}); check user and password"
    )
    assert caught.value.fields == {"zone": ZONE, "source": "watttime"}
    assert paths(api) == ["/login"]


def test_too_many_logins_wait_and_are_named(api: FakeWattTime, source: WattTime) -> None:
    for _ in range(100):
        forecast(source)
        api.forget_tokens()
    with pytest.raises(ForecastUnavailableError, match=r"/login answered 429 \(2 tries\)"):
        forecast(source)


@pytest.mark.parametrize(
    "document", [{}, [], None, {"token": None}, {"token": ""}, {"token": "a\r\nX: b"}, {"token": 7}]
)
def test_login_without_a_token_is_named(
    api: FakeWattTime, source: WattTime, document: object
) -> None:
    api.misbehave(json_reply(document))
    with pytest.raises(ForecastUnavailableError, match="the reply to the login has no token"):
        forecast(source)


def test_credentials_appear_in_no_error_repr_or_log(
    api: FakeWattTime, source: WattTime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    forecast(source)
    secrets = [api.user, api.password, api.tokens[-1], *secrets_sent(api)]
    shown = [repr(source), repr(vars(source)), str(source.info)]

    def echo(to: Any) -> None:
        to.reply(b'{"message": "%s"}' % to.headers["Authorization"].encode(), status=400)

    def echo_bare(to: Any) -> None:
        bare = to.headers["Authorization"].split(" ")[1]
        to.reply(b'{"message": "%s"}' % bare.encode(), status=403)

    for behaviour in (echo, echo_bare):
        api.misbehave(always=behaviour)
        for fetch in (lambda: forecast(source), lambda: source.find_region(1, 2)):
            shown += chain(fetch)
        api.misbehave()
        api.forget_tokens()
        api.misbehave(json_reply({}, status=401), always=behaviour)
        shown += chain(lambda: forecast(source))
    text = "\n".join([*shown, caplog.text])
    assert "***" in text
    for secret in secrets:
        assert secret not in text


def secrets_sent(api: FakeWattTime) -> list[str]:
    return [one.headers["Authorization"].partition(" ")[2] for one in api.asked]


def chain(fetch: Callable[[], object]) -> list[str]:
    """Messages and fields of the error and of those that it came from."""
    with pytest.raises(GridtideError) as caught:
        fetch()
    errors: list[BaseException] = [caught.value]
    while (cause := errors[-1].__cause__) is not None:
        errors.append(cause)
    return [f"{error!r} {getattr(error, 'fields', '')}" for error in errors]


def test_password_never_goes_over_plain_http_to_another_machine(api: FakeWattTime) -> None:
    http = HttpClient("http://api.example.org")
    with pytest.raises(InvalidConfigError, match="must be https"):
        watttime(api, http, ManualClock(NOW))
    http.close()
    assert DEFAULT_URL.startswith("https://")


# -------------------------------------------------------------------------------- refusals


def test_region_outside_the_plan_is_named_without_another_login(
    api: FakeWattTime, source: WattTime
) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        forecast(source, zone_id="US-MIDA-PJM")
    assert caught.value.message == (
        "watttime: the account has no access to /v3/forecast for region PJM_NJ: Invalid query "
        "parameters: Invalid scope. You do not have sufficient access to this resource."
    )
    assert paths(api) == ["/login", "/v3/forecast"]


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_refusal_is_not_tried_again_and_shows_what_the_server_says(
    api: FakeWattTime, source: WattTime, status: int
) -> None:
    forecast(source)
    api.asked.clear()
    api.misbehave(json_reply({"error": "Bad", "msg": "no such thing", "docs": "x"}, status=status))
    with pytest.raises(ForecastUnavailableError, match="Bad: no such thing"):
        forecast(source)
    assert paths(api) == ["/v3/forecast"]


def test_validation_error_in_its_other_form_is_shown(api: FakeWattTime, source: WattTime) -> None:
    with pytest.raises(ForecastUnavailableError, match="less than or equal to 90"):
        source.find_region(91, 0)


@pytest.mark.parametrize(
    ("zone_id", "scope"), [("US-CAL-CIS0", Scope.DIRECT), (ZONE, Scope.LIFECYCLE)]
)
def test_zone_or_scope_that_it_has_not_is_refused_without_asking(
    api: FakeWattTime, source: WattTime, zone_id: str, scope: Scope
) -> None:
    for fetch in (source.fetch_forecast, source.fetch_actuals):
        with pytest.raises(
            ForecastUnavailableError, match=f"no {scope} values for zone {zone_id!r}"
        ):
            fetch(zone_id, scope, AHEAD)
    assert api.asked == []


# --------------------------------------------------------------------------------- regions


def test_region_of_a_place(api: FakeWattTime, source: WattTime) -> None:
    assert source.find_region(37.35, -121.96) == "CAISO_NORTH"
    [query] = queries(api, "/v3/region-from-loc")
    assert query == {"signal_type": "co2_moer", "latitude": "37.35", "longitude": "-121.96"}


def test_place_without_coverage_has_no_region(source: WattTime) -> None:
    assert source.find_region(0, 0) is None


def test_region_of_another_signal_is_refused(api: FakeWattTime, source: WattTime) -> None:
    forecast(source)
    place = {"region": "CAISO_NORTH", "signal_type": "health_damage"}
    api.misbehave(json_reply(place))
    with pytest.raises(ForecastRejectedError, match="'health_damage' instead of co2_moer"):
        source.find_region(37.35, -121.96)
