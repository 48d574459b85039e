"""What a lone job could do on an empty fleet, by trying: not clever, and not from the planner's code."""

from collections.abc import Iterator
from math import ceil

from tests.snapshot_world import SECOND, Asked, Option, Site, World


def places(world: World, job: Asked) -> Iterator[tuple[Site, Option]]:
    """Where it may run, and how."""
    for option in job.options:
        for site in world.sites.values():
            room = site.capacity.get(option.accelerator, 0)
            if job.may_use(site) and room >= (job.least_gpus or option.gpus):
                yield site, option


def earliest_start(world: World, job: Asked, site: Site) -> int:
    """When its data are there and it may begin; data move at 0.125 GB/s from now on."""
    moved = ceil(job.data[0] / 0.125) * SECOND if job.data and job.moves_to(site) else 0
    return max(job.not_before, world.now + moved)


def can_end_in_time(world: World, job: Asked) -> bool:
    """Whether it ends by its deadline where it starts as early as it may; intensity does not matter."""
    return any(_ends_in_time(world, job, site, option) for site, option in places(world, job))


def _ends_in_time(world: World, job: Asked, site: Site, option: Option) -> bool:
    start = earliest_start(world, job, site)
    if job.widths is None:
        return start <= job.start_by and start + option.duration <= job.deadline
    start = -(-start // world.slot) * world.slot
    room = site.capacity[option.accelerator]
    fastest = max(work for gpus, (work, _) in job.widths.items() if gpus <= room)
    asked = job.widths[option.gpus][0] * option.duration
    slots = ceil(asked / fastest / world.slot - 1e-9)
    return start <= job.start_by and start + slots * world.slot <= job.deadline


def least_grams(world: World, job: Asked) -> float | None:
    """Of all runs in one piece that start on a slot border or as early as they may; None where there are none.

    Money, carbon and renewables are not looked at, nor are reservations.
    """
    found = [
        grams
        for site, option in places(world, job)
        for start in _starts(world, job, site, option)
        if (grams := _grams(world, job, site, option, start)) is not None
    ]
    return min(found, default=None)


def _starts(world: World, job: Asked, site: Site, option: Option) -> Iterator[int]:
    at = earliest_start(world, job, site)
    last = min(job.start_by, job.deadline - option.duration, world.end - option.duration)
    while at <= last:
        yield at
        at += world.slot - at % world.slot


def _grams(world: World, job: Asked, site: Site, option: Option, start: int) -> float | None:
    _, grams = world.used(site, start, start + option.duration)
    if grams is None or option.watts is None:
        return None
    moved_kwh = job.data[0] * 0.001 if job.data and job.moves_to(site) else 0.0
    return option.watts * grams + moved_kwh * (world.intensity[site.zone].at(start) or 0.0)
