"""Intensity series and the matrix that a plan reads."""

from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.errors import ForecastRejectedError, InvalidInputError
from scheduler.core.forecast import (
    GAP_MG,
    IntensitySeries,
    Quality,
    Scope,
    SignalKind,
    build_matrix,
    epoch_s,
)
from scheduler.core.timegrid import SlotGrid, Window
from tests.unit.core.builders import HOUR, T0, at, provenance, series

NAN = float("nan")


def _series(edges: list[int], values: list[int]) -> IntensitySeries:
    return IntensitySeries(
        zone_id="DE",
        edges_s=np.array(edges),
        mg_per_kwh=np.array(values),
        provenance=provenance("probe"),
    )


@pytest.mark.parametrize(
    ("edges", "values", "says"),
    [
        ([0, 1], [5, 5], "do not fit"),
        ([0], [], "do not fit"),
        ([0, 0], [5], "not strictly increasing"),
        ([0, 2, 1], [5, 5], "not strictly increasing"),
        ([0, 1], [-2], "outside 0 to 3000"),
        ([0, 1], [3_000_001], "outside 0 to 3000"),
    ],
)
def test_series_that_cannot_be_true_is_refused_with_source_and_zone(
    edges: list[int], values: list[int], says: str
) -> None:
    with pytest.raises(ForecastRejectedError, match=f"probe: .* zone DE .*{says}"):
        _series(edges, values)


@pytest.mark.parametrize("value", [-0.001, -1.0, float("inf"), -float("inf"), 3000.01, 1e300])
def test_grams_that_cannot_be_true_are_refused(value: float) -> None:
    with pytest.raises(ForecastRejectedError):
        series([100.0, value])


def test_nan_is_a_gap_and_not_a_number() -> None:
    made = series([100.0, NAN, 0.0])
    assert made.mg_per_kwh.tolist() == [100_000, GAP_MG, 0]
    assert made.integral_mg_s(Window(at(0), at(1))) == 100_000 * HOUR
    assert made.integral_mg_s(Window(at(0.5), at(1.5))) is None
    assert made.integral_mg_s(Window(at(2), at(3))) == 0


def test_integral_counts_parts_of_intervals_and_nothing_beyond_the_edges() -> None:
    made = series([100.0, 200.0])
    assert made.integral_mg_s(Window(at(0.5), at(1.25))) == (100_000 * 0.5 + 200_000 * 0.25) * HOUR
    assert made.integral_mg_s(Window(at(1), at(2.5))) is None
    assert made.integral_mg_s(Window(at(-1), at(1))) is None
    assert made.coverage_s == (epoch_s(T0), epoch_s(at(2)))


def test_series_does_not_change_after_it_is_made() -> None:
    edges = np.array([0, 3600])
    made = IntensitySeries(
        zone_id="DE", edges_s=edges, mg_per_kwh=np.array([5]), provenance=provenance()
    )
    edges[1] = 9
    assert made.edges_s.tolist() == [0, 3600]
    with pytest.raises(ValueError, match="read-only"):
        made.mg_per_kwh[0] = 7


def test_half_hours_become_the_mean_of_their_hour_and_hours_fill_their_quarters() -> None:
    halves = series([100.0, 201.0, 300.0, 400.0], step_s=1800)
    hourly, is_covered = halves.resampled(SlotGrid(T0, HOUR, 3))
    assert hourly.tolist() == [150_500, 350_000, 0]
    assert is_covered.tolist() == [True, True, False]
    quarters, _ = series([100.0]).resampled(SlotGrid(T0, 900, 4))
    assert quarters.tolist() == [100_000] * 4


def test_slot_that_is_only_partly_covered_is_not_covered() -> None:
    _, is_covered = series([100.0] * 3, step_s=1800).resampled(SlotGrid(T0, HOUR, 2))
    assert is_covered.tolist() == [True, False]


def test_matrix_takes_each_slot_from_the_first_series_that_covers_it() -> None:
    grid = SlotGrid(T0, HOUR, 4)
    matrix = build_matrix(
        grid,
        {
            "DE": [
                series([10.0, NAN], source="live"),
                series([50.0, 60.0, 70.0], source="typical", quality=Quality.TYPICAL),
            ],
            "FR": [],
        },
    )
    assert matrix.mg_per_kwh[0].tolist() == [10_000, 60_000, 70_000, 0]
    assert matrix.layer.tolist() == [[0, 1, 1, -1], [-1] * 4]
    first = matrix.provenance("DE", Window(at(0), at(1)))
    mixed = matrix.provenance("DE", Window(at(0.5), at(2)))
    assert first is not None
    assert first.source == "live"
    assert mixed is not None
    assert mixed.source == "typical"
    assert matrix.provenance("DE", Window(at(2), at(4))) is None
    assert matrix.provenance("FR", Window(at(0), at(1))) is None
    assert matrix.provenance("DE", Window(at(5), at(6))) is None
    with pytest.raises(KeyError, match="XX"):
        matrix.zone("XX")


@pytest.mark.parametrize("other", [{"signal": SignalKind.MARGINAL}, {"scope": Scope.DIRECT}])
def test_signals_and_scopes_are_never_mixed(other: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="cannot be mixed in one plan"):
        build_matrix(SlotGrid(T0, HOUR, 1), {"DE": [series([1.0])], "FR": [series([1.0], **other)]})


# ------------------------------------------------------------------------------ quantiles


def _with_quantiles(low: list[float], high: list[float]) -> IntensitySeries:
    made = series([300.0] * len(low))
    return replace(
        made, low_mg=np.array(low) * 1000, high_mg=None if not high else np.array(high) * 1000
    )


def test_quantiles_must_fit_the_values() -> None:
    with pytest.raises(ForecastRejectedError, match="quantiles do not fit"):
        replace(series([300.0, 300.0]), low_mg=np.array([1]))


def test_spread_of_quantiles_gives_the_deviation_of_a_normal_error() -> None:
    grid = SlotGrid(origin_at=T0, slot_s=2 * HOUR, n_slots=1)
    # From 10 to 90 % are 2.5631 deviations: of 100 and 200 g on average.
    found = _with_quantiles([250.0, 200.0], [350.0, 400.0]).error_mg(grid)
    assert found.tolist() == pytest.approx([150_000 / 2.5631])


@pytest.mark.parametrize(
    ("low", "high", "deviation_mg"),
    [
        ([0.0], [90_000.0], 3_000_000 / 2.5631),
        ([310.0], [300.0], 0.0),
        ([250.0], [], 0.0),
    ],
    ids=["beyond what can be", "crossed", "only one"],
)
def test_no_quantile_stops_a_plan(low: list[float], high: list[float], deviation_mg: float) -> None:
    grid = SlotGrid(origin_at=T0, slot_s=HOUR, n_slots=1)
    matrix = build_matrix(grid, {"DE": [_with_quantiles(low, high)]})
    assert matrix.error_mg is not None
    assert matrix.error_mg.tolist() == [pytest.approx([deviation_mg])]
    band = _with_quantiles(low, high).band_mg(grid)
    assert (band is None) == (not high)
    assert band is None or 0 <= band[0][0] <= 3_000_000 >= band[1][0]


def test_matrix_without_quantiles_states_no_error() -> None:
    grid = SlotGrid(origin_at=T0, slot_s=HOUR, n_slots=1)
    assert build_matrix(grid, {"DE": [series([300.0])]}).error_mg is None
    assert series([300.0]).error_mg(grid).tolist() == [0.0]


def _with_band() -> IntensitySeries:
    half_hours = np.array([0, 1800, 3600, 7200, 10_800])
    middle = np.array([100, 200, GAP_MG, 400])
    return IntensitySeries(
        zone_id="DE",
        edges_s=half_hours,
        mg_per_kwh=middle,
        provenance=provenance("probe"),
        low_mg=np.array([50, 150, 0, 300]),
        high_mg=np.array([150, 450, 0, 700]),
    )


def test_only_intervals_that_have_ended_are_known() -> None:
    ended = _with_band().ended_by(7199)
    assert ended is not None
    assert ended.edges_s.tolist() == [0, 1800, 3600]
    assert ended.mg_per_kwh.tolist() == [100, 200]
    assert ended.low_mg is not None
    assert ended.high_mg is not None
    assert (ended.low_mg.tolist(), ended.high_mg.tolist()) == ([50, 150], [150, 450])
    plain = _series([0, 60, 120], [5, 6]).ended_by(120)
    assert plain is not None
    assert (plain.mg_per_kwh.tolist(), plain.low_mg) == ([5, 6], None)


@pytest.mark.parametrize("at_s", [-5, 0, 59, 119])
def test_nothing_is_known_before_the_first_value_has_ended(at_s: float) -> None:
    assert _series([0, 60, 120], [GAP_MG, 6]).ended_by(at_s) is None


def test_band_of_a_slot_is_the_mean_of_its_quantiles() -> None:
    grid = SlotGrid(T0, 3600, 3)
    shift_s = int(T0.timestamp())
    given = _with_band()
    moved = IntensitySeries(
        zone_id="DE",
        edges_s=given.edges_s + shift_s,
        mg_per_kwh=given.mg_per_kwh,
        provenance=given.provenance,
        low_mg=given.low_mg,
        high_mg=given.high_mg,
    )
    band = moved.band_mg(grid)
    assert band is not None
    assert (band[0].tolist(), band[1].tolist()) == ([100, 0, 300], [300, 0, 700])
    assert _series([0, 60], [5]).band_mg(grid) is None
