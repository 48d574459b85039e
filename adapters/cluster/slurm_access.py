"""What the adapter needs of a Slurm cluster, by whichever route: its commands, or slurmrestd."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.cluster.slurm_holdings import SlurmHolding, SlurmReservation
from adapters.cluster.slurm_parsers import SlurmJob, SlurmNode
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms, device_options
from adapters.cluster.slurm_status import is_over

Line = tuple[bool, str]
"""What `doctor` says of one thing: whether it is well, and how it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """What Slurm knows of some names: jobs of each, first submission first.

    `is_complete` is False where the accounts did not answer: a name that is absent may have ended.
    """

    jobs: dict[str, list[SlurmJob]]
    is_complete: bool


class Find(Protocol):
    """`SlurmAccess.find`, or what stands in for it."""

    def __call__(self, names: Sequence[str], *, closed: bool) -> Found: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSubmission:
    """One job as it is handed to Slurm, beside its script.

    Args:
        name: of the job in Slurm, with our prefix.
        workdir: where it begins.
        output: pattern of a file name, with `%%` for a percent sign; `error` likewise.
        each: devices on each of the nodes.
    """

    name: str
    comment: str
    workdir: str
    output: str
    error: str
    device: SlurmDevice
    each: int
    num_nodes: int
    terms: SlurmTerms

    def options(self) -> list[str]:
        """The options of sbatch."""
        return [
            f"--job-name={self.name}",
            "--export=NONE",
            "--no-requeue",  # what is lost is planned again
            "--open-mode=append",
            f"--chdir={self.workdir}",
            f"--output={self.output}",
            f"--error={self.error}",
            *device_options(self.device, each=self.each, num_nodes=self.num_nodes),
            *self.terms.options(self.device),
            f"--comment={self.comment}",
        ]


class SlurmAccess(Protocol):
    """One cluster. Every method raises ClusterUnavailableError where there is no answer."""

    @property
    def can_suspend(self) -> bool:
        """Whether jobs can be stopped and continued in place; constant."""
        ...

    @property
    def tells_exits(self) -> bool:
        """Whether an exit code is still known when the controller has forgotten the job."""
        ...

    def find(self, names: Sequence[str], *, closed: bool = False) -> Found:
        """The jobs of these names that are ours, refused submissions left out.

        Where `closed`, the accounts are asked of ended ones too: only they know their energy.
        """
        ...

    def submit(self, submission: SlurmSubmission, script: bytes) -> str:
        """The id of the new job.

        Raises:
            ClusterFullError: a limit is reached; nothing was started.
            DispatchRejectedError: refused for good; nothing was started.
            DispatchUncertainError: the reply was lost.
        """
        ...

    def terminate(self, job_id: str) -> None:
        """Sends SIGTERM to every process of a job; none is left once it has ended."""
        ...

    def kill(self, job_ids: Sequence[str]) -> None:
        """Sends SIGKILL to every process of these jobs."""
        ...

    def drop(self, job_ids: Sequence[str]) -> None:
        """Cancels jobs that have not begun."""
        ...

    def drop_pending(self, job_id: str) -> None:
        """Cancels a job unless it has begun meanwhile, as far as Slurm can tell the two apart."""
        ...

    def comment(self, job_id: str, comment: str) -> None:
        """Replaces the comment of a job."""
        ...

    def suspend(self, job_id: str) -> bool:
        """Stops a running job in place; whether it was one."""
        ...

    def resume(self, job_id: str) -> bool:
        """Continues a suspended job; whether it was one."""
        ...

    def waiting(self) -> list[SlurmJob]:
        """All jobs of this user that wait in the queue."""
        ...

    def nodes(self) -> list[SlurmNode]:
        """All nodes with what is taken of them."""
        ...

    def holdings(self) -> list[SlurmHolding]:
        """What jobs of all users hold that have their nodes."""
        ...

    def reservations(self) -> list[SlurmReservation]:
        """What the site keeps back, now and later."""
        ...

    def default_partition(self) -> str:
        """Where jobs go that name none; empty where there is no such."""
        ...

    def partitions(self) -> list[str]:
        """Names of partitions, the default one with an asterisk."""
        ...

    def controller_time_s(self) -> float | None:
        """The controller's clock, whole epoch seconds; None where it does not say."""
        ...

    def controller_check(self) -> Line:
        """Whether the controller answers, and which version."""
        ...

    def accounts_check(self) -> Line:
        """Whether the accounts answer."""
        ...


def look_up(
    names: Sequence[str],
    queued: Iterable[SlurmJob],
    read_accounts: Callable[[list[str]], list[SlurmJob] | None],
    *,
    closed: bool,
) -> Found:
    """The jobs of these names, whatever the route: the controller's, and the accounts' where it says too little.

    Args:
        names: of jobs in Slurm, with our prefix.
        queued: jobs that the controller still knows.
        read_accounts: those of given names; None where the accounts do not answer.
        closed: ask the accounts of ended jobs too: only they know their energy.
    """
    jobs = _by_name(queued, names)
    wanted = [
        name
        for name in names
        if name not in jobs or (closed and all(is_over(job) for job in jobs[name]))
    ]
    accounted = read_accounts(wanted) if wanted else []
    if accounted is None:
        return Found(jobs, is_complete=False)
    return Found(_merge(jobs, _by_name(accounted, wanted)), is_complete=True)


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
