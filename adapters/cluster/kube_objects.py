"""What is created for a run: a Job, and a Service where its pods must find each other. Pure."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from adapters.cluster.kube_records import DEVICES, INSTANCE, MANAGED_BY, PREFIX, QUEUE, RUN
from scheduler.ports import Dispatch

Document = dict[str, Any]
CHECKPOINTS: Final = "checkpoints"
"""Name of the volume in the pod."""
CONTAINER: Final = "main"
_MAX_NAME: Final = 52
"""Room is left for `-INDEX` in host names and `-xxxxx` in names of pods, within 63."""
_RUN: Final = re.compile(r"(?P<job>.+)\.(?P<attempt>\d+)\.(?P<segment>\d+)")
_DNS: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_QUANTITY: Final = re.compile(r"(\d+)([A-Za-z]*)")
_DIGEST: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeToleration:
    """A taint of nodes that does not keep pods away."""

    key: str
    operator: str = "Exists"
    value: str | None = None
    effect: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeDevice:
    """How one accelerator is asked for.

    Args:
        resource: `cpu`, or what a device plugin calls it.
        cpus: and so many CPUs for each device; None for what the namespace gives by default.
        memory: and so much memory for each, such as `16Gi`.
    """

    resource: str
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[KubeToleration, ...] = ()
    cpus: float | None = None
    memory: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeVolume:
    """A PersistentVolumeClaim that every run sees."""

    claim: str
    path: str
    is_read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeTerms:
    """What the Jobs of a cluster have in common.

    Args:
        image: of jobs that name none.
        checkpoints: path of the checkpoint folders in the pods.
        checkpoint_claim: the claim that keeps them; None: they go with their pod.
        keep_s: how long an ended Job stays, should nobody remove it.
        instance: tells our Jobs from those of another Gridtide.
        queue: of Kueue, that of jobs which name none; None: they are in no queue.
    """

    image: str
    checkpoints: str
    checkpoint_claim: str | None = None
    volumes: tuple[KubeVolume, ...] = ()
    service_account: str | None = None
    pull_secrets: tuple[str, ...] = ()
    priority_class: str | None = None
    keep_s: int = 7 * 86_400
    instance: str = "gt"
    queue: str | None = None


def object_name(run: str, prefix: str) -> str:
    """The name of the Job of a run: `PREFIX<job>-<attempt>-<segment>`, the same for ever and for no other run.

    What a Kubernetes name cannot hold, or is too long, is told by a digest.
    """
    parts = _RUN.fullmatch(run)
    job, rest = (parts["job"], f"-{parts['attempt']}-{parts['segment']}") if parts else (run, "")
    room = _MAX_NAME - len(prefix) - len(rest)
    if parts and _DNS.fullmatch(job) and len(job) <= room:
        return f"{prefix}{job}{rest}"
    digest = hashlib.sha256(run.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    kept = re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-")[: room - _DIGEST - 1].strip("-")
    return f"{prefix}{kept}-{digest}{rest}" if kept else f"{prefix}{digest}{rest}"


def build_job(
    dispatch: Dispatch, *, name: str, terms: KubeTerms, device: KubeDevice, each: int
) -> Document:
    """The Job of a run.

    Args:
        dispatch: the run.
        name: of `object_name`.
        terms: of the cluster.
        device: how its accelerator is asked for.
        each: devices for each pod.
    """
    many = {
        "completionMode": "Indexed",
        "completions": dispatch.num_nodes,
        "parallelism": dispatch.num_nodes,
    }
    labels = labels_of(dispatch, terms)
    queue = queue_of(dispatch, terms)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": labels | ({QUEUE: queue} if queue else {}),
            "annotations": marks_of(dispatch),
        },
        "spec": {
            # Kueue lets it start. It suspends it itself, too; but what does not reach Kueue must not run beside its queues.
            **({"suspend": True} if queue else {}),
            **(many if dispatch.num_nodes > 1 else {"completions": 1, "parallelism": 1}),
            "backoffLimit": 0,  # another attempt is ours to decide on
            "ttlSecondsAfterFinished": terms.keep_s,
            "podFailurePolicy": {"rules": [_SPARED]},
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(dispatch, name, terms=terms, device=device, each=each),
            },
        },
    }


def build_service(name: str, job_uid: str, labels: Mapping[str, str]) -> Document:
    """The headless Service by which the pods of a Job find each other; it goes when the Job goes."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": dict(labels),
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job_uid}
            ],
        },
        "spec": {
            "clusterIP": "None",
            "selector": {"batch.kubernetes.io/job-name": name},
            # Before all are ready, for they look for each other in order to become so.
            "publishNotReadyAddresses": True,
        },
    }


def queue_of(dispatch: Dispatch, terms: KubeTerms) -> str | None:
    """The queue of Kueue that the run waits in; None for none."""
    return (dispatch.kubernetes and dispatch.kubernetes.queue) or terms.queue


def is_sendable(text: str) -> bool:
    """Whether a Job can hold it: Unicode, without NUL."""
    return "\0" not in text and not any(0xD800 <= ord(one) <= 0xDFFF for one in text)


def selector_of(terms: KubeTerms) -> str:
    """What finds the Jobs and pods of this Gridtide, and no others."""
    return f"{MANAGED_BY}=gridtide,{INSTANCE}={terms.instance}"


_SPARED: Final[Document] = {
    # Drained, preempted, or its machine taken back: the pod is replaced, and the run goes on.
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}


def labels_of(dispatch: Dispatch, terms: KubeTerms) -> dict[str, str]:
    """By which a Job and its pods are found."""
    return {
        MANAGED_BY: "gridtide",
        INSTANCE: terms.instance,
        f"{PREFIX}/job-id": _label(dispatch.job_id),
    }


def marks_of(dispatch: Dispatch) -> dict[str, str]:
    """Annotations of a Job: which run it is, and what it takes."""
    return {RUN: dispatch.name, DEVICES: f"{dispatch.accelerator}:{dispatch.gpus}"}


def _label(text: str) -> str:
    if _LABEL.fullmatch(text):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _pod(
    dispatch: Dispatch, name: str, *, terms: KubeTerms, device: KubeDevice, each: int
) -> Document:
    folder = f"{terms.checkpoints}/{dispatch.checkpoint_key}"
    spec: Document = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": max(1, round(dispatch.grace_s)),
        "containers": [
            {
                "name": CONTAINER,
                "image": (dispatch.kubernetes and dispatch.kubernetes.image) or terms.image,
                "command": [_literal(one) for one in dispatch.command],
                "env": variables_of(
                    dispatch,
                    folder=folder,
                    first_node=f"{name}-0.{name}" if dispatch.num_nodes > 1 else None,
                ),
                "resources": _resources(device, each),
                "volumeMounts": _mounts(dispatch, terms, folder),
                **({"workingDir": dispatch.workdir} if dispatch.workdir else {}),
            }
        ],
        "volumes": _volumes(terms),
        # A training job has no business with the API.
        "automountServiceAccountToken": False,
    }
    spec |= {"nodeSelector": dict(device.node_selector)} if device.node_selector else {}
    spec |= {"tolerations": tolerations_of(device.tolerations)} if device.tolerations else {}
    spec |= {"subdomain": name} if dispatch.num_nodes > 1 else {}
    spec |= {"serviceAccountName": terms.service_account} if terms.service_account else {}
    spec |= {"priorityClassName": terms.priority_class} if terms.priority_class else {}
    secrets = [{"name": one} for one in terms.pull_secrets]
    return spec | ({"imagePullSecrets": secrets} if secrets else {})


def variables_of(dispatch: Dispatch, *, folder: str, first_node: str | None) -> list[Document]:
    """Variables of its containers; an empty folder, or no first node, where the pods have none."""
    env = dict(dispatch.env)
    env |= {"GRIDTIDE_CHECKPOINT_DIR": folder} if folder else {}
    if first_node is not None:
        env |= {"GRIDTIDE_NODES": str(dispatch.num_nodes), "GRIDTIDE_FIRST_NODE": first_node}
    return [{"name": key, "value": _literal(value)} for key, value in env.items()]


def _literal(text: str) -> str:
    """Kubernetes puts variables in for $(NAME), and takes $$ for $."""
    return text.replace("$", "$$")


def _resources(device: KubeDevice, each: int) -> Document:
    requests: Document = {}
    if device.cpus is not None and device.resource != "cpu":
        requests["cpu"] = f"{round(device.cpus * each * 1000)}m"
    if device.memory is not None:
        requests["memory"] = _times(device.memory, each)
    if device.resource == "cpu":
        # A request only: a limit would slow the run down where the node has more to give.
        return {"requests": {"cpu": str(each)} | requests}
    devices = {device.resource: str(each)}
    return {"requests": requests | devices, "limits": devices}


def _times(quantity: str, count: int) -> str:
    parts = _QUANTITY.fullmatch(quantity)
    assert parts is not None, quantity  # settings take no other
    return f"{int(parts[1]) * count}{parts[2]}"


def checkpoint_mount(volume: str, folder: str, key: str) -> Document:
    """A job's own folder of the claim, by a path that the node makes: a job sees no other one."""
    return {"name": volume, "mountPath": folder, "subPath": key}


def _mounts(dispatch: Dispatch, terms: KubeTerms, folder: str) -> list[Document]:
    own = checkpoint_mount(CHECKPOINTS, folder, dispatch.checkpoint_key)
    if terms.checkpoint_claim is None:
        del own["subPath"]
    mounts = [own]
    for number, volume in enumerate(terms.volumes):
        mount: Document = {"name": f"volume-{number}", "mountPath": volume.path}
        mounts.append(mount | ({"readOnly": True} if volume.is_read_only else {}))
    return mounts


def _volumes(terms: KubeTerms) -> list[Document]:
    claim = terms.checkpoint_claim
    kept: Document = {"emptyDir": {}} if claim is None else claimed(claim)
    others = [
        {"name": f"volume-{number}", **claimed(one.claim)}
        for number, one in enumerate(terms.volumes)
    ]
    return [{"name": CHECKPOINTS, **kept}, *others]


def claimed(claim: str) -> Document:
    """A volume that is that PersistentVolumeClaim."""
    return {"persistentVolumeClaim": {"claimName": claim}}


def tolerations_of(tolerations: Sequence[KubeToleration]) -> list[Document]:
    """As a pod states them."""
    return [
        {
            key: value
            for key, value in {
                "key": one.key,
                "operator": one.operator,
                "value": one.value,
                "effect": one.effect,
            }.items()
            if value is not None
        }
        for one in tolerations
    ]
