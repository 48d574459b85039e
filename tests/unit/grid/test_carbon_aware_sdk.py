"""The adapter of the Carbon Aware SDK against a fake of its WebAPI: spellings, durations, problems."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.grid.carbon_aware_sdk import CarbonAwareSdk, parse_emissions, parse_forecast
from adapters.http_client import HttpClient
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
from tests.fakes.carbon_aware_sdk import FakeCarbonAwareSdk
from tests.fakes.loopback_http import json_reply

NOW = datetime(2026, 7, 19, 13, 37, 49, tzinfo=UTC)
FIRST = datetime(2026, 7, 19, 13, 35, tzinfo=UTC)
STEP = timedelta(minutes=5)
HOUR = timedelta(hours=1)
AHEAD = Window(NOW, NOW + 12 * HOUR)
PAST = Window(FIRST - 2 * HOUR, FIRST)
PROVENANCE = Provenance(
    source="carbon_aware_sdk",
    signal=SignalKind.MARGINAL,
    scope=Scope.DIRECT,
    quality=Quality.FORECAST,
)


@pytest.fixture(scope="module")
def served() -> Iterator[FakeCarbonAwareSdk]:
    with FakeCarbonAwareSdk(NOW) as api:
        yield api


@pytest.fixture
def api(served: FakeCarbonAwareSdk) -> FakeCarbonAwareSdk:
    served.misbehave_no_more()
    served.now, served.step = NOW, STEP
    return served


@pytest.fixture
def source(api: FakeCarbonAwareSdk) -> Iterator[CarbonAwareSdk]:
    http = HttpClient(api.url, wait=lambda _: None)
    yield CarbonAwareSdk(
        http,
        locations={"IE": "northeurope", "NL": "westeurope", "XX": "nowhere"},
        signal=SignalKind.MARGINAL,
        scope=Scope.DIRECT,
    )
    http.close()


def forecast(source: CarbonAwareSdk, window: Window = AHEAD) -> IntensitySeries:
    return source.fetch_forecast("IE", Scope.DIRECT, window)


def actuals(source: CarbonAwareSdk, window: Window = PAST) -> IntensitySeries:
    return source.fetch_actuals("IE", Scope.DIRECT, window)


def queries(api: FakeCarbonAwareSdk) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(one.path).query) for one in api.asked]


def grams(series: IntensitySeries) -> list[float | None]:
    return [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]


def value(index: int, grams: object, duration: object = 5) -> dict[str, Any]:
    at = (FIRST + index * STEP).isoformat()
    return {"location": "IE", "timestamp": at, "duration": duration, "value": grams}


def document(*values: dict[str, Any], **more: object) -> list[dict[str, Any]]:
    return [
        {
            "generatedAt": "2026-07-19T13:35:00+00:00",
            "requestedAt": "2026-07-19T13:37:49+00:00",
            "location": "northeurope",
            "forecastData": list(values),
            **more,
        }
    ]


def parsed(body: object) -> IntensitySeries:
    return parse_forecast(
        body, zone_id="IE", location="northeurope", asked=AHEAD, provenance=PROVENANCE
    )


def past(*bodies: object) -> IntensitySeries:
    return parse_emissions(bodies, zone_id="IE", asked=AHEAD, provenance=PROVENANCE)


def rating(index: int, grams: object, duration: object) -> dict[str, Any]:
    at = (FIRST + index * STEP).isoformat()
    return {"location": "IE", "time": at, "rating": grams, "duration": duration}


# -------------------------------------------------------------------------------- parsing


def test_forecast_has_the_values_of_the_asked_location() -> None:
    other = document(value(0, 1), location="westeurope")
    series = parsed(other + document(value(0, 532.0), value(1, 448.4)))
    assert grams(series) == [532, 448.4]
    assert series.edges_s[0] == FIRST.timestamp()
    assert series.provenance.issued_at == FIRST
    assert series.provenance.signal is SignalKind.MARGINAL


@pytest.mark.parametrize(
    ("duration", "length_s"),
    [
        (5, 300),
        (60, 3600),
        ("00:05:00", 300),
        ("01:00:00", 3600),
        ("00:15:00.0000000", 900),
        ("1.00:00:00", 86_400),
    ],
)
def test_durations_are_minutes_or_time_spans(duration: object, length_s: int) -> None:
    for series in (parsed(document(value(0, 5, duration))), past([rating(0, 5, duration)])):
        assert series.edges_s.tolist() == [FIRST.timestamp(), FIRST.timestamp() + length_s]


def test_lone_value_without_a_length_is_no_answer() -> None:
    with pytest.raises(ForecastUnavailableError, match="the reply is empty"):
        past([rating(0, 70.0, "00:00:00")])


def test_empty_pages_are_left_out() -> None:
    assert grams(past(None, [rating(0, 70.0, "00:05:00")], None)) == [70]
    with pytest.raises(ForecastUnavailableError, match="the reply is empty"):
        past(None, None)


def test_values_may_come_under_either_name_and_null_is_a_gap() -> None:
    swapped = {"time": FIRST.isoformat(), "rating": 70.0, "duration": "00:05:00"}
    assert grams(parsed(document(swapped, value(1, None), value(2, 71)))) == [70, None, 71]
    assert grams(past([value(0, 70)])) == [70]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            document(value(0, 5), location="westeurope"),
            "asked for location northeurope, answered for 'westeurope'",
        ),
        (document(value(0, 5), location=None), "0.location: Input should be a valid string"),
        (
            document(value(0, float("nan"))),
            "0.forecastData.0.value: Input should be a finite number",
        ),
        (document(value(0, -1)), "intensity -1 g/kWh at 2026-07-19T13:35:00Z cannot be true"),
        (document(value(0, 5, "5 min")), "duration '5 min' is not of the form [d.]hh:mm:ss"),
        (document(value(0, 5, "-00:05:00")), "is not of the form [d.]hh:mm:ss"),
        (document(value(0, 5, -5)), "duration -5 is not within a day"),
        (document(value(0, 5, "2.00:00:00")), "duration '2.00:00:00' is not within a day"),
        (document(value(0, 5, None)), "0.forecastData.0.duration"),
        (document(value(0, 5), value(0, 6)), "two values for 2026-07-19T13:35:00Z"),
        (document(value(0, 5, 15), value(1, 5, 15)), "two intervals overlap at 2026-07-19T13:40"),
        (document(value(-9, 5)), "answered for 2026-07-19T12:50:00Z to 2026-07-19T12:55:00Z"),
        (document(value(0, 5), generatedAt="2026-07-18T13:00:00+00:00"), "25 h ago: stale"),
        (document(value(0, 5), generatedAt="yesterday"), "is not ISO 8601 with an offset"),
        ([{"location": "northeurope"}], "0.forecastData: Field required"),
        ({"title": "x"}, "the reply: Input should be a valid list"),
        (["x"], "0: Input should be a valid dictionary"),
    ],
)
def test_reply_that_cannot_be_is_refused_and_named(body: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        parsed(body)
    assert says in caught.value.message
    assert caught.value.fields == {"zone": "IE", "source": "carbon_aware_sdk"}


# ------------------------------------------------------------------------------- forecast


@pytest.mark.parametrize("is_pascal", [False, True])
@pytest.mark.parametrize("spells_singular", [False, True])
def test_every_spelling_gives_the_same(
    api: FakeCarbonAwareSdk, source: CarbonAwareSdk, *, is_pascal: bool, spells_singular: bool
) -> None:
    api.is_pascal, api.spells_singular = is_pascal, spells_singular
    # 13:35 is 400.5 + 26, 14:00 is 400.5 + 28; the past has 1 more.
    assert grams(forecast(source))[:6] == [426.5] * 5 + [428.5]
    assert grams(actuals(source))[-1] == 427.5


def test_whole_series_is_asked_for_without_bounds_or_window(
    api: FakeCarbonAwareSdk, source: CarbonAwareSdk
) -> None:
    series = forecast(source)
    assert queries(api) == [{"location": ["northeurope"]}]
    assert series.edges_s[0] == FIRST.timestamp()
    assert series.edges_s[-1] == (FIRST + 12 * HOUR + STEP).timestamp()


def test_optimal_points_are_not_needed(api: FakeCarbonAwareSdk, source: CarbonAwareSdk) -> None:
    def without(forecasts: list[dict[str, object]]) -> list[dict[str, object]]:
        del forecasts[0]["optimalDataPoints"]
        return forecasts

    api.serve_changed(without)
    assert grams(forecast(source))[0] == 426.5


def test_hourly_source_has_hours(api: FakeCarbonAwareSdk, source: CarbonAwareSdk) -> None:
    api.step = HOUR
    series = forecast(source)
    assert series.edges_s[0] == FIRST.replace(minute=0).timestamp()
    # The window begins within an hour: the page begins where that hour does.
    hour = actuals(source, Window(FIRST - 2 * HOUR, FIRST - HOUR))
    assert hour.edges_s[0] == datetime(2026, 7, 19, 11, tzinfo=UTC).timestamp()
    assert len(hour.mg_per_kwh) == 2


def test_source_that_cannot_forecast_is_named_without_another_try(
    api: FakeCarbonAwareSdk, source: CarbonAwareSdk
) -> None:
    api.can_forecast = False
    with pytest.raises(ForecastUnavailableError) as caught:
        forecast(source)
    assert caught.value.message == (
        "carbon_aware_sdk: its data source cannot serve /emissions/forecasts/current (501): "
        "NotImplementedException: The method is not implemented."
    )
    assert len(api.asked) == 1


def test_empty_answer_is_named(api: FakeCarbonAwareSdk, source: CarbonAwareSdk) -> None:
    api.serve_changed(lambda _: [])
    with pytest.raises(ForecastUnavailableError, match="reply for location northeurope is empty"):
        forecast(source)
    with pytest.raises(ForecastUnavailableError, match="carbon_aware_sdk: the reply is empty"):
        actuals(source)


def test_problem_is_explained_in_its_own_words(
    api: FakeCarbonAwareSdk, source: CarbonAwareSdk
) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        source.fetch_forecast("XX", Scope.DIRECT, AHEAD)
    assert "answered 400: ArgumentException: Location nowhere is not known" in caught.value.message
    problem = {"title": "Bad", "status": 400, "errors": {"time": ["is no time"]}, "traceId": "0"}
    api.misbehave(json_reply(problem, status=400))
    with pytest.raises(ForecastUnavailableError, match=r"Bad: \{'time': \['is no time'"):
        actuals(source)


def test_refusal_that_was_passed_on_keeps_its_status(
    api: FakeCarbonAwareSdk, source: CarbonAwareSdk
) -> None:
    api.misbehave(json_reply({"title": "WattTimeClientHttpException", "status": 403}, status=403))
    with pytest.raises(ForecastUnavailableError, match="answered 403: WattTimeClientHttpExcep"):
        forecast(source)
    assert len(api.asked) == 1


# -------------------------------------------------------------------------------- history


def test_long_past_is_asked_for_in_pages_of_10_days(
    api: FakeCarbonAwareSdk, source: CarbonAwareSdk
) -> None:
    window = Window(FIRST - timedelta(days=15), FIRST)
    series = actuals(source, window)
    assert [(query["time"], query["toTime"]) for query in queries(api)] == [
        (["2026-07-04T13:00:00Z"], ["2026-07-14T12:59:59Z"]),
        (["2026-07-14T13:00:00Z"], ["2026-07-19T13:34:59Z"]),
    ]
    assert series.integral_mg_s(window) is not None
    assert len(series.mg_per_kwh) == 15 * 288
    assert series.provenance.quality is Quality.ESTIMATED


@pytest.mark.parametrize(
    ("start", "length_h"),
    [
        ("2026-03-29T00:00:00+00:00", 23),
        ("2025-10-26T00:00:00+01:00", 25),
        ("2025-12-31T12:00:00+00:00", 24),
    ],
)
def test_local_days_of_23_and_25_hours_are_complete(
    api: FakeCarbonAwareSdk, source: CarbonAwareSdk, start: str, length_h: int
) -> None:
    start_at = datetime.fromisoformat(start).astimezone(UTC)
    series = actuals(source, Window(start_at, start_at + length_h * HOUR))
    assert grams(series) == [
        api.grams(start_at + index * STEP) + 1 for index in range(length_h * 12)
    ]


# ------------------------------------------------------------------------------ declaration


def test_declares_what_the_operator_did(source: CarbonAwareSdk) -> None:
    http = HttpClient("https://sdk.example.org")
    declared = CarbonAwareSdk(
        http,
        locations={"DE": "germany"},
        signal=SignalKind.AVERAGE,
        scope=Scope.LIFECYCLE,
        step_s=3600,
    ).info
    http.close()
    assert declared.signal is SignalKind.AVERAGE
    assert declared.scopes == {"DE": frozenset({Scope.LIFECYCLE})}
    assert declared.step_s == 3600
    assert source.info.step_s == 300


@pytest.mark.parametrize(("zone_id", "scope"), [("IEE", Scope.DIRECT), ("IE", Scope.LIFECYCLE)])
def test_zone_or_scope_that_it_has_not_is_refused_without_asking(
    api: FakeCarbonAwareSdk, source: CarbonAwareSdk, zone_id: str, scope: Scope
) -> None:
    for fetch in (source.fetch_forecast, source.fetch_actuals):
        with pytest.raises(ForecastUnavailableError, match=f"no {scope} values for zone"):
            fetch(zone_id, scope, AHEAD)
    assert api.asked == []
