"""One suite for every `WeatherSource`. A new one joins by an entry in `CASES`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from adapters.http_client import HttpClient, Limits
from adapters.weather.open_meteo import OpenMeteo
from adapters.weather.possible import POSSIBLE
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecasting.weather import VARIABLES, WeatherRun, WeatherRuns
from scheduler.ports import WeatherSource
from tests.conformance.source_case import HOUR, NOW
from tests.fakes.clock import ManualClock
from tests.fakes.open_meteo import FakeOpenMeteo

DAY = timedelta(days=1)
HOUR_S = 3600


@dataclass(frozen=True)
class Case:
    """A source and what is known about it by other means.

    Args:
        weather: values of a zone in the order of `VARIABLES`, of the hour that begins then.
        ahead: how far the newest forecast knows all of them.
        past: how far back there are runs.
        misspelt: a name near `zone_id` that it does not have.
    """

    source: WeatherSource
    zone_id: str
    weather: Callable[[datetime], tuple[float, ...]]
    ahead: timedelta
    past: timedelta
    misspelt: str


@contextmanager
def open_meteo() -> Iterator[Case]:
    place = (48.9, 2.4)

    def weather(at: datetime) -> tuple[float, ...]:
        warmth = api.temperature_c(at, *place)
        return (
            api.wind_ms(at, *place),
            api.sun_wm2(at, *place),
            warmth,
            warmth - 5,
            api.rain_mm(at, *place),
        )

    with FakeOpenMeteo(NOW) as api:
        http = HttpClient(api.url, limits=Limits(attempts=1))
        yield Case(
            source=OpenMeteo(http, clock=ManualClock(NOW), places={"FR": [place], "DE": [place]}),
            zone_id="FR",
            weather=weather,
            ahead=6 * DAY,
            past=92 * DAY,
            misspelt="FRA",
        )
        http.close()


CASES: dict[str, Callable[[], AbstractContextManager[Case]]] = {"open_meteo": open_meteo}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with CASES[request.param]() as made:
        yield made


@pytest.fixture(scope="module")
def runs(case: Case) -> tuple[WeatherRun, ...]:
    """Of all the past that there is."""
    return case.source.fetch_runs(case.zone_id, NOW - case.past)


def test_it_is_the_port_and_declares_the_same_every_time(case: Case) -> None:
    assert isinstance(case.source, WeatherSource)
    assert case.source.info == case.source.info


def test_declaration_is_complete(case: Case) -> None:
    info = case.source.info
    assert info.name
    assert info.attribution
    assert case.zone_id in info.zone_ids
    assert info.cadence_s > 0


def test_every_declared_zone_is_served(case: Case) -> None:
    for zone_id in case.source.info.zone_ids:
        assert case.source.fetch_runs(zone_id, NOW)


def test_runs_are_in_order_of_issue_from_the_day_of_since_to_now(
    case: Case, runs: tuple[WeatherRun, ...]
) -> None:
    issued = [run.issued_s for run in runs]
    assert issued == sorted(set(issued))
    first = datetime.fromtimestamp(issued[0], UTC)
    assert (NOW - case.past).date() <= first.date() <= (NOW - case.past + DAY).date()
    assert NOW - HOUR <= datetime.fromtimestamp(issued[-1], UTC) <= NOW


def test_arrays_have_their_types_and_shapes_and_plausible_values(
    runs: tuple[WeatherRun, ...],
) -> None:
    for run in runs:
        assert run.times_s.dtype == np.int64
        assert run.values.dtype == np.float64
        assert run.values.shape == (len(run.times_s), len(VARIABLES))
        assert (np.diff(run.times_s) > 0).all()
        for index, variable in enumerate(VARIABLES):
            known = run.values[~np.isnan(run.values[:, index]), index]
            low, high = POSSIBLE[variable]
            assert ((known >= low) & (known <= high)).all()


def test_newest_run_covers_now_and_what_was_promised(
    case: Case, runs: tuple[WeatherRun, ...]
) -> None:
    newest = runs[-1]
    is_needed = (newest.times_s >= NOW.timestamp()) & (
        newest.times_s < (NOW + case.ahead).timestamp()
    )
    assert newest.times_s[0] <= NOW.timestamp()
    assert is_needed.sum() >= case.ahead // (6 * HOUR)
    assert not np.isnan(newest.values[is_needed]).any()


def test_values_are_those_known_by_other_means_each_at_its_hour(
    case: Case, runs: tuple[WeatherRun, ...]
) -> None:
    # Rounded to tenths on the way.
    for run in (runs[0], runs[-2], runs[-1]):
        for at_s, values in zip(run.times_s, run.values, strict=True):
            if not np.isnan(values).any():
                at = datetime.fromtimestamp(int(at_s), UTC)
                assert values == pytest.approx(case.weather(at), abs=0.051)


def test_core_finds_weather_for_every_hour_of_the_past_and_the_horizon(
    case: Case, runs: tuple[WeatherRun, ...]
) -> None:
    now = int(NOW.timestamp()) // HOUR_S
    hours = np.arange(now - (case.past - 2 * DAY) // HOUR, now + case.ahead // HOUR)
    found = WeatherRuns(runs).at(hours, np.minimum(hours, now))
    assert not np.isnan(found).any()


def test_less_past_is_the_end_of_more(case: Case, runs: tuple[WeatherRun, ...]) -> None:
    for since in (NOW + 9 * DAY, NOW, NOW - 3 * DAY):
        part = case.source.fetch_runs(case.zone_id, since)
        assert [run.issued_s for run in part] == [run.issued_s for run in runs[-len(part) :]]
        for one, other in zip(part, runs[-len(part) :], strict=True):
            assert one.values == pytest.approx(other.values, nan_ok=True)


def test_offset_of_since_does_not_matter(case: Case) -> None:
    since = (NOW - 3 * DAY).astimezone(timezone(timedelta(hours=-9, minutes=-30)))
    local = case.source.fetch_runs(case.zone_id, since)
    assert [run.issued_s for run in local] == [
        run.issued_s for run in case.source.fetch_runs(case.zone_id, NOW - 3 * DAY)
    ]


def test_unknown_zone_is_an_error_with_the_nearest_name(case: Case) -> None:
    with pytest.raises(ForecastUnavailableError) as caught:
        case.source.fetch_runs(case.misspelt, NOW)
    assert repr(case.misspelt) in caught.value.message
    assert case.zone_id in caught.value.message.replace(case.misspelt, "")
    assert caught.value.fields == {"zone": case.misspelt, "source": case.source.info.name}
