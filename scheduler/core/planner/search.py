"""The best window of one job under what is free: exact over every start, cluster and hardware option."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.footprint import emissions_g
from scheduler.core.job import Placement
from scheduler.core.planner.columns import money_weight, now_s, within_cost
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.snapshot import (
    Choice,
    PlanRequest,
    PlanSnapshot,
    Unplaced,
    UnplacedReason,
)
from scheduler.core.planner.windows import NO_COST, Profile, best_start
from scheduler.core.terms import NO_LIMITS, Limits
from scheduler.core.timegrid import format_instant
from scheduler.core.units import format_duration

_Key = tuple[float, int, str, int]


@dataclass(frozen=True, slots=True)
class _Found:
    """A candidate: orders by carbon (and money in grams), then start, then cluster, then option."""

    score_mg: int
    start_s: int
    choice: Choice
    is_known: bool

    @property
    def key(self) -> _Key:
        return self.score_mg, self.start_s, self.choice.cluster.cluster_id, self.choice.option


class WindowSearch:
    """Searches windows on a snapshot, and takes devices away as jobs are placed on its own copy."""

    def __init__(self, snapshot: PlanSnapshot) -> None:
        self._snapshot: Final = snapshot
        self._grid: Final = snapshot.forecast.grid
        self._fine: Final = snapshot.capacity.grid
        self._free: Final[NDArray[np.int64]] = snapshot.capacity.free.copy()
        self._row: Final = {row: index for index, row in enumerate(snapshot.capacity.rows)}
        self._now_s: Final = now_s(snapshot)
        self._parts: Final = self._grid.slot_s // self._fine.slot_s
        self._footprints: Final = Footprints(snapshot)
        self._flat: Final = Profile.build(
            np.zeros(self._fine.n_slots, dtype=np.int64), self._fine.slot_s
        )
        self._by_cluster: Final[dict[str, tuple[Profile, NDArray[np.bool_]]]] = {}

    def place(self, request: PlanRequest) -> Placement | Unplaced:
        """The best placement under what is free, which is then taken; or why there is none."""
        found = self.best(request)
        if found is None and self._snapshot.is_fail_open and not self._is_limited(request):
            found = self.earliest(request)
        if found is None:
            return self.refusal(request)
        self.take(found)
        return found

    def _is_limited(self, request: PlanRequest) -> bool:
        """Whether it is the job's own limits that leave it no place."""
        has_limits = request.limits != NO_LIMITS
        if not has_limits or request.elastic is not None:
            return has_limits  # at other widths it may be in time where it is not at its own
        return self.best(replace(request, limits=NO_LIMITS)) is not None

    def place_late(self, request: PlanRequest) -> Placement | None:
        """The placement that ends first, deadline or not, which is then taken."""
        found = self.earliest(request, ignores_deadline=True)
        if found is not None:
            self.take(found)
        return found

    def take(self, placement: Placement) -> None:
        """Takes a placement's devices away from what is free."""
        self._change(placement, -1)

    def give_back(self, placement: Placement) -> None:
        """Undoes `take`."""
        self._change(placement, 1)

    def has_room(self, placement: Placement) -> bool:
        """Whether its devices are free."""
        row = self._row[placement.cluster_id, placement.accelerator]
        return all(
            bool((self._free[row, self._fine.slots_touched(window)] >= gpus).all())
            for window, gpus in placement.stretches
        )

    def again(self, request: PlanRequest, held: Placement) -> Placement | None:
        """An earlier placement at what it is expected to emit now; None where it does not hold any more."""
        choice = next(
            (
                one
                for one in request.choices
                if (one.cluster.cluster_id, one.option) == (held.cluster_id, held.option)
            ),
            None,
        )
        starts_s = [self._grid.offset_up_s(window.start_at) for window in held.segments]
        stops_s = [self._grid.offset_up_s(window.end_at) for window in held.segments]
        is_whole = len(held.segments) == 1 and not held.widths
        if (
            choice is None
            or not is_whole
            or stops_s[0] - starts_s[0] != choice.duration_s
            or not self._earliest_s(request, choice) <= starts_s[0]
            or starts_s[0] > self._latest_s(request, choice)
        ):
            return None
        profile = self._profile(request, choice, ignores_capacity=True)
        if profile.costs_at(np.array(starts_s), choice.duration_s)[0] == NO_COST:
            return None
        return self._placement(request, _Found(0, starts_s[0], choice, is_known=True))

    def keeps_limits(self, request: PlanRequest, placement: Placement) -> bool:
        """Whether a placement that a forecast covers costs, emits and draws no more than the job allows."""
        limits, cost = request.limits, placement.cost
        if limits.max_cost is not None and (cost is None or cost > limits.max_cost):
            return False
        if limits.max_carbon_g is not None and (placement.planned_g or 0.0) > limits.max_carbon_g:
            return False
        forecast = self._snapshot.forecast
        zone, floor = forecast.zone(placement.zone_id), limits.min_renewable_share
        return not floor or not any(
            forecast.is_below([zone], floor)[0, self._grid.slots_touched(window)].any()
            for window in placement.segments
        )

    def _change(self, placement: Placement, sign: int) -> None:
        row = self._row[placement.cluster_id, placement.accelerator]
        for window, gpus in placement.stretches:
            self._free[row, self._fine.slots_touched(window)] += sign * gpus

    @property
    def free(self) -> NDArray[np.int64]:
        """Devices that are left, shape (rows, slots of the capacity); negative where more is in use than there is."""
        return self._free

    def best(self, request: PlanRequest, *, ignores_capacity: bool = False) -> Placement | None:
        """The lowest-carbon placement, or None. Nothing is taken.

        Keeps each choice's margin before the deadline where that is possible at all.
        """
        for keeps_margin in (True, False):
            found = [
                candidate
                for choice in request.choices
                if within_cost(request, choice)
                if (candidate := self._cheapest(request, choice, keeps_margin, ignores_capacity))
            ]
            if found:
                return self._placement(request, min(found, key=lambda candidate: candidate.key))
        return None

    def earliest(self, request: PlanRequest, *, ignores_deadline: bool = False) -> Placement | None:
        """The placement that ends first, the cleanest of those that do; None where nothing has room."""
        asked = (
            replace(request, deadline_at=self._grid.end_at, start_by_at=None)
            if ignores_deadline
            else request
        )
        found = [candidate for choice in asked.choices if (candidate := self._first(asked, choice))]
        if not found:
            return None
        first_s = min(one.start_s + one.choice.duration_s for one in found)
        return min(
            (
                self._placement(request, one)
                for one in found
                if one.start_s + one.choice.duration_s == first_s
            ),
            key=lambda one: (one.planned_g is None, one.planned_g or 0.0, one.cluster_id),
        )

    def at(self, request: PlanRequest, choice: Choice) -> Placement | None:
        """The placement of this choice at its earliest start, ignoring capacity and deadline.

        None where no forecast covers it.
        """
        found = self._at(request, choice)
        return self._placement(request, found) if found.is_known else None

    def at_once(self, request: PlanRequest) -> Placement | None:
        """A placement at the earliest start, where room comes first; capacity and deadline do not count.

        None where no cluster may run the job, or its run would end beyond the horizon.
        """
        soonest = self.earliest(request, ignores_deadline=True)
        where = soonest and (soonest.cluster_id, soonest.option)
        for choice in sorted(
            request.choices, key=lambda one: (one.cluster.cluster_id, one.option) != where
        ):
            found = self._at(request, choice)
            if found.start_s + choice.duration_s <= self._grid.offset_down_s(self._grid.end_at):
                return self._placement(request, found)
        return None

    def _at(self, request: PlanRequest, choice: Choice) -> _Found:
        start_s = self._earliest_s(request, choice)
        profile = self._profile(request, choice, ignores_capacity=True)
        cost = profile.costs_at(np.array([start_s]), choice.duration_s)[0]
        return _Found(0, start_s, choice, is_known=bool(cost != NO_COST))

    def _cheapest(
        self, request: PlanRequest, choice: Choice, keeps_margin: bool, ignores_capacity: bool
    ) -> _Found | None:
        latest_s = self._latest_s(request, choice, margin_s=choice.margin_s if keeps_margin else 0)
        profile = self._profile(request, choice, ignores_capacity=ignores_capacity)
        earliest_s = self._earliest_s(request, choice)
        found = best_start(profile, choice.duration_s, earliest_s, latest_s)
        if found is None:
            return None
        start_s, integral = found
        pue = 1.0 if choice.cluster.pue_by_hour else choice.cluster.pue
        grams = emissions_g(power_w=choice.power_w, pue=pue, integral_mg_s=integral)
        if choice.move.kwh:
            grams += self._footprints.moved_g(choice, start_s)
        if request.limits.max_carbon_g is not None and grams > request.limits.max_carbon_g:
            return None
        weight = money_weight(request)
        if weight:
            grams += weight * (choice.cost(choice.gpus * choice.duration_s) or 0.0)
        return _Found(round(grams * 1000), start_s, choice, is_known=True)

    def _first(self, request: PlanRequest, choice: Choice) -> _Found | None:
        """The earliest start that has room: the cheapest window where every hour costs the same."""
        flat = self._flat.without(self._free[self._row_of(choice)] < choice.gpus)
        earliest_s = self._earliest_s(request, choice)
        found = best_start(flat, choice.duration_s, earliest_s, self._latest_s(request, choice))
        if found is None:
            return None
        start_s, _ = found
        profile, _ = self._of_cluster(choice)
        actual = int(profile.costs_at(np.array([start_s]), choice.duration_s)[0])
        return _Found(0, start_s, choice, is_known=actual != NO_COST)

    def _profile(self, request: PlanRequest, choice: Choice, *, ignores_capacity: bool) -> Profile:
        known, unknown = self._of_cluster(choice)
        floor = request.limits.min_renewable_share
        if floor:
            forecast = self._snapshot.forecast
            below = forecast.is_below([forecast.zone(choice.cluster.zone_id)], floor)[0]
            unknown = unknown | np.repeat(below, self._parts)
        if ignores_capacity:
            return known.without(unknown) if floor else known
        return known.without(unknown | (self._free[self._row_of(choice)] < choice.gpus))

    def _of_cluster(self, choice: Choice) -> tuple[Profile, NDArray[np.bool_]]:
        """Intensity of a cluster on the slots of the capacity (times its PUE, where that changes), and where it is unknown."""
        cluster = choice.cluster
        found = self._by_cluster.get(cluster.cluster_id)
        if found is None:
            forecast = self._snapshot.forecast
            row = forecast.zone(cluster.zone_id)
            values = forecast.mg_per_kwh[row]
            if cluster.pue_by_hour:
                values = np.rint(values * cluster.pue_on(self._grid)).astype(np.int64)
            unknown = np.repeat(forecast.layer[row] < 0, self._parts)
            profile = Profile.build(np.repeat(values, self._parts), self._fine.slot_s, unknown)
            found = self._by_cluster[cluster.cluster_id] = (profile, unknown)
        return found

    def _row_of(self, choice: Choice) -> int:
        return self._row[choice.cluster.cluster_id, choice.accelerator]

    def _earliest_s(self, request: PlanRequest, choice: Choice) -> int:
        """The first second at which it may start there, its data moved."""
        earliest_s = self._grid.offset_up_s(request.earliest_at)
        return max(earliest_s, self._now_s + choice.move.seconds)

    def _latest_s(self, request: PlanRequest, choice: Choice, *, margin_s: int = 0) -> int:
        latest_s = self._grid.offset_down_s(request.deadline_at) - choice.duration_s - margin_s
        if request.start_by_at is None:
            return latest_s
        return min(latest_s, self._grid.offset_down_s(request.start_by_at))

    def _placement(self, request: PlanRequest, found: _Found) -> Placement:
        choice = found.choice
        stop_s = found.start_s + choice.duration_s
        stretch = (found.start_s, stop_s, choice.gpus, choice.power_w)
        return self._footprints.place(request, choice, [stretch], is_known=found.is_known)

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
        shortest_s = request.shortest_s(self._snapshot.pause_slot_s)
        earliest_s = max(self._now_s, self._grid.offset_up_s(request.earliest_at))
        if all(
            self._latest_s(request, replace(choice, duration_s=min(choice.duration_s, shortest_s)))
            < self._earliest_s(request, choice)
            for choice in request.choices
        ):
            return Unplaced(
                job_id=request.job_id,
                reason=UnplacedReason.PAST_DEADLINE,
                detail=f"a run of {format_duration(shortest_s)} from "
                f"{format_instant(self._grid.at(earliest_s))} cannot end by "
                f"{format_instant(request.deadline_at)}",
                earliest_finish_at=finish_at,
            )
        if earliest_s + shortest_s > self._grid.offset_down_s(self._grid.end_at):
            return Unplaced(
                job_id=request.job_id,
                reason=UnplacedReason.PAST_HORIZON,
                detail=f"a run of {format_duration(shortest_s)} from "
                f"{format_instant(self._grid.at(earliest_s))} would end after "
                f"{format_instant(self._grid.end_at)}, and plans look no further ahead",
            )
        if self._is_limited(request):
            return Unplaced(
                job_id=request.job_id,
                reason=UnplacedReason.OVER_LIMIT,
                detail=_limits_sentence(request.limits),
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


def _limits_sentence(limits: Limits) -> str:
    """What the job asks that no window before its deadline gives."""
    asked = [
        f"{name} {value:g}"
        for name, value in (
            ("max_cost", limits.max_cost),
            ("max_carbon_g", limits.max_carbon_g),
            ("min_renewable_share", limits.min_renewable_share),
        )
        if value is not None
    ]
    return f"no window that has room before the deadline keeps {' and '.join(asked)}"
