"""Jobs that users gave to Slurm themselves: found by their comment, planned, and let start in place.

All that is known of them is in Slurm: their comment carries our marks, and Slurm itself starts each at its guard,
whatever becomes of Gridtide. So at no instant does a job wait for us alone.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from adapters.cluster.slurm_client import NoRightError, SlurmClient, this_user
from adapters.cluster.slurm_native_lines import QueueLine, find_trouble, find_wanted, parse_line
from adapters.cluster.slurm_native_queue import NativeQueue
from adapters.cluster.slurm_native_runs import NativeRuns, is_paused
from adapters.cluster.slurm_native_words import (
    ADOPTED,
    GUARD,
    LEAVE,
    REFUSED,
    RELEASED,
    SINCE,
    UNHOLD,
    NativeComment,
    parse_signal,
)
from adapters.cluster.slurm_parsers import SlurmJob
from adapters.cluster.slurm_request import SlurmDevice
from adapters.cluster.slurm_status import EX_TEMPFAIL, exit_code, is_over
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
)
from scheduler.ports import NATIVE, Clock, Dispatch, NativeJob, RunStatus, native_name

Scope = Literal["all", "own"]
PARK_S: Final = 60
"""A paused job whose guard has passed starts so long after its pause, unless the guard is moved."""
REST_S: Final = 3
"""So long does a job that was sent back wait at least: slurmd refuses what starts in the second in which it left."""
ASIDE_S: Final = 3600.0
"""So long is a job left alone that may not be changed."""
FRESH_S: Final = 5.0
"""A line of squeue is acted on when it is no older."""
_FAR_S: Final = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one squeue showed: of native jobs, and of this user's jobs."""

    statuses: Mapping[str, RunStatus]
    kill_at_s: Mapping[str, float]
    own: Sequence[SlurmJob]


def ref_of(name: str) -> str:
    """Slurm's id of the native job whose run has that name."""
    return name.removeprefix(NATIVE)


class SlurmNatives:
    """Finds and steers native jobs; see `AdoptingCluster`.

    Args:
        accelerators: how each of our accelerators is asked for.
        scope: whose jobs are adopted: of all users, or only this one's own.
        reads_energy: ask the accounts for energy of jobs that have their nodes to themselves.
        wall: wall clock in Unix seconds.
    """

    def __init__(  # noqa: PLR0913 - what a cluster consists of
        self,
        cluster_id: str,
        client: SlurmClient,
        *,
        accelerators: Mapping[str, SlurmDevice],
        clock: Clock,
        wall: Callable[[], float],
        scope: Scope,
        reads_energy: bool = False,
    ) -> None:
        self._cluster_id = cluster_id
        self._queue = NativeQueue(client)
        self._accelerators = accelerators
        self._clock = clock
        self._wall = wall
        self._scope = scope
        self._runs = NativeRuns(client, at=clock.at_wall, wall=wall, reads_energy=reads_energy)
        self._seen: dict[str, tuple[float, QueueLine]] = {}
        self._aside: dict[str, float] = {}
        self._refusal = ""

    def rights_check(self) -> tuple[bool, str]:
        """Whether every job that asks for it could be changed so far."""
        if not self._aside:
            return True, "jobs of users that ask for planning can be changed"
        which = ", ".join(sorted(self._aside, key=int))
        return False, f"left alone, for they may not be changed: jobs {which}; {self._refusal}"

    # ------------------------------------------------------------------ taking in

    def native_jobs(self) -> list[NativeJob]:
        """See `AdoptingCluster`; one squeue."""
        now_s = self._wall()
        self._aside = {ref: until_s for ref, until_s in self._aside.items() if until_s > now_s}
        lines = [
            line
            for line in self._queue.pending(only_own=self._scope == "own")
            if _is_up_to_us(line) and line.job.job_id not in self._aside
        ]
        self._seen = {line.job.job_id: (now_s, line) for line in lines}
        natives = [self._native(line) for line in lines]
        return sorted(natives, key=lambda one: (one.submitted_at, int(one.ref)))

    def adopt(self, ref: str, *, job_id: str, guard_at: datetime) -> None:
        """See `AdoptingCluster`."""
        line = self._fresh(ref)
        if (
            line is None
            or line.comment is None
            or not _waits(line)
            or RELEASED in line.comment.marks
        ):
            return
        guard_s = self._wall_s_of(guard_at)
        # A hold that was there before us asks us to choose the time; a later one is its user's last word.
        is_ours_to_lift = line.is_held and (
            ADOPTED not in line.comment.marks or UNHOLD in line.comment.marks
        )
        comment = line.comment.marked(
            adopted=job_id,
            since=line.comment.marks.get(SINCE, int(line.submit_s)),
            guard=guard_s,
            unhold=1 if is_ours_to_lift else None,
        )
        with self._minding(ref):
            is_changed = self._set(ref, comment, start=f"uts{guard_s}")
            # Only now: released before it has its time, it would start at once.
            if is_changed and is_ours_to_lift:
                self._queue.release(ref)
                self._set(ref, comment.marked(unhold=None))

    def refuse(self, ref: str, why: str) -> None:
        """See `AdoptingCluster`."""
        line = self._fresh(ref)
        if line is not None and line.comment is not None and REFUSED not in line.comment.marks:
            with self._minding(ref):
                self._set(ref, line.comment.refused(why))

    # ------------------------------------------------------------------ steering

    def submit(self, dispatch: Dispatch) -> str:
        """See `ClusterAdapter`: lets it start."""
        ref = ref_of(dispatch.name)
        line = self._queue.find(ref)
        if line is None:
            raise self._rejected(ref, "is not in the queue any more")
        if not _waits(line):
            return self._begun(ref, line)
        marks = line.comment.marks if line.comment else {}
        if line.comment is None or marks.get(ADOPTED) != dispatch.job_id:
            raise self._rejected(ref, f"does not say any more that it is {dispatch.job_id}")
        if RELEASED not in marks:
            self._let_start(ref, line)
        return ref

    def pause(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`: back to the queue, where Slurm starts it at its guard.

        Where its words name a signal, that comes first, and the rest when the grace is over.
        """
        ref = ref_of(name)
        line = self._queue.find(ref)
        if line is None or is_over(line.job) or line.job.state == "COMPLETING":
            return
        if line.comment is None:
            raise self._unavailable(ref, "cannot be paused: it does not ask for planning any more")
        if _waits(line):
            if not is_paused(line):
                self._park(line, restarts=line.restarts)
            return
        if not line.can_requeue:
            raise self._unavailable(ref, "cannot be paused: it may not be requeued")
        signalled = parse_signal(line.comment.words.get("signal", ""))
        if signalled is None:
            self._send_back(line)
        elif LEAVE not in line.comment.marks:
            name, is_batch_only = signalled
            self._queue.signal(ref, name, is_batch_only=is_batch_only)
            self._set(ref, line.comment.marked(leave=int(self._wall() + grace_s)))

    def resume(self, name: str) -> None:
        """See `ClusterAdapter`: lets it start again."""
        line = self._queue.find(ref_of(name))
        if line is None or line.comment is None or not _waits(line):
            return
        if RELEASED not in line.comment.marks:
            self._let_start(line.job.job_id, line)

    def find(self, name: str) -> SlurmJob | None:
        """The job of that run, as far as the controller remembers it."""
        line = self._queue.find(ref_of(name))
        return None if line is None else line.job

    # ------------------------------------------------------------------ watching

    def look(self, names: Sequence[str]) -> Look:
        """How the runs of these names stand, after one squeue, and one sacct where that says too little.

        Pauses that are due are carried out, and jobs that left by themselves to be run again are sent back.
        """
        wanted = {ref_of(name) for name in names}
        me = this_user()
        lines: dict[str, QueueLine] = {}
        own: list[SlurmJob] = []
        for fields in self._queue.fields("--states=all"):
            if fields[0] in wanted:
                lines[fields[0]] = parse_line(fields)
            elif fields[2] == me:
                own.append(parse_line(fields).job)
        settled = {ref: self._settled(line) for ref, line in lines.items()}
        statuses = self._runs.statuses(sorted(wanted, key=int), settled)
        return Look(
            statuses={native_name(ref): status for ref, status in statuses.items()},
            kill_at_s={
                native_name(ref): line.job.kill_at_s
                for ref, line in settled.items()
                if line.job.kill_at_s is not None and not is_over(line.job)
            },
            own=own,
        )

    def _settled(self, line: QueueLine) -> QueueLine:
        """The line after what is due has been done about its job."""
        try:
            return self._settle(line)
        except NoRightError:
            return line  # whose marks we could set while we had the right

    def _settle(self, line: QueueLine) -> QueueLine:
        if line.comment is None or ADOPTED not in line.comment.marks:
            return line
        leave_s = line.comment.number(LEAVE)
        if is_over(line.job):
            wants_more = exit_code(line.job) == EX_TEMPFAIL and line.job.kill_at_s is None
            return self._rerun(line) if wants_more and line.can_requeue else line
        if leave_s is None:
            return line
        if _waits(line):  # it has saved its work, and sent itself back
            return self._park(line, restarts=line.restarts) if line.restarts else line
        if line.job.state == "RUNNING" and self._wall() >= leave_s:
            self._send_back(line)
        return line

    def _rerun(self, line: QueueLine) -> QueueLine:
        """Sends back a job that has ended with the wish to be run again."""
        parked = self._send_back(line)
        if parked is None:
            return line
        stretch = (line.job.start_s or 0.0, line.job.end_s or 0.0)
        job = replace(parked.job, state="PENDING", has_run=False, stretches=(stretch,))
        return replace(parked, job=job)

    # ------------------------------------------------------------------ changing

    def _let_start(self, ref: str, line: QueueLine) -> None:
        assert line.comment is not None
        if line.is_held:
            raise ClusterFullError(
                f"{self._cluster_id}: job {ref} is held by its user; scontrol release {ref} lets it start",
                cluster=self._cluster_id,
            )
        comment = line.comment.marked(released=int(self._wall()), paused=None, leave=None)
        rested_s = int(line.submit_s) + REST_S if line.restarts else 0
        start = f"uts{rested_s}" if rested_s > self._wall() else "now"
        if not self._set(ref, comment, start=start):
            now = self._queue.find(ref)
            if now is None:
                raise self._rejected(ref, "is not in the queue any more")
            self._begun(ref, now)

    def _begun(self, ref: str, line: QueueLine) -> str:
        """The reference of a job that waits no more; raises where it never will have run."""
        if is_over(line.job) and not line.job.has_run:
            raise self._rejected(ref, f"has ended before it began ({line.job.state})")
        return ref

    def _send_back(self, line: QueueLine) -> QueueLine | None:
        """Requeues a job; None where Slurm does not any more.

        Slurm would start it again after two minutes: that is what happens should we die before it has its
        time. Its time may be set from the first moment on, while it is still leaving.
        """
        if not self._queue.requeue(line.job.job_id):
            return None
        return self._park(line, restarts=line.restarts + 1)

    def _park(self, line: QueueLine, *, restarts: int) -> QueueLine:
        """Has a job that waits wait until its guard, as a paused one."""
        assert line.comment is not None
        guard_s = max(line.comment.number(GUARD) or 0, int(self._wall()) + PARK_S)
        comment = line.comment.marked(guard=guard_s, paused=restarts, released=None, leave=None)
        is_changed = self._set(line.job.job_id, comment, start=f"uts{guard_s}")
        return replace(line, comment=comment, restarts=restarts) if is_changed else line

    def _set(self, ref: str, comment: NativeComment, *, start: str | None = None) -> bool:
        self._seen.pop(ref, None)
        try:
            return self._queue.update(ref, comment, start=start)
        except NoRightError:
            raise
        except ClusterUnavailableError:
            # Slurm says no after having done it, such as where the job exceeds what its partition allows now.
            line = self._queue.find(ref)
            if line is None or line.comment is None or line.comment.text != comment.text:
                raise
            return True

    @contextlib.contextmanager
    def _minding(self, ref: str) -> Iterator[None]:
        """A job that may not be changed is left alone for a while, so that it holds up no other."""
        try:
            yield
        except NoRightError as error:
            self._aside[ref] = self._wall() + ASIDE_S
            self._refusal = error.message
            raise

    # ------------------------------------------------------------------ reading

    def _native(self, line: QueueLine) -> NativeJob:
        assert line.comment is not None
        wanted = find_wanted(line, self._accelerators)
        at, guard_s = self._clock.at_wall, line.comment.number(GUARD)
        words = dict(line.comment.words)
        if not line.can_requeue and "interruptible" in words:
            words["interruptible"] = "no"  # a pause would need a requeue
        is_untouched = UNHOLD in line.comment.marks
        return NativeJob(
            ref=line.job.job_id,
            submitted_at=at(line.comment.number(SINCE) or line.submit_s),
            name=line.job.name,
            user=line.user,
            words=words,
            accelerator=wanted.accelerator,
            gpus=wanted.gpus,
            num_nodes=line.num_nodes,
            limit_s=line.limit_s,
            job_id=None if is_untouched else line.comment.marks.get(ADOPTED),
            is_held=line.is_held,
            starts_at=None if line.is_held else at(line.eligible_s or line.submit_s),
            guard_at=None if guard_s is None or is_untouched else at(guard_s),
            trouble=find_trouble(line) or wanted.trouble,
        )

    def _fresh(self, ref: str) -> QueueLine | None:
        """The job's line, from the last look at the queue where that was just now."""
        seen_s, line = self._seen.get(ref, (-FRESH_S, None))
        is_fresh = line is not None and 0 <= self._wall() - seen_s < FRESH_S
        return line if is_fresh else self._queue.find(ref)

    def _wall_s_of(self, at: datetime) -> int:
        """The whole wall-clock second at which the service's time is that; its clock runs evenly."""
        wall_s = self._wall()
        here, ahead = self._clock.at_wall(wall_s), self._clock.at_wall(wall_s + _FAR_S)
        return int(round(wall_s + (at - here) / (ahead - here) * _FAR_S, 3))

    def _rejected(self, ref: str, why: str) -> DispatchRejectedError:
        return DispatchRejectedError(
            f"{self._cluster_id}: job {ref} {why}", cluster=self._cluster_id
        )

    def _unavailable(self, ref: str, why: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"{self._cluster_id}: job {ref} {why}", cluster=self._cluster_id
        )


def _waits(line: QueueLine) -> bool:
    return line.job.state == "PENDING"


def _is_up_to_us(line: QueueLine) -> bool:
    """Whether it is we who say when it starts.

    Not of jobs that have been let start, nor of the later parts of one. New ones wait until what they depend
    on has ended, and until an administrator lets them go.
    """
    marks = line.comment.marks if line.comment else {}
    is_part = line.array_id != line.job.job_id and not line.array_id.endswith(("+0", "]"))
    if REFUSED in marks or RELEASED in marks or is_part:
        return False
    is_barred = line.has_dependency or (line.is_held and line.job.reason != "JobHeldUser")
    return ADOPTED in marks or not is_barred
