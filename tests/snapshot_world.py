"""Snapshot documents as a checker reads them: whole microseconds, step functions, jobs with their terms.

Written from the description of the documents alone; imports nothing of what it checks.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
NEVER: Final = 1 << 62
Document = Mapping[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT: Final = {"d": 24 * HOUR, "h": HOUR, "m": 60 * SECOND, "s": SECOND}


def instant(text: str) -> int:
    """Microseconds since 1970 of an ISO 8601 time with an offset."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def shown(at: int) -> str:
    """The reverse of `instant`."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat().replace("+00:00", "Z")


def length(text: str) -> int:
    """Microseconds of `4h`, `1h30m` or `PT4H`."""
    plain = text.lower().removeprefix("p").replace("t", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", plain)
    assert "".join(n + unit for n, unit in parts) == plain, text
    return sum(round(float(n) * _UNIT[unit]) for n, unit in parts)


@dataclass(frozen=True, slots=True)
class Steps:
    """A step function: `values[i]` holds on `[start + i x step, start + (i + 1) x step)`; None where unknown.

    Args:
        is_daily: the values repeat.
        holds_on: the last one holds on.
    """

    start: int
    step: int
    values: tuple[float | None, ...]
    is_daily: bool = False
    holds_on: bool = False

    def at(self, at: int) -> float | None:
        """The value at an instant."""
        index = (at - self.start) // self.step
        if self.is_daily:
            return self.values[index % len(self.values)]
        if self.holds_on and index >= len(self.values):
            return self.values[-1]
        return self.values[index] if 0 <= index < len(self.values) else None

    def next_border(self, at: int) -> int:
        """The first border after an instant."""
        return self.start + ((at - self.start) // self.step + 1) * self.step

    def within(self, begin: int, end: int) -> Iterator[tuple[int, float | None]]:
        """Every value that holds at some instant of a window, and from when on."""
        at = begin
        while at < end:
            yield at, self.at(at)
            at = self.next_border(at)


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster."""

    id: str
    region: str
    zone: str
    pue: Steps
    price: float | None
    capacity: Mapping[str, int]
    reserved: tuple[tuple[str, int, int, int], ...]  # accelerator, gpus, start, end


@dataclass(frozen=True, slots=True)
class Option:
    """One hardware choice; watts of all its devices, None where the document does not say."""

    accelerator: str
    gpus: int
    duration: int
    watts: float | None


@dataclass(frozen=True, slots=True)
class Pauses:
    """How a job may be paused."""

    min_chunk: int
    cost: int
    most: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One job: what it asks for."""

    id: str
    options: tuple[Option, ...]
    not_before: int
    start_by: int
    deadline: int
    pauses: Pauses | None
    is_movable: bool
    widths: Mapping[int, tuple[float, float]] | None  # gpus: throughput, watts
    may_idle: bool
    regions: frozenset[str] | None
    forbidden: frozenset[str]
    data: tuple[float, str] | None  # gigabytes, region
    after: tuple[str, ...]
    max_cost: float | None
    max_carbon_g: float | None
    least_share: float | None

    def may_use(self, site: Site) -> bool:
        """Whether its lists of regions allow the cluster."""
        if site.region in self.forbidden:
            return False
        return self.regions is None or site.region in self.regions

    def moves_to(self, site: Site) -> bool:
        """Whether its data have to be moved there."""
        return self.data is not None and self.data[1] != site.region

    @property
    def least_gpus(self) -> int | None:
        """The narrowest width; None where it is not elastic."""
        return min(self.widths) if self.widths else None


@dataclass(frozen=True, slots=True)
class World:
    """A snapshot document."""

    now: int
    slot: int
    end: int
    sites: Mapping[str, Site]
    intensity: Mapping[str, Steps]
    renewable: Mapping[str, Steps]
    jobs: Mapping[str, Asked]

    def used(self, site: Site, begin: int, end: int) -> tuple[float, float | None]:
        """kWh and grams of one watt over a window; grams are None where intensity is unknown in any of it."""
        intensity = self.intensity[site.zone]
        kwh, grams, at = 0.0, 0.0, begin
        is_known = True
        while at < end:
            stop = min(end, intensity.next_border(at), site.pue.next_border(at))
            energy = (site.pue.at(at) or 0.0) * (stop - at) / HOUR / 1000
            value = intensity.at(at)
            is_known = is_known and value is not None
            kwh, grams, at = kwh + energy, grams + energy * (value or 0.0), stop
        return kwh, grams if is_known else None


def read_world(document: Document) -> World:
    """The snapshot document in the units of a checker."""
    now, slot = instant(document["now"]), length(document["slot"])
    origin = now - now % slot
    steps, shares = {}, {}
    for zone, given in document["intensity"].items():
        start, step = instant(given["start"]), length(given["step"])
        steps[zone] = Steps(start, step, tuple(given["g_per_kwh"]))
        if given.get("renewable_share") is not None:
            shares[zone] = Steps(start, step, tuple(given["renewable_share"]))
    return World(
        now=now,
        slot=slot,
        end=-(-(now + length(document["horizon"])) // slot) * slot,
        sites={one["id"]: _site(one, origin) for one in document["clusters"]},
        intensity=steps,
        renewable=shares,
        jobs={one["id"]: _asked(one, now) for one in document["jobs"]},
    )


def _site(given: Document, origin: int) -> Site:
    pue = given.get("pue", 1.2)
    factors = tuple(pue) if isinstance(pue, list) else (pue,)
    is_daily = len(factors) in (1, 24)
    return Site(
        id=given["id"],
        region=given["region"],
        zone=given["zone"],
        pue=Steps(0 if is_daily else origin, HOUR, factors, is_daily=is_daily, holds_on=True),
        price=given.get("price_per_gpu_hour"),
        capacity=given["capacity"],
        reserved=tuple(
            (one["accelerator"], one["gpus"], instant(one["start"]), instant(one["end"]))
            for one in given.get("reserved", ())
        ),
    )


def _asked(given: Document, now: int) -> Asked:
    options, elastic, data = _options(given), given.get("elastic"), given.get("data")
    deadline = (
        instant(given["deadline"])
        if given.get("deadline")
        else now + options[0].duration + length(given["patience"])
    )
    return Asked(
        id=given["id"],
        options=options,
        not_before=instant(given["not_before"]) if given.get("not_before") else now,
        start_by=instant(given["start_by"]) if given.get("start_by") else NEVER,
        deadline=deadline,
        pauses=_pauses(given.get("interruptible")),
        is_movable=bool(given.get("movable")),
        widths=_widths(elastic),
        may_idle=elastic is not None and elastic["min"] == 0,
        regions=frozenset(given["regions"]) if given.get("regions") else None,
        forbidden=frozenset(given.get("forbid_regions") or ()),
        data=(data["gb"], data["region"]) if data else None,
        after=tuple(given.get("after") or ()),
        max_cost=given.get("max_cost"),
        max_carbon_g=given.get("max_carbon_g"),
        least_share=given.get("min_renewable_share"),
    )


def _widths(elastic: Document | None) -> dict[int, tuple[float, float]] | None:
    if elastic is None:
        return None
    return {
        line["gpus"]: (line["throughput"], line["power_w"])
        for line in elastic["profile"]
        if elastic["min"] <= line["gpus"] <= elastic["max"]
    }


def _options(given: Document) -> tuple[Option, ...]:
    resources, widths = given.get("resources", {"accelerators": "CPU:1"}), given.get("elastic")
    listed = resources.get("any_of") or [resources]
    found = []
    for one in listed:
        name, _, count = one["accelerators"].partition(":")
        gpus = int(count or 1)
        watts = one.get("power_w", given.get("power_w"))
        for line in widths["profile"] if widths else ():
            watts = line["power_w"] if line["gpus"] == gpus else watts
        found.append(Option(name, gpus, length(one.get("duration", given["duration"])), watts))
    return tuple(found)


def _pauses(given: Document | bool | None) -> Pauses | None:
    if not given:
        return None
    terms: Document = {} if given is True else given
    return Pauses(
        min_chunk=length(terms.get("min_chunk", "1h")),
        cost=length(terms.get("checkpoint_cost", "10m")),
        most=terms.get("max_interruptions", 3),
    )
