"""Segments at times in whole seconds: compiled loops that bound and improve what a search of units has found.

Costs are (slots,), of running over a whole slot; times are seconds from the origin of the grid.
"""

from typing import Final

import numpy as np

from scheduler.core.planner.arrays import INFINITE, Floats, Ints, compiled
from scheduler.core.planner.segments import SAME, Flags

MOST_ROUNDS: Final = 50
"""Of `polish` over all pairs: it stops by itself long before."""


@compiled
def least_fraction(
    costs: Floats, closed: Flags, slot_s: int, limits_s: tuple[int, int, int], duration_s: int
) -> float:
    """Cost of the cheapest `duration_s` open seconds, however scattered; `INFINITE` where there are fewer.

    Args:
        costs, closed: (slots,).
        slot_s: length of a slot.
        limits_s: earliest start, deadline, and what does not matter here.
        duration_s: run time in one piece.
    """
    first, stop = limits_s[0] // slot_s, -(-limits_s[1] // slot_s)
    total, left_s = 0.0, duration_s
    for slot in first + np.argsort(costs[first:stop]):
        if not closed[slot]:
            room_s = min((slot + 1) * slot_s, limits_s[1]) - max(slot * slot_s, limits_s[0])
            taken_s = min(room_s, left_s)
            total += costs[slot] * taken_s / slot_s
            left_s -= taken_s
    return total if left_s == 0 else INFINITE


@compiled
def room_to_move(slot_s: int, limits_s: tuple[int, int, int], times: Ints, speed: Ints) -> int:
    """How far boundaries may move at these speeds until one is on a slot border or a limit is met.

    Args:
        slot_s, limits_s: as in `polish`.
        times, speed: (2, segments), of starts and stops; speeds are -1, 0 or 1.
    """
    count = times.shape[1]
    step = slot_s
    for i in range(count):
        for end in range(2):
            if speed[end, i] > 0:
                step = min(step, slot_s - times[end, i] % slot_s)
            elif speed[end, i] < 0:
                step = min(step, (times[end, i] - 1) % slot_s + 1)
        closing = speed[0, i] - speed[1, i]
        if closing > 0:
            step = min(step, (times[1, i] - times[0, i] - limits_s[2]) // closing)
        if i > 0:
            closing = speed[1, i - 1] - speed[0, i]
            if closing > 0:
                step = min(step, (times[0, i] - times[1, i - 1] - slot_s) // closing)
    if speed[0, 0] < 0:
        step = min(step, times[0, 0] - limits_s[0])
    if speed[1, count - 1] > 0:
        step = min(step, limits_s[1] - times[1, count - 1])
    return step


@compiled
def slope(costs: Floats, closed: Flags, slot_s: int, times: Ints, speed: Ints) -> float:
    """Change of cost with time as boundaries move; 0 where one would enter a closed slot, or it is as good as none."""
    change, size = 0.0, 0.0
    for i in range(times.shape[1]):
        for end in range(2):
            way = speed[end, i]
            if way == 0:
                continue
            slot = (times[end, i] - (1 if way < 0 else 0)) // slot_s
            grows = way if end == 1 else -way
            if grows > 0 and closed[slot]:
                return 0.0
            change += grows * costs[slot]
            size += costs[slot]
    return change if change < -SAME * size else 0.0


@compiled
def polish(
    costs: Floats,
    closed: Flags,
    slot_s: int,
    limits_s: tuple[int, int, int],
    start_s: Ints,
    stop_s: Ints,
) -> None:
    """Moves two boundaries at a time, total length kept, while that is cheaper.

    Args:
        costs, closed: (slots,).
        slot_s: length of a slot, and least time between segments.
        limits_s: earliest start, deadline, and least length of a segment.
        start_s, stop_s: (segments,), changed in place.
    """
    times, speed = np.stack((start_s, stop_s)), np.zeros((2, len(start_s)), np.int64)
    boundaries = 2 * len(start_s)
    is_moved, rounds = True, 0
    while is_moved and rounds < MOST_ROUNDS:
        is_moved, rounds = False, rounds + 1
        for first in range(boundaries - 1):
            for second in range(first + 1, boundaries):
                for way in (-1, 1):
                    speed[:] = 0
                    speed[first % 2, first // 2] = way
                    # A start and a stop move the same way, two of a kind in opposite ones: the length stays.
                    speed[second % 2, second // 2] = way if (first + second) % 2 else -way
                    step = room_to_move(slot_s, limits_s, times, speed)
                    if step > 0 and slope(costs, closed, slot_s, times, speed) < 0.0:
                        times += step * speed
                        is_moved = True
    for i in range(len(start_s)):
        start_s[i], stop_s[i] = times[0, i], times[1, i]
