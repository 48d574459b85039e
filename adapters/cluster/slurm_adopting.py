"""A Slurm cluster through its commands that also plans the jobs that users submit themselves."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_commands import HereRunner
from adapters.cluster.slurm_holdings import SlurmHolding
from adapters.cluster.slurm_native import Scope, SlurmNatives
from adapters.cluster.slurm_native_words import is_adopted
from adapters.cluster.slurm_parsers import SlurmJob
from scheduler.ports import Check, Dispatch, NativeJob, RunState, RunStatus, is_native


class AdoptingSlurmCluster(SlurmCluster):
    """See `ClusterAdapter` and `AdoptingCluster`.

    Args:
        adopts: whose jobs are planned that ask for it in their comment: of `all` users, which needs an
            operator's rights, or only the service's `own`.
        terms: those of `SlurmCluster`, but for `access`: slurmrestd can send no job back to the queue.
    """

    def __init__(
        self,
        cluster_id: str,
        *,
        adopts: Scope,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - Slurm lives on wall time
        **terms: Any,
    ) -> None:
        runner = terms.pop("runner", None) or HereRunner(conf=terms.get("conf"))
        commands = SlurmClient(cluster_id, runner, cluster_flag=terms.get("cluster_flag"))
        super().__init__(cluster_id, access=commands, wall=wall, **terms)
        self._commands = commands
        self._natives = SlurmNatives(
            cluster_id,
            commands,
            accelerators=terms["accelerators"],
            clock=terms["clock"],
            wall=wall,
            scope=adopts,
            reads_energy=terms.get("reads_energy", False),
        )

    def native_jobs(self) -> list[NativeJob]:
        """See `AdoptingCluster`; one squeue."""
        return self._natives.native_jobs()

    def adopt(self, ref: str, *, job_id: str, guard_at: datetime) -> None:
        """See `AdoptingCluster`; one command, and two more for a job that its user holds."""
        self._natives.adopt(ref, job_id=job_id, guard_at=guard_at)

    def refuse(self, ref: str, why: str) -> None:
        """See `AdoptingCluster`."""
        self._natives.refuse(ref, why)

    def submit(self, dispatch: Dispatch) -> str:
        """See `ClusterAdapter`."""
        if is_native(dispatch.name):
            return self._natives.submit(dispatch)
        return super().submit(dispatch)

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        """See `ClusterAdapter`; one squeue for all, our own runs and those of users."""
        natives = [name for name in names if is_native(name)]
        if not natives:
            return super().poll(names)
        look = self._natives.look(natives)
        own = [name for name in names if not is_native(name)]
        statuses = self._poll(own, partial(self._commands.find, queued=look.own))
        for name, status in look.statuses.items():
            if status.state is not RunState.RUNNING:
                self._forget(name)
        self._kill_at_s |= look.kill_at_s
        self._kill_overdue(look.statuses)
        return {**statuses, **look.statuses}

    def pause(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        if is_native(name):
            self._natives.pause(name, grace_s=grace_s)
        else:
            super().pause(name, grace_s=grace_s)

    def resume(self, name: str) -> None:
        """See `ClusterAdapter`."""
        if is_native(name):
            self._natives.resume(name)
        else:
            super().resume(name)

    def checks(self) -> list[Check]:
        """See `ClusterAdapter`."""
        is_ok, detail = self._natives.rights_check()
        own = Check(subject=f"cluster {self._cluster_id}", is_ok=is_ok, detail=detail)
        return [*super().checks(), own]

    def _find_one(self, name: str) -> SlurmJob | None:
        return self._natives.find(name) if is_native(name) else super()._find_one(name)

    def _is_known(self, holding: SlurmHolding) -> bool:
        """Also a user's job that was adopted, whoever let it start."""
        return super()._is_known(holding) or is_adopted(holding.comment)
