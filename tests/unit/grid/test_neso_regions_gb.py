"""The adapter of Great Britain's regions: forecasts only, one region a request."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from adapters.grid.neso_regions_gb import REGIONS, NesoRegionsGB, parse_forecast
from adapters.http_client import HttpClient, Limits
from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError
from scheduler.core.forecast import GAP_MG, IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from scheduler.ports import HistorySource
from tests.fakes.loopback_http import raw_reply
from tests.fakes.neso_regions_gb import SHORT_NAMES, FakeNesoRegionsGB, Region

NOW = datetime(2026, 1, 20, 14, 29, 30, tzinfo=UTC)
TWO = datetime(2026, 1, 20, 14, tzinfo=UTC)
HALF = timedelta(minutes=30)
AHEAD = Window(NOW, NOW + timedelta(days=4))
FIELDS = {"zone": "GB-London", "source": "neso_regions_gb"}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FakeNesoRegionsGB, NesoRegionsGB]]:
    with FakeNesoRegionsGB(NOW) as api:
        http = HttpClient(api.url, limits=Limits(attempts=1))
        yield api, NesoRegionsGB(http)
        http.close()


@pytest.fixture
def api(served: tuple[FakeNesoRegionsGB, NesoRegionsGB]) -> FakeNesoRegionsGB:
    served[0].misbehave()
    served[0].asked.clear()
    return served[0]


@pytest.fixture
def source(
    api: FakeNesoRegionsGB, served: tuple[FakeNesoRegionsGB, NesoRegionsGB]
) -> NesoRegionsGB:
    return served[1]


def forecast(source: NesoRegionsGB, zone_id: str = "GB-London") -> IntensitySeries:
    return source.fetch_forecast(zone_id, Scope.DIRECT, AHEAD)


def starts(series: IntensitySeries) -> list[datetime]:
    return [datetime.fromtimestamp(int(at), UTC) for at in series.edges_s[:-1]]


def grams(series: IntensitySeries) -> list[float | None]:
    return [None if mg == GAP_MG else int(mg) / 1000 for mg in series.mg_per_kwh]


def test_region_is_asked_for_by_its_number_a_minute_past_the_half_hour(
    api: FakeNesoRegionsGB, source: NesoRegionsGB
) -> None:
    series = forecast(source)
    assert [one.path for one in api.asked] == [
        "/regional/intensity/2026-01-20T14:01Z/fw48h/regionid/13"
    ]
    assert series.zone_id == "GB-London"
    assert starts(series) == [TWO + index * HALF for index in range(95)]
    # Region 13 at 14:00: 130 + 28.
    assert grams(series)[:2] == [158, 159]
    provenance = series.provenance
    assert (provenance.source, provenance.quality) == ("neso_regions_gb", Quality.FORECAST)
    assert (provenance.signal, provenance.scope) == (SignalKind.AVERAGE, Scope.DIRECT)


@pytest.mark.parametrize("zone_id", REGIONS)
def test_every_zone_is_the_region_of_that_name(
    api: FakeNesoRegionsGB, source: NesoRegionsGB, zone_id: str
) -> None:
    region_id = REGIONS[zone_id]
    name = SHORT_NAMES[region_id].replace(" & ", " ").replace(" ", "-")
    assert zone_id == f"GB-{name}"
    assert grams(forecast(source, zone_id))[0] == 10 * region_id + 28


def test_all_17_regions_are_served_and_have_no_history(source: NesoRegionsGB) -> None:
    assert sorted(REGIONS.values()) == list(range(1, 18))
    assert source.info.zone_ids == frozenset(REGIONS)
    assert source.info.history_s == 0
    assert not isinstance(source, HistorySource)


def test_region_in_a_list_is_read_like_the_bare_object(
    api: FakeNesoRegionsGB, source: NesoRegionsGB
) -> None:
    expected = forecast(source)
    api.serve_region(lambda region: [region])
    assert forecast(source).mg_per_kwh.tolist() == expected.mg_per_kwh.tolist()


def test_null_and_missing_half_hours_are_gaps_and_zero_is_a_value(
    api: FakeNesoRegionsGB, source: NesoRegionsGB
) -> None:
    def change(region: Region) -> Region:
        region["data"][0]["intensity"]["forecast"] = 0
        region["data"][1]["intensity"]["forecast"] = None
        del region["data"][2]
        return region

    api.serve_region(change)
    # Wind alone has no direct emissions: 0 is common in Scotland.
    assert grams(forecast(source))[:4] == [0, None, None, 161]


def half_hour(begins: str, ends: str, value: object) -> Region:
    return {"from": begins, "to": ends, "intensity": {"forecast": value, "index": "low"}}


GOOD = half_hour("2026-01-20T14:00Z", "2026-01-20T14:30Z", 198)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"regionid": 12, "data": [GOOD]}, "asked for region 13, answered for 12"),
        (
            [{"regionid": 13, "data": [GOOD]}, {"regionid": 14, "data": [GOOD]}],
            "asked for region 13, answered for 14",
        ),
        ({"data": [GOOD]}, "data.0.regionid: Field required"),
        ({"regionid": "13", "data": [GOOD]}, "data.0.regionid: Input should be a valid integer"),
        ({"regionid": 13}, "data.0.data: Field required"),
        ({"regionid": 13, "data": {"from": 1}}, "data.0.data: Input should be a valid list"),
        ({"regionid": 13, "data": [7]}, "data.0: Input should be a valid dictionary"),
        ([GOOD], "data.0.regionid: Field required"),
        (None, "the reply has no data"),
        ("London", "the reply has no data"),
        (
            {"regionid": 13, "data": [{**GOOD, "intensity": {"forecast": -1}}]},
            "intensity -1.0 at 2026-01-20T14:00Z cannot be true for GB-London",
        ),
        (
            {"regionid": 13, "data": [{**GOOD, "intensity": {"forecast": 1001}}]},
            "intensity 1001.0 at 2026-01-20T14:00Z cannot be true for GB-London",
        ),
        (
            {"regionid": 13, "data": [{**GOOD, "intensity": {"forecast": float("nan")}}]},
            "data.0.intensity.forecast: Input should be a finite number",
        ),
        (
            {"regionid": 13, "data": [GOOD, {**GOOD, "intensity": {"forecast": 1}}]},
            "two values for 2026-01-20T14:00:00Z: 198.0 and 1.0",
        ),
        (
            {"regionid": 13, "data": [half_hour("2026-01-20T11:00Z", "2026-01-20T11:30Z", 1)]},
            "answered for 2026-01-20T11:00Z: stale",
        ),
        (
            {"regionid": 13, "data": [half_hour("2026-01-20T15:00Z", "2026-01-20T15:30Z", 1)]},
            "asked from 2026-01-20T14:00:00Z, answered from 2026-01-20T15:00:00Z",
        ),
        (
            {"regionid": 13, "data": [half_hour("2026-01-20T14:00:00Z", "2026-01-20T14:30Z", 1)]},
            "is not of the form YYYY-MM-DDThh:mmZ",
        ),
        (
            {"regionid": 13, "data": [half_hour("2026-01-20T14:00Z", "2026-01-20T15:00Z", 1)]},
            "is not half an hour of the clock",
        ),
    ],
)
def test_reply_that_cannot_be_is_rejected_and_named(data: object, says: str) -> None:
    with pytest.raises(ForecastRejectedError) as caught:
        parse_forecast({"data": data}, "GB-London", TWO)
    assert says in caught.value.message
    assert caught.value.message.startswith("neso_regions_gb: ")
    assert caught.value.fields == FIELDS
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("data", [[], {"regionid": 13, "data": []}])
def test_reply_without_half_hours_is_no_answer(data: object) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        parse_forecast({"data": data}, "GB-London", TWO)
    assert caught.value.message == "neso_regions_gb: the reply is empty"
    assert caught.value.fields == FIELDS


def test_reply_without_a_value_is_no_answer() -> None:
    data = {"regionid": 13, "data": [{**GOOD, "intensity": {}}]}
    with pytest.raises(ForecastUnavailableError, match="no value from 2026-01-20T14:00:00Z"):
        parse_forecast({"data": data}, "GB-London", TWO)


def test_empty_body_is_no_answer(api: FakeNesoRegionsGB, source: NesoRegionsGB) -> None:
    api.misbehave(raw_reply(b""))
    with pytest.raises(ForecastUnavailableError, match="broken JSON"):
        forecast(source)


@pytest.mark.parametrize(
    ("start_at", "path"),
    [
        # Clocks go forward at 01:00 UTC on 29 March and back at 01:00 UTC on 25 October.
        (datetime(2026, 3, 28, 23, 50, tzinfo=UTC), "2026-03-28T23:31Z"),
        (datetime(2026, 10, 25, 0, 10, tzinfo=UTC), "2026-10-25T00:01Z"),
        (datetime(2026, 12, 31, 12, 0, tzinfo=UTC), "2026-12-31T12:01Z"),
    ],
)
def test_forecast_over_a_change_of_clocks_or_year_has_no_hole_and_no_repeat(
    api: FakeNesoRegionsGB, source: NesoRegionsGB, start_at: datetime, path: str
) -> None:
    window = Window(start_at, start_at + timedelta(hours=47))
    series = source.fetch_forecast("GB-Wales", Scope.DIRECT, window)
    assert api.asked[0].path.split("/")[3] == path
    first = starts(series)[0]
    assert starts(series) == [first + index * HALF for index in range(95)]
    assert grams(series) == [api.region_g(17, at) for at in starts(series)]


@pytest.mark.parametrize(
    ("zone_id", "scope", "says"),
    [
        ("GB-Lond", Scope.DIRECT, "did you mean GB-London"),
        ("gb-london", Scope.DIRECT, "did you mean GB-London"),
        ("GB", Scope.DIRECT, "known: GB-"),
        ("GB-London", Scope.LIFECYCLE, "it has direct values"),
    ],
)
def test_zone_or_scope_that_it_has_not_is_refused_without_asking(
    api: FakeNesoRegionsGB, source: NesoRegionsGB, zone_id: str, scope: Scope, says: str
) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        source.fetch_forecast(zone_id, scope, AHEAD)
    assert f"no {scope} values for zone {zone_id!r}; " in caught.value.message
    assert says in caught.value.message
    assert caught.value.fields == {"zone": zone_id, "source": "neso_regions_gb"}
    assert api.asked == []


def test_fake_refuses_what_the_provider_does(api: FakeNesoRegionsGB) -> None:
    http = HttpClient(api.url, limits=Limits(attempts=1))
    fetches: list[Callable[[], object]] = [
        lambda: http.get_json("/regional/intensity/2026-01-20T14:01:00Z/fw48h/regionid/13"),
        lambda: http.get_json("/regional/intensity/2026-01-20T14:01Z/fw48h/regionid/18"),
    ]
    for fetch in fetches:
        with pytest.raises(ForecastUnavailableError) as caught:
            fetch()
        assert caught.value.fields["status"] == 400
        assert '"400 Bad Request"' in str(caught.value.fields["answer"])
    http.close()
