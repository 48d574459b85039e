"""Which kinds of source can state the intensity of a zone."""

from collections.abc import Callable, Mapping
from typing import Final

from adapters.grid import (
    eia,
    energinet,
    energy_charts,
    entsoe,
    national_grid_gb,
    neso_regions_gb,
)
from adapters.grid.typical_week import TypicalWeek
from scheduler.core.regions import Extent, Zone

# One line a kind. Whatever an operator brings or runs (traces, a Carbon Aware SDK) serves what it is given.
OF_SOME_ZONES: Final[Mapping[str, Callable[[], frozenset[str]]]] = {
    "typical_week": lambda: TypicalWeek().info.zone_ids,
    "national_grid_gb": lambda: national_grid_gb.ZONES,
    "neso_regions_gb": lambda: frozenset(neso_regions_gb.REGIONS),
    "energy_charts": lambda: energy_charts.ZONES,
    "energinet": lambda: energinet.ZONES,
    "entsoe": lambda: frozenset(entsoe.ZONES),
    "eia": lambda: frozenset(eia.ZONES),
}
OF_THE_WORLD: Final = ("electricity_maps", "watttime")
"""Kinds with zones everywhere; which of them an account may read shows when it is asked."""


def zones_of(kind: str) -> frozenset[str]:
    """The zones that this kind of source names itself; none where it is told its zones."""
    return OF_SOME_ZONES[kind]() if kind in OF_SOME_ZONES else frozenset()


class ZoneSources:
    """Says which kinds can serve a zone."""

    def __init__(self) -> None:
        self._zones = {kind: zones_of(kind) for kind in OF_SOME_ZONES}

    def kinds(self, zone_id: str, zone: Zone | None) -> list[str]:
        """Kinds that can serve it; `zone` is what is known of it, None for one of the operator's own."""
        some = [kind for kind, zone_ids in self._zones.items() if zone_id in zone_ids]
        is_world = zone is not None and zone.extent is Extent.ZONE
        return [*some, *(OF_THE_WORLD if is_world else ())]
