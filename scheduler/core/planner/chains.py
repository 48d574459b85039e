"""Jobs that wait for others: windows that keep the order, and moves within what the neighbours leave.

The time between the earliest start of the first job of a chain and the deadline of its last is shared out by length, so
that every job of it can be placed on its own. Once all have a place, each may use what its neighbours do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.errors import InvalidDataError
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.columns import weighed_g
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import PlanRequest, Unplaced, UnplacedReason

_PASSES: Final = 2


@dataclass(frozen=True, slots=True)
class Chains:
    """The jobs of a snapshot that wait for others of it, or are waited for.

    Args:
        order: those jobs, each behind those that it waits for.
        before, after: whom each waits for, and who waits for it.
        own: their requests as they were asked.
        tight: their requests with the earliest starts and deadlines that follow from their neighbours.
        split: the same with windows that do not overlap along a chain.
    """

    order: tuple[JobId, ...]
    before: Mapping[JobId, tuple[JobId, ...]]
    after: Mapping[JobId, tuple[JobId, ...]]
    own: Mapping[JobId, PlanRequest]
    tight: Mapping[JobId, PlanRequest]
    split: Mapping[JobId, PlanRequest]


def build_chains(requests: Sequence[PlanRequest], now: datetime, slot_s: int) -> Chains | None:
    """The chains of these jobs; None where no job waits for another of them.

    Raises:
        InvalidDataError: jobs wait for each other in a circle.
    """
    if not any(one.after for one in requests):
        return None
    by_id = {one.job_id: one for one in requests}
    before = {one.job_id: tuple(other for other in one.after if other in by_id) for one in requests}
    following: dict[JobId, list[JobId]] = {job_id: [] for job_id in by_id}
    for job_id, others in before.items():
        for other in others:
            following[other].append(job_id)
    members = [one for one in sorted(by_id) if before[one] or following[one]]
    order = _ordered(members, before, following)
    after = {job_id: tuple(following[job_id]) for job_id in order}
    length = {job_id: timedelta(seconds=by_id[job_id].shortest_s(slot_s)) for job_id in order}
    tight = _tightened(order, by_id, before, after, length, now)
    return Chains(
        order=order,
        before={job_id: before[job_id] for job_id in order},
        after=after,
        own={job_id: by_id[job_id] for job_id in order},
        tight=tight,
        split=_split(order, tight, before, after, length),
    )


def find_cycle(after: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Jobs that wait for each other in a circle, the first one again at the end; None where there are none."""
    done: set[str] = set()
    for start in after:
        path: list[str] = []
        on_path: set[str] = set()
        stack = [(start, False)]
        while stack:
            job_id, is_left = stack.pop()
            if is_left:
                on_path.discard(path.pop())
                done.add(job_id)
                continue
            if job_id in on_path:
                return [*path[path.index(job_id) :], job_id]
            if job_id in done:
                continue
            path.append(job_id)
            on_path.add(job_id)
            stack.append((job_id, True))
            stack += [(other, False) for other in after.get(job_id, ())]
    return None


def _ordered(
    members: Sequence[JobId],
    before: Mapping[JobId, tuple[JobId, ...]],
    following: Mapping[JobId, list[JobId]],
) -> tuple[JobId, ...]:
    waits = {job_id: len(before[job_id]) for job_id in members}
    ready = [job_id for job_id in members if not waits[job_id]]
    order: list[JobId] = []
    while ready:
        job_id = ready.pop()
        order.append(job_id)
        for other in following[job_id]:
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)
    if len(order) < len(members):
        circle = " -> ".join(find_cycle({one: before[one] for one in members}) or ())
        raise InvalidDataError(
            f"after: jobs wait for each other in a circle: {circle}", field="after", value=circle
        )
    return tuple(order)


def _tightened(  # noqa: PLR0917 - the same maps as everywhere here
    order: Sequence[JobId],
    by_id: Mapping[JobId, PlanRequest],
    before: Mapping[JobId, tuple[JobId, ...]],
    after: Mapping[JobId, tuple[JobId, ...]],
    length: Mapping[JobId, timedelta],
    now: datetime,
) -> dict[JobId, PlanRequest]:
    earliest, deadline = dict[JobId, datetime](), dict[JobId, datetime]()
    for job_id in order:
        starts = [earliest[other] + length[other] for other in before[job_id]]
        earliest[job_id] = max(now, by_id[job_id].earliest_at, *starts)
    for job_id in reversed(order):
        ends = [
            _latest_start(by_id[other], deadline[other], length[other]) for other in after[job_id]
        ]
        # A follower that cannot end in time is no reason to hurry.
        soonest = earliest[job_id] + length[job_id]
        deadline[job_id] = min(
            [by_id[job_id].deadline_at, *(one for one in ends if one >= soonest)]
        )
    return {
        job_id: replace(by_id[job_id], earliest_at=earliest[job_id], deadline_at=deadline[job_id])
        for job_id in order
    }


def _latest_start(request: PlanRequest, deadline_at: datetime, length: timedelta) -> datetime:
    latest = deadline_at - length
    return latest if request.start_by_at is None else min(latest, request.start_by_at)


def _split(  # noqa: PLR0917 - likewise
    order: Sequence[JobId],
    tight: Mapping[JobId, PlanRequest],
    before: Mapping[JobId, tuple[JobId, ...]],
    after: Mapping[JobId, tuple[JobId, ...]],
    length: Mapping[JobId, timedelta],
) -> dict[JobId, PlanRequest]:
    """Windows that end before those of the followers begin; slack goes to each by its share of the longest path."""
    none = timedelta()
    ahead, behind = dict[JobId, timedelta](), dict[JobId, timedelta]()
    for job_id in order:
        ahead[job_id] = length[job_id] + max(
            (ahead[other] for other in before[job_id]), default=none
        )
    for job_id in reversed(order):
        behind[job_id] = max(
            (behind[other] + length[other] for other in after[job_id]), default=none
        )
    made: dict[JobId, PlanRequest] = {}
    for job_id in order:
        one = tight[job_id]
        starts = [made[other].deadline_at for other in before[job_id]]
        earliest_at = max([one.earliest_at, *starts])
        soonest = earliest_at + length[job_id]
        share = ahead[job_id] / (ahead[job_id] + behind[job_id]) if behind[job_id] else 1.0
        ends = [
            soonest
            + max(
                none, _latest_start(tight[other], tight[other].deadline_at, length[other]) - soonest
            )
            * share
            for other in after[job_id]
            if _latest_start(tight[other], tight[other].deadline_at, length[other]) >= soonest
        ]
        # A chain that cannot end in time keeps its deadlines: its jobs then have no place, and say so.
        share_at = max(soonest, min(ends).replace(microsecond=0)) if ends else one.deadline_at
        made[job_id] = replace(
            one, earliest_at=earliest_at, deadline_at=min(one.deadline_at, share_at)
        )
    return made


def within_neighbours(
    chains: Chains, request: PlanRequest, placements: Mapping[JobId, Placement]
) -> PlanRequest:
    """The request with the window that its placed neighbours leave it."""
    ends = [
        placements[one].window.end_at for one in chains.before[request.job_id] if one in placements
    ]
    starts = [
        placements[one].window.start_at for one in chains.after[request.job_id] if one in placements
    ]
    tight = chains.tight[request.job_id]
    return replace(
        tight,
        earliest_at=max([tight.earliest_at, *ends]),
        deadline_at=min([tight.deadline_at, *starts]),
    )


def in_spite_of_followers(
    chains: Chains, request: PlanRequest, placements: Mapping[JobId, Placement]
) -> PlanRequest:
    """The request with its own deadline: those that wait for it and have no place yet are not waited for."""
    own = chains.own[request.job_id]
    within = within_neighbours(chains, request, placements)
    starts = [
        placements[one].window.start_at for one in chains.after[request.job_id] if one in placements
    ]
    return replace(within, deadline_at=min([own.deadline_at, *starts]))


def drop_orphans(
    chains: Chains, placements: dict[JobId, Placement], search: WindowSearch
) -> dict[JobId, Unplaced]:
    """Takes away the places of jobs that wait for one without a place; says so."""
    dropped = {}
    for job_id in chains.order:
        missing = [one for one in chains.before[job_id] if one not in placements]
        if missing:
            had = placements.pop(job_id, None)
            if had is not None:
                search.give_back(had)
            dropped[job_id] = Unplaced(
                job_id=job_id,
                reason=UnplacedReason.AFTER_UNPLACED,
                detail=f"it waits for {', '.join(missing)}, which has no place",
            )
    return dropped


def use_slack(chains: Chains, placements: dict[JobId, Placement], search: WindowSearch) -> None:
    """Each job of a chain in turn moves to where it is cheapest between its neighbours."""
    for _ in range(_PASSES):
        for job_id in chains.order:
            had = placements.get(job_id)
            if had is None:
                continue
            asked = within_neighbours(chains, chains.tight[job_id], placements)
            search.give_back(had)
            better = search.best(asked)
            is_better = better is not None and weighed_g(asked, better) < weighed_g(asked, had)
            placements[job_id] = better if better is not None and is_better else had
            search.take(placements[job_id])
