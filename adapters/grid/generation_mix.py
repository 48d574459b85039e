"""Intensity of a zone's own production, from megawatts by production type and a factor for each fuel."""

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.grid.answer import Answer
from scheduler.core.forecast import IntensitySeries, Provenance, Scope
from scheduler.core.timegrid import Window, format_instant

FACTORS_VERSION: Final = "2026-08"
"""Of the shipped factors; part of the provenance, since other factors make other numbers."""
_FACTORS_FILE: Final = "intensity/emission_factors.csv"
_DAY_S: Final = 86_400
LEAD_DAYS: Final = 7
"""Days of generation before a value that decide whether it is whole, and what storage is worth."""
_TOLERATED_LOSS: Final = 0.05
_LEAST_PART: Final = 0.5

_Values = NDArray[np.float64]


class Fuel(StrEnum):
    """What generates; names as in the table of factors, which has none for storage."""

    COAL = "coal"
    GAS = "gas"
    OIL = "oil"
    BIOMASS = "biomass"
    GEOTHERMAL = "geothermal"
    HYDRO = "hydro"
    NUCLEAR = "nuclear"
    SOLAR = "solar"
    WIND = "wind"
    UNKNOWN = "unknown"
    STORAGE = "storage"


WEATHER: Final = frozenset({Fuel.SOLAR, Fuel.WIND})
RENEWABLE: Final = WEATHER | {Fuel.HYDRO, Fuel.BIOMASS, Fuel.GEOTHERMAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationMix:
    """Generation by production type as a step function: interval i begins at `start_s + i * step_s`.

    Args:
        start_s: Unix seconds.
        step_s: length of an interval; divides a day.
        mw: per type, in the provider's own words, mean MW, shape (n,), 0 or more, NaN where nothing
            was reported. Storage counts what it gives only, never what it takes.
        fuels: what each type is; types that are not listed are of unknown fuel.
    """

    start_s: int
    step_s: int
    mw: Mapping[str, _Values]
    fuels: Mapping[str, Fuel]

    def __len__(self) -> int:
        return len(next(iter(self.mw.values()), ()))

    def fuel(self, kind: str) -> Fuel:
        """What that production type burns or uses."""
        return self.fuels.get(kind, Fuel.UNKNOWN)

    def total_mw(self, without: Collection[Fuel] = ()) -> _Values:
        """Sum over all other fuels, shape (n,); what is not reported counts as 0."""
        return self.weighted_mw({fuel: 1.0 for fuel in Fuel if fuel not in without})

    def weighted_mw(self, weights: Mapping[Fuel, float]) -> _Values:
        """Sum of MW times the weight of the fuel, 0 for fuels without one, shape (n,)."""
        total = np.zeros(len(self))
        for kind, mw in self.mw.items():
            total += weights.get(self.fuel(kind), 0.0) * np.nan_to_num(mw)
        return total


@cache
def load_factors(scope: Scope) -> Mapping[Fuel, float]:
    """The shipped grams CO2e per kWh of every fuel but storage."""
    text = files("configs").joinpath(_FACTORS_FILE).read_text(encoding="utf-8")
    rows = csv.DictReader(io.StringIO(text))
    return {Fuel(row["fuel"]): float(row["g_per_kwh"]) for row in rows if row["scope"] == scope}


def intensity_g_per_kwh(mix: GenerationMix, factors: Mapping[Fuel, float]) -> _Values:
    """Grams per kWh generated, shape (n,), NaN where `is_whole` is False or nothing ran.

    Imports are left out, as if they were as clean as the zone itself. What storage gives counts with
    the mean of the 24 hours before, for that is about when it was taken.
    """
    made_mw = mix.total_mw(without={Fuel.STORAGE})
    emitted = mix.weighted_mw(factors)
    given_mw = mix.weighted_mw({Fuel.STORAGE: 1.0})
    stored_g = _mean_before(emitted, made_mw, _DAY_S // mix.step_s)
    emitted += np.where(given_mw > 0, given_mw * stored_g, 0.0)
    return np.where(is_whole(mix), _ratio(emitted, made_mw + given_mw), np.nan)


def renewable_share(mix: GenerationMix) -> _Values:
    """Part of solar, wind, hydro, biomass and geothermal in what was generated, NaN as for intensity.

    Storage counts on neither side.
    """
    made_mw = mix.total_mw(without={Fuel.STORAGE})
    renewable_mw = mix.weighted_mw(dict.fromkeys(RENEWABLE, 1.0))
    return np.where(is_whole(mix), _ratio(renewable_mw, made_mw), np.nan)


def is_whole(mix: GenerationMix) -> NDArray[np.bool_]:
    """Where nothing that matters is missing, judged by the same time of the seven days before.

    An interval is not whole where types without a value usually make more than 5 % of the total, or
    where both the total and its part that does not hang on weather are below half of what they were
    on all of those days but one. A calm night of a windy zone keeps its other plants; a broken
    report loses all. The first days have nothing to be judged by and pass.
    """
    per_day = _DAY_S // mix.step_s
    lost_mw, usual_mw = np.zeros(len(mix)), np.zeros(len(mix))
    for kind, mw in mix.mw.items():
        if mix.fuel(kind) is not Fuel.STORAGE:
            usual = _mean_known(_days_before(mw, per_day))
            usual_mw += usual
            lost_mw += np.where(np.isnan(mw), usual, 0.0)
    has_collapsed = np.ones(len(mix), dtype=np.bool_)
    for part_mw in (mix.total_mw(), mix.total_mw(without=WEATHER)):
        low_mw = np.sort(_days_before(part_mw, per_day), axis=0)[1]
        has_collapsed &= part_mw < _LEAST_PART * low_mw
    whole: NDArray[np.bool_] = (lost_mw <= _TOLERATED_LOSS * usual_mw) & ~has_collapsed
    return whole


def build_series(
    zone_id: str, mix: GenerationMix, window: Window, provenance: Provenance
) -> IntensitySeries:
    """Intensity of the intervals of the mix that touch the window, up to the last that has a value.

    Raises:
        ForecastUnavailableError: not one of them has a value.
    """
    grams = intensity_g_per_kwh(mix, load_factors(provenance.scope))
    edges_s = mix.start_s + mix.step_s * np.arange(len(mix) + 1, dtype=np.int64)
    low_s = window.start_at.timestamp()
    high_s = max(window.end_at.timestamp(), low_s + 1e-6)
    touches = np.flatnonzero((edges_s[1:] > low_s) & (edges_s[:-1] < high_s))
    known = touches[~np.isnan(grams[touches])]
    if not len(known):
        raise Answer(provenance.source.partition(" ")[0], zone_id).unavailable(
            f"no usable generation of zone {zone_id} from {format_instant(window.start_at)} "
            f"to {format_instant(window.end_at)}",
        )
    kept = slice(touches[0], known[-1] + 1)
    return IntensitySeries.from_g_per_kwh(
        zone_id, edges_s[kept.start : kept.stop + 1], grams[kept], provenance
    )


def hour_floor(at: datetime) -> datetime:
    """The full hour at or before; hours of UTC hold all lengths of interval."""
    return at.replace(minute=0, second=0, microsecond=0)


def _days_before(values: _Values, per_day: int) -> _Values:
    """Values at the same time of each of the days before, shape (LEAD_DAYS, n), NaN before the first."""
    before = np.full((LEAD_DAYS, len(values)), np.nan)
    for days in range(1, LEAD_DAYS + 1):
        shift = min(days * per_day, len(values))
        before[days - 1, shift:] = values[: len(values) - shift]
    return before


def _mean_known(rows: _Values) -> _Values:
    """Mean of what is known in each column, 0 where nothing is."""
    return np.nan_to_num(_ratio(np.nansum(rows, axis=0), (~np.isnan(rows)).sum(axis=0) * 1.0))


def _mean_before(emitted: _Values, made_mw: _Values, count: int) -> _Values:
    """Mean intensity of the `count` intervals before each, its own where nothing ran in them."""
    first = np.maximum(np.arange(len(made_mw)) - count, 0)
    sums = [np.concatenate(([0.0], np.cumsum(values))) for values in (emitted, made_mw)]
    before_g, before_mw = (total[:-1] - total[first] for total in sums)
    return np.where(before_mw > 0, _ratio(before_g, before_mw), _ratio(emitted, made_mw))


def _ratio(part: _Values, whole: _Values) -> _Values:
    """Quotient, NaN where the whole is 0."""
    quotient: _Values = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return quotient
