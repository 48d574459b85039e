"""Whatever stands where in a manifest: a job that can be built, or a refusal by name."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from adapters.cluster.kube_manifests import ManifestPlace, overruled
from adapters.cluster.kube_objects import KubeDevice
from adapters.hardware_tables import load_hardware
from scheduler.core.errors import InvalidJobError
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.server.manifest_jobs import fit, with_manifest
from scheduler.server.schemas import parse_job_spec
from tests.unit.cluster.manifests import manifest
from tests.unit.cluster.test_kube_manifests import TAINTED, built
from tests.unit.test_schemas import make

BASE = manifest(
    meta={
        "annotations": {"gridtide.dev/patience": "24h", "gridtide.dev/duration": "1h"},
        "labels": {"a": "b"},
        "namespace": "ml",
    },
    pod={
        "volumes": [{"name": "v", "emptyDir": {}}],
        "tolerations": [{"key": "a"}],
        "nodeSelector": {"a": "b"},
        "initContainers": [
            {"name": "i", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        ],
        "terminationGracePeriodSeconds": 3,
    },
    container={"env": [{"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
    parallelism=2,
    completions=2,
    completionMode="Indexed",
    activeDeadlineSeconds=99_999,
    ttlSecondsAfterFinished=3,
)
PLACES = {
    "east": ManifestPlace(
        namespace="ml",
        devices={"H100": KubeDevice(resource="nvidia.com/gpu")},
        capacity={"H100": 8},
    )
}
HARDWARE = load_hardware()
ODD: list[Any] = [
    *(None, 0, -1, 1, 2**40, 1.5, True, False, "", "x", "ä\ud800", "\0", "9" * 50),
    *([], {}, [1], {"a": 1}, [{}], [None], ["x"], {"": ""}, {"name": "x"}, [{"name": "q"}], [[]]),
]


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    parts = dict(enumerate(value)) if isinstance(value, list) else value
    for key, part in parts.items() if isinstance(parts, dict) else ():
        yield from places_in(part, (*path, key))


@given(st.sampled_from(list(places_in(BASE))), st.sampled_from(ODD), st.booleans(), st.booleans())
def test_odd_manifest_becomes_a_job_or_is_refused_by_name(
    path: tuple[Any, ...], value: Any, is_left_out: bool, is_interruptible: bool
) -> None:
    changed = copy.deepcopy(BASE)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder[key]
    if is_left_out:
        del holder[path[-1]]
    else:
        holder[path[-1]] = copy.deepcopy(value)
    document = {"kubernetes": {"manifest": changed}, "interruptible": is_interruptible}
    terms, error = terms_of(document)
    assert error is None or error.fields["field"]
    if terms is None or terms.manifest is None:
        return
    kept = json.loads(terms.manifest)
    overruled(kept)
    json.dumps(built(kept, device=TAINTED, num_nodes=2, gpus=2)).encode("ascii")


def terms_of(document: Any) -> tuple[JobKubernetes | None, InvalidJobError | None]:
    try:
        found: Any = with_manifest(document)
        fit(parse_job_spec(found), PLACES, HARDWARE)
        return make(**found).kubernetes, None
    except InvalidJobError as error:
        return None, error
