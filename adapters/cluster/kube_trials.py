"""Whether a Kubernetes cluster would take a run: asked of the server itself, by a creation for show."""

from typing import Any, Final

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_errors import explained
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError, Refusal
from scheduler.ports import Trial

TRIAL_S: Final = 2.0
"""An answer is waited for so long: somebody waits for the submission."""
_FOR_GOOD: Final = (Refusal.INVALID, Refusal.POLICY, Refusal.MISSING)
_NOTHING_KNOWN: Final = Trial(is_answered=False)


def try_job(client: KubeClient, document: dict[str, Any], *, namespace: str) -> Trial:
    """What the server says to that Job. A quota that is exceeded, or a right that we lack, is no fault of it."""
    try:
        warnings = client.try_create(path_of("jobs", namespace), document, within_s=TRIAL_S)
    except KubeSilentError:
        return _NOTHING_KNOWN
    except KubeRefusedError as error:
        if error.kind is Refusal.QUOTA:
            return Trial()
        if error.kind not in _FOR_GOOD:
            return _NOTHING_KNOWN
        return Trial(refused=_words(explained(error, namespace), document), field=error.field)
    return Trial(warned="; ".join(warnings))


def _words(said: str, document: dict[str, Any]) -> str:
    """Without the name, which is that of one run: what is said holds for others, too."""
    name = document["metadata"]["name"]
    return said.replace(f'Job.batch "{name}" is invalid: ', "").replace(f'"{name}" ', "")
