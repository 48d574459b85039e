"""What is created for a run."""

from typing import Any

import pytest

from adapters.cluster.kube_objects import (
    KubeDevice,
    KubeTerms,
    KubeToleration,
    KubeVolume,
    build_job,
    build_service,
    object_name,
    selector_of,
)
from adapters.cluster.kube_records import parse_job
from scheduler.core.job import JobId
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.ports import Dispatch

TERMS = KubeTerms(image="default:1", checkpoints="/ck", checkpoint_claim="kept", instance="gt")
CPU = KubeDevice(resource="cpu")
GPU = KubeDevice(resource="nvidia.com/gpu")


def dispatch(**fields: Any) -> Dispatch:
    known: dict[str, Any] = {
        "name": "train-x.1.0",
        "job_id": JobId("train-x"),
        "command": ("python", "train.py"),
        "env": (("GRIDTIDE_JOB_ID", "train-x"),),
        "workdir": None,
        "accelerator": "H100",
        "gpus": 8,
        "num_nodes": 1,
        "checkpoint_key": "train-x",
    }
    return Dispatch(**(known | fields))


def built(
    terms: KubeTerms = TERMS, device: KubeDevice = GPU, each: int = 8, **fields: Any
) -> dict[str, Any]:
    return build_job(dispatch(**fields), name="gt-x", terms=terms, device=device, each=each)


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = document["spec"]["template"]["spec"]
    return pod


def container_of(document: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(document)["containers"]
    assert isinstance(container, dict)
    return container


# --------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("train-x.1.0", "gt-train-x-1-0"),
        ("train-x.12.34", "gt-train-x-12-34"),
        ("a-1.2.3", "gt-a-1-2-3"),
        ("a.1.2", "gt-a-1-2"),
    ],
)
def test_name_shows_the_run(run: str, name: str) -> None:
    assert object_name(run, "gt-") == name


@pytest.mark.parametrize(
    "run", ["a.b.1.0", "A.1.0", "a_b.1.0", "x" * 200 + ".1.0", "plain", "-.1.0", "大.1.0", "a-.1.0"]
)
def test_name_that_kubernetes_cannot_hold_is_told_by_a_digest(run: str) -> None:
    name = object_name(run, "gt-")
    assert len(name) <= 52
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name[-1] != "-"
    assert name == object_name(run, "gt-")


def test_different_runs_have_different_names() -> None:
    runs = ["a.1.0", "a.1.1", "a.2.0", "A.1.0", "a_.1.0", "a-.1.0", "a.b.1.0", "a-b.1.0"]
    runs += ["x" * 60 + ".1.0", "x" * 61 + ".1.0", "x" * 60 + ".1.1"]
    assert len({object_name(run, "gt-") for run in runs}) == len(runs)


# ----------------------------------------------------------------------------------------- Job


def test_job_is_tried_once_and_spares_pods_that_the_cluster_sent_away() -> None:
    spec = built()["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["ttlSecondsAfterFinished"] == 7 * 86_400
    assert spec["podFailurePolicy"]["rules"] == [
        {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        }
    ]
    assert pod_of(built())["restartPolicy"] == "Never"


def test_labels_of_job_and_pods_are_what_the_selector_finds() -> None:
    document = built()
    labels = document["metadata"]["labels"]
    assert document["spec"]["template"]["metadata"]["labels"] == labels
    assert all(f"{key}={labels[key]}" for key in labels)
    for pair in selector_of(TERMS).split(","):
        key, _, value = pair.partition("=")
        assert labels[key] == value
    assert labels["gridtide.dev/job-id"] == "train-x"


def test_long_job_id_becomes_a_digest_in_its_label() -> None:
    label = built(job_id=JobId("x" * 64))["metadata"]["labels"]["gridtide.dev/job-id"]
    assert len(label) == 40


def test_job_says_which_run_it_is_and_what_it_takes() -> None:
    document = built(gpus=8)
    document["metadata"]["uid"] = "u"
    job = parse_job(document)
    assert (job.run, job.instance, job.devices) == ("train-x.1.0", "gt", ("H100", 8))


def test_image_is_that_of_the_job_or_of_the_cluster() -> None:
    assert container_of(built())["image"] == "default:1"
    own = JobKubernetes(image="ours:2")
    assert container_of(built(kubernetes=own))["image"] == "ours:2"
    assert container_of(built(kubernetes=JobKubernetes()))["image"] == "default:1"


def test_texts_arrive_as_they_are_although_kubernetes_expands_them() -> None:
    container = container_of(
        built(command=("sh", "-c", "$(id) $$ $HOME"), env=(("A", "$(B)"),), workdir="/w")
    )
    assert container["command"] == ["sh", "-c", "$$(id) $$$$ $$HOME"]
    assert {"name": "A", "value": "$$(B)"} in container["env"]
    assert container["workingDir"] == "/w"


def test_folder_that_its_user_was_in_is_none_in_a_container() -> None:
    pod = built(submitted_from="/home/me")["spec"]["template"]["spec"]
    assert "workingDir" not in pod["containers"][0]


def test_devices_are_limits_and_cpus_only_requests() -> None:
    assert container_of(built())["resources"] == {
        "requests": {"nvidia.com/gpu": "8"},
        "limits": {"nvidia.com/gpu": "8"},
    }
    assert container_of(built(device=CPU, each=3))["resources"] == {"requests": {"cpu": "3"}}


def test_each_device_brings_cpus_and_memory() -> None:
    device = KubeDevice(resource="nvidia.com/gpu", cpus=1.5, memory="64Gi")
    assert container_of(built(device=device, each=4))["resources"]["requests"] == {
        "cpu": "6000m",
        "memory": "256Gi",
        "nvidia.com/gpu": "4",
    }


def test_pods_go_to_the_nodes_that_have_the_device() -> None:
    device = KubeDevice(
        resource="nvidia.com/gpu",
        node_selector={"gpu": "h100"},
        tolerations=(
            KubeToleration(key="gpu"),
            KubeToleration(key="a", operator="Equal", value="b"),
        ),
    )
    pod = pod_of(built(device=device))
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "a", "operator": "Equal", "value": "b"},
    ]
    assert not {"nodeSelector", "tolerations"} & pod_of(built()).keys()


@pytest.mark.parametrize(("grace_s", "told"), [(30.0, 30), (600.0, 600), (0.2, 1)])
def test_pods_have_as_long_after_sigterm_as_a_checkpoint_takes(grace_s: float, told: int) -> None:
    assert pod_of(built(grace_s=grace_s))["terminationGracePeriodSeconds"] == told


def test_job_sees_its_own_checkpoint_folder_alone() -> None:
    container = container_of(built())
    (mount,) = container["volumeMounts"]
    assert mount == {"name": "checkpoints", "mountPath": "/ck/train-x", "subPath": "train-x"}
    assert {"name": "GRIDTIDE_CHECKPOINT_DIR", "value": "/ck/train-x"} in container["env"]
    (volume,) = pod_of(built())["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "kept"}


def test_without_a_claim_checkpoints_go_with_their_pod() -> None:
    document = built(KubeTerms(image="a", checkpoints="/ck"))
    assert pod_of(document)["volumes"] == [{"name": "checkpoints", "emptyDir": {}}]
    assert "subPath" not in container_of(document)["volumeMounts"][0]


def test_site_adds_volumes_account_secrets_and_priority() -> None:
    terms = KubeTerms(
        image="a",
        checkpoints="/ck",
        volumes=(KubeVolume(claim="data", path="/data", is_read_only=True),),
        service_account="training",
        pull_secrets=("registry",),
        priority_class="batch",
    )
    pod = pod_of(built(terms))
    assert pod["serviceAccountName"] == "training"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["priorityClassName"] == "batch"
    assert pod["volumes"][1] == {
        "name": "volume-0",
        "persistentVolumeClaim": {"claimName": "data"},
    }
    mount = container_of(built(terms))["volumeMounts"][1]
    assert mount == {"name": "volume-0", "mountPath": "/data", "readOnly": True}


def test_pods_get_no_token_for_the_api() -> None:
    assert pod_of(built())["automountServiceAccountToken"] is False


# ------------------------------------------------------------------------------- several nodes


def test_several_nodes_are_an_indexed_job_whose_pods_find_the_first_one() -> None:
    document = built(num_nodes=4, gpus=32)
    spec = document["spec"]
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"]) == (4, 4)
    assert pod_of(document)["subdomain"] == "gt-x"
    env = {one["name"]: one["value"] for one in container_of(document)["env"]}
    assert (env["GRIDTIDE_NODES"], env["GRIDTIDE_FIRST_NODE"]) == ("4", "gt-x-0.gt-x")


def test_service_finds_the_pods_and_goes_with_the_job() -> None:
    service = build_service("gt-x", "uid-1", {"a": "b"})
    assert service["spec"] == {
        "clusterIP": "None",
        "selector": {"batch.kubernetes.io/job-name": "gt-x"},
        "publishNotReadyAddresses": True,
    }
    assert service["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "gt-x", "uid": "uid-1"}
    ]
