"""From Slurm's word on a job to ours. Pure."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from adapters.cluster.slurm_parsers import SlurmJob
from adapters.cluster.slurm_script import EX_NO_FOLDER, EX_NOT_OURS
from scheduler.core.timegrid import Window
from scheduler.ports import RunState, RunStatus

EX_TEMPFAIL: Final = 75
_SIGKILL, _SIGTERM = 9, 15
_OOM_MARK: Final = 125  # Slurm writes an out-of-memory end as this "signal"
_SET_UP_MARK: Final = 53  # and this where a node could not set a job up at all
_SCRIPT_SAYS: Final = {
    EX_NO_FOLDER: "the node cannot make or enter its folder, or the workdir: disk full, or not shared?",
    EX_NOT_OURS: "the submission had been given up before it began",
}
"""Codes of our script, if the command itself did not end with them."""
_J_PER_KWH: Final = 3.6e6

WAITING: Final = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"}
    | {"SPECIAL_EXIT"}
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
    if not (job.has_run and job.is_code_known):
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


def build_stale(name: str, last: RunStatus | None, *, ref: str = "") -> RunStatus:
    """The status of a run that the queue no longer has, while the accounts do not say how it ended.

    Args:
        name: `Dispatch.name`.
        last: what was last known; None for nothing.
        ref: Slurm's id, where nothing else is known.
    """
    known = last or RunStatus(name=name, ref=ref, state=RunState.PENDING)
    why = "the queue no longer has it, and the accounts (sacct) do not answer"
    return replace(known, detail=why, is_stale=True)


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
    if is_over(job) and job.has_run and not job.is_code_known:
        return f"Slurm: {job.state}; its exit code is not known any more"
    if is_over(job):
        is_plain = job.state in ("COMPLETED", "FAILED")
        return _likely_cause(job) if is_plain else f"Slurm: {job.state}"
    reason = "" if job.reason in ("", "None") else f", {job.reason}"
    return f"Slurm: {job.state}{reason}"


def _likely_cause(job: SlurmJob) -> str:
    """What an exit code of our script, or of Slurm itself, stands for."""
    code, signal = job.code
    if signal == _SET_UP_MARK:
        return (
            "Slurm could not set it up, such as open the file for its output: is its folder there?"
        )
    return _SCRIPT_SAYS.get(code, "") if not signal else ""
