"""The adapter of Great Britain's API against a fake of it: right numbers, and every fault named."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from adapters.grid.national_grid_gb import NationalGridGB
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import (
    ForecastRejectedError,
    ForecastUnavailableError,
    GridtideError,
    UpstreamError,
)
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.fakes.loopback_http import (
    Behaviour,
    cut_off,
    drip_body,
    gzip_bomb,
    json_reply,
    raw_reply,
    redirect,
    refused_url,
    reset,
    silence,
)
from tests.fakes.national_grid_gb import (
    FakeNationalGridGB,
    Period,
    bad_request,
    internal_error,
    minute,
)

# A Tuesday: the fake's forecast begins at 150 g/kWh at 00:00.
NOW = datetime(2026, 1, 20, 14, 29, 30, tzinfo=UTC)
HALF_PAST_TWO = datetime(2026, 1, 20, 14, 30, tzinfo=UTC)
TWO = datetime(2026, 1, 20, 14, 0, tzinfo=UTC)
HALF = timedelta(minutes=30)
AHEAD = Window(NOW, NOW + timedelta(days=4))
PATIENT = Limits(connect_s=10, read_s=20, total_s=30, max_body_bytes=200_000)
Fetch = Callable[[], IntensitySeries]
Served = tuple[FakeNationalGridGB, HttpClient, list[float]]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    waits: list[float] = []
    with FakeNationalGridGB(NOW) as api:
        http = client(api.url, waits)
        yield api, http, waits
        http.close()


@pytest.fixture
def api(served: Served) -> FakeNationalGridGB:
    served[0].misbehave()
    served[0].asked.clear()
    return served[0]


@pytest.fixture
def waits(served: Served) -> list[float]:
    served[2].clear()
    return served[2]


@pytest.fixture
def source(api: FakeNationalGridGB, served: Served) -> NationalGridGB:
    return NationalGridGB(served[1])


def client(url: str, waits: list[float], limits: Limits = PATIENT) -> HttpClient:
    return HttpClient(url, limits=limits, wait=waits.append)


@pytest.fixture
def forecast(source: NationalGridGB) -> Fetch:
    return lambda: source.fetch_forecast("GB", Scope.DIRECT, AHEAD)


def actuals(source: NationalGridGB, start_at: datetime, end_at: datetime) -> IntensitySeries:
    return source.fetch_actuals("GB", Scope.DIRECT, Window(start_at, end_at))


def starts(series: IntensitySeries) -> list[datetime]:
    return [datetime.fromtimestamp(int(at), UTC) for at in series.edges_s[:-1]]


def grams(series: IntensitySeries) -> list[float | None]:
    return [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]


# ------------------------------------------------------------------------------ forecast


def test_forecast_has_the_published_times_and_grams(forecast: Fetch) -> None:
    series = forecast()
    assert series.zone_id == "GB"
    assert starts(series) == [TWO + index * HALF for index in range(95)]
    assert series.edges_s[-1] == (TWO + timedelta(hours=47.5)).timestamp()
    # Tuesday 14:00 is 100 + 28 + 50; Wednesday 00:00 is 20 half-hours on: 100 + 0 + 100.
    assert grams(series)[:2] == [178, 179]
    assert grams(series)[20] == 200
    assert series.edges_s.dtype == series.mg_per_kwh.dtype == np.int64


def test_forecast_is_marked_as_average_direct_forecast(forecast: Fetch) -> None:
    provenance = forecast().provenance
    assert provenance.source == "national_grid_gb"
    assert provenance.signal is SignalKind.AVERAGE
    assert provenance.scope is Scope.DIRECT
    assert provenance.quality is Quality.FORECAST
    assert not provenance.is_fallback


@pytest.mark.parametrize(
    ("now", "asked", "first"),
    [
        (TWO, "2026-01-20T14:01Z", TWO),
        (NOW, "2026-01-20T14:01Z", TWO),
        (HALF_PAST_TWO, "2026-01-20T14:31Z", HALF_PAST_TWO),
        (
            TWO.replace(hour=23, minute=59, second=59),
            "2026-01-20T23:31Z",
            TWO.replace(hour=23, minute=30),
        ),
        (datetime(2026, 7, 1, tzinfo=UTC), "2026-07-01T00:01Z", datetime(2026, 7, 1, tzinfo=UTC)),
    ],
)
def test_one_request_a_minute_past_the_half_hour_avoids_the_one_that_has_ended(
    api: FakeNationalGridGB, source: NationalGridGB, now: datetime, asked: str, first: datetime
) -> None:
    series = source.fetch_forecast("GB", Scope.DIRECT, Window(now, now + HALF))
    assert [one.path for one in api.asked] == [f"/intensity/{asked}/fw48h"]
    assert starts(series)[0] == first
    assert api.asked[0].headers["Accept"] == "application/json"
    assert api.asked[0].headers["User-Agent"] == "gridtide"
    assert api.asked[0].headers["Host"] == api.url.removeprefix("http://")


def test_local_times_are_asked_for_in_utc(api: FakeNationalGridGB, source: NationalGridGB) -> None:
    at = datetime.fromisoformat("2026-07-01T00:10:00+01:00")
    series = source.fetch_forecast("GB", Scope.DIRECT, Window(at, at + HALF))
    assert api.asked[0].path == "/intensity/2026-06-30T23:01Z/fw48h"
    assert starts(series)[0] == datetime(2026, 6, 30, 23, tzinfo=UTC)


def test_half_hour_before_the_first_is_left_out_and_moves_nothing(
    api: FakeNationalGridGB, forecast: Fetch
) -> None:
    boundary = f"/intensity/{minute(TWO)}/fw48h"
    api.misbehave(raw_reply(api.good_body(boundary)))
    series = forecast()
    assert starts(series)[:2] == [TWO, HALF_PAST_TWO]
    assert grams(series)[:2] == [178, 179]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: list(reversed(data)),
        lambda data: data[1::2] + data[::2],
        lambda data: [*data, *data[3:9]],
        lambda data: [{**one, "generationmix": []} for one in data],
    ],
    ids=["reversed", "interleaved", "repeated", "with unknown fields"],
)
def test_order_repeats_and_unknown_fields_do_not_matter(
    api: FakeNationalGridGB, forecast: Fetch, change: Callable[[list[Period]], object]
) -> None:
    expected = forecast()
    api.serve_changed(change)
    series = forecast()
    assert series.edges_s.tolist() == expected.edges_s.tolist()
    assert series.mg_per_kwh.tolist() == expected.mg_per_kwh.tolist()


def test_half_hour_that_is_missing_is_a_gap_and_nothing_else_moves(
    api: FakeNationalGridGB, forecast: Fetch
) -> None:
    api.serve_changed(lambda data: data[:2] + data[5:])
    series = forecast()
    assert grams(series)[:4] == [178, 179, None, 183]
    assert starts(series)[:4] == [TWO, TWO + HALF, TWO + 2 * HALF, TWO + 5 * HALF]


def test_null_is_a_gap(api: FakeNationalGridGB, forecast: Fetch) -> None:
    api.serve_intensity(1, forecast=None)
    assert grams(forecast())[:3] == [178, None, 180]


def test_null_beside_a_repeated_value_is_that_value(
    api: FakeNationalGridGB, forecast: Fetch
) -> None:
    empty = {"forecast": None, "actual": None, "index": "low"}
    api.serve_changed(lambda data: [{**data[0], "intensity": empty}, *data])
    assert grams(forecast())[0] == 178


def test_shorter_forecast_is_not_stretched(api: FakeNationalGridGB, forecast: Fetch) -> None:
    api.serve_changed(lambda data: data[:-1])
    series = forecast()
    assert series.edges_s[-1] == (TWO + timedelta(hours=47)).timestamp()
    assert series.integral_mg_s(Window(NOW, NOW + timedelta(hours=47))) is None
    assert series.integral_mg_s(Window(NOW, TWO + timedelta(hours=47))) is not None


def test_data_as_a_single_object_is_a_single_half_hour(
    api: FakeNationalGridGB, forecast: Fetch
) -> None:
    api.serve_changed(lambda data: data[0])
    assert grams(forecast()) == [178]


def test_same_reply_gives_the_same_series(forecast: Fetch) -> None:
    first, second = forecast(), forecast()
    assert first.mg_per_kwh.tolist() == second.mg_per_kwh.tolist()
    assert first.provenance == second.provenance


# ------------------------------------------------------------------------------- actuals


def test_actuals_are_the_actual_values_not_the_forecasts(source: NationalGridGB) -> None:
    series = actuals(source, TWO - timedelta(hours=2), TWO)
    assert starts(series) == [TWO + index * HALF for index in range(-4, 0)]
    assert grams(series) == [174 + 5, 175 + 5, 176 + 5, 177 + 5]
    assert series.provenance.quality is Quality.ESTIMATED


def test_half_hours_not_yet_settled_are_gaps(source: NationalGridGB) -> None:
    assert grams(actuals(source, TWO - HALF, NOW)) == [182, None]
    assert grams(actuals(source, TWO, NOW)) == [None]


@pytest.mark.parametrize("after", [timedelta(), timedelta(seconds=10), timedelta(minutes=29)])
def test_young_window_asks_for_its_half_hour(
    api: FakeNationalGridGB, source: NationalGridGB, after: timedelta
) -> None:
    at = TWO - timedelta(hours=1)
    assert grams(actuals(source, at, at + after)) == [176 + 5]
    assert [one.path for one in api.asked] == ["/intensity/2026-01-20T13:01Z/2026-01-20T13:30Z"]


def test_long_window_is_asked_for_in_parts_below_14_days_and_joined(
    api: FakeNationalGridGB, source: NationalGridGB
) -> None:
    start_at = TWO - timedelta(days=30)
    series = actuals(source, start_at, TWO)
    assert [one.path for one in api.asked] == [
        "/intensity/2025-12-21T14:01Z/2026-01-04T13:00Z",
        "/intensity/2026-01-04T13:01Z/2026-01-18T12:00Z",
        "/intensity/2026-01-18T12:01Z/2026-01-20T14:00Z",
    ]
    assert starts(series) == [start_at + index * HALF for index in range(30 * 48)]
    assert grams(series) == [api.forecast_g(at) + 5 for at in starts(series)]


# ------------------------------------------------------------- an answer that cannot be


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({"forecast": 0}, "intensity 0.0 at 2026-01-20T14:30Z cannot be true"),
        ({"forecast": -1}, "intensity -1.0 at 2026-01-20T14:30Z cannot be true"),
        ({"forecast": 1001}, "intensity 1001.0 at 2026-01-20T14:30Z cannot be true"),
        ({"forecast": 1e300}, "intensity 1e+300 at 2026-01-20T14:30Z cannot be true"),
        ({"forecast": float("nan")}, "data.1.intensity.forecast: Input should be a finite number"),
        ({"forecast": float("inf")}, "data.1.intensity.forecast: Input should be a finite number"),
        ({"forecast": "many"}, "data.1.intensity.forecast: Input should be a valid number"),
        ({"forecast": True}, "data.1.intensity.forecast: Input should be a valid number"),
        ({"forecast": [1]}, "data.1.intensity.forecast: Input should be a valid number"),
    ],
)
def test_value_that_cannot_be_is_rejected_and_named(
    api: FakeNationalGridGB, forecast: Fetch, figures: dict[str, object], says: str
) -> None:
    api.serve_intensity(1, **figures)
    assert says in rejection(forecast)


def test_actual_value_that_cannot_be_is_rejected(
    api: FakeNationalGridGB, source: NationalGridGB
) -> None:
    api.serve_intensity(0, actual=-5)
    message = rejection(lambda: actuals(source, TWO - HALF, TWO))
    assert "intensity -5.0 at 2026-01-20T13:30Z cannot be true" in message


def all_null(data: list[Period]) -> list[Period]:
    return [{**one, "intensity": {"forecast": None, "actual": None}} for one in data]


def moved(by: timedelta) -> Callable[[list[Period]], list[Period]]:
    def change(data: list[Period]) -> list[Period]:
        return [
            {
                **one,
                "from": minute(TWO + index * HALF + by),
                "to": minute(TWO + (index + 1) * HALF + by),
            }
            for index, one in enumerate(data)
        ]

    return change


def without(field: str) -> Callable[[list[Period]], object]:
    return lambda data: [{key: one[key] for key in one if key != field} for one in data]


def with_times(begins: str, ends: str) -> Callable[[list[Period]], object]:
    return lambda data: [{**data[0], "from": begins, "to": ends}, *data[1:]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (moved(timedelta(hours=-2)), "answered for 2026-01-20T12:00Z: stale"),
        (moved(timedelta(days=-365)), "answered for 2025-01-20T14:00Z: stale"),
        (
            lambda data: moved(timedelta(days=1))(data[:1]),
            "asked from 2026-01-20T14:00:00Z, answered from 2026-01-21T14:00:00Z",
        ),
        (
            moved(timedelta(days=3)),
            "asked for 2026-01-20T14:00:00Z to 2026-01-22T14:00:00Z, answered for 2026-01-23T14:00Z",
        ),
        (
            lambda data: moved(timedelta(minutes=-30))(data[:1]),
            "answered for 2026-01-20T13:30:00Z to 2026-01-20T14:00:00Z",
        ),
        (
            moved(timedelta(minutes=15)),
            "2026-01-20T14:15Z to 2026-01-20T14:45Z is not half an hour of the clock",
        ),
        (with_times("2026-01-20T14:00Z", "2026-01-20T15:00Z"), "is not half an hour of the clock"),
        (with_times("2026-01-20T14:30Z", "2026-01-20T14:00Z"), "is not half an hour of the clock"),
        (
            with_times("2026-01-20T14:00", "2026-01-20T14:30Z"),
            "time '2026-01-20T14:00' is not of the form YYYY-MM-DDThh:mmZ",
        ),
        (
            with_times("2026-01-20T14:00:00Z", "2026-01-20T14:30Z"),
            "is not of the form YYYY-MM-DDThh:mmZ",
        ),
        (
            with_times("0001-01-01T00:00Z", "0001-01-01T00:30Z"),
            "answered for 0001-01-01T00:00Z: stale",
        ),
        (with_times("9999-12-31T23:00Z", "9999-12-31T23:30Z"), "answered for 9999-12-31T23:00Z"),
        (
            lambda data: [*data, {**data[0], "intensity": {"forecast": 7}}],
            "two values for 2026-01-20T14:00:00Z: 178.0 and 7.0",
        ),
        (without("from"), "data.0.from: Field required"),
        (without("to"), "data.0.to: Field required"),
        (without("intensity"), "data.0.intensity: Field required"),
        (lambda data: [*data[:3], None], "data.3: Input should be a valid dictionary"),
        (lambda data: [*data[:3], "x" * 10_000], "data.3: Input should be a valid dictionary"),
        (lambda data: {"regionid": 13, "data": data}, "data.0.intensity: Field required"),
        (lambda data: None, "the reply has no data: {'data': None}"),
        (lambda data: "2026", "the reply has no data: {'data': '2026'}"),
    ],
)
def test_reply_of_another_shape_or_time_is_rejected_and_named(
    api: FakeNationalGridGB,
    forecast: Fetch,
    change: Callable[[list[Period]], object],
    says: str,
) -> None:
    api.serve_changed(change)
    message = rejection(forecast)
    assert says in message
    assert len(message) < 300


@pytest.mark.parametrize("document", [{"error": {"message": "maintenance"}}, [], 7, None, "ok"])
def test_document_without_data_is_rejected_and_shown(
    api: FakeNationalGridGB, forecast: Fetch, document: Any
) -> None:
    api.misbehave(json_reply(document))
    assert f"the reply has no data: {document!r}" in rejection(forecast)


def rejection(fetch: Fetch) -> str:
    with pytest.raises(ForecastRejectedError) as caught:
        fetch()
    assert caught.value.fields == {"zone": "GB", "source": "national_grid_gb"}
    assert caught.value.message.startswith("national_grid_gb: ")
    return caught.value.message


def test_stale_actuals_are_rejected(api: FakeNationalGridGB, source: NationalGridGB) -> None:
    api.serve_changed(moved(timedelta(days=-30)))
    message = rejection(lambda: actuals(source, TWO, NOW))
    assert "answered for 2025-12-21T14:00Z: stale" in message


# ----------------------------------------------------------------------- no usable answer


def test_empty_list_is_no_answer(
    api: FakeNationalGridGB, source: NationalGridGB, forecast: Fetch
) -> None:
    api.misbehave(always=json_reply({"data": []}))
    for fetch in (forecast, lambda: actuals(source, TWO, NOW)):
        with pytest.raises(ForecastUnavailableError, match="national_grid_gb: the reply is empty"):
            fetch()


def test_forecast_without_a_value_is_no_answer_and_a_past_without_one_a_gap(
    api: FakeNationalGridGB, source: NationalGridGB, forecast: Fetch
) -> None:
    api.serve_changed(all_null)
    with pytest.raises(ForecastUnavailableError, match="no value from 2026-01-20T14:00:00Z to "):
        forecast()
    assert grams(actuals(source, TWO, NOW)) == [None]


@pytest.mark.parametrize(
    ("behaviour", "says", "tries"),
    [
        (reset, "no answer: ReadError (3 tries)", 3),
        (cut_off(b'{"data": []}'), "no answer: RemoteProtocolError (3 tries)", 3),
        (internal_error(), "answered 500 (3 tries)", 3),
        (raw_reply(b"<html>", status=503, content_type="text/html"), "answered 503 (3 tries)", 3),
        (json_reply({}, status=429), "answered 429 (3 tries)", 3),
        (bad_request(), "answered 400", 1),
        (json_reply({}, status=401), "answered 401", 1),
        (json_reply({}, status=403), "answered 403", 1),
        (raw_reply(b"<html>", status=404, content_type="text/html"), "answered 404", 1),
        (redirect("/intensity"), "redirects more than 3 times", 4),
        (raw_reply(b"<html>", content_type="text/html"), "text/html instead of JSON", 1),
        (raw_reply(b'{"data": []}', content_type="text/plain"), "text/plain instead of JSON", 1),
        (raw_reply(b'{"data": [{"from": "2026-'), "broken JSON", 1),
        (raw_reply(b""), "broken JSON", 1),
        (gzip_bomb(20_000_000), "more than 200000 bytes", 1),
        (raw_reply(b'{"data": [' + b" " * 10_000_000), "more than 200000 bytes", 1),
    ],
)
def test_fault_of_the_server_is_no_answer_and_named(
    api: FakeNationalGridGB,
    forecast: Fetch,
    waits: list[float],
    behaviour: Behaviour,
    says: str,
    tries: int,
) -> None:
    api.misbehave(always=behaviour)
    tracemalloc.start()
    try:
        with pytest.raises(ForecastUnavailableError) as caught:
            forecast()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.message.startswith(f"{api.url}/intensity/2026-01-20T14:01Z/fw48h ")
    assert says in caught.value.message
    assert len(api.asked) == tries
    assert len(waits) == (2 if tries == 3 else 0)
    assert peak < 4_000_000


@pytest.mark.parametrize(
    ("behaviour", "limits", "says"),
    [
        (silence, Limits(read_s=0.1), "no answer: ReadTimeout (3 tries)"),
        (drip_body(), Limits(total_s=0.3), "took longer than 0.3 s (3 tries)"),
    ],
)
def test_server_that_is_too_slow_is_no_answer(
    api: FakeNationalGridGB, waits: list[float], behaviour: Behaviour, limits: Limits, says: str
) -> None:
    api.misbehave(always=behaviour)
    http = client(api.url, waits, limits)
    with pytest.raises(ForecastUnavailableError) as caught:
        NationalGridGB(http).fetch_forecast("GB", Scope.DIRECT, AHEAD)
    http.close()
    assert says in caught.value.message
    assert (len(api.asked), len(waits)) == (3, 2)


def test_server_that_is_not_there_is_no_answer(waits: list[float]) -> None:
    http = client(refused_url(), waits)
    with pytest.raises(ForecastUnavailableError, match=r"no answer: ConnectError \(3 tries\)"):
        NationalGridGB(http).fetch_forecast("GB", Scope.DIRECT, AHEAD)
    http.close()


def test_retry_after_is_waited_for_and_the_good_answer_taken(
    api: FakeNationalGridGB, forecast: Fetch, waits: list[float]
) -> None:
    api.misbehave(
        json_reply({}, status=429, headers={"Retry-After": "4"}),
        json_reply({}, status=503, headers={"Retry-After": "3600"}),
    )
    assert grams(forecast())[0] == 178
    assert waits == [4, 30]
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    ("zone_id", "scope", "says"),
    [
        ("DE", Scope.DIRECT, "known: GB"),
        ("gb", Scope.DIRECT, "did you mean GB?"),
        ("", Scope.DIRECT, "known: GB"),
        ("GB", Scope.LIFECYCLE, "it has direct values"),
    ],
)
def test_zone_or_scope_that_it_has_not_is_refused_without_asking(
    api: FakeNationalGridGB, source: NationalGridGB, zone_id: str, scope: Scope, says: str
) -> None:
    for fetch in (source.fetch_forecast, source.fetch_actuals):
        with pytest.raises(ForecastUnavailableError) as caught:
            fetch(zone_id, scope, AHEAD)
        assert f"no {scope} values for zone {zone_id!r}; {says}" in caught.value.message
    assert api.asked == []


def test_every_error_is_one_of_ours_whatever_json_arrives(
    api: FakeNationalGridGB, forecast: Fetch
) -> None:
    strange: list[object] = [
        {"data": [{"from": 1, "to": 2, "intensity": 3}]},
        {"data": [[]]},
        {"data": [{}]},
        {"data": {}},
        {"data": 0},
        {"data": [{"from": "", "to": "", "intensity": {}}]},
        {"data": [{"from": "\x00", "to": "x", "intensity": {"forecast": 10**400}}]},
    ]
    for document in strange:
        api.misbehave(json_reply(json.loads(json.dumps(document))))
        with pytest.raises(GridtideError) as caught:
            forecast()
        assert isinstance(caught.value, UpstreamError)
