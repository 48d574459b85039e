"""Planning again: what stays, what is amended, and when a whole plan is made instead."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from scheduler.core.planner import rolling
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.rolling import MOVING_FOR_FEW, carried_prices, replan
from scheduler.core.planner.snapshot import Plan, PlanRequest, PlanSnapshot
from scheduler.core.terms import Limits
from scheduler.core.timegrid import SlotGrid
from tests.unit.core.builders import (
    HOUR,
    T0,
    at,
    cluster,
    hours_of,
    place_of,
    request,
    reservation,
    snapshot,
    with_errors,
)

DE = [400.0, 380, 300, 100, 90, 110, 300, 400, 420, 400, 410, 400]
FR = [160.0, 170, 150, 140, 160, 180, 190, 160, 150, 170, 160, 150]
CLUSTERS = (cluster("DE", gpus=4, pue=1.2), cluster("FR", gpus=2))


def jobs(*names: str, hours: float = 2) -> list[PlanRequest]:
    return [request(name, CLUSTERS, hours=hours, deadline=12) for name in names]


def crowd(count: int = 20) -> list[PlanRequest]:
    return jobs(*(f"j{n:02}" for n in range(count)))


def asking(requests: Sequence[PlanRequest], **fields: object) -> PlanSnapshot:
    known: dict[str, object] = {"clusters": CLUSTERS, "hours": 12}
    return snapshot({"DE": DE, "FR": FR}, requests, **(known | fields))  # type: ignore[arg-type]


@pytest.fixture
def whole_plans(monkeypatch: pytest.MonkeyPatch) -> list[PlanSnapshot]:
    """The snapshots of which whole plans were made."""
    made: list[PlanSnapshot] = []

    def counted(asked: PlanSnapshot, **how: object) -> Plan:
        made.append(asked)
        return build_plan(asked, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(rolling, "build_plan", counted)
    return made


def check(made: PlanSnapshot, found: Plan) -> None:
    """Every job once, in time, within what is free in every half hour; the bound is one; what is left is the rest."""
    wanted = {one.job_id: one for one in made.requests}
    assert [one.job_id for one in found.placements] == [one.job_id for one in made.requests]
    free = np.repeat(made.capacity.free, 2, axis=1)
    rows = dict(zip(made.capacity.rows, free, strict=True))
    for placed in found.placements:
        asked = wanted[placed.job_id]
        assert max(asked.earliest_at, made.now) <= placed.window.start_at
        assert placed.window.end_at <= asked.deadline_at
        for start, end in hours_of(placed):
            rows[placed.cluster_id, placed.accelerator][int(2 * start) : int(2 * end)] -= (
                placed.gpus
            )
    assert free.min() >= 0
    assert found.memory is not None
    left = found.memory.left
    assert np.repeat(left.free, left.grid.slot_s // (HOUR // 2), axis=1).tolist() == free.tolist()
    assert 0 < found.lower_bound_g <= found.emissions_g * (1 + 1e-9)


def moved(before: Plan, after: Plan) -> int:
    was = {one.job_id: one for one in before.placements}
    return sum(one != was.get(one.job_id, one) for one in after.placements)


def test_equal_snapshot_keeps_every_placement_and_the_bound(
    whole_plans: list[PlanSnapshot],
) -> None:
    first = build_plan(asking(crowd()))
    again = replan(asking(crowd()), first)
    assert not whole_plans
    assert again.placements == first.placements
    assert again.lower_bound_g == first.lower_bound_g


def test_few_arrivals_leave_all_but_those_drawn_where_they_are(
    whole_plans: list[PlanSnapshot],
) -> None:
    first = build_plan(asking(crowd()))
    made = asking([*crowd(), *jobs("new", "newer")])
    again = replan(made, first)
    assert not whole_plans
    check(made, again)
    assert moved(first, again) <= 2 * MOVING_FOR_FEW
    assert again.lower_bound_g > first.lower_bound_g


def test_amended_bound_holds_for_the_whole_plan_too() -> None:
    first = build_plan(asking(crowd()))
    for requests in ([*crowd(), *jobs("new")], crowd()[1:], [*crowd()[2:], *jobs("new")]):
        made = asking(requests)
        assert replan(made, first).lower_bound_g <= build_plan(made).emissions_g * (1 + 1e-9)


def test_same_seed_draws_the_same_jobs() -> None:
    first, made = build_plan(asking(crowd())), asking([*crowd(), *jobs("new")])
    assert replan(made, first, seed=3).placements == replan(made, first, seed=3).placements


def test_departures_free_their_devices_and_the_others_stay(
    whole_plans: list[PlanSnapshot],
) -> None:
    first = build_plan(asking(crowd()))
    made = asking(crowd()[2:])
    again = replan(made, first)
    assert not whole_plans
    check(made, again)
    assert moved(first, again) == 0
    assert again.lower_bound_g < first.lower_bound_g


def test_arrival_takes_the_clean_hours_that_a_departure_left() -> None:
    # One device; the ten jobs fill hours 0 to 10, the clean hour 4 belongs to one of them.
    one = (cluster(),)
    g = [100.0] * 4 + [10.0] + [100.0] * 5
    asked = [request(f"j{n}", one, hours=1, deadline=10) for n in range(10)]
    first = build_plan(snapshot({"DE": g}, asked, clusters=one, hours=10))
    gone = next(n for n in range(10) if hours_of(place_of(first, f"j{n}"))[0][0] == 4)
    left = [one for n, one in enumerate(asked) if n != gone]
    without = replan(snapshot({"DE": g}, left, clusters=one, hours=10), first)
    assert without.emissions_g == pytest.approx(900)
    assert without.memory is not None
    assert without.memory.left.free.tolist() == [[0, 0, 0, 0, 1, 0, 0, 0, 0, 0]]
    late = request("late", one, hours=1, earliest=4, deadline=5)
    # Eleven jobs are more than an amendment takes at once: 1 of 9 is more than a tenth, so the plan is whole.
    full = replan(snapshot({"DE": g}, [*left, late], clusters=one, hours=10), without)
    assert hours_of(place_of(full, "late")) == [(4, 5)]


def test_changed_request_counts_as_gone_and_new(whole_plans: list[PlanSnapshot]) -> None:
    first = build_plan(asking(crowd()))
    made = asking([*crowd()[:-1], *jobs("j19", hours=1)])
    again = replan(made, first)
    assert not whole_plans
    check(made, again)
    assert place_of(again, "j19").window.duration_s == HOUR


def test_place_that_has_become_past_is_not_kept(whole_plans: list[PlanSnapshot]) -> None:
    clusters = (cluster("DE", gpus=1), cluster("FR", gpus=1))
    asked = [request(f"j{n:02}", clusters, hours=1, deadline=12) for n in range(19)]
    first = build_plan(asking(asked, clusters=clusters))
    begun = [one for one in first.placements if one.window.start_at == T0]
    assert 1 <= len(begun) <= 2
    made = asking(asked, clusters=clusters, now=0.5)
    again = replan(made, first)
    check(made, again)
    assert len(whole_plans) == (len(begun) > 1)


@pytest.mark.parametrize(
    "changed",
    [
        lambda made: replace(made, forecast=dirtier(made)),
        lambda made: asking(made.requests, reserved=[reservation(10, 12)]),
        lambda made: with_errors(made, [50.0] * 12, [50.0] * 12),
        lambda made: replace(
            made, forecast=replace(made.forecast, renewable_share=np.full((2, 12), 0.5))
        ),
        lambda made: replace(made, rhythm_s=2 * HOUR),
        lambda made: asking([*made.requests, *jobs("a", "b", "c")]),
        lambda made: asking(made.requests[3:]),
        lambda made: asking([*made.requests, replace(jobs("then")[0], after=("j00",))]),
        lambda made: asking([replace(made.requests[0], after=("j01",)), *made.requests[1:]]),
        lambda made: asking(
            [*made.requests, request("pays", CLUSTERS, limits=Limits(carbon_price=50))]
        ),
        lambda made: replace(made, requests=(*made.requests, request("lost", (), hours=1))),
    ],
    ids=[
        "forecast",
        "capacity",
        "errors",
        "renewables",
        "rhythm",
        "many new",
        "many gone",
        "new job waits",
        "old job waits",
        "money",
        "no cluster",
    ],
)
def test_whole_plan_is_made_where_more_changed_than_a_few_jobs(
    changed: object, whole_plans: list[PlanSnapshot]
) -> None:
    first = build_plan(asking(crowd()))
    made: PlanSnapshot = changed(asking(crowd()))  # type: ignore[operator]
    replan(made, first)
    assert whole_plans == [made]


def dirtier(made: PlanSnapshot) -> object:
    return replace(made.forecast, mg_per_kwh=made.forecast.mg_per_kwh + 1)


def test_equal_errors_and_shares_are_the_same_market(whole_plans: list[PlanSnapshot]) -> None:
    def made() -> PlanSnapshot:
        one = with_errors(asking(crowd()), [5.0] * 12, [5.0] * 12)
        shares = np.full((2, 12), np.nan)
        return replace(one, forecast=replace(one.forecast, renewable_share=shares))

    first = build_plan(made())
    assert replan(made(), first).placements == first.placements
    assert not whole_plans


def test_plan_without_memory_or_prices_is_made_anew(whole_plans: list[PlanSnapshot]) -> None:
    first, made = build_plan(asking(crowd())), asking(crowd())
    for lost in (replace(first, memory=None), replace(first, prices=None)):
        check(made, replan(made, lost))
    check(made, replan(made, build_plan(asking([]))))
    assert whole_plans == [made] * 3


def in_chain() -> list[PlanRequest]:
    made = crowd()
    made[1] = replace(made[1], after=(made[0].job_id,))
    return made


def test_chains_of_the_earlier_plan_keep_their_order_when_others_arrive(
    whole_plans: list[PlanSnapshot],
) -> None:
    first = build_plan(asking(in_chain()))
    made = asking([*in_chain(), *jobs("new", "newer")])
    for seed in range(8):
        again = replan(made, first, seed=seed)
        check(made, again)
        ahead, behind = place_of(again, "j00"), place_of(again, "j01")
        assert ahead.window.end_at <= behind.window.start_at
    assert not whole_plans


@pytest.mark.parametrize("gone", [0, 1])
def test_departure_of_a_job_in_a_chain_frees_its_neighbours(
    gone: int, whole_plans: list[PlanSnapshot]
) -> None:
    first = build_plan(asking(in_chain()))
    made = asking([one for n, one in enumerate(in_chain()) if n != gone])
    check(made, replan(made, first))
    assert whole_plans == [made]


def test_new_job_that_finds_no_room_has_it_made_by_a_whole_plan(
    whole_plans: list[PlanSnapshot],
) -> None:
    # One device for 22 hours. The 20 jobs take the clean hours from 2 on; the new one must have the last two of them.
    one = (cluster(),)
    g = [500.0] * 2 + [100.0] * 20

    def made(*more: PlanRequest) -> PlanSnapshot:
        asked = [request(f"j{n:02}", one, hours=1, deadline=22) for n in range(20)]
        return snapshot({"DE": g}, [*asked, *more], clusters=one, hours=22)

    first = build_plan(made())
    assert min(hours_of(placed)[0][0] for placed in first.placements) == 2
    wide = made(request("late", one, hours=2, earliest=20, deadline=22))
    for seed in range(4):
        again = replan(wide, first, seed=seed)
        assert not again.unplaced
        assert hours_of(place_of(again, "late")) == [(20, 22)]
    assert whole_plans


def test_job_without_a_place_is_asked_again(whole_plans: list[PlanSnapshot]) -> None:
    one = (cluster(),)
    jobs_of = [request(f"j{n:02}", one, hours=1, deadline=12) for n in range(12)]
    full = snapshot(
        {"DE": DE}, [*jobs_of, request("x", one, hours=1, deadline=12)], clusters=one, hours=12
    )
    first = build_plan(full)
    assert len(first.unplaced) == 1
    again = replan(full, first)
    assert len(again.unplaced) == 1
    assert whole_plans == [full]


def test_new_job_does_not_wait_for_less_than_the_expected_regret(
    whole_plans: list[PlanSnapshot],
) -> None:
    # 20 g of gain against 0.276 x sqrt(2) x 100 = 39 g.
    one = (cluster(gpus=30),)
    asked = [request(f"j{n:02}", one, hours=1, earliest=2, deadline=4) for n in range(20)]

    def made(*more: PlanRequest) -> PlanSnapshot:
        plain = snapshot({"DE": [100.0, 80, 300, 500]}, [*asked, *more], clusters=one, hours=4)
        return with_errors(plain, [100.0] * 4)

    first = build_plan(made())
    again = replan(made(request("new", one, hours=1, deadline=4)), first)
    assert not whole_plans
    assert hours_of(place_of(again, "new")) == [(0, 1)]
    assert moved(first, again) == 0


def test_prices_are_carried_to_the_hours_that_they_are_for() -> None:
    first = build_plan(asking(crowd()))
    assert first.prices is not None
    assert first.prices.max() > 0
    later = shifted(3)
    carried = carried_prices(first, later)
    assert carried is not None
    assert carried[:, :9].tolist() == first.prices[:, 3:].tolist()
    assert not carried[:, 9:].any()
    same = carried_prices(first, asking(crowd()))
    assert same is not None
    assert same.tolist() == first.prices.tolist()
    longer = carried_prices(first, asking(crowd(), hours=24))
    assert longer is not None
    assert longer.shape == (2, 24)
    assert not longer[:, 12:].any()
    shorter = carried_prices(first, asking(crowd(), hours=6))
    assert shorter is not None
    assert shorter.tolist() == first.prices[:, :6].tolist()


def shifted(hours: int, slot_s: int = HOUR) -> PlanSnapshot:
    made = asking([])
    grid = SlotGrid(at(hours), slot_s, 12)
    return replace(made, forecast=replace(made.forecast, grid=grid))


def test_prices_of_other_rows_slots_or_times_are_not_carried() -> None:
    first = build_plan(asking(crowd()))
    one = CLUSTERS[:1]
    assert carried_prices(first, asking([], clusters=one)) is None
    assert carried_prices(first, asking([], slot_s=HOUR // 2)) is None
    assert carried_prices(first, shifted(-1)) is None
    assert carried_prices(first, shifted(12)) is None
    assert carried_prices(first, shifted(11)) is not None
    assert carried_prices(replace(first, prices=None), asking([])) is None
    assert carried_prices(replace(first, memory=None), asking([])) is None


def test_job_that_begins_on_no_border_keeps_its_place_beside_arrivals() -> None:
    # Power gets dirtier by the hour, so that a job which may begin 37 s after the hour begins then.
    one = cluster("DE", gpus=4)
    old = [
        replace(request(f"old{n}", (one,), hours=2), earliest_at=at(0) + timedelta(seconds=37))
        for n in range(20)
    ]
    made = snapshot(
        {"DE": [100.0 + hour for hour in range(48)]}, old, clusters=(cluster("DE", gpus=64),)
    )
    first = build_plan(made)
    assert {one.window.start_at for one in first.placements} == {at(0) + timedelta(seconds=37)}
    after = replace(made, requests=(*old, request("new", (one,), hours=2)))
    again = replan(after, first)
    assert moved(first, again) == 0
    assert len(again.placements) == 21
