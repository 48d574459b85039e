"""Errors that Gridtide raises.

    GridtideError
    ├── InvalidInputError        what was given is wrong; nothing was changed
    │   ├── InvalidJobError
    │   ├── InvalidConfigError
    │   └── InvalidDataError
    ├── InfeasibleError          well formed, but cannot be done as asked
    ├── NotFoundError
    ├── ConflictError
    │   ├── IllegalTransitionError
    │   ├── StaleRecordError     somebody else wrote first
    │   └── DuplicateJobError
    ├── StoreError               the store cannot be used (corrupt, full, newer schema)
    └── UpstreamError
        ├── ForecastUnavailableError   no usable answer from a source
        ├── ForecastRejectedError      an answer that cannot be true
        ├── ClusterUnavailableError    the cluster does not answer; nothing was started
        ├── ClusterFullError           no room right now; nothing was started
        ├── DispatchRejectedError      the cluster refuses this job for good
        └── DispatchUncertainError     the reply was lost: the job may or may not run

"Cannot place" inside a plan is a result (`Unplaced`), not an error.
"""

from collections.abc import Mapping
from typing import ClassVar

FieldValue = str | int | float | None


class GridtideError(Exception):
    """Base of all our errors: a stable `code`, whether trying again can help, and fields.

    Args:
        message: what happened, to which id, and what to do.
        fields: the facts in the message, for programs (`field`, `value`, `valid`, `job_id`, ...).
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **fields: FieldValue) -> None:
        super().__init__(message)
        self.message = message
        self.fields: Mapping[str, FieldValue] = fields


class InvalidInputError(GridtideError):
    """What was given is wrong; nothing was changed."""

    code = "invalid_input"


class InvalidJobError(InvalidInputError):
    """A job that cannot be accepted as written."""

    code = "invalid_job"


class InvalidConfigError(InvalidInputError):
    """A setting that cannot be used."""

    code = "invalid_config"


class InvalidDataError(InvalidInputError):
    """A data file (intensity, jobs, hardware) that cannot be used."""

    code = "invalid_data"


class InfeasibleError(GridtideError):
    """Well formed, but cannot be done as asked; fields say when it could."""

    code = "infeasible"


class NotFoundError(GridtideError):
    """Nothing has that id."""

    code = "not_found"


class ConflictError(GridtideError):
    """The thing is not in a state that allows this."""

    code = "conflict"


class IllegalTransitionError(ConflictError):
    """The state table has no such step."""

    code = "illegal_transition"


class StaleRecordError(ConflictError):
    """Somebody else changed the job since it was read."""

    code = "stale_record"
    retryable = True


class DuplicateJobError(ConflictError):
    """The job id, or the idempotency key with another body, is taken."""

    code = "duplicate_job"


class StoreError(GridtideError):
    """The store cannot be used: corrupt file, full disk, newer schema."""

    code = "store_unavailable"
    retryable = True


class OverloadedError(GridtideError):
    """Too many requests are under way; nothing was done."""

    code = "overloaded"
    retryable = True


class UpstreamError(GridtideError):
    """Something outside Gridtide failed."""

    code = "upstream"
    retryable = True


class ForecastUnavailableError(UpstreamError):
    """A source of intensity gave no usable answer."""

    code = "forecast_unavailable"


class ForecastRejectedError(UpstreamError):
    """A source of intensity gave an answer that cannot be true."""

    code = "forecast_rejected"


class ClusterUnavailableError(UpstreamError):
    """The cluster does not answer; nothing was started."""

    code = "cluster_unavailable"


class ClusterFullError(UpstreamError):
    """The cluster has no room right now; nothing was started."""

    code = "cluster_full"


class DispatchRejectedError(UpstreamError):
    """The cluster refuses this job for good; nothing was started."""

    code = "dispatch_rejected"
    retryable = False


class DispatchUncertainError(UpstreamError):
    """The reply was lost: the job may or may not run. Look it up before anything else."""

    code = "dispatch_uncertain"
