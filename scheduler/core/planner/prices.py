"""Capacity prices: what a device of each row is worth in each slot, in grams, and the bound that they prove.

Any prices give a lower bound on the emissions of every feasible plan (Lagrangian relaxation of capacity): the sum of
what each job would pay for its cheapest cell, less the price of all devices. The best prices give the best bound.
A plain subgradient jumps between the cells that are equally cheap and crawls. Here every job spreads over
its cells by Boltzmann weights, which makes the dual smooth; its gradient is followed with momentum
(Nesterov 2005, "Smooth minimization of non-smooth functions") while the temperature falls.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from scheduler.core.planner.flexible import FlexibleJobs
from scheduler.core.planner.instance import Instance
from scheduler.core.planner.kernels import Floats, cheapest_sum, running_sums, spread
from scheduler.core.planner.snapshot import NOBODY, Watch

HEATS: Final = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001, 0.00005)
"""Falling temperatures, in shares of the mean grams of a device and slot."""
_WARM_FROM: Final = 3
"""The first temperature of a search that starts from prices: hotter ones would melt them."""
PASSES: Final = 50
"""Steps at each temperature: measured, twice as many change the bound by less than 0.01 %, half as many by 0.1 to 1 %."""


_ASKED_EVERY: Final = 5
"""Steps after which flexible jobs are asked again: each answer is a search of its own."""
_LEAST_WEIGHT: Final = 0.05
"""Of the newest answer in the mean."""
PROVEN: Final = 4
"""Temperatures, from the last, whose prices are proven: the bound of the first ones is never the best."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices and what they prove.

    Args:
        prices: (rows, slots), grams a device and slot, 0 or more.
        bound_g: no feasible plan of these jobs emits less.
    """

    prices: Floats
    bound_g: float


def prove(instance: Instance, prices: Floats, flexible: FlexibleJobs | None = None) -> float:
    """The lower bound that these prices give, in grams."""
    market, demand = instance.market, instance.exact
    sums = np.zeros_like(market.grams_sum)
    running_sums(prices, sums)
    paid = cheapest_sum(market, demand.tables, demand.families, demand.groups, prices, sums)
    if flexible is not None:
        paid += flexible.bound(market, prices)
    return float(paid - (prices * market.mean_free).sum())


def find_prices(
    instance: Instance,
    *,
    flexible: FlexibleJobs | None = None,
    start: Floats | None = None,
    passes: int = PASSES,
    watch: Watch = NOBODY,
) -> Prices:
    """The best prices found.

    Args:
        instance: jobs that run whole, and market.
        flexible: other jobs.
        start: prices of an earlier plan on the same market, where there is one; it then may begin cooler.
        passes: steps at each temperature.
        watch: asked after each temperature whether the search is over.
    """
    heats = HEATS if start is None else HEATS[_WARM_FROM:]
    prices = np.zeros_like(instance.market.free) if start is None else start.copy()
    best = Prices(prices, prove(instance, prices, flexible))
    others = None if flexible is None else _Others(flexible, prices)
    mean_g = _mean_grams(instance, flexible)
    for index, heat in enumerate(heats):
        prices = _descend(instance, prices, heat * mean_g, passes, others=others)
        watch.tell("prices", (index + 1) / len(heats))
        is_last = watch.is_over()
        if is_last or index >= len(heats) - PROVEN:
            bound_g = prove(instance, prices, flexible)
            if bound_g > best.bound_g:
                best = Prices(prices, bound_g)
        if is_last:
            break
    return best


class _Others:
    """The load of flexible jobs: a running mean of what they answer to prices, which is as smooth as theirs may be."""

    def __init__(self, flexible: FlexibleJobs, prices: Floats) -> None:
        self._flexible: Final = flexible
        self.load = flexible.answer(prices)
        self._asked = 0

    def ask(self, prices: Floats) -> None:
        self._asked += 1
        weight = max(_LEAST_WEIGHT, 2 / (self._asked + 2))
        self.load = (1 - weight) * self.load + weight * self._flexible.answer(prices)


def _descend(
    instance: Instance, prices: Floats, heat_g: float, passes: int, *, others: _Others | None
) -> Floats:
    """The prices after so many accelerated steps at one temperature, in grams a device and slot."""
    market, demand = instance.market, instance.rough
    load, sums = np.zeros_like(market.free), np.zeros_like(market.grams_sum)
    ahead, before, momentum = prices, prices, 1.0
    for index in range(passes):
        running_sums(ahead, sums)
        spread(market, demand.tables, demand.families, demand.groups, ahead, sums, heat_g, load)
        if others is not None:
            if index % _ASKED_EVERY == 0:
                others.ask(ahead)
            load += others.load
        wanting = load - market.mean_free
        # The curvature of the smoothed dual in one price is at most load / heat.
        prices = np.maximum(
            0.0, ahead + heat_g * wanting / np.maximum(np.maximum(market.mean_free, load), 1e-9)
        )
        if float((wanting * (prices - before)).sum()) < 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = np.maximum(0.0, prices + (momentum - 1) / following * (prices - before))
        before, momentum = prices, following
    return prices


def _mean_grams(instance: Instance, flexible: FlexibleJobs | None) -> float:
    """Mean grams of a device over a slot, and of its money."""
    tables, mean = instance.tables, float(instance.market.grams.mean())
    found = []
    if len(tables.row):
        gpus = np.maximum(tables.gpus, 1e-9)
        slots = np.repeat(np.maximum(tables.whole + tables.rest, 1e-9), np.diff(tables.first))
        found.append(float((tables.watts / gpus).mean() * mean))
        found[-1] += float((tables.extra / gpus / slots).mean())
    if flexible is not None:
        found.append(flexible.watts_per_gpu() * mean)
    return max([*found, 1e-9])
