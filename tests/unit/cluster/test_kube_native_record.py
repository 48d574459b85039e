"""What is read from a Job that a user created: words, marks, devices, and what keeps it from being planned."""

from typing import Any

import pytest

from adapters.cluster.kube_native_devices import find_wanted
from adapters.cluster.kube_native_record import (
    ADOPTED,
    GUARD,
    HOLD,
    MARKS_OF,
    PAUSED,
    RELEASED,
    WORDS_OF,
    KubeNative,
    parse_native,
)
from adapters.cluster.kube_objects import KubeDevice
from tests.unit.cluster.kube_user import ASK, manifest

DEVICES = {
    "CPU": KubeDevice(resource="cpu"),
    "H100": KubeDevice(resource="nvidia.com/gpu", node_selector={"gpu": "h100"}),
    "A100": KubeDevice(resource="nvidia.com/gpu", node_selector={"gpu": "a100"}),
}
CAPACITY = {"CPU": 64, "H100": 8, "A100": 8}


def native(
    words: dict[str, str] | None = None,
    *,
    notes: dict[str, str] | None = None,
    meta: dict[str, Any] | None = None,
    pod: dict[str, Any] | None = None,
    containers: list[dict[str, Any]] | None = None,
    **spec: Any,
) -> KubeNative:
    document = manifest("mine", words, **spec)
    document["metadata"] |= {
        "uid": "u-1",
        "namespace": "ml",
        "resourceVersion": "7",
        "creationTimestamp": "2026-03-02T00:00:00Z",
        **(meta or {}),
    }
    document["metadata"]["annotations"] |= notes or {}
    template = document["spec"]["template"]["spec"]
    template |= pod or {}
    if containers is not None:
        template["containers"] = containers
    return parse_native(document)


def asking(**limits: str) -> list[dict[str, Any]]:
    return [
        {"resources": {"limits": {key.replace("_", "/"): value for key, value in limits.items()}}}
    ]


def gpus(count: str = "1") -> list[dict[str, Any]]:
    return [{"resources": {"limits": {"nvidia.com/gpu": count}}}]


def test_words_are_the_annotations_that_are_not_ours() -> None:
    job = native(
        ASK | {"duration_p95": "2h"}, notes={ADOPTED: "job", HOLD: "false", "other/x": "y"}
    )
    assert job.words == ASK | {"duration_p95": "2h"}
    assert job.marks == {ADOPTED: "job", HOLD: "false"}
    assert job.ref == "ml/mine/u-1"
    assert job.asks
    assert not job.is_held


def test_job_without_words_and_runs_of_ours_do_not_ask() -> None:
    assert not native({}).asks
    assert not native({}, notes={HOLD: "true"}).asks
    assert not native(ASK, notes={"gridtide.dev/run": "job.1.0"}).asks


def test_misspelt_word_is_a_word_that_can_be_refused() -> None:
    assert native({"dedline": "x"}).words == {"dedline": "x"}


@pytest.mark.parametrize(
    ("notes", "is_held"),
    [
        ({HOLD: "true"}, True),
        ({HOLD: "Yes"}, True),
        ({HOLD: "no"}, False),
        ({RELEASED: "x"}, True),  # suspended after it had been let start
        ({RELEASED: "x", PAUSED: "x"}, False),
    ],
)
def test_hold_is_the_annotation_or_a_suspension_by_hand(
    notes: dict[str, str], is_held: bool
) -> None:
    assert native(notes=notes).is_held is is_held


def test_change_of_what_it_asks_for_is_seen_and_our_marks_are_none() -> None:
    first = native()
    assert native(notes={WORDS_OF: first.digest, ADOPTED: "j"}).is_reworded is False
    assert native(ASK | {"priority": "1"}, notes={WORDS_OF: first.digest}).is_reworded
    assert native(containers=gpus(), notes={WORDS_OF: first.digest}).is_reworded
    assert not first.is_reworded, "one that was never adopted"


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"labels": {"kueue.x-k8s.io/queue-name": "team"}}, "Kueue's queue team"),
        ({"managedBy": "example.com/other"}, "managed by example.com/other"),
        (
            {"meta": {"ownerReferences": [{"kind": "JobSet", "name": "s", "controller": True}]}},
            "belongs to the JobSet s",
        ),
        ({"pod": {"resourceClaims": [{"name": "gpu"}]}}, "resource claims"),
        ({"words": ASK | {"signal": "USR1"}}, "signal: not a word on Kubernetes"),
    ],
)
def test_what_others_decide_on_is_not_ours(terms: dict[str, Any], words: str) -> None:
    assert words in native(**terms).barrier


@pytest.mark.parametrize(
    "terms",
    [
        {"managedBy": "kubernetes.io/job-controller"},
        {"meta": {"ownerReferences": [{"kind": "CronJob", "name": "c", "controller": True}]}},
    ],
)
def test_jobs_of_cron_jobs_are_ours(terms: dict[str, Any]) -> None:
    assert native(**terms).barrier == ""


@pytest.mark.parametrize(
    ("terms", "accelerator", "count"),
    [
        ({}, "CPU", 1),
        ({"containers": asking(cpu="2500m")}, "CPU", 3),
        ({"containers": asking(cpu="500m"), "parallelism": 4}, "CPU", 4),
        ({"parallelism": 4, "completions": 2}, "CPU", 2),
        ({"containers": gpus("2"), "pod": {"nodeSelector": {"gpu": "h100"}}}, "H100", 2),
        (
            {"containers": gpus("2") * 2, "pod": {"nodeSelector": {"gpu": "a100", "x": "y"}}},
            "A100",
            4,
        ),
        # Devices for the network count for nothing.
        (
            {
                "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1", "rdma/hca": "1"}}}],
                "pod": {"nodeSelector": {"gpu": "h100"}},
            },
            "H100",
            1,
        ),
        # One that prepares runs before the others, one that stays runs beside them.
        (
            {
                "containers": asking(cpu="2"),
                "pod": {"initContainers": asking(cpu="5")},
            },
            "CPU",
            5,
        ),
        (
            {
                "containers": asking(cpu="2"),
                "pod": {"initContainers": [{**asking(cpu="5")[0], "restartPolicy": "Always"}]},
            },
            "CPU",
            7,
        ),
    ],
)
def test_devices_that_it_asks_for(terms: dict[str, Any], accelerator: str, count: int) -> None:
    wanted = find_wanted(native(**terms), DEVICES, CAPACITY)
    assert (wanted.accelerator, wanted.gpus, wanted.trouble) == (accelerator, count, None)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (
            {"containers": gpus()},
            "without saying which; state a nodeSelector (A100: gpu=a100; H100",
        ),
        (
            {"containers": gpus(), "pod": {"nodeSelector": {"gpu": "t4"}}},
            "on nodes other than those that are planned with",
        ),
        (
            {"containers": asking(amd_gpu="1")},
            "it asks for amd/gpu; here are planned: nvidia.com/gpu",
        ),
        (
            {"containers": gpus("9"), "pod": {"nodeSelector": {"gpu": "h100"}}},
            "it asks for 9 H100; here are 8 at most",
        ),
        ({"parallelism": 0}, "it would run no pods, such as by a parallelism of 0"),
    ],
)
def test_devices_that_cannot_be_planned_with(terms: dict[str, Any], words: str) -> None:
    wanted = find_wanted(native(**terms), DEVICES, CAPACITY)
    assert wanted.accelerator is None
    assert words in (wanted.trouble or "")


def test_only_kind_of_device_needs_no_label() -> None:
    one = {"H100": DEVICES["H100"]}
    assert find_wanted(native(containers=gpus()), one, CAPACITY).accelerator == "H100"
    trouble = find_wanted(native(), one, CAPACITY).trouble
    assert trouble == "it asks for CPUs only, which are not planned on this cluster"


def test_two_kinds_of_devices_are_refused() -> None:
    both = DEVICES | {"MI300X": KubeDevice(resource="amd.com/gpu")}
    containers = [{"resources": {"limits": {"nvidia.com/gpu": "1", "amd.com/gpu": "1"}}}]
    trouble = find_wanted(native(containers=containers), both, CAPACITY).trouble
    assert (
        trouble
        == "it asks for amd.com/gpu and nvidia.com/gpu; jobs with one kind of device are planned"
    )


def test_it_begins_when_it_was_let_start_until_the_cluster_says_so() -> None:
    assert native().began_s == native().created_s
    for text in ("2026-03-02T05:00:00Z", "2026-03-02T05:00:00Z by its user"):
        assert native(notes={RELEASED: text}).began_s == native().created_s + 5 * 3600
    assert native(notes={RELEASED: "nonsense"}).began_s == native().created_s


def test_labels_of_a_flavor_that_kueue_adds_are_no_change_of_its_users() -> None:
    labels, added = {"kueue.x-k8s.io/queue-name": "q"}, {"nodeSelector": {"flavor": "h100"}}
    assert native(labels=labels).digest == native(labels=labels, pod=added).digest
    assert native().digest != native(pod=added).digest
    assert native().digest != native(labels=labels).digest


def test_job_that_came_by_multikueue_is_its_manager_clusters() -> None:
    labels = {"kueue.x-k8s.io/queue-name": "q", "kueue.x-k8s.io/multikueue-origin": "m"}
    assert "manager cluster has decided" in native(labels=labels).barrier


def test_marks_that_were_made_for_another_job_say_nothing_of_its_copy() -> None:
    marks = {ADOPTED: "j", GUARD: "2026-03-03T00:00:00Z", RELEASED: "2026-03-04T00:00:00Z"}
    own = native(notes={**marks, MARKS_OF: "u-1"})
    assert (own.is_copied, own.is_by_hand, own.marks[ADOPTED]) == (False, True, "j")
    copy = native(notes={**marks, MARKS_OF: "u-0", HOLD: "true"})
    assert (copy.is_copied, copy.is_by_hand) == (True, False)
    assert copy.marks == {HOLD: "true"}, "its user's word is as good as it was"
    assert copy.began_s == native().began_s
    assert copy.words == native().words
