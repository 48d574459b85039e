"""Capacity prices: what a device of each row is worth in each slot, in grams, and the bound that they prove.

Any prices give a lower bound on the emissions of every feasible plan (Lagrangian relaxation of capacity): the sum of
what each job would pay for its cheapest cell, less the price of all devices. The best prices give the best bound.
A plain subgradient jumps between the cells that are equally cheap and crawls. Here every job spreads over
its cells by Boltzmann weights, which makes the dual smooth; its gradient is followed with momentum
(Nesterov 2005, "Smooth minimization of non-smooth functions") while the temperature falls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from scheduler.core.planner.instance import Instance
from scheduler.core.planner.kernels import Floats, cheapest_sum, running_sums, spread

HEATS: Final = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001, 0.00005)
"""Falling temperatures, in shares of the mean grams of a device and slot."""
PASSES: Final = 50
"""Steps at each temperature: measured, twice as many change the bound by less than 0.01 %, half as many by 0.1 to 1 %."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices and what they prove.

    Args:
        prices: (rows, slots), grams a device and slot, 0 or more.
        bound_g: no feasible plan of these jobs emits less.
    """

    prices: Floats
    bound_g: float


def prove(instance: Instance, prices: Floats) -> float:
    """The lower bound that these prices give, in grams."""
    sums = np.zeros_like(instance.market.grams_sum)
    running_sums(prices, sums)
    paid = cheapest_sum(
        instance.market, instance.tables, instance.families, instance.groups, prices, sums
    )
    return float(paid - (prices * instance.market.free).sum())


def find_prices(
    instance: Instance,
    *,
    start: Floats | None = None,
    heats: tuple[float, ...] = HEATS,
    passes: int = PASSES,
    is_over: Callable[[], bool] = lambda: False,
) -> Prices:
    """The best prices found.

    Args:
        instance: jobs and market.
        start: prices of an earlier plan on the same market, where there is one; it then may begin cooler.
        heats: falling temperatures, in shares of the mean grams of a device and slot.
        passes: steps at each.
        is_over: asked after each temperature; True ends the search with what was found so far.
    """
    market, load = instance.market, np.zeros_like(instance.market.free)
    sums = np.zeros_like(market.grams_sum)
    prices = np.zeros_like(market.free) if start is None else start.copy()
    best = Prices(prices, prove(instance, prices))
    for heat in heats:
        heat_g = heat * _mean_grams(instance)
        ahead, before, momentum = prices.copy(), prices.copy(), 1.0
        for _ in range(passes):
            running_sums(ahead, sums)
            spread(
                market,
                instance.tables,
                instance.families,
                instance.groups,
                ahead,
                sums,
                heat_g,
                load,
            )
            wanting = load - market.free
            # The curvature of the smoothed dual in one price is at most load / heat.
            prices = np.maximum(
                0.0, ahead + heat_g * wanting / np.maximum(np.maximum(market.free, load), 1e-9)
            )
            if float((wanting * (prices - before)).sum()) < 0:
                momentum = 1.0
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = np.maximum(0.0, prices + (momentum - 1) / following * (prices - before))
            before, momentum = prices, following
        bound_g = prove(instance, prices)
        if bound_g > best.bound_g:
            best = Prices(prices, bound_g)
        if is_over():
            break
    return best


def _mean_grams(instance: Instance) -> float:
    """Mean grams of a device over a slot."""
    watts = instance.tables.watts / np.maximum(instance.tables.gpus, 1e-9)
    return max(float(watts.mean() * instance.market.grams.mean()), 1e-9)
