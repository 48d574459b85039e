"""What earlier runs of a job tell about how long the next one may take."""

import math
from collections.abc import Iterable
from typing import Final

from scheduler.core.job import JobRecord, JobState

MIN_RUNS: Final = 5
"""Fewer runs than this tell nothing: nothing is kept free for what might be an accident."""
MOST: Final = 3.0
"""Longest run that is kept room for, in stated durations; beyond it the statement is at fault."""
SHARE: Final = 0.95


def ratio_of(record: JobRecord) -> float | None:
    """Measured run time over the stated one, without restores; None where the job did not succeed."""
    if record.state is not JobState.SUCCEEDED or record.done_share <= 0:
        return None
    return record.done_share


def long_run(ratios: Iterable[float]) -> float:
    """Stated durations that 95 % of such runs stay within, from 1 to `MOST`; 1 for too few runs.

    The smallest measured ratio that at least 95 % of all are not above (nearest rank, no interpolation:
    of few runs it is the longest).
    """
    ordered = sorted(ratios)
    if len(ordered) < MIN_RUNS:
        return 1.0
    return min(MOST, max(1.0, ordered[math.ceil(SHARE * len(ordered)) - 1]))


def learned_margin_s(duration_s: int, factor: float) -> int:
    """Seconds to keep free before the deadline for a run of `duration_s`."""
    return math.ceil(round(duration_s * (factor - 1.0), 6))
