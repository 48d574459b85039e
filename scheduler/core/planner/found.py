"""A place that a search found for a job that may pause or change its width."""

from dataclasses import dataclass

from scheduler.core.planner.placements import Stretch
from scheduler.core.planner.snapshot import Choice


@dataclass(frozen=True, slots=True)
class Found:
    """Where and when, and what it costs: grams, and money in the grams that it is worth."""

    choice: Choice
    row: int
    stretches: tuple[Stretch, ...]
    cost: float
