"""The shipped tables of zones and cloud regions: every row holds what it must; a broken one is refused."""

import csv
from pathlib import Path

import pytest

from adapters.grid import energinet, energy_charts, neso_regions_gb
from adapters.grid.typical_week import TypicalWeek
from adapters.region_tables import load_regions, parse_cloud_regions, parse_zones
from scheduler.core.errors import InvalidDataError, InvalidInputError
from scheduler.core.regions import Extent
from scheduler.server.zone_sources import OF_SOME_ZONES, zones_of

FOLDER = Path(__file__).parents[2] / "configs" / "regions"
TABLE = load_regions()
ZONE_HEADER = (
    "zone,name,country,alpha2,alpha3,latitude,longitude,extent,"
    "entsoe,eia,energy_charts,energinet,neso,aliases\n"
)
CLOUD_HEADER = "provider,region,zone,latitude,longitude,place\n"
EIC_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ZONES = rows("zones.csv")
REGIONS = rows("cloud_regions.csv")


@pytest.mark.parametrize("row", REGIONS, ids=lambda row: row["region"])
def test_every_cloud_region_is_its_zone_under_each_of_its_names(row: dict[str, str]) -> None:
    provider, region = row["provider"], row["region"]
    within = {"aws": "a", "gcp": "-c", "azure": "-2"}[provider]
    for name in (region, f"{provider}:{region}", f"{provider}/{region}".upper(), region + within):
        found = TABLE.resolve(name)
        assert (found.zone_id, found.name) == (row["zone"], f"{provider}:{region}")
        assert (found.latitude, found.longitude) == (
            float(row["latitude"]),
            float(row["longitude"]),
        )
        assert found.place == row["place"] != ""


@pytest.mark.parametrize("row", ZONES, ids=lambda row: row["zone"])
def test_every_zone_is_found_by_its_key_and_by_those_of_providers(row: dict[str, str]) -> None:
    zone_id = row["zone"]
    assert TABLE.resolve(f"zone:{zone_id}").zone_id == zone_id
    if row["extent"] == "country":
        with pytest.raises(InvalidInputError, match=f"or zone:{zone_id} for all of it"):
            TABLE.resolve(zone_id)
    else:
        assert TABLE.resolve(zone_id.lower()).zone_id == zone_id
    for provider in ("entsoe", "eia", "energinet", "energy_charts", "neso"):
        for key in filter(None, row[provider].split("|")):
            assert TABLE.resolve(f"{provider}:{key}").zone_id == zone_id
            if provider in ("entsoe", "eia", "energinet"):
                assert TABLE.resolve(key).zone_id == zone_id
    for alias in filter(None, row["aliases"].split("|")):
        assert TABLE.resolve(alias).zone_id == zone_id


def test_country_codes_are_the_zone_where_there_is_one_and_refused_where_there_are_several() -> (
    None
):
    for name in ("DE", "DEU", "deu", "country:DE", "energy_charts:de", "10Y1001A1001A83F"):
        assert TABLE.resolve(name).zone_id == "DE"
    for name in ("GB", "GBR", "UK", "uk"):
        assert TABLE.resolve(name).zone_id == "GB"
    for name in ("US", "USA", "IT", "AU", "JP", "SE", "NO", "DNK", "IN", "BR", "CA", "CL", "MY"):
        with pytest.raises(InvalidInputError, match=f"'{name}' can be {name[:2]}-|'DNK' can be DK"):
            TABLE.resolve(name)


def test_rows_are_sorted_unique_and_complete() -> None:
    assert [row["zone"] for row in ZONES] == sorted({row["zone"] for row in ZONES})
    names = [(row["provider"], row["region"]) for row in REGIONS]
    assert names == sorted(set(names))
    assert {row["provider"] for row in REGIONS} == {"aws", "azure", "gcp"}
    codes = {(row["alpha2"], row["alpha3"], row["country"]) for row in ZONES}
    assert len(codes) == len({row["alpha2"] for row in ZONES}) == len({row[1] for row in codes})
    assert all(row["zone"].startswith(row["alpha2"]) for row in ZONES)
    assert all(row["name"] and len(row["alpha3"]) == 3 for row in ZONES)


def test_check_character_of_every_eic_is_right() -> None:
    codes = [code for row in ZONES for code in row["entsoe"].split("|") if code]
    assert len(codes) == len(set(codes)) > 50
    for code in codes:
        # Weights 16 to 2; the last character makes the sum up, as ENTSO-E's EIC manual has it.
        total = sum(EIC_LETTERS.index(letter) * (16 - n) for n, letter in enumerate(code[:15]))
        assert EIC_LETTERS[36 - (total - 1) % 37] == code[15], code


def test_keys_of_providers_are_those_that_their_adapters_use() -> None:
    keys = {
        provider: {row["zone"]: row[provider] for row in ZONES if row[provider]}
        for provider in ("eia", "energy_charts", "energinet", "neso")
    }
    assert keys["energy_charts"] == {zone: zone.lower() for zone in energy_charts.ZONES}
    assert keys["energinet"] == {zone: zone.removeprefix("DK-") for zone in energinet.ZONES}
    assert keys["neso"] == {zone: str(key) for zone, key in neso_regions_gb.REGIONS.items()}
    assert all(zone.split("-")[-1] == key for zone, key in keys["eia"].items())


def test_every_zone_that_a_source_names_is_in_the_table() -> None:
    named = {zone for kind in OF_SOME_ZONES for zone in zones_of(kind)}
    assert named <= set(TABLE.zones)
    assert TypicalWeek().info.zone_ids <= named
    assert zones_of("electricity_maps") == frozenset()


def test_parts_lie_in_a_country_that_is_a_zone() -> None:
    for zone in TABLE.zones.values():
        if zone.extent is Extent.PART:
            assert TABLE.zones[zone.alpha2].extent is Extent.ZONE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zone\n", ": columns zone; needed are zone, name"),
        (ZONE_HEADER, ": no rows"),
        (ZONE_HEADER + "AA,a\n", ":2: 2 cells under 14 columns"),
        (ZONE_HEADER + "AA,a,C,AA,AAA,x,1,zone,,,,,,\n", ":2: 'x' is not a number of degrees"),
        (ZONE_HEADER + "AA,a,C,AA,AAA,91,1,zone,,,,,,\n", "AA: latitude 91.0"),
        (ZONE_HEADER + "AA,a,C,AA,AAA,1,1,town,,,,,,\n", ":2: extent 'town' is not zone, country"),
        (ZONE_HEADER + 2 * "AA,a,C,AA,AAA,1,1,zone,,,,,,\n", ":3: 'AA' stands there twice"),
    ],
)
def test_malformed_zones_are_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        parse_zones(text, "mine.csv")
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CLOUD_HEADER, "mine.csv: no rows"),
        (CLOUD_HEADER + "aws,a,AA,1,y,t\n", "mine.csv:2: 'y' is not a number of degrees"),
        (CLOUD_HEADER + 2 * "aws,a,AA,1,1,t\n", "mine.csv:3: 'aws:a' stands there twice"),
    ],
)
def test_malformed_cloud_regions_are_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidDataError, match=says):
        parse_cloud_regions(text, "mine.csv")


@pytest.mark.parametrize(
    ("name", "zone_id"),
    [
        ("Germany", "DE"),
        ("united kingdom", "GB"),
        ("SouthKorea", "KR"),
        ("country:France", "FR"),
    ],
)
def test_countries_go_by_their_names(name: str, zone_id: str) -> None:
    assert load_regions().resolve(name).zone_id == zone_id


def test_country_of_several_zones_is_ambiguous_by_its_name_too() -> None:
    with pytest.raises(InvalidInputError, match=r"'Italy' can be IT-CNO.*or zone:IT for all of it"):
        load_regions().resolve("Italy")
