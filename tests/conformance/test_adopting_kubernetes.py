"""Users' own Jobs on Kubernetes, as `AdoptingCluster` has it; what holds for other kinds, too, is in `test_adopting_kinds.py`."""

import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.kube_adopting import AdoptingKubernetesCluster
from adapters.cluster.kube_client import path_of
from adapters.cluster.kube_natives import ADOPT_WITHIN_S
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
)
from scheduler.core.timegrid import format_instant
from scheduler.ports import AdoptingCluster, News, RunState, TellingCluster
from tests.unit.cluster.kube_user import ASK, KubeUser, Steer, adopting, ahead, steering
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, running_bed
from tests.unit.cluster.native_user import Steered
from tests.unit.cluster.runs import Runs, wait_until

pytestmark = pytest.mark.timeout(120)
PAUSABLE = ASK | {"interruptible": "yes"}


@pytest.fixture
def bed() -> KubeBed:
    return running_bed()


@pytest.fixture
def cluster(bed: KubeBed) -> Iterator[AdoptingKubernetesCluster]:
    made = adopting(bed)
    yield made
    made.close()


@pytest.fixture
def user(bed: KubeBed) -> Iterator[KubeUser]:
    one = KubeUser(bed.admin("east"))
    yield one
    one.finish()


@pytest.fixture
def steered(cluster: AdoptingKubernetesCluster, user: KubeUser) -> Steer:
    return steering(cluster, user)


def test_it_is_an_adopting_and_a_telling_cluster(cluster: AdoptingKubernetesCluster) -> None:
    assert isinstance(cluster, AdoptingCluster)
    assert isinstance(cluster, TellingCluster)


def test_guard_is_moved(steered: Steer) -> None:
    job = steered()
    for guard_at in (ahead(minutes=30), ahead(hours=30)):
        job.adopt(guard_at)
        assert job.native().guard_at == guard_at


def test_adopting_what_runs_does_nothing(steered: Steer, user: KubeUser) -> None:
    job = steered(suspend=False)
    job.until(RunState.RUNNING)
    job.adopt(ahead(hours=1))
    assert user.note(job.ref, "adopted") is None


def test_refusal_repeats_only_the_beginning_of_what_its_user_wrote(
    steered: Steer, user: KubeUser
) -> None:
    value = "7'x" * 60_000
    job = steered(ASK | {"patience": value})
    for text in (value, f"patience: {value!r} is no duration"):
        job.cluster.refuse(job.ref, text)
        said = user.note(job.ref, "refused")
        assert said is not None
        assert len(said) < 200
        user.annotate(job.ref, **{"refused-words": None})
        wait_until(lambda: job.is_listed, "it is open again")


def test_job_of_which_the_server_takes_no_mark_rests_and_is_told(
    steered: Steer, user: KubeUser
) -> None:
    job = steered(ASK | {"name": "n" * 262_000})
    asked = job.cluster._client.link.requests
    with pytest.raises(
        ClusterUnavailableError, match=r"cannot be changed: .* may not be more than"
    ):
        job.cluster.refuse(job.ref, "no " * 100)
    assert not job.is_listed
    with pytest.raises(ClusterUnavailableError, match="cannot be changed"):
        job.adopt(ahead(hours=1))
    assert job.cluster._client.link.requests == asked + 1
    assert user.is_suspended(job.ref)


def test_copy_of_a_job_that_ran_is_a_new_job(steered: Steer, user: KubeUser) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    notes = user.job(job.ref)["metadata"]["annotations"]
    copied = {key.removeprefix("gridtide.dev/"): text for key, text in notes.items()}
    assert "released" in copied
    copy = steered(copied)
    found = copy.native()
    assert (found.job_id, found.guard_at, found.is_held) == (None, None, False)
    copy.adopt(ahead(hours=2), job_id="other")
    assert user.note(copy.ref, "released") is None
    assert user.note(copy.ref, "status") is None
    assert not copy.native().is_held
    copy.submit("other")
    copy.until(RunState.RUNNING)


def test_job_that_is_not_ours_any_more_is_not_started(steered: Steer) -> None:
    job = steered()
    job.adopt(ahead(hours=1), job_id="another")
    with pytest.raises(DispatchRejectedError, match="does not say any more that it is job"):
        job.submit()


def test_full_cluster_takes_no_further_job(bed: KubeBed, user: KubeUser) -> None:
    small = adopting(bed, capacity={"CPU": 64, "H100": 2})
    refs = [user.create(limits={"nvidia.com/gpu": "2"}) for _ in range(2)]
    first, second = (Steered(small, ref) for ref in refs)
    for job in (first, second):
        wait_until(lambda job=job: job.is_listed, "the copy has it")  # type: ignore[misc]
        job.adopt(ahead(hours=1))
    first.submit()
    with pytest.raises(ClusterFullError, match="2 H100 asked; 0 are free"):
        second.submit()
    assert small.free_devices()["H100"] == 0
    small.close()


def test_user_edits_the_words(steered: Steer, user: KubeUser) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    assert not job.native().is_reworded
    user.annotate(job.ref, deadline="2032-01-01T00:00:00Z")
    wait_until(lambda: job.native().is_reworded, "the edit is seen")
    job.adopt(ahead(hours=2))
    assert not job.native().is_reworded


def test_user_takes_the_words_away_and_gives_others(steered: Steer, user: KubeUser) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    first_at = job.native().submitted_at
    user.annotate(job.ref, deadline=None, duration=None)
    wait_until(lambda: not job.is_listed and user.note(job.ref, "adopted") is None, "it is let go")
    assert job.cluster.poll([job.name]) == {}
    assert "GridtideLetGo" in dict(user.events(job.ref))
    assert user.note(job.ref, "guard") is None
    user.annotate(job.ref, patience="4h", duration="1h")
    wait_until(lambda: job.is_listed, "it asks again")
    assert job.native().job_id is None
    assert job.native().submitted_at > first_at - timedelta(seconds=1)
    assert user.note(job.ref, "since") is not None, "it is another job for the service"


def test_words_are_shown_once(
    cluster: AdoptingKubernetesCluster, steered: Steer, user: KubeUser
) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    cluster.tell(job.ref, News.PLANNED, "planned for tonight")
    assert user.note(job.ref, "status") == "planned for tonight"
    assert user.events(job.ref) == [("GridtidePlanned", "planned for tonight")]
    link = cluster._client.link
    wait_until(lambda: not job.native().is_held, "the copy is there")
    before = link.requests
    for _ in range(5):
        cluster.tell(job.ref, News.PLANNED, "planned for tonight")
        cluster.native_jobs()
        cluster.poll([job.name])
    assert link.requests - before <= 1, "a steady state takes no request; a watch may begin anew"


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"labels": {"kueue.x-k8s.io/queue-name": "q"}}, "Kueue's queue q"),
        ({"limits": {"amd.com/gpu": "1"}}, "amd.com/gpu; here are planned: nvidia.com/gpu"),
        ({"limits": {"nvidia.com/gpu": "16"}}, "16 H100; here are 8 at most"),
        ({"managedBy": "kueue.x-k8s.io/multikueue"}, "managed by kueue.x-k8s.io/multikueue"),
    ],
)
def test_what_cannot_be_planned_says_why(steered: Steer, terms: dict[str, Any], words: str) -> None:
    trouble = steered(**terms).native().trouble
    assert trouble is not None
    assert words in trouble


def test_pods_at_once_count_together(steered: Steer) -> None:
    native = steered(
        limits={"nvidia.com/gpu": "2"}, completionMode="Indexed", completions=4, parallelism=4
    ).native()
    assert (native.accelerator, native.gpus, native.num_nodes) == ("H100", 8, 4)


def test_job_under_kueue_is_never_unsuspended(steered: Steer, user: KubeUser) -> None:
    job = steered(labels={"kueue.x-k8s.io/queue-name": "q"})
    job.adopt(ahead(seconds=-1))
    job.cluster.native_jobs()
    with pytest.raises(DispatchRejectedError, match="Kueue"):
        job.submit()
    assert user.is_suspended(job.ref)


def test_missing_right_is_named(bed: KubeBed, user: KubeUser) -> None:
    nobody = adopting(bed, context="east-nobody")
    with pytest.raises(ClusterUnavailableError, match='may not list resource "jobs"'):
        nobody.native_jobs()
    nobody.close()


def test_suspended_by_hand_before_it_began_it_is_held_and_given_back(
    bed: KubeBed, user: KubeUser
) -> None:
    wide = adopting(bed, capacity={"CPU": 64, "H100": 16})
    job = Steered(wide, user.create(limits={"nvidia.com/gpu": "9"}))
    wait_until(lambda: job.is_listed, "the copy has it")
    job.adopt(ahead(hours=1))
    job.submit()
    wait_until(lambda: job.status().state is RunState.PENDING, "its pod waits for a node")
    user.suspend(job.ref)
    # Each look tries again where the Job has changed meanwhile.
    wait_until(lambda: job.is_listed and job.status().state is RunState.UNSTARTED, "that is seen")
    assert job.native().is_held
    wide.close()


def test_other_namespaces_are_adopted_from_where_they_are_named(bed: KubeBed) -> None:
    admin = bed.admin("east")
    name = f"vision-{uuid.uuid4().hex[:8]}"
    admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    user = KubeUser(admin, namespace=name)
    # With the role in one of them only, doctor names what is missing in the other.
    both = adopting(bed, adopts=(NAMESPACE, name))
    *_, here, there = both.checks()
    assert here.is_ok
    assert f"in namespace {name} it may not get jobs, list jobs" in there.detail
    rights = path_of("jobs", NAMESPACE).replace("batch/v1", "rbac.authorization.k8s.io/v1")
    for kind in ("roles", "rolebindings"):
        path = rights.replace("/jobs", f"/{kind}")
        made = admin.get(f"{path}/gridtide")
        for key in ("namespace", "uid", "resourceVersion", "creationTimestamp", "managedFields"):
            made["metadata"].pop(key, None)
        admin.create(path.replace(NAMESPACE, name), made)
    assert all(line.is_ok for line in both.checks())
    job = Steered(both, user.create(script="exit 0"))
    wait_until(lambda: job.is_listed, "the copy has it")
    assert job.native().user == name
    job.adopt(ahead(hours=1))
    job.submit()
    assert job.until(RunState.ENDED).exit_code == 0
    both.close()


def test_without_the_right_to_events_users_are_told_by_annotations(
    bed: KubeBed, user: KubeUser, steered: Steer, cluster: AdoptingKubernetesCluster
) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    bed.fault("east", status=403, count=10, match="POST .*/events")
    try:
        cluster.tell(job.ref, News.PLANNED, "planned for tonight")
    finally:
        bed.fault("east")
    assert user.note(job.ref, "status") == "planned for tonight"
    assert user.events(job.ref) == []


def test_job_that_went_with_its_pods_as_soon_as_it_ended_is_known_to_have_succeeded(
    steered: Steer, user: KubeUser
) -> None:
    job = steered(script="exit 0", ttlSecondsAfterFinished=0)
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.ENDED)
    wait_until(lambda: not user.is_there(job.ref), "it is gone")
    assert job.status().exit_code == 0


def test_job_of_which_no_change_is_taken_holds_up_no_other(
    bed: KubeBed, steered: Steer, user: KubeUser, cluster: AdoptingKubernetesCluster
) -> None:
    bad, good = steered(), steered()
    for job in (bad, good):
        job.adopt(ahead(hours=1))
    bed.fault("east", status=422, count=99, match=f"PATCH .*/jobs/{bad.ref.split('/')[1]}")
    try:
        for job in (bad, good):
            cluster.tell(job.ref, News.PLANNED, "planned for tonight")
        assert user.note(good.ref, "status") == "planned for tonight"
        assert user.note(bad.ref, "status") is None
        good.adopt(ahead(seconds=-1))
        wait_until(lambda: not good.is_listed, "a look starts it")
        (trouble,) = [line for line in cluster.checks() if not line.is_ok]
        assert bad.ref.split("/")[1] in trouble.detail
    finally:
        bed.fault("east")


def test_late_job_is_adopted_before_it_is_started_unless_that_fails_for_long(
    bed: KubeBed, user: KubeUser
) -> None:
    ahead_s = [0.0]
    cluster = adopting(bed, wall=lambda: time.time() + ahead_s[0])
    job = Steered(cluster, user.create({"patience": "1s", "duration": "1h"}))
    wait_until(lambda: job.is_listed, "the copy has it")
    assert job.is_listed, "it is late, and yet to be adopted"
    ahead_s[0] = ADOPT_WITHIN_S + 1
    wait_until(lambda: not job.is_listed, "nobody has adopted it: it is started all the same")
    assert not user.is_suspended(job.ref)
    cluster.close()


def test_job_whose_deadline_passed_unseen_is_started_and_one_that_began_so_is_not(
    bed: KubeBed, user: KubeUser
) -> None:
    passed = user.create({"deadline": format_instant(ahead(seconds=2)), "duration": "1s"})
    never = user.create({"deadline": format_instant(ahead(hours=-1)), "duration": "1s"})
    wait_until(lambda: ahead() > ahead_of(user, passed), "its deadline has passed")
    cluster = adopting(bed)
    wait_until(
        lambda: [one.ref for one in cluster.native_jobs() if one.ref in (passed, never)] == [never],
        "only the one that was wrong from the beginning is left to be refused",
    )
    assert not user.is_suspended(passed)
    assert user.is_suspended(never)
    cluster.close()


def ahead_of(user: KubeUser, ref: str) -> datetime:
    return datetime.fromisoformat(str(user.note(ref, "deadline")))


def test_namespace_without_the_role_keeps_nothing_else_from_going_on(
    bed: KubeBed, user: KubeUser, tmp_path: Path
) -> None:
    both = adopting(bed, adopts=("default", NAMESPACE))
    job = Steered(both, user.create(script="exit 0"))
    wait_until(lambda: job.is_listed, "the other namespace is looked at")
    job.adopt(ahead(hours=1))
    runs = Runs(both, tmp_path)
    runs.start("sleep 60", name=f"own{uuid.uuid4().hex[:6]}.1.0")
    (own,) = runs.names
    wait_until(lambda: both.poll([own])[own].state is RunState.RUNNING, "our own run is followed")
    hidden = "native:default/other/0000"
    found = both.poll([own, job.name, hidden])
    assert found[hidden].is_stale
    assert 'may not list resource "jobs"' in found[hidden].detail
    assert found[job.name].state is RunState.PENDING
    job.submit()
    assert job.until(RunState.ENDED).exit_code == 0
    runs.finish()
    both.close()


def test_jobs_that_ask_for_nothing_wake_nobody(bed: KubeBed, user: KubeUser) -> None:
    cluster = adopting(bed)
    woken = list[int]()
    cluster.tell_ends(lambda: woken.append(1))
    cluster.native_jobs()
    silent = user.create({}, suspend=False, script="exit 0")
    wait_until(lambda: not user.is_running(silent), "it has ended")
    asking = user.create()
    wait_until(lambda: any(one.ref == asking for one in cluster.native_jobs()), "it is seen")
    assert len(woken) == 1
    cluster.close()
