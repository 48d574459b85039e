"""What a refusal or a silence of the API server means for a run. Pure."""

from typing import Final

from adapters.cluster.kube_kinds import JOB, KubeKind
from adapters.cluster.kube_refusals import KubeError, KubeRefusedError, KubeSilentError, Refusal
from adapters.cluster.kueue_records import KUEUE
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
    UpstreamError,
)

KUEUE_ROLE: Final = "deploy/kubernetes/role-kueue.yaml"
_UNSERVED: Final = (
    "it does not serve an API that the settings want of it (Kueue?); gridtide doctor says which"
)
_GRANTS: Final = "grants what is needed"


def role_of(kind: KubeKind) -> str:
    """The file with the rights for jobs of that kind."""
    return "deploy/kubernetes/role.yaml" if kind is JOB else "deploy/kubernetes/role-kinds.yaml"


def unavailable(
    cluster_id: str, error: KubeError, *, namespace: str, kind: KubeKind = JOB
) -> ClusterUnavailableError:
    """The cluster cannot be used now; the message says why, and who can change that."""
    return ClusterUnavailableError(
        f"{cluster_id}: {explained(error, namespace, kind)}", cluster=cluster_id
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


def absent(kind: KubeKind) -> str:
    """What to do where a cluster does not know that kind of jobs."""
    return (
        f"it does not know {kind.name} ({kind.api}): none are planned; "
        f"install it, or take {kind.name} out of kubernetes.kinds"
    )


def explained(error: KubeError, namespace: str, kind: KubeKind = JOB) -> str:
    """The server's words on jobs of that kind, with what to look for."""
    if isinstance(error, KubeSilentError):
        return str(error)
    match error.kind:
        case Refusal.LOGIN:
            return f"{error}: the token or certificate is no good, or not any more; renew it"
        case Refusal.RIGHT:
            return _right(error, namespace, kind)
        case Refusal.MISSING if "namespaces" in error.said:
            return f"there is no namespace {namespace}; make it, or set kubernetes.namespace"
        case Refusal.MISSING if kind is not JOB or not error.reason:
            return absent(kind) if kind is not JOB else f"{error}: {_UNSERVED}"
        case _:
            return str(error)


def _right(error: KubeRefusedError, namespace: str, kind: KubeKind) -> str:
    is_own = f'"{kind.plural}"' in error.missing_right
    role = KUEUE_ROLE if KUEUE in error.said else role_of(kind if is_own else JOB)
    return f"{error.missing_right} in namespace {namespace}; {role} {_GRANTS}"
