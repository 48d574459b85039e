"""A user's manifest as a job: its words, its devices, and what is refused by name."""

from collections.abc import Mapping
from typing import Any

import pytest

from adapters.cluster.kube_manifests import ManifestPlace
from adapters.cluster.kube_objects import KubeDevice
from adapters.hardware_tables import load_hardware
from adapters.store.codec import decode_record, encode_record
from scheduler.core.errors import InvalidJobError
from scheduler.core.job import JobRecord, JobState
from scheduler.server.manifest_jobs import fit, with_manifest
from scheduler.server.schemas import JobSpec, parse_job_spec
from scheduler.service import dispatcher
from tests.unit.cluster.manifests import Document, manifest
from tests.unit.core.builders import T0, baseline
from tests.unit.test_schemas import make

WORDS = {"gridtide.dev/patience": "24h", "gridtide.dev/duration": "4h"}
GPU = KubeDevice(resource="nvidia.com/gpu")
H100 = KubeDevice(resource="nvidia.com/gpu", node_selector={"gpu": "h100"})
A100 = KubeDevice(resource="nvidia.com/gpu", node_selector={"gpu": "a100"})


def document(words: Mapping[str, str] | None = None, **parts: Any) -> Document:
    """A manifest with words."""
    meta = {"annotations": dict(WORDS if words is None else words), **parts.pop("meta", {})}
    return manifest(meta=meta, **parts)


def filled(made: Document | None = None, **fields: Any) -> Document:
    asked = {"kubernetes": {"manifest": made or document()}, **fields}
    found = with_manifest(asked)
    assert isinstance(found, dict)
    return found


def spec_of(made: Document | None = None, **fields: Any) -> JobSpec:
    return parse_job_spec(filled(made, **fields))


def place(**devices: KubeDevice) -> ManifestPlace:
    return ManifestPlace(namespace="ml", devices=devices, capacity=dict.fromkeys(devices, 8))


def fitted(
    made: Document | None = None, places: Mapping[str, ManifestPlace] | None = None, **fields: Any
) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """The options, as accelerators and nodes, and the clusters."""
    spec, taking = fit(
        spec_of(made, **fields), places or {"east": place(H100=GPU)}, load_hardware()
    )
    resources = spec.resources
    options = resources.any_of or [resources]
    return [(one.accelerators or "", one.num_nodes) for one in options], taking


def refusal(made: Document | None = None, **fields: Any) -> InvalidJobError:
    with pytest.raises(InvalidJobError) as caught:
        fitted(made, **fields)
    return caught.value


# -------------------------------------------------------------------------------------- words


def test_words_and_name_of_the_manifest_are_fields_of_the_job() -> None:
    words = {
        **WORDS,
        "gridtide.dev/duration-p95": "5h",
        "gridtide.dev/priority": "7",
        "gridtide.dev/min-chunk": "30m",
    }
    found = filled(document(words))
    assert (found["name"], found["command"]) == ("finetune", ["manifest:finetune"])
    assert (found["patience"], found["duration"], found["duration_p95"]) == ("24h", "4h", "5h")
    assert (found["priority"], found["interruptible"]) == (7, {"min_chunk": "30m"})


def test_document_without_a_manifest_stays_as_it_is() -> None:
    for one in ({"name": "a"}, {"kubernetes": {"image": "a"}}, [], {"kubernetes": None}):
        assert with_manifest(one) is one


def test_fields_of_the_document_go_first() -> None:
    found = filled(name="other", deadline="2026-03-03T00:00:00Z", duration="1h", priority=1)
    assert (found["name"], found["duration"], found["priority"]) == ("other", "1h", 1)
    assert "patience" not in found, "one way to say when replaces the other"


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (None, {"min_chunk": "30m"}),
        (True, {"min_chunk": "30m"}),
        (False, False),
        ({"max_interruptions": 1}, {"max_interruptions": 1}),
    ],
)
def test_pauses_are_those_of_the_document_where_it_speaks_of_them(
    stated: object, found: object
) -> None:
    words = {**WORDS, "gridtide.dev/interruptible": "yes", "gridtide.dev/min-chunk": "30m"}
    assert filled(document(words), interruptible=stated)["interruptible"] == found


def test_time_limit_of_the_manifest_is_its_duration_where_none_is_stated() -> None:
    words = {"gridtide.dev/patience": "24h"}
    assert filled(document(words, activeDeadlineSeconds=7200))["duration"] == "2h"
    assert filled(document(activeDeadlineSeconds=18_000))["duration"] == "4h"


def test_generated_name_names_the_job() -> None:
    made = document(meta={"name": None, "generateName": "Fine_tune-"})
    assert filled(made)["name"] == "fine-tune"


@pytest.mark.parametrize(
    ("words", "field"),
    [({"gridtide.dev/patience": "1h"}, "duration"), ({"gridtide.dev/duration": "1h"}, "deadline")],
)
def test_what_is_not_said_anywhere_is_asked_for(words: dict[str, str], field: str) -> None:
    error = refusal(document(words))
    assert error.fields["field"] == field
    assert f"gridtide.dev/{field}" in error.message


# --------------------------------------------------------------------------------------- form


def test_what_is_empty_by_habit_is_left_out() -> None:
    made = {**document(meta={"creationTimestamp": None}), "status": {}}
    assert made.keys() - filled(made)["kubernetes"]["manifest"].keys() == {"status"}
    assert "creationTimestamp" not in filled(made)["kubernetes"]["manifest"]["metadata"]


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"kind": "Pod"}, "kind", "'Job'"),
        ({"apiVersion": "v1"}, "apiVersion", "batch/v1"),
        ({"spec": []}, "spec", "not valid"),
        ({"extra": 1}, "extra", "unknown field"),
        ({"status": {"active": 1}}, "status", "exists already"),
        ({"meta": {"uid": "u"}}, "metadata.uid", "exists already"),
        ({"meta": {"ownerReferences": [{"kind": "X"}]}}, "metadata.ownerReferences", "its owner"),
        ({"meta": {"finalizers": ["a/b"]}}, "metadata.finalizers", "takes back"),
        ({"meta": {"labelz": {"a": "b"}}}, "metadata.labelz", "did you mean labels"),
        ({"meta": {"labels": {"a": 1}}}, "metadata.labels.a", "not valid"),
        ({"job": {"selector": {"matchLabels": {}}, "manualSelector": True}}, "spec.selector", "itself"),
        ({"job": {"manualSelector": True}}, "spec.manualSelector", "itself"),
        ({"job": {"parallelism": 0}}, "spec.parallelism", "not valid"),
        ({"job": {"completions": "3"}}, "spec.completions", "not valid"),
        ({"pod": {"restartPolicy": "Always"}}, "spec.template.spec.restartPolicy", "'OnFailure'"),
        ({"pod": {"restartPolicy": None}}, "spec.template.spec.restartPolicy", "'OnFailure'"),
        ({"pod": {"containers": []}}, "spec.template.spec.containers", "not valid"),
        ({"container": {"image": "a b"}}, "spec.template.spec.containers.0.image", "container image"),
        (
            {"container": {"env": [{"name": "GRIDTIDE_JOB_ID", "value": "x"}]}},
            "spec.template.spec.containers.0.env.0",
            "set by Gridtide itself",
        ),
        (
            {"container": {"resources": {"limits": {"cpu": [1]}}}},
            "spec.template.spec.containers.0.resources.limits.cpu.str",
            "not valid",
        ),
    ],
)  # fmt: skip
def test_manifest_that_would_break_the_run_is_refused_by_the_name_of_the_field(
    change: dict[str, Any], field: str, says: str
) -> None:
    parts = {key: change.pop(key) for key in ("meta", "pod", "container") if key in change}
    made = document(**parts, **change.pop("job", {})) | change
    error = refusal(made)
    assert error.fields["field"] == f"kubernetes.manifest.{field}"
    assert says in error.message


@pytest.mark.parametrize(
    ("note", "says"),
    [
        ("gridtide.dev/adopted", "take it off"),
        ("gridtide.dev/outcome", "take it off"),
        ("gridtide.dev/hold", "gridtide hold"),
        ("gridtide.dev/duratoin", "did you mean duration"),
    ],
)
def test_our_own_marks_and_words_that_there_are_not_are_refused(note: str, says: str) -> None:
    error = refusal(document({**WORDS, note: "x"}))
    assert error.fields["field"] == f"kubernetes.manifest.metadata.annotations.{note}"
    assert says in error.message


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"meta": {"labels": {"kueue.x-k8s.io/queue-name": "q"}}}, "Kueue"),
        ({"managedBy": "example.org/other"}, "managed by"),
        ({"pod": {"resourceClaims": [{"name": "a"}]}}, "resource claims"),
    ],
)
def test_job_that_others_decide_on_is_refused(parts: dict[str, Any], says: str) -> None:
    error = refusal(document(**parts))
    assert error.fields["field"] == "kubernetes.manifest"
    assert says in error.message


def test_number_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidJobError, match="no JSON"):
        job_of(document(container={"x": float("nan")}))


@pytest.mark.parametrize(
    "fields",
    [
        {"command": ["true"]},
        {"script": "true"},
        {"workdir": "/"},
        {"elastic": {"min": 1, "max": 2, "profile": []}},
    ],
)
def test_field_that_contradicts_a_manifest_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(**fields).fields["field"] == next(iter(fields))


def test_image_beside_a_manifest_is_refused() -> None:
    with pytest.raises(InvalidJobError) as caught:
        make(**{**filled(), "kubernetes": {"manifest": document(), "image": "a"}})
    assert caught.value.fields["field"] == "kubernetes.image"


# ------------------------------------------------------------------------------------ devices


def test_devices_and_pods_are_counted_from_the_template() -> None:
    made = document(
        parallelism=3, completions=3, container={"resources": {"limits": {"nvidia.com/gpu": 2}}}
    )
    assert fitted(made) == ([("H100:6", 3)], ("east",))


def test_clusters_that_lack_them_are_left_out() -> None:
    places = {"east": place(CPU=KubeDevice(resource="cpu")), "west": place(H100=GPU)}
    assert fitted(places=places) == ([("H100:1", 1)], ("west",))


def test_cluster_of_another_namespace_is_left_out() -> None:
    other = ManifestPlace(namespace="other", devices={"H100": GPU}, capacity={"H100": 8})
    made = document(meta={"namespace": "other"})
    places = {"east": place(H100=GPU), "west": other}
    assert fitted(made, places) == ([("H100:1", 1)], ("west",))
    assert "not to other" in refusal(made, places={"east": place(H100=GPU)}).message


def test_stated_resources_say_which_of_several_kinds_is_meant() -> None:
    places = {"east": place(H100=H100, A100=A100)}
    assert "--gpus" in refusal(places=places).message
    assert fitted(places=places, resources={"accelerators": "A100:1"}) == (
        [("A100:1", 1)],
        ("east",),
    )


def test_several_options_keep_what_is_stated_of_them() -> None:
    places = {"east": place(H100=H100), "west": place(A100=A100)}
    assert "any_of" in refusal(places=places).message, "how long on which is not for us to guess"
    options = [{"accelerators": "H100:1"}, {"accelerators": "A100:1", "duration": "8h"}]
    spec, taking = fit(spec_of(resources={"any_of": options}), places, load_hardware())
    assert taking == ("east", "west")
    assert spec.resources.any_of is not None
    assert [one.duration for one in spec.resources.any_of] == [None, 8 * 3600]


@pytest.mark.parametrize(
    ("accelerators", "says"),
    [
        ("H100:4", "resources say H100:4, but the manifest asks for 1"),
        ("CPU:1", "asks for nvidia.com/gpu"),
        ("A100:1", "it has none of A100:1"),
    ],
)
def test_resources_that_the_manifest_does_not_ask_for_are_refused(
    accelerators: str, says: str
) -> None:
    places = {"east": place(H100=GPU, CPU=KubeDevice(resource="cpu"))}
    error = refusal(places=places, resources={"accelerators": accelerators})
    assert says in error.message


def test_nodes_that_the_manifest_rules_out_are_not_chosen() -> None:
    made = document(pod={"nodeSelector": {"gpu": "a100"}})
    places = {"east": place(H100=H100), "west": place(A100=A100)}
    assert fitted(made, places) == ([("A100:1", 1)], ("west",))
    stated = {"resources": {"accelerators": "H100:1"}}
    assert "other than those" in refusal(made, places={"east": place(H100=H100)}, **stated).message


# ------------------------------------------------------------------------------------- pauses


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"parallelism": 2, "completions": 10}, "10 completions anew"),
        ({"parallelism": 2}, "cannot be told apart"),
    ],
)
def test_job_whose_pause_would_lose_work_is_not_interruptible(
    spec: dict[str, Any], says: str
) -> None:
    error = refusal(document(**spec), interruptible=True)
    assert error.fields["field"] == "interruptible"
    assert says in error.message
    assert fitted(document(**spec))[1] == ("east",), "it may run without pauses"


def test_indexed_pods_that_all_run_at_once_may_be_paused() -> None:
    made = document(parallelism=2, completions=2, completionMode="Indexed")
    assert fitted(made, interruptible=True) == ([("H100:2", 2)], ("east",))


def test_limit_that_would_end_the_run_early_is_refused() -> None:
    made = document(activeDeadlineSeconds=3600)
    assert refusal(made).fields["field"] == "kubernetes.manifest.spec.activeDeadlineSeconds"
    assert fitted(made, interruptible=True)[1] == ("east",), "it counts for each run by itself"


# -------------------------------------------------------------------------------------- store


def job_of(made: Document) -> Any:
    return make(**filled(made), resources={"accelerators": "H100:1"})


@pytest.mark.parametrize(("stated", "grace_s"), [(None, 30), (5, 30), (900, 900)])
def test_pods_that_want_longer_to_leave_are_given_it(stated: int | None, grace_s: int) -> None:
    pod = {} if stated is None else {"terminationGracePeriodSeconds": stated}
    assert dispatcher.grace_s(job_of(document(pod=pod))) == grace_s


def test_manifest_survives_the_store() -> None:
    job = job_of(document(container={"args": ["ä", "\ud800", "$(A)"]}))
    record = JobRecord(
        job=job, state=JobState.QUEUED, version=1, updated_at=T0, baseline=baseline()
    )
    again = decode_record(encode_record(record))
    assert again.job.kubernetes == job.kubernetes
