"""Clusters: where jobs run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from scheduler.core.job import JobId
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.core.outlook import Outlook
from scheduler.core.slurm_terms import JobSlurm
from scheduler.core.timegrid import Window


class Capability(StrEnum):
    """What a cluster can do beyond running a job to its end."""

    CHECKPOINT = "checkpoint"  # SIGTERM, grace, SIGKILL; exit 75 means "run me again"
    FREEZE = "freeze"  # stop and continue in place
    ENERGY_READING = "energy_reading"  # measures energy per job


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """What a cluster gets: one run of one job.

    Args:
        name: unique for the run, for ever (`<job_id>.<attempt>.<segment>`): the key to look up by.
        gpus: devices in total.
        checkpoint_key: names the checkpoint directory; the same for all runs of the job.
        env: complete: what the user gave and the GRIDTIDE_* that interfaces.md promises, except
            GRIDTIDE_CHECKPOINT_DIR, which the cluster adds.
        slurm: what the user asks of Slurm; no other kind of cluster gets such a run.
        kubernetes: likewise of Kubernetes.
        grace_s: the longest that a pause or a cancel will leave it after SIGTERM; for clusters that must know before.
    """

    name: str
    job_id: JobId
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    workdir: str | None
    accelerator: str
    gpus: int
    num_nodes: int
    checkpoint_key: str
    slurm: JobSlurm | None = None
    kubernetes: JobKubernetes | None = None
    grace_s: float = 30.0


class RunState(StrEnum):
    """Where a run stands on its cluster."""

    PENDING = "pending"
    RUNNING = "running"
    FROZEN = "frozen"
    ENDED = "ended"
    LOST = "lost"  # the cluster has no trace of it, or lost it; it does not run any more
    UNSTARTED = (
        "unstarted"  # the cluster gave it back: nothing of it has run; it may be submitted again
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A cluster's word on one run.

    Args:
        spans: finished stretches of drawing power; for a running one, `since` begins the open one.
        exit_code: of an ended run; negative for death by that signal; None where unknown.
        energy_kwh: measured device energy so far, without PUE; None where not measured.
        is_stale: the cluster cannot say how it stands now; `detail` says why.
    """

    name: str
    ref: str
    state: RunState
    spans: tuple[Window, ...] = ()
    since: datetime | None = None
    exit_code: int | None = None
    energy_kwh: float | None = None
    detail: str = ""
    is_stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of `gridtide doctor`."""

    subject: str
    is_ok: bool
    detail: str


class ClusterAdapter(Protocol):
    """One cluster. Runs are named by `Dispatch.name`; every call is safe to repeat."""

    @property
    def cluster_id(self) -> str:
        """Name in the configuration."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do; constant."""
        ...

    def submit(self, dispatch: Dispatch) -> str:
        """Starts the run and returns the cluster's own reference.

        Called again with the same name it starts nothing and returns the same reference, unless the run was given
        back unstarted.

        Raises:
            ClusterFullError: no room now; nothing was started.
            ClusterUnavailableError: no answer; nothing was started.
            DispatchRejectedError: refused for good; nothing was started.
            DispatchUncertainError: may or may not have started: look it up with `poll`.
        """
        ...

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        """Status of the runs of these names that the cluster knows, in one batch.

        A name that is absent from the answer was never started there.

        Raises:
            ClusterUnavailableError: nothing can be said about any of them.
        """
        ...

    def pause(self, name: str, *, grace_s: float) -> None:
        """Asks the run to checkpoint and leave (or freezes it); `poll` shows when it has.

        `grace_s` counts on the wall clock. Pausing what does not run is no error.
        """
        ...

    def resume(self, name: str) -> None:
        """Continues a frozen run in place.

        Raises:
            ClusterFullError: its devices are in use.
        """
        ...

    def cancel(self, name: str, *, grace_s: float) -> None:
        """Ends the run: SIGTERM, grace, SIGKILL. Cancelling what does not run is no error."""
        ...

    def free_devices(self, slurm: JobSlurm | None = None) -> Mapping[str, int]:
        """Devices of each accelerator that are free right now; one that it does not have is left out.

        Free for a job that states no terms, or on Slurm for one that states those: its partition and its
        reservation may be others than the cluster's own.
        """
        ...

    def tell_ends(self, tell: Callable[[], None]) -> None:
        """Calls `tell` soon after a run has ended, from any thread, as far as the cluster can.

        A convenience: `poll` shows the same, later.
        """
        ...

    def checks(self) -> list[Check]:
        """What `doctor` reports about this cluster."""
        ...


@runtime_checkable
class ForeseeingCluster(Protocol):
    """A cluster that is shared with others, and knows how long they hold what they have."""

    def outlook(self) -> Outlook:
        """Its devices, and what others than the runs of this service hold of them.

        Raises:
            ClusterUnavailableError: nothing can be said.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a cluster says to a run that it is asked to start for show.

    Args:
        refused: why it would refuse the run for good; empty where it would not, or does not say.
        field: what of the run is wrong, in the cluster's own terms, as far as it says.
        warned: what it warns of, where it would take the run.
        is_answered: False where nothing is known: no answer in time, or one that has nothing to do with the run.
    """

    refused: str = ""
    field: str = ""
    warned: str = ""
    is_answered: bool = True


@runtime_checkable
class TryingCluster(Protocol):
    """A cluster that can say beforehand whether it would take a run."""

    def try_out(self, dispatch: Dispatch) -> Trial:
        """What it says to the run, within a few seconds; nothing is started. What passes, such as no room, is no refusal."""
        ...
