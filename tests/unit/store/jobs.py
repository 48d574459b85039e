"""Jobs to fill a store with."""

from scheduler.core.job import JobId, JobState
from scheduler.ports import Event, NewJob
from tests.unit.core.builders import T0, job, record


def new(name: str, *, padding: int = 0) -> NewJob:
    queued = record(JobState.QUEUED, job=job(job_id=JobId(name), command=("true", "x" * padding)))
    return NewJob(
        record=queued, event=Event(at=T0, kind="submitted", job_id=JobId(name), state=queued.state)
    )
