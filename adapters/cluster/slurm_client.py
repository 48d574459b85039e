"""The few commands of Slurm that the adapter needs, for one cluster."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.cluster.slurm_commands import CommandRunner, Completed
from adapters.cluster.slurm_parsers import (
    SACCT_FIELDS,
    SlurmJob,
    SlurmNode,
    parse_nodes,
    parse_sacct,
    parse_squeue,
    squeue_format,
)
from adapters.cluster.slurm_refusals import is_without_accounting, submission_error
from adapters.cluster.slurm_status import is_over
from scheduler.core.errors import ClusterUnavailableError, UpstreamError

MAX_NAMES_CHARS: Final = 100_000
"""Linux takes 131,072 bytes in one argument."""
_ENDED_ALREADY: Final = ("invalid job id", "already", "not running", "not found")


@dataclass(frozen=True, slots=True)
class Found:
    """What Slurm knows of some names: jobs of each, first submission first.

    `is_complete` is False where the accounts did not answer: a name that is absent may have ended.
    """

    jobs: dict[str, list[SlurmJob]]
    is_complete: bool


class SlurmClient:
    """Commands of one cluster; raises ClusterUnavailableError where there is no answer."""

    def __init__(
        self, cluster_id: str, runner: CommandRunner, *, cluster_flag: str | None = None
    ) -> None:
        self._cluster_id = cluster_id
        self._runner = runner
        self._flags = (f"--clusters={cluster_flag}",) if cluster_flag else ()
        self._is_silent = False
        self._lines: Mapping[str, SlurmJob] = {}
        self._default_partition: str | None = None

    def find(self, names: Sequence[str], *, closed: bool = False) -> Found:
        """The jobs of these names: one squeue, and one sacct for those that squeue has no more.

        Where `closed`, sacct is asked of ended ones too: only the accounts know their energy.
        """
        jobs = _by_name(self._queued(names), names)
        wanted = [
            name
            for name in names
            if name not in jobs or (closed and all(is_over(job) for job in jobs[name]))
        ]
        if not wanted:
            return Found(jobs, is_complete=True)
        accounted = self._accounted(wanted)
        if accounted is None:
            return Found(jobs, is_complete=False)
        return Found(_merge(jobs, _by_name(accounted, wanted)), is_complete=True)

    def submit(self, options: Sequence[str], script: bytes) -> str:
        """The id of the new job; raises what `submission_error` says of a failure."""
        self._ask_first()
        done = self._runner.run(("sbatch", "--parsable", *self._flags, *options), stdin=script)
        job_id = done.out.strip().partition(";")[0]
        if done.code == 0 and job_id.isdigit():
            return job_id
        error: UpstreamError = submission_error(self._cluster_id, done)
        self._is_silent = isinstance(error, ClusterUnavailableError)
        raise error

    def terminate(self, job_id: str) -> None:
        """Sends SIGTERM to every process of a job."""
        self._tell("scancel", "--signal=TERM", "--full", job_id)

    def kill(self, job_ids: Sequence[str]) -> None:
        """Sends SIGKILL to every process of these jobs."""
        self._tell("scancel", "--signal=KILL", "--full", *job_ids)

    def drop(self, job_ids: Sequence[str]) -> None:
        """Cancels jobs that have not begun."""
        self._tell("scancel", *job_ids)

    def drop_pending(self, job_id: str) -> None:
        """Cancels a job unless it has begun meanwhile."""
        self._tell("scancel", "--state=PENDING", job_id)

    def comment(self, job_id: str, comment: str) -> None:
        """Replaces the comment of a job."""
        self._tell("scontrol", "update", f"JobId={job_id}", f"Comment={comment}")

    def suspend(self, job_id: str) -> bool:
        """Stops a running job in place; whether it was one."""
        return self._tell("scontrol", "suspend", job_id)

    def resume(self, job_id: str) -> bool:
        """Continues a suspended job; whether it was one."""
        return self._tell("scontrol", "resume", job_id)

    def waiting(self) -> list[SlurmJob]:
        """All jobs of this user that wait in the queue."""
        form = f"--Format={squeue_format()}"
        done = self._read("squeue", "--me", "--states=PENDING", "--noheader", form)
        return list(parse_squeue(done.out).values())

    def nodes(self) -> list[SlurmNode]:
        """All nodes with what is taken of them."""
        return parse_nodes(self._read("scontrol", "--detail", "--oneliner", "show", "node").out)

    def default_partition(self) -> str:
        """Where jobs go that name none; asked once."""
        if self._default_partition is None:
            words = self.partitions()
            self._default_partition = next((one[:-1] for one in words if one.endswith("*")), "")
        return self._default_partition

    def partitions(self) -> list[str]:
        """Names of partitions, the default one with an asterisk."""
        return self._read("sinfo", "--noheader", "--format=%P").out.split()

    def ask(self, *command: str) -> Completed:
        """The outcome of a command that may fail."""
        program, *arguments = command
        return self._runner.run((program, *self._flags, *arguments))

    def _queued(self, names: Sequence[str]) -> list[SlurmJob]:
        listed = ",".join(names)
        few = (f"--name={listed}",) if len(listed) <= MAX_NAMES_CHARS else ()
        form = f"--Format={squeue_format(names)}"
        done = self._read("squeue", "--me", "--states=all", "--noheader", *few, form)
        jobs = parse_squeue(done.out, self._lines)
        if len(names) > 1:  # a look at one job is no poll
            self._lines = jobs
        return list(jobs.values())

    def _accounted(self, names: Sequence[str]) -> list[SlurmJob] | None:
        """Jobs in the accounts; none where there are no accounts, None where they do not answer.

        The default window would leave out jobs that are to begin in the future.
        """
        listed = ",".join(names)
        few = (f"--name={listed}",) if len(listed) <= MAX_NAMES_CHARS else ()
        window = ("--starttime=now-30days", "--endtime=now+366days")
        form = f"--format={','.join(SACCT_FIELDS)}"
        shape = ("--duplicates", "--parsable2", "--noheader")
        done = self.ask("sacct", *shape, *few, *window, form)
        if done.code == 0:
            return parse_sacct(done.out)
        return [] if is_without_accounting(done.err) else None

    def _tell(self, *command: str) -> bool:
        """Runs a command about jobs; False where they had ended, or are not in that state."""
        self._ask_first()
        done = self.ask(*command)
        if done.code == 0:
            return True
        if any(mark in done.err.lower() for mark in _ENDED_ALREADY):
            return False
        raise self._silence(command[0], done)

    def _read(self, *command: str) -> Completed:
        self._ask_first()
        done = self.ask(*command)
        if done.code != 0:
            raise self._silence(command[0], done)
        return done

    def _ask_first(self) -> None:
        """After a silence, asks by ping, which fails at once where others would hang."""
        if not self._is_silent:
            return
        done = self.ask("scontrol", "ping")
        if done.code != 0:
            raise self._silence("scontrol ping", done)
        self._is_silent = False

    def _silence(self, program: str, done: Completed) -> ClusterUnavailableError:
        self._is_silent = True
        return ClusterUnavailableError(
            f"{self._cluster_id}: {program} failed: {done.words or done.out.strip()}",
            cluster=self._cluster_id,
        )


def _by_name(jobs: Iterable[SlurmJob], names: Iterable[str]) -> dict[str, list[SlurmJob]]:
    """The jobs that are ours and were not refused, the first submission of each name first."""
    wanted = set(names)
    found: dict[str, list[SlurmJob]] = {}
    for job in sorted(jobs, key=lambda one: int(one.job_id)):
        if job.name in wanted and not job.is_refused:
            found.setdefault(job.name, []).append(job)
    return found


def _merge(
    queued: dict[str, list[SlurmJob]], accounted: dict[str, list[SlurmJob]]
) -> dict[str, list[SlurmJob]]:
    """The controller's word, but that of the accounts for jobs that both say have ended."""
    closed = {
        name: jobs
        for name, jobs in accounted.items()
        if name not in queued or all(is_over(job) for job in jobs)
    }
    return queued | closed
