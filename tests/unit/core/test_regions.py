"""Names of places: what they mean, what is refused, and what the refusal says."""

from dataclasses import replace

import pytest

from scheduler.core.errors import InvalidDataError, InvalidInputError, NotFoundError
from scheduler.core.names import nearest
from scheduler.core.regions import CloudRegion, Extent, How, RegionTable, Zone


def zone(zone_id: str, latitude: float = 0, longitude: float = 0, **fields: object) -> Zone:
    base = Zone(
        zone_id=zone_id,
        name=f"grid {zone_id}",
        country="C",
        alpha2=zone_id[:2],
        alpha3=f"{zone_id[:2]}X",
        latitude=latitude,
        longitude=longitude,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def cloud(name: str, zone_id: str, latitude: float = 0, longitude: float = 0) -> CloudRegion:
    provider, region = name.split(":")
    return CloudRegion(
        provider=provider,
        region=region,
        zone_id=zone_id,
        latitude=latitude,
        longitude=longitude,
        place=f"town of {region}",
    )


TABLE = RegionTable(
    [
        zone(
            "AA",
            50,
            10,
            keys=(("entsoe", "10YAA----------X"), ("energy_charts", "aa"), ("alias", "Old")),
        ),
        zone("AA-ISL", 40, 10),
        zone("AA-CAPITAL", 50, 10, extent=Extent.PART, keys=(("neso", "7"),)),
        zone("BB", 10, 10, extent=Extent.COUNTRY, keys=(("energy_charts", "bb"),)),
        zone("BB-N", 12, 10, keys=(("eia", "NNN"),)),
        zone("BB-S", 8, 10),
        zone("CC-1", -17, 179.9),
        zone("CC-2", -17, 170),
        zone("DD-X", -60, 10),
    ],
    [
        cloud("aws:up-north-1", "BB-N", 12.5, 10.5),
        cloud("gcp:up-north1", "BB-S", 8.5, 10.5),
        cloud("azure:northup", "AA", 50.1, 8.7),
        cloud("aws:both", "AA"),
        cloud("gcp:both", "BB-N"),
        cloud("gcp:same", "AA"),
        cloud("azure:same", "AA"),
    ],
    {"my dc": "AA", "attic": "home"},
)


@pytest.mark.parametrize(
    ("text", "name", "how", "zone_id"),
    [
        ("AA", "AA", How.ZONE, "AA"),
        (" aa\t", "AA", How.ZONE, "AA"),
        ("zone:AA", "AA", How.ZONE, "AA"),
        ("aa-isl", "AA-ISL", How.ZONE, "AA-ISL"),
        ("AA-Capital", "AA-CAPITAL", How.ZONE, "AA-CAPITAL"),
        ("zone:BB", "BB", How.ZONE, "BB"),
        ("up-north-1", "aws:up-north-1", How.CLOUD_REGION, "BB-N"),
        ("AWS:Up-North-1", "aws:up-north-1", How.CLOUD_REGION, "BB-N"),
        ("aws/up-north-1", "aws:up-north-1", How.CLOUD_REGION, "BB-N"),
        ("up-north-1a", "aws:up-north-1", How.CLOUD_REGION, "BB-N"),
        ("aws:up-north-1f", "aws:up-north-1", How.CLOUD_REGION, "BB-N"),
        ("up-north1", "gcp:up-north1", How.CLOUD_REGION, "BB-S"),
        ("up-north1-b", "gcp:up-north1", How.CLOUD_REGION, "BB-S"),
        ("gcp/up-north1-b", "gcp:up-north1", How.CLOUD_REGION, "BB-S"),
        ("North Up", "azure:northup", How.CLOUD_REGION, "AA"),
        ("northup-3", "azure:northup", How.CLOUD_REGION, "AA"),
        ("gcp:both", "gcp:both", How.CLOUD_REGION, "BB-N"),
        ("same", "gcp:same", How.CLOUD_REGION, "AA"),
        ("10yaa----------x", "entsoe:10YAA----------X", How.PROVIDER_KEY, "AA"),
        ("entsoe:10YAA----------X", "entsoe:10YAA----------X", How.PROVIDER_KEY, "AA"),
        ("nnn", "eia:NNN", How.PROVIDER_KEY, "BB-N"),
        ("old", "Old", How.PROVIDER_KEY, "AA"),
        ("neso:7", "neso:7", How.PROVIDER_KEY, "AA-CAPITAL"),
        ("energy_charts:bb", "energy_charts:bb", How.PROVIDER_KEY, "BB"),
        # The zone that bears the code of the country, not the island beside it.
        ("AAX", "AA", How.COUNTRY, "AA"),
        ("country:aa", "AA", How.COUNTRY, "AA"),
        ("DD", "DD-X", How.COUNTRY, "DD-X"),
        ("my dc", "my dc", How.SITE, "AA"),
        ("site:MY DC", "my dc", How.SITE, "AA"),
    ],
)
def test_name_is_one_zone(text: str, name: str, how: How, zone_id: str) -> None:
    found = TABLE.resolve(text)
    assert (found.name, found.how, found.zone_id) == (name, how, zone_id)
    assert not found.is_approximate


def test_name_brings_the_place_where_one_is_known() -> None:
    region = TABLE.resolve("up-north-1")
    assert (region.place, region.latitude, region.longitude) == ("town of up-north-1", 12.5, 10.5)
    key = TABLE.resolve("nnn")
    assert (key.place, key.latitude, key.longitude) == ("grid BB-N", 12, 10)
    own = TABLE.resolve("attic")
    assert (own.zone_id, own.place, own.latitude, own.longitude) == ("home", None, None, None)


def test_precedence_is_site_zone_cloud_region_provider_key_country() -> None:
    every = [
        zone("XX", keys=(("alias", "YY"), ("alias", "ZZ"), ("alias", "up-1a"))),
        zone("YY-1"),
        zone("QQ-1", alpha3="YY"),
    ]
    plain = RegionTable(every, [])
    assert plain.resolve("YY").how is How.PROVIDER_KEY
    clouded = RegionTable(every, [cloud("aws:YY", "QQ-1"), cloud("aws:up-1", "QQ-1")])
    assert clouded.resolve("YY").how is How.CLOUD_REGION
    # A whole name goes before the availability zone that it could be.
    assert clouded.resolve("up-1a").how is How.PROVIDER_KEY
    assert clouded.resolve("aws:up-1a").how is How.CLOUD_REGION
    zoned = RegionTable([*every, zone("YY")], clouded.regions)
    assert zoned.resolve("YY").how is How.ZONE
    sited = zoned.with_sites({"YY": "XX"})
    assert (sited.resolve("YY").how, sited.resolve("YY").zone_id) == (How.SITE, "XX")
    assert sited.resolve("zone:YY").zone_id == "YY"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("BB", "'BB' can be BB-N, BB-S; name one of them, or zone:BB for all of it"),
        ("bbx", "'bbx' can be BB-N, BB-S; name one of them, or zone:BB for all of it"),
        ("country:BB", "can be BB-N, BB-S"),
        ("CC", "'CC' can be CC-1, CC-2; name one of them"),
        ("both", "'both' can be aws:both (AA), gcp:both (BB-N); name one of them"),
    ],
)
def test_ambiguous_name_is_refused_with_all_that_it_can_be(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        TABLE.resolve(text)
    assert says in caught.value.message
    assert caught.value.fields["value"] == text


def test_long_list_of_zones_is_cut_in_the_message_only() -> None:
    table = RegionTable([zone(f"US-{n:02}") for n in range(15)], [])
    with pytest.raises(InvalidInputError, match=r"US-11 and 3 more; name one of them$") as caught:
        table.resolve("US")
    assert str(caught.value.fields["valid"]).endswith("US-13, US-14")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("up-nroth-1", "did you mean up-north-1"),
        ("aws:up-noth-1", "did you mean aws:up-north-1"),
        ("gcp/up-north-1", "gcp:up-north1"),
        ("up-north-1-lax-1a", "did you mean up-north-1"),
        ("nothing of the kind", "`gridtide regions --all` lists them"),
        ("", "`gridtide regions --all` lists them"),
        ("7", "`gridtide regions --all` lists them"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        TABLE.resolve(text)
    assert caught.value.message.startswith(f"{text!r} is not a zone")
    assert hint in caught.value.message


def test_coordinates_are_the_nearest_place_marked_as_approximate() -> None:
    found = TABLE.resolve("51,10")
    # One degree of latitude: 6371.0088 km x pi / 180.
    assert found.distance_km == pytest.approx(111.195, abs=0.001)
    assert (found.name, found.zone_id, found.how) == ("AA", "AA", How.NEAREST_PLACE)
    assert found.is_approximate
    assert (found.latitude, found.longitude) == (51, 10)
    assert TABLE.resolve(" +50.1 , 8.7").name == "azure:northup"
    assert TABLE.resolve("50.,10").distance_km == 0


def test_antimeridian_is_no_border() -> None:
    found = TABLE.resolve("-17,-179.9")
    # 0.2 degrees of longitude at 17 degrees south: 0.2 x 111.195 km x cos 17.
    assert found.distance_km == pytest.approx(21.27, abs=0.01)
    assert found.zone_id == "CC-1"


def test_pole_is_as_far_from_every_longitude() -> None:
    table = RegionTable([zone("PP", 89, 0)], [])
    assert table.resolve("90,180").distance_km == pytest.approx(111.195, abs=0.001)
    assert table.resolve("90,0").distance_km == pytest.approx(111.195, abs=0.001)


def test_point_far_from_every_place_is_refused_with_the_distance() -> None:
    # 3 degrees north of AA.
    with pytest.raises(NotFoundError, match=r"grid AA in AA, 334 km away; beyond 250 km"):
        TABLE.resolve("53,10")


def test_point_between_two_zones_is_refused_with_both() -> None:
    # BB-N is 1.5 degrees away, the region of BB-S 2.06.
    with pytest.raises(InvalidInputError) as caught:
        TABLE.resolve("10.5,10")
    assert caught.value.message == (
        "'10.5,10' is near BB-N (grid BB-N, 167 km), BB-S (town of up-north1, 229 km); name the zone"
    )


@pytest.mark.parametrize(
    "text",
    ["90.1,0", "0,180.5", "-91,0", "nan,0", "1e1,2", "1,2,3", "52,5,13,4", ",", "a,b", "٥٢,١٣"],
)
def test_what_cannot_be_coordinates_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"latitude,longitude in degrees .*52\.5,13\.4"):
        TABLE.resolve(text)


@pytest.mark.parametrize(("latitude", "longitude"), [(90.5, 0), (0, 181), (float("nan"), 0)])
def test_place_off_the_earth_is_refused(latitude: float, longitude: float) -> None:
    with pytest.raises(InvalidDataError, match="AA: latitude"):
        zone("AA", latitude, longitude)
    with pytest.raises(InvalidDataError, match="aws:x: latitude"):
        cloud("aws:x", "AA", latitude, longitude)


def test_region_in_a_zone_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="aws:x: zone 'ZZ' is not in the table"):
        RegionTable([zone("AA")], [cloud("aws:x", "ZZ")])


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ("us-esat-1", "us-east-1"),  # swapped
        ("us-eas-1", "us-east-1"),  # left out
        ("us-easst-1", "us-east-1"),  # put in
        ("US-EAST-3", "us-east-1"),  # another
        ("us-wes-1", "us-west-1"),
    ],
)
def test_name_with_the_fewest_slips_comes_first(given: str, first: str) -> None:
    assert nearest(given, ["us-east-1", "us-west-1", "us-west1", "eu-east-1"])[0] == first
