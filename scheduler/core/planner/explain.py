"""Why there and then: the choice, what came second, what now would emit, what more time would buy."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from scheduler.core.job import ENDED_STATES, Baseline, JobState, Placement
from scheduler.core.planner.crowd import Crowd
from scheduler.core.planner.search import WindowSearch
from scheduler.core.planner.sentences import compared, grams_text, saving_sentence
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
    snapshot: PlanSnapshot,
    request: PlanRequest,
    chosen: Placement,
    baseline: Baseline,
    *,
    crowd: Crowd | None = None,
) -> Explanation:
    """The explanation of `chosen`.

    Args:
        snapshot: must not count the job's own reservation.
        request: the job.
        chosen: its placement.
        baseline: what it is compared with.
        crowd: of the plan that placed it, where it is at hand.
    """
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
            saving_sentence(chosen, baseline.planned_g, baseline.cluster_id),
            *(crowd.sentences(chosen) if crowd else ()),
            _runner_up_sentence(chosen, runner_up) if others else "No other cluster may run it.",
            _now_sentence(chosen, run_now),
            _slack_sentence(chosen, later),
        ),
    )


def settled(
    chosen: Placement, baseline: Baseline, *, state: JobState, reason: str | None = None
) -> Explanation:
    """What was chosen for a job that nothing else can be chosen for: it is with its cluster, or has ended."""
    is_over, why = state in ENDED_STATES, f": {reason}" if reason else ""
    if is_over:
        words = f"It is over ({state}{why}); its report tells where it ran, and what it emitted."
    else:
        words = f"It is {state}{why}; no other place or hour is looked for while it has this one."
    return Explanation(
        chosen=chosen,
        baseline=baseline,
        runner_up=None,
        run_now=None,
        with_more_slack=None,
        reasons=(
            saving_sentence(
                chosen,
                baseline.planned_g,
                baseline.cluster_id,
                verb="Was planned on" if is_over else "Runs on",
            ),
            words,
        ),
    )


def ranked(snapshot: PlanSnapshot, request: PlanRequest) -> tuple[Placement, ...]:
    """The best placement in each cluster, the best of them first; without clusters that cannot run it in time.

    Args:
        snapshot: must not count the job's own reservation.
        request: the job.
    """
    search, left = WindowSearch(snapshot), request.choices
    found = list[Placement]()
    while left and (best := search.best(replace(request, choices=left))) is not None:
        found.append(best)
        left = tuple(one for one in left if one.cluster.cluster_id != best.cluster_id)
    return tuple(found)


def _runner_up_sentence(chosen: Placement, runner_up: Placement | None) -> str:
    if runner_up is None or runner_up.planned_g is None:
        return "No other cluster can run it in time."
    sentence = (
        f"Second: {runner_up.cluster_id} ({runner_up.region_id}) at "
        f"{format_instant(runner_up.window.start_at)} with {grams_text(runner_up.planned_g)}"
    )
    if chosen.planned_g is None:
        return sentence + "."
    return f"{sentence}, {compared(runner_up.planned_g, chosen.planned_g)} the choice."


def _now_sentence(chosen: Placement, run_now: Placement | None) -> str:
    if run_now is None or run_now.planned_g is None:
        return "No forecast covers a start right now."
    sentence = f"Starting now on {run_now.cluster_id} would emit {grams_text(run_now.planned_g)}"
    if chosen.planned_g is None:
        return sentence + "."
    return f"{sentence}, {compared(run_now.planned_g, chosen.planned_g)} the choice."


def _slack_sentence(chosen: Placement, later: Placement | None) -> str:
    if later is None or later.planned_g is None or chosen.planned_g is None:
        return "No forecast tells what 6 more hours would buy."
    gain_g = chosen.planned_g - later.planned_g
    if gain_g <= 0:
        return "6 more hours before the deadline would buy nothing."
    share = gain_g / chosen.planned_g
    return (
        f"6 more hours before the deadline would save another {grams_text(gain_g)} ({share:.1%}), on "
        f"{later.cluster_id} at {format_instant(later.window.start_at)}."
    )
