"""How the runs of native jobs stand: squeue's word on the present, the accounts' on what was before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_native_lines import QueueLine
from adapters.cluster.slurm_native_words import PAUSED
from adapters.cluster.slurm_parsers import SlurmJob
from adapters.cluster.slurm_status import build_stale, build_status, is_over, is_waiting
from scheduler.ports import RunState, RunStatus, native_name

Stretches = tuple[tuple[float, float], ...]
BOOKS_S: Final = 120.0
"""So far may the accounts lag behind."""
MAX_SETTLED: Final = 10_000
"""So many jobs' earlier stretches are remembered; of others the accounts are asked again."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A stretch that was seen running."""

    restarts: int
    start_s: float


class NativeRuns:
    """Builds statuses; remembers only what saves commands, or bridges what the accounts do not say.

    Args:
        at: the service's time at a wall-clock instant.
        wall: wall clock in Unix seconds.
        reads_energy: ask the accounts for the energy of jobs that had their nodes to themselves.
    """

    def __init__(
        self,
        client: SlurmClient,
        *,
        at: Callable[[float], datetime],
        wall: Callable[[], float],
        reads_energy: bool,
    ) -> None:
        self._client = client
        self._at = at
        self._wall = wall
        self._reads_energy = reads_energy
        self._settled: dict[str, tuple[int, Stretches]] = {}
        self._open: dict[str, _Open] = {}
        self._observed: dict[str, Stretches] = {}
        self._last: dict[str, RunStatus] = {}

    def statuses(self, refs: Sequence[str], lines: Mapping[str, QueueLine]) -> dict[str, RunStatus]:
        """The statuses by Slurm's id, after at most one sacct; a job without any trace is left out."""
        wanted = [ref for ref in refs if self._needs_accounts(ref, lines.get(ref))]
        accounted = self._client.accounts_of(wanted) if wanted else []
        known = {job.job_id: job for job in accounted or ()}
        statuses: dict[str, RunStatus] = {}
        for ref in refs:
            line = lines.get(ref)
            if line is not None:
                status = self._queued(ref, line, known.get(ref))
            elif ref in known:
                status = build_status(native_name(ref), _whole(known[ref]), at=self._at, pauses=[])
            elif accounted is None:
                status = build_stale(native_name(ref), self._last.get(ref), ref=ref)
            else:
                self._forget(ref)
                continue
            statuses[ref] = status
            self._remember(ref, status)
        return statuses

    def _needs_accounts(self, ref: str, line: QueueLine | None) -> bool:
        if line is None:
            return True
        if line.restarts > 0 and self._settled.get(ref, (0, ()))[0] != line.restarts:
            return True
        return self._wants_energy(line)

    def _wants_energy(self, line: QueueLine) -> bool:
        # The accounts keep what the last stretch drew, not what all of them did.
        is_whole = line.is_exclusive and line.restarts == 0
        return self._reads_energy and is_whole and is_over(line.job) and line.job.has_run

    def _queued(self, ref: str, line: QueueLine, accounted: SlurmJob | None) -> RunStatus:
        self._observe(ref, line)
        stretches = self._stretches(ref, line, accounted)
        job = replace(line.job, stretches=stretches)
        if job.state == "COMPLETING" and job.end_s is None:
            job = self._leaving(ref, job)
        is_closed = accounted is not None and is_over(accounted)
        if self._wants_energy(line) and is_closed and accounted is not None:
            job = replace(job, energy_j=accounted.energy_j)
        lacks = (self._wants_energy(line) and not is_closed) or len(stretches) < line.restarts
        if is_over(job) and lacks and self._wall() < (job.end_s or 0.0) + BOOKS_S:
            job = replace(
                job, state="COMPLETING"
            )  # an end is told once, with all that belongs to it
        status = build_status(
            native_name(ref), job, at=self._at, pauses=[], is_exclusive=self._wants_energy(line)
        )
        return replace(status, state=RunState.FROZEN) if is_paused(line) else status

    def _leaving(self, ref: str, job: SlurmJob) -> SlurmJob:
        """A job on its way back to the queue still has its nodes; squeue tells no true start any more."""
        opened = self._open.get(ref)
        last = job.stretches[-1][0] if job.stretches else None
        start_s = opened.start_s if opened else last
        before = tuple(one for one in job.stretches if start_s is not None and one[0] < start_s)
        return replace(job, start_s=start_s, stretches=before)

    def _observe(self, ref: str, line: QueueLine) -> None:
        """Notes when it was seen running: a requeue tells its own time, but not that of the start."""
        opened = self._open.get(ref)
        job = line.job
        if opened is not None and line.restarts > opened.restarts and job.state != "COMPLETING":
            stretch = (opened.start_s, line.submit_s)
            self._observed[ref] = (*self._observed.get(ref, ()), stretch)
            del self._open[ref]
        if job.state in ("RUNNING", "SUSPENDED") and job.start_s is not None:
            self._open[ref] = _Open(line.restarts, job.start_s)

    def _stretches(self, ref: str, line: QueueLine, accounted: SlurmJob | None) -> Stretches:
        """Its earlier stretches: as the accounts have them, and until they do, as they were seen."""
        if line.restarts == 0:
            return ()
        settled = self._settled.get(ref, (0, ()))
        if settled[0] == line.restarts:
            return settled[1]
        told = _whole(accounted).stretches if accounted is not None else ()
        if line.job.has_run and line.job.state != "COMPLETING":
            # An end that both know is no earlier stretch.
            told = tuple(one for one in told if one[0] < (line.job.start_s or one[0] + 1))
        longest = max((told, line.job.stretches, self._observed.get(ref, ())), key=len)
        seen = tuple((low, max(high, low + 1)) for low, high in longest)  # as Slurm counts: seconds
        is_late = self._wall() > line.submit_s + BOOKS_S
        if line.job.state != "COMPLETING" and (len(seen) >= line.restarts or is_late):
            self._settled[ref] = (line.restarts, seen)
        return seen

    def _remember(self, ref: str, status: RunStatus) -> None:
        if status.state in (RunState.ENDED, RunState.LOST):
            self._forget(ref)
        else:
            self._last[ref] = status
        if len(self._settled) > MAX_SETTLED:
            self._settled.pop(next(iter(self._settled)))

    def _forget(self, ref: str) -> None:
        self._open.pop(ref, None)
        self._observed.pop(ref, None)
        self._last.pop(ref, None)


def is_paused(line: QueueLine) -> bool:
    """Whether it waits because we paused it; one that Slurm sent back since then is not."""
    paused = line.comment.number(PAUSED) if line.comment else None
    return paused is not None and paused == line.restarts and is_waiting(line.job)


def _whole(job: SlurmJob) -> SlurmJob:
    """The job with its last stretch among the others, where that one ended in a requeue."""
    if job.state != "REQUEUED" or not job.has_run or job.start_s is None or job.end_s is None:
        return job
    return replace(job, stretches=(*job.stretches, (job.start_s, job.end_s)))
