"""What every store says when it refuses a call."""

from scheduler.core.errors import (
    ConflictError,
    DuplicateJobError,
    InvalidInputError,
    NotFoundError,
    StaleRecordError,
)


def no_such_job(job_id: str) -> NotFoundError:
    """No job has that id."""
    return NotFoundError(f"no job has the id {job_id!r}; list them to see its id", job_id=job_id)


def id_taken(job_id: str) -> DuplicateJobError:
    """Another job has that id."""
    return DuplicateJobError(f"job id {job_id} is taken; use another one", job_id=job_id)


def key_used(key: str, job_id: str) -> DuplicateJobError:
    """The idempotency key came with another request before."""
    return DuplicateJobError(
        f"idempotency key {key!r} was used for another request, which became job {job_id}; "
        "use a new key for a new job",
        idempotency_key=key,
        job_id=job_id,
    )


def stale(job_id: str, *, version: int, expected: int) -> StaleRecordError:
    """Somebody else wrote first."""
    return StaleRecordError(
        f"job {job_id} has version {version}, not {expected}; read it again",
        job_id=job_id,
        version=version,
        expected=expected,
    )


def settled(job_id: str) -> ConflictError:
    """The entry cannot change any more."""
    return ConflictError(
        f"the ledger entry of job {job_id} is settled and cannot change", job_id=job_id
    )


def not_ended(job_id: str) -> ConflictError:
    """The job may not be removed."""
    return ConflictError(f"job {job_id} has not ended and cannot be removed", job_id=job_id)


def require_limit(limit: int) -> None:
    """Raises InvalidInputError for a limit below 1."""
    if limit < 1:
        raise InvalidInputError(
            f"limit: {limit} is not valid; it must be 1 or more", field="limit", value=limit
        )
