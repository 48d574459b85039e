"""All jobs that may pause or change their width, beside those that run whole: prices, wishes and firm places.

Whole runs and these share the load of every row. Whole runs are placed first at each priority: these fit into what is left.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from scheduler.core.job import JobId, Placement
from scheduler.core.planner.kernels import Floats, Ints, Market
from scheduler.core.planner.pausing import PausingJobs, PausingPlaces
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot
from scheduler.core.planner.stretching import ElasticPlaces
from scheduler.core.timegrid import SlotGrid


class FlexibleJobs:
    """Jobs that may pause or change their width.

    Args:
        snapshot: what there is.
        requests: which; empty is possible.
    """

    def __init__(self, snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> None:
        floors = tuple(sorted({one.limits.min_renewable_share or 0.0 for one in requests} | {0.0}))
        self.floors: Final = floors
        self._snapshot: Final = snapshot
        self._grid: Final = snapshot.forecast.grid
        pausing = PausingJobs(snapshot, [one for one in requests if one.elastic is None], floors)
        self.pausing: Final = pausing
        self.elastic: Final = ElasticPlaces(
            snapshot, [one for one in requests if one.elastic is not None], floors
        )
        self._soft: Final = PausingPlaces(pausing, snapshot, self._grid)
        self.unit_s: Final = pausing.unit_s(self._grid.slot_s)
        """Length of the units on which pauses are placed firmly."""

    def __len__(self) -> int:
        return len(self.pausing.requests) + len(self.elastic.requests)

    @property
    def priorities(self) -> set[int]:
        """Of any of the jobs."""
        return {one.priority for one in self.requests}

    @property
    def requests(self) -> tuple[PlanRequest, ...]:
        """All of them."""
        return (*self.pausing.requests, *self.elastic.requests)

    def bound(self, market: Market, prices: Floats) -> float:
        """What they pay at least at these prices, in grams."""
        own = market._replace(closed_sum=self._soft.market.closed_sum)
        return self.pausing.bound(own, prices) + self.elastic.bound(own, prices)

    def answer(self, prices: Floats) -> tuple[Floats, float]:
        """Their load when each takes what is cheapest at these prices, whatever the others take; and what they pay."""
        self.forget()
        load = np.zeros_like(prices)
        self.respond(np.random.default_rng(0), prices, 0.0, load)
        return load, self._soft.cost() + self.elastic.cost()

    def respond(
        self, chance: np.random.Generator, prices: Floats, stiffness: float, load: Floats
    ) -> None:
        """Each in turn moves where it is cheapest, overrun at a charge; the load is that of all jobs."""
        self._soft.respond(chance.permutation(len(self.pausing.requests)), prices, stiffness, load)
        self.elastic.respond(
            chance.permutation(len(self.elastic.requests)), prices, stiffness, load
        )

    def forget(self) -> None:
        """Takes every wish back."""
        self._soft.pieces.line[:] = -1
        self.elastic.clear()

    def on(self, grid: SlotGrid) -> "FlexiblePlaces":
        """Nobody anywhere, on these slots, which divide both those of the plan and `unit_s`."""
        return FlexiblePlaces(self, self._snapshot, grid)


class FlexiblePlaces:
    """Firm places of these jobs, beside a load that is counted on slots of another length.

    Args:
        jobs: which.
        snapshot: what there is.
        grid: slots of the load.
    """

    def __init__(self, jobs: FlexibleJobs, snapshot: PlanSnapshot, grid: SlotGrid) -> None:
        units = SlotGrid(grid.origin_at, jobs.unit_s, grid.horizon_s // jobs.unit_s)
        self._jobs: Final = jobs
        self._snapshot: Final = snapshot
        self._pausing: Final = PausingPlaces(jobs.pausing, snapshot, units)
        self._elastic: Final = ElasticPlaces(snapshot, jobs.elastic.requests, jobs.floors)
        self._per_unit: Final = jobs.unit_s // grid.slot_s
        self._per_slot: Final = snapshot.forecast.grid.slot_s // grid.slot_s
        self._own = np.zeros((len(snapshot.capacity.rows), grid.n_slots))

    def place(self, priority: int, prices: Floats, load: Floats) -> None:
        """Gives the jobs of this priority places, biggest first; adds them to the load.

        Args:
            priority: whose turn it is.
            prices: (rows, slots of the plan), what a device costs beside grams.
            load: of all jobs, on the slots of the grid; changed.
        """
        base = load - self._own
        k = self._per_slot // self._per_unit
        self._pausing.place(
            _waiting(self._jobs.pausing.requests, priority, self._pausing.is_placed),
            np.repeat(prices, k, axis=1) / k,
            _most(base + np.repeat(self._elastic.load(), self._per_slot, axis=1), self._per_unit),
        )
        self._elastic.place(
            _waiting(self._jobs.elastic.requests, priority, self._elastic.is_placed),
            prices,
            _most(base + np.repeat(self._pausing.load(), self._per_unit, axis=1), self._per_slot),
        )
        self._add_to(base, load)

    def improve(self, load: Floats) -> int:
        """Moves each job to where it is cheaper and there is room; returns how many moved."""
        base = load - self._own
        elastic = np.repeat(self._elastic.load(), self._per_slot, axis=1)
        moved = self._pausing.improve(
            np.arange(len(self._jobs.pausing.requests)), _most(base + elastic, self._per_unit)
        )
        pausing = np.repeat(self._pausing.load(), self._per_unit, axis=1)
        moved += self._elastic.improve(
            np.arange(len(self._jobs.elastic.requests)), _most(base + pausing, self._per_slot)
        )
        self._add_to(base, load)
        return moved

    def _add_to(self, base: Floats, load: Floats) -> None:
        self._own = np.repeat(self._pausing.load(), self._per_unit, axis=1)
        self._own += np.repeat(self._elastic.load(), self._per_slot, axis=1)
        load[:] = base + self._own

    @property
    def cost(self) -> float:
        """Grams, and money in grams, of the jobs that have a place."""
        return self._pausing.cost() + self._elastic.cost()

    def missing(self, priority: int) -> int:
        """How many jobs of this priority have no place."""
        return len(_waiting(self._jobs.pausing.requests, priority, self._pausing.is_placed)) + len(
            _waiting(self._jobs.elastic.requests, priority, self._elastic.is_placed)
        )

    def placements(self, footprints: Footprints) -> dict[JobId, Placement]:
        """The placements of those that have a place."""
        made = {}
        for places, requests in (
            (self._pausing, self._jobs.pausing.requests),
            (self._elastic, self._jobs.elastic.requests),
        ):
            for job, request in enumerate(requests):
                choice = places.choice(job)
                if choice is not None:
                    made[request.job_id] = footprints.place(
                        request, choice, places.stretches(job), is_known=True
                    )
        return made


def _waiting(
    requests: Sequence[PlanRequest], priority: int, is_placed: Callable[[int], bool]
) -> Ints:
    """The jobs of a priority without a place, biggest first."""
    waiting = [
        job for job, one in enumerate(requests) if one.priority == priority and not is_placed(job)
    ]
    waiting.sort(
        key=lambda job: -requests[job].choices[0].gpus * requests[job].choices[0].duration_s
    )
    return np.array(waiting, dtype=np.int64)


def _most(load: Floats, parts: int) -> Floats:
    """The highest load in each run of so many slots."""
    most: Floats = load.reshape(len(load), -1, parts).max(axis=2)
    return most
