"""What `gridtide doctor` says of our admission check, and that the guard vouches for it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_objects import KubeTerms
from adapters.cluster.kueue_checks import (
    CONTROLLER,
    kueue_lines,
    multikueue_lines,
    vouch_for,
)
from adapters.cluster.kueue_workloads import Kueue, Workloads
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, client_of
from tests.unit.cluster.kueue_world import KUEUE, KueueAdmin, kueue_bed

WALL_S = 1_770_000_000.0
TERMS = KubeTerms(image="python:3.12", checkpoints="/checkpoints")


@pytest.fixture
def bed() -> KubeBed:
    return kueue_bed("north")


@pytest.fixture
def admin(bed: KubeBed) -> KueueAdmin:
    return KueueAdmin(bed.admin("north"))


@pytest.fixture
def client(bed: KubeBed) -> Iterator[KubeClient]:
    one = client_of(bed, "north-gridtide")
    yield one
    one.link.close()


@pytest.fixture
def check(admin: KueueAdmin) -> Iterator[str]:
    yield "probe"
    admin.client.delete(f"{KUEUE}/admissionchecks/probe")


def line(client: KubeClient, check: str) -> tuple[bool, str]:
    queued = Workloads(client, NAMESPACE, kueue=Kueue(check=check), wall=lambda: WALL_S)
    return kueue_lines(client, queued, TERMS)[-1]


def conditions(admin: KueueAdmin, check: str) -> list[dict[str, Any]]:
    found: dict[str, Any] = admin.client.get(f"{KUEUE}/admissionchecks/{check}")
    listed: list[dict[str, Any]] = found.get("status", {}).get("conditions", [])
    return listed


def test_check_that_is_not_there_is_told(client: KubeClient) -> None:
    is_ok, said = line(client, "none")
    assert not is_ok
    assert said.startswith("there is no AdmissionCheck none; make it, or leave")


def test_check_of_another_controller_is_told_and_left_alone(
    client: KubeClient, admin: KueueAdmin, check: str
) -> None:
    admin.make("admissionchecks", check, controllerName="example.org/other")
    vouch_for(client, check, wall_s=WALL_S)
    assert conditions(admin, check) == []
    is_ok, said = line(client, check)
    assert not is_ok
    assert said == f"the AdmissionCheck probe is of example.org/other; it must be of {CONTROLLER}"


def test_check_is_inactive_until_somebody_vouches_for_it(
    client: KubeClient, admin: KueueAdmin, check: str
) -> None:
    admin.make("admissionchecks", check, controllerName=CONTROLLER)
    is_ok, said = line(client, check)
    assert not is_ok
    assert "is not active, so its ClusterQueues admit nothing" in said
    for _ in range(2):
        vouch_for(client, check, wall_s=WALL_S)
    (active,) = conditions(admin, check)
    assert (active["type"], active["status"]) == ("Active", "True")
    assert line(client, check) == (
        True,
        "the AdmissionCheck probe is active: gridtide guard answers it if nobody else does",
    )


def test_names_of_multikueue_that_are_none_are_told(admin: KueueAdmin) -> None:
    admin.make_workers("workers-probe", {"w-a": "east", "w-b": "west"})
    admin.make("admissionchecks", "other-probe", controllerName="example.org/other")
    try:
        assert multikueue_lines(admin.client, "workers-probe", ["w-b"]) == []
        (said,) = multikueue_lines(admin.client, "workers-probe", ["w-b", "w-x"])
        assert said == "MultiKueue has no worker w-x; it has w-a, w-b: set multikueue.clusters"
        (said,) = multikueue_lines(admin.client, "none", ["w-a"])
        assert said.startswith("there is no AdmissionCheck none")
        (said,) = multikueue_lines(admin.client, "other-probe", ["w-a"])
        assert "is of example.org/other" in said
    finally:
        for one in ("workers-probe", "other-probe"):
            admin.client.delete(f"{KUEUE}/admissionchecks/{one}")


def test_names_of_multikueue_that_may_not_be_seen_are_believed(bed: KubeBed) -> None:
    client = client_of(bed, "north-nobody")
    assert multikueue_lines(client, "none", ["w-a"]) == []
    client.link.close()


def test_queue_that_says_it_is_not_active_is_told(client: KubeClient, admin: KueueAdmin) -> None:
    admin.make_queue("idle-probe")
    status = {"conditions": [{"type": "Active", "status": "False", "message": "it is stopped"}]}
    path = f"{KUEUE}/namespaces/{NAMESPACE}/localqueues/idle-probe"
    admin.client.merge_patch(f"{path}/status", {"status": status})
    try:
        terms = replace(TERMS, queue="idle-probe")
        queued = Workloads(client, NAMESPACE, kueue=Kueue(), wall=lambda: WALL_S)
        said = (False, "the LocalQueue idle-probe admits nothing: it is stopped")
        assert kueue_lines(client, queued, terms) == [said]
    finally:
        admin.forget("idle-probe")
