"""Capacity over time: how many devices of each row are free in each slot."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.core.fleet import Fleet
from scheduler.core.timegrid import SlotGrid, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Devices that are taken: by a running or placed job, or by the site."""

    cluster_id: str
    accelerator: str
    gpus: int
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLedger:
    """Free devices a slot.

    Args:
        rows: (cluster_id, accelerator), as in `Fleet.rows`.
        free: int64, shape (rows, slots); negative where more is in use than the fleet has, for
            example while a run overstays its window.
    """

    grid: SlotGrid
    rows: tuple[tuple[str, str], ...]
    free: NDArray[np.int64]

    def __post_init__(self) -> None:
        self.free.setflags(write=False)


def build_capacity(
    grid: SlotGrid, fleet: Fleet, reservations: Iterable[Reservation]
) -> CapacityLedger:
    """What the reservations leave free. A slot that is touched at all counts as taken throughout.

    Reservations of rows that the fleet does not have any more are ignored: they take nothing.
    """
    rows = fleet.rows
    index = {row: position for position, row in enumerate(rows)}
    change = np.zeros((len(rows), grid.n_slots + 1), dtype=np.int64)
    for position, (cluster_id, accelerator) in enumerate(rows):
        change[position, 0] = fleet.get(cluster_id).gpus(accelerator)
    for reservation in reservations:
        row = index.get((reservation.cluster_id, reservation.accelerator))
        if row is not None:
            touched = grid.slots_touched(reservation.window)
            change[row, touched.start] -= reservation.gpus
            change[row, touched.stop] += reservation.gpus
    return CapacityLedger(grid=grid, rows=rows, free=np.cumsum(change, axis=1)[:, :-1])
