"""What is configured: names, clusters, devices."""

from dataclasses import replace

import pytest

from scheduler.core.errors import (
    InvalidConfigError,
    InvalidDataError,
    InvalidJobError,
    NotFoundError,
)
from scheduler.core.fleet import Fleet
from scheduler.core.hardware import UTILISATION, Accelerator, HardwareTable
from scheduler.core.names import suggest
from scheduler.core.timegrid import SlotGrid
from tests.unit.core.builders import HOUR, at, cluster


def test_suggestion_is_the_nearest_name_whatever_its_case() -> None:
    assert suggest("EU-DEE", ["eu-de", "us-tx"]) == "did you mean eu-de?"
    assert suggest("xyz", ["b", "a"]) == "known: a, b"
    assert suggest("xyz", []) == "none is configured"
    assert suggest("zzz", [f"name-{n:02}" for n in range(15)]).endswith("name-11 and 3 more")


@pytest.mark.parametrize("pue", [0.9, 5.1, float("nan")])
def test_impossible_pue_is_refused(pue: float) -> None:
    with pytest.raises(InvalidConfigError, match=r"clusters\.c-de\.pue"):
        cluster(pue=pue)


@pytest.mark.parametrize("fields", [{"pue_by_hour": (1.2, 1.3)}, {"pue_by_hour": (0.9,) * 24}])
def test_hourly_pue_is_24_possible_values(fields: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(InvalidConfigError, match=r"^clusters\.c-de\.pue: "):
        replace(cluster(), **fields)  # type: ignore[arg-type]


def test_pue_of_a_slot_is_the_mean_over_its_hours() -> None:
    night_day = (1.0,) * 12 + (1.4,) * 12
    by_day = replace(cluster(), pue_by_hour=night_day)
    # From 8:00: slots of 8 h, of which noon halves the first.
    grid = SlotGrid(at(8), 8 * HOUR, 3)
    assert by_day.pue_on(grid) == pytest.approx([1.2, 1.4, 1.0])
    assert cluster(pue=1.3).pue_on(grid) == pytest.approx([1.3] * 3)
    # A series of its own begins at 12:00 and holds its last value on.
    series = replace(cluster(), pue_by_hour=(1.5, 1.7), pue_from_at=at(12))
    assert series.pue_on(SlotGrid(at(12), HOUR, 4)) == pytest.approx([1.5, 1.7, 1.7, 1.7])


def test_negative_capacity_is_refused_and_zero_is_allowed() -> None:
    with pytest.raises(InvalidConfigError, match=r"capacity\.H100: -1 is negative"):
        cluster(gpus=-1)
    assert cluster(gpus=0).gpus("H100") == 0
    assert cluster().gpus("TPU") == 0


def test_fleet_lists_rows_zones_and_regions_in_the_order_of_the_configuration() -> None:
    fleet = Fleet((cluster("FR"), cluster("DE"), cluster("DE", name="second")))
    assert fleet.rows == (("c-fr", "H100"), ("c-de", "H100"), ("second", "H100"))
    assert fleet.zone_ids == ("FR", "DE")
    assert fleet.region_ids == ("r-fr", "r-de")
    assert [one.cluster_id for one in fleet] == ["c-fr", "c-de", "second"]
    assert fleet.get("second").zone_id == "DE"


def test_unknown_cluster_suggests_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="did you mean c-de"):
        Fleet((cluster(),)).get("c-d")


def test_fleet_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="the fleet is empty"):
        Fleet(())
    with pytest.raises(InvalidConfigError, match="used twice"):
        Fleet((cluster(), cluster()))
    with pytest.raises(InvalidConfigError, match="a region lies in one zone"):
        Fleet((cluster(), replace(cluster("FR"), region_id="r-de")))


H100 = Accelerator(name="H100", tdp_w=700, aliases=("h100-sxm",))


def test_power_is_the_stated_share_of_the_design_power() -> None:
    table = HardwareTable((H100,))
    assert table.get(" H100-SXM ") is H100
    assert table.power_w("h100", 8) == pytest.approx(700 * 8 * UTILISATION)


def test_utilisation_reproduces_the_run_that_it_was_taken_from() -> None:
    # Dodge et al. 2022: 13,812.4 kWh on 256 A100 (TDP 400 W) over 192 h.
    share_of_tdp = 13_812_400 / (256 * 192) / 400
    assert share_of_tdp == pytest.approx(UTILISATION, abs=0.005)


def test_unknown_device_suggests_and_impossible_power_is_refused() -> None:
    with pytest.raises(InvalidJobError, match="did you mean H100"):
        HardwareTable((H100,)).get("H10")
    for tdp_w in (0, -1, 1e6, float("nan")):
        with pytest.raises(InvalidDataError, match="not a power in watts"):
            Accelerator(name="X", tdp_w=tdp_w)
