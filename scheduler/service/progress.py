"""How far a job has come, and what of its plan is still to come."""

from dataclasses import replace
from datetime import datetime, timedelta

from scheduler.core.job import ON_CLUSTER_STATES, JobRecord, JobState, Placement, Run
from scheduler.core.timegrid import Window

AT_CLUSTER_STATES = ON_CLUSTER_STATES | {JobState.DISPATCHING, JobState.UNCERTAIN}
"""States in which a run may have devices."""
Stretch = tuple[Window, int]
"""A segment of a placement, with its devices."""


def work_s(record: JobRecord, run: Run, run_s: float) -> float:
    """Progress that `run_s` seconds of a run are worth, in seconds of its option at the stated width.

    Less the restores that resumes begin with.
    """
    cost_s = record.job.interruptible.checkpoint_cost_s if record.job.interruptible else 0
    restores = 1 if run.segment > 0 else 0
    if (
        record.job.native is not None
    ):  # its pauses do not end the run, but each continuation restores
        restores += max(0, len(run.spans) + (run.since is not None) - 1)
    return max(0.0, run_s - restores * cost_s) * record.job.speed(record.gpus_of(run))


def needs_restore(record: JobRecord) -> bool:
    """Whether a paused run begins its next segment from a checkpoint, rather than where it froze."""
    run = record.run
    return run is None or run.is_ended or record.job.native is not None


def left_share(record: JobRecord, now: datetime) -> float:
    """Share of the work that is still to do, with what the present run has done by now."""
    done, run = record.done_share, record.run
    if run is not None and not run.is_ended:
        open_s = (now - run.since).total_seconds() if run.since else 0.0
        stated_s = record.job.options[run.option].duration_s
        done += work_s(record, run, run.run_s + open_s) / stated_s
    return max(0.0, 1.0 - done)


def current_stretch(placement: Placement, now: datetime) -> Stretch:
    """The segment that holds `now`, else the next one, else the last."""
    stretches = placement.stretches
    return next((one for one in stretches if one[0].end_at > now), stretches[-1])


def is_over(record: JobRecord, now: datetime) -> bool:
    """Whether the segment of the running job is over, and another, or another width, comes next."""
    placement, run = record.placement, record.run
    if placement is None or run is None or record.job.interruptible is None:
        return False
    window, gpus = current_stretch(placement, now)
    is_other_width = gpus != record.gpus_of(run) and window.end_at > now
    has_ended_one = any(segment.end_at <= now for segment in placement.segments)
    return has_ended_one and (window.start_at > now or is_other_width)


def end_without_pause(record: JobRecord, now: datetime) -> datetime:
    """When the run would end if it went on as it is."""
    return now + timedelta(seconds=_rest_s(record, now, gpus=None))


def end_after_pause(record: JobRecord, now: datetime) -> datetime:
    """The soonest end if it pauses now and goes on with its next segment, without further pauses."""
    placement, how = record.placement, record.job.interruptible
    assert placement is not None
    assert how is not None
    window, gpus = current_stretch(placement, now)
    rest_s = how.checkpoint_cost_s + _rest_s(record, now, gpus=gpus)
    return max(window.start_at, now) + timedelta(seconds=rest_s)


def without_pauses(record: JobRecord, now: datetime) -> Placement:
    """The placement of a running job that goes on until its end."""
    placement, run = record.placement, record.run
    assert placement is not None
    assert run is not None
    window = Window(placement.window.start_at, end_without_pause(record, now))
    return replace(placement, segments=(window,), widths=(), gpus=record.gpus_of(run))


def after_run(record: JobRecord, now: datetime) -> Placement | None:
    """The segments still to come when the present run has left; None where all is to be planned anew."""
    placement, run = record.placement, record.run
    if placement is None or run is None:
        return None
    began_at = run.spans[-1].start_at if run.spans else now
    left = [
        (window, gpus)
        for window, gpus in placement.stretches
        if window.start_at > began_at and window.end_at > now
    ]
    if not left:
        return None
    return replace(
        placement,
        segments=tuple(window for window, _ in left),
        widths=tuple(gpus for _, gpus in left) if placement.widths else (),
        gpus=max(gpus for _, gpus in left),
    )


def held_stretches(record: JobRecord, now: datetime, *, at_least_until: datetime) -> list[Stretch]:
    """What a job holds from now on: its planned segments; for a run, what is left of its own first.

    A run that overstays its segment keeps its devices until `at_least_until`.
    """
    placement, run = record.placement, record.run
    if placement is None or record.state is JobState.HELD:
        return []
    left = [one for one in placement.stretches if one[0].end_at > now]
    if record.state not in AT_CLUSTER_STATES or run is None:
        return left
    until = next((window.end_at for window, _ in left if window.start_at <= now), now)
    own = (Window(now, max(until, at_least_until)), record.gpus_of(run))
    return [own, *(one for one in left if one[0].start_at > now)]


def _rest_s(record: JobRecord, now: datetime, *, gpus: int | None) -> float:
    run = record.run
    assert run is not None
    wide = record.gpus_of(run) if gpus is None else gpus
    stated_s = record.job.options[run.option].duration_s
    return left_share(record, now) * stated_s / record.job.speed(wide)
