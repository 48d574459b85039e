"""From Kubernetes' word on a user's Job to ours. Pure."""

import json
from collections.abc import Sequence
from typing import Final

from adapters.cluster.kube_native_record import (
    CANCELLED,
    GIVEN_BACK,
    PAUSED,
    RELEASED,
    SPANS,
    STATUS,
    KubeNative,
)
from adapters.cluster.kube_records import KubePod
from adapters.cluster.kube_status import (
    At,
    Span,
    merged_spans,
    outcome_of,
    spans_of,
    trouble_of,
    windows_of,
)
from scheduler.ports import RunState, RunStatus

MAX_SPANS: Final = 1000


def build_native_status(
    name: str, job: KubeNative, pods: Sequence[KubePod], *, at: At, detail: str = ""
) -> RunStatus:
    """The status of a Job of a user.

    Args:
        name: `native_name` of it.
        job: as it was told last.
        pods: of the Job, also those that are gone.
        at: the service's time at a wall-clock instant.
        detail: what else is known of why it has no pods.
    """
    spans = kept_spans(job, pods)
    if job.end:
        outcome = outcome_of(job, pods)
        # Some kinds leave pods running: they have nothing to do with it any more.
        end_s = job.end_s or 0.0
        left = [(one.began_s, end_s) for one in pods if one.is_live and one.began_s is not None]
        spans = merged_spans([*spans, *((low, max(high, low + 1)) for low, high in left)])
        # Where nobody saw its pods, the Job itself tells when it ran.
        told = spans or ((job.began_s, max(end_s, job.began_s + 1)),)
        return RunStatus(
            name=name,
            ref=job.ref,
            state=RunState.ENDED,
            spans=windows_of(told, at),
            exit_code=outcome.code,
            detail=outcome.detail,
        )
    if is_empty(job, pods):
        state = _at_rest(job, spans)
        said = job.marks.get(STATUS, "") if state is RunState.UNSTARTED else ""
        windows = windows_of(spans, at)
        return RunStatus(name=name, ref=job.ref, state=state, spans=windows, detail=said)
    live = [pod.began_s for pod in pods if pod.is_live and pod.began_s is not None]
    since_s = min(live, default=None)
    has_begun = since_s is not None or any(pod.began_s is not None for pod in pods)
    before = [one for one in spans if since_s is None or one[1] <= since_s]
    return RunStatus(
        name=name,
        ref=job.ref,
        state=RunState.RUNNING if has_begun else RunState.PENDING,
        spans=windows_of(before, at),
        since=None if since_s is None else at(since_s),
        detail="" if has_begun else trouble_of(pods) or detail,
    )


def is_empty(job: KubeNative, pods: Sequence[KubePod]) -> bool:
    """Whether it is suspended and no pod of it is left."""
    return job.is_empty and not any(pod.is_live for pod in pods)


def kept_spans(job: KubeNative, pods: Sequence[KubePod]) -> tuple[Span, ...]:
    """When it ran, by what is marked at it and by its pods that have ended."""
    ended = [pod for pod in pods if not pod.is_live]
    return merged_spans([*parse_spans(job.marks.get(SPANS, "")), *spans_of(ended)])


def parse_spans(text: str) -> tuple[Span, ...]:
    """Of the mark; none where somebody has changed it."""
    try:
        return tuple((float(low), float(high)) for low, high in json.loads(text))
    except (ValueError, TypeError):
        return ()


def spans_text(spans: Sequence[Span]) -> str:
    """For the mark: the newest, should there be very many."""
    return json.dumps(list(spans[-MAX_SPANS:]))


def _at_rest(job: KubeNative, spans: Sequence[Span]) -> RunState:
    """Of a Job without pods: it waits for its first start, or between two stretches, or for good."""
    if CANCELLED in job.marks:
        return RunState.ENDED
    if spans or PAUSED in job.marks or RELEASED in job.marks:
        return RunState.FROZEN
    return RunState.UNSTARTED if GIVEN_BACK in job.marks else RunState.PENDING
