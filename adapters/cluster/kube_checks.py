"""What `gridtide doctor` says about a Kubernetes cluster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_errors import explained
from adapters.cluster.kube_objects import KubeTerms
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError
from adapters.cluster.kueue_checks import kueue_lines
from adapters.cluster.kueue_workloads import Workloads
from scheduler.core.job import JobId
from scheduler.ports import Check, Dispatch

MAX_SKEW_S: Final = 30.0
VERSION: Final = "/version"
ROLE: Final = "deploy/kubernetes/role.yaml"


@dataclass(frozen=True, slots=True)
class Right:
    """A permission in the namespace, and what goes wrong without it; empty: nothing can be done."""

    verb: str
    resource: str
    group: str = ""
    without: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


RIGHTS: Final = (
    *(
        Right(verb, "jobs", "batch")
        for verb in ("create", "get", "list", "watch", "patch", "delete")
    ),
    Right("list", "pods"),
    Right("watch", "pods"),
    Right("delete", "pods", "", "no run ends sooner than its own grace allows"),
    Right("create", "services", "", "jobs on several nodes are refused"),
    Right("list", "events", "", "a run that a quota keeps from starting does not say so"),
    Right(
        "create", "events", "", "users see what is planned for their own Jobs in annotations alone"
    ),
    Right("list", "resourcequotas", "", "quotas are not counted with"),
)
"""What the role of this project grants; a test compares them."""


class KubeChecks:
    """One line each for the server, the permissions, a trial of a Job, the devices and the checkpoints.

    Args:
        sample: a Job such as would be created.
        free_devices: what is free, and where the numbers come from.
        terms: of its Jobs.
        queued: what is in Kueue's queues, where the cluster has Kueue.
    """

    def __init__(  # noqa: PLR0913 - all that a line is about
        self,
        cluster_id: str,
        client: KubeClient,
        *,
        namespace: str,
        sample: Mapping[str, Any],
        free_devices: Callable[[], tuple[Mapping[str, int], str]],
        terms: KubeTerms,
        queued: Workloads | None = None,
    ) -> None:
        self._subject = f"cluster {cluster_id}"
        self._client = client
        self._namespace = namespace
        self._sample = dict(sample)
        self._free_devices = free_devices
        self._terms = terms
        self._queued = queued

    def build(self) -> list[Check]:
        """The lines; the first one that is not well is the last, for the others follow from it."""
        lines: list[Check] = []
        steps = (self._server, self._rights, self._kueue, self._trial, self._devices)
        for step in steps:
            try:
                lines += step()
            except (KubeRefusedError, KubeSilentError) as error:
                return [*lines, self._line(False, explained(error, self._namespace))]
            if not all(line.is_ok for line in lines):
                return lines
        return [*lines, self._line(True, checkpoint_words(self._terms))]

    def _line(self, is_ok: bool, detail: str) -> Check:
        return Check(subject=self._subject, is_ok=is_ok, detail=detail)

    def _server(self) -> list[Check]:
        version = self._client.get(VERSION).get("gitVersion") or "of an unknown version"
        answers = f"Kubernetes {version} answers; jobs go to namespace {self._namespace}"
        return [self._line(True, answers), self._line(*_clock(self._client.link.ahead_s))]

    def _rights(self) -> list[Check]:
        missing = [
            right
            for right in RIGHTS
            if not self._client.may(
                right.verb, right.resource, group=right.group, namespace=self._namespace
            )
        ]
        needed = [str(right) for right in missing if not right.without]
        if needed:
            said = (
                f"in namespace {self._namespace} it may not {', '.join(needed)}; {ROLE} grants that"
            )
            return [self._line(False, said)]
        spared = [f"it may not {right}: {right.without}" for right in missing]
        return [self._line(True, "; ".join(spared) or "it has every permission that it needs")]

    def _kueue(self) -> list[Check]:
        if self._queued is None:
            return []
        return [self._line(*line) for line in kueue_lines(self._client, self._queued, self._terms)]

    def _trial(self) -> list[Check]:
        """Creates a Job for show: the server validates it and asks quotas and policies, but keeps nothing."""
        self._client.create(path_of("jobs", self._namespace), self._sample, is_dry=True)
        return [self._line(True, "a Job such as ours would be taken")]

    def _devices(self) -> list[Check]:
        free, source = self._free_devices()
        counted = ", ".join(f"{name} {count}" for name, count in free.items()) or "none"
        return [self._line(True, f"free devices: {counted} (by {source})")]


def sample_dispatch(accelerator: str) -> Dispatch:
    """A run such as ours, for the trial."""
    return Dispatch(
        name="gridtide-doctor.0.0",
        job_id=JobId("gridtide-doctor"),
        command=("true",),
        env=(),
        workdir=None,
        accelerator=accelerator,
        gpus=1,
        num_nodes=1,
        checkpoint_key="gridtide-doctor",
    )


def checkpoint_words(terms: KubeTerms) -> str:
    """What becomes of checkpoints."""
    claim = terms.checkpoint_claim
    if claim is None:
        return "no volume keeps checkpoints: a run that is paused begins anew; set kubernetes.checkpoint_claim"
    return f"checkpoints are kept on the claim {claim}, at {terms.checkpoints}"


def _clock(ahead_s: float | None) -> tuple[bool, str]:
    if ahead_s is None:
        return True, "its clock is not known"
    if abs(ahead_s) <= MAX_SKEW_S:
        return True, "its clock agrees with ours"
    side = "ahead of" if ahead_s > 0 else "behind"
    return False, (
        f"its clock is {abs(ahead_s):.0f} s {side} ours: times of runs are wrong by so much, and tokens expire "
        "too early or too late; synchronise both"
    )
