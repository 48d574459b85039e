"""Which grid zone a place lies in, whatever it is called."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from scheduler.core.errors import InvalidDataError, InvalidInputError, NotFoundError
from scheduler.core.names import nearest

NEAREST_KM: Final = 250.0
"""A place that is farther away says nothing about the grid. A choice of ours."""
CLEARER: Final = 2.0
"""So many times farther away must every other zone be, or the nearest place decides nothing."""
EARTH_RADIUS_KM: Final = 6371.0088
"""Source: IUGG mean radius (Moritz 2000, Geodetic Reference System 1980)."""
ALIAS: Final = "alias"
"""Provider of keys that belong to no provider, such as UK."""
_BARE: Final = frozenset({"entsoe", "eia", "energinet", ALIAS})
"""Providers whose keys are also understood without their prefix: those of others are mere numbers,
or country codes, which may mean something else."""
_AVAILABILITY_ZONES: Final = (
    ("aws", re.compile(r"(.*[0-9])[a-z]")),
    ("gcp", re.compile(r"(.*[0-9])-[a-z]")),
    ("azure", re.compile(r"(.*)-[1-3]")),
)
_COORDINATES: Final = re.compile(
    r"\s*([+-]?[0-9]{1,3}(?:\.[0-9]*)?)\s*,\s*([+-]?[0-9]{1,3}(?:\.[0-9]*)?)\s*"
)
_SHOWN: Final = 12


class How(StrEnum):
    """What a name was recognised as. The first of these that knows a name decides."""

    SITE = "site"
    ZONE = "zone"
    CLOUD_REGION = "cloud_region"
    PROVIDER_KEY = "provider_key"
    COUNTRY = "country"
    NEAREST_PLACE = "nearest_place"


class Extent(StrEnum):
    """What a zone covers."""

    ZONE = "zone"
    """A grid zone of its own."""
    COUNTRY = "country"
    """A country that is also known as several zones; `zone:IT` where it is meant as a whole."""
    PART = "part"
    """A part of another zone, for which a provider states values too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A grid zone.

    Args:
        alpha2: ISO 3166-1 code of the country, which is called `country`.
        alpha3: likewise.
        latitude: of its largest city or its capital, in degrees, north positive.
        longitude: likewise, east positive.
        keys: pairs of provider and its key of the zone.
    """

    zone_id: str
    name: str
    country: str
    alpha2: str
    alpha3: str
    latitude: float
    longitude: float
    extent: Extent = Extent.ZONE
    keys: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _require_on_earth(self.latitude, self.longitude, self.zone_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudRegion:
    """A region of a cloud provider, at about these coordinates in degrees."""

    provider: str
    region: str
    zone_id: str
    latitude: float
    longitude: float
    place: str

    def __post_init__(self) -> None:
        _require_on_earth(self.latitude, self.longitude, self.name)

    @property
    def name(self) -> str:
        """With the provider before it, such as `aws:us-east-1`."""
        return f"{self.provider}:{self.region}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRegion:
    """What a name stands for.

    Args:
        name: in full, such as `aws:us-east-1` for `us-east-1a`; of the place where it was the nearest.
        place: the town, or the name of the zone; None for a zone that is not in the table.
        latitude: in degrees, as given where coordinates were given.
        distance_km: from the given coordinates to the place; None where a name was given.
    """

    name: str
    how: How
    zone_id: str
    place: str | None
    latitude: float | None
    longitude: float | None
    distance_km: float | None = None

    @property
    def is_approximate(self) -> bool:
        """Whether it is only the nearest place that is known: the border may run in between."""
        return self.distance_km is not None


class RegionTable:
    """Resolves names of zones and regions, ignoring case and blanks.

    Precedence, where a name means several things: sites of the operator; zones; cloud regions, and
    availability zones in them; keys of providers; codes and names of countries; latitude,longitude. A prefix says
    which is meant: `site:`, `zone:`, `aws:`, `azure:`, `gcp:`, `entsoe:`, `eia:`, `energinet:`,
    `energy_charts:`, `neso:`, `country:` (or `/` for the colon).

    Args:
        sites: zone of each site.

    Raises:
        InvalidDataError: a cloud region in a zone that there is not.
    """

    def __init__(
        self,
        zones: Sequence[Zone],
        regions: Sequence[CloudRegion],
        sites: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.zones: Final[Mapping[str, Zone]] = {zone.zone_id: zone for zone in zones}
        self.regions: Final = tuple(regions)
        self.sites: Final = tuple(sites)
        for region in regions:
            if region.zone_id not in self.zones:
                raise InvalidDataError(
                    f"{region.name}: zone {region.zone_id!r} is not in the table of zones",
                    field="zone",
                    value=region.zone_id,
                )
        self._found: Final[dict[How, dict[str, list[ResolvedRegion]]]] = {how: {} for how in How}
        names = list[str]()
        for found, called in self._called(sites):
            names += called
            for name in called:
                self._found[found.how].setdefault(_folded(name), []).append(found)
        self.names: Final = frozenset(names)

    def with_sites(self, sites: Mapping[str, str]) -> "RegionTable":
        """The same table with these sites, each in its zone."""
        return RegionTable(tuple(self.zones.values()), self.regions, sites)

    def resolve(self, text: str) -> ResolvedRegion:
        """The one zone that the text names.

        Raises:
            InvalidInputError: it may be several zones, which are listed; or coordinates that are none.
            NotFoundError: nothing is called so (names the nearest), or is near those coordinates.
        """
        named = self._named(_folded(text))
        if named:
            return self._only(text, named)
        if "," in text:
            return self._nearest(text, *_coordinates(text))
        raise self._unknown(text)

    def _named(self, folded: str) -> Sequence[ResolvedRegion]:
        for names in self._found.values():
            if folded in names:
                return names[folded]
        clouds = self._found[How.CLOUD_REGION]
        return [
            found
            for provider, pattern in _AVAILABILITY_ZONES
            if (match := pattern.fullmatch(folded))
            for found in clouds.get(f"{provider}:{match[1].removeprefix(f'{provider}:')}", ())
        ]

    def _called(self, sites: Mapping[str, str]) -> Iterator[tuple[ResolvedRegion, list[str]]]:
        """Everything that has a name, with all its names."""
        for name, zone_id in sites.items():
            yield self._in_zone(How.SITE, name, zone_id), [name, f"site:{name}"]
        for zone in self.zones.values():
            # IT alone could be read as any of its zones.
            bare = [] if zone.extent is Extent.COUNTRY else [zone.zone_id]
            yield (
                self._in_zone(How.ZONE, zone.zone_id, zone.zone_id),
                [*bare, f"zone:{zone.zone_id}"],
            )
            for provider, key in zone.keys:
                names = [f"{provider}:{key}"] if provider != ALIAS else []
                found = self._in_zone(How.PROVIDER_KEY, (names or [key])[0], zone.zone_id)
                yield found, [*names, key] if provider in _BARE else names
            if zone.extent is Extent.ZONE and self._stands_for_country(zone):
                called = [zone.alpha2, zone.alpha3, zone.country]
                found = self._in_zone(How.COUNTRY, zone.zone_id, zone.zone_id)
                yield found, [*called, *(f"country:{name}" for name in called)]
        for region in self.regions:
            yield _in_cloud(region), [region.region, region.name]

    def _stands_for_country(self, zone: Zone) -> bool:
        """Whether its country's code may mean it: not where another zone bears that very code."""
        same = self.zones.get(zone.alpha2, zone)
        return same is zone or same.extent is Extent.COUNTRY

    def _in_zone(self, how: How, name: str, zone_id: str) -> ResolvedRegion:
        zone = self.zones.get(zone_id)
        return ResolvedRegion(
            name=name,
            how=how,
            zone_id=zone_id,
            place=zone.name if zone else None,
            latitude=zone.latitude if zone else None,
            longitude=zone.longitude if zone else None,
        )

    def _only(self, text: str, found: Sequence[ResolvedRegion]) -> ResolvedRegion:
        names = {one.zone_id: one.name for one in found}
        if len(names) == 1:
            return found[0]
        listed = sorted(
            name if name == zone_id else f"{name} ({zone_id})" for zone_id, name in names.items()
        )
        end = "name one of them"
        if found[0].how is How.COUNTRY:
            whole = self.zones.get(self.zones[found[0].zone_id].alpha2)
            end += f", or zone:{whole.zone_id} for all of it" if whole else ""
        raise _ambiguous(text, "can be", listed, end)

    def _nearest(self, text: str, latitude: float, longitude: float) -> ResolvedRegion:
        closest = dict[str, tuple[float, ResolvedRegion]]()
        for place in self._places():
            away_km = _distance_km((latitude, longitude), place)
            if place.zone_id not in closest or away_km < closest[place.zone_id][0]:
                closest[place.zone_id] = away_km, place
        (away_km, place), *others = sorted(
            closest.values(), key=lambda one: (one[0], one[1].zone_id)
        )
        if away_km > NEAREST_KM:
            raise NotFoundError(
                f"{text!r}: the nearest place known is {place.place} in {place.zone_id}, {away_km:.0f} km "
                f"away; beyond {NEAREST_KM:.0f} km that says nothing about the grid: name the zone",
                field="region",
                value=text,
                valid=f"within {NEAREST_KM:.0f} km of a place known, or a name",
            )
        rivals = [one for one in others if one[0] <= CLEARER * away_km]
        if rivals:
            listed = [
                f"{one.zone_id} ({one.place}, {km:.0f} km)"
                for km, one in ((away_km, place), *rivals)
            ]
            raise _ambiguous(text, "is near", listed, "name the zone")
        return replace(
            place,
            how=How.NEAREST_PLACE,
            latitude=latitude,
            longitude=longitude,
            distance_km=away_km,
        )

    def _places(self) -> Iterator[ResolvedRegion]:
        yield from map(_in_cloud, self.regions)
        for zone in self.zones.values():
            if zone.extent is Extent.ZONE:
                yield self._in_zone(How.ZONE, zone.zone_id, zone.zone_id)

    def _unknown(self, text: str) -> NotFoundError:
        given = text.strip().replace("/", ":")
        near = nearest(given, (name for name in self.names if (":" in name) == (":" in given)))
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "`gridtide regions --all` lists them"
        )
        return NotFoundError(
            f"{text!r} is not a zone, cloud region, country or site that is known; {hint}",
            field="region",
            value=text,
            valid=hint,
        )


def _folded(name: str) -> str:
    return "".join(name.split()).replace("/", ":").casefold()


def _in_cloud(region: CloudRegion) -> ResolvedRegion:
    return ResolvedRegion(
        name=region.name,
        how=How.CLOUD_REGION,
        zone_id=region.zone_id,
        place=region.place,
        latitude=region.latitude,
        longitude=region.longitude,
    )


def _ambiguous(text: str, verb: str, listed: Sequence[str], end: str) -> InvalidInputError:
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    shown = ", ".join(listed[:_SHOWN]) + more
    return InvalidInputError(
        f"{text!r} {verb} {shown}; {end}",
        field="region",
        value=text,
        valid=", ".join(listed),
    )


def _coordinates(text: str) -> tuple[float, float]:
    match = _COORDINATES.fullmatch(text)
    if match:
        latitude, longitude = float(match[1]), float(match[2])
        if abs(latitude) <= 90 and abs(longitude) <= 180:
            return latitude, longitude
    raise InvalidInputError(
        f"{text!r} is not latitude,longitude in degrees (-90 to 90, -180 to 180), such as 52.5,13.4",
        field="region",
        value=text,
        valid="such as 52.5,13.4",
    )


def _require_on_earth(latitude: float, longitude: float, name: str) -> None:
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise InvalidDataError(
            f"{name}: latitude {latitude}, longitude {longitude} is not on earth; "
            "they are degrees from -90 to 90 and from -180 to 180",
            field="latitude",
            value=f"{latitude},{longitude}",
        )


def _distance_km(point: tuple[float, float], place: ResolvedRegion) -> float:
    """Along the great circle. Source: the haversine formula, on a sphere."""
    assert place.latitude is not None
    assert place.longitude is not None
    lat1, lon1, lat2, lon2 = map(math.radians, (*point, place.latitude, place.longitude))
    half_chord = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half_chord)))
