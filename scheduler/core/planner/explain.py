"""Why there and then: the choice, what came second, what now would emit, what more time would buy."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from scheduler.core.job import Baseline, Placement
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.snapshot import PlanRequest, PlanSnapshot
from scheduler.core.timegrid import format_instant

MORE_SLACK: Final = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The alternatives to a placement, on the snapshot without the job's own reservation.

    Args:
        chosen: the placement being explained.
        runner_up: the best in another cluster, or with a single cluster None.
        run_now: the same cluster and hardware at once, capacity ignored.
        with_more_slack: the best with a deadline that is `MORE_SLACK` later.
        reasons: the same, in sentences.
    """

    chosen: Placement
    baseline: Baseline
    runner_up: Placement | None
    run_now: Placement | None
    with_more_slack: Placement | None
    reasons: tuple[str, ...]


def explain(
    snapshot: PlanSnapshot, request: PlanRequest, chosen: Placement, baseline: Baseline
) -> Explanation:
    """The explanation of `chosen`. The snapshot must not count the job's own reservation."""
    search = WindowSearch(snapshot)
    others = tuple(
        choice for choice in request.choices if choice.cluster.cluster_id != chosen.cluster_id
    )
    same = [
        choice
        for choice in request.choices
        if (choice.cluster.cluster_id, choice.option) == (chosen.cluster_id, chosen.option)
    ]
    runner_up = search.best(replace(request, choices=others)) if others else None
    run_now = search.at(request, same[0]) if same else None
    later = search.best(replace(request, deadline_at=request.deadline_at + MORE_SLACK))
    return Explanation(
        chosen=chosen,
        baseline=baseline,
        runner_up=runner_up,
        run_now=run_now,
        with_more_slack=later,
        reasons=(
            chosen_sentence(chosen, baseline),
            _runner_up_sentence(chosen, runner_up),
            _now_sentence(chosen, run_now),
            _slack_sentence(chosen, later),
        ),
    )


def chosen_sentence(chosen: Placement, baseline: Baseline) -> str:
    """Where, when, how much, and how that compares with running at once."""
    where = f"{chosen.cluster_id} ({chosen.region_id}) at {format_instant(chosen.window.start_at)}"
    if chosen.planned_g is None:
        return f"Runs on {where}: no forecast covers it, so it starts as early as there is room."
    sentence = f"Runs on {where}: {_grams(chosen.planned_g)} expected"
    if baseline.planned_g is None:
        return sentence + "."
    return f"{sentence}, {_compare(chosen.planned_g, baseline.planned_g)} running at once on {baseline.cluster_id}."


def _runner_up_sentence(chosen: Placement, runner_up: Placement | None) -> str:
    if runner_up is None or runner_up.planned_g is None:
        return "No other cluster can run it in time."
    sentence = (
        f"Second: {runner_up.cluster_id} ({runner_up.region_id}) at "
        f"{format_instant(runner_up.window.start_at)} with {_grams(runner_up.planned_g)}"
    )
    if chosen.planned_g is None:
        return sentence + "."
    return f"{sentence}, {_compare(runner_up.planned_g, chosen.planned_g)} the choice."


def _now_sentence(chosen: Placement, run_now: Placement | None) -> str:
    if run_now is None or run_now.planned_g is None:
        return "No forecast covers a start right now."
    sentence = f"Starting now on {run_now.cluster_id} would emit {_grams(run_now.planned_g)}"
    if chosen.planned_g is None:
        return sentence + "."
    return f"{sentence}, {_compare(run_now.planned_g, chosen.planned_g)} the choice."


def _slack_sentence(chosen: Placement, later: Placement | None) -> str:
    if later is None or later.planned_g is None or chosen.planned_g is None:
        return "No forecast tells what 6 more hours would buy."
    gain_g = chosen.planned_g - later.planned_g
    if gain_g <= 0:
        return "6 more hours before the deadline would buy nothing."
    share = gain_g / chosen.planned_g
    return (
        f"6 more hours before the deadline would save another {_grams(gain_g)} ({share:.1%}), on "
        f"{later.cluster_id} at {format_instant(later.window.start_at)}."
    )


def _grams(grams: float) -> str:
    return f"{grams / 1000:,.1f} kg" if abs(grams) >= 10_000 else f"{grams:,.1f} g"


def _compare(grams: float, reference_g: float) -> str:
    if reference_g <= 0 or abs(grams - reference_g) < 0.0005 * reference_g:
        return "the same as"
    share = abs(grams / reference_g - 1)
    return f"{share:.1%} {'less' if grams < reference_g else 'more'} than"
