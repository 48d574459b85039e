"""Settings of `gridtide dispatcher`, which nominates clusters of MultiKueue."""

from typing import Annotated

from pydantic import Field, field_validator

from scheduler.server.fields import DurationS
from scheduler.server.kubernetes_settings import KubernetesLogin, Namespace, ObjectName


class MultiKueueSettings(KubernetesLogin):
    """The manager cluster, and who its workers are here.

    Args:
        namespaces: of the manager cluster, whose Workloads are nominated.
        check: the AdmissionCheck of controllerName kueue.x-k8s.io/multikueue.
        clusters: the workers, by their names as MultiKueueCluster: the id of each in `clusters`.
        next_after: a worker that has not admitted a Workload by then is not the only one any more.
        url: of the service that is asked for plans; where not given that of GRIDTIDE_URL, or else this machine's. Its
            token is in GRIDTIDE_TOKEN, or in the file that GRIDTIDE_TOKEN_FILE names.
    """

    namespaces: list[Namespace] = Field(min_length=1)
    check: ObjectName
    clusters: dict[str, Annotated[str, Field(min_length=1)]] = Field(min_length=1, max_length=10)
    next_after: DurationS = 300
    url: str | None = None

    @field_validator("namespaces")
    @classmethod
    def _names_each_once(cls, namespaces: list[str]) -> list[str]:
        if len(set(namespaces)) < len(namespaces):
            raise ValueError("name each namespace once")
        return namespaces
