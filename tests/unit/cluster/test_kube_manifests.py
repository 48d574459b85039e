"""The Job that is created for a user's manifest: theirs, but for what must be ours."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from adapters.cluster.kube_manifests import (
    VOLUME,
    ManifestPlace,
    build_run,
    native_of,
    needs_service,
    overruled,
)
from adapters.cluster.kube_objects import KubeDevice, KubeTerms, KubeToleration, selector_of
from adapters.cluster.kube_records import QUEUE, parse_job
from tests.unit.cluster.manifests import Document, as_terms, manifest
from tests.unit.cluster.test_kube_objects import TERMS, dispatch

GPU = KubeDevice(resource="nvidia.com/gpu")
TAINTED = KubeDevice(
    resource="nvidia.com/gpu",
    node_selector={"gpu": "h100"},
    tolerations=(KubeToleration(key="gpu", effect="NoSchedule"),),
    cpus=8,
    memory="64Gi",
)


def built(
    document: Document, *, terms: KubeTerms = TERMS, device: KubeDevice = GPU, **fields: Any
) -> Document:
    asked = dispatch(kubernetes=as_terms(document), **({"gpus": 1} | fields))
    return build_run(asked, name="gt-x", terms=terms, device=device, each=1)


def test_job_of_a_cluster_with_a_queue_waits_there_suspended() -> None:
    document = manifest(meta={"labels": {QUEUE: "theirs"}}, suspend=False)
    made = built(document, terms=replace(TERMS, queue="training"))
    assert made["metadata"]["labels"][QUEUE] == "training"
    assert made["spec"]["suspend"] is True
    assert built(document)["spec"]["suspend"] is False


def pod_of(document: Document) -> Document:
    pod: Document = document["spec"]["template"]["spec"]
    return pod


# ------------------------------------------------------------------------------- what is ours


def test_job_is_found_as_ours_whatever_its_labels_say() -> None:
    labels = {"team": "vision", "app.kubernetes.io/managed-by": "helm"}
    document = manifest(meta={"labels": labels, "namespace": "training"})
    document["spec"]["template"]["metadata"] = {"labels": labels, "annotations": {"a": "b"}}
    made = built(document)
    made["metadata"]["uid"] = "u"
    assert made["metadata"]["name"] == "gt-x"
    assert "namespace" not in made["metadata"], "that of the request holds"
    template = made["spec"]["template"]["metadata"]
    for found in (made["metadata"]["labels"], template["labels"]):
        assert found["team"] == "vision"
        for pair in selector_of(TERMS).split(","):
            key, _, value = pair.partition("=")
            assert found[key] == value
    assert template["annotations"] == {"a": "b"}
    job = parse_job(made)
    assert (job.run, job.devices) == ("train-x.1.0", ("H100", 1))


def test_words_to_us_are_taken_off_and_other_annotations_kept() -> None:
    notes = {"gridtide.dev/deadline": "x", "example.org/a": "b"}
    made = built(manifest(meta={"annotations": notes}))
    assert made["metadata"]["annotations"] == {
        "example.org/a": "b",
        "gridtide.dev/run": "train-x.1.0",
        "gridtide.dev/devices": "H100:1",
    }


@pytest.mark.parametrize(
    ("stated", "kept_s"), [({}, 604_800), ({"ttlSecondsAfterFinished": 5}, 604_800)]
)
def test_ended_job_stays_until_its_end_has_been_seen(stated: Document, kept_s: int) -> None:
    made = built(manifest(suspend=True, **stated))
    assert made["spec"]["ttlSecondsAfterFinished"] == kept_s
    assert made["spec"]["suspend"] is False


def test_longer_stay_is_the_users() -> None:
    made = built(manifest(ttlSecondsAfterFinished=1_000_000))
    assert made["spec"]["ttlSecondsAfterFinished"] == 1_000_000


@pytest.mark.parametrize(
    ("stated", "asked_s", "grace_s"),
    [(None, 30, 30), (None, 600, 600), (900, 600, 900), (5, 30, 30)],
)
def test_grace_is_raised_and_never_lowered(
    stated: int | None, asked_s: float, grace_s: int
) -> None:
    pod = {} if stated is None else {"terminationGracePeriodSeconds": stated}
    made = built(manifest(pod=pod), grace_s=asked_s)
    assert pod_of(made)["terminationGracePeriodSeconds"] == grace_s


# ----------------------------------------------------------------------------- what is theirs


def test_everything_else_is_as_it_was_written() -> None:
    rules = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]}
    pod = {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "initContainers": [{"name": "fetch", "image": "fetch:1"}],
        "serviceAccountName": "trainer",
        "priorityClassName": "low",
        "securityContext": {"runAsUser": 1000},
    }
    document = manifest(pod=pod, backoffLimit=3, podFailurePolicy=rules, completions=4)
    before = copy.deepcopy(document)
    made = built(document, terms=KubeTerms(image="default:1", checkpoints="/ck", keep_s=1))
    assert document == before
    assert (made["spec"]["backoffLimit"], made["spec"]["completions"]) == (3, 4)
    assert made["spec"]["podFailurePolicy"] == rules
    found = pod_of(made)
    for key in ("volumes", "serviceAccountName", "priorityClassName", "securityContext"):
        assert found[key] == pod[key]
    assert found["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert "automountServiceAccountToken" not in found
    assert "backoffLimit" not in built(manifest())["spec"], "Kubernetes' own holds"


def test_chosen_hardware_brings_its_nodes_and_their_taints_but_no_sizes() -> None:
    own = {"key": "spot", "operator": "Exists"}
    made = pod_of(
        built(manifest(pod={"nodeSelector": {"a": "b"}, "tolerations": [own]}), device=TAINTED)
    )
    assert made["nodeSelector"] == {"a": "b", "gpu": "h100"}
    assert made["tolerations"] == [
        own,
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert made["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    again = pod_of(built(manifest(pod={"tolerations": made["tolerations"]}), device=TAINTED))
    assert again["tolerations"] == made["tolerations"], "none is there twice"


# ---------------------------------------------------------------------------- what is added


def test_every_container_gets_our_variables_before_its_own() -> None:
    document = manifest(
        container={
            "env": [{"name": "A", "value": "$(GRIDTIDE_JOB_ID)"}, {"name": "B", "value": "1"}]
        },
        pod={"initContainers": [{"name": "fetch", "image": "fetch:1"}]},
    )
    made = pod_of(built(document, env=(("GRIDTIDE_JOB_ID", "train-x"), ("B", "2"))))
    expected = [
        {"name": "GRIDTIDE_JOB_ID", "value": "train-x"},
        {"name": "B", "value": "2"},
        {"name": "GRIDTIDE_CHECKPOINT_DIR", "value": "/ck/train-x"},
    ]
    (container,), (init,) = made["containers"], made["initContainers"]
    assert container["env"] == [*expected, {"name": "A", "value": "$(GRIDTIDE_JOB_ID)"}]
    assert init["env"] == expected


def test_checkpoints_are_mounted_where_nothing_else_is() -> None:
    made = pod_of(built(manifest(pod={"volumes": [{"name": "data", "emptyDir": {}}]})))
    mount = {"name": VOLUME, "mountPath": "/ck/train-x", "subPath": "train-x"}
    assert made["containers"][0]["volumeMounts"] == [mount]
    assert made["volumes"][1] == {
        "name": VOLUME,
        "persistentVolumeClaim": {"claimName": "kept"},
    }
    own = {"name": "mine", "mountPath": "/ck/train-x"}
    made = pod_of(built(manifest(container={"volumeMounts": [own]})))
    assert made["containers"][0]["volumeMounts"] == [own]


def test_without_a_claim_there_is_no_folder_and_no_word_of_one() -> None:
    made = pod_of(built(manifest(), terms=KubeTerms(image="default:1", checkpoints="/ck")))
    assert "volumes" not in made
    assert "volumeMounts" not in made["containers"][0]
    assert {one["name"] for one in made["containers"][0]["env"]} == {"GRIDTIDE_JOB_ID"}


INDEXED: Document = {"completionMode": "Indexed", "completions": 2, "parallelism": 2}


@pytest.mark.parametrize(
    ("pod", "subdomain", "is_ours"), [({}, "gt-x", True), ({"subdomain": "mine"}, "mine", False)]
)
def test_indexed_pods_are_told_where_the_first_of_them_is(
    pod: Document, subdomain: str, is_ours: bool
) -> None:
    document = manifest(pod=pod, **INDEXED)
    made = pod_of(built(document, gpus=2, num_nodes=2))
    assert made["subdomain"] == subdomain
    env = {one["name"]: one["value"] for one in made["containers"][0]["env"]}
    assert (env["GRIDTIDE_FIRST_NODE"], env["GRIDTIDE_NODES"]) == (f"gt-x-0.{subdomain}", "2")
    run = dispatch(kubernetes=as_terms(document), gpus=2, num_nodes=2)
    assert needs_service(run) is is_ours


def test_pods_without_an_index_have_no_first() -> None:
    document = manifest(parallelism=2)
    made = pod_of(built(document, gpus=2, num_nodes=2))
    assert "subdomain" not in made
    assert not needs_service(dispatch(kubernetes=as_terms(document), gpus=2, num_nodes=2))
    assert not needs_service(dispatch(kubernetes=as_terms(manifest(**INDEXED))))
    assert needs_service(dispatch(num_nodes=2)), "as before for a command"


def test_what_gives_way_is_told() -> None:
    assert overruled(manifest()) == []
    labels = {"app.kubernetes.io/instance": "mine"}
    lines = overruled(manifest(meta={"labels": labels}, ttlSecondsAfterFinished=1))
    assert [line.partition(":")[0] for line in lines] == [
        "metadata.labels.app.kubernetes.io/instance",
        "spec.ttlSecondsAfterFinished",
    ]


# ---------------------------------------------------------------------------------- devices


def place(**devices: KubeDevice) -> ManifestPlace:
    return ManifestPlace(namespace="ml", devices=devices, capacity=dict.fromkeys(devices, 8))


def test_devices_are_counted_over_all_pods_at_once() -> None:
    native = native_of(
        manifest(
            parallelism=3, completions=9, container={"resources": {"limits": {"nvidia.com/gpu": 2}}}
        )
    )
    found = place(H100=GPU).wanted(native)
    assert (found.accelerator, found.gpus) == ("H100", 6)


def test_two_kinds_of_one_resource_have_to_be_told_apart() -> None:
    native, both = native_of(manifest()), place(H100=GPU, A100=GPU)
    found = both.wanted(native)
    assert found.trouble is not None
    assert set(found.candidates) == {"H100", "A100"}
    assert both.wanted_as(native, "A100").accelerator == "A100"


@pytest.mark.parametrize(("namespace", "is_taken"), [(None, True), ("ml", True), ("else", False)])
def test_namespace_is_the_clusters_own_or_left_out(namespace: str | None, is_taken: bool) -> None:
    document = manifest(meta={} if namespace is None else {"namespace": namespace})
    assert (place(H100=GPU).find_namespace_trouble(document) is None) is is_taken
