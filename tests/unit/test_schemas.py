"""The job as users write it: what becomes of each term, and what is refused how."""

from typing import Any

import pytest

from adapters.hardware_tables import load_hardware
from scheduler.core.errors import InvalidJobError
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.job import Job
from scheduler.core.terms import DataNeed, Elastic, Interruptible, Limits, Width
from scheduler.server.schemas import build_job, parse_job_spec, require_prices
from tests.unit.core.builders import T0

PROFILE = [
    {"gpus": 8, "throughput": 6.0, "power_w": 5600},
    {"gpus": 1, "throughput": 1.0, "power_w": 800},
    {"gpus": 4, "throughput": 3.5, "power_w": 3000},
]


def make(**fields: Any) -> Job:
    document = {
        "name": "train",
        "command": ["true"],
        "duration": "2h",
        "patience": "24h",
        "resources": {"accelerators": "H100:4"},
    } | fields
    return build_job(
        parse_job_spec(document),
        job_id="j1",
        now=T0,
        hardware=load_hardware(),
        region_ids=["eu-de", "eu-fr"],
    )


def elastic(low: int = 1, high: int = 8) -> dict[str, Any]:
    return {"min": low, "max": high, "profile": PROFILE}


def test_every_term_reaches_the_job() -> None:
    made = make(
        data={"gb": 500, "region": "eu-de"},
        carbon_price=80,
        max_cost=12.5,
        max_carbon_g=9000,
        min_renewable_share=0.5,
        after=["a", "b"],
    )
    assert made.data == DataNeed(gb=500, region_id="eu-de")
    assert made.limits == Limits(
        carbon_price=80, max_cost=12.5, max_carbon_g=9000, min_renewable_share=0.5
    )
    assert made.after == ("a", "b")


def test_profile_between_min_and_max_is_used_and_states_the_power() -> None:
    made = make(elastic=elastic(0, 4))
    assert made.elastic == Elastic(
        widths=(
            Width(gpus=1, throughput=1.0, power_w=800),
            Width(gpus=4, throughput=3.5, power_w=3000),
        ),
        may_idle=True,
    )
    assert (made.options[0].power_w, made.options[0].is_power_estimated) == (3000, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"movable": True, "interruptible": True},
        {"movable": True, "interruptible": {"min_chunk": "1h"}},
        {"interruptible": {"movable": True}},
    ],
)
def test_movable_is_taken_at_both_places(fields: dict[str, Any]) -> None:
    assert make(**fields).interruptible == Interruptible(is_movable=True)


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"elastic": elastic(1, 2)}, "elastic", "asks for 4, which is not within min 1 and max 2"),
        ({"elastic": elastic(5, 4)}, "elastic", "min 5 is above max 4"),
        ({"elastic": {"min": 1, "max": 8}}, "elastic.profile", "Field required"),
        ({"elastic": elastic() | {"profile": []}}, "elastic.profile", "at least 1"),
        (
            {"elastic": elastic(), "resources": {"accelerators": "H100:2"}},
            "elastic.profile",
            "no line for 2 gpus",
        ),
        ({"elastic": elastic() | {"profile": PROFILE * 2}}, "elastic.profile", "another number"),
        (
            {"elastic": elastic(), "resources": {"any_of": [{"accelerators": "H100:4"}]}},
            "elastic",
            "cannot be combined with resources.any_of",
        ),
        ({"elastic": elastic() | {"maxi": 8}}, "elastic.maxi", "did you mean max"),
        ({"data": {"gb": 5}}, "data.region", "Field required"),
        ({"data": {"gb": 0, "region": "eu-de"}}, "data.gb", "greater than 0"),
        ({"data": {"gb": "5", "region": "eu-de"}}, "data.gb", "valid number"),
        ({"data": {"gb": 5, "region": "eu-d"}}, "data.region", "did you mean eu-de"),
        ({"carbon_price": -1}, "carbon_price", "greater than or equal to 0"),
        ({"max_cost": True}, "max_cost", "valid number"),
        ({"min_renewable_share": 1.5}, "min_renewable_share", "less than or equal to 1"),
        ({"after": ["a", "b", "a"]}, "after", "'a' is named twice"),
        ({"after": ["j1"]}, "after", "is the job itself"),
        ({"movable": "yes"}, "movable", "boolean"),
        ({"interruptible": {"min_chunk": 5}}, "interruptible.min_chunk", "chunk: 5 has no unit"),
        (
            {"interruptible": 5},
            "interruptible",
            "interruptible: 5 is not valid: it must be a mapping",
        ),
    ],
)
def test_wrong_term_is_refused_by_field_and_valid_form(
    fields: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidJobError) as caught:
        make(**fields)
    assert caught.value.fields["field"] == field
    assert says in caught.value.message


def fleet(*prices: float | None) -> Fleet:
    return Fleet(
        tuple(
            Cluster(
                cluster_id=region,
                region_id=region,
                zone_id=region,
                pue=1.0,
                capacity=(("H100", 8),),
                price_per_gpu_hour=price,
            )
            for region, price in zip(("eu-de", "eu-fr"), prices, strict=True)
        )
    )


def test_money_needs_a_price_at_a_cluster_that_the_job_may_use() -> None:
    require_prices(make(), fleet(None, None))
    require_prices(make(max_cost=5), fleet(None, 2.0))
    for field in ("max_cost", "carbon_price"):
        with pytest.raises(InvalidJobError, match="price_per_gpu_hour") as caught:
            require_prices(make(regions=["eu-de"], **{field: 5}), fleet(None, 2.0))
        assert caught.value.fields["field"] == field
