"""Tomorrow's generation mix from forecasts of load, wind and sun, and from what ran in recent days.

What load is left after wind, sun, steady plants and imports is split among the other plants as in
recent hours of about the same time of day whose remaining load was nearest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.grid.generation_mix import WEATHER, GenerationMix, is_whole

HISTORY_DAYS: Final = 14
_DAY_S: Final = 86_400
_IMPORT_DAYS: Final = 7
_NEAR_S: Final = 3600
"""Hours compare with those of other days at most this far from their time of day."""
_NEAREST_PART: Final = 0.25

_Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known of past and coming intervals, all on the grid of `ran`.

    Args:
        ran: actual generation, NaN from now on.
        load_mw: actual load, shape (n,), NaN where unknown.
        coming_load_mw: forecast of the load, NaN where there is none.
        coming_mw: forecast of each type of solar and wind, likewise.
        steady: types of generation that hardly follow the load.
    """

    ran: GenerationMix
    load_mw: _Values
    coming_load_mw: _Values
    coming_mw: Mapping[str, _Values]
    steady: frozenset[str]


def forecast_mix(outlook: Outlook) -> GenerationMix:
    """The past as it ran, and the coming intervals that have all forecasts; NaN elsewhere.

    Net imports, and what storage takes, are assumed as the mean of the same time of day in the last
    seven days; steady types as the mean of their last 24 hours.
    """
    ran, per_day = outlook.ran, _DAY_S // outlook.ran.step_s
    has_run = is_whole(ran) & (ran.total_mw() > 0)
    coming_mw = dict(outlook.coming_mw)
    for kind in outlook.steady & ran.mw.keys():
        coming_mw[kind] = np.full(len(ran), _last_mean(ran.mw[kind], per_day))
    imported_mw = outlook.load_mw - np.where(has_run, ran.total_mw(), np.nan)
    rest_mw = outlook.coming_load_mw - _same_time_mean(imported_mw, per_day)
    for mw in coming_mw.values():
        rest_mw = rest_mw - mw
    is_coming = ~has_run & ~np.isnan(rest_mw)
    coming_mw |= _split(
        ran, has_run, np.where(is_coming, np.maximum(rest_mw, 0.0), np.nan), outlook.steady
    )
    unknown = np.full(len(ran), np.nan)
    return GenerationMix(
        start_s=ran.start_s,
        step_s=ran.step_s,
        mw={
            kind: np.where(is_coming, coming_mw.get(kind, unknown), ran.mw.get(kind, unknown))
            for kind in ran.mw.keys() | coming_mw.keys()
        },
        fuels=ran.fuels,
    )


def _split(
    ran: GenerationMix, has_run: NDArray[np.bool_], rest_mw: _Values, steady: frozenset[str]
) -> dict[str, _Values]:
    """The rest of the load by the types that follow it, shape (n,) each; NaN where there is no rest."""
    kinds = [kind for kind in ran.mw if kind not in steady and ran.fuel(kind) not in WEATHER]
    table = np.array([np.nan_to_num(ran.mw[kind]) for kind in kinds]).reshape(-1, len(ran))
    past = np.flatnonzero(has_run)
    past_mw = table[:, past].sum(axis=0)
    shares = np.full(table.shape, np.nan)
    for index in np.flatnonzero(~np.isnan(rest_mw)).tolist():
        near = _nearest(past, np.abs(past_mw - rest_mw[index]), index, _DAY_S // ran.step_s)
        summed = table[:, near].sum(axis=1)
        if not summed.sum():
            summed = table[:, past].sum(axis=1)
        if summed.sum():
            shares[:, index] = summed / summed.sum()
    return dict(zip(kinds, shares * rest_mw, strict=True))


def _nearest(
    past: NDArray[np.intp], distance_mw: _Values, index: int, per_day: int
) -> NDArray[np.intp]:
    """Past intervals near in time of day, and of those the quarter that is nearest in distance."""
    near = per_day * _NEAR_S // _DAY_S
    same_time = np.flatnonzero((past - index + near) % per_day <= 2 * near)
    keep = max(1, round(len(same_time) * _NEAREST_PART))
    order = np.argsort(distance_mw[same_time], kind="stable")
    return past[same_time[order[:keep]]]


def _last_mean(mw: _Values, count: int) -> float:
    """Mean of the last known values, NaN where there is none."""
    known = mw[~np.isnan(mw)][-count:]
    return float(known.mean()) if len(known) else float("nan")


def _same_time_mean(values: _Values, per_day: int) -> _Values:
    """At each index the mean of the last seven known values at its time of day, NaN where none is."""
    means = np.full(per_day, np.nan)
    for time in range(per_day):
        at_time = values[time::per_day]
        known = at_time[~np.isnan(at_time)][-_IMPORT_DAYS:]
        if len(known):
            means[time] = known.mean()
    return means[np.arange(len(values)) % per_day]
