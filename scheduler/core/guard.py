"""When a cluster itself starts a job of its users, whatever becomes of Gridtide."""

from datetime import datetime, timedelta
from typing import Final

from scheduler.core.job import Job

GUARD_BEFORE_S: Final = 120
"""The cluster's own start comes so much before the latest one: its queue has a rhythm of its own."""


def guard_at(latest_start_at: datetime, *, earliest_at: datetime) -> datetime:
    """The start to give the cluster: two minutes before the latest one, whole seconds, never before it may start."""
    latest = latest_start_at - timedelta(seconds=GUARD_BEFORE_S)
    return max(latest, earliest_at).replace(microsecond=0)


def latest_start_at(job: Job) -> datetime:
    """Latest start that meets the deadline even where the first option's run takes long, and `start_by`."""
    (option, *_) = job.options
    long_s = option.duration_s + job.margin_s(option)
    latest = job.deadline_at - timedelta(seconds=long_s)
    return latest if job.start_by_at is None else min(latest, job.start_by_at)
