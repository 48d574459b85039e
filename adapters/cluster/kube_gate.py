"""Who lets our Jobs have pods: their own `spec.suspend`, or for those in a queue of Kueue their Workload."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from adapters.cluster.kube_records import QUEUE, KubeJob
from adapters.cluster.kueue_workloads import Workloads

Patch = Callable[[KubeJob, dict[str, Any]], KubeJob | None]
"""Changes a Job that still is the one which was seen; None where it is not."""
Notes = Mapping[str, str]


class KubeGate:
    """Jobs that are in no queue.

    Args:
        patch: of the cluster.
    """

    def __init__(self, patch: Patch) -> None:
        self._patch = patch

    def seen(self, job: KubeJob) -> KubeJob:
        """The Job with `is_suspended` for whether it was asked to have no pods, and has understood it."""
        return job

    def words(self, job: KubeJob) -> str:
        """Why it has no pods, as far as that is decided here."""
        return ""

    def shut(self, job: KubeJob, notes: Notes) -> None:
        """Asks the Job to have no pods; the annotations say why."""
        self._patch(job, {"metadata": {"annotations": dict(notes)}, "spec": {"suspend": True}})

    def keep_shut(self, job: KubeJob) -> None:
        """Asks again, where the annotations are there and something else may have got lost."""

    def keep_open(self, job: KubeJob) -> None:
        """Answers for one that is to run what may ask about it."""

    def open(self, job: KubeJob) -> None:
        """Lets it have pods."""
        self._patch(job, {"spec": {"suspend": False}})


class KueueGate(KubeGate):
    """Jobs of which some are in queues of Kueue: their `spec.suspend` is never written once they are there.

    Args:
        patch: of the cluster.
        workloads: of the namespace.
    """

    def __init__(self, patch: Patch, workloads: Workloads) -> None:
        super().__init__(patch)
        self._workloads = workloads

    def seen(self, job: KubeJob) -> KubeJob:
        """One that waits in its queue was not asked to have no pods, unless it had some before: then it rests."""
        if not job.queue or job.is_over:
            return job
        workload = self._workloads.known(job.owner)
        rests = workload is not None and (not workload.is_active or workload.was_admitted)
        return replace(job, is_suspended=rests and job.is_suspended)

    def words(self, job: KubeJob) -> str:
        """What Kueue says."""
        if not job.queue:
            return ""
        workload = self._workloads.known(job.owner)
        if workload is None:
            return f"in queue {job.queue}: Kueue has not taken it up yet"
        if workload.is_admitted:
            return ""
        return f"queued in Kueue ({job.queue}): {workload.waits_for or 'not looked at yet'}"

    def shut(self, job: KubeJob, notes: Notes) -> None:
        """The annotations first: whatever happens then, it is asked again by `keep_shut`."""
        if not job.queue:
            super().shut(job, notes)
            return
        if self._patch(job, {"metadata": {"annotations": dict(notes)}}) is not None:
            self.keep_shut(job)

    def keep_shut(self, job: KubeJob) -> None:
        """Has its Workload inactive; one that has none yet leaves its queue instead, suspended as it was created."""
        if not job.queue:
            return
        workload = self._workloads.find(job.owner)
        if workload is None:
            self._patch(job, {"metadata": {"labels": {QUEUE: None}}})
        elif workload.is_active:
            self._workloads.shut(workload)

    def keep_open(self, job: KubeJob) -> None:
        """Our own runs pass our own check: they were created when they are to start."""
        workload = self._workloads.known(job.owner) if job.queue and not job.is_over else None
        if workload is not None and workload.is_active:
            self._workloads.answer(workload)

    def open(self, job: KubeJob) -> None:
        """Has its Workload active again; when it is admitted is Kueue's to say."""
        workload = self._workloads.find(job.owner) if job.queue else None
        if workload is not None:
            self._workloads.open(workload)
        elif not job.queue:
            super().open(job)
