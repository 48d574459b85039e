"""The best of a few placings of all jobs together: as if each ran whole, then with pauses and widths where these pay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scheduler.core.capacity import CapacityLedger
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.arrays import INFINITE, Floats
from scheduler.core.planner.finer import Stage, finer_stage
from scheduler.core.planner.flexible import FlexibleJobs, FlexibleSearch
from scheduler.core.planner.found import Found
from scheduler.core.planner.instance import Instance, build_instance
from scheduler.core.planner.kernels import move
from scheduler.core.planner.placements import Footprints
from scheduler.core.planner.placing import (
    Effort,
    Placing,
    by_priority,
    improve_all,
    place_softly,
    size,
)
from scheduler.core.planner.prices import (
    PASSES,
    PASSES_FOR_MANY,
    Prices,
    find_prices,
    prove,
    refine_prices,
)
from scheduler.core.planner.shaking import Shaking, shaken
from scheduler.core.planner.snapshot import NOBODY, PlanRequest, PlanSnapshot, Watch

_MANY: Final = 50_000
"""Jobs from which the load is smooth by itself, so that fewer steps find the prices."""
_TURNS: Final = 3
"""How often each flexible job is lifted."""


def effort_for(jobs: int) -> Effort:
    """What pays, by the number of jobs: more sweeps where each is cheap and every job weighs more."""
    for up_to, effort in (
        (200, Effort(starts=8, sweeps=60)),
        (5_000, Effort(starts=2, sweeps=100)),
        (30_000, Effort(starts=1, sweeps=40)),
        (50_000, Effort(starts=1, sweeps=20)),
        (300_000, Effort(starts=1, sweeps=5)),
    ):
        if jobs <= up_to:
            return effort
    return Effort(starts=1, sweeps=4)


@dataclass(frozen=True, slots=True)
class Problem:
    """The jobs of a snapshot.

    Args:
        instance: all of them, as if each ran whole.
        rigid: those that must run whole; the same where all must.
        flexible: those that may pause or change their width; None where there are none.
    """

    snapshot: PlanSnapshot
    instance: Instance
    rigid: Instance
    flexible: FlexibleJobs | None

    def prices(self, start: Floats | None, watch: Watch = NOBODY) -> Prices:
        """Capacity prices and the bound that they prove."""
        passes = PASSES if len(self.instance.requests) <= _MANY else PASSES_FOR_MANY
        found = find_prices(self.instance, start=start, passes=passes, watch=watch)
        if self.flexible is None:
            return found
        return refine_prices(self.rigid, self.flexible, found.prices, watch=watch)

    def bound(self, prices: Floats) -> float:
        """The bound that these prices prove."""
        return prove(self.rigid, prices, self.flexible)


def build_problem(snapshot: PlanSnapshot, requests: Sequence[PlanRequest]) -> Problem:
    """The problem of these requests; each needs a choice within its limits."""
    flexible = [one for one in requests if one.is_flexible]
    instance = build_instance(snapshot, requests)
    if not flexible:
        return Problem(snapshot, instance, instance, None)
    rigid = build_instance(snapshot, [one for one in requests if not one.is_flexible])
    return Problem(snapshot, instance, rigid, FlexibleJobs(snapshot, flexible))


@dataclass(frozen=True, slots=True)
class Placed:
    """Where all jobs are: whole, or (by position in `flexible.requests`) in pieces or widths."""

    problem: Problem
    stage: Stage
    whole: Placing
    flexed: Mapping[int, Found]

    def settle(self) -> tuple[dict[JobId, Placement], CapacityLedger]:
        """All of them to the second, and what they leave free."""
        snapshot, flexible = self.problem.snapshot, self.problem.flexible
        run, footprints = self.stage.run(self.whole), Footprints(snapshot)
        made = run.placements(footprints)
        for job, found in self.flexed.items():
            assert flexible is not None
            request = flexible.requests[job]
            made[request.job_id] = footprints.place(
                request, found.choice, found.stretches, is_known=True
            )
        return made, run.left(snapshot)


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
    whole = _place_whole(stage, found, effort=effort, shaking=shaking, seed=seed, watch=watch)
    flexed = {} if problem.flexible is None else _flex(stage, whole, problem.flexible, watch)
    return Placed(problem, stage, whole, flexed)


def _place_whole(
    stage: Stage,
    found: Prices,
    *,
    effort: Effort | None,
    shaking: Shaking | None,
    seed: int,
    watch: Watch,
) -> Placing:
    """All jobs as if they ran whole."""
    count = len(stage.instance.requests)
    tried = [stage.greedy()]
    if tried[0].placed == count and tried[0].grams <= found.bound_g * (1 + 1e-9):
        return tried[0]
    given = effort or effort_for(count)
    for start in range(given.starts):
        wanted = place_softly(
            stage.room, found.prices, effort=given, seed=seed + start, watch=watch
        )
        tried.append(stage.firm(wanted))
        if watch.is_over():
            break
    prices = stage.finer_prices(found.prices)
    return shaken(stage.instance, prices, tried, seed=seed, effort=shaking, watch=watch)


def _flex(stage: Stage, whole: Placing, flexible: FlexibleJobs, watch: Watch) -> dict[int, Found]:
    """Lifts each flexible job in turn and lets it take what costs less than where it is; then the others move up.

    Returns:
        What they took. Those jobs have no place in `whole` any more; its load holds them.
    """
    instance, search = stage.instance, flexible.on(stage.instance.grid)
    index_of = {one.job_id: index for index, one in enumerate(instance.requests)}
    jobs = [index_of[one.job_id] for one in flexible.requests]
    sized, cells = size(instance), whole.cells
    order = sorted(
        range(len(jobs)),
        key=lambda job: (
            cells.choice[jobs[job]] >= 0,
            -instance.priority[jobs[job]],
            -sized[jobs[job]],
        ),
    )
    flexed: dict[int, Found] = {}
    for turn in range(_TURNS):
        moved = 0
        for count, job in enumerate(order):
            moved += _lift(stage, whole, search, flexed, job, jobs[job])
            if count % 64 == 0:
                watch.tell("pauses", (turn + count / len(order)) / _TURNS)
                if watch.is_over():
                    return flexed
        rest = by_priority(instance, stage.tight)
        improve_all(instance, whole, rest[cells.choice[rest] >= 0], passes=1)
        if not moved:
            break
    return flexed


def _lift(  # noqa: PLR0917 - one job in two kinds of places
    stage: Stage,
    whole: Placing,
    search: FlexibleSearch,
    flexed: dict[int, Found],
    job: int,
    index: int,
) -> bool:
    """Whether the job found a place that is better than the one it has, and took it: in time for its margin, or for less."""
    instance, cells, load = stage.instance, whole.cells, whole.load
    had = flexed.get(job)
    cost = had.cost if had is not None else float(cells.grams[index])
    was_late = _is_late(stage, whole, had, index)
    if had is not None:
        _occupy(instance, load, had, -1)
    else:
        move(instance.tables, instance.jobs, load, cells, index, -1.0)
    found = search.find(job, load)
    if found is not None and found.stretches[0][0] > instance.columns.times[index, 2]:
        found = None  # it would begin after its latest start
    if found is not None and (_is_late(stage, whole, found, index), found.cost) < (
        was_late,
        cost * (1 - 1e-12),
    ):
        flexed[job] = found
        cells.choice[index], cells.grams[index] = -1, INFINITE
        _occupy(instance, load, found, 1)
        return True
    if had is not None:
        _occupy(instance, load, had, 1)
    else:
        move(instance.tables, instance.jobs, load, cells, index, 1.0)
    return False


def _is_late(stage: Stage, whole: Placing, found: Found | None, index: int) -> bool:
    """Whether a job does not keep its margin in pieces, or where it is whole."""
    instance, cells = stage.instance, whole.cells
    if found is not None:
        deadline_s = int(instance.columns.times[index, 1])
        return found.stretches[-1][1] > deadline_s - found.choice.margin_s
    return bool(
        cells.choice[index] < 0 or cells.slot[index] > instance.jobs.high[cells.link[index]]
    )


def _occupy(instance: Instance, load: Floats, found: Found, sign: int) -> None:
    """Adds the devices of a place to the load, or takes them away."""
    slot_s = instance.grid.slot_s
    for start_s, stop_s, gpus, _ in found.stretches:
        load[found.row, start_s // slot_s : -(-stop_s // slot_s)] += sign * gpus
