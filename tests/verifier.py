"""Checks a plan document against its snapshot document, rule by rule; knows neither the planner nor its code."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import ceil, isclose
from typing import Any, Final

from tests.snapshot_world import (
    HOUR,
    SECOND,
    Asked,
    Document,
    Option,
    Pauses,
    Site,
    World,
    instant,
    read_world,
    shown,
)

TOLERANCE: Final = 1e-6
MOVES: Final = {"kwh_per_gb": 0.001, "gb_per_s": 0.125, "price_per_gb": 0.02}
"""What moving data takes, where the plan does not say."""


def verify(snapshot: Document, plan: Document) -> list[str]:
    """Every broken rule: the job, the rule and the values."""
    world = read_world(snapshot)
    moves = MOVES | _stated_moves(plan)
    placed, found = dict[str, _Placed](), list[str]()
    for given in plan["placements"]:
        found += _once(world, placed, given)
    for one in placed.values():
        found += _places(world, one)
        found += _shape(world, one)
        found += _times(world, one, moves)
        found += _footprint(world, one, moves)
        found += _limits(world, one, moves)
        found += _baseline(world, one, moves)
    found += _everyone(world, placed, plan["unplaced"])
    found += _order(world, placed)
    found += _capacity(world, placed.values())
    found += _totals(plan)
    if not _stated_moves(plan) and any(one.is_moved for one in placed.values()):
        found.append(f"assumptions: data are moved, and the plan does not state {list(MOVES)}")
    return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """Half-open stretch of time at one width."""

    start: int
    end: int
    gpus: int

    def __str__(self) -> str:
        return f"{shown(self.start)}..{shown(self.end)} x {self.gpus}"


@dataclass(frozen=True, slots=True)
class _Placed:
    """A placement of the plan beside the job that it is for."""

    job: Asked
    site: Site
    accelerator: str
    pieces: tuple[_Piece, ...]
    given: Document

    @property
    def is_moved(self) -> bool:
        return self.job.moves_to(self.site)

    @property
    def runs(self) -> list[tuple[_Piece, ...]]:
        """Its segments; pieces of an elastic job that touch are one."""
        if self.job.widths is None:
            return [(piece,) for piece in self.pieces]
        runs: list[list[_Piece]] = []
        for piece in self.pieces:
            if runs and runs[-1][-1].end == piece.start:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        return [tuple(run) for run in runs]

    @property
    def options(self) -> list[Option]:
        """The options of the job that it may be: those of its hardware, and of its length where any are."""
        job, widths = self.job, {piece.gpus for piece in self.pieces}
        if job.widths is not None:
            return [one for one in job.options if one.accelerator == self.accelerator]
        fitting = [
            one
            for one in job.options
            if one.accelerator == self.accelerator and widths == {one.gpus}
        ]
        run = sum(piece.end - piece.start for piece in self.pieces)
        restores = (len(self.pieces) - 1) * (job.pauses.cost if job.pauses else 0)
        return [one for one in fitting if one.duration + restores == run] or fitting

    def watts(self, option: Option, piece: _Piece) -> float:
        """Draw of all devices in a stretch."""
        if self.job.widths is not None:
            return self.job.widths.get(piece.gpus, (0.0, 0.0))[1]
        assert option.watts is not None, f"{self.job.id}: power_w is not stated"
        return option.watts

    def says(self, rule: str, text: str) -> str:
        return f"{self.job.id}: {rule}: {text}"


def _stated_moves(plan: Document) -> dict[str, float]:
    stated = plan.get("assumptions", {})
    return {key: stated[f"data_{key}"] for key in MOVES if f"data_{key}" in stated}


def _once(world: World, placed: dict[str, _Placed], given: Document) -> Iterator[str]:
    """Adds the placement to those that can be checked."""
    name = given["job"]
    pieces = tuple(
        _Piece(instant(one["start"]), instant(one["end"]), one["gpus"]) for one in given["segments"]
    )
    if name not in world.jobs:
        yield f"{name}: job: it is placed, and the snapshot has no such job"
    elif name in placed:
        yield f"{name}: job: it is placed twice"
    elif given["cluster"] not in world.sites:
        yield f"{name}: cluster: {given['cluster']!r} is not in the snapshot"
    elif not pieces or any(piece.end <= piece.start or piece.gpus <= 0 for piece in pieces):
        yield f"{name}: segments: {given['segments']} are not stretches of time with devices"
    elif any(one.end > other.start for one, other in pairwise(pieces)):
        yield f"{name}: segments: {'; '.join(map(str, pieces))} are not in order"
    else:
        site = world.sites[given["cluster"]]
        placed[name] = _Placed(world.jobs[name], site, given["accelerator"], pieces, given)


def _everyone(
    world: World, placed: dict[str, _Placed], unplaced: Iterable[Document]
) -> Iterator[str]:
    seen = set[str]()
    for one in unplaced:
        name = one["job"]
        if name in placed or name in seen or name not in world.jobs:
            yield f"{name}: job: unplaced, and also placed, named twice or not in the snapshot"
        if not one.get("reason"):
            yield f"{name}: reason: it is unplaced without one"
        seen.add(name)
    for name in world.jobs:
        if name not in placed and name not in seen:
            yield f"{name}: job: neither placed nor unplaced"


def _places(world: World, one: _Placed) -> Iterator[str]:
    """Regions and hardware."""
    if not one.job.may_use(one.site):
        yield one.says("regions", f"{one.site.region} of {one.site.id} is not allowed")
    if not one.options:
        widths = sorted({piece.gpus for piece in one.pieces})
        yield one.says("resources", f"{one.accelerator}:{widths} is none of {one.job.options}")
    if one.accelerator not in one.site.capacity:
        yield one.says("resources", f"{one.site.id} has no {one.accelerator}")
    for piece in one.pieces:
        for at, value in world.intensity[one.site.zone].within(piece.start, piece.end):
            if value is None:
                yield one.says("intensity", f"unknown at {shown(at)} in {one.site.zone}")


def _shape(world: World, one: _Placed) -> Iterator[str]:
    """Lengths of segments, pauses between them, widths."""
    if one.job.widths is not None:
        yield from _elastic(world, one)
    elif one.options:
        yield from _segments(one)
    pauses, runs = one.job.pauses, one.runs
    if pauses is not None:
        yield from _pauses(world, one, pauses)
    elif len(runs) > 1 and not one.job.may_idle:
        yield one.says("segments", f"{len(runs)}, and it is not interruptible")


def _pauses(world: World, one: _Placed, pauses: Pauses) -> Iterator[str]:
    runs = one.runs
    if len(runs) > pauses.most + 1:
        yield one.says("max_interruptions", f"{len(runs) - 1} pauses, {pauses.most} allowed")
    for run in runs if len(runs) > 1 else ():
        ran = run[-1].end - run[0].start
        if ran < pauses.min_chunk:
            yield one.says(
                "min_chunk", f"{run[0]} runs {ran / HOUR} h of {pauses.min_chunk / HOUR} h"
            )
    for before, after in pairwise(runs):
        if after[0].start - before[-1].end < world.slot:
            yield one.says("pause", f"{before[-1]} and {after[0]} are less than a slot apart")


def _segments(one: _Placed) -> Iterator[str]:
    ran = sum(piece.end - piece.start for piece in one.pieces)
    restores = (len(one.pieces) - 1) * (one.job.pauses.cost if one.job.pauses else 0)
    asked = [option.duration + restores for option in one.options]
    if ran not in asked:
        wanted = " or ".join(f"{each / HOUR} h" for each in asked)
        yield one.says("length", f"{ran / HOUR} h in {len(one.pieces)} segments; asked: {wanted}")
    pauses = one.job.pauses
    if pauses and len(one.pieces) > 1 and ran - restores < pauses.min_chunk:
        yield one.says("min_chunk", "a job shorter than that has one segment")


def _elastic(world: World, one: _Placed) -> Iterator[str]:
    widths = one.job.widths or {}
    for piece in one.pieces:
        if piece.gpus not in widths:
            yield one.says("elastic", f"{piece}: its widths are {sorted(widths)}")
        # At one width throughout it is a run like any other, whose ends may lie anywhere.
        is_off = piece.start % world.slot or piece.end % world.slot
        if is_off and len(one.pieces) > 1:
            yield one.says("elastic", f"{piece} does not lie on slot borders")
    for option in one.options[:1]:
        asked = widths[option.gpus][0] * option.duration
        done = sum(_work(one, run, is_first=index == 0) for index, run in enumerate(one.runs))
        if done < asked * (1 - TOLERANCE):
            yield one.says("elastic", f"work {done / HOUR}, asked {asked / HOUR}")


def _work(one: _Placed, run: tuple[_Piece, ...], *, is_first: bool) -> float:
    """Throughput x time of a run; one after a pause first restores, which does no work."""
    restore = one.job.pauses.cost if one.job.pauses and not is_first else 0
    done = 0.0
    for piece in run:
        lost = min(restore, piece.end - piece.start)
        restore -= lost
        throughput = (one.job.widths or {}).get(piece.gpus, (0.0, 0.0))[0]
        done += throughput * (piece.end - piece.start - lost)
    return done


def _times(world: World, one: _Placed, moves: dict[str, float]) -> Iterator[str]:
    job, start, end = one.job, one.pieces[0].start, one.pieces[-1].end
    for rule, earliest in (("now", world.now), ("not_before", job.not_before)):
        if start < earliest:
            yield one.says(rule, f"starts {shown(start)}, before {shown(earliest)}")
    if start > job.start_by:
        yield one.says("start_by", f"starts {shown(start)}, after {shown(job.start_by)}")
    if end > job.deadline:
        yield one.says("deadline", f"ends {shown(end)}, after {shown(job.deadline)}")
    if job.data is not None and one.is_moved:
        ready = world.now + ceil(job.data[0] / moves["gb_per_s"] - 1e-9) * SECOND
        if start < ready:
            yield one.says("data", f"starts {shown(start)}, its data arrive {shown(ready)}")


def _order(world: World, placed: dict[str, _Placed]) -> Iterator[str]:
    for one in placed.values():
        for name in one.job.after:
            if name in placed:
                end, start = placed[name].pieces[-1].end, one.pieces[0].start
                if start < end:
                    yield one.says("after", f"starts {shown(start)}; {name} ends {shown(end)}")
            elif name in world.jobs:
                yield one.says("after", f"is placed, and {name} is not")


def _capacity(world: World, placed: Iterable[_Placed]) -> Iterator[str]:
    """A sweep over the instants at which anything begins or ends, row by row."""
    changes: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for one in placed:
        for piece in one.pieces:
            row = changes[one.site.id, one.accelerator]
            row += [(piece.start, piece.gpus, 0), (piece.end, -piece.gpus, 0)]
    for site in world.sites.values():
        for accelerator, gpus, start, end in site.reserved:
            if start < end:
                changes[site.id, accelerator] += [(start, 0, gpus), (end, 0, -gpus)]
    for (name, accelerator), row in changes.items():
        room, used, held = world.sites[name].capacity.get(accelerator, 0), 0, 0
        for at, here in groupby(sorted(row), key=lambda change: change[0]):
            for _, more, reserved in here:
                used, held = used + more, held + reserved
            if used > max(0, room - held):
                yield (
                    f"{name}: capacity: at {shown(at)} {used} {accelerator} in use; {room} there are, "
                    f"{held} reserved"
                )


def _footprint(world: World, one: _Placed, moves: dict[str, float]) -> Iterator[str]:
    found = [_footprint_of(world, one, option, moves) for option in one.options]
    said = one.given["energy_kwh"], one.given["emissions_g"]
    if found and not any(_near(kwh, said[0]) and _near(grams, said[1]) for kwh, grams in found):
        yield one.says("footprint", f"says {said} (kWh, g); recomputed {found}")


def _footprint_of(
    world: World, one: _Placed, option: Option, moves: dict[str, float]
) -> tuple[float, float | None]:
    """kWh and grams, data and all."""
    total_kwh, total_g = _moved(world, one.job, one.site, one.pieces[0].start, moves)
    for piece in one.pieces:
        watts = one.watts(option, piece)
        kwh, grams = world.used(one.site, piece.start, piece.end)
        total_kwh += watts * kwh
        total_g = None if total_g is None or grams is None else total_g + watts * grams
    return total_kwh, total_g


def _moved(
    world: World, job: Asked, site: Site, start: int, moves: dict[str, float]
) -> tuple[float, float | None]:
    """kWh and grams of moving the data: without PUE, at the intensity of the place at the start."""
    if job.data is None or not job.moves_to(site):
        return 0.0, 0.0
    kwh = job.data[0] * moves["kwh_per_gb"]
    intensity = world.intensity[site.zone].at(start)
    return kwh, None if intensity is None else kwh * intensity


def _limits(world: World, one: _Placed, moves: dict[str, float]) -> Iterator[str]:
    """Money, carbon, renewable share."""
    job, grams = one.job, one.given["emissions_g"]
    cost, said = _cost(one, moves), one.given.get("cost")
    if said is not None and cost is not None and not _near(cost, said):
        yield one.says("cost", f"says {said}; recomputed {cost}")
    if job.max_cost is not None and (cost is None or cost > job.max_cost * (1 + TOLERANCE)):
        yield one.says("max_cost", f"{cost} at {one.site.id}, allowed {job.max_cost}")
    if job.max_carbon_g is not None and (grams or 0.0) > job.max_carbon_g * (1 + TOLERANCE):
        yield one.says("max_carbon_g", f"{grams}, allowed {job.max_carbon_g}")
    if job.least_share:
        yield from _renewables(world, one, job.least_share)


def _cost(one: _Placed, moves: dict[str, float]) -> float | None:
    """Money for devices and data; None where the cluster states no price."""
    hours = sum(piece.gpus * (piece.end - piece.start) for piece in one.pieces) / HOUR
    data = one.job.data[0] * moves["price_per_gb"] if one.job.data and one.is_moved else 0.0
    return None if one.site.price is None else one.site.price * hours + data


def _renewables(world: World, one: _Placed, least: float) -> Iterator[str]:
    shares = world.renewable.get(one.site.zone)
    for piece in one.pieces:
        known = shares.within(piece.start, piece.end) if shares else [(piece.start, None)]
        for at, share in known:
            if share is None or share < least - TOLERANCE:
                yield one.says("min_renewable_share", f"{share} at {shown(at)}, asked {least}")


def _baseline(world: World, one: _Placed, moves: dict[str, float]) -> Iterator[str]:
    home = _home(world, one.job)
    if home is None:
        return
    site, option = home
    start = max(world.now, one.job.not_before)
    _, moved_g = _moved(world, one.job, site, start, moves)
    _, grams = world.used(site, start, start + option.duration)
    watts = option.watts or 0.0
    asked = None if grams is None or moved_g is None else watts * grams + moved_g
    if not _near(asked, one.given["baseline_g"]):
        yield one.says(
            "baseline_g",
            f"says {one.given['baseline_g']}; at {site.id} from {shown(start)}: {asked}",
        )


def _home(world: World, job: Asked) -> tuple[Site, Option] | None:
    """The first cluster that it may use, with the first option that any has."""
    for option in job.options:
        least = job.least_gpus or option.gpus
        for site in world.sites.values():
            if job.may_use(site) and site.capacity.get(option.accelerator, 0) >= least:
                return site, option
    return None


def _totals(plan: Document) -> Iterator[str]:
    for key in ("emissions_g", "baseline_g"):
        total = sum(one[key] or 0.0 for one in plan["placements"])
        if not _near(total, plan[key]):
            yield f"plan: {key}: says {plan[key]}; the sum of the placements is {total}"
    emitted, bound, gap = plan["emissions_g"], plan["lower_bound_g"], plan["gap"]
    if bound > emitted * (1 + TOLERANCE) or bound < 0:
        yield f"plan: lower_bound_g: {bound} is above the emissions {emitted}, or below 0"
    if bound <= 0 < emitted:
        if gap is not None:
            yield f"plan: gap: says {gap}; it is not known where the bound is 0"
        return
    asked = max(0.0, emitted / bound - 1) if bound > 0 else 0.0
    if gap is None or not isclose(asked, gap, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        yield f"plan: gap: says {gap}; emissions / lower_bound - 1 = {asked}"


def _near(asked: float | None, said: Any) -> bool:
    if asked is None or said is None:
        return asked is None and said is None
    return isclose(asked, said, rel_tol=TOLERANCE, abs_tol=1e-9)
