"""Forecasts have errors: who waits, who moves, and who stays where an earlier plan put it.

One hour at 1 kW emits as many grams as the intensity says; its standard deviation is the error of that hour.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.job import Placement
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.regret import BAND
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot
from scheduler.core.terms import Elastic, Interruptible, Limits, Width
from scheduler.core.timegrid import Window
from tests.unit.core.builders import (
    at,
    cluster,
    hours_of,
    place_of,
    request,
    reservation,
    snapshot,
    with_errors,
)

NAN = float("nan")


def held(start: float, *, hours: float = 1, **fields: object) -> Placement:
    known: dict[str, object] = {
        "job_id": "job",
        "cluster_id": "c-de",
        "region_id": "r-de",
        "zone_id": "DE",
        "option": 0,
        "accelerator": "H100",
        "gpus": 1,
        "power_w": 1000.0,
        "pue": 1.0,
        "segments": (Window(at(start), at(start + hours)),),
        "energy_kwh": hours,
        "planned_g": None,
        "provenance": None,
    }
    return Placement(**(known | fields))  # type: ignore[arg-type]


def start_of(made: PlanSnapshot) -> float:
    return hours_of(place_of(build_plan(made), "job"))[0][0]


def asking(g: Sequence[float], *jobs: PlanRequest, errors: Sequence[float] = ()) -> PlanSnapshot:
    made = snapshot({"DE": g}, jobs or [request(hours=1, deadline=len(g))], hours=len(g))
    return with_errors(made, errors) if errors else made


def job(start: float | None = None, **fields: object) -> PlanRequest:
    at_first = None if start is None else held(start)
    return request(**{"hours": 1, "deadline": 4, "held": at_first, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("errors", "start"),
    [
        # Waiting gains 20 g. Errors: 0.276 x 70 = 19.3 g, 0.276 x 75 = 20.7 g.
        ((0, 70), 1),
        ((0, 75), 0),
        # Of two independent errors: 0.276 x sqrt(50^2 + 50^2) = 19.5 g, with 52 g each 20.3 g.
        ((50, 50), 1),
        ((52, 52), 0),
        # An error of neither hour changes nothing.
        ((0, 0, 900), 1),
    ],
)
def test_new_job_waits_only_for_a_gain_above_the_expected_regret(
    errors: tuple[float, ...], start: float
) -> None:
    assert start_of(asking([100, 80, 200, 200], errors=errors)) == start


@pytest.mark.parametrize(("errors", "start"), [((0, 70), 1), ((0, 75), 0), ((52, 52), 0)])
def test_held_job_moves_only_for_a_gain_above_the_expected_regret(
    errors: tuple[float, ...], start: float
) -> None:
    assert start_of(asking([100, 80, 200, 200], job(0), errors=errors)) == start


def test_band_is_where_the_gain_equals_its_expected_regret() -> None:
    # Unit normal loss: phi(z) - z (1 - Phi(z)) at z = 0.276 is 0.3840 - 0.276 x 0.3913 = 0.2760.
    assert pytest.approx(0.3840 - BAND * 0.3913, abs=1e-4) == BAND


def test_errors_of_one_run_add_up_with_its_draw_its_parts_of_hours_and_the_pue() -> None:
    # From 0:30 on at 2 kW and PUE 1.5, 90 minutes: 3 x (100 / 2 + 100) = 450 g; from 1:30 on 3 x (100 / 2 + 80) = 390 g.
    # Gain 60 g. An error e of hour 2 alone: 0.276 x 3 e, which is 60 g at e = 72.5.
    clusters = (cluster(pue=1.5),)
    asked = request("job", clusters, hours=1.5, earliest=0.5, deadline=4, power_w=2000)
    for error, start in ((72, 1.5), (73, 0.5)):
        made = snapshot({"DE": [100, 100, 80, 100]}, [asked], clusters=clusters, hours=4)
        assert start_of(with_errors(made, [0, 0, error])) == start


def test_errors_of_a_job_of_several_widths_follow_its_draw() -> None:
    # Work of 3: at width 2 (2 kW) in hour 1 and at width 1 in hour 2, 2 x 50 + 60 = 160 g, rather than whole
    # from hour 0 on: 100 + 50 + 60 = 210 g. Gain 50 g; an error e of hour 1 is 2 e there and e in the other.
    widths = tuple(Width(gpus=n, throughput=float(n), power_w=1000.0 * n) for n in (1, 2))
    clusters = (cluster(gpus=2),)
    asked = request("job", clusters, hours=3, deadline=4, elastic=Elastic(widths=widths))
    for error, start in ((80, 1), (82, 0)):  # 0.276 x sqrt(5) x 81.02 = 50
        made = snapshot({"DE": [100, 50, 60, 900]}, [asked], clusters=clusters, hours=4)
        assert start_of(with_errors(made, [0, error])) == start


def test_without_errors_a_new_job_waits_for_any_gain() -> None:
    assert start_of(asking([100, 99.999, 200, 200])) == 1


def test_without_errors_a_held_job_moves_for_any_gain_but_not_for_none() -> None:
    assert start_of(asking([100, 99.999, 200, 200], job(0))) == 1
    assert start_of(asking([100, 100, 100, 100], job(2))) == 2


def test_held_job_stays_where_it_is_best() -> None:
    assert start_of(asking([100, 80, 200, 200], job(1), errors=(0, 500))) == 1


def test_held_job_does_not_start_at_once_instead() -> None:
    # A new job would not wait for 1 g; the held one is no new one, and its hour is 1 g better.
    assert start_of(asking([100, 99, 200, 200], job(1), errors=(50, 50))) == 1


@pytest.mark.parametrize(
    "asked",
    [
        job(3, deadline=3),
        job(0, earliest=1),
        job(3, start_by=2),
        job(3, hours=1.5),
        job(3, clusters=(cluster(name="c-new"),)),
        replace(job(), held=held(3, option=1)),
        replace(job(), held=held(3, segments=(Window(at(0), at(0.5)), Window(at(3), at(3.5))))),
        replace(job(), held=held(3, hours=2)),
    ],
    ids=["deadline", "earliest", "start_by", "length", "cluster", "option", "pieces", "too long"],
)
def test_held_place_that_the_job_no_longer_allows_is_given_up(asked: PlanRequest) -> None:
    where = (asked.choices[0].cluster,)
    made = snapshot({"DE": [100, 100, 100, 100]}, [asked], clusters=where, hours=4)
    found = hours_of(place_of(build_plan(made), "job"))
    assert found[0][0] in (0, 1)
    assert len(found) == 1


def test_held_place_that_no_forecast_covers_is_given_up() -> None:
    assert start_of(asking([100, 100, 100, NAN], job(3))) == 0


def test_held_place_without_room_is_given_up() -> None:
    taken = [reservation(3, 4)]
    assert start_of(snapshot({"DE": [100] * 4}, [job(3)], hours=4, reserved=taken)) == 0


def test_of_two_jobs_held_in_one_place_one_stays() -> None:
    jobs = [job(3, name="a"), job(3, name="b")]
    found = build_plan(snapshot({"DE": [100] * 4}, jobs, hours=4))
    starts = {hours_of(one)[0][0] for one in found.placements}
    assert starts in ({3, 0}, {3, 1}, {3, 2})


def test_job_that_stays_takes_its_place_and_frees_the_other() -> None:
    found = build_plan(asking([100] * 4, job(2)))
    assert found.memory is not None
    assert found.memory.left.free.tolist() == [[1, 1, 0, 1]]


def test_place_without_a_forecast_is_not_compared() -> None:
    # Fail open, the job starts at once where nothing is known; there are no grams to weigh.
    made = snapshot({"DE": []}, [job(2)], hours=4, is_fail_open=True)
    assert start_of(made) == 0
    # Starting at once in hour 0, of which nothing is known, is no alternative to hour 1.
    assert start_of(asking([NAN, 80, 200, 200], errors=(500, 500))) == 1


def test_jobs_of_a_chain_stay_in_their_order() -> None:
    jobs = (
        request("first", hours=1, deadline=4),
        request("job", hours=1, deadline=4, after=("first",)),
    )
    found = build_plan(asking([100, 80, 100, 80], *jobs, errors=(500, 500, 500, 500)))
    first, then = place_of(found, "first"), place_of(found, "job")
    assert first.window.end_at <= then.window.start_at


def test_starting_at_once_keeps_the_limits_of_the_job() -> None:
    # Hour 0 is within the expected regret of hour 1, but emits more than the job may.
    limited = job(limits=Limits(max_carbon_g=90))
    assert start_of(asking([100, 80, 200, 200], limited, errors=(0, 75))) == 1
    # It is also less renewable than the job asks.
    made = asking([100, 80, 200, 200], job(limits=Limits(min_renewable_share=0.5)), errors=(0, 75))
    forecast = with_shares(made, [0.4, 0.6, 0.6, 0.6])
    assert start_of(forecast) == 1


def with_shares(made: PlanSnapshot, *shares: Sequence[float]) -> PlanSnapshot:
    return replace(made, forecast=replace(made.forecast, renewable_share=np.array(shares)))


def test_staying_keeps_the_limits_of_the_job() -> None:
    limited = job(0, limits=Limits(max_carbon_g=90))
    assert start_of(asking([100, 80, 200, 200], limited, errors=(0, 75))) == 1


def priced(*, errors: bool, limits: Limits, start: Placement | None = None) -> PlanSnapshot:
    """A dear clean place that is free at once, and a cheap dirty one that is free later."""
    dear = cluster("FR", price_per_gpu_hour=10.0)
    cheap = cluster("DE", price_per_gpu_hour=1.0)
    asked = request("job", (dear, cheap), hours=1, deadline=4, limits=limits, held=start)
    made = snapshot(
        {"FR": [50.0] * 4, "DE": [60.0] * 4},
        [asked],
        clusters=(dear, cheap),
        hours=4,
        reserved=[reservation(0, 1)],
    )
    return with_errors(made, [50.0] * 4, [50.0] * 4) if errors else made


def test_starting_at_once_is_not_worth_more_money_than_the_job_pays() -> None:
    found = build_plan(priced(errors=True, limits=Limits(max_cost=5)))
    assert place_of(found, "job").cluster_id == "c-de"
    # 10 g at 100 a tonne are worth 0.001; the dear place costs 9 more.
    found = build_plan(priced(errors=True, limits=Limits(carbon_price=100)))
    assert place_of(found, "job").cluster_id == "c-de"


def test_staying_is_not_worth_more_money_than_the_job_pays() -> None:
    dear = held(0, cluster_id="c-fr", region_id="r-fr", zone_id="FR", cost=10.0)
    for limits in (Limits(max_cost=5), Limits(carbon_price=100)):
        found = build_plan(priced(errors=False, limits=limits, start=dear))
        assert place_of(found, "job").cluster_id == "c-de"


def test_new_interruptible_job_does_not_pause_for_less_than_the_expected_regret() -> None:
    # Hours 0 and 2 with a pause emit 160 g, 0 and 1 in one piece 180 g. Errors: 0.276 x sqrt(2 x 60^2) = 23.4 g.
    pauses = Interruptible(min_chunk_s=3600, checkpoint_cost_s=0)
    asked = job(hours=2, interruptible=pauses)
    g = [80.0, 100, 80, 200]
    assert hours_of(place_of(build_plan(asking(g, asked)), "job")) == [(0, 1), (2, 3)]
    found = build_plan(asking(g, asked, errors=(0, 60, 60)))
    assert hours_of(place_of(found, "job")) == [(0, 2)]
