"""The few commands of Slurm that the adapter needs, for one cluster."""

import os
import pwd
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from adapters.cluster.slurm_access import Found, Line, SlurmSubmission, look_up
from adapters.cluster.slurm_commands import CommandRunner, Completed
from adapters.cluster.slurm_holdings import (
    HOLDING_FIELDS,
    HOLDING_STATES,
    SlurmHolding,
    SlurmReservation,
    parse_holding,
    parse_reservations,
)
from adapters.cluster.slurm_native_lines import queue_format, split_queue
from adapters.cluster.slurm_parsers import (
    SACCT_FIELDS,
    SlurmJob,
    SlurmNode,
    parse_nodes,
    parse_pairs,
    parse_sacct,
    parse_squeue,
    parse_time,
    squeue_format,
)
from adapters.cluster.slurm_refusals import explained, is_without_accounting, submission_error
from scheduler.core.errors import ClusterUnavailableError, UpstreamError

MAX_NAMES_CHARS: Final = 100_000
"""Linux takes 131,072 bytes in one argument."""
_ENDED_ALREADY: Final = ("invalid job id", "already", "not running", "not found")
_OTHER_STATE: Final = ("pending execution", "no longer pending", "has finished")
_NO_RIGHT: Final = ("permission denied", "invalid user id")


class NoRightError(ClusterUnavailableError):
    """The cluster answers, but this user may not change that job."""


class SlurmClient:
    """See `SlurmAccess`: commands of one cluster."""

    def __init__(
        self, cluster_id: str, runner: CommandRunner, *, cluster_flag: str | None = None
    ) -> None:
        self._cluster_id = cluster_id
        self._runner = runner
        self._flags = (f"--clusters={cluster_flag}",) if cluster_flag else ()
        self._trouble: str | None = None
        self._lines: Mapping[str, SlurmJob] = {}
        self._default_partition: str | None = None

    @property
    def can_suspend(self) -> bool:
        """As operators can."""
        return True

    @property
    def tells_exits(self) -> bool:
        """As sacct does."""
        return True

    def find(
        self,
        names: Sequence[str],
        *,
        closed: bool = False,
        queued: Sequence[SlurmJob] | None = None,
    ) -> Found:
        """The jobs of these names: one squeue, and one sacct for those that squeue has no more.

        Where `closed`, sacct is asked of ended ones too: only the accounts know their energy. Where
        squeue was just asked, `queued` is what it knows of this user's jobs.
        """
        known = self._queued(names) if queued is None else queued
        return look_up(names, known, self._accounted, closed=closed)

    def submit(self, submission: SlurmSubmission, script: bytes) -> str:
        """The id of the new job; raises what `submission_error` says of a failure."""
        self._ask_first()
        command = ("sbatch", "--parsable", *self._flags, *submission.options())
        done = self._runner.run(command, stdin=script)
        job_id = done.out.strip().partition(";")[0]
        if done.code == 0 and job_id.isdecimal():
            return job_id
        error: UpstreamError = submission_error(self._cluster_id, done)
        self._trouble = error.message if isinstance(error, ClusterUnavailableError) else None
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

    def holdings(self) -> list[SlurmHolding]:
        """What jobs of all users hold."""
        user = this_user()
        states = f"--states={','.join(HOLDING_STATES)}"
        found = self.listing(HOLDING_FIELDS, "--all", states)
        return [parse_holding(fields, user=user) for fields in found]

    def reservations(self) -> list[SlurmReservation]:
        """What the site keeps back, now and later."""
        return parse_reservations(self._read("scontrol", "--oneliner", "show", "reservation").out)

    def default_partition(self) -> str:
        """Where jobs go that name none; asked once."""
        if self._default_partition is None:
            words = self.partitions()
            self._default_partition = next((one[:-1] for one in words if one.endswith("*")), "")
        return self._default_partition

    def controller_time_s(self) -> float | None:
        """The controller's clock, whole epoch seconds; None where it does not say."""
        head = self._read("scontrol", "show", "config").out.partition("\n")[0]
        return parse_time(head.rpartition(" ")[2])

    def partitions(self) -> list[str]:
        """Names of partitions, the default one with an asterisk."""
        return self._read("sinfo", "--noheader", "--format=%P").out.split()

    def read(self, *command: str, none_if: str | None = None) -> str:
        """What a command says that must not fail, unless it is for that reason: then nothing."""
        self._ask_first()
        done = self.ask(*command)
        if done.code != 0 and none_if is not None and none_if in done.err.lower():
            return ""
        if done.code != 0:
            raise self._silence(command[0], done)
        return done.out

    def listing(self, fields: Sequence[str], *options: str) -> Iterator[list[str]]:
        """These fields, the first of which is the id, and name and comment, of each line of squeue."""
        seal = secrets.token_hex(8)
        form = f"--Format={queue_format(seal, fields)}"
        text = self.read(
            *("squeue", "--noheader", "--noconvert", *options, form), none_if="invalid job id"
        )
        return split_queue(text, seal, fields)

    def change(self, *command: str) -> bool:
        """Runs a command about one job of any user; False where it is in no state for that any more.

        Raises:
            NoRightError: this user may not change that job.
        """
        self._ask_first()
        done = self.ask(*command)
        if done.code == 0:
            return True
        words = done.err.lower()
        if any(mark in words for mark in _NO_RIGHT):
            raise NoRightError(
                f"{self._cluster_id}: {' '.join(command[:2])} is not permitted: {done.words}; jobs of other "
                "users can be changed by an operator of Slurm only",
                cluster=self._cluster_id,
            )
        if any(mark in words for mark in (*_ENDED_ALREADY, *_OTHER_STATE)):
            return False
        raise self._silence(command[0], done)

    def accounts_of(self, job_ids: Sequence[str]) -> list[SlurmJob] | None:
        """Jobs of any user in the accounts; none where there are no accounts, None where they do not answer."""
        return self._ask_accounts("--allusers", f"--jobs={','.join(job_ids)}")

    def controller_check(self) -> Line:
        """Whether the controller answers, and which version."""
        ping = self.ask("scontrol", "ping")
        version = self.ask("sbatch", "--version").out.strip()
        if ping.code != 0:
            said = explained(ping.words)
            return False, f"{version}: the controller does not answer scontrol ping: {said}"
        return True, f"{version}, controller up"

    def accounts_check(self) -> Line:
        """Whether the accounts answer."""
        try:
            done = self.ask("sacct", "--noheader", "--allocations", "--starttime=now-1minute")
        except ClusterUnavailableError as error:
            return False, f"{error.message}; ends are known for {self._memory()} only"
        if done.code == 0:
            return True, "accounts (sacct) answer"
        if is_without_accounting(done.err):
            return True, (
                f"no accounts are kept: an end is known for {self._memory()} only; "
                "a run that ends while Gridtide is away for longer counts as lost"
            )
        return False, (
            f"accounts (sacct) do not answer: {done.words}; ends are known for {self._memory()} only"
        )

    def ask(self, *command: str) -> Completed:
        """The outcome of a command that may fail."""
        program, *arguments = command
        return self._runner.run((program, *self._flags, *arguments))

    def _memory(self) -> str:
        """How long the controller remembers ended jobs."""
        config = dict(parse_pairs(self.ask("scontrol", "show", "config").out))
        match = re.match(r"\d+", config.get("MinJobAge", ""))
        return f"{match[0]} s" if match else "as long as the controller remembers"

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
        return self._ask_accounts(*few)

    def _ask_accounts(self, *few: str) -> list[SlurmJob] | None:
        window = ("--starttime=now-30days", "--endtime=now+366days")
        form = f"--format={','.join(SACCT_FIELDS)}"
        shape = ("--duplicates", "--parsable2", "--noheader")
        try:
            done = self.ask("sacct", *shape, *few, *window, form)
        except ClusterUnavailableError:
            return (
                None  # it is not installed here: what the controller holds can be told all the same
            )
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
        trouble = self._trouble  # another thread may hear from it meanwhile
        if trouble is None:
            return
        done = self.ask("scontrol", "ping")
        if done.code == 0:
            self._trouble = None
        elif done.err.strip():
            raise self._silence("scontrol ping", done)
        else:  # it says that the controller is down, and no more: what failed first has said why
            raise ClusterUnavailableError(trouble, cluster=self._cluster_id)

    def _silence(self, program: str, done: Completed) -> ClusterUnavailableError:
        said = f"{self._cluster_id}: {program} failed: {explained(done.words)}"
        self._trouble = said
        return ClusterUnavailableError(said, cluster=self._cluster_id)


def this_user() -> str:
    """Whoever runs the commands, as squeue writes it."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
