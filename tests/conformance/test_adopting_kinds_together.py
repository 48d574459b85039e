"""Users' own jobs of several kinds on Kubernetes: their children, kinds that are missing, and what is particular to one."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.kube_adopting import VERBS, AdoptingKubernetesCluster
from adapters.cluster.kube_errors import explained
from adapters.cluster.kube_guard import KubeGuard
from adapters.cluster.kube_kinds import (
    JOB,
    JOB_SET,
    KINDS,
    PYTORCH_JOB,
    RAY_JOB,
    TRAIN_JOB,
    KubeKind,
)
from adapters.cluster.kube_refusals import KubeRefusedError
from adapters.cluster.kube_watch import WatchPace
from adapters.cluster.kubernetes import KubePatience
from adapters.hardware_tables import load_hardware
from scheduler.core.errors import DispatchRejectedError
from scheduler.ports import NativeJob, RunState
from scheduler.server.safe_starts import SafeStarts
from tests.fakes.clock import ManualClock
from tests.unit.cluster.kube_user import (
    ASK,
    SAVING,
    Document,
    KubeUser,
    adopting,
    ahead,
    container,
    pods,
    steering,
)
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, client_of, running_bed
from tests.unit.cluster.native_user import Steered
from tests.unit.cluster.runs import wait_until

pytestmark = pytest.mark.timeout(120)
WORDS = {f"gridtide.dev/{word}": text for word, text in ASK.items()}


@pytest.fixture
def bed() -> KubeBed:
    return running_bed()


@pytest.fixture
def cluster(bed: KubeBed) -> Iterator[AdoptingKubernetesCluster]:
    made = adopting(bed, kinds=tuple(KINDS.values()))
    yield made
    made.close()


@pytest.fixture
def users(bed: KubeBed) -> Iterator[Callable[[KubeKind], KubeUser]]:
    made = {kind.name: KubeUser(bed.admin("east"), kind=kind) for kind in KINDS.values()}
    yield lambda kind: made[kind.name]
    for one in made.values():
        one.finish()


def owned_jobs(bed: KubeBed, kind: KubeKind, owner: str) -> list[Document]:
    items = bed.admin("east").list_all(kind.path(NAMESPACE)).items
    return [
        one
        for one in items
        if any(ref["name"] == owner for ref in one["metadata"].get("ownerReferences", ()))
    ]


def test_jobs_of_a_job_set_are_never_started_by_themselves_whatever_they_ask(
    bed: KubeBed, cluster: AdoptingKubernetesCluster, users: Callable[[KubeKind], KubeUser]
) -> None:
    # Annotations of the template come to be at the child, which is suspended as long as its JobSet is.
    template = {
        "metadata": {"annotations": WORDS},
        "spec": {"backoffLimit": 0, "template": pods(container(SAVING, {}))},
    }
    spec: Document = {"replicatedJobs": [{"name": "work", "replicas": 2, "template": template}]}
    job = steering(cluster, users(JOB_SET))(**spec)
    name = job.ref.split("/")[2]
    wait_until(lambda: len(owned_jobs(bed, JOB, name)) == 2, "its jobs are there")

    def children() -> list[NativeJob]:
        return [one for one in cluster.native_jobs() if f"/{name}-work-" in one.ref]

    wait_until(lambda: len(children()) == 2, "they are seen")
    for child in children():
        assert child.trouble == f"it belongs to the JobSet {name}, which decides on its start"
        cluster.adopt(child.ref, job_id="child", guard_at=ahead(seconds=-1))
        with pytest.raises(DispatchRejectedError, match="belongs to the JobSet"):
            Steered(cluster, child.ref).submit("child")
    cluster.native_jobs()
    assert all(one["spec"]["suspend"] for one in owned_jobs(bed, JOB, name))
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    assert cluster.free_devices()["CPU"] == 62, "no pod is counted twice"
    job.cluster.pause(job.name, grace_s=30)
    job.until(RunState.FROZEN)
    assert all(one["spec"]["suspend"] for one in owned_jobs(bed, JOB, name))


def test_job_set_of_a_train_job_is_its_train_job_s(
    bed: KubeBed, cluster: AdoptingKubernetesCluster, users: Callable[[KubeKind], KubeUser]
) -> None:
    job = steering(cluster, users(TRAIN_JOB))()
    name = job.ref.split("/")[2]
    wait_until(lambda: bool(owned_jobs(bed, JOB_SET, name)), "its JobSet is there")
    assert [one.ref for one in cluster.native_jobs() if f"/{name}/" in one.ref] == [job.ref]
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    assert cluster.free_devices()["CPU"] == 62
    (job_set,) = owned_jobs(bed, JOB_SET, name)
    assert job_set["spec"]["suspend"] is False


def test_ray_job_that_cannot_be_suspended_is_refused_and_left_alone(
    cluster: AdoptingKubernetesCluster, users: Callable[[KubeKind], KubeUser]
) -> None:
    user = users(RAY_JOB)
    job = steering(cluster, user)(shutdownAfterJobFinishes=False)
    trouble = str(job.native().trouble)
    assert (
        trouble == "without shutdownAfterJobFinishes a RayJob cannot be suspended; set it to true"
    )
    cluster.refuse(job.ref, trouble)
    assert ("GridtideRefused", trouble) in user.events(job.ref)
    assert not job.is_listed
    user.patch(job.ref, {"spec": {"shutdownAfterJobFinishes": True}})
    wait_until(lambda: job.is_listed, "it is looked at again")
    assert job.native().trouble is None


def test_pods_that_stay_after_the_end_hold_their_devices(
    cluster: AdoptingKubernetesCluster, users: Callable[[KubeKind], KubeUser]
) -> None:
    # Its workers go on after the master has ended: that is what no cleanPodPolicy means.
    replicas = {
        role: {"template": pods(container(script, {}))}
        for role, script in (("Master", "sleep 1"), ("Worker", SAVING))
    }
    user = users(PYTORCH_JOB)
    job = steering(cluster, user)(pytorchReplicaSpecs=replicas)
    job.adopt(ahead(hours=1))
    job.submit()
    ended = job.until(RunState.ENDED)
    assert (ended.exit_code, len(ended.spans)) == (0, 1)
    assert cluster.free_devices()["CPU"] == 62
    user.delete(job.ref)
    wait_until(lambda: cluster.free_devices()["CPU"] == 64, "they are gone")


def test_pods_of_an_earlier_job_of_that_name_are_none_of_the_new_one(
    cluster: AdoptingKubernetesCluster,
    users: Callable[[KubeKind], KubeUser],
    tmp_path: Path,
) -> None:
    leave = tmp_path / "leave"
    script = f"trap 'while [ ! -e {leave} ]; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.1; done"
    user = users(PYTORCH_JOB)
    first = steering(cluster, user)(script=script)
    first.adopt(ahead(hours=1))
    first.submit()
    began = first.until(RunState.RUNNING).since
    assert began is not None
    user.delete(first.ref)
    wait_until(lambda: ahead() > began, "there is a second between the two")
    again = steering(cluster, user)(name=first.ref.split("/")[2], script="exit 0")
    again.adopt(ahead(hours=1))
    assert (again.status().state, again.status().spans) == (RunState.PENDING, ())
    leave.touch()
    again.submit()
    assert len(again.until(RunState.ENDED).spans) == 1


@pytest.fixture(scope="module")
def plain_bed() -> Iterator[KubeBed]:
    """A cluster with JobSet alone, where nobody may see JobSets."""
    folder = Path(tempfile.mkdtemp(prefix="gridtide-k8s-")) / "clusters"
    made = KubeBed(folder, settings={"GRIDTIDE_K8S_KINDS": "JobSet"})
    made.run("up", "east")
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings"
    made.admin("east").delete(f"{roles}/gridtide-kinds")
    yield made
    made.down()


def test_kind_that_is_missing_is_said_and_stops_no_other(plain_bed: KubeBed) -> None:
    cluster = adopting(plain_bed, kinds=(RAY_JOB, JOB_SET, JOB))
    user = KubeUser(plain_bed.admin("east"))
    job = steering(cluster, user)(script="exit 0")
    *_, ray, sets, jobs = cluster.checks()
    assert not ray.is_ok
    assert ray.detail == (
        "it does not know RayJob (ray.io/v1): none are planned; install it, or take RayJob out of kubernetes.kinds"
    )
    assert not sets.is_ok
    assert sets.detail == (
        f"in namespace {NAMESPACE} it may not get jobsets, list jobsets, watch jobsets, patch jobsets; "
        "deploy/kubernetes/role-kinds.yaml grants that"
    )
    assert (jobs.is_ok, jobs.detail) == (
        True,
        f"users' own Jobs in namespace {NAMESPACE} are planned where they ask for it",
    )
    hidden = f"native:{NAMESPACE}/RayJob/other/0000"
    job.adopt(ahead(hours=1))
    found = cluster.poll([job.name, hidden])
    assert found[hidden].is_stale
    assert "it does not know RayJob" in found[hidden].detail
    job.submit()
    assert job.until(RunState.ENDED).exit_code == 0
    user.finish()
    cluster.close()


def test_kind_that_is_installed_later_is_planned_without_a_restart(plain_bed: KubeBed) -> None:
    patience = KubePatience(watch=WatchPace(most_s=0.5))
    cluster = adopting(plain_bed, kinds=(PYTORCH_JOB, JOB), patience=patience)
    assert cluster.native_jobs() == []
    admin = plain_bed.admin("east")
    served = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    names = {"plural": "pytorchjobs", "kind": "PyTorchJob"}
    spec = {"group": "kubeflow.org", "scope": "Namespaced", "names": names, "versions": [served]}
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    admin.create(crds, {"metadata": {"name": "pytorchjobs.kubeflow.org"}, "spec": spec})
    role = {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"], "verbs": list(VERBS)}
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/gridtide"
    admin.merge_patch(roles, {"rules": [*admin.get(roles)["rules"], role]})
    user = KubeUser(admin, kind=PYTORCH_JOB)
    steering(cluster, user)()
    user.finish()
    cluster.close()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (RAY_JOB, "it does not know RayJob"),
        (JOB_SET, 'may not list resource "jobsets" in namespace training; deploy/kubernetes/role-'),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_guard_says_which_kind_it_cannot_see(
    plain_bed: KubeBed, kind: KubeKind, words: str
) -> None:
    client = client_of(plain_bed, "east-gridtide")
    starts: Any = SafeStarts(load_hardware())
    clock = ManualClock(ahead())
    guard = KubeGuard(client, find_safe_start=starts.find, clock=clock, wall=clock.now().timestamp)
    with pytest.raises(KubeRefusedError) as refused:
        guard.look(NAMESPACE, kind)
    assert words in explained(refused.value, NAMESPACE, kind)
    client.link.close()
