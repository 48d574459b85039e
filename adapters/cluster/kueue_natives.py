"""Users' Jobs in queues of Kueue: held and let go by their Workloads, never by `spec.suspend`, which is Kueue's.

What is wanted is at the Job, in our marks; the Workload is made to follow. So a change that was only half made is
finished by whoever looks next. A Workload that we keep inactive has our mark; so its user's hand is told from ours:
active with the mark, its user has activated it; inactive without it, its user (or Kueue, for good) has stopped it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from adapters.cluster.kube_native_record import (
    ADOPTED,
    CANCELLED,
    HOLD,
    PAUSED,
    RELEASED,
    KubeNative,
    queue_barrier,
)
from adapters.cluster.kueue_records import KubeWorkload
from adapters.cluster.kueue_workloads import READY, Workloads

_KEEPS: Final = (ADOPTED, PAUSED, CANCELLED)
"""Marks of a Job that is ours to hold, unless it was let start."""


def as_queued(job: KubeNative, workload: KubeWorkload | None) -> KubeNative:
    """The Job of a queue with `is_suspended` for whether it is kept from having pods, by its Workload."""
    if not job.queue or job.is_over:
        return job
    if job.barrier == queue_barrier(job.queue):
        job = replace(job, barrier="")
    if workload is None:
        return job  # as it was created: suspended
    if not workload.is_active:
        marks = dict(job.marks)
        if workload.is_held:
            marks.pop(RELEASED, None)  # said, and not done yet
        else:
            marks[HOLD] = "true"
        return replace(job, is_suspended=True, marks=marks)
    if workload.is_held or _is_let_start(job):
        return replace(job, is_suspended=False)
    # It runs without us, or was asked to leave a moment ago; or it waits, and Kueue must be kept from it.
    return job if job.is_suspended else replace(job, is_suspended=_rests(job))


def _rests(job: KubeNative) -> bool:
    return PAUSED in job.marks or CANCELLED in job.marks


def _is_to_rest(job: KubeNative, workload: KubeWorkload) -> bool:
    """Whether its Workload must be kept from Kueue; one that Kueue admitted before it could be held is left to run."""
    return _rests(job) or not workload.is_admitted


def _is_let_start(job: KubeNative) -> bool:
    return RELEASED in job.marks and not _rests(job)


class QueuedNatives:
    """Those of one namespace.

    Every method but `seen` and `words` raises KubeRefusedError or KubeSilentError.
    """

    def __init__(self, workloads: Workloads) -> None:
        self.workloads: Final = workloads

    def seen(self, job: KubeNative) -> KubeNative:
        """See `as_queued`."""
        return as_queued(job, self.workloads.known(job.owner))

    def words(self, job: KubeNative) -> str:
        """Why it has no pods, in Kueue's words."""
        workload = self.workloads.known(job.owner)
        if not job.queue or workload is None or workload.is_admitted or not workload.is_active:
            return ""
        return f"queued in Kueue ({job.queue}): {workload.waits_for or 'not looked at yet'}"

    def follow(self, job: KubeNative) -> None:
        """Makes its Workload do what our marks at the Job say; no request where it does already.

        Args:
            job: as the API told it, not as `seen`.
        """
        workload = self.workloads.known(job.owner)
        if not job.queue or job.is_over or job.is_leaving or workload is None or workload.is_over:
            return
        if _is_let_start(job):
            if workload.is_active or workload.is_held:
                self.workloads.open(workload)
        elif any(mark in job.marks for mark in _KEEPS):
            if workload.is_active and not workload.is_held and _is_to_rest(job, workload):
                self.workloads.shut(workload)
        elif workload.is_held:
            self.workloads.open(workload)  # it is not ours any more

    def answer(
        self, jobs: Iterable[KubeNative], *, is_ours: Callable[[KubeNative], bool], is_all: bool
    ) -> None:
        """Lets everything pass our check that nobody is to hold: what does not ask, or is of another kind.

        Args:
            jobs: of the namespace, as seen.
            is_ours: whether one that asks is still to be held or adopted.
            is_all: whether a Workload whose Job is not among them has none.
        """
        check = self.workloads.check
        if check is None:
            return
        by_uid = {job.owner: job for job in jobs}
        for workload in self.workloads.copy.items():
            if workload.is_over or workload.checks.get(check) in (None, READY):
                continue
            job = by_uid.get(workload.owner)
            if job is None and workload.owner and not is_all:
                continue  # told before its Job
            if job is None or not job.asks or job.barrier or not is_ours(job):
                self.workloads.answer(workload)
