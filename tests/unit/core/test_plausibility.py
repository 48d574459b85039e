"""What a source says is refused where it cannot be true, and believed where it only is unusual."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.plausibility import SKEW_S, find_fault

NOW = datetime(2026, 3, 2, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
NAN = float("nan")
WAVE = [300.0 + 100 * np.sin(hour * 2 * np.pi / 24) for hour in range(24)]
"""200 to 400 g/kWh, as usual 300."""


def series(
    grams: list[float],
    *,
    quality: Quality = Quality.FORECAST,
    signal: SignalKind = SignalKind.AVERAGE,
    scope: Scope = Scope.LIFECYCLE,
    issued_at: datetime | None = None,
    start_s: int = NOW_S,
    step_s: int = 3600,
) -> IntensitySeries:
    edges_s = start_s + np.arange(len(grams) + 1) * step_s
    provenance = Provenance(
        source="made",
        signal=signal,
        scope=scope,
        quality=quality,
        issued_at=issued_at,
    )
    return IntensitySeries.from_g_per_kwh("DE", edges_s, np.array(grams), provenance)


def past(grams: list[float], days: int = 28, **fields: object) -> list[IntensitySeries]:
    """These hours of a day, on the days before now."""
    start_s = NOW_S - days * 86_400
    return [series(grams * days, quality=Quality.MEASURED, start_s=start_s, **fields)]  # type: ignore[arg-type]


def fault(of: IntensitySeries, before: list[IntensitySeries] | None = None) -> str | None:
    before = past(WAVE) if before is None else before
    return find_fault(of, zone_id="DE", now_s=NOW_S, past=before)


def test_usual_values_have_no_fault() -> None:
    assert fault(series(WAVE * 4)) is None
    assert fault(series(WAVE * 3, quality=Quality.MEASURED)) is None


def test_another_zone_than_asked_for_is_refused() -> None:
    found = find_fault(series(WAVE), zone_id="FR", now_s=NOW_S, past=[])
    assert found == "is about zone DE, not FR"


def test_forecast_from_the_future_shows_a_wrong_clock_but_some_minutes_do_not() -> None:
    late = series(WAVE, issued_at=NOW + timedelta(hours=1))
    assert fault(late) == "was made 60 min in the future: a clock is wrong"
    assert fault(series(WAVE, issued_at=NOW + timedelta(seconds=SKEW_S))) is None
    assert fault(series(WAVE, issued_at=NOW - timedelta(days=1))) is None


def test_forecast_that_is_mostly_null_is_refused_by_time_not_by_count() -> None:
    assert fault(series([NAN] * 13 + WAVE[:11])) == "has values for only 11 of 24 h"
    assert fault(series([NAN] * 12 + WAVE[:12])) is None
    # One gap of a day is one interval beside 24 that are quarters of an hour.
    quarters = np.concatenate((np.arange(25) * 900, [24 * 900 + 86_400])) + NOW_S
    mostly_gap = IntensitySeries.from_g_per_kwh(
        "DE", quarters, np.array([300.0] * 24 + [NAN]), series([1.0]).provenance
    )
    assert fault(mostly_gap, []) == "has values for only 6 of 30 h"


def test_past_may_be_mostly_or_all_unknown() -> None:
    assert fault(series([NAN] * 23 + [300.0], quality=Quality.MEASURED)) is None
    assert fault(series([NAN] * 24, quality=Quality.MEASURED)) is None


@pytest.mark.parametrize("factor", [0.001, 60.0, 1 / 60])
def test_another_unit_is_refused(factor: float) -> None:
    low = [28 + one / 100 for one in WAVE]
    found = fault(series([one * factor for one in low]), past(low))
    assert found is not None
    assert found.endswith("another unit")


def test_two_days_of_past_show_another_unit_and_less_shows_nothing() -> None:
    grams = series([one / 80 for one in WAVE])
    assert "another unit" in str(fault(grams, past(WAVE, days=2)))
    assert fault(grams, past(WAVE, days=1)) is None
    assert fault(grams, []) is None


def test_what_no_mix_of_plants_can_be_is_refused_from_the_first_answer_on() -> None:
    kilograms = [one / 1000 for one in WAVE]
    assert "below any plant" in str(fault(series(kilograms), []))
    assert "above any plant" in str(fault(series([one * 6 for one in WAVE]), []))
    # Direct emissions of water and wind are zero, and a plant at the margin may emit nothing.
    assert fault(series(kilograms, scope=Scope.DIRECT), []) is None
    assert fault(series(kilograms, signal=SignalKind.MARGINAL), []) is None


def test_zero_is_refused_where_the_zone_never_is_near_zero() -> None:
    assert (
        fault(series([*WAVE[:23], 0.0])) == "falls to 0 g/kWh, in a zone that never was below 200"
    )
    assert "falls to 5" in str(fault(series([*WAVE[:23], 5.0], quality=Quality.ESTIMATED)))


def test_zero_is_believed_where_the_zone_comes_near_zero() -> None:
    assert fault(series([0.0] * 6 + WAVE), past([5.0] * 12 + WAVE[:12])) is None
    assert fault(series([0.0] * 6 + WAVE), past([0.0] * 12 + WAVE[:12])) is None


def test_zeros_of_a_plant_at_the_margin_are_believed_even_for_the_first_time() -> None:
    marginal = SignalKind.MARGINAL
    assert fault(series([0.0] * 24, signal=marginal), past(WAVE, signal=marginal)) is None


def test_zone_that_is_always_zero_may_rise() -> None:
    assert fault(series([20.0, 30.0] * 12), past([0.0] * 24)) is None


def test_level_far_above_all_that_was_seen_is_refused() -> None:
    # Seen were up to 400: three times that is 1200.
    assert "has a median of 1250 g/kWh, seen were 200 to 400" in str(
        fault(series([1250.0, 1251.0] * 12 + [1250.0]))
    )
    assert "has a median" in str(fault(series([1300.0] * 2 + [1201.0] * 2 + [1300.0])))


def test_storm_after_three_calm_days_is_believed() -> None:
    assert fault(series([30.0, 40.0] * 12), past(WAVE, days=3)) is None


def test_zone_of_wind_and_water_may_import_coal() -> None:
    # Seen were 4 to 15 g/kWh; 180 is beyond three times that, but not 200 above.
    assert fault(series([170.0, 180.0] * 12), past([4.0, 15.0] * 12)) is None


def test_single_value_far_above_all_that_was_seen_is_a_jump() -> None:
    # 400 and the range of 200 and the usual 300 on top.
    assert (
        fault(series([*WAVE[:12], 901.0, *WAVE[12:]])) == "jumps to 901 g/kWh, seen were 200 to 400"
    )
    assert fault(series([*WAVE[:12], 899.0, *WAVE[12:]])) is None


def test_forecast_that_stands_still_is_stuck() -> None:
    assert fault(series([310.0] * 12)) == "is 310 g/kWh for 12 h: stuck"
    assert fault(series([310.0] * 11)) is None
    # One that only ends so says that it knows no better.
    assert fault(series([*WAVE, *[310.0] * 13])) is None


def test_actual_values_that_stand_still_lately_are_stuck() -> None:
    measured = Quality.MEASURED
    assert "stuck" in str(fault(series([*WAVE, *[310.0] * 12], quality=measured)))
    # When they move again, what stood still is let in: it would keep out what follows.
    assert fault(series([*WAVE, *[310.0] * 12, 320.0], quality=measured)) is None
    # A gap at the end hides nothing.
    assert "stuck" in str(fault(series([*WAVE, *[310.0] * 12, NAN], quality=measured)))


def test_zone_that_is_constant_by_nature_is_not_stuck() -> None:
    assert fault(series([28.0] * 48), past([28.0] * 24)) is None
    # Stood still for 7 h each night: 14 h may be, 15 may not.
    nightly = past([25.0] * 7 + [28.0 + hour for hour in range(17)])
    assert fault(series([25.0] * 14), nightly) is None
    assert "stuck" in str(fault(series([25.0] * 15), nightly))


def test_plant_at_the_margin_may_stand_still() -> None:
    marginal = SignalKind.MARGINAL
    still = series([310.0] * 48, signal=marginal)
    assert fault(still, past(WAVE, signal=marginal)) is None


def test_nothing_is_called_stuck_without_a_past() -> None:
    assert fault(series([310.0] * 48), []) is None


def test_earlier_forecasts_serve_as_a_past_in_several_parts() -> None:
    parts = [series(WAVE * 2, start_s=NOW_S - day * 86_400) for day in range(1, 8)]
    assert "never was below" in str(fault(series([*WAVE, 0.0]), parts))
    gaps = [series([NAN] * 24), *parts]
    assert fault(series(WAVE), gaps) is None
