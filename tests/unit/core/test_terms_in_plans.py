"""What the terms of jobs and places make of a plan: PUE by the hour, data, money, limits, widths, pauses."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.data_moves import DataMove, DataMoves
from scheduler.core.errors import InvalidJobError
from scheduler.core.fleet import Cluster
from scheduler.core.planner import joint
from scheduler.core.planner.columns import build_columns, roughly
from scheduler.core.planner.instance import build_instance, build_market, coarser
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.prices import prove
from scheduler.core.planner.snapshot import (
    Choice,
    Plan,
    PlanRequest,
    PlanSnapshot,
    UnplacedReason,
    Watch,
    choices_of,
    request_of,
)
from scheduler.core.terms import (
    NO_LIMITS,
    DataNeed,
    Elastic,
    Interruptible,
    Limits,
    Width,
)
from tests.unit.core.builders import (
    HOUR,
    at,
    cluster,
    hours_of,
    job,
    option,
    place_of,
    request,
    reservation,
    snapshot,
)

DEAR, CHEAP = (
    cluster("FR", price_per_gpu_hour=10.0),
    cluster("DE", price_per_gpu_hour=1.0),
)
PAUSES = Interruptible(min_chunk_s=HOUR, checkpoint_cost_s=0, max_interruptions=3)


def planned(
    g: Sequence[float], *requests: PlanRequest, where: Cluster | None = None, **fields: object
) -> Plan:
    """The plan on one cluster."""
    one = where or cluster()
    known: dict[str, object] = {"clusters": (one,), "hours": len(g)}
    return build_plan(snapshot({"DE": g}, requests, **(known | fields)))  # type: ignore[arg-type]


def asked(where: Cluster | None = None, **fields: object) -> PlanRequest:
    known: dict[str, object] = {"hours": 1, "deadline": 4}
    return request("job", (where or cluster(),), **(known | fields))  # type: ignore[arg-type]


def refusal(found: Plan) -> tuple[UnplacedReason, str]:
    assert not found.placements
    assert found.lower_bound_g == 0
    return found.unplaced[0].reason, found.unplaced[0].detail


def widths(*gpus: int) -> tuple[Width, ...]:
    """Widths at which each device does as much, and draws 1 kW."""
    return tuple(Width(gpus=n, throughput=float(n), power_w=1000.0 * n) for n in gpus)


# PUE by the hour


def test_hourly_pue_is_in_the_energy_and_in_the_choice_of_the_hour() -> None:
    # 24 values: hour 1 at 1.5 emits 90 x 1.5 = 135 g, hour 2 at 1.2 emits 100 x 1.2 = 120 g.
    where = cluster(pue=1.2, pue_by_hour=(1.2, 1.5) + (1.2,) * 22)
    found = place_of(planned([200, 90, 100, 200], asked(where), where=where), "job")
    assert hours_of(found) == [(2, 3)]
    assert (found.pue, found.energy_kwh) == pytest.approx((1.2, 1.2))
    assert found.planned_g == pytest.approx(120)


def test_pue_of_a_run_is_the_mean_over_its_time() -> None:
    # An hour at 1.2 and half an hour at 1.5: 1.95 kWh in 1.5 hours.
    where = cluster(pue=1.2, pue_by_hour=(1.2, 1.5) * 12)
    found = place_of(planned([100] * 2, asked(where, hours=1.5, deadline=1.5), where=where), "job")
    assert found.energy_kwh == pytest.approx(1.95)
    assert found.pue == pytest.approx(1.3)
    assert found.planned_g == pytest.approx(195)


def test_pue_from_a_time_on_is_not_of_the_day_and_its_last_value_holds() -> None:
    # From hour 1 on: 2.0, 1.1; before it the first value holds, behind them the last.
    where = cluster(pue=1.5, pue_by_hour=(2.0, 1.1), pue_from_at=at(1))
    found = planned([100, 100, 100, 100], asked(where), where=where)
    assert hours_of(place_of(found, "job")) == [(2, 3)]
    assert found.emissions_g == pytest.approx(110)
    assert found.lower_bound_g == pytest.approx(110)
    late = planned([100, 100, 100, 90], asked(where), where=where)
    assert late.emissions_g == pytest.approx(99)
    early = planned([50, 100, 100, 100], asked(where), where=where)
    assert early.emissions_g == pytest.approx(100)


def test_hourly_pue_is_met_by_pauses() -> None:
    # PUE 1 in hours 0 and 2: 200 g with a pause, 300 g in one piece.
    where = cluster(pue=1.5, pue_by_hour=(1.0, 2.0) * 12)
    found = planned([100] * 4, asked(where, hours=2, interruptible=PAUSES), where=where)
    assert hours_of(place_of(found, "job")) == [(0, 1), (2, 3)]
    assert found.emissions_g == pytest.approx(200)
    assert found.lower_bound_g == pytest.approx(200)


# Data


def with_data(
    gb: float, *, moves: DataMoves, limits: Limits = NO_LIMITS, **fields: object
) -> PlanSnapshot:
    """An hour's job whose data are in r-de; r-fr is cleaner and has a PUE of 1.5."""
    clusters = (
        cluster("DE", price_per_gpu_hour=1.0),
        cluster("FR", pue=1.5, price_per_gpu_hour=1.0),
    )
    made = snapshot(
        {"DE": [200.0] * 4, "FR": [80.0, 60, 100, 100]}, clusters=clusters, hours=4, **fields
    )  # type: ignore[arg-type]
    one = job(
        deadline_at=at(4),
        options=(option(duration_s=HOUR),),
        data=DataNeed(gb=gb, region_id="r-de"),
        limits=limits,
    )
    return replace(made, requests=(request_of(one, choices_of(one, made.fleet, moves)),))


def test_moving_data_takes_energy_at_the_destination_without_pue() -> None:
    # 100 GB at 0.005 kWh: 0.5 kWh. Hour 1 in FR: 60 x 1.5 + 60 x 0.5 = 120 g; in DE 200 g without moving.
    found = build_plan(with_data(100, moves=DataMoves(kwh_per_gb=0.005, gb_per_s=1)))
    placed = place_of(found, "j")
    assert (placed.cluster_id, hours_of(placed)) == ("c-fr", [(1, 2)])
    assert placed.energy_kwh == pytest.approx(1.5 + 0.5)
    assert placed.planned_g == pytest.approx(120)
    assert found.lower_bound_g == pytest.approx(120)
    # At 0.02 kWh a GB 90 + 60 x 2 = 210 g: the job stays where its data are.
    found = build_plan(with_data(100, moves=DataMoves(kwh_per_gb=0.02, gb_per_s=1)))
    assert place_of(found, "j").cluster_id == "c-de"
    assert place_of(found, "j").energy_kwh == pytest.approx(1)


def test_moving_data_takes_time_before_the_start() -> None:
    # 5400 GB at 1 GB/s are there after 90 minutes: from 1:30 on 1.5 x (60 / 2 + 100 / 2) = 120 g.
    found = build_plan(with_data(5400, moves=DataMoves(kwh_per_gb=0, gb_per_s=1)))
    placed = place_of(found, "j")
    assert (placed.cluster_id, hours_of(placed)) == ("c-fr", [(1.5, 2.5)])
    assert placed.planned_g == pytest.approx(120)
    # Data that take longer than there is time keep the job at home.
    found = build_plan(with_data(4 * HOUR, moves=DataMoves(kwh_per_gb=0, gb_per_s=1)))
    assert place_of(found, "j").cluster_id == "c-de"


def test_moving_data_costs_money() -> None:
    # 100 GB at 0.02 are 2 beside 1 for the hour.
    moves = DataMoves(kwh_per_gb=0, gb_per_s=1, price_per_gb=0.02)
    assert place_of(build_plan(with_data(100, moves=moves)), "j").cost == pytest.approx(3)
    limited = build_plan(with_data(100, moves=moves, limits=Limits(max_cost=2.5)))
    assert place_of(limited, "j").cluster_id == "c-de"
    # It saves 110 g. At 10 000 a tonne they are worth 1.10, at 20 000 they are worth 2.20.
    for price, where in ((10_000, "c-de"), (20_000, "c-fr")):
        found = build_plan(with_data(100, moves=moves, limits=Limits(carbon_price=price)))
        assert place_of(found, "j").cluster_id == where


@pytest.mark.parametrize(
    "terms",
    [
        {"interruptible": replace(PAUSES, min_chunk_s=HOUR // 2)},
        {"elastic": Elastic(widths=widths(1))},
    ],
    ids=["pauses", "widths"],
)
def test_moving_data_is_paid_once_by_jobs_in_pieces(terms: dict[str, object]) -> None:
    made = with_data(100, moves=DataMoves(kwh_per_gb=0.005, gb_per_s=1))
    # An hour in one piece as before: 120 g. What the data take is asked for at the start.
    flexible = replace(made.requests[0], **terms)  # type: ignore[arg-type]
    found = build_plan(replace(made, requests=(flexible,)))
    assert found.emissions_g == pytest.approx(120)
    assert 0 < found.lower_bound_g <= 120 * (1 + 1e-9)


# Money


def either(limits: Limits, *, terms: dict[str, object] | None = None) -> Plan:
    """An hour's job: 50 g for 10, or 200 g for 1."""
    one = request("job", (DEAR, CHEAP), hours=1, deadline=4, limits=limits, **(terms or {}))  # type: ignore[arg-type]
    return build_plan(
        snapshot({"FR": [50.0] * 4, "DE": [200.0] * 4}, [one], clusters=(DEAR, CHEAP), hours=4)
    )


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"interruptible": replace(PAUSES, min_chunk_s=HOUR // 2)},
        {"elastic": Elastic(widths=widths(1))},
    ],
    ids=["whole", "pauses", "widths"],
)
def test_carbon_price_weighs_money_and_carbon(terms: dict[str, object]) -> None:
    # 150 g less for 9 more: worth it from 9 / 0.00015 t = 60 000 a tonne on.
    assert place_of(either(NO_LIMITS, terms=terms), "job").cluster_id == "c-fr"
    for price, where, cost, grams in ((59_000, "c-de", 1, 200), (61_000, "c-fr", 10, 50)):
        found = either(Limits(carbon_price=price), terms=terms)
        placed = place_of(found, "job")
        assert (placed.cluster_id, placed.cost) == (where, pytest.approx(cost))
        assert found.emissions_g == pytest.approx(grams)
        # The bound is of grams alone: the clean place emits 50.
        assert found.lower_bound_g == pytest.approx(50)


def test_carbon_price_of_nothing_leaves_money_to_decide_and_grams_between_equals() -> None:
    found = either(Limits(carbon_price=0))
    assert place_of(found, "job").cluster_id == "c-de"
    where = cluster(price_per_gpu_hour=1.0)
    free = planned([200, 100, 200, 200], asked(where, limits=Limits(carbon_price=0)), where=where)
    assert hours_of(place_of(free, "job")) == [(1, 2)]


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        (Limits(max_cost=0.5), "max_cost 0.5"),
        (Limits(max_carbon_g=49), "max_carbon_g 49"),
        (Limits(min_renewable_share=0.5), "min_renewable_share 0.5"),
        (Limits(max_cost=5, max_carbon_g=100), "max_cost 5 and max_carbon_g 100"),
    ],
)
@pytest.mark.parametrize("is_fail_open", [False, True])
def test_job_that_no_place_keeps_the_limits_of_has_none_and_is_told_which(
    limits: Limits, detail: str, is_fail_open: bool
) -> None:
    one = request("job", (DEAR, CHEAP), hours=1, deadline=4, limits=limits)
    made = snapshot(
        {"FR": [50.0] * 4, "DE": [200.0] * 4},
        [one],
        clusters=(DEAR, CHEAP),
        hours=4,
        is_fail_open=is_fail_open,
    )
    assert refusal(build_plan(made)) == (
        UnplacedReason.OVER_LIMIT,
        f"no window that has room before the deadline keeps {detail}",
    )


def test_max_cost_keeps_jobs_out_of_dear_places() -> None:
    assert place_of(either(Limits(max_cost=10)), "job").cluster_id == "c-fr"
    assert place_of(either(Limits(max_cost=9.99)), "job").cluster_id == "c-de"


def test_max_carbon_is_met_even_by_a_crowd() -> None:
    # Two devices in the clean hour; the four without a limit must leave it to the two that may emit 100 g.
    where = cluster(gpus=2)
    limit = Limits(max_carbon_g=100)
    jobs = [request(f"free{n}", (where,), hours=1, deadline=3) for n in range(4)]
    jobs += [request(f"low{n}", (where,), hours=1, deadline=3, limits=limit) for n in range(2)]
    found = planned([300, 100, 200], *jobs, where=where)
    assert not found.unplaced
    assert {hours_of(place_of(found, f"low{n}"))[0] for n in range(2)} == {(1, 2)}
    assert found.emissions_g == pytest.approx(2 * (100 + 200 + 300))


def test_renewable_share_is_kept_in_every_hour_and_where_it_is_unknown_none_is() -> None:
    made = snapshot(
        {"DE": [100, 100, 100, 200, 200, 200]},
        [asked(hours=2, deadline=6, limits=Limits(min_renewable_share=0.6))],
        hours=6,
    )
    shares = np.array([[0.9, 0.5, np.nan, 0.6, 0.7, 0.1]])
    known = replace(made, forecast=replace(made.forecast, renewable_share=shares))
    found = build_plan(known)
    # The first three hours are cleaner, but 0.5 is too little and the third is unknown: hours 3 and 4 remain.
    assert hours_of(place_of(found, "job")) == [(3, 5)]
    assert found.lower_bound_g == pytest.approx(400)
    pausing = replace(known.requests[0], interruptible=PAUSES)
    # With a pause hour 0 may be one of the two.
    found = build_plan(replace(known, requests=(pausing,)))
    assert hours_of(place_of(found, "job")) == [(0, 1), (3, 4)]


def test_unknown_price_is_within_no_limit_and_cannot_be_weighed() -> None:
    unknown = cluster("FR")
    for limits in (Limits(max_cost=1e9), Limits(carbon_price=1e6)):
        one = request("job", (unknown, CHEAP), hours=1, deadline=4, limits=limits)
        made = snapshot(
            {"FR": [5.0] * 4, "DE": [200.0] * 4}, [one], clusters=(unknown, CHEAP), hours=4
        )
        assert place_of(build_plan(made), "job").cluster_id == "c-de"
        alone = request("job", (unknown,), hours=1, deadline=4, limits=limits)
        assert build_plan(replace(made, requests=(alone,))).unplaced
    found = place_of(planned([100] * 4, asked()), "job")
    assert found.cost is None


# Widths


def test_elastic_job_that_may_idle_runs_wide_where_it_is_clean() -> None:
    # Work of 4 device-hours on up to 2 devices: hours 1 and 3 at width 2, 4 x 50 g.
    where = cluster(gpus=2)
    grows = Elastic(widths=widths(1, 2), may_idle=True)
    found = planned([200, 50, 300, 50], asked(where, hours=4, elastic=grows), where=where)
    placed = place_of(found, "job")
    assert hours_of(placed) == [(1, 2), (3, 4)]
    assert placed.gpus == 2
    assert found.emissions_g == pytest.approx(200)
    assert found.lower_bound_g == pytest.approx(200)


def test_elastic_job_that_may_not_idle_shrinks_where_it_is_dirty() -> None:
    # The same in one piece: 2 + 1 + 1, 2 + 1 + ... Hours 1 to 3: at least one device in hour 2.
    # Of work 4: widths 2, 1, 1 cost 100 + 300 + 50, widths 1, 1, 2 the same; hours 0 and 1 at width 2 cost 500.
    where = cluster(gpus=2)
    found = planned(
        [200, 50, 300, 50], asked(where, hours=4, elastic=Elastic(widths=widths(1, 2))), where=where
    )
    placed = place_of(found, "job")
    assert sorted(placed.widths) in ([1, 2], [1, 1, 2])
    assert found.emissions_g == pytest.approx(450)


def test_elastic_job_that_pauses_pays_for_each_restore() -> None:
    # Two segments, the second of which loses half an hour: work of 3 in hours 1 (width 2) and 3 (width 2 x 1/2 = 1).
    where = cluster(gpus=2)
    how = Interruptible(min_chunk_s=HOUR, checkpoint_cost_s=HOUR // 2, max_interruptions=1)
    one = asked(where, hours=3, elastic=Elastic(widths=widths(1, 2)), interruptible=how)
    found = planned([300, 50, 300, 50], one, where=where)
    assert hours_of(place_of(found, "job")) == [(1, 2), (3, 4)]
    assert found.emissions_g == pytest.approx(200)


@pytest.mark.parametrize(
    ("limits", "hours"),
    [
        # Wide devices draw 1.5 kW each: 1 at width 2 costs as much work as 2 at width 1, and half as much again.
        (NO_LIMITS, [(1, 2)]),
        (Limits(max_carbon_g=149), None),
        (Limits(max_carbon_g=150), [(1, 2)]),
        (Limits(max_cost=1.9), None),
        (Limits(max_cost=2), [(1, 2)]),
    ],
)
def test_elastic_job_keeps_its_limits(
    limits: Limits, hours: list[tuple[float, float]] | None
) -> None:
    where = cluster(gpus=2, price_per_gpu_hour=1.0)
    grows = Elastic(
        widths=(
            Width(gpus=1, throughput=1, power_w=1000),
            Width(gpus=2, throughput=2, power_w=3000),
        )
    )
    found = planned(
        [200, 50, 200, 200], asked(where, hours=2, elastic=grows, limits=limits), where=where
    )
    if hours is None:
        assert refusal(found)[0] == UnplacedReason.OVER_LIMIT
    else:
        assert hours_of(place_of(found, "job")) == hours
        assert found.emissions_g == pytest.approx(150)


def test_elastic_job_takes_the_devices_that_others_leave() -> None:
    where = cluster(gpus=2)
    grows = Elastic(widths=widths(1, 2), may_idle=True)
    # One device is taken in hour 1: 50 there, and 3 more in hours 3 (2 x 60) and 0 (1 x 100).
    found = planned(
        [100, 50, 300, 60],
        asked(where, hours=4, elastic=grows),
        where=where,
        reserved=[reservation(1, 2)],
    )
    assert found.emissions_g == pytest.approx(100 + 50 + 2 * 60)
    assert place_of(found, "job").widths in ((1, 2), (1, 1, 2))


def test_widths_stay_through_a_slot_though_intensity_is_finer() -> None:
    # Intensity of half hours, widths of hours. Hours cost (100 + 20) / 2 = 60, (30 + 50) / 2 = 40, 90, 70 g:
    # work of 3 on up to 2 devices is two in hour 1 and one in hour 0. By half hours 0:30 to 2:00 would cost less.
    where = cluster(gpus=2)
    halves = [100.0, 20, 30, 50, 90, 90, 70, 70]
    grows = Elastic(widths=widths(1, 2), may_idle=True)
    one = asked(where, hours=3, elastic=grows)
    made = snapshot({"DE": [1.0] * 4}, [one], clusters=(where,), hours=4, slot_s=HOUR // 2)
    forecast = replace(made.forecast, mg_per_kwh=np.array([halves]).astype(np.int64) * 1000)
    found = build_plan(replace(made, forecast=forecast, rhythm_s=HOUR))
    placed = place_of(found, "job")
    assert hours_of(placed) == [(0, 1), (1, 2)]
    assert placed.widths == (1, 2)
    assert found.emissions_g == pytest.approx(60 + 2 * 40)
    assert found.lower_bound_g <= 140 * (1 + 1e-9)
    finer = build_plan(replace(made, forecast=forecast))
    # Half hours at width 2: 20 + 30 + 50, of half a kilowatt-hour each and twice.
    assert finer.emissions_g == pytest.approx(100)


def test_market_of_longer_slots_has_the_sums_of_its_parts() -> None:
    made = snapshot({"DE": [100.0, 200, float("nan"), 400]}, hours=4, reserved=[reservation(0, 1)])
    fine = build_market(made, made.forecast.grid)
    coarse = coarser(fine, 2)
    assert coarse.grams.shape == (1, 2)
    assert coarse.grams[0, 0] == pytest.approx(
        0.3
    )  # of one watt, in grams: 100 / 1000 + 200 / 1000
    assert coarse.grams_sum[0].tolist() == fine.grams_sum[0, ::2].tolist()
    assert np.diff(coarse.closed_sum[0, 0]).tolist() == [0, 1]
    # A device that is taken for a part is not free for the whole, and half free in the mean.
    assert coarse.free.tolist() == [[0, 1]]
    assert coarse.mean_free.tolist() == [[0.5, 1]]
    assert coarse.arrival[0].tolist() == fine.arrival[0, ::2].tolist()
    assert coarser(fine, 1) is fine


# Pauses


def test_pausing_job_makes_way_for_whole_ones_and_keeps_its_margin() -> None:
    # One device. The whole job fits hours 1 and 2 only, the other pauses around it; the margin keeps hour 5 free.
    whole = request("whole", hours=2, earliest=1, deadline=3)
    pauses = request("pauses", hours=3, deadline=6, margin_h=1, interruptible=PAUSES)
    found = planned([100, 50, 50, 100, 100, 10], whole, pauses)
    assert hours_of(place_of(found, "whole")) == [(1, 3)]
    assert hours_of(place_of(found, "pauses")) == [(0, 1), (3, 5)]
    assert found.emissions_g == pytest.approx(400)


def test_margin_of_a_pausing_job_is_given_up_where_it_has_no_room_with_it() -> None:
    whole = request("whole", hours=2, earliest=1, deadline=3)
    pauses = request("pauses", hours=4, deadline=6, margin_h=1, interruptible=PAUSES)
    found = planned([100, 50, 50, 100, 100, 10], whole, pauses)
    assert hours_of(place_of(found, "pauses")) == [(0, 1), (3, 6)]


@pytest.mark.parametrize("limit", [Limits(max_carbon_g=200), Limits(max_cost=2.2)])
def test_pausing_job_keeps_its_limits(limit: Limits) -> None:
    # Two hours with a pause emit 200 g and cost 2; with a restore of a quarter hour 2.25 and 225 g or more.
    where = cluster(price_per_gpu_hour=1.0)
    one = asked(where, hours=2, deadline=4, limits=limit, interruptible=PAUSES)
    found = planned([100, 300, 100, 300], one, where=where)
    assert hours_of(place_of(found, "job")) == [(0, 1), (2, 3)]
    restore = replace(one, interruptible=replace(PAUSES, checkpoint_cost_s=HOUR // 4))
    found = planned([100, 300, 100, 300], restore, where=where)
    if limit.max_carbon_g is not None:
        assert refusal(found)[0] == UnplacedReason.OVER_LIMIT
    else:
        assert len(hours_of(place_of(found, "job"))) == 1


def test_pausing_job_at_an_unknown_price_has_no_place() -> None:
    one = asked(hours=2, interruptible=PAUSES, limits=Limits(max_cost=100))
    assert build_plan(snapshot({"DE": [100.0] * 4}, [one], hours=4)).unplaced


def test_pausing_job_stays_where_the_price_is_known_and_the_data_can_be() -> None:
    # FR is cleaner; its price is not known, or the data arrive there when all is over.
    for elsewhere, move, limits in (
        (cluster("FR"), DataMove(), Limits(carbon_price=50)),
        (cluster("FR", price_per_gpu_hour=1.0), DataMove(seconds=5 * HOUR), NO_LIMITS),
    ):
        home = cluster("DE", price_per_gpu_hour=1.0)
        one = request("job", (elsewhere, home), hours=2, deadline=4, interruptible=PAUSES)
        there, here = one.choices
        one = replace(one, choices=(replace(there, move=move), here), limits=limits)
        made = snapshot(
            {"FR": [10.0] * 4, "DE": [100.0, 300, 100, 300]},
            [one],
            clusters=(elsewhere, home),
            hours=4,
        )
        found = build_plan(made)
        assert place_of(found, "job").cluster_id == "c-de"
        assert hours_of(place_of(found, "job")) == [(0, 1), (2, 3)]
        assert found.lower_bound_g == pytest.approx(200)


@pytest.mark.parametrize(
    ("g", "hours"),
    [
        # Four clean hours in two pieces and half a minute beside one of them: before the first, or behind it.
        ([100, 50, 50, 200, 200, 50, 50, 200], [(1 - 1 / 120, 3), (5, 7)]),
        ([200, 50, 50, 100, 200, 50, 50, 200], [(1, 3 + 1 / 120), (5, 7)]),
    ],
)
def test_pieces_are_to_the_second(g: list[float], hours: list[tuple[float, float]]) -> None:
    how = replace(PAUSES, max_interruptions=1)
    one = asked(hours=4 + 1 / 120, deadline=8, interruptible=how)
    found = planned(g, one)
    assert hours_of(place_of(found, "job")) == [pytest.approx(piece) for piece in hours]
    # Half a minute of 100 g an hour is 100 / 120 g.
    assert found.emissions_g == pytest.approx(200 + 100 / 120)


def test_long_windows_are_searched_in_longer_units() -> None:
    # A week and a day's run to the minute: in units of a minute too much to search, in longer ones hardly worse.
    g = (300 + 200 * np.sin(np.arange(168) / 24 * 2 * np.pi)).tolist()
    one = asked(hours=24 + 1 / 60, deadline=168, interruptible=PAUSES)
    found = planned(g, one)
    placed = place_of(found, "job")
    run_s = sum(window.duration_s for window in placed.segments)
    assert run_s == 24 * HOUR + 60
    assert len(placed.segments) == 4
    assert found.gap < 0.01


def test_search_that_is_over_leaves_pausing_jobs_whole() -> None:
    jobs = [asked(hours=2, interruptible=PAUSES)] + [
        request(f"more{n}", hours=2, earliest=4, deadline=12, interruptible=PAUSES)
        for n in range(2)
    ]
    made = snapshot({"DE": [100.0, 300] * 6}, jobs, hours=12)
    found = build_plan(made, watch=Watch(is_over=lambda: True))
    assert not found.unplaced
    assert sum(len(one.segments) > 1 for one in found.placements) <= 1
    assert build_plan(made).emissions_g < found.emissions_g


def test_jobs_that_still_find_better_pieces_after_all_turns_have_the_last_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joint, "_TURNS", 1)
    found = planned([100, 300, 100, 300], asked(hours=2, interruptible=PAUSES))
    assert hours_of(place_of(found, "job")) == [(0, 1), (2, 3)]


# Options


def test_any_of_the_options_may_be_used_and_the_one_that_emits_least_is() -> None:
    # 2 hours at 1 kW or an hour at 1.5 kW: 50 + 100 = 150 g in hours 1 and 2, or 75 g in hour 1.
    where = cluster(gpus=2)
    slow, fast = (
        Choice(cluster=where, option=n, accelerator="H100", gpus=n + 1, duration_s=s, power_w=w)
        for n, (s, w) in enumerate(((2 * HOUR, 1000.0), (HOUR, 1500.0)))
    )
    both = replace(asked(where), choices=(slow, fast))
    found = planned([100, 50, 100, 100], both, where=where)
    assert (place_of(found, "job").option, found.emissions_g) == (1, pytest.approx(75))
    # Where one device is taken only the slow one has room.
    taken = planned([100, 50, 100, 100], both, where=where, reserved=[reservation(0, 4)])
    assert (place_of(taken, "job").option, taken.emissions_g) == (0, pytest.approx(150))


def many_lengths(count: int = 300) -> PlanSnapshot:
    """As many jobs as lengths, on devices that they fill by half."""
    where = cluster(gpus=40)
    g = (300 + 200 * np.sin(np.arange(24) / 24 * 2 * np.pi)).tolist()
    jobs = [
        replace(
            request(f"j{n:03}", (where,), hours=1, deadline=24),
            choices=(
                Choice(
                    cluster=where,
                    option=0,
                    accelerator="H100",
                    gpus=1,
                    duration_s=HOUR + 29 * n,
                    power_w=1000.0 + n % 3,
                    move=DataMove(seconds=60 * (n % 2)),
                ),
            ),
        )
        for n in range(count)
    ]
    return snapshot({"DE": g}, jobs, clusters=(where,), hours=24)


def test_many_lengths_are_priced_roughly_and_bounded_exactly() -> None:
    made = many_lengths()
    whole = build_instance(made, made.requests)
    assert whole.rough is not whole.exact
    found = build_plan(made)
    assert not found.unplaced
    assert found.gap < 0.03
    # The bound that these prices prove is that of the exact lengths.
    assert found.prices is not None
    assert prove(whole, found.prices) == pytest.approx(found.lower_bound_g)


def test_few_shapes_and_shapes_that_differ_much_are_not_priced_roughly() -> None:
    few = many_lengths(count=20)
    one = build_instance(few, few.requests)
    assert one.rough is one.exact
    many = many_lengths(count=80)
    apart = tuple(
        replace(one, choices=(replace(one.choices[0], power_w=1000.0 * 1.1**n),))
        for n, one in enumerate(many.requests)
    )
    two = build_instance(many, apart)
    assert two.rough is two.exact


def test_rough_shapes_are_within_a_quarter_of_a_slot_and_five_percent() -> None:
    made = many_lengths()
    columns = build_columns(made, made.requests)
    shapes, stands = roughly(columns.shapes, made.forecast.grid)
    assert len(shapes) < len(columns.shapes) / 2
    for shape, rough in zip(columns.shapes, (shapes[n] for n in stands), strict=True):
        (_, length, _, ready, watts, gpus, *_), (_, near, margin, later, draw, devices, *_) = (
            shape[0],
            rough[0],
        )
        assert 0 <= length - near < HOUR // 4
        assert margin == 0
        assert later >= ready
        assert draw == pytest.approx(watts, rel=0.05)
        assert devices == pytest.approx(gpus, rel=0.05)


def test_profile_without_the_width_of_the_duration_is_refused_by_name() -> None:
    with pytest.raises(InvalidJobError) as raised:
        Elastic(widths=widths(1, 2)).throughput(4)
    assert str(raised.value) == (
        "elastic.profile: no line for 4 gpus, the width that the duration is stated for"
    )
