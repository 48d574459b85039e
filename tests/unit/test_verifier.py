import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.verifier import verify

Document = dict[str, Any]
Change = Callable[[Document, dict[str, Document]], object]


def at(hour: float) -> str:
    minutes = round(hour * 60)
    return f"2022-03-01T{minutes // 60:02}:{minutes % 60:02}:00Z"


def snapshot() -> Document:
    clean = [100.0] * 24
    clean[2] = clean[3] = 50.0
    clean[20] = None  # type: ignore[call-overload]
    shares = [0.5] * 24
    shares[5] = 0.4
    start = {"start": at(0), "step": "1h"}
    return {
        "schema": "gridtide/snapshot/v1",
        "now": at(0),
        "slot": "1h",
        "horizon": "24h",
        "clusters": [
            {
                "id": "a",
                "region": "ra",
                "zone": "ZA",
                "pue": 1.0,
                "price_per_gpu_hour": 2.0,
                "capacity": {"H100": 8, "A100": 8},
                "reserved": [{"accelerator": "H100", "gpus": 6, "start": at(4), "end": at(4.5)}],
            },
            {
                "id": "b",
                "region": "rb",
                "zone": "ZB",
                "pue": [1.5] * 12 + [1.25] * 12,
                "capacity": {"A100": 4},
            },
        ],
        "intensity": {
            "ZA": {**start, "g_per_kwh": clean, "renewable_share": shares},
            "ZB": {**start, "g_per_kwh": [200.0] * 24},
        },
        "jobs": [
            {
                "id": "whole",
                "duration": "2h",
                "not_before": at(1),
                "start_by": at(4),
                "deadline": at(6),
                "resources": {"accelerators": "H100:4"},
                "power_w": 4000,
                "regions": ["ra"],
                "max_cost": 16.0,
                "max_carbon_g": 400.0,
                "min_renewable_share": 0.5,
            },
            {
                "id": "paused",
                "duration": "3h",
                "deadline": at(10),
                "resources": {"accelerators": "A100:2"},
                "power_w": 1000,
                "regions": ["ra"],
                "interruptible": {
                    "min_chunk": "1h",
                    "checkpoint_cost": "30m",
                    "max_interruptions": 1,
                },
                "after": ["whole"],
            },
            {
                "id": "wide",
                "duration": "4h",
                "patience": "20h",
                "resources": {"accelerators": "A100:1"},
                "forbid_regions": ["ra"],
                "elastic": {
                    "min": 1,
                    "max": 4,
                    "profile": [
                        {"gpus": 1, "throughput": 1.0, "power_w": 500},
                        {"gpus": 2, "throughput": 1.8, "power_w": 900},
                        {"gpus": 4, "throughput": 3.0, "power_w": 1600},
                    ],
                },
            },
            {
                "id": "moved",
                "duration": "1h",
                "deadline": at(23),
                "resources": {
                    "any_of": [
                        {"accelerators": "H100:8", "power_w": 8000},
                        {"accelerators": "A100:4", "duration": "2h", "power_w": 2000},
                    ]
                },
                "data": {"gb": 450, "region": "rb"},
            },
            {"id": "late", "duration": "9h", "deadline": at(2), "power_w": 10},
            {"id": "lost", "duration": "1h", "deadline": at(9), "power_w": 10, "after": ["late"]},
        ],
    }


def placement(job: str, where: str, spans: list[tuple[float, float, int]], **sums: float) -> Any:
    cluster, accelerator = where.split("/")
    return {
        "job": job,
        "cluster": cluster,
        "accelerator": accelerator,
        "segments": [{"start": at(s), "end": at(e), "gpus": g} for s, e, g in spans],
        **sums,
        "reasons": [],
    }


def plan() -> Document:
    # whole: 2 h x 4 kW at 50; at 1:00 it would have 100 and 50.
    # paused: 3 h and one restore of 0.5 h x 1 kW at 100; at once: 100, 100, 50.
    # wide: 4 h of one device are 3 (an hour of four) + 1; 1.6 x 1.5 + 0.5 x 1.25 kWh at 200.
    # moved: 2 h x 2 kW + 450 x 0.001 kWh at 100; on eight H100 at once: 8 + 0.45 kWh.
    placed = [
        ("whole", "a/H100", [(2, 4, 4)], 8.0, 400.0, 600.0),
        ("paused", "a/A100", [(4, 5, 2), (6, 8.5, 2)], 3.5, 350.0, 250.0),
        ("wide", "b/A100", [(11, 12, 4), (12, 13, 1)], 3.025, 605.0, 600.0),
        ("moved", "a/A100", [(9, 11, 4)], 4.45, 445.0, 845.0),
    ]
    return {
        "schema": "gridtide/plan/v1",
        "emissions_g": 1800.0,
        "baseline_g": 2295.0,
        "lower_bound_g": 1500.0,
        "gap": 0.2,
        "assumptions": {
            "data_kwh_per_gb": 0.001,
            "data_gb_per_s": 0.125,
            "data_price_per_gb": 0.02,
        },
        "placements": [
            placement(job, where, spans, energy_kwh=kwh, emissions_g=grams, baseline_g=home)  # type: ignore[arg-type]
            for job, where, spans, kwh, grams, home in placed
        ],
        "unplaced": [
            {"job": "late", "reason": "PAST_DEADLINE", "detail": "", "earliest_finish": None},
            {"job": "lost", "reason": "AFTER_UNPLACED", "detail": "", "earliest_finish": None},
        ],
    }


def test_the_right_plan_has_no_violation() -> None:
    assert verify(snapshot(), plan()) == []


def spans(job: str, *found: tuple[float, float, int]) -> Change:
    """The job runs at these times instead."""

    def change(_: Document, placed: dict[str, Document]) -> None:
        placed[job]["segments"] = placement(job, "a/A100", list(found))["segments"]

    return change


def value(job: str, key: str, new: object) -> Change:
    return lambda _, placed: placed[job].__setitem__(key, new)


def of_plan(key: str, new: object) -> Change:
    return lambda whole, _: whole.__setitem__(key, new)


BROKEN: dict[str, tuple[str, Change]] = {
    "left out": ("late: job", lambda whole, _: whole["unplaced"].pop(0)),
    "named twice": ("late: job", lambda whole, _: whole["unplaced"].append(whole["unplaced"][0])),
    "placed twice": (
        "whole: job: it is placed twice",
        lambda whole, placed: whole["placements"].append(placed["whole"]),
    ),
    "placed and not": (
        "whole: job",
        lambda whole, _: whole["unplaced"].append({"job": "whole", "reason": "NO_CAPACITY"}),
    ),
    "unknown job": ("ghost: job", value("whole", "job", "ghost")),
    "unknown reason": ("late: reason", lambda whole, _: whole["unplaced"][0].pop("reason")),
    "unknown cluster": ("whole: cluster", value("whole", "cluster", "c")),
    "no segments": ("whole: segments", spans("whole")),
    "backwards": ("whole: segments", spans("whole", (4, 2, 4))),
    "out of order": ("paused: segments", spans("paused", (6, 8.5, 2), (4, 5, 2))),
    "outside the allow-list": ("paused: regions", value("paused", "cluster", "b")),
    "in a forbidden region": ("wide: regions", value("wide", "cluster", "a")),
    "other hardware": ("whole: resources", value("whole", "accelerator", "A100")),
    "hardware that is not there": ("wide: resources", value("wide", "accelerator", "H100")),
    "fewer devices": ("whole: resources", spans("whole", (2, 4, 3))),
    "too short": ("whole: length", spans("whole", (2, 3.5, 4))),
    "too long": ("whole: length", spans("whole", (2, 4.25, 4))),
    "paused though whole": ("whole: segments", spans("whole", (2, 3, 4), (4, 5, 4))),
    "without its restore": ("paused: length", spans("paused", (4, 5, 2), (6, 8, 2))),
    "short segment": ("paused: min_chunk", spans("paused", (4, 4.5, 2), (6, 9, 2))),
    "too many pauses": (
        "paused: max_interruptions",
        spans("paused", (4, 5, 2), (6, 7, 2), (8, 10, 2)),
    ),
    "short pause": ("paused: pause", spans("paused", (4, 5, 2), (5.5, 8, 2))),
    "no such width": ("wide: elastic", spans("wide", (11, 12, 3), (12, 13, 1))),
    "width off borders": ("wide: elastic", spans("wide", (11, 12.5, 4), (12.5, 13, 1))),
    "not enough work": ("wide: elastic", spans("wide", (11, 12, 4))),
    "idle in between": ("wide: segments", spans("wide", (11, 12, 4), (13, 14, 1))),
    "before its time": ("whole: not_before", spans("whole", (0.5, 2.5, 4))),
    "started late": ("whole: start_by", spans("whole", (4.5, 6.5, 4))),
    "ended late": ("whole: deadline", spans("whole", (4.5, 6.5, 4))),
    "before its data": ("moved: data", spans("moved", (0.5, 2.5, 4))),
    "before what it waits for": ("paused: after", spans("paused", (3.5, 6.5, 2))),
    "after one without a place": (
        "paused: after: is placed",
        lambda whole, placed: whole["placements"].remove(placed["whole"]),
    ),
    "beside a reservation": ("a: capacity", spans("whole", (4.25, 6.25, 4))),
    "beside others": ("a: capacity", spans("moved", (3, 5, 7))),
    "unknown intensity": ("moved: intensity", spans("moved", (19.5, 21.5, 4))),
    "energy": ("moved: footprint", value("moved", "energy_kwh", 4.0)),
    "grams": ("wide: footprint", value("wide", "emissions_g", 605.1)),
    "baseline": ("moved: baseline_g", value("moved", "baseline_g", 800.0)),
    "money": ("whole: max_cost", value("whole", "cluster", "b")),
    "cost": ("whole: cost", value("whole", "cost", 15.0)),
    "carbon": ("whole: max_carbon_g", value("whole", "emissions_g", 400.1)),
    "renewables": ("whole: min_renewable_share", spans("whole", (3.5, 5.5, 4))),
    "sum of grams": ("plan: emissions_g", of_plan("emissions_g", 1801.0)),
    "sum of baselines": ("plan: baseline_g", of_plan("baseline_g", 2294.0)),
    "bound": ("plan: lower_bound_g", of_plan("lower_bound_g", 1801.0)),
    "gap": ("plan: gap", of_plan("gap", 0.19)),
    "assumptions": ("assumptions", lambda whole, _: whole.pop("assumptions")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_reported(case: str) -> None:
    begins, change = BROKEN[case]
    broken = copy.deepcopy(plan())
    change(broken, {one["job"]: one for one in broken["placements"]})
    found = verify(snapshot(), broken)
    assert any(one.startswith(begins) for one in found), found


def test_now_is_the_earliest_start() -> None:
    asked = snapshot()
    asked["now"] = at(2.5)
    assert any(one.startswith("whole: now") for one in verify(asked, plan()))


def test_a_pue_list_longer_than_a_day_begins_in_the_slot_of_now() -> None:
    asked, made = snapshot(), plan()
    asked["now"] = at(0.5)
    asked["clusters"][1]["pue"] = [1.5] * 12 + [1.25] * 13
    assert not [one for one in verify(asked, made) if one.startswith("wide: footprint")]
    asked["clusters"][1]["pue"] = [1.5] * 11 + [1.25] * 14
    assert [one for one in verify(asked, made) if one.startswith("wide: footprint")]


def test_an_elastic_job_that_restores_does_no_work_meanwhile() -> None:
    asked, made = snapshot(), plan()
    asked["jobs"][2]["interruptible"] = {"min_chunk": "1h", "checkpoint_cost": "30m"}
    spans("wide", (11, 12, 4), (13, 14, 1))(made, {"wide": made["placements"][2]})
    # Half of the second hour restores: 3 + 0.5 of 4.
    assert any(one.startswith("wide: elastic: work 3.5") for one in verify(asked, made))
    spans("wide", (11, 12, 4), (13, 15, 1))(made, {"wide": made["placements"][2]})
    assert not any(one.startswith("wide: elastic") for one in verify(asked, made))


def test_capacity_holds_at_every_instant_and_ends_are_free() -> None:
    asked, made = snapshot(), plan()
    asked["clusters"][0]["reserved"][0] |= {"gpus": 8, "start": at(4), "end": at(23)}
    assert not [one for one in verify(asked, made) if "capacity" in one]
    asked["clusters"][0]["reserved"][0]["start"] = "2022-03-01T03:59:59.5Z"
    assert [one for one in verify(asked, made) if "capacity" in one]
