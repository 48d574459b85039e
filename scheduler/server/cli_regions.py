"""`gridtide regions NAME...` and `--all`: from the table, without a service."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from adapters.region_tables import load_regions
from scheduler.core.errors import GridtideError, InvalidInputError, NotFoundError
from scheduler.core.regions import RegionTable, ResolvedRegion
from scheduler.server.cli_output import Document, print_rows, say
from scheduler.server.zone_sources import ZoneSources

RESOLVED_SCHEMA: Final = "gridtide/resolved-regions/v1"
TABLE_SCHEMA: Final = "gridtide/region-table/v1"
_RESOLVED_COLUMNS: Final = (
    *("given", "zone", "how", "place", "latitude", "longitude", "distance", "sources"),
)
_TABLE_COLUMNS: Final = ("name", "zone", "place", "latitude", "longitude", "sources")


def resolve(names: Sequence[str], *, is_all: bool, config: Path | None, output: str) -> None:
    """Prints what each name stands for, or the whole table.

    Raises:
        InvalidInputError: names beside --all; a name that means several zones, or no coordinates.
        NotFoundError: a name that is not known. All others are printed before.
    """
    if names and is_all:
        raise InvalidInputError("regions: give either names or --all", field="all")
    table = _table(config)
    if is_all:
        sources = ZoneSources()
        _print([_document(one, table, sources) for one in _all(table)], is_all=True, output=output)
        return
    documents, errors = _resolved(names, table)
    if documents:
        _print(documents, is_all=False, output=output)
    for error in errors[:-1]:
        say(f"error: {error.message}")
    if errors:
        raise errors[-1]


def _resolved(
    names: Sequence[str], table: RegionTable
) -> tuple[list[Document], list[GridtideError]]:
    """What the names stand for, and what is wrong with the others."""
    sources = ZoneSources()
    documents, errors = list[Document](), list[GridtideError]()
    for name in names:
        try:
            found = table.resolve(name)
        except (InvalidInputError, NotFoundError) as error:
            errors.append(error)
        else:
            documents.append({"given": name, **_document(found, table, sources)})
    return documents, errors


def _print(documents: Sequence[Document], *, is_all: bool, output: str) -> None:
    columns = _TABLE_COLUMNS if is_all else _RESOLVED_COLUMNS
    schema = TABLE_SCHEMA if is_all else RESOLVED_SCHEMA
    print_rows(
        output,
        {"schema": schema, "regions": documents},
        columns,
        [[_cell(one, column) for column in columns] for one in documents],
    )


def _table(config: Path | None) -> RegionTable:
    if config is None:
        return load_regions()
    from scheduler.server.settings import load_settings  # noqa: PLC0415 - few need it

    return load_regions().with_sites(load_settings(config).sites)


def _all(table: RegionTable) -> Iterable[ResolvedRegion]:
    for zone_id in table.zones:
        yield table.resolve(f"zone:{zone_id}")
    for region in table.regions:
        yield table.resolve(region.name)
    for site in table.sites:
        yield table.resolve(f"site:{site}")


def _document(found: ResolvedRegion, table: RegionTable, sources: ZoneSources) -> Document:
    zone = table.zones.get(found.zone_id)
    distance = found.distance_km
    return {
        "name": found.name,
        "zone": found.zone_id,
        "how": str(found.how),
        "place": found.place,
        "country": zone.alpha2 if zone else None,
        "latitude": found.latitude,
        "longitude": found.longitude,
        "distance_km": None if distance is None else round(distance, 1),
        "approximate": found.is_approximate,
        "sources": sources.kinds(found.zone_id, zone),
    }


def _cell(document: Document, column: str) -> object:
    if column == "sources":
        return " ".join(document["sources"])
    if column == "distance":
        distance = document["distance_km"]
        return None if distance is None else f"about {distance:.0f} km"
    return document[column]
