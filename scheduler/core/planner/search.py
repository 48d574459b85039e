"""The best window of one job under what is free: exact over every start, cluster and hardware option."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.footprint import emissions_g, energy_kwh
from scheduler.core.job import Placement
from scheduler.core.planner.snapshot import (
    Choice,
    PlanRequest,
    PlanSnapshot,
    Unplaced,
    UnplacedReason,
)
from scheduler.core.planner.windows import NO_COST, Profile, best_start
from scheduler.core.timegrid import Window, format_instant
from scheduler.core.units import format_duration

_Key = tuple[float, int, str, int]


@dataclass(frozen=True, slots=True)
class _Found:
    """A candidate: orders by carbon, then start, then cluster, then option."""

    score_mg: int
    start_s: int
    choice: Choice
    integral_mg_s: int | None

    @property
    def key(self) -> _Key:
        return self.score_mg, self.start_s, self.choice.cluster.cluster_id, self.choice.option


class WindowSearch:
    """Searches windows on a snapshot, and takes devices away as jobs are placed on its own copy."""

    def __init__(self, snapshot: PlanSnapshot) -> None:
        self._snapshot: Final = snapshot
        self._grid: Final = snapshot.forecast.grid
        self._free: Final[NDArray[np.int64]] = snapshot.capacity.free.copy()
        self._row: Final = {row: index for index, row in enumerate(snapshot.capacity.rows)}
        self._now_s: Final = max(0, self._grid.offset_up_s(snapshot.now))
        forecast, slot_s = snapshot.forecast, self._grid.slot_s
        self._flat: Final = Profile.build(np.zeros(self._grid.n_slots, dtype=np.int64), slot_s)
        self._by_zone: Final = {
            zone_id: (Profile.build(g, slot_s, is_unknown), is_unknown)
            for zone_id, g, is_unknown in zip(
                forecast.zone_ids, forecast.mg_per_kwh, forecast.layer < 0, strict=True
            )
        }

    def place(self, request: PlanRequest) -> Placement | Unplaced:
        """The best placement under what is free, which is then taken; or why there is none."""
        found = self.best(request)
        if found is None and self._snapshot.is_fail_open:
            found = self.earliest(request)
        if found is None:
            return self.refusal(request)
        self.take(found)
        return found

    def place_late(self, request: PlanRequest) -> Placement | None:
        """The placement that ends first, deadline or not, which is then taken."""
        found = self.earliest(request, ignores_deadline=True)
        if found is not None:
            self.take(found)
        return found

    def take(self, placement: Placement) -> None:
        """Takes a placement's devices away from what is free."""
        row = self._row[placement.cluster_id, placement.accelerator]
        for window in placement.segments:
            self._free[row, self._grid.slots_touched(window)] -= placement.gpus

    def give_back(self, placement: Placement) -> None:
        """Undoes `take`."""
        row = self._row[placement.cluster_id, placement.accelerator]
        for window in placement.segments:
            self._free[row, self._grid.slots_touched(window)] += placement.gpus

    @property
    def free(self) -> NDArray[np.int64]:
        """Devices that are left, shape (rows, slots); negative where more is in use than there is."""
        return self._free

    def fixed(self, request: PlanRequest, choice: Choice, starts_s: tuple[int, ...]) -> Placement:
        """The placement of this choice at the cheapest of these starts, the first of equal ones; nothing is checked."""
        profile = self._by_zone[choice.cluster.zone_id][0]
        costs = profile.costs_at(np.array(starts_s), choice.duration_s)
        index = int(costs.argmin())
        return self._placement(request, _Found(0, starts_s[index], choice, int(costs[index])))

    def best(self, request: PlanRequest, *, ignores_capacity: bool = False) -> Placement | None:
        """The lowest-carbon placement, or None. Nothing is taken.

        Keeps each choice's margin before the deadline where that is possible at all.
        """
        for keeps_margin in (True, False):
            found = [
                candidate
                for choice in request.choices
                if (candidate := self._cheapest(request, choice, keeps_margin, ignores_capacity))
            ]
            if found:
                return self._placement(request, min(found, key=lambda candidate: candidate.key))
        return None

    def earliest(self, request: PlanRequest, *, ignores_deadline: bool = False) -> Placement | None:
        """The placement that ends first, whatever it emits; None where nothing has room."""
        asked = (
            replace(request, deadline_at=self._grid.end_at, start_by_at=None)
            if ignores_deadline
            else request
        )
        found = [candidate for choice in asked.choices if (candidate := self._first(asked, choice))]
        if not found:
            return None
        first = min(
            found,
            key=lambda one: (one.start_s + one.choice.duration_s, one.choice.cluster.cluster_id),
        )
        return self._placement(request, first)

    def at(self, request: PlanRequest, choice: Choice) -> Placement | None:
        """The placement of this choice at its earliest start, ignoring capacity and deadline.

        None where no forecast covers it.
        """
        start_s = self._earliest_s(request)
        profile = self._profile(choice, ignores_capacity=True)
        cost = int(profile.costs_at(np.array([start_s]), choice.duration_s)[0])
        if cost == NO_COST:
            return None
        return self._placement(request, _Found(0, start_s, choice, cost))

    def _cheapest(
        self, request: PlanRequest, choice: Choice, keeps_margin: bool, ignores_capacity: bool
    ) -> _Found | None:
        latest_s = self._latest_s(request, choice, margin_s=choice.margin_s if keeps_margin else 0)
        profile = self._profile(choice, ignores_capacity=ignores_capacity)
        found = best_start(profile, choice.duration_s, self._earliest_s(request), latest_s)
        if found is None:
            return None
        start_s, integral = found
        score_mg = round(
            emissions_g(
                power_w=choice.power_w, pue=choice.cluster.pue, integral_mg_s=integral * 1000
            )
        )
        return _Found(score_mg, start_s, choice, integral)

    def _first(self, request: PlanRequest, choice: Choice) -> _Found | None:
        """The earliest start that has room: the cheapest window where every hour costs the same."""
        flat = self._flat.without(self._free[self._row_of(choice)] < choice.gpus)
        found = best_start(
            flat,
            choice.duration_s,
            self._earliest_s(request),
            self._latest_s(request, choice),
        )
        if found is None:
            return None
        start_s, _ = found
        profile = self._profile(choice, ignores_capacity=False)
        actual = int(profile.costs_at(np.array([start_s]), choice.duration_s)[0])
        return _Found(0, start_s, choice, None if actual == NO_COST else actual)

    def _profile(self, choice: Choice, *, ignores_capacity: bool) -> Profile:
        known, unknown = self._by_zone[choice.cluster.zone_id]
        if ignores_capacity:
            return known
        return known.without(unknown | (self._free[self._row_of(choice)] < choice.gpus))

    def _row_of(self, choice: Choice) -> int:
        return self._row[choice.cluster.cluster_id, choice.accelerator]

    def _earliest_s(self, request: PlanRequest) -> int:
        return max(self._now_s, self._grid.offset_up_s(request.earliest_at))

    def _latest_s(self, request: PlanRequest, choice: Choice, *, margin_s: int = 0) -> int:
        latest_s = self._grid.offset_down_s(request.deadline_at) - choice.duration_s - margin_s
        if request.start_by_at is None:
            return latest_s
        return min(latest_s, self._grid.offset_down_s(request.start_by_at))

    def _placement(self, request: PlanRequest, found: _Found) -> Placement:
        choice = found.choice
        cluster = choice.cluster
        start_at = self._grid.at(found.start_s)
        window = Window(start_at, start_at + timedelta(seconds=choice.duration_s))
        planned_g = None
        if found.integral_mg_s is not None:
            planned_g = emissions_g(
                power_w=choice.power_w, pue=cluster.pue, integral_mg_s=found.integral_mg_s
            )
        return Placement(
            job_id=request.job_id,
            cluster_id=cluster.cluster_id,
            region_id=cluster.region_id,
            zone_id=cluster.zone_id,
            option=choice.option,
            accelerator=choice.accelerator,
            gpus=choice.gpus,
            power_w=choice.power_w,
            pue=cluster.pue,
            segments=(window,),
            energy_kwh=energy_kwh(
                power_w=choice.power_w, duration_s=choice.duration_s, pue=cluster.pue
            ),
            planned_g=planned_g,
            provenance=None
            if planned_g is None
            else self._snapshot.forecast.provenance(cluster.zone_id, window),
        )

    def refusal(self, request: PlanRequest) -> Unplaced:
        """Why a job has no place under what is free, and when it could end."""
        if not request.choices:
            return Unplaced(
                job_id=request.job_id,
                reason=UnplacedReason.NOT_ALLOWED,
                detail="no cluster in an allowed region has enough devices of any option",
            )
        first = self.earliest(request, ignores_deadline=True)
        finish_at = first.window.end_at if first else None
        shortest_s = min(choice.duration_s for choice in request.choices)
        earliest_s = self._earliest_s(request)
        if all(self._latest_s(request, choice) < earliest_s for choice in request.choices):
            return Unplaced(
                job_id=request.job_id,
                reason=UnplacedReason.PAST_DEADLINE,
                detail=f"a run of {format_duration(shortest_s)} from "
                f"{format_instant(self._grid.at(earliest_s))} cannot end by "
                f"{format_instant(request.deadline_at)}",
                earliest_finish_at=finish_at,
            )
        if self.earliest(request) is not None:
            return Unplaced(
                job_id=request.job_id,
                reason=UnplacedReason.NO_FORECAST,
                detail="no forecast covers any window that has room before the deadline",
                earliest_finish_at=finish_at,
            )
        return Unplaced(
            job_id=request.job_id,
            reason=UnplacedReason.NO_CAPACITY,
            detail=f"no allowed cluster is free for {format_duration(shortest_s)} before "
            f"{format_instant(request.deadline_at)}",
            earliest_finish_at=finish_at,
        )
