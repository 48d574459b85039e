"""Compiled inner loops of the joint planner: every loop over jobs, rows and slots is here; see `arrays` for the words."""

import numpy as np

from scheduler.core.planner.arrays import (
    INFINITE,
    Cells,
    Families,
    Floats,
    Ints,
    Jobs,
    Market,
    Tables,
    compiled,
)


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
