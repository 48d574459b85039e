"""Requests to the planner: of new jobs, and of those that have run, with what is left of them."""

import math
from dataclasses import replace
from datetime import datetime

from scheduler.core.data_moves import NO_MOVE, DataMoves
from scheduler.core.fleet import Fleet
from scheduler.core.job import Job, JobRecord, JobState, Run
from scheduler.core.planner.snapshot import Choice, PlanRequest, choices_of, request_of
from scheduler.core.run_times import learned_margin_s
from scheduler.core.terms import Interruptible, Limits
from scheduler.service.experience import Experience
from scheduler.service.progress import left_share, needs_restore

MIN_LEFT_S = 60
"""Shortest rest that is planned: a job that should have ended by now still has something to do."""


class Requests:
    """Builds requests on a fleet."""

    def __init__(self, *, fleet: Fleet, moves: DataMoves, experience: Experience) -> None:
        self._fleet = fleet
        self._moves = moves
        self._run_times = experience.run_times
        self._queue_waits = experience.queue_waits

    def new(self, job: Job) -> PlanRequest:
        """The request of a job that has not run yet.

        A run keeps its width on the clusters that there are. So each width of an elastic job is a choice of
        its own; another one may be chosen after a pause, when the rest is planned anew.
        """
        request = request_of(job, self._choices(job))
        return request if job.elastic is None else replace(request, elastic=None)

    def of(self, record: JobRecord, now: datetime) -> PlanRequest:
        """The request of a stored job; of one that was paused, with what is left."""
        request = self.new(record.job)
        run = record.run
        if run is None or record.state is not JobState.SUSPENDED:
            return request
        return replace(
            request,
            choices=self._rest(record, run, request.choices, now),
            start_by_at=None,
            interruptible=_pauses_left(record),
            # What has begun is brought to its end: its limits were kept when it was placed.
            limits=Limits(carbon_price=request.limits.carbon_price),
        )

    def _choices(self, job: Job) -> tuple[Choice, ...]:
        listed = choices_of(job, self._fleet, self._moves)
        if job.elastic is not None:
            listed = _each_width(job, listed)
        factor = 1.0 if job.duration_p95_s is not None else self._run_times.factor(job)

        def learned_s(choice: Choice) -> int:
            return learned_margin_s(choice.duration_s, factor) + self._queue_waits.extra_s(
                choice.cluster
            )

        return tuple(
            replace(choice, margin_s=choice.margin_s + extra_s) if extra_s else choice
            for choice in listed
            for extra_s in (learned_s(choice),)
        )

    def _rest(
        self, record: JobRecord, run: Run, choices: tuple[Choice, ...], now: datetime
    ) -> tuple[Choice, ...]:
        how, share = record.job.interruptible, left_share(record, now)
        is_frozen = not run.is_ended  # in place: it continues where it is, as wide as it is
        cost_s = how.checkpoint_cost_s if how is not None and needs_restore(record) else 0
        is_movable = how is not None and how.is_movable and not is_frozen

        def fits(choice: Choice) -> bool:
            is_same = (choice.cluster.cluster_id, choice.option) == (run.cluster_id, run.option)
            is_as_wide = choice.gpus == record.gpus_of(run)
            return is_movable or (is_same and (is_as_wide or not is_frozen))

        def rest(choice: Choice) -> Choice:
            wait_s = choice.cluster.queue_wait_s + self._queue_waits.extra_s(choice.cluster)
            return replace(
                choice,
                duration_s=max(MIN_LEFT_S, _up(choice.duration_s * share)) + cost_s,
                margin_s=_up((choice.margin_s - wait_s) * share) + wait_s,
                move=NO_MOVE if choice.cluster.cluster_id == run.cluster_id else choice.move,
            )

        return tuple(rest(choice) for choice in choices if fits(choice))


def _each_width(job: Job, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    """Each choice at each width that its cluster has room for; the stated width first, for the baseline."""
    assert job.elastic is not None
    stated = job.options[0].gpus
    found = [
        replace(
            choice,
            gpus=width.gpus,
            power_w=width.power_w,
            duration_s=_up(choice.duration_s / job.speed(width.gpus)),
            margin_s=_up(job.margin_s(job.options[0]) / job.speed(width.gpus))
            + choice.cluster.queue_wait_s,
        )
        for choice in choices
        for width in job.elastic.widths
        if choice.cluster.gpus(choice.accelerator) >= width.gpus
    ]
    return tuple(sorted(found, key=lambda choice: choice.gpus != stated))


def _up(seconds: float) -> int:
    """Whole seconds, rounded up, but for what floating point has added."""
    return math.ceil(round(seconds, 6))


def _pauses_left(record: JobRecord) -> Interruptible | None:
    """How the rest may be paused. A run that lost its work when it was paused is not paused again."""
    how, run = record.job.interruptible, record.run
    if how is None or run is None:
        return None
    has_lost = any(
        one.pause_requested_at is not None and one.is_ended and one.work_s <= 0
        for one in record.runs
        if one.attempt == run.attempt
    )
    # Freezes do not end the run: each leaves one more stretch.
    borne = run.segment + (1 if run.is_ended else max(1, len(run.spans)))
    left = 0 if has_lost else max(0, how.max_interruptions - borne)
    return replace(how, max_interruptions=left)
