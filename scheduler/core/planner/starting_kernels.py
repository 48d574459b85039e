"""Compiled loop that finds the second at which each job starts, within its cell or on the rim of what it is allowed."""

from scheduler.core.planner.arrays import Cells, Floats, Ints, Jobs, Market, Tables, compiled
from scheduler.core.planner.kernels import take


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
