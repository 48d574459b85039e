"""Which hours many jobs want: why a job is not in its cheapest window."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from scheduler.core.job import JobId, Placement
from scheduler.core.planner.columns import within_cost
from scheduler.core.planner.instance import build_instance
from scheduler.core.planner.placing import place_in_order
from scheduler.core.planner.sentences import SAME_SHARE, grams_text
from scheduler.core.planner.snapshot import Plan, PlanSnapshot
from scheduler.core.timegrid import format_instant
from scheduler.core.units import SECONDS_PER_HOUR


class Crowd:
    """Which hours many jobs want, and what a device is worth then: why a job is not in its cheapest window."""

    def __init__(self, snapshot: PlanSnapshot, plan: Plan) -> None:
        self._snapshot: Final = snapshot
        self._prices: Final = plan.prices
        self._wishes: Final[dict[JobId, _Wish]] = {}
        if plan.prices is None or not (plan.prices > 0).any():
            return
        whole = [
            one
            for one in snapshot.requests
            if not one.is_flexible and any(within_cost(one, choice) for choice in one.choices)
        ]
        instance = build_instance(snapshot, whole)
        market = instance.market._replace(free=np.full_like(instance.market.free, np.inf))
        alone = replace(instance, market=market)
        cells = place_in_order(alone, np.arange(len(whole))).cells
        self._jobs = np.zeros(instance.market.free.shape, dtype=np.int64)
        self._gpus = np.zeros(instance.market.free.shape)
        self._free = instance.market.mean_free
        for index in np.flatnonzero(cells.choice >= 0).tolist():
            choice, slot = cells.choice[index], int(cells.slot[index])
            touched = int(instance.tables.touched[instance.jobs.table[cells.link[index]]])
            here = int(instance.tables.row[choice]), slice(slot, slot + touched)
            self._jobs[here] += 1
            self._gpus[here] += instance.tables.gpus[choice] * instance.jobs.scale[index]
            job_id = instance.requests[index].job_id
            self._wishes[job_id] = _Wish(*here, float(cells.grams[index]))

    def sentences(self, placement: Placement) -> tuple[str, ...]:
        """What stands in the way of the job's cheapest window; nothing where it has it."""
        wish = self._wishes.get(placement.job_id)
        if wish is None or placement.planned_g is None or self._prices is None:
            return ()
        more_g = placement.planned_g - wish.grams
        price_g = float(self._prices[wish.row, wish.slots].mean())
        if more_g <= SAME_SHARE * placement.planned_g or price_g <= 0:
            return ()
        grid = self._snapshot.forecast.grid
        cluster_id, accelerator = self._snapshot.capacity.rows[wish.row]
        busiest = wish.slots.start + int(self._gpus[wish.row, wish.slots].argmax())
        return (
            f"{grams_text(more_g)} less would be {cluster_id} at "
            f"{format_instant(grid.at(wish.slots.start * grid.slot_s))}, but "
            f"{self._jobs[wish.row, busiest]} jobs want {self._gpus[wish.row, busiest]:,.0f} {accelerator} there, and "
            f"{self._free[wish.row, busiest]:,.0f} are free: a device is worth "
            f"{price_g * SECONDS_PER_HOUR / grid.slot_s:,.1f} g an hour.",
        )


@dataclass(frozen=True, slots=True)
class _Wish:
    """The cheapest window of a job if nobody else asked: row, slots, grams."""

    row: int
    slots: slice
    grams: float
