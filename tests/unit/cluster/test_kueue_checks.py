"""What `gridtide doctor` says of our admission check, and that the guard vouches for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_objects import KubeTerms
from adapters.cluster.kueue_checks import CONTROLLER, kueue_lines, vouch_for
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
