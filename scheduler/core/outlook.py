"""What a cluster will have free, as it says itself: its devices, less what others hold and what is out of service."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from scheduler.core.capacity import Reservation
from scheduler.core.fleet import Cluster
from scheduler.core.timegrid import FIRST_YEAR, LAST_YEAR, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A cluster's word on its devices.

    Args:
        totals: devices of each accelerator, in service or not.
        taken: what jobs of others hold, what the site reserved, and what is out of service; each as long as
            the cluster knows, or is assumed to last.
        passing: what others hold until nobody knows when. Plans go around it for as long as is assumed; no job is
            refused for it.
    """

    totals: Mapping[str, int]
    taken: tuple[Reservation, ...] = ()
    passing: tuple[Reservation, ...] = ()


def shortfalls(cluster: Cluster, outlook: Outlook) -> list[Reservation]:
    """What is missing of the configured capacity, and when.

    Capacity in the configuration is the most that may be used. Where a cluster has more than that, others
    may hold the difference before anything is missing. What passes is counted like what is taken.
    """
    found = list[Reservation]()
    for accelerator, configured in cluster.capacity:
        if accelerator in outlook.totals:
            taken = [
                one for one in (*outlook.taken, *outlook.passing) if one.accelerator == accelerator
            ]
            spare = outlook.totals[accelerator] - configured
            if spare < 0:  # configured is more than there is: that much is always missing
                taken.append(_nothing(cluster.cluster_id, accelerator))
            found += _beyond(taken, spare)
    return found


def _nothing(cluster_id: str, accelerator: str) -> Reservation:
    """No devices at any time: spans the time for which a step function is made."""
    ever = Window(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR, 1, 1, tzinfo=UTC))
    return Reservation(cluster_id=cluster_id, accelerator=accelerator, gpus=0, window=ever)


def _beyond(taken: Iterable[Reservation], spare: int) -> list[Reservation]:
    """The part of these reservations that exceeds `spare` devices, as a step function of time."""
    changes: dict[datetime, int] = defaultdict(int)
    first: Reservation | None = None
    for one in taken:
        first = first or one
        changes[one.window.start_at] += one.gpus
        changes[one.window.end_at] -= one.gpus
    found = list[Reservation]()
    held = 0
    for start_at, end_at in itertools.pairwise(sorted(changes)):
        held += changes[start_at]
        if held > spare and first is not None:
            found.append(replace(first, gpus=held - spare, window=Window(start_at, end_at)))
    return found
