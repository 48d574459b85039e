"""Our own runs in a queue of Kueue: it decides on their start, and `spec.suspend` is never ours to write."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.kube_client import path_of
from adapters.cluster.kube_gate import KueueGate
from adapters.cluster.kube_objects import KubeDevice
from adapters.cluster.kube_records import KubeJob, parse_job
from adapters.cluster.kube_watch import WatchPace
from adapters.cluster.kubernetes import KubePatience, KubernetesCluster
from adapters.cluster.kueue_workloads import Kueue, Workloads
from scheduler.core.errors import ClusterUnavailableError
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.ports import RunState
from tests.unit.cluster.kube_user import manifest
from tests.unit.cluster.kube_world import DEVICES, NAMESPACE, KubeBed, open_cluster
from tests.unit.cluster.kueue_world import CHECK, QUEUE, KueueAdmin, kueue_bed, stay
from tests.unit.cluster.runs import Runs, lines, wait_until

pytestmark = pytest.mark.timeout(120)
QUICK = WatchPace(least_s=0.0, most_s=0.05)
SAVING = "trap 'exit 75' TERM; touch ready; while :; do sleep 0.1; done"
Open = Callable[..., Runs]


@pytest.fixture
def bed() -> Iterator[KubeBed]:
    bed = kueue_bed("north")
    yield bed
    bed.fault("north")


@pytest.fixture
def admin(bed: KubeBed) -> KueueAdmin:
    return KueueAdmin(bed.admin("north"))


@pytest.fixture
def queue(admin: KueueAdmin) -> Iterator[str]:
    """A queue with room for one CPU."""
    name = f"q{uuid.uuid4().hex[:8]}"
    admin.make_queue(name, cpu=1)
    yield name
    admin.forget(name)


@pytest.fixture
def opened(bed: KubeBed, queue: str, tmp_path: Path) -> Iterator[Open]:
    made = list[tuple[KubernetesCluster, Runs]]()

    def open_one(start_s: float = 600.0, **fields: Any) -> Runs:
        fields = {"queue": queue, "kueue": Kueue(), "instance": f"u{uuid.uuid4().hex[:8]}"} | fields
        patience = KubePatience(start_s=start_s, watch=QUICK)
        context = fields.pop("context", "north-gridtide")
        cluster = open_cluster(bed, tmp_path, context=context, patience=patience, **fields)
        made.append((cluster, Runs(cluster, tmp_path)))
        return made[-1][1]

    yield open_one
    for cluster, runs in made:
        runs.finish()
        cluster.close()


def job_of(bed: KubeBed, ref: str) -> dict[str, Any]:
    return bed.admin("north").get(path_of("jobs", NAMESPACE, ref))


def test_run_waits_in_its_queue_and_says_so_until_kueue_admits_it(
    opened: Open, admin: KueueAdmin, queue: str, tmp_path: Path
) -> None:
    runs = opened()
    first = runs.start(SAVING, "a.1.0")
    runs.until(RunState.RUNNING, name="a.1.0")
    second = runs.start("echo b >> ran", "b.1.0")
    wait_until(lambda: "insufficient" in runs.status("b.1.0").detail, "it says why it waits")
    status = runs.status("b.1.0")
    assert status.state is RunState.PENDING
    assert status.detail.startswith(f"queued in Kueue ({queue}): ")
    assert "quota for cpu" in status.detail
    assert (admin.said(first, "Admitted"), admin.said(second, "Admitted")) == ("True", None)
    assert runs.cluster.free_devices()["CPU"] == 6, "one that waits is counted, too"
    runs.cluster.cancel("a.1.0", grace_s=30)
    assert runs.until(RunState.ENDED, name="b.1.0").exit_code == 0
    assert lines(tmp_path / "ran") == ["b"]


def test_job_is_created_suspended_with_the_queue_that_it_names(
    opened: Open, admin: KueueAdmin, bed: KubeBed, queue: str
) -> None:
    admin.make_queue(f"{queue}-own", cpu=1)
    runs = opened()
    ref = runs.start("exit 0", kubernetes=JobKubernetes(queue=f"{queue}-own"))
    assert job_of(bed, ref)["metadata"]["labels"][QUEUE] == f"{queue}-own"
    assert runs.until(RunState.ENDED).exit_code == 0
    admin.forget(f"{queue}-own")


def test_run_that_is_not_admitted_in_time_is_taken_back_and_never_runs(
    opened: Open, admin: KueueAdmin, queue: str, tmp_path: Path
) -> None:
    blocking = opened()
    blocking.start(SAVING, "a.1.0")
    blocking.until(RunState.RUNNING, name="a.1.0")
    runs = opened(start_s=3)
    ref = runs.start("echo b >> ran", "b.1.0")
    status = runs.until(RunState.UNSTARTED, name="b.1.0")
    assert status.detail.startswith("it did not start within 3 s (queued in Kueue (")
    assert admin.is_active(ref) is False
    blocking.cluster.cancel("a.1.0", grace_s=30)
    blocking.until(RunState.ENDED, name="a.1.0")
    assert runs.status("b.1.0").state is RunState.UNSTARTED
    # Wanted again, it is another Job of the same name, and runs.
    runs.start("echo again >> ran", "b.1.0")
    assert runs.cluster.poll(["b.1.0"])["b.1.0"].state is not RunState.UNSTARTED
    wait_until(lambda: lines(tmp_path / "ran") == ["again"], "only that has run")


def test_pause_makes_the_workload_inactive_and_frees_its_quota(
    opened: Open, admin: KueueAdmin, bed: KubeBed, queue: str, tmp_path: Path
) -> None:
    runs = opened()
    ref = runs.start(SAVING, "a.1.0")
    runs.until_file("ready")
    runs.cluster.pause("a.1.0", grace_s=1)
    assert runs.until(RunState.ENDED, name="a.1.0").exit_code == 75
    assert admin.is_active(ref) is False
    wait_until(lambda: admin.said(ref, "QuotaReserved") == "False", "others may have it")
    # The next segment is a Job of its own.
    runs.start("echo on >> ran", "a.1.1")
    runs.until(RunState.ENDED, name="a.1.1")
    assert lines(tmp_path / "ran") == ["on"]
    assert job_of(bed, ref)["spec"]["suspend"] is True


@pytest.mark.parametrize("match", ["PATCH .*/workloads", "PATCH .*/jobs"])
@pytest.mark.parametrize("fault", [{"afterServing": True, "drop": True}, {"status": 503}])
def test_pause_of_which_a_part_was_lost_is_asked_for_again(
    opened: Open, bed: KubeBed, match: str, fault: dict[str, Any]
) -> None:
    runs = opened()
    runs.start(SAVING, "a.1.0")
    runs.until_file("ready")
    bed.fault("north", **fault, count=3, match=match)
    with pytest.raises(ClusterUnavailableError):
        runs.cluster.pause("a.1.0", grace_s=30)
    bed.fault("north")
    if match.endswith("jobs"):
        runs.cluster.pause("a.1.0", grace_s=30)  # nothing of it had arrived for sure
    assert runs.until(RunState.ENDED, name="a.1.0").exit_code == 75


def test_job_that_kueue_has_not_taken_up_leaves_its_queue(bed: KubeBed) -> None:
    queued = Workloads(bed.admin("north"), NAMESPACE, kueue=Kueue(), wall=time.time)
    patches = list[dict[str, Any]]()

    def patch(job: KubeJob, what: dict[str, Any]) -> KubeJob:
        patches.append(what)
        return job

    document = manifest("untaken", {}, labels={QUEUE: "q"})
    document["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": NAMESPACE}
    gate = KueueGate(patch, queued)
    gate.shut(parse_job(document), {"gridtide.dev/ending": "{}"})
    assert patches == [
        {"metadata": {"annotations": {"gridtide.dev/ending": "{}"}}},
        {"metadata": {"labels": {QUEUE: None}}},
    ]


def test_run_that_kueue_sends_back_rests_until_it_is_admitted_again(
    opened: Open, admin: KueueAdmin, queue: str
) -> None:
    runs = opened(start_s=3)
    runs.start(SAVING, "a.1.0")
    runs.until_file("ready")
    admin.stop(queue, is_drained=True)
    frozen = runs.until(RunState.FROZEN, name="a.1.0")
    assert len(frozen.spans) == 1
    runs.cluster.resume("a.1.0")
    stay(lambda: runs.status("a.1.0").state is RunState.FROZEN, "that is Kueue's to say", 4)
    admin.stop(queue, is_stopped=False)
    runs.until(RunState.RUNNING, name="a.1.0")


def test_run_that_is_sent_back_without_having_begun_is_taken_back(
    opened: Open, admin: KueueAdmin, queue: str
) -> None:
    nowhere = DEVICES | {"CPU": KubeDevice(resource="cpu", node_selector={"no": "where"})}
    runs = opened(start_s=4, devices=nowhere)
    runs.start("exit 0", "a.1.0")
    wait_until(lambda: "nodes are available" in runs.status("a.1.0").detail, "it has no node")
    admin.stop(queue, is_drained=True)
    runs.until(RunState.UNSTARTED, name="a.1.0")
    runs.names.clear()  # nothing of it is left to end


def test_own_run_passes_our_own_check(opened: Open, admin: KueueAdmin, queue: str) -> None:
    admin.make_check(CHECK)
    admin.make_queue(f"{queue}-checked", checks=(CHECK,), cpu=1)
    runs = opened(queue=f"{queue}-checked", kueue=Kueue(check=CHECK))
    runs.start("exit 0")
    assert runs.until(RunState.ENDED).exit_code == 0
    admin.forget(f"{queue}-checked")


def test_run_that_somebody_deactivated_is_frozen_and_goes_on_when_asked(
    opened: Open, admin: KueueAdmin
) -> None:
    runs = opened()
    ref = runs.start(SAVING, "a.1.0")
    runs.until_file("ready")
    admin.activate(ref, to=False)
    frozen = runs.until(RunState.FROZEN, name="a.1.0")
    assert len(frozen.spans) == 1
    assert runs.cluster.free_devices()["CPU"] == 8
    runs.cluster.resume("a.1.0")
    runs.until(RunState.RUNNING, name="a.1.0")
    assert admin.is_active(ref) is True


def test_doctor_tells_of_the_queue_and_of_rights(opened: Open, bed: KubeBed, queue: str) -> None:
    def said(**fields: Any) -> list[str]:
        told = [line.detail for line in opened(**fields).cluster.checks()]
        return [one for one in told if "ueue" in one and "claim" not in one]

    assert said() == [f"jobs wait in the LocalQueue {queue}, of ClusterQueue {queue}"]
    admin = KueueAdmin(bed.admin("north"))
    admin.make_check(CHECK)
    assert said(queue=None, kueue=Kueue(check=CHECK)) == [
        "Kueue is there; Jobs that are in its queues start when it admits them"
    ]
    assert said(queue="none") == [
        f"there is no LocalQueue none in namespace {NAMESPACE}; make it, or set kubernetes.kueue.queue"
    ]
    (absent,) = said(context="east-gridtide")
    assert absent.startswith("it does not serve kueue.x-k8s.io/v1beta2: install Kueue there")
