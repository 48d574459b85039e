"""From the names that settings use to grid zones."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from adapters.grid.trace import zones_in
from adapters.region_tables import load_regions
from scheduler.core.errors import InvalidConfigError, InvalidInputError, NotFoundError
from scheduler.core.names import nearest
from scheduler.core.regions import Extent
from scheduler.server.zone_sources import zones_of

SURE_KM: Final = 50.0
"""Coordinates in settings must be so near a place known: nobody sees there how rough the guess is."""


class ZoneNames:
    """Resolves names in settings.

    A zone that a configured source calls exactly so is that zone, whatever else the name could mean: so
    a trace may have zones of its own, such as `home`. Any other name must be one of the table.

    Args:
        sources: kind of each configured source, and its file where it has one.
    """

    def __init__(self, sources: Iterable[tuple[str, Path | None]]) -> None:
        self._sources = tuple(sources)
        self._table = load_regions()

    def add_sites(self, sites: Mapping[str, str]) -> dict[str, str]:
        """The zone of each site; from here on they are known.

        Raises:
            InvalidConfigError: a site that would hide a name, or whose zone is not known.
        """
        for name in sites:
            self._require_free(name)
        zones = {name: self.zone_id(zone, f"sites.{name}") for name, zone in sites.items()}
        self._table = self._table.with_sites(zones)
        return zones

    def zone_id(self, name: str, field: str) -> str:
        """The zone of that name.

        Raises:
            InvalidConfigError: unknown, ambiguous or unsure; names the field and the nearest.
        """
        zone = self._table.zones.get(name)
        if (zone and zone.extent is not Extent.COUNTRY) or name in self._stated:
            return name
        try:
            found = self._table.resolve(name)
        except (InvalidInputError, NotFoundError) as error:
            own = nearest(name, self._stated - set(self._table.zones), limit=1)
            more = f" {own[0]!r} is a zone of a source." if own else ""
            raise InvalidConfigError(
                f"{field}: {error.message}{more}", **{**error.fields, "field": field}
            ) from error
        if found.distance_km is not None and found.distance_km > SURE_KM:
            raise InvalidConfigError(
                f"{field}: {name!r} is {found.distance_km:.0f} km from {found.place} in {found.zone_id}, "
                f"the nearest place known; beyond {SURE_KM:.0f} km name the zone",
                field=field,
                value=name,
                valid=found.zone_id,
            )
        return found.zone_id

    @cached_property
    def _stated(self) -> frozenset[str]:
        """Zones that the configured sources name themselves; files are read only where it matters."""
        return frozenset(
            zone_id
            for kind, path in self._sources
            for zone_id in (zones_of(kind) if path is None else zones_in(path))
        )

    def _require_free(self, name: str) -> None:
        try:
            known = f"zone {self._table.resolve(name).zone_id}"
        except NotFoundError:
            if name not in self._stated:
                return
            known = f"zone {name}"
        except InvalidInputError:
            known = "several zones"
        raise InvalidConfigError(
            f"sites.{name}: means {known} already; give the site another name",
            field=f"sites.{name}",
            value=name,
        )
