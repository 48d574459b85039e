"""Compiled loops over jobs with pauses: who takes which pieces of which row, at prices or within what is free.

A *line* joins a job to one (cluster, accelerator) that it may use. Units are slots of one length. The search for the pieces
of one line is in `segments.py`.
"""

from typing import NamedTuple

import numpy as np

from scheduler.core.planner.arrays import INFINITE, Floats, Ints, Market, compiled
from scheduler.core.planner.segments import SAME, Flags, cheapest_segments


class Pausing(NamedTuple):
    """Jobs with pauses on units of one length.

    Args:
        first: (jobs + 1,), lines `first[j]` to `first[j + 1]` belong to job j.
        row, mask: (lines,).
        watts, gpus: (lines,), of the whole job.
        rate: (lines,), money of a unit in the grams that it is worth.
        extra: (lines,), money of moving data, likewise.
        moved: (lines,), kWh of moving data.
        begin, end: (lines,), units that it may run in.
        most: (lines,), segments that it may have; 0 where it does not fit at all.
        need, surplus: (lines, most of all), as in `segments.py`.
        shortest, chunk, gap: (lines,), likewise.
        limit: (jobs,), most grams.
    """

    first: Ints
    row: Ints
    mask: Ints
    watts: Floats
    gpus: Floats
    rate: Floats
    extra: Floats
    moved: Floats
    begin: Ints
    end: Ints
    most: Ints
    need: Ints
    surplus: Floats
    shortest: Ints
    chunk: Floats
    gap: Ints
    limit: Floats


class Pieces(NamedTuple):
    """Where each job is.

    Args:
        line, number: (jobs,), -1 where it has no place, and number of pieces.
        piece, side: (jobs,), the piece that is trimmed (-1: none), and its end: 0 the start, 1 the stop.
        cost: (jobs,), grams, and money in the grams that it is worth.
        start, stop: (jobs, most), borders of the pieces.
    """

    line: Ints
    number: Ints
    piece: Ints
    side: Ints
    cost: Floats
    start: Ints
    stop: Ints


@compiled
def occupy(pausing: Pausing, pieces: Pieces, load: Floats, j: int) -> None:
    """Adds the devices of a job to the load, less the part of a unit that is trimmed."""
    line = pieces.line[j]
    if line < 0:
        return
    r, gpus = pausing.row[line], pausing.gpus[line]
    for a in range(pieces.number[j]):
        for t in range(pieces.start[j, a], pieces.stop[j, a]):
            load[r, t] += gpus
    if pieces.piece[j] >= 0:
        a = pieces.piece[j]
        t = pieces.start[j, a] if pieces.side[j] == 0 else pieces.stop[j, a] - 1
        load[r, t] -= gpus * pausing.surplus[line, pieces.number[j] - 1]


@compiled
def fraction_cost(costs: Floats, closed: Flags, units: float) -> float:
    """What the cheapest so many open units cost, in parts if need be: no run of that length costs less."""
    ordered = np.sort(costs[~closed])
    whole = int(units)
    if len(ordered) < units:
        return INFINITE
    least: float = ordered[:whole].sum()
    if whole < units:
        least += ordered[whole] * (units - whole)
    return least


@compiled
def pieces_grams(
    market: Market,
    pausing: Pausing,
    line: int,
    count: int,
    piece: int,
    side: int,
    starts: Ints,
    stops: Ints,
) -> float:
    """Grams of these pieces, with those of moving data."""
    r, grams = pausing.row[line], 0.0
    for a in range(count):
        grams += market.grams_sum[r, stops[a]] - market.grams_sum[r, starts[a]]
    if piece >= 0:
        t = starts[piece] if side == 0 else stops[piece] - 1
        grams -= market.grams[r, t] * pausing.surplus[line, count - 1]
    total: float = grams * pausing.watts[line] + pausing.moved[line] * market.arrival[r, starts[0]]
    return total


@compiled
def respond(
    order: Ints,
    market: Market,
    pausing: Pausing,
    prices: Floats,
    is_firm: bool,
    load: Floats,
    pieces: Pieces,
    scratch: Floats,
) -> None:
    """Each job in turn takes its cheapest pieces at grams + prices, and adds them to the load.

    Firm, only units that have room beside the load count as open; otherwise all do.
    """
    units, width = load.shape[1], pieces.start.shape[1]
    costs, closed = np.empty(units), np.empty(units, dtype=np.bool_)
    starts, stops = np.empty(width, dtype=np.int64), np.empty(width, dtype=np.int64)
    for j in order:
        least, best, number, piece, side = INFINITE, -1, 0, -1, 0
        for line in range(pausing.first[j], pausing.first[j + 1]):
            begin, n = pausing.begin[line], pausing.end[line] - pausing.begin[line]
            most = pausing.most[line]
            if most == 0:
                continue
            r, w, g = pausing.row[line], pausing.watts[line], pausing.gpus[line]
            shut = market.closed_sum[pausing.mask[line], r]
            for i in range(n):
                t = begin + i
                is_full = is_firm and load[r, t] + g > market.free[r, t] + 1e-9
                closed[i] = shut[t + 1] > shut[t] or is_full
                costs[i] = w * market.grams[r, t] + pausing.rate[line] + g * prices[r, t]
            more = pausing.extra[line]
            if least < INFINITE:
                needed = pausing.need[line, 0] - pausing.surplus[line, 0]
                quick = fraction_cost(costs[:n], closed[:n], needed)
                if quick + more >= least * (1.0 - SAME):
                    continue
            value, k, at, end = cheapest_segments(
                costs[:n],
                closed[:n],
                pausing.need[line, :most],
                pausing.surplus[line, :most],
                pausing.shortest[line],
                pausing.chunk[line],
                pausing.gap[line],
                scratch,
                starts,
                stops,
            )
            if k == 0:
                continue
            for a in range(k):
                starts[a] += begin
                stops[a] += begin
            value += more + pausing.moved[line] * market.arrival[r, starts[0]]
            if value >= least * (1.0 - SAME):
                continue
            if pausing.limit[j] < INFINITE:
                grams = pieces_grams(market, pausing, line, k, at, end, starts, stops)
                if grams > pausing.limit[j]:
                    continue
            least, best, number, piece, side = value, line, k, at, end
            pieces.start[j, :k], pieces.stop[j, :k] = starts[:k], stops[:k]
        pieces.line[j], pieces.number[j], pieces.cost[j] = best, number, least
        pieces.piece[j], pieces.side[j] = piece, side
        occupy(pausing, pieces, load, j)
