"""From Slurm's word on a job to ours. Pure."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from adapters.cluster.slurm_parsers import SlurmJob
from scheduler.core.timegrid import Window
from scheduler.ports import RunState, RunStatus

EX_TEMPFAIL: Final = 75
_SIGKILL, _SIGTERM = 9, 15
_OOM_MARK: Final = 125  # Slurm writes an out-of-memory end as this "signal"
_J_PER_KWH: Final = 3.6e6

WAITING: Final = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"}
    | {"SPECIAL_EXIT"}
)
GOING: Final = frozenset(
    {"RUNNING", "COMPLETING", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING", "SUSPENDED"}
)
ENDED: Final = frozenset(
    {"COMPLETED", "FAILED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", "CANCELLED"}
)
LOST: Final = frozenset({"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED"})
"""Ends that are the cluster's fault, not the job's."""

Pauses = list[list[float]]
"""Wall seconds of (suspended, continued); the last one is open while it is suspended."""


def is_over(job: SlurmJob) -> bool:
    """Whether it has ended for good; a word that we do not know is no end."""
    return job.state in ENDED or job.state in LOST


def is_waiting(job: SlurmJob) -> bool:
    """Whether no process of it has been started."""
    return job.state in WAITING or not (job.has_run or is_over(job))


def exit_code(job: SlurmJob) -> int | None:
    """As of a process: negative for death by that signal; None where it never ran, or is unknown.

    Never 0 for a job that Slurm does not call COMPLETED.
    """
    code, signal = job.code
    if not job.has_run:
        return None
    if signal:
        return -_SIGKILL if signal == _OOM_MARK else -signal
    if code or job.state == "COMPLETED":
        return code
    if job.state == "OUT_OF_MEMORY":
        return -_SIGKILL
    # Asked to end, it may have left with 0 without having done its work.
    return None if job.state == "FAILED" else -_SIGTERM


def build_status(
    name: str,
    job: SlurmJob,
    *,
    at: Callable[[float], datetime],
    pauses: Pauses,
    is_exclusive: bool = False,
) -> RunStatus:
    """The status of the run of that name.

    Args:
        name: `Dispatch.name`.
        job: Slurm's word on it.
        at: the service's time at a wall-clock instant.
        pauses: when we suspended and continued it.
        is_exclusive: whether energy measured on its nodes is its own.
    """
    state = _state(job, pauses)
    spans, since_s = _spans(job, pauses)
    is_open = state is RunState.RUNNING and since_s is not None
    joules = job.energy_j if is_exclusive and is_over(job) else None
    return RunStatus(
        name=name,
        ref=job.job_id,
        state=state,
        spans=tuple(Window(at(low), at(high)) for low, high in spans),
        since=at(since_s) if is_open and since_s is not None else None,
        exit_code=exit_code(job) if state is RunState.ENDED else None,
        energy_kwh=None if joules is None else joules / _J_PER_KWH,
        detail=_detail(job),
    )


def _state(job: SlurmJob, pauses: Pauses) -> RunState:
    if is_over(job):
        # One that has saved its work is to be run again, whoever asked it to leave.
        has_saved = exit_code(job) == EX_TEMPFAIL
        return RunState.LOST if job.state in LOST and not has_saved else RunState.ENDED
    if is_waiting(job):
        return RunState.PENDING
    is_frozen = job.state == "SUSPENDED" and bool(pauses) and len(pauses[-1]) == 1
    return RunState.FROZEN if is_frozen else RunState.RUNNING


def _spans(job: SlurmJob, pauses: Pauses) -> tuple[list[tuple[float, float]], float | None]:
    """Finished stretches, and when the open one began; seconds since the epoch.

    Slurm counts whole seconds: a stretch shorter than one is taken for one.
    """
    spans = list(job.stretches)
    if job.start_s is None or not job.has_run or is_waiting(job):
        return spans, None
    since_s: float | None = job.start_s
    for stopped_s, *continued in pauses:
        if since_s is not None and stopped_s >= since_s:
            spans.append((since_s, stopped_s))
            since_s = continued[0] if continued else None
    if is_over(job) and since_s is not None:
        end_s = job.end_s or since_s
        spans.append((since_s, end_s if end_s > since_s else float(int(since_s) + 1)))
        since_s = None
    return spans, since_s


def _detail(job: SlurmJob) -> str:
    """Slurm's own words where they tell more than our state does; the same from either source."""
    if is_over(job):
        return "" if job.state in ("COMPLETED", "FAILED") else f"Slurm: {job.state}"
    reason = "" if job.reason in ("", "None") else f", {job.reason}"
    return f"Slurm: {job.state}{reason}"
