"""The best of a few placings of all jobs together: those that run whole, and those that pause or change their width."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.capacity import CapacityLedger
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.finer import Run, Stage, finer_stage
from scheduler.core.planner.flexible import FlexibleJobs, FlexiblePlaces
from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.kernels import Cells, Floats
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.placing import Effort, FirmOthers, Placing, place_softly
from scheduler.core.planner.prices import Prices, find_prices, prove, refine_prices
from scheduler.core.planner.shaking import Shaking, shaken
from scheduler.core.planner.snapshot import NOBODY, PlanRequest, PlanSnapshot, Watch


def effort_for(jobs: int) -> Effort:
    """What pays, by the number of jobs: more sweeps where each is cheap and every job weighs more."""
    for up_to, effort in (
        (200, Effort(starts=8, sweeps=60)),
        (5_000, Effort(starts=2, sweeps=100)),
        (30_000, Effort(starts=1, sweeps=40)),
        (300_000, Effort(starts=1, sweeps=8)),
    ):
        if jobs <= up_to:
            return effort
    return Effort(starts=1, sweeps=5)


@dataclass(frozen=True, slots=True)
class Problem:
    """Jobs that run whole, and those that may do otherwise (None where there are none), on one snapshot."""

    snapshot: PlanSnapshot
    instance: Instance
    flexible: FlexibleJobs | None

    def __len__(self) -> int:
        return len(self.instance.requests) + (len(self.flexible) if self.flexible else 0)

    @property
    def levels(self) -> tuple[int, ...]:
        """All priorities, falling."""
        found = {int(one) for one in np.unique(self.instance.priority)}
        return tuple(
            sorted(found | (self.flexible.priorities if self.flexible else set()), reverse=True)
        )

    def prices(self, start: Floats | None, watch: Watch = NOBODY) -> Prices:
        """Capacity prices and the bound that they prove."""
        if self.flexible is None:
            return find_prices(self.instance, start=start, watch=watch)
        as_whole = build_instance(self.snapshot, [*self.instance.requests, *self.flexible.requests])
        first = find_prices(as_whole, start=start, watch=watch)
        return refine_prices(self.instance, self.flexible, first.prices, watch=watch)

    def bound(self, prices: Floats) -> float:
        """The bound that these prices prove."""
        return prove(self.instance, prices, self.flexible)


def build_problem(snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> Problem:
    """The problem of these requests; each needs a choice within its limits."""
    flexible = [one for one in requests if one.is_flexible]
    whole = [one for one in requests if not one.is_flexible]
    return Problem(
        snapshot=snapshot,
        instance=build_instance(snapshot, whole),
        flexible=FlexibleJobs(snapshot, flexible) if flexible else None,
    )


@dataclass(frozen=True, slots=True)
class Placed:
    """Where all jobs are."""

    problem: Problem
    stage: Stage
    whole: Placing
    others: FlexiblePlaces | None

    @property
    def worth(self) -> tuple[tuple[int, ...], float]:
        """Sort key: jobs without a place by falling priority, then grams."""
        missing, priority = self.whole.cells.choice < 0, self.stage.instance.priority
        counts = [
            int((missing & (priority == level)).sum())
            + (self.others.missing(level) if self.others else 0)
            for level in self.problem.levels
        ]
        return tuple(counts), self.whole.grams + (self.others.cost if self.others else 0.0)

    def settle(self) -> tuple[dict[JobId, Placement], CapacityLedger]:
        """All of them to the second, and what they leave free."""
        snapshot = self.problem.snapshot
        run, footprints = self.stage.run(self.whole), Footprints(snapshot)
        made = _placements(run, footprints)
        if self.others is not None:
            made |= self.others.placements(footprints)
        return made, run.left(snapshot)


def _placements(run: Run, footprints: Footprints) -> dict[JobId, Placement]:
    """Whole runs as placements."""
    instance = run.instance
    has_place = np.flatnonzero(run.choice >= 0)
    position = instance.layout.position[run.choice[has_place]].tolist()
    requests = [instance.requests[index] for index in has_place.tolist()]
    choices = [one.choices[at] for one, at in zip(requests, position, strict=True)]
    return footprints.place_runs(requests, choices, run.start_s[has_place])


def place_jointly(
    problem: Problem,
    found: Prices,
    *,
    effort: Effort | None = None,
    shaking: Shaking | None = None,
    seed: int,
    watch: Watch = NOBODY,
) -> Placed:
    """The best of a few placings: most jobs of the highest priority first, then least grams.

    Args:
        problem: the jobs.
        found: prices that guide them, and the bound at which nothing is left to gain.
        effort: placings and sweeps; None for what suits the number of jobs.
        shaking: rounds and steps; likewise.
        seed: of the order in which jobs move.
        watch: who looks on.
    """
    stage = finer_stage(problem.snapshot, problem.instance, problem.flexible)
    tried = [_firmly(problem, stage, None, np.zeros_like(found.prices))]
    missing, grams = tried[0].worth
    if not any(missing) and grams <= found.bound_g * (1 + 1e-9):
        return tried[0]
    given = effort or effort_for(len(problem))
    for start in range(given.starts):
        wanted = place_softly(
            stage.room,
            found.prices,
            effort=given,
            seed=seed + start,
            flexible=problem.flexible,
            watch=watch,
        )
        tried.append(_firmly(problem, stage, wanted, found.prices))
        if watch.is_over():
            break
    if problem.flexible is not None:
        return min(tried, key=lambda one: one.worth)
    parts = stage.room.grid.slot_s // stage.instance.grid.slot_s
    whole = shaken(
        stage.instance,
        np.repeat(found.prices, parts, axis=1) / parts,
        [one.whole for one in tried],
        seed=seed,
        effort=shaking,
        watch=watch,
    )
    return Placed(problem, stage, whole, None)


def _firmly(problem: Problem, stage: Stage, wanted: Cells | None, prices: Floats) -> Placed:
    """All jobs within capacity, as near to these wishes as there is room; without wishes, biggest first."""
    places, others = None, None
    if problem.flexible is not None:
        places = problem.flexible.on(stage.instance.grid)
        others = FirmOthers(places, problem.levels, prices)
    whole = stage.greedy(others) if wanted is None else stage.firm(wanted, others)
    return Placed(problem, stage, whole, places)
