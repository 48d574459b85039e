"""What a forecast's error makes of a plan: waiting must pay more than its expected regret, and so must moving.

Of two windows whose difference in grams is expected to be `gain` with standard deviation s, the one that looks better turns
out worse by s (phi(z) - z (1 - Phi(z))) on average, z = gain / s: the expected regret (the unit normal loss; Raiffa and
Schlaifer 1961). It is below the gain where gain > 0.276 s.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from scheduler.core.job import JobId, Placement
from scheduler.core.planner.columns import weighed_g, within_cost
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot
from scheduler.core.units import MG_PER_G, WATT_SECONDS_PER_KWH

BAND: Final = 0.276
"""Where z (2 - Phi(z)) = phi(z): the gain, in standard deviations, that equals its expected regret."""
_NOISE: Final = 1e-9
"""Gains below this share are none."""


class _Errors:
    """Standard deviations of the expected grams of placements, errors of one run taken as fully correlated."""

    def __init__(self, snapshot: PlanSnapshot) -> None:
        self._forecast = snapshot.forecast

    def of(self, placement: Placement) -> float:
        forecast = self._forecast
        if forecast.error_mg is None:
            return 0.0
        row, slot_s, total = forecast.zone(placement.zone_id), forecast.grid.slot_s, 0.0
        run_s = sum(window.duration_s for window, _ in placement.stretches)
        # `power_w` is the mean draw; each segment draws by its devices.
        mean_gpus = sum(window.duration_s * gpus for window, gpus in placement.stretches) / run_s
        for window, gpus in placement.stretches:
            start_s = forecast.grid.offset_down_s(window.start_at)
            stop_s = forecast.grid.offset_up_s(window.end_at)
            slots = np.arange(start_s // slot_s, min(-(-stop_s // slot_s), forecast.grid.n_slots))
            share_s = np.minimum(stop_s, (slots + 1) * slot_s) - np.maximum(start_s, slots * slot_s)
            error_mg_s = float((forecast.error_mg[row, slots] * share_s).sum())
            total += gpus / mean_gpus * error_mg_s
        return total * placement.power_w * placement.pue / WATT_SECONDS_PER_KWH / MG_PER_G


def keep_what_holds(
    snapshot: PlanSnapshot,
    requests: Sequence[PlanRequest],
    placements: dict[JobId, Placement],
    search: WindowSearch,
) -> None:
    """Leaves jobs where an earlier plan put them, and starts new ones at once, unless moving or waiting pays.

    Args:
        snapshot: with the errors of its forecast, if known; without them only what saves nothing is undone.
        requests: all that may move.
        placements: changed in place.
        search: what the placements leave free; changed with them.
    """
    errors = _Errors(snapshot)
    for request in requests:
        placed = placements.get(request.job_id)
        if placed is None or placed.planned_g is None:
            continue
        other = search.again(request, request.held) if request.held is not None else None
        if other is None and request.held is None and snapshot.forecast.error_mg is not None:
            search.give_back(placed)
            other = search.earliest(_affordable(request))
            search.take(placed)
        if other is None or other.planned_g is None or other == placed:
            continue
        if not search.keeps_limits(request, other):
            continue
        gain_g = weighed_g(request, other) - weighed_g(request, placed)
        band_g = BAND * float(np.hypot(errors.of(placed), errors.of(other)))
        if gain_g <= max(band_g, _NOISE * placed.planned_g):
            search.give_back(placed)
            if search.has_room(other):
                placements[request.job_id] = other
            search.take(placements[request.job_id])


def _affordable(request: PlanRequest) -> PlanRequest:
    """The request with only the choices that it may pay for."""
    return replace(
        request, choices=tuple(one for one in request.choices if within_cost(request, one))
    )
