"""The table of kinds: what each asks for, how it stands, whose its pods are, and what keeps it from being planned."""

from typing import Any

import pytest

from adapters.cluster.kube_errors import explained
from adapters.cluster.kube_kinds import (
    JOB,
    JOB_SET,
    KINDS,
    PYTORCH_JOB,
    RAY_JOB,
    TRAIN_JOB,
    KubeKind,
    part,
)
from adapters.cluster.kube_native_devices import find_wanted
from adapters.cluster.kube_native_record import KubeNative, Place, parse_native, parse_ref
from adapters.cluster.kube_objects import KubeDevice
from adapters.cluster.kube_records import parse_job, parse_pod
from adapters.cluster.kube_refusals import KubeRefusedError
from tests.unit.cluster.kube_user import N_PODS, manifest

Document = dict[str, Any]
DEVICES = {
    "CPU": KubeDevice(resource="cpu"),
    "H100": KubeDevice(resource="nvidia.com/gpu", node_selector={"gpu": "h100"}),
    "A100": KubeDevice(resource="nvidia.com/gpu", node_selector={"gpu": "a100"}),
}
CAPACITY = {"CPU": 64, "H100": 16, "A100": 16}
OTHERS = [kind for kind in KINDS.values() if kind is not JOB]
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def written(kind: KubeKind, **terms: Any) -> Document:
    document = manifest("mine", kind=kind, **terms)
    document["metadata"] |= {
        "uid": "u-1",
        "namespace": "ml",
        "creationTimestamp": "2026-03-02T00:00:00Z",
    }
    return document


def native(kind: KubeKind, **terms: Any) -> KubeNative:
    return parse_native(written(kind, **terms), kind)


def pods(count: str = "1", label: str = "h100") -> Document:
    container = {"resources": {"limits": {"nvidia.com/gpu": count}}}
    return {"spec": {"containers": [container], "nodeSelector": {"gpu": label}}}


def condition(name: str, status: str = "True", **more: str) -> Document:
    at = "2026-03-02T01:00:00Z"
    return {"type": name, "status": status, "lastTransitionTime": at, **more}


@every_kind
def test_path_and_patch_say_where_it_is(kind: KubeKind) -> None:
    document = written(kind)
    assert kind.path("ml", "mine") == (
        f"/apis/{document['apiVersion']}/namespaces/ml/{kind.name.lower()}s/mine"
    )
    assert kind.terms(document)["suspend"] is True
    assert kind.terms(kind.suspending(suspend=False)) == {"suspend": False}


def test_suspend_of_a_pytorch_job_is_in_its_run_policy() -> None:
    assert PYTORCH_JOB.suspending(suspend=True) == {"spec": {"runPolicy": {"suspend": True}}}


@every_kind
def test_it_is_suspended_until_it_is_let_go(kind: KubeKind) -> None:
    assert native(kind).waits
    assert not native(kind, suspend=False).waits


@every_kind
def test_ref_tells_its_place_and_an_older_one_is_that_of_a_job(kind: KubeKind) -> None:
    job = native(kind)
    assert parse_ref(job.ref) == (Place("ml", kind.name), "mine", "u-1")
    assert (job.ref == "ml/mine/u-1") is (kind is JOB)


@every_kind
def test_pods_at_once_are_counted(kind: KubeKind) -> None:
    job = native(kind)
    assert sum(one.count for one in job.groups) == N_PODS[kind.name]


JOB_SET_SPEC = {
    "replicatedJobs": [
        {"name": "lead", "template": {"spec": {"template": pods("1")}}},
        {
            "name": "work",
            "replicas": 3,
            "template": {"spec": {"parallelism": 4, "completions": 2, "template": pods("2")}},
        },
    ]
}
TRAIN_JOB_SPEC = {
    "trainer": {"numNodes": 3, "resourcesPerNode": {"limits": {"nvidia.com/gpu": "4"}}},
    "podTemplateOverrides": [
        {"targetJobs": [{"name": "dataset-initializer"}], "spec": {"nodeSelector": {"gpu": "t4"}}},
        {"targetJobs": [{"name": "node"}], "spec": {"nodeSelector": {"gpu": "h100"}}},
    ],
}
PYTORCH_SPEC = {
    "pytorchReplicaSpecs": {
        "Master": {"template": pods("1")},
        "Worker": {"replicas": 5, "template": pods("2")},
    }
}
RAY_SPEC = {
    "shutdownAfterJobFinishes": True,
    "rayClusterSpec": {
        "headGroupSpec": {"template": {"spec": {"containers": [{}]}}},
        "workerGroupSpecs": [
            {"replicas": 2, "numOfHosts": 2, "template": pods("2")},
            {"replicas": 0, "maxReplicas": 4, "template": pods("1")},
            {"replicas": 3, "suspend": True, "template": pods("1")},
        ],
    },
}


@pytest.mark.parametrize(
    ("kind", "spec", "gpus", "nodes"),
    [
        (JOB_SET, JOB_SET_SPEC, 1 + 3 * 2 * 2, 1),  # 13 on 7 nodes: not evenly
        (TRAIN_JOB, TRAIN_JOB_SPEC, 12, 3),
        (PYTORCH_JOB, PYTORCH_SPEC, 11, 1),
        (RAY_JOB, RAY_SPEC, 8, 4),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_devices_count_over_all_templates(
    kind: KubeKind, spec: Document, gpus: int, nodes: int
) -> None:
    wanted = find_wanted(native(kind, **spec), DEVICES, CAPACITY)
    assert (wanted.accelerator, wanted.gpus, wanted.nodes) == ("H100", gpus, nodes)
    assert wanted.trouble is None


def test_runtime_patches_of_the_nodes_say_which_device_they_mean() -> None:
    def patch(name: str, label: str) -> Document:
        pod = {"spec": {"nodeSelector": {"gpu": label}}}
        return {"name": name, "template": {"spec": {"template": pod}}}

    jobs = [patch("model-initializer", "t4"), patch("node", "a100")]
    patches = [{"trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}]
    spec = {"trainer": TRAIN_JOB_SPEC["trainer"], "runtimePatches": patches}
    assert find_wanted(native(TRAIN_JOB, **spec), DEVICES, CAPACITY).accelerator == "A100"


def test_what_may_grow_counts_as_large_as_it_may_become() -> None:
    elastic = {**PYTORCH_SPEC, "elasticPolicy": {"maxReplicas": 7}}
    assert find_wanted(native(PYTORCH_JOB, **elastic), DEVICES, CAPACITY).gpus == 1 + 7 * 2
    cluster = {**part(RAY_SPEC, "rayClusterSpec"), "enableInTreeAutoscaling": True}
    open_ended = find_wanted(native(RAY_JOB, rayClusterSpec=cluster), DEVICES, CAPACITY)
    assert "here are 16 at most" in str(open_ended.trouble), "without a maximum there is none"
    groups = [one | {"maxReplicas": 3} for one in cluster["workerGroupSpecs"]]
    bounded = native(RAY_JOB, rayClusterSpec={**cluster, "workerGroupSpecs": groups})
    assert find_wanted(bounded, DEVICES, CAPACITY).gpus == 3 * 2 * 2 + 3


def test_mixed_devices_are_refused_by_name() -> None:
    jobs = [
        {"name": label, "template": {"spec": {"template": pods("1", label)}}}
        for label in ("h100", "a100")
    ]
    trouble = find_wanted(native(JOB_SET, replicatedJobs=jobs), DEVICES, CAPACITY).trouble
    assert trouble == "it asks for A100 and H100; jobs with one kind of device are planned"


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.name)
def test_those_that_others_decide_on_are_not_ours(kind: KubeKind) -> None:
    assert native(kind).barrier == ""
    assert "Kueue's queue q" in native(kind, labels={"kueue.x-k8s.io/queue-name": "q"}).barrier
    document = written(kind)
    home = kind.terms(document)
    assert isinstance(home, dict)
    home["managedBy"] = kind.manager
    assert parse_native(document, kind).barrier == ""
    home["managedBy"] = "kueue.x-k8s.io/multikueue"
    assert "managed by kueue.x-k8s.io/multikueue" in parse_native(document, kind).barrier
    document = written(kind)
    document["metadata"]["ownerReferences"] = [
        {"kind": "Pipeline", "name": "p", "controller": True}
    ]
    assert "belongs to the Pipeline p" in parse_native(document, kind).barrier


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        (TRAIN_JOB, {"trainer": {"numNodes": 2}}, "state spec.trainer.resourcesPerNode"),
        (TRAIN_JOB, {"trainer": {}}, "spec.trainer.numNodes and spec.trainer.resourcesPerNode"),
        (RAY_JOB, {"shutdownAfterJobFinishes": False}, "without shutdownAfterJobFinishes"),
        (RAY_JOB, {"clusterSelector": {"ray.io/cluster": "c"}}, "(clusterSelector)"),
    ],
)
def test_what_cannot_be_suspended_or_counted_is_refused(
    kind: KubeKind, spec: Document, words: str
) -> None:
    assert words in native(kind, **spec).barrier


@pytest.mark.parametrize(
    ("kind", "done"),
    [
        (JOB, "Complete"),
        (JOB_SET, "Completed"),
        (TRAIN_JOB, "Complete"),
        (PYTORCH_JOB, "Succeeded"),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_conditions_tell_the_end_and_the_suspension(kind: KubeKind, done: str) -> None:
    def standing(*conditions: Document) -> KubeNative:
        return parse_native(written(kind) | {"status": {"conditions": list(conditions)}}, kind)

    assert standing(condition(done)).end == "Complete"
    failed = standing(condition("Failed", reason="Because", message="of that"))
    assert (failed.end, failed.why) == ("Failed", "Because: of that")
    assert failed.end_s == failed.created_s + 3600
    open_one = standing(condition(done, "False"), condition("Suspended"))
    assert (open_one.end, open_one.is_empty) == ("", True)
    assert not standing(condition("Suspended", "False")).is_empty
    assert standing(condition("Suspended", "False")).began_s == open_one.created_s + 3600


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (JOB, {"active": 1, "terminating": 1}),
        (JOB_SET, {"replicatedJobsStatus": [{"active": 1}, {"active": 1}]}),
        (TRAIN_JOB, {"jobsStatus": [{"active": 2}]}),
        (PYTORCH_JOB, {"replicaStatuses": {"Master": {"active": 1}, "Worker": {"active": 1}}}),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_suspended_one_with_pods_is_not_empty(kind: KubeKind, status: Document) -> None:
    status = {**status, "conditions": [condition("Suspended")]}
    job = parse_job(written(kind) | {"status": status}, kind)
    assert (job.n_pods, job.is_empty) == (2, False)


@pytest.mark.parametrize(
    ("state", "result", "end", "is_empty"),
    [
        ("", "", "", False),
        ("Initializing", "", "", False),
        ("Running", "RUNNING", "", False),
        ("Suspending", "RUNNING", "", False),
        ("Suspended", "", "", True),
        ("Retrying", "FAILED", "", False),
        ("Complete", "SUCCEEDED", "Complete", False),
        ("Complete", "STOPPED", "Failed", False),
        ("Failed", "FAILED", "Failed", False),
        ("ValidationFailed", "", "Failed", False),
    ],
)
def test_ray_job_stands_as_its_deployment_does(
    state: str, result: str, end: str, is_empty: bool
) -> None:
    status = {"jobDeploymentStatus": state, "jobStatus": result, "endTime": "2026-03-02T01:00:00Z"}
    job = parse_job(written(RAY_JOB) | {"status": status}, RAY_JOB)
    assert (job.end, job.is_empty) == (end, is_empty)
    assert job.end_s == (job.created_s + 3600 if end else None)


@pytest.mark.parametrize(
    ("kind", "labels", "key", "place"),
    [
        (JOB, {"batch.kubernetes.io/controller-uid": "u-1"}, "u-1", ""),
        (JOB, {"controller-uid": "u-1"}, "u-1", ""),
        (
            JOB_SET,
            {
                "jobset.sigs.k8s.io/jobset-name": "mine",
                "jobset.sigs.k8s.io/replicatedjob-name": "work",
                "jobset.sigs.k8s.io/job-index": "1",
                "batch.kubernetes.io/controller-uid": "of-its-job",
            },
            "mine",
            "work/1",
        ),
        (
            PYTORCH_JOB,
            {
                "training.kubeflow.org/job-name": "mine",
                "training.kubeflow.org/replica-type": "worker",
                "training.kubeflow.org/replica-index": "0",
            },
            "mine",
            "worker/0",
        ),
        (RAY_JOB, {"ray.io/cluster": "mine-x7k2p"}, "mine", ""),
        (RAY_JOB, {"ray.io/cluster": "mine-raycluster-x7k2p"}, "mine-raycluster", ""),
    ],
)
def test_labels_tell_whose_a_pod_is(
    kind: KubeKind, labels: dict[str, str], key: str, place: str
) -> None:
    pod = parse_pod({"metadata": {"name": "p", "uid": "p", "labels": labels}}, kind)
    assert (pod.owner, pod.part) == (key, place)
    assert key in kind.keys("mine", "u-1")


def test_codes_of_ray_s_pods_are_not_the_program_s() -> None:
    gone = {"terminated": {"exitCode": 143, "finishedAt": "2026-03-02T01:00:00Z"}}
    document = {
        "metadata": {"name": "p", "uid": "p", "labels": {"ray.io/cluster": "mine-x7k2p"}},
        "status": {"phase": "Failed", "containerStatuses": [{"state": gone}]},
    }
    assert parse_pod(document, RAY_JOB).code is None
    assert parse_pod(document, JOB).code == 143


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            'User "g" cannot list resource "jobsets" in API group "jobset.x-k8s.io"',
            'g may not list resource "jobsets" in namespace ml; deploy/kubernetes/role-kinds.yaml grants',
        ),
        (
            'User "g" cannot list resource "pods" in API group ""',
            'g may not list resource "pods" in namespace ml; deploy/kubernetes/role.yaml grants',
        ),
    ],
)
def test_right_that_is_missing_is_named_with_the_file_that_grants_it(said: str, words: str) -> None:
    error = KubeRefusedError(403, reason="Forbidden", said=f"is forbidden: {said}")
    assert explained(error, "ml", JOB_SET).startswith(words)


def test_pods_that_come_back_under_their_names_are_others() -> None:
    def pod(uid: str, kind: KubeKind) -> str:
        return parse_pod({"metadata": {"name": "mine-master-0", "uid": uid}}, kind).name

    assert pod("u-1", PYTORCH_JOB) != pod("u-2", PYTORCH_JOB)
    assert pod("u-1", JOB) == "mine-master-0"


def test_what_is_missing_of_kueue_is_told_with_where_it_comes_from() -> None:
    said = (
        'workloads.kueue.x-k8s.io is forbidden: User "gridtide" cannot list resource "workloads" in API group '
        '"kueue.x-k8s.io" in the namespace "ml"'
    )
    error = KubeRefusedError(403, reason="Forbidden", said=said)
    assert "deploy/kubernetes/role-kueue.yaml grants what is needed" in explained(error, "ml")
    error = KubeRefusedError(404, reason="", said="404 page not found")
    assert "it does not serve an API that the settings want" in explained(error, "ml")
