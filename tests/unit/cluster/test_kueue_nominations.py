"""Nominations: who is next, and that Kueue can clear what is written."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kueue_nominations import (
    MAX_NOMINATED,
    all_names,
    is_waiting,
    next_names,
    nominate,
)
from adapters.cluster.kueue_records import KubeWorkload, parse_workload
from tests.unit.cluster.kube_user import KubeUser
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, client_of
from tests.unit.cluster.kueue_world import QUEUE, KueueAdmin, kueue_bed, stay
from tests.unit.cluster.runs import wait_until

pytestmark = pytest.mark.timeout(120)
CHECK = "multikueue"
WORKERS = {"w-north": "north", "w-south": "south"}


def test_next_is_the_first_of_the_ranking_and_then_one_more_at_a_time() -> None:
    ranking = ("b", "a", "c")
    assert next_names((), ranking, is_time=False) == ("b",)
    assert next_names(("b",), ranking, is_time=False) == ("b",)
    assert next_names(("b",), ranking, is_time=True) == ("b", "a")
    assert next_names(("c", "b"), ranking, is_time=True) == ("c", "b", "a"), "none is taken back"
    assert next_names(("b", "a", "c"), ranking, is_time=True) == ("b", "a", "c")


def test_all_come_behind_those_nominated_before_and_are_no_more_than_kueue_takes() -> None:
    assert all_names(("b",), ("a", "b", "c")) == ("b", "a", "c")
    many = tuple(f"w{n}" for n in range(20))
    assert len(all_names((), many)) == MAX_NOMINATED


@pytest.fixture
def bed() -> Iterator[KubeBed]:
    bed = kueue_bed("hub", "north", "south")
    yield bed
    bed.fault("hub")


@pytest.fixture
def admin(bed: KubeBed) -> KueueAdmin:
    one = KueueAdmin(bed.admin("hub"))
    one.make_workers_once(CHECK, WORKERS)
    return one


@pytest.fixture
def queue(bed: KubeBed, admin: KueueAdmin) -> Iterator[str]:
    """A queue of the manager, and those of the same name in its workers."""
    name = f"q{uuid.uuid4().hex[:8]}"
    admin.make_queue(name, checks=(CHECK,), cpu=8)
    workers = [KueueAdmin(bed.admin(one)) for one in WORKERS.values()]
    for one in workers:
        one.make_queue(name, cpu=8)
    yield name
    for one in (admin, *workers):
        one.forget(name)


@pytest.fixture
def user(bed: KubeBed) -> Iterator[KubeUser]:
    one = KubeUser(bed.admin("hub"))
    yield one
    one.finish()


@pytest.fixture
def client(bed: KubeBed) -> Iterator[KubeClient]:
    one = client_of(bed, "hub-gridtide")
    yield one
    one.link.close()


@pytest.fixture
def job(user: KubeUser, admin: KueueAdmin, queue: str) -> str:
    """The name of a Job that waits for a nomination."""
    ref = user.create({}, script="exit 0", labels={QUEUE: queue}, limits={"cpu": "1"})
    name = ref.split("/")[1]
    wait_until(lambda: is_waiting(seen(admin, name), CHECK), "it waits")
    return name


def seen(admin: KueueAdmin, job: str) -> KubeWorkload:
    return parse_workload(admin.workload(job) or {})


def is_there(bed: KubeBed, cluster: str, kind: str, name: str) -> bool:
    items = bed.admin(cluster).list_all(path_of(kind, NAMESPACE)).items
    return any(one["metadata"]["name"] == name for one in items)


def status_path(workload: KubeWorkload) -> str:
    return f"{path_of('workloads', NAMESPACE, workload.name)}/status"


def test_nominated_worker_gets_it_and_its_end_comes_back(
    client: KubeClient, admin: KueueAdmin, job: str, user: KubeUser, bed: KubeBed
) -> None:
    assert nominate(client, seen(admin, job), ["w-south"])
    told = admin.status(job)
    assert told["nominatedClusterNames"] == ["w-south"]
    assert admin.said(job, "QuotaReserved") == "True", "what Kueue had said is still there"
    assert told["admission"]["clusterQueue"]
    wait_until(lambda: admin.said(job, "Finished") == "True", "it has run")
    assert admin.status(job)["clusterName"] == "w-south"
    assert "nominatedClusterNames" not in admin.status(job), "Kueue could clear it"
    path = path_of("jobs", NAMESPACE, job)
    done = user.client.get(path)["status"]
    assert "Complete" in [one["type"] for one in done["conditions"]]
    name = seen(admin, job).name
    wait_until(
        lambda: not any(is_there(bed, one, "workloads", name) for one in WORKERS.values()),
        "the copies go",
    )


def test_field_of_another_manager_would_never_be_cleared(
    admin: KueueAdmin, job: str, bed: KubeBed
) -> None:
    """Why it is applied in Kueue's name: a plain patch keeps the Workload from being admitted."""
    workload = seen(admin, job)
    admin.client.merge_patch(
        status_path(workload), {"status": {"nominatedClusterNames": ["w-north"]}}
    )
    wait_until(lambda: is_there(bed, "north", "workloads", workload.name), "the worker has it")
    stay(lambda: "clusterName" not in admin.status(job), "the manager cannot say so")


def test_second_nomination_adds_and_a_lost_reply_or_a_change_meanwhile_does_no_harm(
    client: KubeClient, admin: KueueAdmin, job: str, queue: str, bed: KubeBed
) -> None:
    for worker in WORKERS.values():
        KueueAdmin(bed.admin(worker)).stop(queue)
    first = seen(admin, job)
    bed.fault("hub", afterServing=True, drop=True, count=1, match="PATCH .*/workloads")
    # Asked again the version is another one: what became of it the next look sees.
    nominate(client, first, ["w-north"])
    assert admin.status(job)["nominatedClusterNames"] == ["w-north"]
    assert not nominate(client, first, ["w-south"]), "it is not any more what was seen"
    assert nominate(client, seen(admin, job), ["w-north", "w-south"])
    wait_until(
        lambda: all(is_there(bed, one, "workloads", first.name) for one in WORKERS.values()),
        "both have a copy",
    )
    KueueAdmin(bed.admin("south")).stop(queue, is_stopped=False)
    wait_until(lambda: admin.said(job, "Finished") == "True", "the other one runs it")
    assert admin.status(job)["clusterName"] == "w-south"


def test_what_is_gone_is_not_nominated(
    client: KubeClient, admin: KueueAdmin, job: str, user: KubeUser
) -> None:
    workload = seen(admin, job)
    user.client.delete(path_of("jobs", NAMESPACE, job))
    wait_until(lambda: admin.workload(job) is None, "its Workload goes, too")
    assert not nominate(client, workload, ["w-north"])


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"active": False}},
        {"conditions": []},
        {"clusterName": "w-north"},
        {"admissionChecks": [{"name": CHECK, "state": "Ready"}]},
        {"admissionChecks": []},
    ],
)
def test_others_wait_for_no_nomination(changes: dict[str, Any]) -> None:
    status: dict[str, Any] = {
        "conditions": [{"type": "QuotaReserved", "status": "True"}],
        "admissionChecks": [{"name": CHECK, "state": "Pending"}],
    }
    spec = changes.pop("spec", {})
    meta = {"name": "one", "namespace": NAMESPACE}
    waits = {"metadata": meta, "spec": {}, "status": status}
    assert is_waiting(parse_workload(waits), CHECK)
    other = {"metadata": meta, "spec": spec, "status": status | changes}
    assert not is_waiting(parse_workload(other), CHECK)
