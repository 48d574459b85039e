"""Compiled steps of shaking: a job is forced into a cell, those in its way find other places, or all goes back.

Ruin and recreate (Schrimpf et al. 2000) with ejection chains (Glover 1996) under simulated annealing.
"""

from typing import Final

from scheduler.core.planner.arrays import (
    INFINITE,
    Cells,
    Floats,
    Ints,
    Jobs,
    Market,
    Tables,
    compiled,
)
from scheduler.core.planner.board import Board, Manner, Options
from scheduler.core.planner.kernels import cell_grams, cheapest_free, move, put

GOLDEN: Final = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly: one drawn number serves a whole row of decisions."""


@compiled
def count_cells(market: Market, tables: Tables, jobs: Jobs) -> int:
    """An upper bound of the number of cells of all jobs."""
    count = 0
    for link in range(len(jobs.table)):
        k = jobs.table[link]
        width = max(0, jobs.high[link] - jobs.low[link] + 1)
        count += width * (tables.first[k + 1] - tables.first[k])
    return count


@compiled
def list_cells(
    market: Market,
    tables: Tables,
    jobs: Jobs,
    prices_sum: Floats,
    owner: Ints,
    options: Options,
    priced: Floats,
) -> int:
    """Fills all open cells that hold the job on empty rows, with grams and with charges; returns how many."""
    count = 0
    for j in range(len(jobs.scale)):
        for link in range(jobs.first[j], jobs.first[j + 1]):
            k = jobs.table[link]
            n = tables.touched[k]
            for c in range(tables.first[k], tables.first[k + 1]):
                r, needed = tables.row[c], tables.gpus[c] * jobs.scale[j]
                shut = market.closed_sum[tables.mask[k], r]
                most = jobs.limit[j] + tables.extra[c] * jobs.scale[j]
                for slot in range(jobs.low[link], jobs.high[link] + 1):
                    if shut[slot + n] > shut[slot]:
                        continue
                    if market.free[r, slot : slot + n].min() < needed:
                        continue
                    grams = jobs.scale[j] * cell_grams(market, tables, k, c, slot)
                    if grams > most:
                        continue
                    owner[count] = j
                    options.choice[count], options.link[count] = c, link
                    options.slot[count], options.grams[count] = slot, grams
                    priced[count] = grams + needed * (prices_sum[r, slot + n] - prices_sum[r, slot])
                    count += 1
    return count


@compiled
def seat(board: Board, j: int, grams: float, c: int, link: int, slot: int) -> None:
    """Puts a job into a cell."""
    put(board.cells, j, grams, c, link, slot)
    if c < 0:
        return
    move(board.tables, board.jobs, board.load, board.cells, j, 1.0)
    r = board.tables.row[c]
    following = board.head[r]
    board.after[j], board.before[j], board.head[r] = following, -1, j
    if following >= 0:
        board.before[following] = j


@compiled
def unseat(board: Board, j: int) -> None:
    """Takes a job out of its cell."""
    c = board.cells.choice[j]
    if c < 0:
        return
    move(board.tables, board.jobs, board.load, board.cells, j, -1.0)
    following, leading = board.after[j], board.before[j]
    if leading >= 0:
        board.after[leading] = following
    else:
        board.head[board.tables.row[c]] = following
    if following >= 0:
        board.before[following] = leading
    put(board.cells, j, INFINITE, -1, -1, -1)


@compiled
def set_up(board: Board) -> None:
    """Builds the lists of the rows from the cells; `load` holds the jobs already."""
    board.head[:] = -1
    for j in range(len(board.rank)):
        c = board.cells.choice[j]
        if c >= 0:
            move(board.tables, board.jobs, board.load, board.cells, j, -1.0)
            seat(board, j, board.cells.grams[j], c, board.cells.link[j], board.cells.slot[j])


@compiled
def cost(board: Board, j: int, cells: Cells, at: int) -> float:
    """Grams of a job in the cell that is written at `at`, with what lateness costs; 0 nowhere."""
    if cells.choice[at] < 0:
        return 0.0
    grams: float = cells.grams[at]
    if cells.slot[at] > board.jobs.high[cells.link[at]]:
        grams += board.late_g
    return grams


@compiled
def note(board: Board, j: int, n_noted: int) -> int:
    """Writes down where a job is before a step first touches it; returns how many are written down.

    No step touches a job twice: one that was sent away and finds another place is held there.
    """
    board.noted[n_noted] = j
    put(
        board.old,
        n_noted,
        board.cells.grams[j],
        board.cells.choice[j],
        board.cells.link[j],
        board.cells.slot[j],
    )
    return n_noted + 1


@compiled
def roomiest(board: Board, j: int, draw: float) -> tuple[float, int, int, int]:
    """Grams, choice, link and first slot of a cell that overruns little (by luck, to some part); choice -1 without any."""
    market, tables, jobs, over = board.market, board.tables, board.easy, board.over
    least, least_choice, least_link, least_slot = INFINITE, -1, -1, -1
    count = 0
    for link in range(jobs.first[j], jobs.first[j + 1]):
        first, last, k = jobs.low[link], jobs.high[link], jobs.table[link]
        if first > last:
            continue
        n = tables.touched[k]
        for c in range(tables.first[k], tables.first[k + 1]):
            r, needed = tables.row[c], tables.gpus[c] * jobs.scale[j]
            taken, room = board.load[r], market.free[r]
            shut = market.closed_sum[tables.mask[k], r]
            most = jobs.limit[j] + tables.extra[c] * jobs.scale[j]
            total, full_until = 0.0, first - 1
            for t in range(first, last + n):
                over[t] = total
                total += max(0.0, taken[t] + needed - room[t])
                if t < first + n - 1 and needed > room[t]:
                    full_until = t
            over[last + n] = total
            for slot in range(first, last + 1):
                if needed > room[slot + n - 1]:
                    full_until = slot + n - 1
                if full_until >= slot or shut[slot + n] > shut[slot]:
                    continue
                if (
                    most < INFINITE
                    and cell_grams(market, tables, k, c, slot) * jobs.scale[j] > most
                ):
                    continue
                count += 1
                luck = (draw + count * GOLDEN) % 1.0
                value = (over[slot + n] - over[slot]) * (0.2 + luck)
                if value < least:
                    least, least_choice, least_link, least_slot = value, c, link, slot
    if least_choice < 0:
        return INFINITE, -1, -1, -1
    k = jobs.table[least_link]
    grams = jobs.scale[j] * cell_grams(market, tables, k, least_choice, least_slot)
    return grams, least_choice, least_link, least_slot


@compiled
def most_in_the_way(board: Board, j: int, step: int, t: int, draw: float) -> int:
    """The job in slot t of the row of j that frees most of what is overrun for what it takes, by luck in part; or -1."""
    market, tables, cells, load = board.market, board.tables, board.cells, board.load
    r, slot = tables.row[cells.choice[j]], cells.slot[j]
    stop = slot + tables.touched[board.jobs.table[cells.link[j]]]
    most, most_job = 0.0, -1
    i = board.head[r]
    while i >= 0:
        begin = cells.slot[i]
        n = tables.touched[board.jobs.table[cells.link[i]]]
        if begin <= t < begin + n and board.held_of[i] != step:
            gpus = tables.gpus[cells.choice[i]] * board.jobs.scale[i]
            helped = 0.0
            for at in range(t, min(stop, begin + n)):
                helped += min(gpus, max(0.0, load[r, at] - market.free[r, at]))
            value = helped / (gpus * n) * (0.1 + (draw + i * GOLDEN) % 1.0)
            if board.rank[i] > board.rank[j]:
                value *= 4.0
            elif board.rank[i] < board.rank[j]:
                value *= 0.25
            if value > most:
                most, most_job = value, i
        i = board.after[i]
    return most_job


@compiled
def force(
    board: Board, j: int, step: int, draw: float, n_noted: int, n_waiting: int
) -> tuple[int, int]:
    """Sends away what overruns the cell of j, or j itself where that cannot be. Returns how many are noted, and wait."""
    market, tables, cells = board.market, board.tables, board.cells
    r, slot = tables.row[cells.choice[j]], cells.slot[j]
    board.held_of[j] = step
    for t in range(slot, slot + tables.touched[board.jobs.table[cells.link[j]]]):
        while board.load[r, t] > market.free[r, t]:
            i = most_in_the_way(board, j, step, t, draw)
            if i < 0:
                unseat(board, j)
                return n_noted, n_waiting
            n_noted = note(board, i, n_noted)
            board.waiting[n_waiting] = i
            n_waiting += 1
            unseat(board, i)
    return n_noted, n_waiting


@compiled
def take_next(board: Board, n_waiting: int, draw: float) -> int:
    """Of the waiting jobs the one that was biggest, or by luck another; it changes places with the last one."""
    tables, jobs = board.tables, board.jobs
    most, most_at = -1.0, 0
    for a in range(n_waiting):
        i = board.waiting[a]
        k = jobs.table[jobs.first[i]]
        gpus = jobs.scale[i] * tables.gpus[tables.first[k]]
        value = gpus * tables.touched[k] * (0.1 + (draw + i * GOLDEN) % 1.0)
        if value > most:
            most, most_at = value, a
    last = n_waiting - 1
    chosen: int = board.waiting[most_at]
    board.waiting[most_at], board.waiting[last] = board.waiting[last], chosen
    return chosen


@compiled
def find_room(board: Board, j: int) -> tuple[float, int, int, int]:
    """The cheapest cell with room, without the margin if need be; choice -1 where there is none."""
    found = cheapest_free(board.market, board.tables, board.jobs, board.load, j, INFINITE)
    if found[1] < 0 and board.late_g > 0.0:
        found = cheapest_free(board.market, board.tables, board.easy, board.load, j, INFINITE)
    return found


@compiled
def stir(draw: float) -> float:
    """Another number in [0, 1), as good as drawn (Park and Miller 1988)."""
    return (draw * 16807.0 + 0.1) % 1.0


@compiled
def first_free(
    board: Board, options: Options, j: int, is_priced: bool
) -> tuple[float, int, int, int]:
    """The first promising (or cheapest) cell of the job with room; choice -1 without any."""
    market, tables, jobs = board.market, board.tables, board.jobs
    for at in range(options.first[j], options.first[j + 1]):
        a = at if is_priced else options.by_grams[at]
        c, slot = options.choice[a], options.slot[a]
        r, needed = tables.row[c], tables.gpus[c] * jobs.scale[j]
        has_room = True
        for t in range(slot, slot + tables.touched[jobs.table[options.link[a]]]):
            if board.load[r, t] + needed > market.free[r, t]:
                has_room = False
                break
        if has_room:
            return options.grams[a], c, options.link[a], slot
    return find_room(board, j)


@compiled
def settle(
    board: Board,
    options: Options,
    step: int,
    draw: float,
    manner: Manner,
    n_noted: int,
    n_waiting: int,
) -> int:
    """Finds places for those who wait; some may send others away in turn. Returns how many are noted."""
    depth = manner.depth
    draw = stir(draw)
    is_priced = draw < manner.priced
    while n_waiting > 0:
        draw = stir(draw)
        i = take_next(board, n_waiting, draw)
        n_waiting -= 1
        draw = stir(draw)
        wide = options.first[i + 1] - options.first[i]
        if depth > 0 and draw < manner.turn and wide > 0:
            draw = stir(draw)
            a = options.first[i] + int(draw**2 * wide)
            grams, c, link, slot = (
                options.grams[a],
                options.choice[a],
                options.link[a],
                options.slot[a],
            )
            depth -= 1
        else:
            grams, c, link, slot = first_free(board, options, i, is_priced)
            if c < 0 and depth > 0:
                grams, c, link, slot = roomiest(board, i, draw)
                depth -= 1
        if c >= 0:
            seat(board, i, grams, c, link, slot)
            n_noted, n_waiting = force(board, i, step, draw, n_noted, n_waiting)
    return n_noted


@compiled
def ruin(
    board: Board,
    j: int,
    r: int,
    slot: int,
    n: int,
    step: int,
    draw: float,
    share: float,
    n_noted: int,
    n_waiting: int,
) -> tuple[int, int]:
    """Sends away a share of the jobs in these slots of a row. Returns how many are noted, and wait."""
    i = board.head[r]
    while i >= 0:
        following = board.after[i]
        begin = board.cells.slot[i]
        stop = begin + board.tables.touched[board.jobs.table[board.cells.link[i]]]
        draw = stir(draw)
        if begin < slot + n and stop > slot and draw < share and board.held_of[i] != step:
            n_noted = note(board, i, n_noted)
            board.waiting[n_waiting] = i
            n_waiting += 1
            unseat(board, i)
        i = following
    return n_noted, n_waiting


@compiled
def weigh_step(board: Board, n_noted: int) -> float:
    """Grams more than before the step; fills `missing`."""
    board.missing[:] = 0
    change = 0.0
    for a in range(n_noted):
        j = board.noted[a]
        change += cost(board, j, board.cells, j) - cost(board, j, board.old, a)
        board.missing[board.rank[j]] += int(board.cells.choice[j] < 0) - int(
            board.old.choice[a] < 0
        )
    return change


@compiled
def sign_of(counts: Ints) -> int:
    """-1, 0 or 1: the sign of the first count that is not 0."""
    for one in counts:
        if one != 0:
            return 1 if one > 0 else -1
    return 0


@compiled
def undo(board: Board, n_noted: int) -> None:
    """Puts every job that the step touched back to where it was."""
    for a in range(n_noted):
        unseat(board, board.noted[a])
    old = board.old
    for a in range(n_noted):
        seat(board, board.noted[a], old.grams[a], old.choice[a], old.link[a], old.slot[a])


@compiled
def save(board: Board, n_noted: int, best: Cells) -> None:
    """Writes down where the jobs were before the step."""
    best.grams[:], best.choice[:] = board.cells.grams, board.cells.choice
    best.link[:], best.slot[:] = board.cells.link, board.cells.slot
    old = board.old
    for a in range(n_noted):
        put(best, board.noted[a], old.grams[a], old.choice[a], old.link[a], old.slot[a])


@compiled
def restore(board: Board, best: Cells) -> None:
    """Puts every job to where it was in the best."""
    for j in range(len(board.rank)):
        unseat(board, j)
    for j in range(len(board.rank)):
        seat(board, j, best.grams[j], best.choice[j], best.link[j], best.slot[j])


@compiled
def shake(
    picks: Ints,
    chance: Floats,
    allowances: Floats,
    manner: Manner,
    options: Options,
    board: Board,
    above_g: float,
    best: Cells,
) -> float:
    """Forces the picked jobs, one a step, into other cells. Returns the grams above the best; 0 where it is the best.

    A step stays if fewer jobs of the highest rank that changed have no place, or as many for grams within its allowance.

    Args:
        picks: (steps,), jobs.
        chance: (steps, 3), uniform in [0, 1).
        allowances: (steps,), grams.
        manner: of every step.
        options: where to force jobs; a job without options moves only if it has no place.
        board: changed in place.
        above_g: how far the board is above `best`.
        best: filled with the board when a step leaves the best.
    """
    cells = board.cells
    board.held_of[:] = -1
    for step in range(len(picks)):
        j = picks[step]
        wide = options.first[j + 1] - options.first[j]
        draw = chance[step, 2]
        if cells.choice[j] < 0 and (wide == 0 or chance[step, 1] < 0.5):
            grams, c, link, slot = roomiest(board, j, draw)
        elif wide > 0:
            a = options.first[j] + int(chance[step, 0] ** 2 * wide)
            grams, c, link, slot = (
                options.grams[a],
                options.choice[a],
                options.link[a],
                options.slot[a],
            )
        else:
            continue
        if c < 0 or (c == cells.choice[j] and slot == cells.slot[j]):
            continue
        if cells.choice[j] >= 0 and grams > cost(board, j, cells, j) + allowances[step]:
            continue
        n_noted = note(board, j, 0)
        unseat(board, j)
        seat(board, j, grams, c, link, slot)
        n_noted, n_waiting = force(board, j, step, draw, n_noted, 0)
        draw = stir(draw)
        if draw < manner.ruin:
            draw = stir(draw)
            part, draw = draw * manner.share, stir(draw)
            r, n = board.tables.row[c], board.tables.touched[board.jobs.table[link]]
            n_noted, n_waiting = ruin(board, j, r, slot, n, step, draw, part, n_noted, n_waiting)
            draw = stir(draw)
            r = int(draw * len(board.head))
            n_noted, n_waiting = ruin(
                board, j, r, slot, n, step, stir(draw), part, n_noted, n_waiting
            )
        n_noted = settle(board, options, step, draw, manner, n_noted, n_waiting)
        change = weigh_step(board, n_noted)
        sign = sign_of(board.missing)
        if sign > 0 or (sign == 0 and change > allowances[step]):
            undo(board, n_noted)
        elif sign < 0 or above_g + change < 1e-9:
            above_g = 0.0
        else:
            if above_g == 0.0:
                save(board, n_noted, best)
            above_g += change
    return above_g
