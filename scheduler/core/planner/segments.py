"""Cheapest runs with pauses on a grid of equal units: an exact dynamic programme over segments, compiled.

A job cut into k segments runs `need[k - 1]` units. Every segment is at least `shortest` units long and segments are at
least `gap` units apart. The job itself may need less than whole units: `surplus[k - 1]`, below 1, is how far the units
overshoot, and is trimmed off the dearer end of one segment that stays at least `chunk` long.

Costs are 0 or more and of any one unit, such as grams; positions are borders of units, from 0.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.core.planner.arrays import INFINITE, Floats, Ints, compiled

Flags = NDArray[np.bool_]
SAME: Final = 1e-12
"""Costs closer than this, relative to them, count as equal: sums of floats differ so much by their order."""
TINY: Final = 1e-9
"""Parts of a unit that count as none."""


class Line(NamedTuple):
    """Units of one place, of one job's window.

    Args:
        costs: (units,), of running over the unit.
        sums: (units + 1,), running sums over open units.
        open_run: (units + 1,), how many open units in a row end at each border.
    """

    costs: Floats
    sums: Floats
    open_run: Ints


class Rule(NamedTuple):
    """How segments must lie, in units; `chunk` is what `shortest` was rounded up from."""

    shortest: int
    chunk: float
    gap: int


class Tables(NamedTuple):
    """Least cost by border, number of segments and units run, (rows, width) each: all borders, or a ring of rows.

    Border t is in row t % rows. Family a of a row starts at a x (width / most segments). Where a segment, the a-th from
    0, ends at the border and is long enough, family a of `running` holds the cost by units run. Where a segments
    have ended at least `gap` before, family a of `paused` does.
    """

    running: Floats
    paused: Floats


@compiled
def row_width(need: Ints, shortest: int) -> int:
    """Floats in a row of `Tables`: every family has a margin, so that one loop may run over them all."""
    width: int = len(need) * (need.max() + 1 + shortest)
    return width


@compiled
def scratch_size(units: int, need: Ints, surplus: Floats, shortest: int) -> int:
    """Floats that `cheapest_segments` needs as scratch."""
    size: int = (4 if surplus.max() > 0.0 else 2) * (units + 1) * row_width(need, shortest)
    return size


@compiled
def measure(costs: Floats, closed: Flags) -> Line:
    """The units with their running sums."""
    sums, open_run = np.empty(len(costs) + 1), np.empty(len(costs) + 1, np.int64)
    sums[0], open_run[0] = 0.0, 0
    for t in range(len(costs)):
        sums[t + 1] = sums[t] if closed[t] else sums[t] + costs[t]
        open_run[t + 1] = 0 if closed[t] else open_run[t] + 1
    return Line(costs, sums, open_run)


@compiled
def build_tables(scratch: Floats, part: int, rows: int, width: int) -> Tables:
    """Tables in the part-th piece of the scratch, not filled."""
    size = rows * width
    first = scratch[2 * part * size : (2 * part + 1) * size]
    second = scratch[(2 * part + 1) * size : (2 * part + 2) * size]
    return Tables(first.reshape((rows, width)), second.reshape((rows, width)))


@compiled
def advance(line: Line, need: Ints, rule: Rule, tables: Tables, best: Floats) -> None:
    """Fills the tables, which may be rings of more rows than shortest and gap.

    Args:
        best: (4, most segments), filled by k: the least cost of need[k] units in k + 1 segments, where it ends, and the
            least cost of a unit less in k + 1 segments and in k.
    """
    running, paused = tables
    shortest, gap = rule.shortest, rule.gap
    rows, width, most = running.shape[0], running.shape[1], len(need)
    stride = width // most
    best[:] = INFINITE
    for t in range(len(line.costs) + 1):
        now, before = t % rows, (t - 1) % rows
        waits, runs = paused[now], running[now]
        if t < gap:
            waits[:] = np.inf
            waits[0] = 0.0
        else:
            waited, ended, here = paused[before], running[(t - gap) % rows], waits[stride:]
            for x in range(stride):
                waits[x] = waited[x]
            waited = waited[stride:]
            for x in range(width - stride):
                here[x] = ended[x] if ended[x] < waited[x] else waited[x]
        if line.open_run[t] == 0:
            runs[:] = np.inf
            continue
        cost = line.costs[t - 1]
        runs[:shortest] = np.inf
        here, onward = runs[shortest:], running[before, shortest - 1 :]
        if line.open_run[t] < shortest:
            for x in range(width - shortest):
                here[x] = onward[x] + cost
        else:
            entered, fresh = paused[(t - shortest) % rows], line.sums[t] - line.sums[t - shortest]
            for x in range(width - shortest):
                longer, begun = onward[x] + cost, entered[x] + fresh
                here[x] = longer if longer < begun else begun
        for k in range(most):
            first = k * stride
            runs[first + stride - shortest : first + stride] = np.inf
            value = runs[first + need[k]]
            if value < best[0, k] - SAME * value:
                best[0, k], best[1, k] = value, t
            best[2, k] = min(best[2, k], runs[first + need[k] - 1])
            if k > 0:
                best[3, k] = min(best[3, k], runs[first - stride + need[k] - 1])


@compiled
def pause_before(paused: Floats, t: int, x: int) -> int:
    """The earliest border from which cell x of `paused` has stayed the same until t."""
    while t > 0 and paused[t - 1, x] <= paused[t, x]:
        t -= 1
    return t


@compiled
def trace(
    line: Line,
    rule: Rule,
    tables: Tables,
    stride: int,
    cell: tuple[int, int, int],
    starts: Ints,
    stops: Ints,
) -> None:
    """Fills the segments that lead to a cell of `running`, (segment, border, place in the row), of tables of all borders."""
    running, paused = tables
    last, t, x = cell
    for a in range(last, -1, -1):
        stops[a] = t
        while running[t - 1, x - 1] + line.costs[t - 1] <= running[t, x]:
            t, x = t - 1, x - 1
        t, x = t - rule.shortest, x - rule.shortest
        starts[a] = t
        if a > 0:
            t = pause_before(paused, t, x) - rule.gap
            x -= stride


@compiled
def cheapest_whole(line: Line, n: int, part: float) -> tuple[float, int, int]:
    """The cheapest n units in one piece, less `part` of their dearer end.

    Returns:
        Cost, first unit (-1 if there is none), and which end is trimmed: 0 the first, 1 the last.
    """
    least, start, end = INFINITE, -1, 0
    for t in range(n, len(line.costs) + 1):
        if line.open_run[t] >= n:
            head, tail = line.costs[t - n], line.costs[t - 1]
            cost = line.sums[t] - line.sums[t - n] - part * max(head, tail)
            if cost < least - SAME * abs(cost):
                least, start, end = cost, t - n, 0 if head > tail else 1
    return least, start, end


@compiled
def dearest_end(
    line: Line, rule: Rule, part: float, k: int, starts: Ints, stops: Ints
) -> tuple[float, int, int]:
    """What trimming `part` of a unit off an end saves at most, and the segment and end; one is long enough for it."""
    most, segment, end = -1.0, -1, 0
    for a in range(k):
        if stops[a] - starts[a] - part < rule.chunk - TINY:
            continue
        head, tail = line.costs[starts[a]], line.costs[stops[a] - 1]
        if max(head, tail) > most:
            most, segment, end = max(head, tail), a, 0 if head > tail else 1
    return most * part, segment, end


@compiled
def cut_end(line: Line, rule: Rule, tables: Tables, part: float, t: int, x: int) -> float:
    """Cost of cell x of `running` where the segment that ends at border t loses `part` of its last unit."""
    if line.open_run[t] == 0:
        return np.inf
    longer = shortest_trimmed(rule, part) - rule.shortest
    cost: float = tables.running[t - longer, x - longer] + (longer - part) * line.costs[t - 1]
    return cost


@compiled
def cut_start(line: Line, rule: Rule, tables: Tables, part: float, t: int, x: int) -> float:
    """Cost of cell x of `running` where the segment ends at border t as short as may be, less `part` of its first unit."""
    n = shortest_trimmed(rule, part)
    if line.open_run[t] < n or x < n:
        return np.inf
    fresh = line.sums[t] - line.sums[t - n] - part * line.costs[t - n]
    cost: float = tables.paused[t - n, x - n] + fresh
    return cost


@compiled
def shortest_trimmed(rule: Rule, part: float) -> int:
    """Units of the shortest segment that may lose `part` of one."""
    return rule.shortest if rule.shortest - part >= rule.chunk - TINY else rule.shortest + 1


@compiled
def lower(values: Floats, others: Floats, more: float) -> None:
    """Lowers values to the others + `more`, where that is less."""
    for x in range(len(values)):
        other = others[x] + more
        values[x] = other if other < values[x] else values[x]


@compiled
def advance_trimmed(
    line: Line, rule: Rule, plain: Tables, cut: Tables, k: int, n: int, stride: int, part: float
) -> tuple[float, int, int]:
    """Fills `cut` for n units in k segments, one of which has lost `part` of an end.

    Returns:
        Least cost, the border where it ends, and whether it is the last segment's end that is trimmed.
    """
    least, stop, at_end = INFINITE, -1, 0
    shortest = rule.shortest
    longer = shortest_trimmed(rule, part) - shortest
    for t in range(len(line.costs) + 1):
        ended, open_run = t - rule.gap, line.open_run[t]
        for a in range(k):
            # Cells of this family from which the segments still to come fit.
            first, stop_x = a * stride, a * stride + n + 1 - (k - 1 - a) * shortest
            waits, runs = cut.paused[t, first:stop_x], cut.running[t, first:stop_x]
            for x in range(len(waits)):
                waits[x] = runs[x] = np.inf
            if a > 0 and ended >= 0:
                lower(waits, cut.paused[t - 1, first:], 0.0)
                lower(waits, cut.running[ended, first - stride :], 0.0)
                if line.open_run[ended] > 0:
                    last = line.costs[ended - 1]
                    source = plain.running[ended - longer, first - stride :]
                    lower(waits[longer:], source, (longer - part) * last)
            if open_run > 0:
                lower(runs[1:], cut.running[t - 1, first:], line.costs[t - 1])
            if open_run >= shortest:
                fresh = line.sums[t] - line.sums[t - shortest]
                lower(runs[shortest:], cut.paused[t - shortest, first:], fresh)
            if open_run >= shortest + longer:
                begin = t - shortest - longer
                fresh = line.sums[t] - line.sums[begin] - part * line.costs[begin]
                lower(runs[shortest + longer :], plain.paused[begin, first:], fresh)
        x = (k - 1) * stride + n
        at_stop = cut_end(line, rule, plain, part, t, x)
        value = min(cut.running[t, x], at_stop)
        if value < least - SAME * abs(value):
            least, stop, at_end = value, t, 1 if at_stop < cut.running[t, x] else 0
    return least, stop, at_end


@compiled
def trace_trimmed(
    line: Line,
    rule: Rule,
    plain: Tables,
    cut: Tables,
    stride: int,
    part: float,
    cell: tuple[int, int, int],
    is_end: int,
    starts: Ints,
    stops: Ints,
) -> tuple[int, int]:
    """Fills the segments that lead to a cell of `cut.running`; returns the trimmed segment and end.

    Args:
        cell: as in `trace`.
        is_end: 1 where the cell is reached by trimming the end of its segment.
    """
    longer = shortest_trimmed(rule, part) - rule.shortest
    a, t, x = cell
    while not is_end:
        stops[a] = t
        while cut.running[t - 1, x - 1] + line.costs[t - 1] <= cut.running[t, x]:
            t, x = t - 1, x - 1
        if cut_start(line, rule, plain, part, t, x) <= cut.running[t, x]:
            n = rule.shortest + longer
            t, x = t - n, x - n
            starts[a] = t
            if a > 0:
                t = pause_before(plain.paused, t, x) - rule.gap
                trace(line, rule, plain, stride, (a - 1, t, x - stride), starts, stops)
            return a, 0
        t, x = t - rule.shortest, x - rule.shortest
        starts[a] = t
        t = pause_before(cut.paused, t, x) - rule.gap
        a, x = a - 1, x - stride
        is_end = 1 if cut.running[t, x] > cut.paused[t + rule.gap, x + stride] else 0
    trace(line, rule, plain, stride, (a, t - longer, x - longer), starts, stops)
    stops[a] = t
    return a, 1


@compiled
def least_trimmed(line: Line, rule: Rule, best: Floats, k: int, part: float) -> float:
    """No more than what need[k] units in k + 1 segments cost, less `part` of an end.

    A trimmed schedule is a mean of itself whole, with weight 1 - part, and without the trimmed unit.
    """
    whole: float = best[0, k]
    if part == 0.0 or whole >= INFINITE:
        return whole
    if shortest_trimmed(rule, part) > rule.shortest:
        without = best[2, k]
    elif rule.shortest == 1:
        without = min(best[2, k], best[3, k])
    else:
        without = whole - line.costs.max()
    # Where no segment is long enough to be trimmed, nothing is possible.
    least: float = INFINITE if without >= INFINITE else (1.0 - part) * whole + part * without
    return least


@compiled
def is_long_enough(need: Ints, surplus: Floats, rule: Rule, k: int) -> bool:
    """Whether k + 1 segments of the least length fit into the run; one always does."""
    long: bool = need[k] - surplus[k] >= (k + 1) * rule.chunk - TINY
    return long


@compiled
def least_segments(
    costs: Floats,
    closed: Flags,
    need: Ints,
    surplus: Floats,
    shortest: int,
    chunk: float,
    gap: int,
    scratch: Floats,
) -> float:
    """A lower bound on `cheapest_segments`, equal to it where nothing is to be trimmed; in less time and memory.

    Args: as for `cheapest_segments`; `scratch` needs 2 x (longer of shortest and gap, + 1) x `row_width`.
    """
    line, rule = measure(costs, closed), Rule(shortest, chunk, gap)
    least = cheapest_whole(line, need[0], surplus[0])[0]
    if len(need) > 1:
        best = np.empty((4, len(need)))
        rows = min(max(shortest, gap), len(costs)) + 1
        advance(line, need, rule, build_tables(scratch, 0, rows, row_width(need, shortest)), best)
        for k in range(1, len(need)):
            if is_long_enough(need, surplus, rule, k):
                least = min(least, least_trimmed(line, rule, best, k, surplus[k]))
    return least


@compiled
def cheapest_segments(
    costs: Floats,
    closed: Flags,
    need: Ints,
    surplus: Floats,
    shortest: int,
    chunk: float,
    gap: int,
    scratch: Floats,
    starts: Ints,
    stops: Ints,
) -> tuple[float, int, int, int]:
    """The cheapest way to run with pauses; of equal ones the fewest segments, then the earliest end (in one piece: start).

    Args:
        costs, closed: (units,), of the job's window.
        need: (most segments,), units to run in 1, 2, … segments, above 0.
        surplus: (most segments,), from 0 to below 1.
        shortest: least units of a segment, 1 or more and no more than need[0].
        chunk: the same before it was rounded up.
        gap: least units between segments, 1 or more.
        scratch: at least `scratch_size` long.
        starts, stops: (most segments,), filled with the borders of the segments, in order.

    Returns:
        Cost (`INFINITE` where it cannot be done), number of segments (then 0), the segment that the surplus is trimmed
        off (-1 if none), and its end: 0 the start, 1 the stop.
    """
    line, rule, most = measure(costs, closed), Rule(shortest, chunk, gap), len(need)
    least, count, segment, end = INFINITE, 0, -1, 0
    cost, start, side = cheapest_whole(line, need[0], surplus[0])
    if start >= 0:
        least, count, end = cost, 1, side
        segment = 0 if surplus[0] > 0.0 else -1
        starts[0], stops[0] = start, start + need[0]
    if most == 1:
        return least, count, segment, end
    width, rows = row_width(need, shortest), len(costs) + 1
    stride = width // most
    plain = build_tables(scratch, 0, rows, width)
    cut = build_tables(scratch, 1, rows, width) if surplus.max() > 0.0 else plain
    best, made = np.empty((4, most)), np.empty((2, most), np.int64)
    advance(line, need, rule, plain, best)
    for is_search in range(2):
        for k in range(1, most):
            part = surplus[k]
            below = least_trimmed(line, rule, best, k, part)
            if below >= least - SAME * abs(below) or not is_long_enough(need, surplus, rule, k):
                continue
            # First trim what is cheapest untrimmed; search trims only where that may not be the best.
            if not is_search:
                cell = k, int(best[1, k]), k * stride + need[k]
                trace(line, rule, plain, stride, cell, made[0], made[1])
                saved, where, side = dearest_end(line, rule, part, k + 1, made[0], made[1])
                value = best[0, k] - saved
                where = where if part > 0.0 else -1
            else:
                value, stop, at_end = advance_trimmed(
                    line, rule, plain, cut, k + 1, need[k], stride, part
                )
                if value >= least - SAME * abs(value):
                    continue
                cell = k, stop, k * stride + need[k]
                where, side = trace_trimmed(
                    line, rule, plain, cut, stride, part, cell, at_end, made[0], made[1]
                )
            if value < least - SAME * abs(value):
                least, count, segment, end = value, k + 1, where, side
                for a in range(k + 1):
                    starts[a], stops[a] = made[0, a], made[1, a]
    return least, count, segment, end
