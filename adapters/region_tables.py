"""Loads the tables of grid zones and cloud regions."""

from importlib.resources import files
from typing import Final

from adapters.csv_table import read_table
from scheduler.core.errors import InvalidDataError
from scheduler.core.regions import ALIAS, CloudRegion, Extent, RegionTable, Zone

_ZONES: Final = "regions/zones.csv"
_CLOUD_REGIONS: Final = "regions/cloud_regions.csv"
_PROVIDERS: Final = ("entsoe", "eia", "energy_charts", "energinet", "neso")
_ZONE_COLUMNS: Final = (
    *("zone", "name", "country", "alpha2", "alpha3", "latitude", "longitude", "extent"),
    *(*_PROVIDERS, "aliases"),
)
_CLOUD_COLUMNS: Final = ("provider", "region", "zone", "latitude", "longitude", "place")


def load_regions() -> RegionTable:
    """The shipped table."""
    folder = files("configs")
    return RegionTable(
        parse_zones(folder.joinpath(_ZONES).read_text(encoding="utf-8"), _ZONES),
        parse_cloud_regions(
            folder.joinpath(_CLOUD_REGIONS).read_text(encoding="utf-8"), _CLOUD_REGIONS
        ),
    )


def parse_zones(text: str, where: str) -> list[Zone]:
    """The zones of that CSV text, where a provider may have several keys of one, separated by |.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """
    zones = dict[str, Zone]()
    for place, row in read_table(text, where, _ZONE_COLUMNS):
        cells = dict(zip(_ZONE_COLUMNS, row, strict=True))
        columns = [*((provider, provider) for provider in _PROVIDERS), (ALIAS, "aliases")]
        try:
            extent = Extent(cells["extent"])
        except ValueError as error:
            raise InvalidDataError(
                f"{place}: extent {cells['extent']!r} is not {', '.join(Extent)}",
                field="extent",
                value=cells["extent"],
            ) from error
        zone = Zone(
            zone_id=_new(cells["zone"], zones, place),
            name=cells["name"],
            country=cells["country"],
            alpha2=cells["alpha2"],
            alpha3=cells["alpha3"],
            latitude=_degrees(cells["latitude"], place),
            longitude=_degrees(cells["longitude"], place),
            extent=extent,
            keys=tuple(
                (provider, key)
                for provider, column in columns
                for key in cells[column].split("|")
                if key
            ),
        )
        zones[zone.zone_id] = zone
    return list(zones.values())


def parse_cloud_regions(text: str, where: str) -> list[CloudRegion]:
    """The cloud regions of that CSV text.

    Raises:
        InvalidDataError: naming file, line, column and value.
    """
    regions = dict[str, CloudRegion]()
    for at, row in read_table(text, where, _CLOUD_COLUMNS):
        provider, region, zone_id, latitude, longitude, place = row
        made = CloudRegion(
            provider=provider,
            region=region,
            zone_id=zone_id,
            latitude=_degrees(latitude, at),
            longitude=_degrees(longitude, at),
            place=place,
        )
        regions[_new(made.name, regions, at)] = made
    return list(regions.values())


def _new(name: str, taken: dict[str, Zone] | dict[str, CloudRegion], where: str) -> str:
    if name in taken:
        raise InvalidDataError(f"{where}: {name!r} stands there twice", field="name", value=name)
    return name


def _degrees(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidDataError(
            f"{where}: {text!r} is not a number of degrees, such as 52.5",
            field="latitude",
            value=text,
        ) from error
