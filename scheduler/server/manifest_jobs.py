"""Jobs that are a user's own manifest: what it says to us, as the fields of a job document."""

from collections.abc import Mapping
from typing import Any, Final

from adapters.cluster.kube_manifests import ManifestPlace, native_of
from adapters.cluster.kube_native_devices import Wanted
from adapters.cluster.kube_native_record import KubeNative
from scheduler.core.errors import InvalidJobError
from scheduler.core.hardware import HardwareTable
from scheduler.core.units import format_duration
from scheduler.server.manifest_form import MANIFEST, checked, refused
from scheduler.server.native_jobs import PAUSES, plain_name, word_fields
from scheduler.server.schemas import JobSpec, OptionSpec, ResourcesSpec, parse_accelerators

Document = dict[str, Any]
_NOT_BESIDE: Final[Mapping[str, str]] = {
    "command": "the manifest's containers have their own",
    "script": "the manifest's containers have commands of their own",
    "workdir": "the manifest's containers have their own",
    "elastic": "the manifest states how many devices it takes",
}
_WHENS: Final = ("deadline", "patience")


def with_manifest(document: object) -> object:
    """The document with the fields that its manifest's name and annotations state; its own fields go first.

    As it is where it has no manifest.

    Raises:
        InvalidJobError: a manifest that cannot be run, or fields that contradict it.
    """
    manifest = _manifest_of(document)
    if manifest is None:
        return document
    assert isinstance(document, dict)
    stated = {key: value for key, value in document.items() if value is not None}
    for field, why in _NOT_BESIDE.items():
        if field in stated:
            raise InvalidJobError(
                f"{field}: cannot be stated beside a manifest: {why}; leave it out",
                field=field,
                valid="absent",
            )
    manifest = checked(manifest)
    native = native_of(manifest)
    if native.barrier:
        raise refused("", native.barrier)
    meta = manifest["metadata"]
    name = plain_name(str(meta.get("name") or meta.get("generateName") or "job"))
    return {
        "name": name,
        # What runs is the manifest's to know; this is what people see.
        "command": [f"manifest:{name}"],
        **_words(native, stated),
        **{key: value for key, value in stated.items() if key != "interruptible"},
        "kubernetes": {**stated["kubernetes"], "manifest": manifest},
    }


def _manifest_of(document: object) -> Document | None:
    asked = document.get("kubernetes") if isinstance(document, dict) else None
    manifest = asked.get("manifest") if isinstance(asked, dict) else None
    return manifest if isinstance(manifest, dict) else None


def _words(native: KubeNative, stated: Document) -> Document:
    """The fields of its annotations, but for those that are stated otherwise."""
    over = set(stated)
    over |= set(_WHENS) if over & set(_WHENS) else set()
    how = stated.get("interruptible")
    over |= set(PAUSES) if how is False or isinstance(how, dict) else set()
    try:
        fields = word_fields({key: text for key, text in native.words.items() if key not in over})
    except InvalidJobError as error:
        word = str(error.fields.get("field")).replace("_", "-")
        raise refused(f"metadata.annotations.gridtide.dev/{word}", error.message) from error
    if how is not None:
        fields["interruptible"] = fields.get("interruptible", True) if how is True else how
    if native.limit_s is not None:
        fields.setdefault("duration", format_duration(native.limit_s))
    if "duration" not in stated | fields:
        raise _unstated("duration", "how long it runs, such as 4h")
    if not {*_WHENS} & (stated | fields).keys():
        raise _unstated("deadline", "by when it is to have ended")
    return fields


def _unstated(field: str, what: str) -> InvalidJobError:
    return InvalidJobError(
        f"{field}: not stated; say {what}, in the annotation gridtide.dev/{field} or as --{field}",
        field=field,
    )


def fit(
    spec: JobSpec, places: Mapping[str, ManifestPlace], hardware: HardwareTable
) -> tuple[JobSpec, tuple[str, ...]]:
    """The spec with the devices that its manifest asks for, and the clusters that have them.

    Args:
        spec: of a job with a manifest.
        places: the clusters that it may use, by id; one or more.
        hardware: the table of accelerators.

    Raises:
        InvalidJobError: no cluster can run it, or it is not plain on what; or it cannot be paused as stated.
    """
    assert spec.kubernetes is not None
    assert spec.kubernetes.manifest is not None
    manifest = spec.kubernetes.manifest
    native = native_of(manifest)
    _require_pausable(spec, manifest, native)
    troubles = {
        name: trouble
        for name, place in places.items()
        if (trouble := place.find_namespace_trouble(manifest)) is not None
    }
    left = {name: place for name, place in places.items() if name not in troubles}
    is_stated = "resources" in spec.model_fields_set
    found = _of_stated(spec, native, left, hardware) if is_stated else _of_template(native, left)
    troubles |= {name: one.trouble for name, one in found.items() if one.trouble is not None}
    taking = tuple(name for name in found if name not in troubles)
    if not taking:
        raise _nowhere(troubles)
    if is_stated:
        return _with_nodes(spec, native), taking
    kinds = {(one.accelerator, one.gpus) for name, one in found.items() if name in taking}
    if len(kinds) > 1:
        each = ", ".join(
            f"{found[name].accelerator}:{found[name].gpus} on {name}" for name in taking
        )
        raise InvalidJobError(
            f"resources: the manifest means {each}; say which with resources.accelerators (--gpus), or list "
            "them under resources.any_of, each with its duration",
            field="resources",
            valid="resources.accelerators, or resources.any_of",
        )
    ((accelerator, gpus),) = kinds
    asked = ResourcesSpec(accelerators=f"{accelerator}:{gpus}", num_nodes=_count_pods(native))
    return spec.model_copy(update={"resources": asked}), taking


def _of_template(native: KubeNative, places: Mapping[str, ManifestPlace]) -> dict[str, Wanted]:
    return {name: _with_hint(place.wanted(native)) for name, place in places.items()}


def _with_hint(wanted: Wanted) -> Wanted:
    if not wanted.candidates:
        return wanted
    hint = f"{wanted.trouble}, or resources.accelerators (--gpus {wanted.candidates[0]}:COUNT)"
    return Wanted(None, 0, trouble=hint)


def _of_stated(
    spec: JobSpec,
    native: KubeNative,
    places: Mapping[str, ManifestPlace],
    hardware: HardwareTable,
) -> dict[str, Wanted]:
    """For each cluster the last of the stated options that it has, or why one of them is not what the manifest asks for."""
    found = dict[str, Wanted]()
    for option in _options(spec):
        name, gpus = parse_accelerators(option.accelerators)
        accelerator = hardware.get(name).name
        for cluster, place in places.items():
            is_refused = cluster in found and found[cluster].trouble is not None
            if accelerator not in place.devices or is_refused:
                continue
            wanted = place.wanted_as(native, accelerator)
            if wanted.trouble is None and wanted.gpus != gpus:
                why = f"resources say {accelerator}:{gpus}, but the manifest asks for {wanted.gpus}"
                wanted = Wanted(
                    None, 0, trouble=f"{why}; leave resources out, or change one of them"
                )
            found[cluster] = wanted
    stated = ", ".join(option.accelerators for option in _options(spec))
    return {
        cluster: found.get(cluster, Wanted(None, 0, trouble=f"it has none of {stated}"))
        for cluster in places
    }


def _options(spec: JobSpec) -> list[OptionSpec]:
    resources = spec.resources
    return resources.any_of or [OptionSpec(accelerators=resources.accelerators or "")]


def _with_nodes(spec: JobSpec, native: KubeNative) -> JobSpec:
    """Each option on as many nodes as there are pods at once."""
    options = [
        option.model_copy(update={"num_nodes": _count_pods(native)}) for option in _options(spec)
    ]
    return spec.model_copy(update={"resources": ResourcesSpec(any_of=options)})


def _require_pausable(spec: JobSpec, manifest: Document, native: KubeNative) -> None:
    """Refuses what a pause would break, and a limit that ends the run early."""
    least_s = min([spec.duration, *(one.duration or spec.duration for one in _options(spec))])
    is_interruptible = spec.interruptible is not False
    if native.limit_s is not None and native.limit_s < least_s and not is_interruptible:
        raise refused(
            "spec.activeDeadlineSeconds",
            f"{native.limit_s} is shorter than the run, {format_duration(least_s)}: Kubernetes would end it; "
            "give that much or more, or leave it out",
        )
    if not is_interruptible:
        return
    asked, n_pods = manifest["spec"], _count_pods(native)
    if (asked.get("completions") or 0) > n_pods:
        why = f"a pause would begin its {asked['completions']} completions anew, of which {n_pods} run at once"
    elif n_pods > 1 and asked.get("completionMode") != "Indexed":
        why = f"its {n_pods} pods cannot be told apart; state completionMode: Indexed"
    else:
        return
    raise InvalidJobError(
        f"interruptible: {why}; or submit it without", field="interruptible", valid="absent"
    )


def _count_pods(native: KubeNative) -> int:
    """Pods at once."""
    return sum(one.count for one in native.groups)


def _nowhere(troubles: Mapping[str, str]) -> InvalidJobError:
    words = "; ".join(
        f"{' and '.join(name for name, one in troubles.items() if one == why)}: {why}"
        for why in dict.fromkeys(troubles.values())
    )
    return InvalidJobError(f"{MANIFEST}: no cluster can run it: {words}", field=MANIFEST)
