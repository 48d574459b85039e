"""What is kept of a Job and of its pods. Pure: documents of the API in, small records out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from adapters.cluster.kube_kinds import JOB, Document, KubeKind, part, parts
from scheduler.core.errors import InvalidInputError
from scheduler.core.timegrid import within_reach

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
_PLACING: Final = ("affinity", "nodeName", "topologySpreadConstraints")
"""Of a pod: what leads it to nodes, beside labels."""
_INDEX: Final = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeJob:
    """A Job as the API told it, or one of another kind.

    Args:
        owner: its own uid.
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
        created_s: Unix seconds.
        began_s: when it was created, or let go on last.
        queue: of Kueue, which then decides on its start; empty for none.
        node_labels: that its pods want of nodes; None where these are not the same for all, or not all they want.
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
    created_s: float
    began_s: float
    queue: str = ""
    node_labels: Mapping[str, str] | None = None

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
        name: its uid, where it is of a job of another kind than Job.
        owner: whose it is, as `KubeKind.owner` tells: for pods of Jobs the uid.
        index: among the pods of an Indexed Job; 0 where there is one.
        part: which of the jobs or roles of a job of another kind it is of.
        created_s: Unix seconds.
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
    part: str = ""
    created_s: float = 0.0
    is_gone: bool = False

    @property
    def is_live(self) -> bool:
        """Whether a container of it runs, or may come to."""
        return self.ended_s is None and not self.is_gone


def parse_job(document: Document, kind: KubeKind = JOB) -> KubeJob:
    """The record of a job of that kind."""
    meta, status = part(document, "metadata"), part(document, "status")
    notes, labels = part(meta, "annotations"), part(meta, "labels")
    standing = kind.find_standing(document)
    graces = [one.spec.get("terminationGracePeriodSeconds") for one in kind.find_forms(document)]
    created_s = seconds(meta.get("creationTimestamp")) or 0.0
    resumed_s = 0.0 if standing.is_suspended else _when(standing.suspension)
    closing = standing.closing
    return KubeJob(
        name=str(meta.get("name")),
        owner=str(meta.get("uid")),
        version=str(meta.get("resourceVersion") or ""),
        run=notes.get(RUN) if labels.get(MANAGED_BY) == "gridtide" else None,
        instance=str(labels.get(INSTANCE) or ""),
        devices=_devices(str(notes.get(DEVICES) or "")),
        grace_s=max((float(one or 30) for one in graces), default=30.0),
        n_pods=standing.n_pods,
        is_suspended=bool(kind.terms(document).get("suspend")),
        suspended_s=_when(standing.suspension) if standing.is_suspended else None,
        end=standing.end,
        end_s=_when(closing) if standing.end else None,
        why=": ".join(filter(None, (closing.get("reason"), closing.get("message")))),
        ending=str(notes.get(ENDING) or ""),
        outcome=str(notes.get(OUTCOME) or ""),
        created_s=created_s,
        began_s=max(created_s, seconds(status.get("startTime")) or 0.0, resumed_s),
        queue=str(labels.get(QUEUE) or ""),
        node_labels=_node_labels([one.spec for one in kind.find_forms(document)]),
    )


def parse_pod(document: Document, kind: KubeKind = JOB) -> KubePod:
    """The record of a pod of a job of that kind, of all its containers together: a user's own may have several."""
    meta, status = part(document, "metadata"), part(document, "status")
    labels = part(meta, "labels")
    states = [part(one, "state") for one in parts(status, "containerStatuses")]
    ended = [one["terminated"] for one in states if part(one, "terminated")]
    is_going = any(part(one, "running") for one in states)
    has_ended = status.get("phase") in ("Succeeded", "Failed")
    deleting_s = seconds(meta.get("deletionTimestamp"))
    ended_s = max(_times(ended, "finishedAt"), default=None)
    if has_ended and ended_s is None:
        ended_s = _last_change(status) or deleting_s or 0.0
    index = str(labels.get(_INDEX) or "")
    return KubePod(
        # A PyTorchJob's pods come back under their names: those are no names for what is remembered of them.
        name=str(meta.get("name" if kind is JOB else "uid")),
        uid=str(meta.get("uid")),
        version=str(meta.get("resourceVersion") or ""),
        owner=kind.owner(labels),
        index=int(index) if index.isdecimal() else 0,
        part="/".join(str(labels.get(one) or "") for one in kind.places),
        created_s=seconds(meta.get("creationTimestamp")) or 0.0,
        began_s=_began_s(status),
        ended_s=ended_s if has_ended else None,
        deleting_s=deleting_s,
        code=_exit_code(ended, of=len(states)) if kind.has_codes else None,
        is_disrupted=any(
            one.get("type") == "DisruptionTarget" and one.get("status") == "True"
            for one in parts(status, "conditions")
        ),
        trouble="" if has_ended or is_going else _trouble(status, states),
    )


def _node_labels(pods: Sequence[Document]) -> dict[str, str] | None:
    asked = [part(one, "nodeSelector") for one in pods]
    own = any(pod.get(key) for pod in pods for key in _PLACING)
    is_plain = not own and all(one == asked[0] for one in asked)
    return {key: str(value) for key, value in asked[0].items()} if asked and is_plain else None


def _began_s(status: Document) -> float | None:
    """When the first container started, also one that only prepares: the pod has its devices from then on."""
    told = [
        one for key in ("initContainerStatuses", "containerStatuses") for one in parts(status, key)
    ]
    states = [part(one, "state", kind) for one in told for kind in ("terminated", "running")]
    if any(one.get("restartCount") for one in told):
        # One that was started again in its pod tells of its last start only.
        states.append({"startedAt": status.get("startTime")})
    return min(_times(states, "startedAt"), default=None)


def _exit_code(ended: Sequence[Document], *, of: int) -> int | None:
    """Of the container that failed first; 0 where all have ended well."""
    failed = [one for one in ended if one.get("exitCode") not in (0, None)]
    if failed:
        first = min(failed, key=lambda one: seconds(one.get("finishedAt")) or 0.0)
        return int(first["exitCode"])
    codes = [one.get("exitCode") for one in ended]
    return 0 if codes == [0] * of and of else None


def _times(states: Sequence[Document], key: str) -> list[float]:
    told = [seconds(one.get(key)) for one in states]
    return [one for one in told if one is not None]


def seconds(stamp: object) -> float | None:
    """Unix seconds of a time of the API; None for what is none, such as what somebody wrote into an annotation."""
    if not isinstance(stamp, str):
        return None
    try:
        at = datetime.fromisoformat(stamp)
        return within_reach(at if at.tzinfo else at.replace(tzinfo=UTC), field="time").timestamp()
    except (ValueError, InvalidInputError):
        return None


def _devices(text: str) -> tuple[str, int] | None:
    accelerator, _, count = text.rpartition(":")
    is_count = count.isdecimal() and len(count) < 10
    return (accelerator, int(count)) if accelerator and is_count else None


def _when(condition: Document) -> float:
    return seconds(condition.get("lastTransitionTime")) or 0.0


def _last_change(status: Document) -> float | None:
    times = [seconds(one.get("lastTransitionTime")) for one in parts(status, "conditions")]
    return max((one for one in times if one is not None), default=None)


def _trouble(status: Document, states: Sequence[Document]) -> str:
    """Why it does not start: no node for it, or a container that cannot be made."""
    before = [part(one, "state") for one in parts(status, "initContainerStatuses")]
    for waiting in (part(one, "waiting") for one in (*before, *states)):
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    for one in parts(status, "conditions"):
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return ": ".join(filter(None, (one.get("reason"), one.get("message"))))
    return ""
