"""A Slurm cluster: through its commands, or through slurmrestd."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from adapters.cluster.slurm_access import Find, SlurmAccess, SlurmSubmission
from adapters.cluster.slurm_capacity import SlurmCapacity
from adapters.cluster.slurm_checks import build_checks
from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_commands import CommandRunner, HereRunner
from adapters.cluster.slurm_folder import SlurmFolder, require_writable
from adapters.cluster.slurm_holdings import SlurmHolding
from adapters.cluster.slurm_outlook import build_outlook
from adapters.cluster.slurm_parsers import SlurmJob, build_comment, with_exit, with_kill
from adapters.cluster.slurm_request import (
    SlurmDevice,
    SlurmTerms,
    device_of,
    files_of,
    per_node,
)
from adapters.cluster.slurm_script import build_script
from adapters.cluster.slurm_status import build_stale, build_status, is_over, is_waiting
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
    InvalidConfigError,
)
from scheduler.core.outlook import Outlook
from scheduler.core.slurm_terms import JobSlurm
from scheduler.ports import Capability, Check, Clock, Dispatch, RunState, RunStatus

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
KILL_AGAIN_S: Final = 30.0
WAKE_S: Final = 2.0
"""How long a suspended job takes to wake up, at most."""
BOOKS_S: Final = 120.0
"""How long the accounts may take to close a job whose energy is wanted."""


class SlurmCluster:
    """See `ClusterAdapter` and `ForeseeingCluster`.

    Args:
        accelerators: how each of our accelerators is asked for; `CPU` by the CPU.
        root: folder on a disk that all nodes share, for output and tickets.
        checkpoints: folder for checkpoints, likewise; `root/checkpoints` where not given.
        conf: file for SLURM_CONF; the site's default where not given.
        cluster_flag: name for `--clusters`, where one configuration knows several.
        terms: partition, account and whatever else each job asks for.
        prefix: begins the names of our jobs; apart for services that share a cluster and a user.
        can_freeze: suspend in place instead of checkpoint; needs an operator's rights.
        reads_energy: ask the accounts for energy, where the site measures it.
        may_queue: submit although nothing is free now, and let Slurm's queue decide.
        access: another way to the cluster than its commands; `conf`, `cluster_flag` and `runner` are theirs.
        other_route: a route that is not used, with its name; only `checks` looks whether it would work.
        runner: where commands run; this machine where not given.
        wall: wall clock in Unix seconds.

    Raises:
        InvalidConfigError: a prefix that cannot begin a job's name, or freezing where it cannot be done.
    """

    def __init__(  # noqa: PLR0913 - a cluster has this many sides
        self,
        cluster_id: str,
        *,
        accelerators: Mapping[str, SlurmDevice],
        root: Path,
        clock: Clock,
        checkpoints: Path | None = None,
        conf: Path | None = None,
        cluster_flag: str | None = None,
        terms: SlurmTerms | None = None,
        prefix: str = "gt-",
        can_freeze: bool = False,
        reads_energy: bool = False,
        may_queue: bool = False,
        access: SlurmAccess | None = None,
        other_route: tuple[str, SlurmAccess] | None = None,
        runner: CommandRunner | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - Slurm lives on wall time
    ) -> None:
        if not _NAME.fullmatch(prefix):
            raise InvalidConfigError(
                f"{cluster_id}: prefix {prefix!r} cannot begin a job's name; "
                "letters, digits, '.', '_' and '-' can, such as 'gt-'",
                field="prefix",
                value=prefix,
            )
        self._cluster_id = cluster_id
        self._accelerators = dict(accelerators)
        self._root = root.resolve()
        self._checkpoints = (checkpoints or self._root / "checkpoints").resolve()
        self._clock = clock
        self._terms = terms or SlurmTerms()
        self._prefix = prefix
        self._can_freeze = can_freeze
        self._reads_energy = reads_energy and self._terms.is_exclusive
        self._client: SlurmAccess = access or SlurmClient(
            cluster_id, runner or HereRunner(conf=conf), cluster_flag=cluster_flag
        )
        if can_freeze and not self._client.can_suspend:
            raise InvalidConfigError(
                f"{cluster_id}: pause: freeze cannot be done through slurmrestd, which has no way to suspend "
                "a job; use pause: checkpoint, or route: cli",
                field="pause",
                value="freeze",
                valid="checkpoint",
            )
        self._other_route = other_route
        self._may_queue = may_queue
        self._capacity = SlurmCapacity(
            self._client,
            accelerators=self._accelerators,
            terms=self._terms,
            prefix=prefix,
            may_queue=may_queue,
        )
        self._wall = wall
        self._lock = threading.Lock()
        self._last: dict[str, RunStatus] = {}
        self._kill_at_s: dict[str, float] = {}
        self._killed_s: dict[str, float] = {}
        self._end_at_s: dict[str, tuple[float, float]] = {}
        with self._disk():
            self._runs.mkdir(parents=True, exist_ok=True)
            self._checkpoints.mkdir(parents=True, exist_ok=True)

    @property
    def cluster_id(self) -> str:
        """Name in the configuration."""
        return self._cluster_id

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Checkpoint or freeze, and energy, as configured."""
        pausing = Capability.FREEZE if self._can_freeze else Capability.CHECKPOINT
        reading = {Capability.ENERGY_READING} if self._reads_energy else set()
        return frozenset({pausing, *reading})

    def submit(self, dispatch: Dispatch) -> str:
        """See `ClusterAdapter`."""
        device, each = self._require_askable(dispatch)
        with self._lock, self._disk():
            folder = self._folder(dispatch.name)
            # The folder is made before anything is submitted: without one there is nothing to find.
            job = self._find_one(dispatch.name) if folder.path.exists() else None
            if job is not None:
                if job.ticket is not None and is_waiting(job):
                    folder.honour(job.ticket)  # it had been given up, and is wanted again
                return job.job_id
            if folder.started_as is not None:
                return folder.started_as
            terms = self._terms.under(dispatch.slurm)
            self._require_room(dispatch, each, device=device, terms=terms)
            return self._submit_new(dispatch, folder, device, each=each, terms=terms)

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        """See `ClusterAdapter`."""
        return self._poll(names, self._client.find)

    def _poll(self, names: Sequence[str], find: Find) -> dict[str, RunStatus]:
        self._capacity.forget()  # what has ended left something free
        if not names:
            return {}
        found = find([self._prefix + name for name in names], closed=self._reads_energy)
        statuses: dict[str, RunStatus] = {}
        with self._disk():
            for name in names:
                jobs = found.jobs.get(self._prefix + name)
                status = (
                    self._status(name, jobs[0]) if jobs else self._absent(name, found.is_complete)
                )
                if status is not None:
                    statuses[name] = status
        self._drop_doubles([job for jobs in found.jobs.values() for job in jobs[1:]])
        self._kill_overdue(statuses)
        self._end_thawed()
        return statuses

    def pause(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        if not self._can_freeze:
            self.cancel(name, grace_s=grace_s)
            return
        job = self._find_live(name)
        if job is None or job.kill_at_s is not None or job.state == "SUSPENDED":
            return
        if is_waiting(job):
            self._drop_waiting(name, job)
        elif self._client.suspend(job.job_id):
            with self._disk():
                self._folder(name).note_suspended(self._wall())

    def resume(self, name: str) -> None:
        """See `ClusterAdapter`."""
        job = self._find_live(name) if self._can_freeze else None
        if job is None or job.state != "SUSPENDED":
            return
        if not self._capacity.has_cpus_for(job):
            raise ClusterFullError(
                f"{self._cluster_id}: the devices of {name} are in use", cluster=self._cluster_id
            )
        self._thaw(name, job)

    def cancel(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        if name in self._kill_at_s or self._wall() < self._end_at_s.get(name, (0.0, 0.0))[0]:
            return
        self._end_at_s.pop(name, None)
        job = self._find_live(name)
        if job is not None and is_waiting(job):
            job = self._drop_waiting(name, job)
        if job is None or job.kill_at_s is not None or job.state == "COMPLETING":
            return
        if job.state == "SUSPENDED":
            # It must wake up to act on a signal; one that is sent before it has is lost.
            self._thaw(name, job)
            self._end_at_s[name] = (self._wall() + WAKE_S, grace_s)
            return
        # Signal first: were it the other way round, a crash in between would leave a job that is
        # killed without having been asked to save its work. Asking twice does no harm.
        self._client.terminate(job.job_id)
        self._kill_at_s[name] = self._wall() + grace_s
        self._client.comment(job.job_id, with_kill(job.comment, self._kill_at_s[name]))

    def free_devices(self, slurm: JobSlurm | None = None) -> Mapping[str, int]:
        """See `ClusterAdapter`; what is in service at all where jobs may wait in Slurm's queue."""
        with self._disk():
            require_writable(self._runs)  # or no job could start, however much is free
        return self._capacity.free_devices(slurm)

    def outlook(self) -> Outlook:
        """See `ForeseeingCluster`; three commands, or requests."""
        look, places = self._capacity.look_ahead(self._wall(), self._is_known)
        return build_outlook(self._cluster_id, look, places, at=self._clock.at_wall)

    def _is_known(self, holding: SlurmHolding) -> bool:
        """Whether a job is a run of this service: the plan knows it."""
        return holding.is_mine and holding.name.startswith(self._prefix)

    def tell_ends(self, tell: Callable[[], None]) -> None:
        """See `ClusterAdapter`; Slurm tells nobody, so ends are seen by `poll` alone."""

    def checks(self) -> list[Check]:
        """See `ClusterAdapter`."""
        return build_checks(
            self._cluster_id,
            self._client,
            partitions={d.partition or self._terms.partition for d in self._accelerators.values()},
            folders=(self._runs, self._checkpoints),
            devices=self._accelerators,
            capacity=self._capacity,
            other_route=self._other_route,
        )

    # ------------------------------------------------------------------ submitting

    def _require_askable(self, dispatch: Dispatch) -> tuple[SlurmDevice, int]:
        """How the devices are asked for, and how many on each node."""
        device = self._accelerators.get(dispatch.accelerator)
        each = per_node(dispatch.gpus, dispatch.num_nodes)
        why = None
        if not _NAME.fullmatch(dispatch.name) or not _NAME.fullmatch(dispatch.checkpoint_key):
            why = f"{dispatch.name!r} cannot name a job and a folder"
        elif device is None:
            known = ", ".join(sorted(self._accelerators)) or "none"
            why = f"it has no {dispatch.accelerator}; it has {known}"
        elif each is None:
            why = f"{dispatch.gpus} devices cannot be shared out over {dispatch.num_nodes} nodes"
        if why or device is None or each is None:
            raise DispatchRejectedError(f"{self._cluster_id}: {why}", cluster=self._cluster_id)
        return device_of(device, dispatch.slurm), each

    def _require_room(
        self, dispatch: Dispatch, each: int, *, device: SlurmDevice, terms: SlurmTerms
    ) -> None:
        """Refuses what can never fit, for Slurm itself would let it wait for ever, and what must wait."""
        asked_of = (each, dispatch.num_nodes)
        room = self._capacity.room(dispatch.accelerator, asked_of, device=device, terms=terms)
        asked = f"{dispatch.gpus} {dispatch.accelerator} on {dispatch.num_nodes} nodes"
        if room.n_fitting is None:
            return  # such as a partition or reservation that does not exist: Slurm has the words for it
        if room.n_fitting < dispatch.num_nodes:
            raise DispatchRejectedError(
                f"{self._cluster_id}: {asked} asked, but only {room.n_fitting} nodes have {each}",
                cluster=self._cluster_id,
            )
        is_full = room.n_free < dispatch.num_nodes or room.free < dispatch.gpus
        if is_full and not self._may_queue:
            raise ClusterFullError(
                f"{self._cluster_id}: {asked} asked; {room.free} are free, "
                f"{each} on each of {room.n_free} nodes",
                cluster=self._cluster_id,
            )

    def _submit_new(
        self,
        dispatch: Dispatch,
        folder: SlurmFolder,
        device: SlurmDevice,
        *,
        each: int,
        terms: SlurmTerms,
    ) -> str:
        keeps_exit = not self._client.tells_exits
        ticket = folder.issue_ticket()
        if folder.started_as is not None:  # an earlier submission, thought lost, just began
            return folder.started_as
        try:
            script = build_script(
                dispatch,
                run_folder=PurePosixPath(folder.path),
                checkpoints=PurePosixPath(self._checkpoints),
                ticket=ticket,
                keeps_exit=keeps_exit,
            )
        except UnicodeEncodeError as error:
            raise DispatchRejectedError(
                f"{self._cluster_id}: {dispatch.name} has a text that no script can hold: {error}",
                cluster=self._cluster_id,
            ) from error
        comment = build_comment(
            dispatch.name,
            accelerator=dispatch.accelerator,
            gpus=dispatch.gpus,
            ticket=ticket,
        )
        output, error_file = files_of(dispatch.slurm, str(folder.path))
        submission = SlurmSubmission(
            name=f"{self._prefix}{dispatch.name}",
            comment=comment,
            workdir=dispatch.shared_workdir or str(folder.path),
            output=output,
            error=error_file,
            device=device,
            each=each,
            num_nodes=dispatch.num_nodes,
            terms=terms,
        )
        try:
            job_id = self._client.submit(submission, script)
        except DispatchUncertainError:
            raise
        except (ClusterFullError, ClusterUnavailableError, DispatchRejectedError):
            folder.withdraw()
            raise
        self._capacity.note_submitted(dispatch)
        return job_id

    # ------------------------------------------------------------------ watching

    def _find_one(self, name: str) -> SlurmJob | None:
        """The job that runs it, or ran it, as far as Slurm remembers."""
        key = self._prefix + name
        jobs = self._client.find([key]).jobs.get(key)
        return jobs[0] if jobs else None

    def _find_live(self, name: str) -> SlurmJob | None:
        job = self._find_one(name)
        return None if job is None or is_over(job) else job

    def _status(self, name: str, job: SlurmJob) -> RunStatus:
        if self._is_unaccounted(job):
            job = replace(job, state="COMPLETING")
        elif not job.is_code_known:
            job = with_exit(job, self._folder(name).exit_code(job.job_id))
        pauses = self._reconciled_pauses(name, job) if self._can_freeze else []
        status = build_status(
            name,
            job,
            at=self._clock.at_wall,
            pauses=pauses,
            is_exclusive=self._reads_energy,
        )
        if is_over(job):
            self._forget(name)
            return status
        self._last[name] = status
        if job.kill_at_s is not None:
            self._kill_at_s[name] = job.kill_at_s
        return status

    def _forget(self, name: str) -> None:
        self._last.pop(name, None)
        self._kill_at_s.pop(name, None)
        self._killed_s.pop(name, None)
        self._end_at_s.pop(name, None)

    def _is_unaccounted(self, job: SlurmJob) -> bool:
        """Whether its energy will still be told: the accounts are a little behind."""
        return (
            self._reads_energy
            and is_over(job)
            and not job.is_accounted
            and self._wall() < (job.end_s or 0.0) + BOOKS_S
        )

    def _reconciled_pauses(self, name: str, job: SlurmJob) -> list[list[float]]:
        """When it was suspended, with what a crash between command and note left unwritten."""
        folder = self._folder(name)
        if job.state == "SUSPENDED" and folder.path.exists():
            folder.note_suspended(self._wall())
        elif job.state == "RUNNING":
            folder.note_continued(self._wall())
        return folder.pauses()

    def _absent(self, name: str, is_complete: bool) -> RunStatus | None:
        """What to say of a run that neither squeue nor sacct shows."""
        folder = self._folder(name)
        if not is_complete:
            return build_stale(name, self._last.get(name))
        self._forget(name)
        folder.withdraw()  # "never started" is a promise: should it turn up late, it may not begin
        job_id = folder.started_as
        if job_id is None:
            return None
        detail = "it has begun, but Slurm has no trace of it"
        return RunStatus(name=name, ref=job_id, state=RunState.LOST, detail=detail)

    # ------------------------------------------------------------------ ending

    def _drop_waiting(self, name: str, job: SlurmJob) -> SlurmJob | None:
        """Cancels a job that has not begun; the job where it began just then."""
        if job.state != "PENDING":
            self._client.drop([job.job_id])
            return None
        self._client.drop_pending(job.job_id)
        job_now = self._find_live(name)
        return None if job_now is None or is_waiting(job_now) else job_now

    def _drop_doubles(self, doubles: Sequence[SlurmJob]) -> None:
        """Cancels later jobs of a name: the first one has its ticket or will get none."""
        ids = [job.job_id for job in doubles if not is_over(job)]
        if ids:
            self._client.drop(ids)

    def _kill_overdue(self, statuses: Mapping[str, RunStatus]) -> None:
        now_s = self._wall()
        overdue = [
            status
            for name, status in statuses.items()
            if status.state is RunState.RUNNING
            and now_s >= self._kill_at_s.get(name, now_s + 1)
            and now_s >= self._killed_s.get(name, 0.0) + KILL_AGAIN_S
        ]
        if overdue:
            self._client.kill([status.ref for status in overdue])
            self._killed_s |= {status.name: now_s for status in overdue}

    def _end_thawed(self) -> None:
        """Asks those to leave that had to wake up first."""
        now_s = self._wall()
        for name, (at_s, grace_s) in list(self._end_at_s.items()):
            if now_s >= at_s:
                self.cancel(name, grace_s=grace_s)

    def _thaw(self, name: str, job: SlurmJob) -> None:
        wall_s = self._wall()  # before the command: it may have ended by the time we look
        if self._client.resume(job.job_id):
            with self._disk():
                self._folder(name).note_continued(wall_s)

    # ------------------------------------------------------------------ the shared disk

    @property
    def _runs(self) -> Path:
        return self._root / "runs"

    def _folder(self, name: str) -> SlurmFolder:
        return SlurmFolder(self._runs / name)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """A folder that cannot be used is a cluster without an answer."""
        try:
            yield
        except OSError as error:
            raise ClusterUnavailableError(
                f"{self._cluster_id}: {error.filename or self._root} cannot be used: "
                f"{error.strerror or error}; check the disk and the rights on the folder",
                cluster=self._cluster_id,
            ) from error
