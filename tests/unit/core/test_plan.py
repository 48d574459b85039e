"""Placements: the cleanest window under capacity, or the reason why there is none."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest

from scheduler.core.baseline import freeze_baseline
from scheduler.core.capacity import build_capacity
from scheduler.core.errors import InfeasibleError
from scheduler.core.fleet import Fleet
from scheduler.core.job import Placement
from scheduler.core.planner.explain import explain, ranked
from scheduler.core.planner.plan import build_plan
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import (
    PlanSnapshot,
    Unplaced,
    UnplacedReason,
    choices_of,
    request_of,
)
from scheduler.core.timegrid import SlotGrid, Window
from tests.unit.core.builders import (
    HOUR,
    T0,
    at,
    baseline,
    cluster,
    job,
    option,
    request,
    reservation,
    snapshot,
)

DAY = [400.0] * 12 + [100.0] * 6 + [400.0] * 6
FLAT = [200.0] * 24


def only(made: PlanSnapshot) -> Placement:
    plan = build_plan(made)
    assert plan.unplaced == ()
    return plan.placements[0]


def refused(made: PlanSnapshot) -> Unplaced:
    plan = build_plan(made)
    assert plan.placements == ()
    return plan.unplaced[0]


def test_job_waits_for_the_clean_hours() -> None:
    placed = only(snapshot({"DE": DAY}, [request(hours=2)]))
    assert placed.window == Window(at(12), at(14))
    assert placed.planned_g == pytest.approx(200)
    assert placed.energy_kwh == pytest.approx(2)
    assert placed.provenance is not None
    assert placed.provenance.source == "made"


def test_start_may_lie_inside_a_slot_where_that_is_cleaner() -> None:
    placed = only(snapshot({"DE": [400, 300, 100, 400]}, [request(hours=1.5, deadline=4)]))
    assert placed.window == Window(at(1.5), at(3))


def test_tight_deadline_wins_over_grams() -> None:
    placed = only(snapshot({"DE": DAY}, [request(hours=2, deadline=2.5)]))
    assert placed.window.end_at <= at(2.5)


def test_cleaner_region_is_taken_until_it_is_full() -> None:
    both = (cluster("DE"), cluster("FR"))
    jobs = [request(f"j{n}", both, hours=4, deadline=4) for n in range(2)]
    plan = build_plan(snapshot({"DE": DAY, "FR": FLAT}, jobs))
    assert [one.cluster_id for one in plan.placements] == ["c-fr", "c-de"]


def test_pue_counts_in_the_choice_of_the_place() -> None:
    wasteful, lean = cluster("FR", pue=2.5), cluster("DE", pue=1.0)
    placed = only(
        snapshot(
            {"FR": FLAT, "DE": [400.0] * 24},
            [request(clusters=(wasteful, lean))],
            clusters=(wasteful, lean),
        )
    )
    assert placed.cluster_id == "c-de"


def test_jobs_in_the_same_clean_hours_queue_up_instead_of_stampeding() -> None:
    jobs = [request(f"j{n}", hours=3) for n in range(3)]
    plan = build_plan(snapshot({"DE": DAY}, jobs))
    windows = sorted(one.window for one in plan.placements)
    assert all(a.end_at <= b.start_at for a, b in pairwise(windows))
    assert sum(one.planned_g or 0 for one in plan.placements) == pytest.approx(300 + 300 + 1200)


def test_higher_priority_gets_the_only_room_that_there_is() -> None:
    low, high = request("a", hours=6, deadline=8), request("b", hours=6, deadline=8, priority=1)
    plan = build_plan(snapshot({"DE": DAY}, [low, high]))
    assert [one.job_id for one in plan.placements] == ["b"]
    assert plan.unplaced[0].reason is UnplacedReason.NO_CAPACITY


def test_plan_does_not_depend_on_the_order_of_the_requests() -> None:
    jobs = [request(f"j{n}", hours=1 + n % 3, deadline=10 + n) for n in range(8)]
    forward = build_plan(snapshot({"DE": DAY}, jobs))
    backward = build_plan(snapshot({"DE": DAY}, jobs[::-1]))
    assert forward.placements == backward.placements[::-1]


def test_margin_is_kept_before_the_deadline_where_it_can_be() -> None:
    rising = [100.0 - n for n in range(24)]
    placed = only(snapshot({"DE": rising}, [request(hours=2, deadline=20, margin_h=3)]))
    assert placed.window.end_at == at(17)
    placed = only(snapshot({"DE": rising}, [request(hours=2, deadline=4, margin_h=3)]))
    assert placed.window.end_at == at(4)


def test_start_by_and_not_before_are_obeyed() -> None:
    placed = only(snapshot({"DE": DAY}, [request(hours=2, start_by=5, earliest=3)]))
    assert at(3) <= placed.window.start_at <= at(5)
    alone = WindowSearch(snapshot({"DE": DAY})).best(request(hours=2, start_by=5.5, earliest=3))
    assert alone is not None
    assert at(3) <= alone.window.start_at <= at(5.5)


def test_nothing_is_planned_before_now() -> None:
    placed = only(snapshot({"DE": [100.0] * 3 + [200.0] * 9}, [request(deadline=12)], now=2.25))
    assert placed.window.start_at >= at(2.25)


def test_job_without_a_choice_is_not_allowed() -> None:
    assert refused(snapshot({"DE": DAY}, [request(clusters=())])).reason is (
        UnplacedReason.NOT_ALLOWED
    )


def test_job_that_cannot_end_in_time_hears_its_earliest_finish() -> None:
    answer = refused(snapshot({"DE": DAY}, [request(hours=5, deadline=3)]))
    assert answer.reason is UnplacedReason.PAST_DEADLINE
    assert answer.earliest_finish_at == at(5)
    assert "5h" in answer.detail


def test_job_longer_than_the_horizon_has_no_earliest_finish() -> None:
    answer = refused(snapshot({"DE": DAY}, [request(hours=60, deadline=50)]))
    assert answer.earliest_finish_at is None


@pytest.mark.parametrize(("hours", "length", "earliest"), [(60, "2d12h", 0), (12, "12h", 40)])
def test_run_that_ends_after_the_plan_says_so(hours: int, length: str, earliest: int) -> None:
    asked = request(hours=hours, deadline=200, earliest=earliest)
    answer = refused(snapshot({"DE": DAY}, [asked]))
    assert (answer.reason, answer.earliest_finish_at) == (UnplacedReason.PAST_HORIZON, None)
    assert f"a run of {length} " in answer.detail


def test_full_fleet_says_no_capacity_and_when_there_is_room() -> None:
    made = snapshot({"DE": DAY}, [request(hours=2, deadline=8)], reserved=[reservation(0, 9)])
    answer = refused(made)
    assert answer.reason is UnplacedReason.NO_CAPACITY
    assert answer.earliest_finish_at == at(11)


def test_forecast_that_ends_early_is_never_extrapolated() -> None:
    short = snapshot({"DE": [100.0] * 3}, [request(hours=2, earliest=2)])
    assert refused(short).reason is UnplacedReason.NO_FORECAST
    assert only(snapshot({"DE": [300, 200, 100]}, [request()])).window == Window(at(1), at(3))


def test_fail_open_places_at_the_earliest_start_without_a_figure() -> None:
    placed = only(snapshot({"DE": []}, [request(earliest=1)], is_fail_open=True))
    assert placed.window == Window(at(1), at(3))
    assert (placed.planned_g, placed.provenance) == (None, None)


def test_fail_open_keeps_the_figure_where_a_forecast_covers_the_earliest_start() -> None:
    made = snapshot({"DE": DAY}, [request()], is_fail_open=True)
    earliest = WindowSearch(made).earliest(made.requests[0])
    assert earliest is not None
    assert earliest.planned_g == pytest.approx(800)


def test_late_job_runs_late_rather_than_never() -> None:
    made = snapshot({"DE": DAY}, [request(deadline=1)], reserved=[reservation(0, 3)])
    search = WindowSearch(made)
    late = search.place_late(made.requests[0])
    assert late is not None
    assert late.window == Window(at(3), at(5))
    again = search.place_late(made.requests[0])
    assert again is not None
    assert again.window == Window(at(5), at(7))


def test_late_job_without_any_room_stays_unplaced() -> None:
    made = snapshot({"DE": DAY}, [request(deadline=1)], reserved=[reservation(0, 48)])
    assert WindowSearch(made).place_late(made.requests[0]) is None


def test_zero_capacity_and_overstayed_runs_leave_nothing_free() -> None:
    none = cluster(gpus=0)
    made = snapshot({"DE": DAY}, [request(clusters=(none,))], clusters=(none,))
    assert refused(made).reason is UnplacedReason.NO_CAPACITY
    overstayed = snapshot({"DE": DAY}, [], reserved=[reservation(0, 2), reservation(1, 3)])
    assert overstayed.capacity.free[0, :4].tolist() == [0, -1, 0, 1]


def test_reservation_of_a_cluster_that_is_gone_takes_nothing() -> None:
    grid = SlotGrid(T0, HOUR, 3)
    free = build_capacity(grid, Fleet((cluster(),)), [reservation(0, 2, name="gone")]).free
    assert free.tolist() == [[1, 1, 1]]
    with pytest.raises(ValueError, match="read-only"):
        free[0, 0] = 9


def test_slot_that_is_touched_at_all_counts_as_taken() -> None:
    made = snapshot({"DE": DAY}, reserved=[reservation(0.5, 1.25)])
    assert made.capacity.free[0, :3].tolist() == [0, 0, 1]


def test_choices_are_what_the_job_may_use_in_its_own_order() -> None:
    fleet = Fleet((cluster("DE", gpus=8), cluster("FR", gpus=2)))
    made = job(options=(option(gpus=4), option(gpus=2, duration_s=8 * HOUR)), duration_p95_s=18_000)
    found = [(one.option, one.cluster.cluster_id, one.margin_s) for one in choices_of(made, fleet)]
    assert found == [(0, "c-de", 3600), (1, "c-de", 7200), (1, "c-fr", 7200)]
    assert choices_of(job(regions=("r-xx",)), fleet) == ()
    asked = request_of(made, choices_of(made, fleet))
    assert (asked.earliest_at, asked.deadline_at, len(asked.choices)) == (T0, at(24), 3)


def test_slower_hardware_is_chosen_where_it_emits_less() -> None:
    fleet = Fleet((replace(cluster(), capacity=(("H100", 1), ("A100", 1))),))
    made = job(
        options=(option(), option(accelerator="A100", duration_s=6 * HOUR, power_w=400.0)),
    )
    asked = request_of(made, choices_of(made, fleet))
    placed = only(snapshot({"DE": FLAT}, [asked], clusters=fleet.clusters))
    assert (placed.accelerator, placed.option) == ("A100", 1)
    assert placed.planned_g == pytest.approx(6 * 0.4 * 200)


def test_baseline_is_the_first_choice_at_once_whatever_is_free() -> None:
    both = (cluster("DE", pue=1.5), cluster("FR"))
    asked = request(clusters=both, earliest=1)
    made = snapshot({"DE": DAY, "FR": FLAT}, clusters=both, reserved=[reservation(0, 48)])
    frozen = freeze_baseline(WindowSearch(made), asked, now=T0)
    assert (frozen.cluster_id, frozen.pue) == ("c-de", 1.5)
    assert frozen.window == Window(at(1), at(3))
    assert frozen.planned_g == pytest.approx(1.5 * 800)


def test_baseline_begins_now_to_the_fraction_of_a_second() -> None:
    now = T0 + timedelta(microseconds=250_000)
    made = replace(snapshot({"DE": DAY}), now=now)
    assert freeze_baseline(WindowSearch(made), request(), now=now).window.start_at == now


def test_baseline_without_forecast_has_no_figure_and_without_cluster_none_at_all() -> None:
    assert freeze_baseline(WindowSearch(snapshot({"DE": []})), request(), now=T0).planned_g is None
    with pytest.raises(InfeasibleError, match="no cluster may run it"):
        freeze_baseline(WindowSearch(snapshot({"DE": DAY})), request(clusters=()), now=T0)


def explained(made: PlanSnapshot, asked_hours: float = 2, **fields: object) -> tuple[str, ...]:
    asked = request(clusters=tuple(made.fleet), hours=asked_hours, **fields)  # type: ignore[arg-type]
    placed = WindowSearch(made).place(asked)
    assert isinstance(placed, Placement)
    return explain(made, asked, placed, baseline(planned_g=800.0)).reasons


def test_explanation_compares_the_choice_the_runner_up_now_and_more_slack() -> None:
    both = (cluster("DE"), cluster("FR"))
    made = snapshot({"DE": DAY, "FR": FLAT}, clusters=both)
    chosen, second, now, slack = explained(made, deadline=10)
    assert chosen == (
        "Runs on c-fr (r-fr) at 2026-03-02T00:00:00Z: 400.0 g expected, "
        "50.0% less than running at once on c-de."
    )
    assert second == (
        "Second: c-de (r-de) at 2026-03-02T00:00:00Z with 800.0 g, 100.0% more than the choice."
    )
    assert now == "Starting now on c-fr would emit 400.0 g, the same as the choice."
    assert slack == (
        "6 more hours before the deadline would save another 200.0 g (50.0%), on c-de at "
        "2026-03-02T12:00:00Z."
    )


def test_explanation_where_the_others_are_full_says_so() -> None:
    both = (cluster("DE"), cluster("FR"))
    full = reservation(0, 48, name="c-fr")
    _, second, _, _ = explained(snapshot({"DE": DAY, "FR": FLAT}, clusters=both, reserved=[full]))
    assert second == "No other cluster can run it in time."


def test_explanation_of_the_only_cluster_at_its_best_hour() -> None:
    _, second, now, slack = explained(snapshot({"DE": DAY}))
    assert second == "No other cluster may run it."
    assert now == "Starting now on c-de would emit 800.0 g, 300.0% more than the choice."
    assert slack == "6 more hours before the deadline would buy nothing."


def test_explanation_without_a_forecast_says_so() -> None:
    made = snapshot({"DE": []}, is_fail_open=True)
    chosen, second, now, slack = explained(made)
    assert chosen.endswith("no forecast covers it, so it starts as early as there is room.")
    assert second == "No other cluster may run it."
    assert now == "No forecast covers a start right now."
    assert slack == "No forecast tells what 6 more hours would buy."


def test_explanation_where_only_the_alternatives_have_a_forecast() -> None:
    both = (cluster("DE"), cluster("FR"))
    made = snapshot({"DE": DAY, "FR": FLAT}, clusters=both)
    asked = request(clusters=both)
    placed = WindowSearch(made).place(asked)
    assert isinstance(placed, Placement)
    blind = replace(placed, planned_g=None, cluster_id="c-fr")
    found = explain(made, asked, blind, baseline(planned_g=None))
    assert found.reasons[1].endswith("with 200.0 g.")
    assert found.reasons[2] == "Starting now on c-fr would emit 400.0 g."
    gone = explain(made, asked, replace(placed, cluster_id="c-xx"), baseline(planned_g=None))
    assert gone.run_now is None
    assert gone.reasons[0].endswith("200.0 g expected.")


def test_clusters_are_ranked_by_their_best_and_left_out_where_none_is_in_time() -> None:
    three = (cluster("DE"), cluster("FR"), cluster("PL"))
    held = [replace(reservation(0, 48), cluster_id="c-pl")]
    made = snapshot({"DE": DAY, "FR": FLAT, "PL": FLAT}, clusters=three, reserved=held)
    # Until hour 10 the DE zone is the dirtier one; by hour 24 it has become the cleaner one.
    soon = ranked(made, request(clusters=three, deadline=10))
    assert [one.cluster_id for one in soon] == ["c-fr", "c-de"]
    late = ranked(made, request(clusters=three, deadline=24))
    assert [one.cluster_id for one in late] == ["c-de", "c-fr"]
    assert [one.planned_g for one in late] == pytest.approx([200.0, 400.0])
    assert ranked(made, request(clusters=())) == ()


def test_explanation_writes_kilograms_and_compares_with_zero() -> None:
    chosen, *_ = explained(snapshot({"DE": [0.0] * 24}))
    assert chosen.endswith("0.0 g expected, 100.0% less than running at once on c-de.")
    made = snapshot({"DE": FLAT})
    asked = replace(request(hours=20), choices=())
    big = WindowSearch(made).place(request(hours=20, gpus=1))
    assert isinstance(big, Placement)
    heavy = replace(big, planned_g=12_345.6)
    reasons = explain(made, asked, heavy, baseline(planned_g=0.0)).reasons
    assert "12.3 kg expected, the same as running at once" in reasons[0]


def test_capacity_array_is_whole_numbers() -> None:
    assert snapshot({"DE": DAY}).capacity.free.dtype == np.int64
