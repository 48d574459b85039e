"""What is free on a Slurm cluster: nodes in service, less what jobs have and what ours wait for."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from adapters.cluster.slurm_access import SlurmAccess
from adapters.cluster.slurm_holdings import SlurmHolding
from adapters.cluster.slurm_outlook import Place, SlurmLook
from adapters.cluster.slurm_parsers import OUT_OF_SERVICE, SlurmJob, SlurmNode, parse_asks
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms, device_of
from scheduler.core.slurm_terms import JobSlurm
from scheduler.ports import Dispatch

TRIES: Final = 5
KEEP_S: Final = 2.0
"""A look at the nodes serves all submissions of the next moments; what they take is deducted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Room for devices of one kind.

    Args:
        free: devices in all.
        n_free: nodes that have as many free as were asked on each.
        n_fitting: nodes that have as many at all; None where no node of the partition, or of the reservation, is known.
    """

    free: int
    n_free: int
    n_fitting: int | None


@dataclass(frozen=True, slots=True)
class _Look:
    """The nodes, and what runs of ours wait for, at one instant of the monotonic clock.

    Args:
        reserved: nodes of reservations that were looked up, as far as those have begun.
    """

    at_s: float
    nodes: Sequence[SlurmNode]
    waiting: "Waiting"
    reserved: dict[str, frozenset[str]] = field(default_factory=dict)


Waiting = Counter[tuple[str, str]]
"""Devices that runs of ours wait for, by accelerator and partitions."""


class SlurmCapacity:
    """Counts devices; `may_queue` counts those that jobs of others have as well."""

    def __init__(
        self,
        access: SlurmAccess,
        *,
        accelerators: Mapping[str, SlurmDevice],
        terms: SlurmTerms,
        prefix: str,
        may_queue: bool,
    ) -> None:
        self._access = access
        self._accelerators = accelerators
        self._terms = terms
        self._prefix = prefix
        self._may_queue = may_queue
        self._looked: _Look | None = None

    def forget(self) -> None:
        """Has the next question answered by a new look."""
        self._looked = None

    def note_submitted(self, dispatch: Dispatch) -> None:
        """Deducts what was submitted since the last look."""
        looked = self._looked
        if looked is not None:
            device = device_of(self._accelerators[dispatch.accelerator], dispatch.slurm)
            partitions = self._partitions(device, self._terms.under(dispatch.slurm))
            looked.waiting[dispatch.accelerator, partitions] += dispatch.gpus

    def free_devices(self, slurm: JobSlurm | None = None) -> Mapping[str, int]:
        """Devices of each accelerator that are free; without those that no node has, in service or not.

        They are those of the cluster's own partitions and reservation, unless a job states others. Where it
        does, what is not there is left out as well: Slurm has the words for it.
        """
        terms = self._terms
        if slurm is not None:
            terms = replace(
                terms,
                partition=slurm.partition or terms.partition,
                reservation=slurm.reservation or terms.reservation,
            )
        look = self._look()
        nodes = self._named(look, terms)
        free = {}
        for name, plain in self._accelerators.items():
            device = device_of(plain, slurm)
            members = self._members(nodes, device, terms)
            if slurm is not None and slurm.reservation:
                members = [node for node in members if node.reservation == slurm.reservation]
            if any(node.total(device.gres) for node in members):
                frees = [self._free(node, device) for node in self._usable(nodes, device, terms)]
                free[name] = max(sum(frees) - self._waited_for(name, device, terms, look), 0)
        return free

    def out_of_service(self) -> list[str]:
        """The cluster's nodes on which no job may begin now, each with what Slurm says of it."""
        found = {
            node.name: "+".join(sorted(node.flags & OUT_OF_SERVICE))
            for device in self._accelerators.values()
            for node in self._members(self._look().nodes, device, self._terms)
            if node.flags & OUT_OF_SERVICE
        }
        return [f"{name} ({flags})" for name, flags in sorted(found.items())]

    def unserved(self) -> list[str]:
        """Accelerators all of whose nodes are out of service."""
        nodes = self._look().nodes
        having = {
            name: [
                one for one in self._members(nodes, device, self._terms) if one.total(device.gres)
            ]
            for name, device in self._accelerators.items()
        }
        return [
            name
            for name, members in having.items()
            if members and all(one.flags & OUT_OF_SERVICE for one in members)
        ]

    def room(
        self, accelerator: str, asked: tuple[int, int], *, device: SlurmDevice, terms: SlurmTerms
    ) -> Room:
        """Room for devices on nodes, on the terms of one job; looked at anew before it is called too little.

        Args:
            accelerator: of what kind.
            asked: devices on each node, and nodes.
            device: how that kind is asked for.
            terms: of the job.
        """
        each, num_nodes = asked
        is_new = self._looked is None
        room = self._room(accelerator, each, device=device, terms=terms)
        if is_new or (room.n_free >= num_nodes and room.free >= each * num_nodes):
            return room
        self.forget()
        return self._room(accelerator, each, device=device, terms=terms)

    def _room(self, accelerator: str, each: int, *, device: SlurmDevice, terms: SlurmTerms) -> Room:
        look = self._look()
        nodes = self._named(look, terms)
        members = [
            node
            for node in self._members(nodes, device, terms)
            if terms.reservation in (None, node.reservation)
        ]
        frees = [self._free(node, device) for node in self._usable(nodes, device, terms)]
        return Room(
            free=max(sum(frees) - self._waited_for(accelerator, device, terms, look), 0),
            n_free=sum(free >= each for free in frees),
            n_fitting=sum(node.total(device.gres) >= each for node in members) if members else None,
        )

    def look_ahead(
        self, now_s: float, is_known: Callable[[SlurmHolding], bool]
    ) -> tuple[SlurmLook, Mapping[str, Place]]:
        """What the cluster says of the time to come, in three questions, and our accelerators' places.

        Args:
            now_s: epoch seconds.
            is_known: whether a job is one that the plan counts.
        """
        holdings = self._access.holdings()
        nodes = self._access.nodes()
        look = SlurmLook(
            now_s=now_s,
            ours=[self._as_asked(one) for one in holdings if is_known(one)],
            others=[one for one in holdings if not is_known(one)],
            reservations=self._access.reservations(),
            own_reservation=self._terms.reservation,
        )
        return look, {
            name: Place(device.gres, self._members(nodes, device, self._terms))
            for name, device in self._accelerators.items()
        }

    def _as_asked(self, holding: SlurmHolding) -> SlurmHolding:
        """A run of ours with the devices that we wrote at it: Slurm may tell no types, or no gres at all."""
        asks = parse_asks(holding.comment)
        device = self._accelerators.get(asks[0]) if asks else None
        if asks is None or device is None or device.gres is None:
            return holding
        return replace(holding, gres=((device.gres, asks[1]),))

    def has_cpus_for(self, job: SlurmJob) -> bool:
        """Whether a suspended job could go on: it has left its CPUs, but neither memory nor gres."""
        if job.asks is None:
            return True
        accelerator, count = job.asks
        device = self._accelerators.get(accelerator)
        if device is None or device.gres is not None:
            return True
        own = JobSlurm(partition=job.partitions or None)
        return self.free_devices(own).get(accelerator, 0) >= count

    def _look(self) -> _Look:
        now_s = time.monotonic()
        looked = self._looked  # another thread may forget it meanwhile
        if looked is None or now_s >= looked.at_s + KEEP_S:
            looked = self._looked = _Look(now_s, *self._look_anew())
        return looked

    def _named(self, look: _Look, terms: SlurmTerms) -> Sequence[SlurmNode]:
        """The nodes with the reservation of these terms: those of Slurm 22.05 do not say which they are in."""
        wanted = terms.reservation
        if wanted is None or any(node.reservation is not None for node in look.nodes):
            return look.nodes
        if wanted not in look.reserved:
            found = [one for one in self._access.reservations() if one.name == wanted]
            look.reserved[wanted] = frozenset(name for one in found for name in one.nodes)
        names = look.reserved[wanted]
        return [
            replace(node, reservation=wanted)
            if node.name in names and "RESERVED" in node.flags  # before that it has not begun
            else node
            for node in look.nodes
        ]

    def _look_anew(self) -> tuple[list[SlurmNode], Waiting]:
        """The nodes, and what our waiting jobs ask for, at one instant.

        A job that starts between the two questions would count twice, or not at all: asked again
        until nothing has.
        """
        if self._may_queue:
            return self._access.nodes(), Counter()
        before = self._waiting()
        for _ in range(TRIES):
            nodes = self._access.nodes()
            after = self._waiting() if before else before
            if after == before:
                break
            before = after
        waiting: Waiting = Counter()
        for partitions, (name, count) in before.values():
            waiting[name, partitions] += count
        return nodes, waiting

    def _waiting(self) -> dict[str, tuple[str, tuple[str, int]]]:
        """By job where it waits, and for what."""
        return {
            job.job_id: (job.partitions, job.asks)
            for job in self._access.waiting()
            if job.asks is not None and job.name.startswith(self._prefix)
        }

    def _waited_for(
        self, accelerator: str, device: SlurmDevice, terms: SlurmTerms, look: _Look
    ) -> int:
        """What of an accelerator runs of ours wait for in any of these partitions."""
        here = set(self._partitions(device, terms).split(","))
        return sum(
            count
            for (name, partitions), count in look.waiting.items()
            if name == accelerator and not here.isdisjoint(partitions.split(","))
        )

    def _free(self, node: SlurmNode, device: SlurmDevice) -> int:
        return node.total(device.gres) if self._may_queue else node.free(device.gres)

    def _usable(
        self, nodes: Sequence[SlurmNode], device: SlurmDevice, terms: SlurmTerms
    ) -> list[SlurmNode]:
        members = self._members(nodes, device, terms)
        return [node for node in members if node.is_usable(terms.reservation)]

    def _members(
        self, nodes: Sequence[SlurmNode], device: SlurmDevice, terms: SlurmTerms
    ) -> list[SlurmNode]:
        partitions = self._partitions(device, terms).split(",")
        return [node for node in nodes if not node.partitions.isdisjoint(partitions)]

    def _partitions(self, device: SlurmDevice, terms: SlurmTerms) -> str:
        """Names of partitions, by commas, as sbatch takes them."""
        return device.partition or terms.partition or self._access.default_partition()
