"""What is kept of a Job and of its pods. Pure: documents of the API in, small records out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

PREFIX: Final = "gridtide.dev"
RUN: Final = f"{PREFIX}/run"
"""Annotation of a Job: which run it is."""
DEVICES: Final = f"{PREFIX}/devices"
"""Annotation: `ACCELERATOR:COUNT`, what it takes of the capacity."""
ENDING: Final = f"{PREFIX}/ending"
"""Annotation: we have asked it to leave, and since when the run had been going."""
OUTCOME: Final = f"{PREFIX}/outcome"
"""Annotation: what became of a run whose pods are gone."""
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
INSTANCE: Final = "app.kubernetes.io/instance"
QUEUE: Final = "kueue.x-k8s.io/queue-name"
"""Label of a Job: the queue of Kueue in which it waits."""
_OWNER: Final = "batch.kubernetes.io/controller-uid"
_OLD_OWNER: Final = "controller-uid"
_INDEX: Final = "batch.kubernetes.io/job-completion-index"
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeJob:
    """A Job as the API told it.

    Args:
        owner: its own uid, as its pods name it.
        version: of what is told here; opaque.
        run: the run that we made it for; None where it is not ours.
        devices: accelerator and count that it takes while it may have pods.
        grace_s: how long its pods have after SIGTERM.
        n_pods: that run, or are on their way in or out.
        is_suspended: asked to have no pods.
        suspended_s: since when it has been; Unix seconds.
        end: `Complete`, `Failed`, or empty while it is neither.
        end_s: when that was so.
        why: reason and message of its end.
        ending, outcome: our annotations; empty where not set.
        began_s: when it was created, or let go on last.
        queue: of Kueue, which then decides on its start; empty for none.
    """

    name: str
    owner: str
    version: str
    run: str | None
    instance: str
    devices: tuple[str, int] | None
    grace_s: float
    n_pods: int
    is_suspended: bool
    suspended_s: float | None
    end: str
    end_s: float | None
    why: str
    ending: str
    outcome: str
    began_s: float
    queue: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it never has pods again."""
        return bool(self.end or self.outcome)

    @property
    def is_empty(self) -> bool:
        """Whether it is suspended, and by its own word no pod of it is left."""
        return self.is_suspended and self.suspended_s is not None and self.n_pods == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KubePod:
    """A pod of a Job.

    Args:
        owner: uid of the Job.
        index: among the pods of an Indexed Job; 0 where there is one.
        began_s: when its container started; Unix seconds.
        ended_s: when it ended; None while it may still run, or where nobody saw it end.
        deleting_s: when it is deleted at the latest, if it is being so.
        code: exit code as the container runtime tells it.
        is_disrupted: it had to leave for the cluster's reasons.
        trouble: why it does not start.
        is_gone: the cluster does not have it any more.
    """

    name: str
    uid: str
    owner: str
    version: str
    index: int
    began_s: float | None
    ended_s: float | None
    deleting_s: float | None
    code: int | None
    is_disrupted: bool
    trouble: str
    is_gone: bool = False

    @property
    def is_live(self) -> bool:
        """Whether a container of it runs, or may come to."""
        return self.ended_s is None and not self.is_gone


def parse_job(document: Document) -> KubeJob:
    """The record of a Job."""
    meta, spec, status = (_part(document, one) for one in ("metadata", "spec", "status"))
    notes, labels = _part(meta, "annotations"), _part(meta, "labels")
    conditions = {
        str(one.get("type")): one
        for one in status.get("conditions") or ()
        if one.get("status") == "True"
    }
    end = next((one for one in ("Complete", "Failed") if one in conditions), "")
    closing, suspension = conditions.get(end, {}), conditions.get("Suspended")
    counts = [int(status.get(one) or 0) for one in ("active", "terminating")]
    pod_spec = _part(_part(spec, "template"), "spec")
    created_s = seconds(meta.get("creationTimestamp")) or 0.0
    return KubeJob(
        name=str(meta.get("name")),
        owner=str(meta.get("uid")),
        version=str(meta.get("resourceVersion") or ""),
        run=notes.get(RUN) if labels.get(MANAGED_BY) == "gridtide" else None,
        instance=str(labels.get(INSTANCE) or ""),
        devices=_devices(str(notes.get(DEVICES) or "")),
        grace_s=float(pod_spec.get("terminationGracePeriodSeconds") or 30),
        n_pods=sum(counts),
        is_suspended=bool(spec.get("suspend")),
        suspended_s=None if suspension is None else _when(suspension),
        end=end,
        end_s=_when(closing) if end else None,
        why=": ".join(filter(None, (closing.get("reason"), closing.get("message")))),
        ending=str(notes.get(ENDING) or ""),
        outcome=str(notes.get(OUTCOME) or ""),
        began_s=max(created_s, seconds(status.get("startTime")) or 0.0),
        queue=str(labels.get(QUEUE) or ""),
    )


def parse_pod(document: Document) -> KubePod:
    """The record of a pod; of its first container, for ours have one."""
    meta, status = _part(document, "metadata"), _part(document, "status")
    labels = _part(meta, "labels")
    told: Sequence[Document] = status.get("containerStatuses") or ()
    state = _part(told[0], "state") if told else {}
    gone = _part(state, "terminated")
    going = _part(state, "running")
    has_ended = status.get("phase") in ("Succeeded", "Failed")
    ended_s, deleting_s = seconds(gone.get("finishedAt")), seconds(meta.get("deletionTimestamp"))
    if has_ended and ended_s is None:
        ended_s = _last_change(status) or deleting_s or 0.0
    code = gone.get("exitCode")
    index = str(labels.get(_INDEX) or "")
    return KubePod(
        name=str(meta.get("name")),
        uid=str(meta.get("uid")),
        version=str(meta.get("resourceVersion") or ""),
        owner=str(labels.get(_OWNER) or labels.get(_OLD_OWNER) or ""),
        index=int(index) if index.isdigit() else 0,
        began_s=seconds(gone.get("startedAt") or going.get("startedAt")),
        ended_s=ended_s if has_ended else None,
        deleting_s=deleting_s,
        code=int(code) if isinstance(code, int) else None,
        is_disrupted=any(
            one.get("type") == "DisruptionTarget" and one.get("status") == "True"
            for one in status.get("conditions") or ()
        ),
        trouble="" if has_ended or going else _trouble(status, state),
    )


def seconds(stamp: object) -> float | None:
    """Unix seconds of a time of the API; None for what is none."""
    if not isinstance(stamp, str):
        return None
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _devices(text: str) -> tuple[str, int] | None:
    accelerator, _, count = text.rpartition(":")
    return (accelerator, int(count)) if accelerator and count.isdigit() else None


def _part(document: Document, key: str) -> Document:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _when(condition: Document) -> float:
    return seconds(condition.get("lastTransitionTime")) or 0.0


def _last_change(status: Document) -> float | None:
    times = [seconds(one.get("lastTransitionTime")) for one in status.get("conditions") or ()]
    return max((one for one in times if one is not None), default=None)


def _trouble(status: Document, state: Document) -> str:
    """Why it does not start: no node for it, or a container that cannot be made."""
    waiting = _part(state, "waiting")
    if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    for one in status.get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return ": ".join(filter(None, (one.get("reason"), one.get("message"))))
    return ""
