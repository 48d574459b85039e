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

from scheduler.core.planner.arrays import Floats, Market
from scheduler.core.planner.flexible import FlexibleJobs
from scheduler.core.planner.instance import Instance
from scheduler.core.planner.kernels import cheapest_sum, running_sums, spread
from scheduler.core.planner.snapshot import NOBODY, Watch

HEATS: Final = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001, 0.00005)
"""Falling temperatures, in shares of the mean grams of a device and slot."""
_WARM_FROM: Final = 3
"""The first temperature of a search that starts from prices: hotter ones would melt them."""
PASSES: Final = 50
"""Steps at each temperature: measured, twice as many change the bound by less than 0.01 %, half as many by 0.1 to 1 %."""

LoadAt = Callable[[Floats, float], Floats]
"""Devices wanted of each row and slot, at prices and a temperature."""
REFINEMENTS: Final = 60
"""Steps for jobs that do not run whole: each is a search of its own for every one of them."""
_AHEAD: Final = 0.05
"""How far above the best value the first target is, as a share."""
_STILL: Final = 1e-18
"""Squared devices per device: where no more is wanted beyond what is free, prices have nowhere to go."""
_STALLS: Final = 5
"""Steps without gain after which the target comes nearer."""
PROVEN: Final = 4
"""Temperatures, from the last, whose prices are proven: the bound of the first ones is never the best."""

PASSES_FOR_MANY: Final = 25
"""The same for many jobs: measured at 100,000, the bound is within 0.15 % of that of twice as many."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices and what they prove.

    Args:
        prices: (rows, slots), grams a device and slot, 0 or more: they guide the placing.
        bound_g: no feasible plan of these jobs emits less.
        proof: the prices that prove it, where those are others.
    """

    prices: Floats
    bound_g: float
    proof: Floats | None = None

    @property
    def proven(self) -> Floats:
        """The prices that prove the bound."""
        return self.prices if self.proof is None else self.proof


def prove(instance: Instance, prices: Floats, flexible: FlexibleJobs | None = None) -> float:
    """The lower bound that these prices give, in grams."""
    market, demand = instance.market, instance.exact
    sums = np.zeros_like(market.grams_sum)
    running_sums(prices, sums)
    paid = cheapest_sum(market, demand.tables, demand.families, demand.groups, prices, sums)
    if flexible is not None:
        paid += flexible.bound(prices)
    return float(paid - (prices * market.mean_free).sum())


def find_prices(
    instance: Instance,
    *,
    start: Floats | None = None,
    passes: int = PASSES,
    watch: Watch = NOBODY,
) -> Prices:
    """The best prices found.

    Args:
        instance: jobs that run whole, and market.
        start: prices of an earlier plan on the same market, where there is one; it then may begin cooler.
        passes: steps at each temperature.
        watch: asked after each temperature whether the search is over.
    """
    heats = HEATS if start is None else HEATS[_WARM_FROM:]
    prices = np.zeros_like(instance.market.free) if start is None else start.copy()
    best = Prices(prices, prove(instance, prices))
    mean_g, load_at = mean_grams(instance), load_of(instance)
    for index, heat in enumerate(heats):
        prices = descend(instance.market, load_at, prices, heat_g=heat * mean_g, passes=passes)
        watch.tell("prices", (index + 1) / len(heats))
        is_last = watch.is_over()
        if is_last or index >= len(heats) - PROVEN:
            bound_g = prove(instance, prices)
            if bound_g > best.bound_g:
                best = Prices(prices, bound_g)
        if is_last:
            break
    return best


def load_of(instance: Instance) -> LoadAt:
    """How many devices of each row and slot these jobs want; the answer is good until the next call."""
    market, demand = instance.market, instance.rough
    load, sums = np.zeros_like(market.free), np.zeros_like(market.grams_sum)

    def load_at(prices: Floats, heat_g: float) -> Floats:
        running_sums(prices, sums)
        spread(market, demand.tables, demand.families, demand.groups, prices, sums, heat_g, load)
        return load

    return load_at


def descend(
    market: Market, load_at: LoadAt, prices: Floats, *, heat_g: float, passes: int
) -> Floats:
    """The prices after so many accelerated steps at one temperature, in grams a device and slot.

    Args:
        market: what there is.
        load_at: what is wanted, by all who share the market.
        prices: where the steps begin.
        heat_g: the temperature, in grams of a device and slot.
        passes: steps.
    """
    ahead, before, momentum = prices, prices, 1.0
    for _ in range(passes):
        load = load_at(ahead, heat_g)
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


def mean_grams(instance: Instance) -> float:
    """Mean grams of a device over a slot, and of its money."""
    tables = instance.tables
    if not len(tables.row):
        return 1e-9
    gpus = np.maximum(tables.gpus, 1e-9)
    slots = np.repeat(np.maximum(tables.whole + tables.rest, 1e-9), np.diff(tables.first))
    run_g = float((tables.watts / gpus).mean() * instance.market.grams.mean())
    return max(run_g + float((tables.extra / gpus / slots).mean()), 1e-9)


def refine_prices(
    instance: Instance, flexible: FlexibleJobs, start: Floats, *, watch: Watch = NOBODY
) -> Prices:
    """Better prices of jobs that run whole and others, from those of a plan in which all run whole.

    The others answer by searches, not smoothly: a subgradient, divided by capacity as uneven rows need it, towards a target
    a little above the best value (Polyak 1969), nearer after each stall.

    Args:
        instance: jobs that run whole.
        flexible: the others.
        start: prices that are nearly right.
        watch: asked after each step whether the search is over.
    """
    market = instance.market
    heat_g = HEATS[-2] * mean_grams(instance)
    best, prices, ahead, stalls = start, start, _AHEAD, 0
    value, direction = _value(instance, flexible, start, heat_g)
    free_of_charge = np.zeros_like(start)
    lower, lower_direction = _value(instance, flexible, free_of_charge, heat_g)
    if lower > value:  # where not all can run whole, prices of whole runs know no end
        best = prices = free_of_charge
        value, direction = lower, lower_direction
    best_g = value
    for step in range(REFINEMENTS):
        watch.tell("prices of pauses", step / REFINEMENTS)
        slope = float((direction**2 / np.maximum(market.mean_free, 1.0)).sum())
        if slope < _STILL or ahead < 1e-5 or watch.is_over():
            break
        stride = (best_g * (1 + ahead) - value) / slope
        prices = np.maximum(0.0, prices + stride * direction / np.maximum(market.mean_free, 1.0))
        value, newest = _value(instance, flexible, prices, heat_g)
        direction = 0.6 * direction + 0.4 * newest
        direction = np.where((prices <= 0) & (direction < 0), 0.0, direction)
        if value > best_g:
            best, best_g, stalls = prices, value, 0
        else:
            stalls += 1
        if stalls == _STALLS:
            prices, ahead, stalls = best, ahead / 2, 0
            value, direction = _value(instance, flexible, prices, heat_g)
    return Prices(start, prove(instance, best, flexible), best)


def _value(
    instance: Instance, flexible: FlexibleJobs, prices: Floats, heat_g: float
) -> tuple[float, Floats]:
    """About what these prices prove, and by how much each row and slot is wanted beyond what is free."""
    market, demand = instance.market, instance.exact
    load, sums = np.zeros_like(market.free), np.zeros_like(market.grams_sum)
    running_sums(prices, sums)
    spread(market, demand.tables, demand.families, demand.groups, prices, sums, heat_g, load)
    paid = cheapest_sum(market, demand.tables, demand.families, demand.groups, prices, sums)
    wanted, asked_g = flexible.answer(prices)
    return paid + asked_g - float((prices * market.mean_free).sum()), (
        load + wanted - market.mean_free
    )
