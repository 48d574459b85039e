"""Settings of a Kubernetes cluster."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from scheduler.core.errors import InvalidJobError
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.server.fields import DurationS, Strict

KubernetesTerm = Literal["image", "queue", "manifest"]
"""What a job may state of Kubernetes, where its site allows it."""
KindName = Literal["Job", "JobSet", "TrainJob", "PyTorchJob", "RayJob"]
DEFAULT_GPU: Final = "nvidia.com/gpu"
_LABEL_NAME: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_OBJECT_NAME: Final = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_RESOURCE: Final = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
_MEMORY: Final = r"^[1-9][0-9]{0,9}(Ki|Mi|Gi|Ti|k|M|G|T)?$"
_PATH: Final = re.compile(r"/[^:\x00-\x1f]*[^:/\x00-\x1f]")

Namespace = Annotated[str, Field(pattern=_LABEL_NAME)]
ObjectName = Annotated[str, Field(pattern=_OBJECT_NAME)]


class TolerationSettings(Strict):
    """A taint of nodes that does not keep these pods away."""

    key: str = Field(min_length=1, max_length=317)
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = Field(default=None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class KubernetesDeviceSettings(Strict):
    """How one accelerator is asked for.

    Args:
        resource: what its device plugin calls it; `cpu` for CPU, and `nvidia.com/gpu` where not given.
        node_selector: labels of the nodes that have it.
        cpus: and so many CPUs for each device; memory: and so much, such as 64Gi.
    """

    resource: str | None = Field(default=None, pattern=_RESOURCE)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[TolerationSettings] = Field(default_factory=list)
    cpus: float | None = Field(default=None, gt=0, le=1024, allow_inf_nan=False)
    memory: str | None = Field(default=None, pattern=_MEMORY)


class KubernetesVolumeSettings(Strict):
    """A claim that every pod sees at that path."""

    claim: ObjectName
    path: str
    read_only: bool = False

    @field_validator("path")
    @classmethod
    def _is_absolute(cls, path: str) -> str:
        return _absolute(path)


class KueueSettings(Strict):
    """That Kueue is in the cluster: Jobs in its queues start when it admits them, and nobody else unsuspends them.

    Args:
        queue: LocalQueue that our runs wait in; without it only those that name one do.
        check: AdmissionCheck of controllerName gridtide.dev/carbon, where users' ClusterQueues have it.
    """

    queue: ObjectName | None = None
    check: ObjectName | None = None


class KubernetesLogin(Strict):
    """How a cluster is reached.

    Args:
        context: of the kubeconfig; never its current one by accident.
        kubeconfig: the file; those of KUBECONFIG, or ~/.kube/config, where not given.
        in_cluster: log in as the pod that the service is.
    """

    context: str | None = Field(default=None, min_length=1)
    kubeconfig: Path | None = None
    in_cluster: bool = False

    @model_validator(mode="after")
    def _has_one_login(self) -> Self:
        if self.in_cluster == (self.context is not None):
            raise ValueError("context and in_cluster: give one of them")
        if self.in_cluster and self.kubeconfig is not None:
            raise ValueError("kubeconfig: in_cluster needs none; leave it out, or give context")
        return self


class KubernetesSettings(KubernetesLogin):
    """What is particular to a Kubernetes cluster, beside how it is reached.

    Args:
        namespace: where the jobs go; that of the context or of the pod where not given.
        image: container image of jobs that name none.
        devices: per accelerator of the capacity, how it is asked for.
        service_account, priority_class, pull_secrets: of every pod.
        checkpoint_claim: PersistentVolumeClaim that keeps checkpoints; without it a paused run begins anew.
        checkpoint_path: where pods see theirs.
        volumes: further claims, such as for data.
        start_within: a run that has not started by then is taken back, and planned anew.
        keep: how long Jobs that have ended stay.
        allow: which terms a job may set for itself; `manifest`: its pods are then what the user writes.
        adopt: plan the Jobs that users create themselves, where their annotations ask for it: `true` for those in
            the same namespace, or a list of namespaces.
        kinds: of those jobs.
        kueue: where the cluster has Kueue; even if empty, Jobs in its queues are planned.
    """

    namespace: Namespace | None = None
    image: str
    devices: dict[str, KubernetesDeviceSettings] = Field(default_factory=dict)
    service_account: ObjectName | None = None
    priority_class: ObjectName | None = None
    pull_secrets: list[ObjectName] = Field(default_factory=list)
    checkpoint_claim: ObjectName | None = None
    checkpoint_path: str = "/gridtide/checkpoints"
    volumes: list[KubernetesVolumeSettings] = Field(default_factory=list)
    start_within: DurationS = 600
    keep: DurationS = 7 * 86_400
    prefix: str = Field(default="gt-", pattern=r"^[a-z][a-z0-9-]{0,14}-$")
    allow: list[KubernetesTerm] = Field(default=["image"])
    adopt: bool | list[Namespace] = False
    kinds: list[KindName] = Field(default=["Job"])
    kueue: KueueSettings | None = None

    @field_validator("checkpoint_path")
    @classmethod
    def _is_absolute(cls, path: str) -> str:
        return _absolute(path)

    @field_validator("image")
    @classmethod
    def _is_image(cls, image: str) -> str:
        try:
            JobKubernetes(image=image)
        except InvalidJobError as error:
            raise ValueError(error.message.partition(": ")[2]) from error
        return image

    @field_validator("adopt")
    @classmethod
    def _names_each_once(cls, adopt: bool | list[str]) -> bool | list[str]:
        if isinstance(adopt, list) and (not adopt or len(set(adopt)) < len(adopt)):
            raise ValueError("name one namespace or more, each once; or write true or false")
        return adopt

    @field_validator("kinds")
    @classmethod
    def _names_each_kind_once(cls, kinds: list[KindName]) -> list[KindName]:
        if not kinds or len(set(kinds)) < len(kinds):
            raise ValueError("name one kind or more, each once, such as [Job, JobSet]")
        return kinds

    @model_validator(mode="after")
    def _has_kinds_to_adopt(self) -> Self:
        if self.adopt is False and "kinds" in self.model_fields_set:
            raise ValueError(
                "kinds: they are those of adopt, which is not set; set it, or leave kinds out"
            )
        return self

    def adopted_namespaces(self, own: str) -> tuple[str, ...]:
        """Where users' own Jobs are planned; `own` is where ours go."""
        if isinstance(self.adopt, bool):
            return (own,) if self.adopt else ()
        return tuple(self.adopt)

    @model_validator(mode="after")
    def _has_kueue_for_queues(self) -> Self:
        if "queue" in self.allow and self.kueue is None:
            raise ValueError(
                "allow: queue needs kueue: {...}, even if empty; leave it out, or add that"
            )
        if self.kueue is not None and self.kueue.check and "Job" not in self.kinds:
            raise ValueError(
                "kueue.check needs Job among kinds, for nobody else answers it; add it"
            )
        return self


def _absolute(path: str) -> str:
    if not _PATH.fullmatch(path) or ".." in path.split("/"):
        raise ValueError(f"{path!r} is not an absolute path without ':' and '..', such as /data")
    return path
