"""Compiled inner loops of the joint planner: every loop over jobs, rows and slots is here.

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


@compiled
def running_sums(values: Floats, sums: Floats) -> None:
    """Fills `sums` (rows, slots + 1)."""
    for row in range(values.shape[0]):
        total = 0.0
        sums[row, 0] = 0.0
        for slot in range(values.shape[1]):
            total += values[row, slot]
            sums[row, slot + 1] = total


@compiled
def integrate(load: Floats) -> None:
    """Turns differences along the slots into loads."""
    for row in range(load.shape[0]):
        for slot in range(1, load.shape[1]):
            load[row, slot] += load[row, slot - 1]


@compiled
def cell_grams(market: Market, tables: Tables, k: int, c: int, slot: int) -> float:
    """Grams, and money in grams, of one cell at scale 1."""
    r, full, part = tables.row[c], tables.whole[k], tables.rest[k]
    length = market.grams_sum[r, slot + full] - market.grams_sum[r, slot]
    if part > 0.0:
        here, there = market.grams[r, slot], market.grams[r, slot + full]
        length += min(part * there, there - here + part * here)
    grams: float = (
        tables.watts[c] * length + tables.extra[c] + tables.moved[c] * market.arrival[r, slot]
    )
    return grams


@compiled
def price_choice(
    market: Market,
    tables: Tables,
    prices: Floats,
    prices_sum: Floats,
    k: int,
    c: int,
    costs: Floats,
) -> None:
    """Grams and charges at scale 1 of one choice, for each first slot from `tables.low[k]` on."""
    r, w, g, more = tables.row[c], tables.watts[c], tables.gpus[c], tables.extra[c]
    full, part, n = tables.whole[k], tables.rest[k], tables.touched[k]
    low = tables.low[k]
    grams, charges, shut = market.grams_sum[r], prices_sum[r], market.closed_sum[tables.mask[k], r]
    for slot in range(low, tables.high[k] + 1):
        costs[slot - low] = (
            w * (grams[slot + full] - grams[slot])
            + g * (charges[slot + full] - charges[slot])
            + more
        )
    if part > 0.0:
        for slot in range(low, tables.high[k] + 1):
            here = w * market.grams[r, slot] + g * prices[r, slot]
            there = w * market.grams[r, slot + full] + g * prices[r, slot + full]
            costs[slot - low] += min(part * there, there - here + part * here)
    if tables.moved[c] > 0.0:
        # A start just before the border pays the rest of its run as from the border, its data as before it.
        arrival = market.arrival[r]
        for slot in range(low, tables.high[k] + 1):
            costs[slot - low] += tables.moved[c] * min(arrival[slot], arrival[max(slot - 1, 0)])
    if shut[len(shut) - 1] > 0:
        for slot in range(low, tables.high[k] + 1):
            if shut[slot + n] > shut[slot]:
                costs[slot - low] = INFINITE


@compiled
def cheapest_sum(
    market: Market,
    tables: Tables,
    families: Families,
    jobs: Jobs,
    prices: Floats,
    prices_sum: Floats,
) -> float:
    """The sum of all jobs' cheapest costs; a job without any allowed cell adds nothing."""
    slots = prices.shape[1]
    costs, total = np.zeros(slots + 1), 0.0
    best = np.zeros((families.widest, slots + 1))
    for f in range(len(families.first_table) - 1):
        first_table = families.first_table[f]
        for k in range(first_table, families.first_table[f + 1]):
            low, cells = tables.low[k], tables.high[k] - tables.low[k] + 1
            best[k - first_table, :cells] = INFINITE
            for c in range(tables.first[k], tables.first[k + 1]):
                price_choice(market, tables, prices, prices_sum, k, c, costs)
                for i in range(cells):
                    best[k - first_table, i] = min(best[k - first_table, i], costs[i])
        for j in range(families.first_job[f], families.first_job[f + 1]):
            least = INFINITE
            for link in range(jobs.first[j], jobs.first[j + 1]):
                k = jobs.table[link]
                low = tables.low[k]
                for slot in range(jobs.low[link], jobs.high[link] + 1):
                    least = min(least, best[k - first_table, slot - low])
            if least < INFINITE:
                total += least * jobs.scale[j]
    return total


@compiled
def spread(
    market: Market,
    tables: Tables,
    families: Families,
    jobs: Jobs,
    prices: Floats,
    prices_sum: Floats,
    heat: float,
    load: Floats,
) -> None:
    """Loads when every job spreads over its cells by Boltzmann weights: the gradient of the smoothed dual.

    The temperature of a family whose longest run touches n slots is `heat` x n per unit of scale.
    """
    slots = prices.shape[1]
    best = np.zeros((families.widest, slots + 1))
    weight = np.zeros((families.widest, slots + 1))
    mass = np.zeros((families.widest, slots + 1))
    slot_share = np.zeros((families.widest, slots + 1))
    share = np.zeros((families.most_choices, slots + 1))
    load[:] = 0.0
    for f in range(len(families.first_table) - 1):
        first_table, stop_table = families.first_table[f], families.first_table[f + 1]
        first_choice = tables.first[first_table]
        longest, least = 1, INFINITE
        for k in range(first_table, stop_table):
            longest = max(longest, tables.touched[k])
            cells = tables.high[k] - tables.low[k] + 1
            best[k - first_table, :cells] = INFINITE
            for c in range(tables.first[k], tables.first[k + 1]):
                costs = share[c - first_choice]
                price_choice(market, tables, prices, prices_sum, k, c, costs)
                for i in range(cells):
                    best[k - first_table, i] = min(best[k - first_table, i], costs[i])
            for i in range(cells):
                least = min(least, best[k - first_table, i])
        cold = 1.0 / (heat * longest)
        # Shares of the choices of a first slot, relative to its cheapest; slots relative to the family's.
        for k in range(first_table, stop_table):
            cells = tables.high[k] - tables.low[k] + 1
            weight[k - first_table, :cells] = 0.0
            mass[k - first_table, :cells] = 0.0
            for c in range(tables.first[k], tables.first[k + 1]):
                costs = share[c - first_choice]
                for i in range(cells):
                    below = (best[k - first_table, i] - costs[i]) * cold
                    costs[i] = np.exp(below) if below > -40.0 else 0.0
                    weight[k - first_table, i] += costs[i]
            for i in range(cells):
                below = (least - best[k - first_table, i]) * cold
                slot_share[k - first_table, i] = np.exp(below) if below > -500.0 else 0.0
        for j in range(families.first_job[f], families.first_job[f + 1]):
            parts = 0.0
            for link in range(jobs.first[j], jobs.first[j + 1]):
                k = jobs.table[link]
                low = tables.low[k]
                for slot in range(jobs.low[link], jobs.high[link] + 1):
                    i = slot - low
                    parts += slot_share[k - first_table, i] * weight[k - first_table, i]
            if parts > 1e-200:
                part = jobs.scale[j] / parts
                for link in range(jobs.first[j], jobs.first[j + 1]):
                    k = jobs.table[link]
                    low = tables.low[k]
                    for slot in range(jobs.low[link], jobs.high[link] + 1):
                        mass[k - first_table, slot - low] += (
                            part * slot_share[k - first_table, slot - low]
                        )
                continue
            # Too far above the family's cheapest cell for floats: relative to its own cheapest one.
            nearest = INFINITE
            for link in range(jobs.first[j], jobs.first[j + 1]):
                k = jobs.table[link]
                for slot in range(jobs.low[link], jobs.high[link] + 1):
                    nearest = min(nearest, best[k - first_table, slot - tables.low[k]])
            if nearest == INFINITE:
                continue
            parts = 0.0
            for is_second in range(2):
                for link in range(jobs.first[j], jobs.first[j + 1]):
                    k = jobs.table[link]
                    for slot in range(jobs.low[link], jobs.high[link] + 1):
                        i = slot - tables.low[k]
                        below = (nearest - best[k - first_table, i]) * cold
                        if below < -40.0:
                            continue
                        if is_second:
                            mass[k - first_table, i] += jobs.scale[j] / parts * np.exp(below)
                        else:
                            parts += np.exp(below) * weight[k - first_table, i]
        for k in range(first_table, stop_table):
            low, full, part = tables.low[k], tables.whole[k], tables.rest[k]
            cells = tables.high[k] - tables.low[k] + 1
            for c in range(tables.first[k], tables.first[k + 1]):
                g, costs, here = tables.gpus[c], share[c - first_choice], load[tables.row[c]]
                for i in range(cells):
                    taken = g * costs[i] * mass[k - first_table, i]
                    if taken > 0.0:
                        here[low + i] += taken
                        stop = low + i + full
                        if stop < slots:
                            here[stop] -= taken * (1.0 - part)
                        if part > 0.0 and stop + 1 < slots:
                            here[stop + 1] -= taken * part
    integrate(load)


@compiled
def take(market_load: Floats, r: int, slot: int, n: int, gpus: float) -> None:
    """Adds devices to the slots that a run touches; negative ones give them back."""
    for t in range(slot, slot + n):
        market_load[r, t] += gpus


@compiled
def move(tables: Tables, jobs: Jobs, load: Floats, cells: Cells, j: int, sign: float) -> None:
    """Adds what a job takes where it is to the load, or takes it away."""
    c = cells.choice[j]
    if c >= 0:
        n = tables.touched[jobs.table[cells.link[j]]]
        take(load, tables.row[c], cells.slot[j], n, sign * tables.gpus[c] * jobs.scale[j])


@compiled
def lean(tables: Tables, jobs: Jobs, load: Floats, cells: Cells, j: int, sign: float) -> None:
    """As `move`, but the part of a slot that a run does not fill is left to others."""
    c = cells.choice[j]
    if c >= 0:
        k, gpus = jobs.table[cells.link[j]], sign * tables.gpus[c] * jobs.scale[j]
        stop = cells.slot[j] + tables.whole[k]
        take(load, tables.row[c], cells.slot[j], tables.whole[k], gpus)
        if tables.rest[k] > 0.0:
            load[tables.row[c], stop] += gpus * tables.rest[k]


@compiled
def sweep(
    order: Ints,
    market: Market,
    tables: Tables,
    jobs: Jobs,
    prices: Floats,
    stiffness: float,
    load: Floats,
    cells: Cells,
) -> int:
    """Each job in turn moves to its cheapest cell at grams + prices + stiffness/2 x growth of squared overload.

    Returns how many moved. Capacity may be overrun; `prices` do not change. Runs that fill no whole slots share them.
    """
    charge = np.zeros(load.shape[1] + 1)
    moved = 0
    for j in order:
        lean(tables, jobs, load, cells, j, -1.0)
        scale = jobs.scale[j]
        least, least_choice, least_link, least_slot = INFINITE, -1, -1, -1
        for link in range(jobs.first[j], jobs.first[j + 1]):
            first, last, k = jobs.low[link], jobs.high[link], jobs.table[link]
            if first > last:
                continue
            n, full, part = tables.touched[k], tables.whole[k], tables.rest[k]
            for c in range(tables.first[k], tables.first[k + 1]):
                r = tables.row[c]
                needed, w, more = (
                    tables.gpus[c] * scale,
                    tables.watts[c] * scale,
                    tables.extra[c] * scale,
                )
                if w * market.cheapest[r] * (full + part) + more >= least:
                    continue
                data, most = tables.moved[c] * scale, jobs.limit[j] + more
                taken, room, price = load[r], market.mean_free[r], prices[r]
                total = 0.0
                for t in range(first, last + n):
                    charge[t - first] = total
                    over = taken[t] + needed - room[t]
                    total += needed * price[t]
                    if over > 0.0:
                        before = max(over - needed, 0.0)
                        total += 0.5 * stiffness * (over * over - before * before)
                charge[last + n - first] = total
                grams, shut = market.grams_sum[r], market.closed_sum[tables.mask[k], r]
                has_shut = shut[len(shut) - 1] > 0
                for slot in range(first, last + 1):
                    i = slot - first
                    cost = charge[i + full] - charge[i]
                    value = w * (grams[slot + full] - grams[slot]) + cost + more
                    if value >= least or (has_shut and shut[slot + n] > shut[slot]):
                        continue
                    if part > 0.0:
                        here, there = market.grams[r, slot], market.grams[r, slot + full]
                        last_cost = part * (charge[i + n] - charge[i + full])
                        cost += last_cost
                        value += last_cost + w * min(part * there, there - here + part * here)
                    if data > 0.0:
                        value += data * market.arrival[r, slot]
                    if value >= least or value - cost > most:
                        continue
                    least, least_choice, least_link, least_slot = value, c, link, slot
        if least_choice != cells.choice[j] or least_slot != cells.slot[j]:
            moved += 1
        cells.choice[j], cells.link[j], cells.slot[j] = least_choice, least_link, least_slot
        lean(tables, jobs, load, cells, j, 1.0)
    return moved


@compiled
def weigh(market: Market, tables: Tables, jobs: Jobs, cells: Cells) -> None:
    """Fills the grams of every job where it is."""
    for j in range(len(jobs.scale)):
        cells.grams[j] = INFINITE
        c = cells.choice[j]
        if c >= 0:
            k = jobs.table[cells.link[j]]
            cells.grams[j] = jobs.scale[j] * cell_grams(market, tables, k, c, cells.slot[j])


@compiled
def admit(
    order: Ints, market: Market, tables: Tables, jobs: Jobs, load: Floats, cells: Cells
) -> int:
    """Keeps each job in turn where it is if there is room; sends it nowhere otherwise. Returns how many were sent away.

    `load` must not hold any of these jobs yet.
    """
    sent = 0
    for j in order:
        c = cells.choice[j]
        if c < 0:
            continue
        r, slot, needed = tables.row[c], cells.slot[j], tables.gpus[c] * jobs.scale[j]
        n = tables.touched[jobs.table[cells.link[j]]]
        for t in range(slot, slot + n):
            if load[r, t] + needed > market.free[r, t]:
                cells.choice[j] = -1
                cells.grams[j] = INFINITE
                sent += 1
                break
        move(tables, jobs, load, cells, j, 1.0)
    return sent


@compiled
def cheapest_free(
    market: Market, tables: Tables, jobs: Jobs, load: Floats, j: int, below: float
) -> tuple[float, int, int, int]:
    """Grams, choice, link and first slot of the job's cheapest cell that has room and costs less than `below`.

    Choice -1 where there is none. `load` must not hold the job.
    """
    free, scale, least = market.free, jobs.scale[j], below
    least_choice, least_link, least_slot = -1, -1, -1
    for link in range(jobs.first[j], jobs.first[j + 1]):
        first, last, k = jobs.low[link], jobs.high[link], jobs.table[link]
        if first > last:
            continue
        n, full, part = tables.touched[k], tables.whole[k], tables.rest[k]
        for c in range(tables.first[k], tables.first[k + 1]):
            r, needed = tables.row[c], tables.gpus[c] * scale
            w, more = tables.watts[c] * scale, tables.extra[c] * scale
            if w * market.cheapest[r] * (full + part) + more >= least:
                continue
            moved, most = tables.moved[c] * scale, jobs.limit[j] + more
            taken, room = load[r], free[r]
            grams, shut = market.grams_sum[r], market.closed_sum[tables.mask[k], r]
            full_until = first - 1
            for t in range(first, first + n - 1):
                if taken[t] + needed > room[t]:
                    full_until = t
            for slot in range(first, last + 1):
                if taken[slot + n - 1] + needed > room[slot + n - 1]:
                    full_until = slot + n - 1
                if full_until >= slot or shut[slot + n] > shut[slot]:
                    continue
                value = w * (grams[slot + full] - grams[slot]) + more
                if part > 0.0:
                    here, there = market.grams[r, slot], market.grams[r, slot + full]
                    value += w * min(part * there, there - here + part * here)
                if moved > 0.0:
                    value += moved * market.arrival[r, slot]
                if value < least and value <= most:
                    least, least_choice, least_link, least_slot = value, c, link, slot
    return least, least_choice, least_link, least_slot


@compiled
def put(cells: Cells, j: int, grams: float, choice: int, link: int, slot: int) -> None:
    """Writes where a job is."""
    cells.grams[j], cells.choice[j], cells.link[j], cells.slot[j] = grams, choice, link, slot


@compiled
def improve(
    order: Ints, market: Market, tables: Tables, jobs: Jobs, load: Floats, cells: Cells
) -> int:
    """Each job in turn moves to its cheapest cell that has room, if that is cheaper. Returns how many moved."""
    moved = 0
    for j in order:
        move(tables, jobs, load, cells, j, -1.0)
        grams, choice, link, slot = cheapest_free(market, tables, jobs, load, j, cells.grams[j])
        if choice >= 0:
            moved += 1
            put(cells, j, grams, choice, link, slot)
        move(tables, jobs, load, cells, j, 1.0)
    return moved


@compiled
def run_grams(market: Market, r: int, start_s: float, length_s: float, slot_s: float) -> float:
    """Grams of one watt that runs from a second on, anywhere within the slots."""
    total, slots = 0.0, market.grams.shape[1]
    for at_s, sign in ((start_s + length_s, 1.0), (start_s, -1.0)):
        slot = min(int(at_s // slot_s), slots - 1)
        into = (at_s - slot * slot_s) / slot_s
        total += sign * (market.grams_sum[r, slot] + into * market.grams[r, slot])
    return total


@compiled
def has_room(
    market: Market, load: Floats, mask: int, r: int, first: int, stop: int, needed: float
) -> bool:
    """Whether so many devices are free, and the slots open, from `first` to before `stop`."""
    shut = market.closed_sum[mask, r]
    if first < 0 or stop > market.grams.shape[1] or shut[stop] > shut[first]:
        return False
    for t in range(first, stop):
        if load[r, t] + needed > market.free[r, t]:
            return False
    return True


@compiled
def settle_starts(
    market: Market,
    tables: Tables,
    jobs: Jobs,
    length_s: Ints,
    rims: Ints,
    slot_s: int,
    load: Floats,
    cells: Cells,
    start_s: Ints,
) -> None:
    """Fills the second at which each job starts: the cheapest in its cell, or on the rim of what it is allowed.

    The rims, (links, 2), are the first and last allowed second, which cells may not know.
    """
    for j in range(len(jobs.scale)):
        c = cells.choice[j]
        if c < 0:
            continue
        link, slot = cells.link[j], cells.slot[j]
        k, r = jobs.table[link], tables.row[c]
        length, w, n = length_s[k], tables.watts[c] * jobs.scale[j], tables.touched[k]
        moved, needed = tables.moved[c] * jobs.scale[j], tables.gpus[c] * jobs.scale[j]
        money = tables.extra[c] * jobs.scale[j]
        more = money + moved * market.arrival[r, slot]
        best_s = slot * slot_s
        least = w * run_grams(market, r, best_s, length, slot_s) + more
        late_s = (slot + n) * slot_s - length
        if late_s > best_s:
            value = w * run_grams(market, r, late_s, length, slot_s) + more
            if value < least:
                best_s, least = late_s, value
        take(load, r, slot, n, -needed)
        for side in range(2):
            at_s = rims[link, side]
            if at_s == best_s or rims[link, 0] > rims[link, 1]:
                continue
            first, stop = at_s // slot_s, -(-(at_s + length) // slot_s)
            if not has_room(market, load, tables.mask[k], r, first, stop, needed):
                continue
            grams = (
                w * run_grams(market, r, at_s, length, slot_s) + moved * market.arrival[r, first]
            )
            if grams + money < least * (1 - 1e-12) and grams <= jobs.limit[j]:
                best_s, least = at_s, grams + money
        start_s[j] = best_s
        first = best_s // slot_s
        take(load, r, first, -(-(best_s + length) // slot_s) - first, needed)
        cells.grams[j] = least
