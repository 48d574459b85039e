"""From Kubernetes' word on a Job and its pods to ours. Pure."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from adapters.cluster.kube_records import KubeJob, KubePod
from scheduler.core.timegrid import Window
from scheduler.ports import RunState, RunStatus

EX_TEMPFAIL: Final = 75
_SIGTERM: Final = 15
_SIGNAL_BASE: Final = 128
_LAST_SIGNAL: Final = 64
Span = tuple[float, float]
At = Callable[[float], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """That we have asked a run to leave.

    Args:
        began_s: when its first container started, as far as it had; Unix seconds.
        unstarted: why it was sent away without having started; empty where it was asked to pause or end.
    """

    began_s: float | None = None
    unstarted: str = ""

    def text(self) -> str:
        """For the annotation."""
        return json.dumps({"began_s": self.began_s, "unstarted": self.unstarted})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run: kept on its Job once the pods that could tell are gone.

    Args:
        code: as of a process, negative for death by that signal; None where nobody saw it.
        spans: when it drew power; Unix seconds.
        is_unstarted: nothing of it has run.
    """

    code: int | None
    spans: tuple[Span, ...] = ()
    detail: str = ""
    is_unstarted: bool = False

    def text(self) -> str:
        """For the annotation."""
        return json.dumps(asdict(self))


def parse_ending(text: str) -> Ending:
    """Of the annotation; an empty one where somebody has changed it."""
    try:
        body = json.loads(text)
        began_s = body["began_s"]
        return Ending(
            began_s=None if began_s is None else float(began_s), unstarted=str(body["unstarted"])
        )
    except (ValueError, KeyError, TypeError):
        return Ending()


def parse_outcome(text: str) -> Outcome:
    """Of the annotation; one without a code where somebody has changed it."""
    try:
        body = json.loads(text)
        code = body["code"]
        return Outcome(
            code=None if code is None else int(code),
            spans=tuple((float(low), float(high)) for low, high in body["spans"]),
            detail=str(body["detail"]),
            is_unstarted=body["is_unstarted"] is True,
        )
    except (ValueError, KeyError, TypeError):
        return Outcome(code=None, detail="its recorded outcome cannot be read")


def build_status(
    name: str, job: KubeJob, pods: Sequence[KubePod], *, at: At, detail: str = ""
) -> RunStatus:
    """The status of the run of that name.

    Args:
        name: `Dispatch.name`.
        job: its Job.
        pods: of the Job, also those that are gone by now.
        at: the service's time at a wall-clock instant.
        detail: what else is known of why it waits.
    """
    state = _state(job, pods)
    if state is RunState.ENDED:
        outcome = outcome_of(job, pods)
        if outcome.is_unstarted:
            return RunStatus(
                name=name, ref=job.name, state=RunState.UNSTARTED, detail=outcome.detail
            )
        return RunStatus(
            name=name,
            ref=job.name,
            state=state,
            spans=windows_of(outcome.spans, at),
            exit_code=outcome.code,
            detail=outcome.detail,
        )
    live = [pod.began_s for pod in pods if pod.is_live and pod.began_s is not None]
    is_open = state is RunState.RUNNING and bool(live)
    return RunStatus(
        name=name,
        ref=job.name,
        state=state,
        spans=windows_of(spans_of([pod for pod in pods if not pod.is_live]), at),
        since=at(min(live)) if is_open else None,
        detail=(trouble_of(pods) or detail) if state is RunState.PENDING else "",
    )


def outcome_of(job: KubeJob, pods: Sequence[KubePod]) -> Outcome:
    """What became of a run that is over, or has left as it was asked to."""
    if job.outcome:
        return parse_outcome(job.outcome)
    spans = spans_of(pods)
    if job.end == "Complete":
        return Outcome(code=0, spans=spans)
    is_count = job.why.startswith("BackoffLimitExceeded")
    # Pods that we told to leave may count as failures before the Job is seen to be suspended.
    if job.end == "Failed" and not (job.ending and is_count):
        code = _failing_code(pods)
        known = code is not None and is_count
        return Outcome(code=code, spans=spans, detail="" if known else f"Kubernetes: {job.why}")
    ending = parse_ending(job.ending)
    if ending.unstarted:
        # One that just began is to be run again, whatever it made of being told to leave.
        code = EX_TEMPFAIL if spans else None
        return Outcome(code=code, spans=spans, detail=ending.unstarted, is_unstarted=not spans)
    return _left(job, ending, pods, spans=spans)


def has_left(job: KubeJob, pods: Sequence[KubePod]) -> bool:
    """Whether a run that was asked to leave has, so that its outcome can be kept."""
    return bool(job.ending) and not job.is_over and _is_gone(job, pods)


def is_unstarted(job: KubeJob) -> bool:
    """Whether it was sent away before anything of it had run."""
    return bool(job.outcome) and parse_outcome(job.outcome).is_unstarted


def trouble_of(pods: Sequence[KubePod]) -> str:
    """Why it does not start, as its pods tell."""
    return next((f"Kubernetes: {pod.trouble}" for pod in pods if pod.is_live and pod.trouble), "")


def _state(job: KubeJob, pods: Sequence[KubePod]) -> RunState:
    is_live = any(pod.is_live for pod in pods)
    if job.outcome or (job.end and not is_live):  # what became of its last pod may be told later
        return RunState.ENDED
    if _is_gone(job, pods) and not job.ending:
        return RunState.FROZEN
    has_begun = any(pod.began_s is not None for pod in pods)
    # One that has left as it was asked to is no news before its outcome is kept.
    return RunState.RUNNING if has_begun else RunState.PENDING


def _is_gone(job: KubeJob, pods: Sequence[KubePod]) -> bool:
    return job.is_empty and not any(pod.is_live for pod in pods)


def _left(
    job: KubeJob, ending: Ending, pods: Sequence[KubePod], *, spans: tuple[Span, ...]
) -> Outcome:
    """A run that was asked to leave: by the last pod of each index."""
    codes = [_code(pod) for pod in _last_of_each(pods)]
    if not codes and ending.began_s is not None:
        # It ran, but nobody was there to see how its pods went.
        end_s = max(job.suspended_s or 0.0, ending.began_s + 1)
        said = "its pods were gone before their exit codes could be read"
        return Outcome(code=None, spans=((ending.began_s, end_s),), detail=said)
    if not codes or None in codes:
        return Outcome(code=None, spans=spans)
    # Asked to end, it may have left with 0 without having done its work.
    known = [-_SIGTERM if code == 0 else code for code in codes if code is not None]
    unsaved = [code for code in known if code != EX_TEMPFAIL]
    return Outcome(code=min(unsaved) if unsaved else EX_TEMPFAIL, spans=spans)


def _failing_code(pods: Sequence[KubePod]) -> int | None:
    """Of the pod that failed first: the others were told to leave because of it."""
    failed = [
        (pod.deleting_s is not None, pod.ended_s or 0.0, pod)
        for pod in _last_of_each(pods)
        if pod.code not in (0, None) and not pod.is_disrupted
    ]
    return _code(min(failed, key=lambda one: one[:2])[2]) if failed else None


def _last_of_each(pods: Sequence[KubePod]) -> list[KubePod]:
    """The newest pod of each part and index."""
    last = dict[tuple[str, int], KubePod]()
    for pod in sorted(pods, key=lambda one: (one.began_s or 0.0, one.ended_s or 0.0, one.uid)):
        last[pod.part, pod.index] = pod
    return list(last.values())


def _code(pod: KubePod) -> int | None:
    """As of a process: container runtimes write 128 + the number of the signal."""
    code = pod.code
    if code is not None and _SIGNAL_BASE < code <= _SIGNAL_BASE + _LAST_SIGNAL:
        return _SIGNAL_BASE - code
    return code


def spans_of(pods: Sequence[KubePod]) -> tuple[Span, ...]:
    """When at least one pod ran. Kubernetes counts whole seconds: a shorter stretch is taken for one."""
    ends = [(pod.began_s, pod.ended_s or pod.deleting_s) for pod in pods]
    return merged_spans(
        [
            (began_s, max(ended_s, began_s + 1))
            for began_s, ended_s in ends
            if began_s is not None and ended_s is not None
        ]
    )


def merged_spans(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same stretches, those that touch each other as one, in order."""
    merged = list[Span]()
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def windows_of(spans: Sequence[Span], at: At) -> tuple[Window, ...]:
    """The same stretches in the service's time."""
    return tuple(Window(at(low), at(high)) for low, high in spans)
