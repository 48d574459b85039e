"""Planning: turns stored jobs into a snapshot, asks the planner, writes the placements back."""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.baseline import freeze_baseline
from scheduler.core.capacity import Reservation, build_capacity
from scheduler.core.data_moves import DataMoves
from scheduler.core.fleet import Fleet
from scheduler.core.job import (
    ENDED_STATES,
    ON_CLUSTER_STATES,
    Baseline,
    Job,
    JobRecord,
    JobState,
    Placement,
)
from scheduler.core.planner.explain import Explanation, explain, ranked, settled
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.rolling import carried_prices
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.shaking import Shaking
from scheduler.core.planner.snapshot import (
    ANY_MOVES,
    Plan,
    PlanRequest,
    PlanSnapshot,
    Unplaced,
    UnplacedReason,
)
from scheduler.core.timegrid import SlotGrid, Window, format_instant
from scheduler.ports import Clock
from scheduler.service.dependencies import Following
from scheduler.service.experience import Experience
from scheduler.service.forecaster import Forecaster
from scheduler.service.lifecycle import Lifecycle, unless_conflicting
from scheduler.service.places import (
    holds,
    infeasible,
    is_in_time,
    is_movable,
    is_stale,
    late_ones,
    ran,
    reservations_of,
    with_late_ones,
)
from scheduler.service.requests import Requests

_S = JobState
_FINEST_S: Final = 60
"""Capacity is counted in slots of this length: runs that end within a slot of the plan leave the rest to others."""
_SHAKING: Final = Shaking(rounds=2, steps=2000, cells=500_000)
"""A service plans often, and a plan that is made again soon need not be the last word."""
_QUICK_S: Final = 0.5
"""A try to squeeze a job in that took longer is not made again at once: others wait to be submitted."""
_CATCH_UP_AFTER: Final = timedelta(minutes=1)
"""So long after a start that the user chose is it looked for elsewhere, too."""
_FULL_REPLAN_UP_TO: Final = 2000
"""Waiting jobs up to which every change re-plans all of them; beyond it only new ones are placed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningPolicy:
    """Slot length and horizon of plans, in seconds, and what moving data takes."""

    slot_s: int
    horizon_s: int
    moves: DataMoves = ANY_MOVES


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What a new job can expect: its frozen baseline, and the placement it would get now."""

    baseline: Baseline
    placement: Placement


class Planning:
    """Plans all waiting jobs, and answers for single new ones without touching the store."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        forecaster: Forecaster,
        lifecycle: Lifecycle,
        clock: Clock,
        policy: PlanningPolicy,
        experience: Experience,
    ) -> None:
        self._fleet = fleet
        self._forecaster = forecaster
        self._lifecycle = lifecycle
        self._clock = clock
        self._policy = policy
        self._experience = experience
        self._outlooks = experience.outlooks
        self._requests = Requests(fleet=fleet, moves=policy.moves, experience=experience)
        self._lock = threading.Lock()
        self._view: tuple[JobRecord, ...] = ()
        self._admitted: dict[str, JobRecord] = {}
        self._search: tuple[datetime, WindowSearch] | None = None
        self._squeezes_from_s = 0.0
        self._made: Plan | None = None
        self._planned_on: tuple[int, int] | None = None
        # What a paused job had run when its rest was last planned; lost in a restart, it is planned once more.
        self._rest_planned: dict[str, tuple[int, int]] = {}

    # ---------------------------------------------------------------- the stage

    def run(self, records: Sequence[JobRecord], *, freed: int) -> list[JobRecord]:
        """Plans where something changed; returns all records, with new placements stored.

        Args:
            records: every active job.
            freed: a number that changes whenever devices became free; a change re-plans.
        """
        self._outlooks.refresh()
        now = self._clock.now()
        current = [
            unless_conflicting(lambda one: self._give_up(one, now), record) for record in records
        ]
        current = [
            unless_conflicting(lambda one: self._catch_up(one, current, now), record)
            for record in current
        ]
        following = self._following(current, now)
        waiting = [record for record in current if is_movable(record, now, following)]
        stamp = (self._forecaster.version + self._outlooks.version, freed)
        fresh = [record for record in waiting if self._is_fresh(record, now, following)]
        if waiting and (fresh or stamp != self._planned_on):
            is_full = (
                len(waiting) <= _FULL_REPLAN_UP_TO or stamp[0] != (self._planned_on or stamp)[0]
            )
            planned = self._replan(current, waiting if is_full else fresh, now)
            current = [planned.get(record.job.job_id, record) for record in current]
        self._planned_on = stamp
        self._rest_planned = {
            record.job.job_id: ran(record) for record in current if record.state is _S.SUSPENDED
        }
        self.observe(current)
        return current

    def _is_fresh(self, record: JobRecord, now: datetime, following: Following) -> bool:
        """Whether it has to be planned now: new, without a place that can be used, or just paused."""
        if record.state is _S.QUEUED or not holds(record, now) or following.is_early(record):
            return True
        is_paused = record.state is _S.SUSPENDED
        return is_paused and self._rest_planned.get(record.job.job_id) != ran(record)

    def follow(self, records: Iterable[JobRecord]) -> None:
        """Takes note of what another process plans, so that admissions here count it."""
        self._outlooks.refresh()
        self._experience.learn_anew()
        self.observe(records)

    def take_over(self) -> None:
        """Begins anew, after another process may have planned."""
        self._experience.learn_anew()
        self._planned_on = None

    def observe(self, records: Iterable[JobRecord]) -> None:
        """Takes note of the active jobs, so that admissions count what they hold."""
        with self._lock:
            self._view = tuple(records)
            seen = {record.job.job_id for record in self._view}
            self._admitted = {
                job_id: record for job_id, record in self._admitted.items() if job_id not in seen
            }
            self._search = None

    def _replan(
        self, records: Sequence[JobRecord], movable: Sequence[JobRecord], now: datetime
    ) -> dict[str, JobRecord]:
        plan = self._plan(records, movable, now)
        following = self._following(records, now)
        had: dict[str, Placement | Unplaced] = {
            record.job.job_id: record.placement
            for record in movable
            if record.placement is not None
            and holds(record, now)
            and not following.is_early(record)
        }
        by_id: dict[str, Placement | Unplaced] = {}
        lost = {unplaced.job_id for unplaced in plan.unplaced} | late_ones(plan, movable)
        if had.keys() & lost:
            # Never give up a window that an earlier plan found: place only the others around it.
            by_id = dict(had)
            others = [record for record in movable if record.job.job_id not in had]
            plan = self._plan(records, others, now)
        for placed in plan.placements:
            by_id[placed.job_id] = placed
        for unplaced in plan.unplaced:
            by_id[unplaced.job_id] = unplaced
        return {
            record.job.job_id: unless_conflicting(
                lambda one: self._write(one, by_id[one.job.job_id]), record
            )
            for record in movable
        }

    def _plan(
        self, records: Sequence[JobRecord], movable: Sequence[JobRecord], now: datetime
    ) -> Plan:
        moving = frozenset(record.job.job_id for record in movable)
        fixed = [record for record in records if record.job.job_id not in moving]
        requests, blocked = self._asked(records, movable, now)
        snapshot = self._snapshot(fixed, requests, now)
        plan = with_late_ones(snapshot, self._make(snapshot))
        return replace(plan, unplaced=(*plan.unplaced, *blocked))

    def _asked(
        self, records: Iterable[JobRecord], movable: Sequence[JobRecord], now: datetime
    ) -> tuple[tuple[PlanRequest, ...], tuple[Unplaced, ...]]:
        """Requests of the jobs to be planned together, and those that wait for one without a place."""
        following = self._following(records, now)
        moving = frozenset(record.job.job_id for record in movable)
        answers = [
            following.place(self._request(record, now, following), record.job, moving)
            for record in movable
        ]
        return (
            tuple(one for one in answers if isinstance(one, PlanRequest)),
            tuple(one for one in answers if isinstance(one, Unplaced)),
        )

    def _request(self, record: JobRecord, now: datetime, following: Following) -> PlanRequest:
        """What is left to do, and where an earlier plan put it, if it can stay there."""
        is_placed = record.state is _S.PLANNED and holds(record, now)
        stays = is_placed and not following.is_early(record)
        return replace(self._requests.of(record, now), held=record.placement if stays else None)

    def _following(self, records: Iterable[JobRecord], now: datetime) -> Following:
        grid = SlotGrid.around(now, slot_s=self._policy.slot_s, horizon_s=self._policy.horizon_s)
        slot_end = grid.origin_at + timedelta(seconds=self._policy.slot_s)
        return Following(records, now=now, slot_end=slot_end)

    def _make(self, snapshot: PlanSnapshot) -> Plan:
        """A plan that starts from the prices of the one before."""
        start = None if self._made is None else carried_prices(self._made, snapshot)
        plan = build_plan(snapshot, start_prices=start, shaking=_SHAKING)
        if plan.prices is not None:
            self._made = plan
        return plan

    def _write(self, record: JobRecord, answer: Placement | Unplaced) -> JobRecord:
        if isinstance(answer, Unplaced):
            if record.state is _S.PLANNED:
                return self._lifecycle.change(
                    replace(record, placement=None),
                    _S.QUEUED,
                    kind="unplanned",
                    reason=answer.detail,
                )
            # The sentence holds the present time: only another kind of reason is news.
            if (record.reason or "").startswith(answer.reason):
                return record
            detail = f"{answer.reason}: {answer.detail}"
            return self._lifecycle.note(
                replace(record, placement=None, reason=detail), kind="unplaced", detail=detail
            )
        if record.placement == answer and record.state is not _S.QUEUED:
            return record
        degraded = answer.provenance is None
        changed = replace(record, placement=answer, is_degraded=record.is_degraded or degraded)
        where = f"{answer.cluster_id} at {format_instant(answer.window.start_at)}"
        detail = where + (", without a forecast" if degraded else "")
        if record.state is _S.QUEUED:
            return self._lifecycle.change(changed, _S.PLANNED, kind="planned", reason=detail)
        return self._lifecycle.note(
            replace(changed, reason=detail), kind="replanned", detail=detail
        )

    def _give_up(self, record: JobRecord, now: datetime) -> JobRecord:
        is_waiting = record.state in (_S.QUEUED, _S.PLANNED, _S.HELD) and not record.runs
        # A job of its user's own is started by its cluster, though late.
        is_ours = record.job.native is None
        if not (is_waiting and is_ours) or now < record.job.deadline_at:
            return record
        return self._lifecycle.change(
            record, _S.MISSED, kind="missed", reason=record.reason or "the deadline passed"
        )

    def _catch_up(
        self, record: JobRecord, records: Sequence[JobRecord], now: datetime
    ) -> JobRecord:
        """A job whose user chose a start that was missed: to be started now, wherever room comes first."""
        placement = record.placement
        is_waiting = record.state in (_S.PLANNED, _S.SUSPENDED)
        if not (record.is_pinned and is_waiting) or placement is None:
            return record
        if now < placement.window.start_at + _CATCH_UP_AFTER:
            return record
        found = self.place_at(record, now, records)
        is_elsewhere = found is not None and found.cluster_id != placement.cluster_id
        if found is None or not (is_elsewhere or is_stale(record, now)):
            return record
        detail = f"to start as soon as {found.cluster_id} has room, as its user wants"
        return self._lifecycle.note(
            replace(record, placement=found, reason=detail), kind="replanned", detail=detail
        )

    # ---------------------------------------------------------------- single jobs

    def admit(self, job: Job, *, at: datetime) -> Admission:
        """Baseline and placement of a job that is not stored yet; its devices are kept for it.

        Raises:
            InfeasibleError: it cannot meet its deadline; `earliest_finish` says what it could.
        """
        with self._lock:
            search = self._current_search()
            request = self._requests.new(job)
            placement, baseline = self._place_new(search, request, job, at)
        return Admission(baseline=baseline, placement=placement)

    def baseline(self, job: Job) -> Baseline:
        """The frozen alternative of a job that is not stored yet, whether or not it has a place.

        Raises:
            InfeasibleError: no cluster may run it at all.
        """
        with self._lock:
            search = self._current_search()
            return freeze_baseline(search, self._requests.new(job), now=job.submitted_at)

    def hold_place(self, record: JobRecord) -> None:
        """Counts a job that was just stored, until a tick has seen it."""
        with self._lock:
            self._admitted[record.job.job_id] = record

    def dry_run(self, job: Job, *, at: datetime) -> tuple[Admission, Explanation]:
        """What `admit` would answer, with its explanation; nothing is kept."""
        with self._lock:
            request = self._requests.new(job)
            fixed = [*self._view, *self._admitted.values()]
            snapshot = self._snapshot(fixed, (), at)
            placement, baseline = self._place_new(WindowSearch(snapshot), request, job, at)
            if job.after:
                request = self._following(fixed, at).admit(request, job)
        admission = Admission(baseline=baseline, placement=placement)
        return admission, explain(snapshot, request, placement, baseline)

    def rank(self, job: Job, *, at: datetime) -> tuple[Placement, ...]:
        """Where it would run best in each cluster, the best first; nothing is kept."""
        with self._lock:
            request = self._requests.new(job)
            snapshot = self._snapshot([*self._view, *self._admitted.values()], (), at)
        return ranked(snapshot, replace(request, earliest_at=max(request.earliest_at, at)))

    def _place_new(
        self, search: WindowSearch, request: PlanRequest, job: Job, at: datetime
    ) -> tuple[Placement, Baseline]:
        """Where a new job would run now, and the frozen alternative; what it waits for comes first."""
        home = request
        if at > request.earliest_at:
            request = replace(request, earliest_at=at)
        if job.after:
            # Only then: thousands of jobs a second may be submitted beside thousands of active ones.
            following = self._following([*self._view, *self._admitted.values()], at)
            home = replace(home, earliest_at=following.baseline_start(job), after=())
            request = following.admit(replace(request, after=()), job)
        found = search.place(request)
        if isinstance(found, Unplaced):
            found = self._squeeze(request, found, job)
        return found, freeze_baseline(search, home, now=job.submitted_at)

    def explain(self, record: JobRecord, records: Sequence[JobRecord]) -> Explanation | None:
        """Why the job is placed as it is; None while it has no placement."""
        if record.placement is None:
            return None
        if record.state in ON_CLUSTER_STATES | ENDED_STATES:
            return settled(
                record.placement, record.baseline, state=record.state, reason=record.reason
            )
        others = [other for other in records if other.job.job_id != record.job.job_id]
        snapshot = self._snapshot(others, (), self._clock.now())
        request = self.request(record, others)
        return explain(snapshot, request, record.placement, record.baseline)

    def _squeeze(self, request: PlanRequest, refused: Unplaced, job: Job) -> Placement:
        """A last try for a job that does not fit: plan all waiting jobs anew together with it."""
        now = self._clock.now()
        records = [*self._view, *self._admitted.values()]
        is_open = refused.reason is UnplacedReason.NO_CAPACITY or bool(job.after)
        began_s = time.monotonic()
        if is_open and began_s >= self._squeezes_from_s:
            following = self._following(records, now)
            movable = [record for record in records if is_movable(record, now, following)]
            if len(movable) <= _FULL_REPLAN_UP_TO:
                moving = frozenset(record.job.job_id for record in movable)
                fixed = [record for record in records if record.job.job_id not in moving]
                asked = following.place(
                    replace(request, earliest_at=max(job.earliest_start_at, now)), job, moving
                )
                requests, _ = self._asked(records, movable, now)
                if isinstance(asked, PlanRequest):
                    plan = self._make(self._snapshot(fixed, (*requests, asked), now))
                    found = {placement.job_id: placement for placement in plan.placements}
                    had = {record.job.job_id for record in movable if holds(record, now)}
                    is_whole = had | {asked.job_id} <= found.keys()
                    if is_whole and not late_ones(plan, movable) and is_in_time(found, asked):
                        return found[asked.job_id]
            ended_s = time.monotonic()
            if ended_s - began_s > _QUICK_S:
                # As long a rest as it took, so that a full fleet is no reason to answer nobody.
                self._squeezes_from_s = ended_s + (ended_s - began_s)
        if (lasting := self._outlooks.lasting()) != self._outlooks.reservations():
            # What may be free again at any time is no reason to refuse it.
            hoped = WindowSearch(self._snapshot(records, (), now, lasting)).place(request)
            if isinstance(hoped, Placement):
                return hoped
            refused = hoped
        raise infeasible(request, self._outlooks.told(refused), job, self._fleet)

    def _current_search(self) -> WindowSearch:
        now = self._clock.now()
        if self._search is None or now - self._search[0] >= timedelta(seconds=self._policy.slot_s):
            snapshot = self._snapshot([*self._view, *self._admitted.values()], (), now)
            self._search = (now, WindowSearch(snapshot))
        return self._search[1]

    def place_at(
        self, record: JobRecord, start_at: datetime, records: Iterable[JobRecord]
    ) -> Placement | None:
        """What is left of the job in one piece from that time on, where room comes first.

        What others hold does not keep it from starting then: its cluster has the last word. None where no
        cluster may run it.
        """
        others = [one for one in records if one.job.job_id != record.job.job_id]
        asked = replace(self.request(record, others), earliest_at=start_at)
        found = WindowSearch(self.snapshot(others)).at_once(asked)
        if found is None:
            return None
        length = sum((one.end_at - one.start_at for one in found.segments), timedelta())
        return replace(found, segments=(Window(start_at, start_at + length),))

    def latest_start_at(self, record: JobRecord) -> datetime:
        """Until when the job can start without missing its deadline, with its margins kept."""
        request = self._requests.of(record, self._clock.now())
        latest = max(
            request.deadline_at - timedelta(seconds=choice.duration_s + choice.margin_s)
            for choice in request.choices
        )  # its cluster had room when it was admitted: there is a choice
        return latest if request.start_by_at is None else min(latest, request.start_by_at)

    # ---------------------------------------------------------------- building

    def request(self, record: JobRecord, others: Iterable[JobRecord]) -> PlanRequest:
        """The request of a stored job by itself, after what it waits for among the others."""
        now = self._clock.now()
        request = self._requests.of(record, now)
        return self._following(others, now).admit(request, record.job)

    def snapshot(self, records: Iterable[JobRecord]) -> PlanSnapshot:
        """The planner's view in which all of these jobs keep what they hold."""
        return self._snapshot(records, (), self._clock.now())

    def _snapshot(
        self,
        fixed: Iterable[JobRecord],
        requests: tuple[PlanRequest, ...],
        now: datetime,
        missing: Iterable[Reservation] | None = None,
    ) -> PlanSnapshot:
        grid = SlotGrid.around(now, slot_s=self._policy.slot_s, horizon_s=self._policy.horizon_s)
        taken = [one for record in fixed for one in reservations_of(record, grid, now)]
        taken += self._outlooks.reservations() if missing is None else missing
        return PlanSnapshot(
            now=now,
            fleet=self._fleet,
            forecast=self._forecaster.matrix(grid),
            capacity=build_capacity(grid.finer(_FINEST_S), self._fleet, taken),
            requests=requests,
            is_fail_open=True,
        )
