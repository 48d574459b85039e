"""Cheapest width in every slot of a job that may grow and shrink: exact label setting, compiled.

An elastic job runs in whole slots, each at one of its widths, and pays for whole slots. Work adds up until there is enough;
throughput need be neither concave nor monotone in the width. Which slots may follow which, as whether the job may pause, is
a small machine of states, so that one search serves all kinds of jobs.

Costs are 0 or more and of any one unit, such as grams; work is in units of throughput x slots.
"""

from math import ceil
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.core.planner.arrays import INFINITE, Floats, Ints, compiled

Flags = NDArray[np.bool_]
ENOUGH: Final = 1.0 - 1e-9
"""Part of the work that counts as all of it."""
MOST_LABELS: Final = 4096
"""Labels of a state and slot beyond which the search is cut short and its answer not proven."""
_FEW_LABELS: Final = 48
"""Labels of the first search, which finds what the second is pruned by."""
_ROOM: Final = 256
"""Labels for which there is room at first."""
SAME: Final = 1e-12
"""Costs closer than this, relative to them, count as equal."""


class Machine(NamedTuple):
    """What a job may do slot by slot; it begins in state 0.

    Args:
        after_run, after_idle: (states,), the next state; -1 where that is not allowed.
        may_end: (states,), whether the job may be over.
        share: (states,), part of its throughput that a slot run from here does: less while a checkpoint is restored.
    """

    after_run: Ints
    after_idle: Ints
    may_end: Flags
    share: Floats


class Widths(NamedTuple):
    """What a slot costs and does.

    Args:
        costs: (widths, slots), of running the whole slot at the width.
        closed: (widths, slots), where the width may not run.
        work: (widths,), done in a slot, above 0.
    """

    costs: Floats
    closed: Flags
    work: Floats


def build_free_machine() -> Machine:
    """The job may pause whenever and as often as it likes, at no cost."""
    one = np.zeros(1, dtype=np.int64)
    return Machine(one, one, np.ones(1, dtype=np.bool_), np.ones(1))


def build_machine(
    *, most_segments: int = 1, shortest: int = 1, checkpoint_slots: float = 0.0
) -> Machine:
    """At most so many segments, a slot or more apart; by default one.

    Args:
        most_segments: 1 or more.
        shortest: least slots of a segment, `min_chunk` rounded up; a job that is done sooner has one segment.
        checkpoint_slots: how long each later segment draws power but does no work, in slots.
    """
    after_run, after_idle, may_end, share = [1], [0], [False], [1.0]
    for segment in range(most_segments):
        restore = checkpoint_slots if segment else 0.0
        ages = max(1, shortest, ceil(restore))
        first, pause = len(share), len(share) + ages
        is_last = segment == most_segments - 1
        for age in range(1, ages + 1):
            after_run.append(first + min(age, ages - 1))
            after_idle.append(pause if age >= shortest and not is_last else -1)
            may_end.append(segment == 0 or age >= shortest)
            share.append(1.0 - min(max(restore - age, 0.0), 1.0))
        if not is_last:
            after_run.append(pause + 1)
            after_idle.append(pause)
            may_end.append(False)
            share.append(1.0 - min(checkpoint_slots, 1.0))
    return Machine(np.array(after_run), np.array(after_idle), np.array(may_end), np.array(share))


@compiled
def price_work(widths: Widths, machine: Machine, mu: float, least: Floats) -> float:
    """Fills the least of cost - mu x work from each slot and state on, (slots + 1, states), and returns that work from the start.

    Whether the work is enough does not matter here; the job must only be allowed to end.
    """
    slots, states = widths.costs.shape[1], len(machine.share)
    done, then = np.zeros(states), np.zeros(states)
    for s in range(states):
        least[slots, s] = 0.0 if machine.may_end[s] else INFINITE
    for t in range(slots - 1, -1, -1):
        for s in range(states):
            value, amount = least[slots, s], 0.0
            idle, run = machine.after_idle[s], machine.after_run[s]
            if idle >= 0 and least[t + 1, idle] < value:
                value, amount = least[t + 1, idle], then[idle]
            if least[t + 1, run] < INFINITE:
                for w in range(len(widths.work)):
                    if not widths.closed[w, t]:
                        work = widths.work[w] * machine.share[s]
                        cost = widths.costs[w, t] - mu * work + least[t + 1, run]
                        if cost < value:
                            value, amount = cost, work + then[run]
            least[t, s], done[s] = value, amount
        done, then = then, done
    from_start: float = then[0]
    return from_start


@compiled
def most_work(widths: Widths, machine: Machine, least: Floats) -> float:
    """All the work that can be done."""
    free = Widths(np.zeros_like(widths.costs), widths.closed, widths.work)
    return price_work(free, machine, 1.0, least)


@compiled
def best_price(widths: Widths, machine: Machine, need: float, least: Floats) -> tuple[float, float]:
    """The price of work whose bound is highest, and that bound: of all ways that the machine allows.

    Args:
        least: (slots + 1, states), overwritten.
    """
    if most_work(widths, machine, least) < need:
        return 0.0, INFINITE
    low, high = 0.0, 1e-9
    for t in range(widths.costs.shape[1]):
        for w in range(len(widths.work)):
            if not widths.closed[w, t]:
                high = max(high, widths.costs[w, t] / widths.work[w])
    best, bound = 0.0, 0.0
    while high < INFINITE and price_work(widths, machine, high, least) < need:
        low, high = high, 2.0 * high
    for _ in range(50):
        mu = 0.5 * (low + high)
        amount = price_work(widths, machine, mu, least)
        if mu * need + least[0, 0] > bound:
            best, bound = mu, mu * need + least[0, 0]
        if amount < need:
            low = mu
        else:
            high = mu
        if high - low <= 1e-12 * high:
            break
    return best, bound


@compiled
def bound_elastic(widths: Widths, machine: Machine, need: float) -> float:
    """A cost that no way of doing the work is under; `INFINITE` where there is none."""
    least = np.empty((widths.costs.shape[1] + 1, len(machine.share)))
    bound = best_price(widths, machine, need * ENOUGH, least)[1]
    return bound if bound >= INFINITE else bound * (1.0 - SAME)


@compiled
def longer_floats(values: Floats) -> Floats:
    """The values in twice the room."""
    grown = np.empty(2 * len(values))
    grown[: len(values)] = values
    return grown


@compiled
def longer_ints(values: Ints) -> Ints:
    """The values in twice the room."""
    grown = np.empty(2 * len(values), np.int64)
    grown[: len(values)] = values
    return grown


@compiled
def search(
    widths: Widths,
    machine: Machine,
    need: float,
    prices: Floats,
    least: Floats,
    most_labels: int,
    below: float,
    chosen: Ints,
) -> tuple[float, bool]:
    """The cheapest way that costs less than `below`, by labels (work, cost) of every slot and state.

    A label is dropped if another of its slot and state has done as much for no more, or if its bound is too high.

    Args:
        prices: (prices,), of work, each of which gives a bound.
        least: (prices, slots + 1, states), as `price_work` leaves it.
        chosen: (slots,), filled with the widths, -1 where idle; kept where nothing is cheaper.

    Returns:
        Cost, or `below`, and whether no label was dropped for want of room.
    """
    slots, states, options = widths.costs.shape[1], len(machine.share), len(widths.work)
    work, cost = np.zeros(_ROOM), np.zeros(_ROOM)
    parent, taken = np.full(_ROOM, -1), np.full(_ROOM, -1)
    first, stop = np.zeros(states, np.int64), np.zeros(states, np.int64)
    stop[0] = 1
    used, best, end, end_slot, is_whole = 1, below, -1, 0, True
    for t in range(slots):
        new_first, new_stop = np.zeros(states, np.int64), np.zeros(states, np.int64)
        for to in range(states):
            room = 0
            for s in range(states):
                room += (stop[s] - first[s]) * (
                    (1 if machine.after_idle[s] == to else 0)
                    + (options if machine.after_run[s] == to else 0)
                )
            works, costs, bounds = np.empty(room), np.empty(room), np.empty(room)
            parents, takens = np.empty(room, np.int64), np.empty(room, np.int64)
            n = 0
            for s in range(states):
                for w in range(-1, options):
                    if w < 0 and machine.after_idle[s] != to:
                        continue
                    if w >= 0 and (machine.after_run[s] != to or widths.closed[w, t]):
                        continue
                    more = 0.0 if w < 0 else widths.work[w] * machine.share[s]
                    price = 0.0 if w < 0 else widths.costs[w, t]
                    for i in range(first[s], stop[s]):
                        amount, total = min(need, work[i] + more), cost[i] + price
                        bound = 0.0
                        for m in range(len(prices)):
                            rest = prices[m] * (need - amount) + least[m, t + 1, to]
                            bound = max(bound, rest)
                        if total + bound < best - SAME * best:
                            works[n], costs[n], bounds[n] = amount, total, total + bound
                            parents[n], takens[n] = i, w
                            n += 1
            new_first[to] = used
            ahead, kept = -1.0, 0
            order = np.argsort(costs[:n])
            for i in order:
                if works[i] > ahead:
                    ahead = works[i]
                    order[kept] = i
                    kept += 1
            order = order[:kept]
            if kept > most_labels:
                is_whole = False
                order = order[np.argsort(bounds[order])[:most_labels]]
            for i in order:
                if used == len(work):
                    work, cost = longer_floats(work), longer_floats(cost)
                    parent, taken = longer_ints(parent), longer_ints(taken)
                work[used], cost[used] = works[i], costs[i]
                parent[used], taken[used] = parents[i], takens[i]
                if works[i] >= need and machine.may_end[to] and costs[i] < best - SAME * best:
                    best, end, end_slot = costs[i], used, t
                used += 1
            new_stop[to] = used
        first, stop = new_first, new_stop
    if end >= 0:
        chosen[:] = -1
        for t in range(end_slot, -1, -1):
            chosen[t] = taken[end]
            end = parent[end]
    return best, is_whole


@compiled
def cheapest_widths(
    widths: Widths, machine: Machine, need: float, most_labels: int, chosen: Ints
) -> tuple[float, bool]:
    """The cheapest way to do the work.

    Args:
        widths, machine: what may be done.
        need: work, above 0.
        most_labels: of a slot and state, such as `MOST_LABELS`.
        chosen: (slots,), filled with indices of widths, -1 where idle.

    Returns:
        Cost (`INFINITE` where it cannot be done: all idle), and whether that is proven to be the least.
    """
    slots, states, enough = widths.costs.shape[1], len(machine.share), need * ENOUGH
    chosen[:] = -1
    table = np.empty((slots + 1, states))
    best, bound = best_price(widths, machine, enough, table)
    if bound >= INFINITE:
        return INFINITE, True
    prices = best * np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.6, 2.5])
    least = np.empty((len(prices), slots + 1, states))
    for m in range(len(prices)):
        price_work(widths, machine, prices[m], least[m])
    cost, is_proven = search(widths, machine, enough, prices, least, _FEW_LABELS, INFINITE, chosen)
    if not is_proven:
        cost, is_proven = search(widths, machine, enough, prices, least, most_labels, cost, chosen)
    return cost, is_proven
