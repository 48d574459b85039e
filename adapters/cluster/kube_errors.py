"""What a refusal or a silence of the API server means for a run. Pure."""

from typing import Final

from adapters.cluster.kube_refusals import KubeError, KubeSilentError, Refusal
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
    UpstreamError,
)

ROLE: Final = "deploy/kubernetes/role.yaml grants what is needed"


def unavailable(cluster_id: str, error: KubeError, *, namespace: str) -> ClusterUnavailableError:
    """The cluster cannot be used now; the message says why, and who can change that."""
    return ClusterUnavailableError(
        f"{cluster_id}: {explained(error, namespace)}", cluster=cluster_id
    )


def creation_error(cluster_id: str, error: KubeError, *, namespace: str) -> UpstreamError:
    """Whether a Job may have been created, and whether trying again can help."""
    words = f"{cluster_id}: {explained(error, namespace)}"
    if isinstance(error, KubeSilentError):
        if error.was_sent:
            return DispatchUncertainError(
                f"{words}; it is looked up before it is tried again", cluster=cluster_id
            )
        return ClusterUnavailableError(words, cluster=cluster_id)
    if error.kind is Refusal.QUOTA:
        return ClusterFullError(words, cluster=cluster_id)
    if error.kind in (Refusal.INVALID, Refusal.POLICY, Refusal.EXISTS, Refusal.CONFLICT):
        return DispatchRejectedError(words, cluster=cluster_id)
    return ClusterUnavailableError(words, cluster=cluster_id)


def explained(error: KubeError, namespace: str) -> str:
    """The server's words, with what to look for."""
    if isinstance(error, KubeSilentError):
        return str(error)
    match error.kind:
        case Refusal.LOGIN:
            return f"{error}: the token or certificate is no good, or not any more; renew it"
        case Refusal.RIGHT:
            return f"{error.missing_right} in namespace {namespace}; {ROLE}"
        case Refusal.MISSING if "namespaces" in error.said:
            return f"there is no namespace {namespace}; make it, or set kubernetes.namespace"
        case _:
            return str(error)
