"""One suite for every `IntensityArchive`. A new one joins by an entry in `ARCHIVES`."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.forecast import GAP_MG, IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.forecasting.weather import VARIABLES, WeatherRun
from scheduler.ports import FetchState, IntensityArchive, SeriesKey
from scheduler.service.sparing_archive import SparingArchive
from tests.fakes.broken_archive import BrokenArchive

KEY = SeriesKey("live", "DE", SignalKind.AVERAGE, Scope.LIFECYCLE)
OTHER = replace(KEY, zone_id="FR")
NOW_S = 1_772_409_600
HOUR = 3600


def in_memory(_: Path) -> IntensityArchive:
    return SqliteIntensityArchive(None)


def in_file(folder: Path) -> IntensityArchive:
    return SqliteIntensityArchive(folder / "new" / "intensity.db")


def sparing(folder: Path) -> IntensityArchive:
    return SparingArchive(SqliteIntensityArchive(folder / "a.db"), SqliteIntensityArchive(None))


def sparing_over_a_broken_one(_: Path) -> IntensityArchive:
    return SparingArchive(BrokenArchive(), SqliteIntensityArchive(None))


def sparing_without_a_first(_: Path) -> IntensityArchive:
    return SparingArchive(None, SqliteIntensityArchive(None), error="could not be opened")


ARCHIVES = [in_memory, in_file, sparing, sparing_over_a_broken_one, sparing_without_a_first]


@pytest.fixture(params=ARCHIVES, ids=lambda one: one.__name__)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IntensityArchive]:
    opened: Callable[[Path], IntensityArchive] = request.param
    made = opened(tmp_path)
    yield made
    made.close()


def series(
    mg: list[int],
    *,
    start_s: int = NOW_S,
    step_s: int = HOUR,
    quality: Quality = Quality.MEASURED,
    key: SeriesKey = KEY,
) -> IntensitySeries:
    return IntensitySeries(
        zone_id=key.zone_id,
        edges_s=start_s + np.arange(len(mg) + 1) * step_s,
        mg_per_kwh=np.array(mg),
        provenance=Provenance(
            source=key.source, signal=key.signal, scope=key.scope, quality=quality
        ),
    )


def values(archive: IntensityArchive, **fields: int | None) -> list[int] | None:
    asked: dict[str, int | None] = {"since_s": NOW_S - 10 * HOUR, "until_s": NOW_S + 10 * HOUR}
    found = archive.actuals(KEY, **(asked | fields))  # type: ignore[arg-type]
    return None if found is None else found.mg_per_kwh.tolist()


# ---------------------------------------------------------------------------------- claims


def claim(archive: IntensityArchive, at_s: int, key: SeriesKey = KEY) -> FetchState | None:
    return archive.claim(key, now_s=at_s, until_s=at_s + 600)


def test_only_one_may_fetch_until_it_is_done(archive: IntensityArchive) -> None:
    assert claim(archive, NOW_S) == FetchState()
    assert claim(archive, NOW_S + 1) is None
    assert claim(archive, NOW_S + 1, OTHER) is not None
    archive.put_state(KEY, FetchState(tried_s=NOW_S, next_s=NOW_S + 50))
    assert claim(archive, NOW_S + 49) is None
    assert claim(archive, NOW_S + 50) == FetchState(tried_s=NOW_S, next_s=NOW_S + 50)


def test_claim_of_one_that_died_ends_by_itself(archive: IntensityArchive) -> None:
    assert claim(archive, NOW_S) is not None
    assert claim(archive, NOW_S + 599) is None
    assert claim(archive, NOW_S + 600) is not None


def test_claim_that_is_renewed_lasts_longer(archive: IntensityArchive) -> None:
    archive.renew(KEY, until_s=NOW_S + 600)
    assert claim(archive, NOW_S) is not None
    archive.renew(KEY, until_s=NOW_S + 900)
    assert claim(archive, NOW_S + 899) is None
    assert claim(archive, NOW_S + 900) is not None
    archive.put_state(KEY, FetchState())
    archive.renew(KEY, until_s=NOW_S + 9000)
    assert claim(archive, NOW_S + 900) is not None


def test_own_claim_is_not_that_of_another_process(archive: IntensityArchive) -> None:
    assert archive.claimed_until_s(KEY, now_s=NOW_S) is None
    assert claim(archive, NOW_S) is not None
    assert archive.claimed_until_s(KEY, now_s=NOW_S) is None


def test_what_a_clock_that_ran_ahead_wrote_stops_no_fetch(archive: IntensityArchive) -> None:
    year_s = 366 * 86_400
    assert claim(archive, NOW_S + year_s) is not None
    assert claim(archive, NOW_S) is not None
    ahead = FetchState(tried_s=NOW_S + year_s, next_s=NOW_S + year_s + 1800)
    archive.put_state(KEY, ahead)
    assert claim(archive, NOW_S) == ahead


def test_clock_that_was_set_back_a_little_asks_no_more_often(archive: IntensityArchive) -> None:
    archive.put_state(KEY, FetchState(tried_s=NOW_S, next_s=NOW_S + 1800))
    assert claim(archive, NOW_S - 300) is None


def test_state_is_what_was_put(archive: IntensityArchive) -> None:
    assert archive.state(KEY) == FetchState()
    state = FetchState(
        tried_s=NOW_S, fetched_s=5, failures=2, next_s=7, reached_s=-3, error="ä is 'down'"
    )
    archive.put_state(KEY, state)
    assert archive.state(KEY) == state
    assert archive.state(OTHER) == FetchState()


def test_many_threads_make_one_claim(archive: IntensityArchive) -> None:
    got: list[FetchState | None] = []
    start = threading.Barrier(8)

    def run() -> None:
        start.wait()
        got.append(claim(archive, NOW_S))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one for one in got if one is not None] == [FetchState()]
    assert len(got) == 8


# --------------------------------------------------------------------------------- actuals


def test_nothing_is_known_at_first(archive: IntensityArchive) -> None:
    assert values(archive) is None
    assert archive.vintages(KEY, since_s=0) == []
    assert archive.runs("DE", since_s=0) == []
    assert archive.known_series() == []


def test_actuals_come_back_with_gaps_and_the_worst_quality(archive: IntensityArchive) -> None:
    assert archive.add_actuals(KEY, series([5, GAP_MG, GAP_MG, 8]), seen_s=NOW_S) == 2
    estimated = series([9], start_s=NOW_S + 4 * HOUR, quality=Quality.ESTIMATED)
    assert archive.add_actuals(KEY, estimated, seen_s=NOW_S) == 1
    found = archive.actuals(KEY, since_s=NOW_S, until_s=NOW_S + 5 * HOUR)
    assert found is not None
    assert found.zone_id == "DE"
    assert ((found.edges_s - NOW_S) // HOUR).tolist() == [0, 1, 3, 4, 5]
    assert found.mg_per_kwh.tolist() == [5, GAP_MG, 8, 9]
    assert found.provenance == replace(estimated.provenance, issued_at=None)


def test_only_intervals_that_touch_the_stretch_come(archive: IntensityArchive) -> None:
    archive.add_actuals(KEY, series([1, 2, 3, 4]), seen_s=NOW_S)
    assert values(archive, since_s=NOW_S + HOUR, until_s=NOW_S + 2 * HOUR) == [2]
    assert values(archive, since_s=NOW_S + HOUR - 1, until_s=NOW_S + 2 * HOUR + 1) == [1, 2, 3]
    assert values(archive, since_s=NOW_S + 4 * HOUR, until_s=NOW_S + 9 * HOUR) is None


def test_a_series_of_gaps_adds_nothing(archive: IntensityArchive) -> None:
    assert archive.add_actuals(KEY, series([GAP_MG, GAP_MG]), seen_s=NOW_S) == 0
    assert archive.known_series() == []


def test_revisions_are_kept_beside_what_they_revise(archive: IntensityArchive) -> None:
    archive.add_actuals(KEY, series([1, 2]), seen_s=NOW_S)
    assert archive.add_actuals(KEY, series([1, 2]), seen_s=NOW_S + 10) == 0
    assert archive.add_actuals(KEY, series([1, 7]), seen_s=NOW_S + 20) == 1
    assert values(archive) == [1, 7]
    assert values(archive, seen_by_s=NOW_S + 20) == [1, 7]
    assert values(archive, seen_by_s=NOW_S + 19) == [1, 2]
    assert values(archive, seen_by_s=NOW_S - 1) is None
    better = series([1, 7], quality=Quality.ESTIMATED)
    assert archive.add_actuals(KEY, better, seen_s=NOW_S + 30) == 2


def test_a_gap_takes_back_no_value(archive: IntensityArchive) -> None:
    archive.add_actuals(KEY, series([1, 2]), seen_s=NOW_S)
    assert archive.add_actuals(KEY, series([GAP_MG, 2]), seen_s=NOW_S + 1) == 0
    assert values(archive) == [1, 2]


def test_revision_by_a_clock_that_was_set_back_counts(archive: IntensityArchive) -> None:
    archive.add_actuals(KEY, series([1]), seen_s=NOW_S + 86_400)
    archive.add_actuals(KEY, series([2]), seen_s=NOW_S)
    assert values(archive) == [2]


def test_finer_steps_replace_coarser_ones_as_far_as_they_come(archive: IntensityArchive) -> None:
    archive.add_actuals(KEY, series([1, 2]), seen_s=NOW_S)
    quarters = series([5, 6], start_s=NOW_S + 1800, step_s=900)
    archive.add_actuals(KEY, quarters, seen_s=NOW_S + 1)
    found = archive.actuals(KEY, since_s=NOW_S, until_s=NOW_S + 2 * HOUR)
    assert found is not None
    assert ((found.edges_s - NOW_S) // 900).tolist() == [0, 2, 3, 4, 8]
    assert found.mg_per_kwh.tolist() == [1, 5, 6, 2]
    assert values(archive, seen_by_s=NOW_S) == [1, 2]


def test_coarser_steps_replace_finer_ones(archive: IntensityArchive) -> None:
    archive.add_actuals(KEY, series([1, 2, 3, 4, 5, 6, 7, 8], step_s=900), seen_s=NOW_S)
    archive.add_actuals(KEY, series([9]), seen_s=NOW_S + 1)
    assert values(archive) == [9, 5, 6, 7, 8]


def test_steps_between_others_replace_both(archive: IntensityArchive) -> None:
    # 0 to 60 min and 30 to 90 min overlap; the one seen last counts, and what came later than both.
    archive.add_actuals(KEY, series([1]), seen_s=NOW_S + 2)
    archive.add_actuals(KEY, series([2], start_s=NOW_S + 1800), seen_s=NOW_S + 1)
    found = archive.actuals(KEY, since_s=NOW_S, until_s=NOW_S + 2 * HOUR)
    assert found is not None
    assert ((found.edges_s - NOW_S) // 900).tolist() == [0, 4, 6]
    archive.add_actuals(KEY, series([3], start_s=NOW_S + 2700, step_s=1800), seen_s=NOW_S + 3)
    found = archive.actuals(KEY, since_s=NOW_S, until_s=NOW_S + 2 * HOUR)
    assert found is not None
    assert ((found.edges_s - NOW_S) // 900).tolist() == [0, 3, 5]
    assert found.mg_per_kwh.tolist() == [1, 3]


def test_series_are_kept_apart_and_listed(archive: IntensityArchive) -> None:
    marginal = replace(KEY, signal=SignalKind.MARGINAL)
    for key, grams in ((KEY, 1), (OTHER, 2), (marginal, 3)):
        archive.add_actuals(key, series([grams], key=key), seen_s=NOW_S)
    assert values(archive) == [1]
    assert set(archive.known_series()) == {KEY, OTHER, marginal}
    assert len(archive.known_series()) == 3


# ----------------------------------------------------------------------- forecasts, weather


def test_forecasts_come_back_as_they_were(archive: IntensityArchive) -> None:
    plain = series([10, GAP_MG, 30], quality=Quality.FORECAST)
    quantiles = replace(plain, low_mg=np.array([1, 2, 3]), high_mg=np.array([4, 5, 6]))
    archive.add_vintage(KEY, Vintage(NOW_S + 60, quantiles))
    archive.add_vintage(KEY, Vintage(NOW_S, plain))
    first, second = archive.vintages(KEY, since_s=NOW_S)
    assert (first.issued_s, second.issued_s) == (NOW_S, NOW_S + 60)
    assert first.series.provenance == plain.provenance
    assert first.series.mg_per_kwh.tolist() == [10, GAP_MG, 30]
    assert first.series.edges_s.tolist() == plain.edges_s.tolist()
    assert (first.series.low_mg, first.series.high_mg) == (None, None)
    assert second.series.low_mg is not None
    assert second.series.high_mg is not None
    assert (second.series.low_mg.tolist(), second.series.high_mg.tolist()) == ([1, 2, 3], [4, 5, 6])
    assert [one.issued_s for one in archive.vintages(KEY, since_s=NOW_S + 1)] == [NOW_S + 60]
    assert archive.vintages(OTHER, since_s=0) == []


def test_forecast_of_one_interval_comes_back(archive: IntensityArchive) -> None:
    archive.add_vintage(KEY, Vintage(NOW_S, series([10])))
    assert archive.vintages(KEY, since_s=0)[0].series.mg_per_kwh.tolist() == [10]


def test_forecast_of_the_same_time_replaces_the_other(archive: IntensityArchive) -> None:
    archive.add_vintage(KEY, Vintage(NOW_S, series([10])))
    archive.add_vintage(KEY, Vintage(NOW_S, series([20])))
    assert [one.series.mg_per_kwh[0] for one in archive.vintages(KEY, since_s=0)] == [20]


def run(issued_s: int, value: float) -> WeatherRun:
    table = np.full((2, len(VARIABLES)), value)
    table[1, 0] = np.nan
    return WeatherRun(issued_s, np.array([NOW_S, NOW_S + HOUR]), table)


def test_weather_comes_back_as_it_was(archive: IntensityArchive) -> None:
    archive.add_runs("DE", [run(NOW_S, 1.5), run(NOW_S - 60, 2.0)])
    archive.add_runs("DE", [run(NOW_S - 60, 3.0)])
    first, second = archive.runs("DE", since_s=NOW_S - 60)
    assert (first.issued_s, first.values[0, 1], second.values[0, 1]) == (NOW_S - 60, 3.0, 1.5)
    assert second.times_s.tolist() == [NOW_S, NOW_S + HOUR]
    assert np.isnan(second.values[1, 0])
    assert len(archive.runs("DE", since_s=NOW_S)) == 1
    assert archive.runs("FR", since_s=0) == []


def test_forget_drops_what_is_older(archive: IntensityArchive) -> None:
    archive.add_actuals(KEY, series([1, 2, 3]), seen_s=NOW_S)
    archive.add_runs("DE", [run(NOW_S - 1, 1.0), run(NOW_S + HOUR, 1.0)])
    for at_s in (NOW_S - 1, NOW_S):
        archive.add_vintage(KEY, Vintage(at_s, series([10])))
    archive.forget(vintages_before_s=NOW_S, actuals_before_s=NOW_S + HOUR)
    assert values(archive) == [2, 3]
    assert [one.issued_s for one in archive.vintages(KEY, since_s=0)] == [NOW_S]
    assert [one.issued_s for one in archive.runs("DE", since_s=0)] == [NOW_S + HOUR]
