"""Jobs that may pause or change their width: what they pay at prices, and moves to where they emit less than whole.

They are first placed as if they ran whole, jointly with all others. Then each in turn is lifted, and takes pieces or
widths that cost less wherever there is room. So none ever costs more than it does whole, unless it then keeps its margin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.core.planner.arrays import Floats
from scheduler.core.planner.found import Found
from scheduler.core.planner.pausing import PausingJobs, PausingSearch
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot
from scheduler.core.planner.stretching import ElasticSearch
from scheduler.core.timegrid import SlotGrid


class FlexibleJobs:
    """Jobs that may pause or change their width.

    Args:
        snapshot: what there is.
        requests: which, one at least.
    """

    def __init__(self, snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> None:
        floors = tuple(sorted({one.limits.min_renewable_share or 0.0 for one in requests} | {0.0}))
        grid = snapshot.forecast.grid
        self._snapshot: Final = snapshot
        self._pausing: Final = PausingJobs(
            snapshot, [one for one in requests if one.elastic is None], floors
        )
        self._elastic: Final = ElasticSearch(
            snapshot, [one for one in requests if one.elastic is not None], floors
        )
        self._soft: Final = PausingSearch(self._pausing, snapshot, grid)
        self.unit_s: Final = self._pausing.unit_s(grid.slot_s)
        """Length of the units in which pauses are searched."""

    @property
    def requests(self) -> tuple[PlanRequest, ...]:
        """All of them: those that pause, then those that change their width."""
        return (*self._pausing.requests, *self._elastic.requests)

    def bound(self, prices: Floats) -> float:
        """What they pay at least at these prices, in grams."""
        return self._pausing.bound(self._soft.market, prices) + self._elastic.bound(prices)

    def answer(self, prices: Floats) -> tuple[Floats, float]:
        """Their load when each takes what is cheapest at these prices, whatever the others take; and what they pay."""
        pausing, paid = self._soft.answer(prices)
        elastic, paid_too = self._elastic.answer(prices)
        return pausing + elastic, paid + paid_too

    def on(self, grid: SlotGrid) -> "FlexibleSearch":
        """A search beside a load on these slots, which divide both those of the plan and `unit_s`."""
        units = SlotGrid(grid.origin_at, self.unit_s, grid.horizon_s // self.unit_s)
        return FlexibleSearch(
            PausingSearch(self._pausing, self._snapshot, units),
            self._elastic,
            len(self._pausing.requests),
            self.unit_s // grid.slot_s,
            self._snapshot.pause_slot_s // grid.slot_s,
        )


@dataclass(frozen=True, slots=True)
class FlexibleSearch:
    """Finds places beside a load.

    Args:
        pausing, elastic: the two kinds of searches.
        n_pausing: jobs of the first kind; those of the second follow.
        per_unit, per_slot: slots of the load in a unit, and in a slot of the plan.
    """

    pausing: PausingSearch
    elastic: ElasticSearch
    n_pausing: int
    per_unit: int
    per_slot: int

    def find(self, job: int, load: Floats) -> Found | None:
        """The cheapest place of a job that has room beside this load, which must not hold it."""
        if job < self.n_pausing:
            return self.pausing.find(job, _most(load, self.per_unit))
        return self.elastic.find(job - self.n_pausing, _most(load, self.per_slot))


def _most(load: Floats, parts: int) -> Floats:
    """The highest load in each run of so many slots."""
    most: Floats = load.reshape(len(load), -1, parts).max(axis=2)
    return most
