"""What is free on a Slurm cluster: nodes in service, less what jobs have and what ours wait for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_parsers import SlurmJob, SlurmNode
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms

TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Room for devices of one kind.

    Args:
        free: devices in all.
        n_free: nodes that have as many free as were asked on each.
        n_fitting: nodes that have as many at all; None where no node of the partition is known.
    """

    free: int
    n_free: int
    n_fitting: int | None


class SlurmCapacity:
    """Counts devices; `may_queue` counts those that jobs of others have as well."""

    def __init__(
        self,
        client: SlurmClient,
        *,
        accelerators: Mapping[str, SlurmDevice],
        terms: SlurmTerms,
        prefix: str,
        may_queue: bool,
    ) -> None:
        self._client = client
        self._accelerators = accelerators
        self._terms = terms
        self._prefix = prefix
        self._may_queue = may_queue

    def free_devices(self) -> Mapping[str, int]:
        """Devices of each accelerator that are free."""
        nodes, waiting = self._look()
        return {
            name: max(
                sum(self._free(node, device) for node in self._usable(nodes, device))
                - waiting[name],
                0,
            )
            for name, device in self._accelerators.items()
        }

    def room(self, accelerator: str, each: int) -> Room:
        """Room for `each` devices on a node."""
        nodes, waiting = self._look()
        device = self._accelerators[accelerator]
        members = self._members(nodes, device)
        frees = [self._free(node, device) for node in self._usable(nodes, device)]
        return Room(
            free=max(sum(frees) - waiting[accelerator], 0),
            n_free=sum(free >= each for free in frees),
            n_fitting=sum(node.total(device.gres) >= each for node in members) if members else None,
        )

    def has_cpus_for(self, job: SlurmJob) -> bool:
        """Whether a suspended job could go on: it has left its CPUs, but neither memory nor gres."""
        if job.asks is None:
            return True
        accelerator, count = job.asks
        device = self._accelerators.get(accelerator)
        if device is None or device.gres is not None:
            return True
        return self.free_devices()[accelerator] >= count

    def _look(self) -> tuple[list[SlurmNode], Counter[str]]:
        """The nodes, and what our waiting jobs ask for, at one instant.

        A job that starts between the two questions would count twice, or not at all: asked again
        until nothing has.
        """
        if self._may_queue:
            return self._client.nodes(), Counter()
        before = self._waiting()
        for _ in range(TRIES):
            nodes = self._client.nodes()
            after = self._waiting() if before else before
            if after == before:
                break
            before = after
        return nodes, sum((Counter({name: count}) for name, count in before.values()), Counter())

    def _waiting(self) -> dict[str, tuple[str, int]]:
        return {
            job.job_id: job.asks
            for job in self._client.waiting()
            if job.asks is not None and job.name.startswith(self._prefix)
        }

    def _free(self, node: SlurmNode, device: SlurmDevice) -> int:
        return node.total(device.gres) if self._may_queue else node.free(device.gres)

    def _usable(self, nodes: Sequence[SlurmNode], device: SlurmDevice) -> list[SlurmNode]:
        members = self._members(nodes, device)
        return [node for node in members if node.is_usable(self._terms.reservation)]

    def _members(self, nodes: Sequence[SlurmNode], device: SlurmDevice) -> list[SlurmNode]:
        partition = device.partition or self._terms.partition or self._client.default_partition()
        return [node for node in nodes if partition in node.partitions]
