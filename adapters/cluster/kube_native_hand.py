"""Changes at a user's job: only on what was seen, so that nobody's change is overwritten; and events that say so."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_native_record import MARKS, MARKS_OF, KubeNative, parse_native
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError, Refusal

_MAX_NAME: Final = 200
MAX_REPEATED: Final = 100
"""Characters of a value that a message repeats: annotations and events hold only so much."""
_MAX_MESSAGE: Final = 1000
"""Of an event; the API takes 1024 characters."""
_CHANGED: Final = (Refusal.MISSING, Refusal.CONFLICT)
SOURCE: Final = "gridtide"
Notes = Mapping[str, str | None]


def change(
    client: KubeClient, job: KubeNative, notes: Notes, *, suspend: bool | None = None
) -> KubeNative | None:
    """The Job after the change; None where it is gone, another one, or was changed since it was seen.

    Args:
        client: to its cluster.
        job: as it was seen.
        notes: annotations to set; None removes one.
        suspend: whether it is to have no pods; None leaves that. In a queue of Kueue it is Kueue's, and left.

    Raises:
        KubeRefusedError, KubeSilentError: it could not be changed.
    """
    copied: Notes = dict.fromkeys(MARKS) if job.is_copied else {}
    patch: dict[str, Any] = {
        "metadata": {
            "uid": job.owner,
            "resourceVersion": job.version,
            "annotations": {**copied, **notes, MARKS_OF: job.owner},
        }
    }
    if suspend is not None and not job.queue:
        patch |= job.kind.suspending(suspend)
    path = job.kind.path(job.namespace, job.name)
    try:
        return parse_native(client.merge_patch(path, patch), job.kind)
    except KubeRefusedError as error:
        # A patch with another uid is refused as one of what cannot be changed.
        is_other = error.kind is Refusal.INVALID and "metadata.uid" in error.said
        if is_other or error.kind in _CHANGED:
            return None
        raise


def shortened(message: str, values: Iterable[str]) -> str:
    """The message, which may repeat these values of a user, with no more than the beginning of each."""
    for value in values:
        for text in {value, repr(value)[1:-1]}:
            if len(text) > MAX_REPEATED:
                message = message.replace(text, f"{text[:MAX_REPEATED]}…")
    return message


def note_event(
    client: KubeClient, job: KubeNative, reason: str, message: str, *, wall_s: float
) -> None:
    """An event at the job, for `kubectl describe`; without the right to it, or an answer, there is none."""
    stamp = datetime.fromtimestamp(wall_s, UTC).replace(microsecond=0)
    text = message[:_MAX_MESSAGE]
    key = f"{job.owner}\0{reason}\0{text}\0{stamp.isoformat()}"
    # The same name for the same event: sent twice, it is there once.
    name = f"{job.name[:_MAX_NAME]}.{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    at = stamp.strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": job.namespace},
        "involvedObject": {
            "apiVersion": job.kind.api,
            "kind": job.kind.name,
            "name": job.name,
            "namespace": job.namespace,
            "uid": job.owner,
        },
        "reason": reason,
        "message": text,
        "type": "Warning" if reason == "GridtideRefused" else "Normal",
        "source": {"component": SOURCE},
        "reportingComponent": SOURCE,
        "reportingInstance": SOURCE,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
    try:
        client.create(path_of("events", job.namespace), document)
    except (KubeRefusedError, KubeSilentError):
        return  # the annotation says the same
