"""What a Slurm cluster will have free, less what others hold, what is reserved, and what is out of service. Pure.

Jobs of others that wait are left out. Slurm's estimate of their start (StartTime) exists only for the first of the
queue, supposes that every job before them takes its whole time limit, and moves with each of its passes; and what they
are to take is theirs only if nobody with more priority comes. How long the queue lets our own jobs wait is learned
from our runs instead.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from adapters.cluster.slurm_holdings import Gres, SlurmHolding, SlurmReservation
from adapters.cluster.slurm_parsers import OUT_OF_SERVICE, SlurmNode
from scheduler.core.capacity import Reservation
from scheduler.core.outlook import Outlook
from scheduler.core.timegrid import Window

OUT_S: Final = 4 * 3600.0
"""So long a node is taken to stay out of service, or a suspended job to stay suspended, from each look on: nobody says
until when. Half a working day: shorter, and jobs would be planned onto nodes that hardly ever come back so soon; longer,
and a node that was rebooted would be missing from plans of the same day."""
SOON_S: Final = 900.0
"""Likewise for a node that reboots, powers down, or has not answered yet: after a restart of the controller none has."""
LEAVING_S: Final = 60.0
"""A job whose time is up still has its devices while it leaves."""
UNLIMITED_S: Final = 86_400.0
"""Likewise for a job without a time limit: a day. Were it taken to last for ever, a cluster whose partitions have no limit
would look full to every plan, and each new job would be refused; were it left out, jobs would be planned onto it."""
FAR_S: Final = 60 * 86_400.0
"""An end that is further away is none: Slurm itself (22.05) writes one after 365 days where there is no limit."""
EVER_S: Final = 365 * 86_400.0
"""Beyond any horizon."""
_PASSING: Final = frozenset(
    {"POWERING_DOWN", "REBOOT", "REBOOT_ISSUED", "REBOOT_REQUESTED"}
    | {"NO_RESPOND", "NOT_RESPONDING", "UNKNOWN"}
)
_KEPT: Final = "PLANNED"
"""A node that the queue keeps for a job that waits, perhaps one of ours: like all that wait, that one is left out."""
_OF_RESERVATION: Final = frozenset({"MAINT", "MAINTENANCE", "RESERVED"})
"""Flags of a node that its reservation explains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmLook:
    """What a cluster said, one question after another, so not of one instant.

    Args:
        now_s: epoch seconds.
        ours: jobs that the plan knows; their devices are its to count.
        others: all other jobs that have nodes.
        reservations: all of them.
        own_reservation: name of that in which our jobs run, and only there; None where they run outside of all.
    """

    now_s: float
    ours: Sequence[SlurmHolding]
    others: Sequence[SlurmHolding]
    reservations: Sequence[SlurmReservation]
    own_reservation: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Nodes for one of our accelerators, in service or not, and its gres there; None for CPUs."""

    gres: str | None
    nodes: Sequence[SlurmNode]


def build_outlook(
    cluster_id: str,
    look: SlurmLook,
    places: Mapping[str, Place],
    *,
    at: Callable[[float], datetime],
) -> Outlook:
    """The outlook.

    Args:
        cluster_id: ours.
        look: at the cluster.
        places: by accelerator.
        at: the service's time at a wall-clock instant.
    """
    by_node = _ByNode(look)
    totals: dict[str, int] = {}
    taken: list[Reservation] = []
    for accelerator, place in places.items():
        total = sum(node.total(place.gres) for node in place.nodes)
        if total == 0:
            continue  # like any that it does not have
        totals[accelerator] = total
        taken += [
            Reservation(
                cluster_id=cluster_id,
                accelerator=accelerator,
                gpus=count,
                window=Window(at(start_s), at(end_s)),
            )
            for start_s, end_s, count in _steps(by_node, place)
        ]
    return Outlook(totals=totals, taken=tuple(taken))


class _ByNode:
    """The look, sorted by nodes."""

    def __init__(self, look: SlurmLook) -> None:
        self.now_s = look.now_s
        self.ours = _spread(look.ours)
        self.others = _spread(look.others)
        named = [one for one in look.reservations if one.name == look.own_reservation]
        # One that does not exist: Slurm has the words for it when a job asks for it.
        self._own = named[0] if named else None
        self._reservations: dict[str, list[SlurmReservation]] = defaultdict(list)
        for reservation in look.reservations:
            for name in reservation.nodes:
                self._reservations[name].append(reservation)

    def is_reserved(self, name: str) -> bool:
        """Whether a reservation has begun there, ours or another."""
        found = self._reservations.get(name, ())
        return any(one.start_s <= self.now_s < one.end_s for one in found)

    def kept_from_us(self, name: str) -> list[SlurmReservation]:
        """Reservations of others there; where we have one, also all the time in which the node is not in it."""
        own, found = self._own, self._reservations.get(name, ())
        if own is None:
            return list(found)
        kept = [one for one in found if one is not own]
        ever_s = self.now_s + EVER_S
        outside = [(self.now_s, ever_s)]
        if name in own.nodes:
            outside = [(self.now_s, own.start_s), (own.end_s, ever_s)]
        for start_s, end_s in outside:
            kept.append(SlurmReservation(name="", start_s=start_s, end_s=end_s, nodes=(name,)))
        return kept


def _spread(holdings: Sequence[SlurmHolding]) -> dict[str, list[tuple[SlurmHolding, int]]]:
    """Holdings by node, each with the node's place in its list."""
    found: dict[str, list[tuple[SlurmHolding, int]]] = defaultdict(list)
    for holding in holdings:
        for index, name in enumerate(holding.nodes):
            found[name].append((holding, index))
    return found


@dataclass(frozen=True, slots=True)
class _Claim:
    """Devices of one node from one instant to another; `of` is a reservation's name, empty for none."""

    start_s: float
    end_s: float
    count: int
    of: str = ""


@dataclass(slots=True)
class _Claims:
    """What there is on one node; `most` is what all jobs of others can have at most, for they have no more now."""

    total: int
    most: int
    ours: list[_Claim]
    jobs: list[_Claim]
    kept: list[_Claim]
    out_until_s: float
    sums: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def held(self, at_s: float) -> int:
        """What is not ours to plan, once everything that begins or ends until then has been added up."""
        if at_s < self.out_until_s:
            others = self.total
        else:
            jobs = sum(count for (kind, _), count in self.sums.items() if kind == "job")
            kept = {of: count for (kind, of), count in self.sums.items() if kind == "kept"}
            # What a reservation keeps beyond the jobs in it: those are counted already. On a node that is
            # overbooked not all of them count, and it keeps its own all the same.
            beyond = sum(
                max(count - self.sums.get(("job", of), 0), 0) for of, count in kept.items()
            )
            others = max(min(jobs, self.most) + beyond, sum(kept.values()))
        return max(min(others, self.total - self.sums.get(("our", ""), 0)), 0)

    def changes(self) -> list[tuple[float, tuple[str, str], int]]:
        """When what begins or ends."""
        ours = [(("our", ""), claim) for claim in self.ours]
        jobs = [(("job", claim.of), claim) for claim in self.jobs]
        kept = [(("kept", claim.of), claim) for claim in self.kept]
        found = []
        for key, claim in (*ours, *jobs, *kept):
            found += [(claim.start_s, key, claim.count), (claim.end_s, key, -claim.count)]
        return sorted(found)


def _steps(by_node: _ByNode, place: Place) -> Iterator[tuple[float, float, int]]:
    """How many devices are taken from when to when, over all nodes."""
    changes: dict[float, int] = defaultdict(int)
    for node in place.nodes:
        before = 0
        for at_s, held in _levels(_claims(by_node, node, place.gres), by_node.now_s):
            changes[at_s] += held - before
            before = held
    held, since_s = 0, 0.0
    for at_s in sorted(changes):
        if held > 0 and changes[at_s]:
            yield since_s, at_s, held
        if changes[at_s]:
            held, since_s = held + changes[at_s], at_s


def _levels(claims: _Claims, now_s: float) -> Iterator[tuple[float, int]]:
    """What is held of one node from each instant on at which that changes; nothing in the end."""
    changes = claims.changes()
    instants = sorted({now_s, max(now_s, claims.out_until_s), *(at_s for at_s, _, _ in changes)})
    done = 0
    for at_s in instants:
        while done < len(changes) and changes[done][0] <= at_s:
            _, key, count = changes[done]
            claims.sums[key] += count
            done += 1
        yield at_s, claims.held(at_s)


def _claims(by_node: _ByNode, node: SlurmNode, gres: str | None) -> _Claims:
    now_s = by_node.now_s
    ours = _of_jobs(by_node.ours.get(node.name, ()), node, gres, now_s)
    jobs = _of_jobs(by_node.others.get(node.name, ()), node, gres, now_s)
    kept = [
        _Claim(max(one.start_s, now_s), one.end_s, _count_kept(one, node, gres), of=one.name)
        for one in by_node.kept_from_us(node.name)
        if one.end_s > max(one.start_s, now_s)
    ]
    used = node.total(gres) - node.free(gres)
    most = max(used - sum(one.count for one in ours), 0)
    hidden = most - sum(one.count for one in jobs)
    if hidden > 0:
        # Of jobs that we may not see (PrivateData), or whose gres Slurm does not track (AccountingStorageTRES).
        until_s = max((one.end_s for one in jobs), default=now_s + OUT_S)
        jobs.append(_Claim(now_s, until_s, hidden))
    return _Claims(
        total=node.total(gres),
        most=most,
        ours=ours,
        jobs=jobs,
        kept=kept,
        out_until_s=_out_until_s(node, now_s, is_reserved=by_node.is_reserved(node.name)),
    )


def _of_jobs(
    holdings: Sequence[tuple[SlurmHolding, int]], node: SlurmNode, gres: str | None, now_s: float
) -> list[_Claim]:
    return [
        _Claim(
            now_s, _end_s(one, now_s), _count_held(one, index, node, gres), one.reservation or ""
        )
        for one, index in holdings
    ]


def _end_s(holding: SlurmHolding, now_s: float) -> float:
    """Until when a job has what it has."""
    if holding.end_s is None or holding.end_s > now_s + FAR_S:
        return now_s + UNLIMITED_S
    shortest_s = OUT_S if holding.state == "SUSPENDED" else LEAVING_S
    return max(holding.end_s, now_s + shortest_s)


def _count_held(holding: SlurmHolding, index: int, node: SlurmNode, gres: str | None) -> int:
    """What a job has of the node, as if it were spread evenly: Slurm tells the sum only, and at its price."""
    if gres is None:
        is_off = holding.state == "SUSPENDED"  # it has left its CPUs, but not its gres
        count = 0 if is_off else holding.cpus
    else:
        count = _count_gres(holding.gres, gres)
    each, rest = divmod(count, len(holding.nodes))
    share = each + (index < rest)
    if gres is not None and _kinds(node, gres) > 1 and not _says(holding.gres, gres):
        share = min(
            share, node.total(gres) - node.free(gres)
        )  # it may be the other kind that it has
    return share


def _count_kept(reservation: SlurmReservation, node: SlurmNode, gres: str | None) -> int:
    """What a reservation keeps of the node: all, or the cores and gres that it names, as if spread evenly."""
    if reservation.is_whole:
        return node.total(gres)
    count = reservation.cpus if gres is None else _count_gres(reservation.gres, gres)
    return min(-(-count // len(reservation.nodes)), node.total(gres))


def _count_gres(tres: Gres, wanted: str) -> int:
    """Devices of that gres: counted by its type where Slurm tracks types, else all of its name."""
    counts = dict(tres)
    if wanted in counts:
        return counts[wanted]
    base, _, kind = wanted.partition(":")
    of_kinds = sum(count for name, count in tres if name.startswith(f"{base}:"))
    if kind:
        return 0 if of_kinds else counts.get(base, 0)
    return of_kinds


def _says(tres: Gres, wanted: str) -> bool:
    return any(name == wanted for name, _ in tres)


def _kinds(node: SlurmNode, gres: str) -> int:
    """How many kinds of devices the node has under that name."""
    base = gres.partition(":")[0]
    return len({name for name, _ in node.gres if name == base or name.startswith(f"{base}:")})


def _out_until_s(node: SlurmNode, now_s: float, *, is_reserved: bool) -> float:
    """Until when none of the node can be used, whoever has it; now where it can."""
    trouble = node.flags & OUT_OF_SERVICE - {_KEPT}
    if is_reserved:
        trouble -= _OF_RESERVATION
    if trouble - _PASSING:
        return now_s + OUT_S
    return now_s + SOON_S if trouble else now_s
