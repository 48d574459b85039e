"""What jobs of any user hold, and what the site reserved, as Slurm tells it. Pure: texts in, records out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adapters.cluster.slurm_hostlist import expand_nodes
from adapters.cluster.slurm_parsers import line_pairs, parse_time

HOLDING_STATES: Final = ("RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED")
"""In which a job has its nodes."""
HOLDING_FIELDS: Final = (
    *("JobID", "UserName", "State", "EndTime", "NodeList", "NumCPUs", "Reservation"),
    "tres-alloc",
)
_UNSET: Final = ("", "(null)", "N/A")

Gres = tuple[tuple[str, int], ...]
"""Names and counts, such as `gpu` or `gpu:h100`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmHolding:
    """What one job has.

    Args:
        is_mine: whether it is of the user that the service acts as.
        end_s: when its time is up, epoch seconds; None where Slurm does not say.
        cpus: on all of its nodes; `gres` likewise, with what has a type also under its bare name, or only so.
        reservation: in which it runs.
        comment: as its user, or we, wrote it.
    """

    name: str
    is_mine: bool
    state: str
    end_s: float | None
    nodes: tuple[str, ...]
    cpus: int
    gres: Gres = ()
    reservation: str | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmReservation:
    """What the site keeps back.

    Args:
        start_s: epoch seconds; `end_s` likewise.
        is_whole: whether it has all of its nodes; else some cores of them.
        cpus: those of its cores on all of its nodes.
        gres: likewise, where devices are reserved (from Slurm 24.11 on).
    """

    name: str
    start_s: float
    end_s: float
    nodes: tuple[str, ...]
    is_whole: bool = True
    cpus: int = 0
    gres: Gres = ()


def parse_holding(fields: Sequence[str], *, user: str) -> SlurmHolding:
    """The record of a line's fields: `HOLDING_FIELDS`, then name and comment."""
    _, owner, state, end, nodes, cpus, reservation, tres, name, comment = fields
    counted, gres = parse_tres(tres)
    return SlurmHolding(
        name=name,
        is_mine=owner == user,
        state=state,
        end_s=parse_time(end),
        nodes=expand_nodes(nodes),
        cpus=counted or (int(cpus) if cpus.isdecimal() else 0),
        gres=gres,
        reservation=None if reservation in _UNSET else reservation,
        comment="" if comment == "(null)" else comment,
    )


def parse_reservations(text: str) -> list[SlurmReservation]:
    """The reservations of `scontrol --oneliner show reservation`; those of licences alone are left out."""
    found = []
    for line in text.splitlines():
        pairs = line_pairs(line)
        start_s, end_s = (parse_time(pairs.get(name, "")) for name in ("StartTime", "EndTime"))
        nodes = expand_nodes(pairs.get("Nodes", ""))
        if "ReservationName" in pairs and nodes and start_s is not None and end_s is not None:
            cpus, gres = parse_tres(pairs.get("TRES", ""))
            found.append(
                SlurmReservation(
                    name=pairs["ReservationName"],
                    start_s=start_s,
                    end_s=end_s,
                    nodes=nodes,
                    is_whole="CoreIDs" not in pairs,
                    cpus=cpus,
                    gres=gres,
                )
            )
    return found


def parse_tres(text: str) -> tuple[int, Gres]:
    """CPUs and gres of `cpu=8,mem=64G,node=1,gres/gpu=2,gres/gpu:h100=2`."""
    pairs = [part.partition("=")[::2] for part in text.split(",")]
    counts = {name: int(count) for name, count in pairs if count.isdecimal()}
    gres = tuple(
        (name.removeprefix("gres/"), count)
        for name, count in counts.items()
        if name.startswith("gres/")
    )
    return counts.get("cpu", 0), gres
