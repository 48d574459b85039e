"""What the compiled loops of the planner work on, and how they are compiled.

A *row* is one (cluster, accelerator). A *table* holds choices of one length, which a run may have on several rows. A *link*
joins a job to a table. A *cell* of a job is a choice and the first slot that its run touches. Where the length is no
multiple of a slot, a run may begin on the border of its first slot or end on the border of its last one; it touches
the same slots either way, and pays for the cheaper.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_F = TypeVar("_F", bound=Callable[..., Any])

INFINITE: Final = 1e300
"""Cost of what is not allowed: finite, so that sums with it stay numbers."""


class Market(NamedTuple):
    """What there is on each row in each slot.

    Args:
        grams: (rows, slots), gCO2e of one watt over the whole slot, PUE included.
        grams_sum: (rows, slots + 1), its running sums.
        closed_sum: (masks, rows, slots + 1), running count of slots that no run may touch.
        free: (rows, slots), devices that are free all through the slot, 0 or more.
        mean_free: (rows, slots), devices that are free on average over the slot.
        arrival: (rows, slots), gCO2e of a kWh that moves data to a run that starts there and then.
        cheapest: (rows,), least of `grams`.
    """

    grams: Floats
    grams_sum: Floats
    closed_sum: Ints
    free: Floats
    mean_free: Floats
    arrival: Floats
    cheapest: Floats


class Tables(NamedTuple):
    """Choices by length. A job of scale s draws s x `watts` on s x `gpus` devices.

    Args:
        first: (tables + 1,), choices `first[k]` to `first[k + 1]` belong to table k.
        row, watts, gpus, extra, moved: (choices,); `extra` is money in the grams that it is worth, `moved` the
            kWh of moving data.
        mask: (tables,), which slots are closed.
        whole, rest, touched: (tables,), slots that a run fills, the part of one more, and how many it touches.
        low, high: (tables,), first slots that any job asks for.
    """

    first: Ints
    row: Ints
    watts: Floats
    gpus: Floats
    extra: Floats
    moved: Floats
    mask: Ints
    whole: Ints
    rest: Floats
    touched: Ints
    low: Ints
    high: Ints


class Jobs(NamedTuple):
    """Jobs, or groups of jobs that ask for the same.

    Args:
        first: (jobs + 1,), links `first[j]` to `first[j + 1]` belong to job j.
        table, low, high: (links,), with the first and last allowed first slot.
        scale: (jobs,), of the job, or the sum over the group.
        limit: (jobs,), most grams that it may emit.
    """

    first: Ints
    table: Ints
    low: Ints
    high: Ints
    scale: Floats
    limit: Floats


class Families(NamedTuple):
    """Tables that the same jobs choose from lie side by side, and so do their jobs.

    Args:
        first_table, first_job: (families + 1,).
        widest, most_choices: most tables, and most choices, of any family.
    """

    first_table: Ints
    first_job: Ints
    widest: int
    most_choices: int


class Cells(NamedTuple):
    """Where each job is: (jobs,) each; choice -1 means nowhere."""

    choice: Ints
    link: Ints
    slot: Ints
    grams: Floats


def compiled(function: _F) -> _F:
    """The function as machine code, kept on disk between processes where there is room for it."""
    try:
        dispatcher: Any = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder that a cache may be written to
        return cast("_F", njit(nogil=True)(function))
    cache = dispatcher._cache
    save = cache.save_overload

    def save_if_possible(*what: object) -> None:
        with suppress(OSError):
            save(*what)

    cache.save_overload = save_if_possible
    return cast("_F", dispatcher)
