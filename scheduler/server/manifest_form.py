"""The form of a user's manifest: what we read of it is checked here, all else by Kubernetes itself."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from adapters.cluster.kube_manifests import containers_of
from adapters.cluster.kube_native_record import HOLD, MARKS
from adapters.cluster.kube_records import DEVICES, ENDING, OUTCOME, RUN
from scheduler.core.errors import InvalidJobError
from scheduler.core.kubernetes_terms import IMAGE_FORM, is_image
from scheduler.core.names import suggest
from scheduler.core.terms import MAX_GPUS
from scheduler.server.document_errors import describe_errors, named_path

MANIFEST: Final = "kubernetes.manifest"
"""Where it stands in a job document."""
_COPY: Final = (
    "it belongs to a Job that exists already; take it off, as it is in the file that you wrote"
)
_REFUSED: Final[Mapping[str, str]] = {
    "metadata.uid": _COPY,
    "metadata.resourceVersion": _COPY,
    "metadata.generation": _COPY,
    "metadata.managedFields": _COPY,
    "metadata.creationTimestamp": _COPY,
    "metadata.deletionTimestamp": _COPY,
    "metadata.selfLink": _COPY,
    "status": _COPY,
    "spec.selector": "Kubernetes itself makes it for each Job; leave it out",
    "spec.manualSelector": "Kubernetes itself makes the selector of each Job; leave it out",
    "metadata.ownerReferences": "Kubernetes would delete the Job with its owner, and the run with it; leave it out",
    "metadata.finalizers": "they would keep a Job that Gridtide takes back; leave them out",
}
"""What would break how runs are kept apart, started once, and followed to their end."""
_META: Final = ("name", "generateName", "namespace", "labels", "annotations")
"""What a user writes there."""
_OURS: Final = frozenset({*MARKS, RUN, DEVICES, ENDING, OUTCOME})
_LINE: Final = 500
_Texts = dict[str, str]


class _Open(BaseModel):
    """Fields that are read; others are the user's, and Kubernetes' to judge."""

    model_config = ConfigDict(extra="allow", strict=True, alias_generator=to_camel)


class _Variable(_Open):
    name: str = Field(min_length=1)


class _Mount(_Open):
    mount_path: str


class _Resources(_Open):
    limits: dict[str, str | int | float] | None = None
    requests: dict[str, str | int | float] | None = None


class _Container(_Open):
    name: str
    image: str
    env: list[_Variable] | None = None
    resources: _Resources | None = None
    volume_mounts: list[_Mount] | None = None


class _Pod(_Open):
    restart_policy: Literal["Never", "OnFailure"]
    containers: list[_Container] = Field(min_length=1)
    init_containers: list[_Container] | None = None
    node_selector: _Texts | None = None
    tolerations: list[dict[str, Any]] | None = None
    volumes: list[dict[str, Any]] | None = None
    resource_claims: list[dict[str, Any]] | None = None
    subdomain: str | None = None
    termination_grace_period_seconds: int | None = Field(default=None, ge=0)


class _Meta(_Open):
    labels: _Texts | None = None
    annotations: _Texts | None = None


class _JobMeta(_Meta):
    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None


class _Template(_Open):
    metadata: _Meta | None = None
    spec: _Pod


class _JobSpec(_Open):
    template: _Template
    parallelism: int | None = Field(default=None, ge=1, le=MAX_GPUS)
    completions: int | None = Field(default=None, ge=1, le=MAX_GPUS)
    completion_mode: Literal["NonIndexed", "Indexed"] | None = None
    active_deadline_seconds: int | None = Field(default=None, ge=1)
    ttl_seconds_after_finished: int | None = Field(default=None, ge=0)
    managed_by: str | None = None


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)

    api_version: Literal["batch/v1"]
    kind: Literal["Job"]
    metadata: _JobMeta | None = None
    spec: _JobSpec
    status: dict[str, Any] | None = None


def checked(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest without what is empty in it by habit, such as a `status` of `{}`.

    Raises:
        InvalidJobError: naming the field that is wrong, or that would break the run, and why.
    """
    try:
        form = _Manifest.model_validate(manifest)
    except ValidationError as error:
        where = ".".join(named_path(_Manifest, error.errors()[0]["loc"]))
        lines = describe_errors(error, _Manifest)[:5]
        words = "; ".join(f"{MANIFEST}.{line[:_LINE]}" for line in lines)
        raise InvalidJobError(words, field=f"{MANIFEST}.{where}") from error
    for path, why in _REFUSED.items():
        if _at(manifest, path):
            raise refused(path, why)
    for path, why in _troubles(manifest, form):
        raise refused(path, why)
    metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if value}
    kept = {key: value for key, value in manifest.items() if key != "status"}
    return {**kept, "metadata": metadata}


def as_text(manifest: Mapping[str, Any]) -> str:
    """The manifest as `JobKubernetes` keeps it.

    Raises:
        InvalidJobError: a number that JSON does not know.
    """
    try:
        return json.dumps(manifest, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise refused("", f"no JSON: {error}") from error


def grace_of(manifest: Mapping[str, Any]) -> int:
    """Seconds that its pods want after SIGTERM; 0 where it does not say."""
    return _at(manifest, "spec.template.spec.terminationGracePeriodSeconds") or 0


def refused(path: str, why: str) -> InvalidJobError:
    """The error for what stands there in a manifest."""
    field = f"{MANIFEST}.{path}" if path else MANIFEST
    return InvalidJobError(f"{field}: {why}", field=field)


def _troubles(manifest: Mapping[str, Any], form: _Manifest) -> Iterator[tuple[str, str]]:
    for name, value in (manifest.get("metadata") or {}).items():
        if name not in _META and value is not None:
            yield f"metadata.{name}", f"not a field that is taken; {suggest(name, _META)}"
    for name in (form.metadata.annotations or {}) if form.metadata else ():
        if name in _OURS:
            yield f"metadata.annotations.{name}", "Gridtide itself writes it; take it off"
        if name == HOLD:
            why = "it is for Jobs in a cluster; leave it out, and hold the job once it is submitted"
            yield f"metadata.annotations.{name}", f"{why}: gridtide hold"
    for path, container in containers_of(dict(manifest)):
        if not is_image(container["image"]):
            yield f"{path}.image", f"{container['image']!r} is not valid; it must be {IMAGE_FORM}"
        for index, variable in enumerate(container.get("env") or ()):
            if variable["name"].startswith("GRIDTIDE_"):
                yield (
                    f"{path}.env.{index}",
                    f"{variable['name']!r} is set by Gridtide itself; choose another name",
                )


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    return document
