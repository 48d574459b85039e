"""Exact lowest-carbon windows over a step function of intensity, by prefix sums.

The cost of a window of fixed length is piecewise linear in its start, so its minimum lies where the
start or the end touches a slot border, or at a limit of the allowed range. Only those starts are
tried; the result is exact over all real-valued starts, in integer arithmetic.

All times are whole seconds from the origin of the grid; costs are mg/kWh x s in int64.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
NO_COST: Final = np.iinfo(np.int64).max
"""Cost of a window that is not allowed."""
_TABLE_PAYS_FROM: Final = 8
"""Queries a duration from which a sparse table beats scanning each range (measured, 168 slots)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One row of intensity, ready for window sums.

    Args:
        mg_per_kwh: int64, shape (slots,).
        blocked: bool, shape (slots,): slots no window may touch (no forecast, or no free devices);
            None where there are none.
        slot_s: length of a slot.
    """

    mg_per_kwh: IntArray
    slot_s: int
    prefix_mg_s: IntArray
    prefix_blocked: IntArray | None

    @classmethod
    def build(
        cls, mg_per_kwh: IntArray, slot_s: int, blocked: NDArray[np.bool_] | None = None
    ) -> "Profile":
        """A profile with its prefix sums, shape (slots + 1,)."""
        prefix = np.zeros(len(mg_per_kwh) + 1, dtype=np.int64)
        np.cumsum(mg_per_kwh * slot_s, out=prefix[1:])
        free = cls(mg_per_kwh, slot_s, prefix, None)
        return free if blocked is None else free.without(blocked)

    def without(self, blocked: NDArray[np.bool_]) -> "Profile":
        """The same row where no window may touch these slots, whatever was blocked before."""
        if not blocked.any():
            return Profile(self.mg_per_kwh, self.slot_s, self.prefix_mg_s, None)
        prefix_blocked = np.zeros(len(blocked) + 1, dtype=np.int64)
        np.cumsum(blocked, out=prefix_blocked[1:])
        return Profile(self.mg_per_kwh, self.slot_s, self.prefix_mg_s, prefix_blocked)

    @property
    def horizon_s(self) -> int:
        """Seconds that the row covers."""
        return len(self.mg_per_kwh) * self.slot_s

    def cumulative_mg_s(self, at_s: IntArray) -> IntArray:
        """Integral of intensity from the origin up to each time within the horizon."""
        slot = np.minimum(at_s // self.slot_s, len(self.mg_per_kwh) - 1)
        into_s = at_s - slot * self.slot_s
        total: IntArray = self.prefix_mg_s[slot] + into_s * self.mg_per_kwh[slot]
        return total

    def costs_at(self, start_s: IntArray, duration_s: int) -> IntArray:
        """Cost of the window from each start; `NO_COST` outside the horizon or on a blocked slot."""
        costs = np.full(len(start_s), NO_COST, dtype=np.int64)
        inside = (start_s >= 0) & (start_s + duration_s <= self.horizon_s)
        starts = start_s[inside]
        ends = starts + duration_s
        values = self.cumulative_mg_s(ends) - self.cumulative_mg_s(starts)
        if self.prefix_blocked is not None:
            stop = -(-ends // self.slot_s)
            touched = self.prefix_blocked[stop] - self.prefix_blocked[starts // self.slot_s]
            values = np.where(touched > 0, NO_COST, values)
        costs[inside] = values
        return costs

    def costs_by_slot(self, duration_s: int) -> tuple[IntArray, int]:
        """Best cost of the windows whose first slot is i, shape (n,), and how late they may start.

        Within slot i two starts can be best: its border, and the instant from which the window ends
        on a border (`late_s` after it; 0 where both are the same). Windows touch ceil(duration /
        slot) slots either way.
        """
        whole, rest_s = divmod(duration_s, self.slot_s)
        touched = whole + (rest_s > 0)
        n = len(self.mg_per_kwh) - touched + 1
        if n <= 0:
            return np.zeros(0, dtype=np.int64), 0
        prefix = self.prefix_mg_s
        costs = prefix[whole : whole + n] - prefix[:n]
        if rest_s:
            costs += rest_s * self.mg_per_kwh[whole : whole + n]
            ends_on_border = (
                rest_s * self.mg_per_kwh[:n] + prefix[touched : touched + n] - prefix[1 : n + 1]
            )
            np.minimum(costs, ends_on_border, out=costs)
        if self.prefix_blocked is not None:
            is_hit = self.prefix_blocked[touched : touched + n] > self.prefix_blocked[:n]
            costs[is_hit] = NO_COST
        return costs, (self.slot_s - rest_s if rest_s else 0)


def best_starts(
    profile: Profile, duration_s: IntArray, earliest_s: IntArray, latest_s: IntArray
) -> tuple[IntArray, IntArray]:
    """The cheapest start of each job, the earliest of equally cheap ones, and its cost.

    Args:
        profile: intensity of the place.
        duration_s: shape (jobs,), above 0.
        earliest_s: shape (jobs,), first allowed start, 0 or more.
        latest_s: shape (jobs,), last allowed start.

    Returns:
        start_s and cost, both shape (jobs,); cost is `NO_COST` where no window is allowed.

    Source: planning-limits study, "windowed minimum": window sums per distinct duration and a
    sparse table of range minima.
    """
    start_s = np.zeros(len(duration_s), dtype=np.int64)
    cost = np.full(len(duration_s), NO_COST, dtype=np.int64)
    order = np.argsort(_compact(duration_s, profile.slot_s), kind="stable")
    ordered = duration_s[order]
    bounds = np.flatnonzero(np.diff(ordered)) + 1
    for group in np.split(order, bounds):
        if len(group):
            start_s[group], cost[group] = _best_of_duration(
                profile, int(duration_s[group[0]]), earliest_s[group], latest_s[group]
            )
    return start_s, cost


def best_start(
    profile: Profile, duration_s: int, earliest_s: int, latest_s: int
) -> tuple[int, int] | None:
    """`best_starts` for one job, without the cost of arrays of one: start_s and cost, or None."""
    slot_s = profile.slot_s
    costs, late_s = profile.costs_by_slot(duration_s)
    latest_s = min(latest_s, profile.horizon_s - duration_s)
    low, high = -(-earliest_s // slot_s), min((latest_s - late_s) // slot_s, len(costs) - 1)
    # Ascending, so that the earliest of equally cheap starts is met first.
    starts = {earliest_s, latest_s}
    if late_s:
        starts |= {earliest_s // slot_s * slot_s + late_s, latest_s // slot_s * slot_s}
    if low <= high:
        slot = low + int(costs[low : high + 1].argmin())
        starts |= {slot * slot_s, slot * slot_s + late_s}
    asked = [start for start in sorted(starts) if earliest_s <= start <= latest_s]
    if not asked:
        return None
    cost = profile.costs_at(np.array(asked), duration_s)
    best = int(cost.argmin())
    return None if cost[best] == NO_COST else (asked[best], int(cost[best]))


def _compact(duration_s: IntArray, slot_s: int) -> NDArray[np.unsignedinteger]:
    """The same order in as few bits as will do: numpy sorts 16-bit keys by radix, several times faster."""
    whole, rest_s = np.divmod(duration_s, slot_s)
    keys = duration_s if rest_s.any() else whole
    is_small = len(keys) > 0 and keys.min() >= 0 and keys.max() < 1 << 16
    return keys.astype(np.uint16 if is_small else np.uint64)


def _best_of_duration(
    profile: Profile, duration_s: int, earliest_s: IntArray, latest_s: IntArray
) -> tuple[IntArray, IntArray]:
    slot_s = profile.slot_s
    costs, late_s = profile.costs_by_slot(duration_s)
    latest_s = np.minimum(latest_s, profile.horizon_s - duration_s)
    low = -(-earliest_s // slot_s)
    high = np.minimum((latest_s - late_s) // slot_s, len(costs) - 1)
    slot, cost = _range_argmin(costs, low, high)
    start_s = slot * slot_s
    if late_s:
        found = cost < NO_COST
        on_border = profile.costs_at(start_s[found], duration_s) == cost[found]
        start_s[found] += np.where(on_border, 0, late_s)
    # The slots that hold the limits themselves offer starts that the table does not know.
    rims = [earliest_s, latest_s]
    if late_s:
        rims += [earliest_s // slot_s * slot_s + late_s, latest_s // slot_s * slot_s]
    elif not ((earliest_s % slot_s).any() or (latest_s % slot_s).any()):
        rims = []
    for rim in rims:
        asked = np.flatnonzero((rim >= earliest_s) & (rim <= latest_s))
        rim_cost = profile.costs_at(rim[asked], duration_s)
        is_better = (rim_cost < cost[asked]) | (
            (rim_cost == cost[asked]) & (rim_cost < NO_COST) & (rim[asked] < start_s[asked])
        )
        chosen = asked[is_better]
        start_s[chosen], cost[chosen] = rim[chosen], rim_cost[is_better]
    return start_s, cost


def _range_argmin(costs: IntArray, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
    """First position of the minimum of `costs[low..high]`, both ends included, and that minimum."""
    is_asked = low <= high
    if len(low) >= _TABLE_PAYS_FROM and is_asked.all():
        position = _table_argmin(costs, low, high)
        return position, costs[position]
    position = np.zeros(len(low), dtype=np.int64)
    minimum = np.full(len(low), NO_COST, dtype=np.int64)
    asked = np.flatnonzero(is_asked)
    if len(asked) < _TABLE_PAYS_FROM:
        for query in asked:
            position[query] = low[query] + np.argmin(costs[low[query] : high[query] + 1])
    else:
        position[asked] = _table_argmin(costs, low[asked], high[asked])
    minimum[asked] = costs[position[asked]]
    return position, minimum


def _table_argmin(costs: IntArray, low: IntArray, high: IntArray) -> IntArray:
    """Argmin by a sparse table: row k holds the first minimum of each run of 2**k costs.

    Ranks stand for costs, so that one minimum of ranks is an argmin with ties to the earliest.
    """
    order = np.argsort(costs, kind="stable").astype(np.int32)
    rank = np.empty(len(costs), dtype=np.int32)
    rank[order] = np.arange(len(costs), dtype=np.int32)
    longest = int((high - low).max()) + 1
    table = [rank]
    for k in range(longest.bit_length() - 1):
        row = table[-1].copy()
        np.minimum(row[: -(1 << k)], table[-1][1 << k :], out=row[: -(1 << k)])
        table.append(row)
    stacked = np.concatenate(table)
    # log2 of every possible length by table look-up: a float logarithm may round the wrong way.
    level_of = np.zeros(longest + 1, dtype=np.int64)
    for k in range(1, len(table)):
        level_of[1 << k :] = k
    level = level_of[high - low + 1]
    base = level * len(costs)
    left = stacked[base + low]
    right = stacked[base + high + 1 - (np.int64(1) << level)]
    position: IntArray = order[np.minimum(left, right)].astype(np.int64)
    return position
