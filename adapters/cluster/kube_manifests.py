"""The Job of a run that its user has written: of the manifest only what we must set is set. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters.cluster.kube_native_devices import Wanted, find_wanted
from adapters.cluster.kube_native_record import KubeNative, parse_native
from adapters.cluster.kube_objects import (
    Document,
    KubeDevice,
    KubeTerms,
    build_job,
    checkpoint_mount,
    claimed,
    labels_of,
    marks_of,
    queue_of,
    tolerations_of,
    variables_of,
)
from adapters.cluster.kube_records import INSTANCE, MANAGED_BY, PREFIX, QUEUE
from scheduler.ports import Dispatch

VOLUME: Final = "gridtide-checkpoints"
"""Name of the volume that is added to the pods."""
DEFAULT_GRACE_S: Final = 30
"""What Kubernetes gives a pod that states nothing."""
_OURS: Final = (MANAGED_BY, INSTANCE, f"{PREFIX}/job-id")


def parse_manifest(text: str) -> Document:
    """The Job of `JobKubernetes.manifest`, whose form was checked when it was submitted."""
    document: Document = json.loads(text)
    return document


def native_of(manifest: Mapping[str, Any]) -> KubeNative:
    """What the Job asks for, read as one that its user has created."""
    return parse_native(manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPlace:
    """Where manifests would run: the cluster's namespace, its devices, and how many there are of each."""

    namespace: str
    devices: Mapping[str, KubeDevice]
    capacity: Mapping[str, int]

    def wanted(self, native: KubeNative) -> Wanted:
        """What it asks for here, in our terms, or why it cannot run here."""
        return find_wanted(native, self.devices, self.capacity)

    def wanted_as(self, native: KubeNative, accelerator: str) -> Wanted:
        """The same where its user has said which accelerator is meant."""
        device = {accelerator: self.devices[accelerator]}
        return find_wanted(native, device, self.capacity)

    def find_namespace_trouble(self, manifest: Mapping[str, Any]) -> str | None:
        """Why its namespace is none for this cluster."""
        stated = (manifest.get("metadata") or {}).get("namespace")
        if stated in (None, self.namespace):
            return None
        return f"metadata.namespace: jobs go to {self.namespace} here, not to {stated}"


def build_run(
    dispatch: Dispatch, *, name: str, terms: KubeTerms, device: KubeDevice, each: int
) -> Document:
    """The Job of a run: its user's own, or ours around a command. Arguments as of `build_job`."""
    asked = dispatch.kubernetes
    if asked is None or asked.manifest is None:
        return build_job(dispatch, name=name, terms=terms, device=device, each=each)
    return build_own(
        parse_manifest(asked.manifest), dispatch, name=name, terms=terms, device=device
    )


def build_own(
    manifest: Document, dispatch: Dispatch, *, name: str, terms: KubeTerms, device: KubeDevice
) -> Document:
    """The user's Job as it is created: under our name and marks, where and as the plan has it."""
    meta, spec = manifest.get("metadata") or {}, manifest["spec"]
    template = spec["template"]
    template_meta = template.get("metadata") or {}
    labels, queue = labels_of(dispatch, terms), queue_of(dispatch, terms)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": {**(meta.get("labels") or {}), **labels, **({QUEUE: queue} if queue else {})},
            # Our own prefix speaks to us, and has been heard: what is written there from now on is ours.
            "annotations": {**_foreign(meta.get("annotations") or {}), **marks_of(dispatch)},
        },
        "spec": {
            **spec,
            "suspend": queue is not None,
            "ttlSecondsAfterFinished": max(spec.get("ttlSecondsAfterFinished") or 0, terms.keep_s),
            "template": {
                **template,
                "metadata": {
                    **template_meta,
                    "labels": {**(template_meta.get("labels") or {}), **labels},
                },
                "spec": _pod(spec, dispatch, name, terms=terms, device=device),
            },
        },
    }


def needs_service(dispatch: Dispatch) -> bool:
    """Whether the pods of a run find each other by a Service of ours."""
    if dispatch.num_nodes < 2:
        return False
    asked = dispatch.kubernetes
    if asked is None or asked.manifest is None:
        return True
    spec = parse_manifest(asked.manifest)["spec"]
    return _is_indexed(spec) and not spec["template"]["spec"].get("subdomain")


def overruled(manifest: Document) -> list[str]:
    """A line for each thing in the manifest that gives way to Gridtide."""
    meta, spec = manifest.get("metadata") or {}, manifest["spec"]
    labels = {**(meta.get("labels") or {})}
    labels |= (spec["template"].get("metadata") or {}).get("labels") or {}
    lines = [
        f"metadata.labels.{key}: {labels[key]!r} gives way to Gridtide's own, by which it finds its Jobs"
        for key in _OURS
        if key in labels
    ]
    if spec.get("ttlSecondsAfterFinished") is not None:
        lines.append(
            "spec.ttlSecondsAfterFinished: raised to the cluster's `keep` where it is shorter, so that no end is missed"
        )
    return lines


def _foreign(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if not key.startswith(f"{PREFIX}/")}


def _is_indexed(spec: Document) -> bool:
    return spec.get("completionMode") == "Indexed"


def _pod(
    spec: Document, dispatch: Dispatch, name: str, *, terms: KubeTerms, device: KubeDevice
) -> Document:
    pod: Document = spec["template"]["spec"]
    stated_s = pod.get("terminationGracePeriodSeconds")
    grace_s = max(DEFAULT_GRACE_S if stated_s is None else stated_s, round(dispatch.grace_s))
    made = {**pod, "terminationGracePeriodSeconds": grace_s} | _hardware(pod, device)
    mount, folder = list[Document](), ""
    if terms.checkpoint_claim is not None:
        folder = f"{terms.checkpoints}/{dispatch.checkpoint_key}"
        mount = [checkpoint_mount(VOLUME, folder, dispatch.checkpoint_key)]
        volume = {"name": VOLUME, **claimed(terms.checkpoint_claim)}
        made["volumes"] = [*(pod.get("volumes") or ()), volume]
    first_node = None
    if dispatch.num_nodes > 1 and _is_indexed(spec):
        made["subdomain"] = pod.get("subdomain") or name
        first_node = f"{name}-0.{made['subdomain']}"
    env = variables_of(dispatch, folder=folder, first_node=first_node)
    for key in ("initContainers", "containers"):
        if pod.get(key):
            made[key] = [_container(one, env, mount) for one in pod[key]]
    return made


def _hardware(pod: Document, device: KubeDevice) -> Document:
    """What leads to the nodes that were chosen, beside what the pod says itself."""
    selector = {**(pod.get("nodeSelector") or {}), **device.node_selector}
    own = pod.get("tolerations") or []
    more = [one for one in tolerations_of(device.tolerations) if one not in own]
    made: Document = {"nodeSelector": selector} if selector else {}
    return made | ({"tolerations": [*own, *more]} if own or more else {})


def _container(container: Document, env: list[Document], mount: list[Document]) -> Document:
    """With our variables before its own, which may name them; a folder that it mounts itself stays as it is."""
    ours = {one["name"] for one in env}
    kept = [one for one in container.get("env") or () if one.get("name") not in ours]
    mounts = [*(container.get("volumeMounts") or ())]
    paths = {one.get("mountPath") for one in mounts}
    mounts += [one for one in mount if one["mountPath"] not in paths]
    return {**container, "env": [*env, *kept], **({"volumeMounts": mounts} if mounts else {})}


def containers_of(manifest: Document) -> Iterator[tuple[str, Document]]:
    """Each container with its place in the manifest, those that run before the others first."""
    pod = manifest["spec"]["template"]["spec"]
    for key in ("initContainers", "containers"):
        for index, one in enumerate(pod.get(key) or ()):
            yield f"spec.template.spec.{key}.{index}", one
