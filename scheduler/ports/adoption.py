"""Clusters whose users' own jobs are planned."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

NATIVE: Final = "native:"
"""Begins the names of runs that users gave to the cluster themselves."""


def native_name(ref: str) -> str:
    """Name of the run of a native job, for `ClusterAdapter`."""
    return f"{NATIVE}{ref}"


def is_native(name: str) -> bool:
    """Whether a run of that name is a user's own job."""
    return name.startswith(NATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeJob:
    """A job that waits in a cluster's own queue and asks to be planned, or is adopted already.

    Args:
        ref: the cluster's own id.
        submitted_at: with the cluster and `ref` unique for ever.
        name: as its user calls it; any text.
        words: what its user states, by the names of the fields of a job document; unchecked.
        accelerator: one of the cluster's accelerators; None where it asks for something else.
        gpus: devices in total.
        limit_s: the run time at which the cluster ends it; None for none.
        job_id: ours, once it is adopted.
        is_held: its user keeps it from starting.
        starts_at: when the cluster itself may start it at the earliest; None where held.
        guard_at: what `adopt` last said; where `starts_at` differs from it, the user chose another time.
        trouble: why it cannot be planned although it asks; None where it can.
        is_reworded: its user has changed the words since `adopt`; known where a cluster lets them be changed.
    """

    ref: str
    submitted_at: datetime
    name: str
    user: str
    words: Mapping[str, str]
    accelerator: str | None
    gpus: int
    num_nodes: int
    limit_s: int | None = None
    job_id: str | None = None
    is_held: bool = False
    starts_at: datetime | None = None
    guard_at: datetime | None = None
    trouble: str | None = None
    is_reworded: bool = False


@runtime_checkable
class AdoptingCluster(Protocol):
    """A cluster whose users' own jobs can be planned and released in place.

    Such a run is named `native_name(ref)`. For it `submit` lets the job start now, `poll` tells its state
    (`FROZEN` while paused), `pause` sends it back to the queue with its guard kept, `resume` lets it go on,
    and `cancel` ends it. `poll` leaves out one of which the cluster has no trace.
    """

    def native_jobs(self) -> list[NativeJob]:
        """Jobs that wait, ask to be planned, and were not let start; oldest first.

        Also those paused by us. Not those of other users that may not be changed, nor refused ones.

        Raises:
            ClusterUnavailableError: nothing can be said.
        """
        ...

    def adopt(self, ref: str, *, job_id: str, guard_at: datetime) -> None:
        """Marks the job as ours, and has the cluster itself start it at `guard_at` if nobody does before.

        So with Gridtide gone it still starts in time. Called again it moves the guard. Adopting what does
        not wait any more is no error.

        Raises:
            ClusterUnavailableError: no answer, or no right to change it.
        """
        ...

    def refuse(self, ref: str, why: str) -> None:
        """Leaves the job to its user, with the reason where its user sees it; nothing else changes.

        One that is adopted already stays so, as it was before its words were changed.

        Raises:
            ClusterUnavailableError: no answer, or no right to change it.
        """
        ...


class News(StrEnum):
    """What the user of a native job is told."""

    PLANNED = "planned"  # when it is to start, or to go on
    WAITING = "waiting"  # it has no place yet, and why
    HELD = "held"  # it is kept from starting


@runtime_checkable
class TellingCluster(Protocol):
    """A cluster that can show the users of native jobs what is planned for them.

    Beside `AdoptingCluster`, which a cluster without such a place implements alone.
    """

    def tell(self, ref: str, news: News, words: str) -> None:
        """Shows these words at the job while it waits; the same words again take no request.

        Raises:
            ClusterUnavailableError: no answer, or no right to change it.
        """
        ...
