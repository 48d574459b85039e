"""Users' own jobs of every kind on Kubernetes, as `AdoptingCluster` has it: the cases of `test_adopting_cluster.py` that they know."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.clocks import SystemClock
from adapters.cluster.kube_adopting import AdoptingKubernetesCluster
from adapters.cluster.kube_guard import KubeGuard
from adapters.cluster.kube_kinds import JOB, KINDS, RAY_JOB, KubeKind
from adapters.cluster.kubernetes import KubePatience
from adapters.hardware_tables import load_hardware
from scheduler.core.errors import ClusterFullError, DispatchRejectedError
from scheduler.core.timegrid import format_instant
from scheduler.ports import RunState
from scheduler.server.safe_starts import SafeStarts
from tests.unit.cluster.kube_user import (
    ASK,
    N_PODS,
    KubeUser,
    Steer,
    adopting,
    ahead,
    container,
    name_of,
    pods,
    steering,
)
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, client_of, running_bed
from tests.unit.cluster.native_user import Steered
from tests.unit.cluster.runs import wait_until

pytestmark = pytest.mark.timeout(120)
PAUSABLE = ASK | {"interruptible": "yes"}


@pytest.fixture
def bed() -> KubeBed:
    return running_bed()


@pytest.fixture(params=KINDS.values(), ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> KubeKind:
    found: KubeKind = request.param
    return found


@pytest.fixture
def cluster(bed: KubeBed, kind: KubeKind) -> Iterator[AdoptingKubernetesCluster]:
    made = adopting(bed, kinds=(kind,))
    yield made
    made.close()


@pytest.fixture
def user(bed: KubeBed, kind: KubeKind) -> Iterator[KubeUser]:
    one = KubeUser(bed.admin("east"), kind=kind)
    yield one
    one.finish()


@pytest.fixture
def steered(cluster: AdoptingKubernetesCluster, user: KubeUser) -> Steer:
    return steering(cluster, user)


def test_adopted_job_is_marked_and_keeps_its_guard(steered: Steer, user: KubeUser) -> None:
    job, guard_at = steered(), ahead(minutes=30)
    assert job.native().job_id is None
    job.adopt(guard_at)
    native = job.native()
    assert (native.is_held, native.starts_at, native.guard_at) == (False, guard_at, guard_at)
    assert native.job_id == "job"
    assert job.status().state is RunState.PENDING
    assert user.is_suspended(job.ref)


def test_guard_that_has_passed_starts_the_job(steered: Steer, user: KubeUser) -> None:
    job = steered()
    job.adopt(ahead(seconds=-1))
    wait_until(lambda: not job.is_listed, "a look starts it")
    job.until(RunState.RUNNING)
    assert "GridtideStarted" in dict(user.events(job.ref))


def test_user_starts_a_job_at_once(steered: Steer, user: KubeUser) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    user.suspend(job.ref, to=False)
    job.until(RunState.RUNNING)
    wait_until(
        lambda: not job.is_listed and user.note(job.ref, "status") == "started by its user",
        "that is marked",
    )
    assert job.submit() == job.ref, "that it runs already is no error"


def test_hold_and_release_of_an_adopted_job_are_seen(steered: Steer, user: KubeUser) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    user.annotate(job.ref, hold="true")
    wait_until(lambda: job.native().is_held, "the hold is seen")
    assert job.native().starts_at is None
    with pytest.raises(ClusterFullError, match="held by its user"):
        job.submit()
    job.adopt(ahead(seconds=-5))
    assert job.is_listed, "a guard does not lift its user's hold"
    user.annotate(job.ref, hold=None)
    wait_until(lambda: not job.is_listed, "without it the guard fires")


def test_deleted_by_hand_it_leaves_no_trace_and_cannot_be_started(
    steered: Steer, user: KubeUser
) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    user.delete(job.ref)
    wait_until(lambda: not job.is_listed, "it is gone")
    assert job.cluster.poll([job.name]) == {}
    with pytest.raises(DispatchRejectedError, match="was deleted"):
        job.submit()


def test_job_of_the_same_name_is_another_one(steered: Steer, user: KubeUser) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    name = name_of(job.ref)
    user.delete(job.ref)
    wait_until(lambda: not job.is_listed, "it is gone")
    again = steered(name=name)
    assert again.native().job_id is None
    assert job.cluster.poll([job.name]) == {}
    job.cluster.pause(job.name, grace_s=1)
    job.cluster.cancel(job.name, grace_s=1)
    job.adopt(ahead(hours=2))
    with pytest.raises(DispatchRejectedError, match="was deleted"):
        job.submit()
    assert user.note(again.ref, "adopted") is None


def test_refused_job_says_why_until_it_is_changed(steered: Steer, user: KubeUser) -> None:
    job = steered({"patience": "soon"})
    job.cluster.refuse(job.ref, "patience: 'soon' is not a duration")
    assert not job.is_listed
    assert user.note(job.ref, "refused") == "patience: 'soon' is not a duration"
    assert ("GridtideRefused", "patience: 'soon' is not a duration") in user.events(job.ref)
    assert user.is_suspended(job.ref)
    user.annotate(job.ref, patience="4h", duration="1h")
    wait_until(lambda: job.is_listed, "it is looked at again")
    assert job.native().words == {"patience": "4h", "duration": "1h"}
    job.adopt(ahead(hours=1))
    assert user.note(job.ref, "refused") is None


def test_job_is_let_start_and_succeeds(steered: Steer) -> None:
    job = steered(script="exit 0")
    job.adopt(ahead(hours=1))
    assert job.submit() == job.ref
    assert not job.is_listed
    status = job.until(RunState.ENDED)
    assert (status.exit_code, len(status.spans)) == (0, 1)
    wait_until(lambda: job.cluster.free_devices()["CPU"] == 64, "it holds nothing any more")


def test_job_that_fails_tells_why(steered: Steer, kind: KubeKind) -> None:
    job = steered(script="exit 3", **({"backoffLimit": 0} if kind is JOB else {}))
    job.adopt(ahead(hours=1))
    job.submit()
    status = job.until(RunState.ENDED)
    assert len(status.spans) == 1
    # Ray's pods are not the program: its job says that it failed, and no pod with which code.
    code, detail = (None, "Kubernetes: AppFailed: ") if kind is RAY_JOB else (3, "")
    assert status.exit_code == code
    assert status.detail.startswith(detail)


def test_pause_and_resume_make_two_stretches(
    steered: Steer, user: KubeUser, bed: KubeBed, kind: KubeKind
) -> None:
    job, guard_at = steered(PAUSABLE), ahead(hours=1)
    job.adopt(guard_at)
    job.submit()
    began = job.until(RunState.RUNNING)
    assert job.cluster.free_devices()["CPU"] == 64 - N_PODS[kind.name]
    job.cluster.pause(job.name, grace_s=30)
    frozen = job.until(RunState.FROZEN)
    assert [span.start_at for span in frozen.spans] == [began.since]
    assert job.cluster.free_devices()["CPU"] == 64
    native = job.native()
    assert (native.starts_at, native.guard_at, native.job_id) == (guard_at, guard_at, "job")
    assert not native.is_held
    # Another service, which has seen no pod of it, tells the same.
    other = Steered(adopting(bed, kinds=(kind,)), job.ref)
    assert other.status() == job.status()
    # Kubernetes tells whole seconds: stretches that touch each other would look like one.
    wait_until(lambda: ahead() > frozen.spans[0].end_at, "there is a second between the two")
    job.cluster.resume(job.name)
    again = job.until(RunState.RUNNING, lambda status: status.since is not None)
    assert again.spans == frozen.spans
    job.cluster.cancel(job.name, grace_s=30)
    ended = job.until(RunState.ENDED)
    assert len(ended.spans) == 2
    assert user.is_suspended(job.ref), "nothing of its user's is deleted"
    assert not job.is_listed
    other.cluster.close()  # type: ignore[attr-defined]


def test_pods_that_are_still_leaving_keep_it_running(
    steered: Steer, kind: KubeKind, tmp_path: Path
) -> None:
    ready, leave = tmp_path / "ready", tmp_path / "leave"
    script = f"trap 'while [ ! -e {leave} ]; do sleep 0.05; done; exit 0' TERM; touch {ready}; while :; do sleep 0.1; done"
    # Of a RayJob it is the pods of its cluster that count.
    head = {"headGroupSpec": {"template": pods(container(script, {}))}}
    job = steered(PAUSABLE, script=script, **({"rayClusterSpec": head} if kind is RAY_JOB else {}))
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    wait_until(ready.exists, "the script listens")
    held = 64 - job.cluster.free_devices()["CPU"]
    assert held == (1 if kind is RAY_JOB else N_PODS[kind.name])
    job.cluster.pause(job.name, grace_s=30)
    wait_until(lambda: is_told_to_leave(job, kind), "its controller has seen that")
    assert job.status().state is RunState.RUNNING
    assert job.cluster.free_devices()["CPU"] == 64 - held
    leave.touch()
    job.until(RunState.FROZEN)
    assert job.cluster.free_devices()["CPU"] == 64


def is_told_to_leave(job: Steered, kind: KubeKind) -> bool:
    """Whether the job says itself that it is suspended."""
    document = running_bed().admin("east").get(kind.path(NAMESPACE, name_of(job.ref)))
    return kind.find_standing(document).is_suspended


def test_what_does_not_start_is_given_back_while_there_is_time(
    bed: KubeBed, user: KubeUser, kind: KubeKind
) -> None:
    # No node of the test bed has so many.
    terms = {"capacity": {"CPU": 64, "H100": 64}, "patience": KubePatience(start_s=2)}
    wide = adopting(bed, kinds=(kind,), **terms)
    limits = {"nvidia.com/gpu": "9"}
    # The head of Ray's cluster would begin without the others.
    head = {"headGroupSpec": {"template": pods(container("true", limits))}}
    more = {"rayClusterSpec": head} if kind is RAY_JOB else {}
    job = steering(wide, user)(limits=limits, **more)
    job.adopt(ahead(hours=1))
    job.submit()
    given_back = job.until(RunState.UNSTARTED)
    assert given_back.detail.startswith("did not start within 2 s (Kubernetes: ")
    assert given_back.spans == ()
    assert job.is_listed, "it waits again"
    assert not job.native().is_held
    assert user.is_suspended(job.ref)
    assert wide.outlook().passing, "fewer are believed to be there"
    # Once it is late it stays with Kubernetes, which starts it as soon as it can.
    job.adopt(ahead(seconds=-1))
    wait_until(lambda: not job.is_listed, "a look starts it")
    wait_until(lambda: job.status().state is RunState.PENDING, "its pod waits for a node")
    assert not user.is_suspended(job.ref)
    wide.close()


def test_paused_job_starts_at_its_guard_if_nobody_resumes_it(steered: Steer) -> None:
    job = steered(PAUSABLE)
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    job.cluster.pause(job.name, grace_s=30)
    job.until(RunState.FROZEN)
    job.adopt(ahead(seconds=-1))
    wait_until(lambda: not job.is_listed, "a look starts it")
    assert len(job.until(RunState.RUNNING).spans) == 1


def test_user_suspends_a_running_job_and_lets_it_go_on(steered: Steer, user: KubeUser) -> None:
    job = steered(PAUSABLE)
    job.adopt(ahead(hours=1))
    job.submit()
    job.until(RunState.RUNNING)
    user.suspend(job.ref)
    job.until(RunState.FROZEN)
    assert job.native().is_held
    wait_until(lambda: job.native() and user.note(job.ref, "hold") == "true", "that is marked")
    job.adopt(ahead(seconds=-5))
    assert job.native().is_held, "a guard does not lift its user's hold"
    user.suspend(job.ref, to=False)
    wait_until(
        lambda: not job.is_listed and user.note(job.ref, "hold") is None, "that is seen and marked"
    )
    job.until(RunState.RUNNING)


def test_cancelled_job_may_be_planned_anew(steered: Steer, user: KubeUser) -> None:
    job = steered()
    job.adopt(ahead(hours=1))
    job.cluster.cancel(job.name, grace_s=1)
    assert not job.is_listed
    assert job.until(RunState.ENDED).spans == ()
    user.annotate(job.ref, cancelled=None)
    wait_until(lambda: job.is_listed, "it asks again")


def test_lost_replies_start_nothing_twice(bed: KubeBed, steered: Steer, kind: KubeKind) -> None:
    job = steered(script="exit 0")
    job.adopt(ahead(hours=1))
    bed.fault("east", afterServing=True, drop=True, count=1, match=f"PATCH .*/{kind.plural}/")
    try:
        assert job.submit() == job.ref
    finally:
        bed.fault("east")
    assert job.until(RunState.ENDED).exit_code == 0


def test_what_a_user_does_wakes_the_service(
    cluster: AdoptingKubernetesCluster, user: KubeUser
) -> None:
    woken = list[int]()
    cluster.tell_ends(lambda: woken.append(1))
    cluster.native_jobs()

    def wakes(do: Callable[[], object], what: str) -> None:
        woken.clear()
        do()
        wait_until(lambda: bool(woken), what)

    refs = list[str]()
    wakes(lambda: refs.append(user.create()), "a new Job is seen at once")
    wakes(lambda: user.annotate(refs[0], hold="true"), "so is a hold")
    wakes(lambda: user.annotate(refs[0], hold=None, deadline="2032-01-01T00:00:00Z"), "other words")
    wakes(lambda: user.suspend(refs[0], to=False), "a start")
    wakes(lambda: user.delete(refs[0]), "and its end")


def test_devices_of_all_pods_count_together(steered: Steer, kind: KubeKind) -> None:
    native = steered(limits={"nvidia.com/gpu": "1"}).native()
    # The head of Ray's cluster has none.
    n_pods = N_PODS[kind.name] - (kind is RAY_JOB)
    assert (native.accelerator, native.gpus, native.num_nodes) == ("H100", n_pods, n_pods)


def test_job_in_a_queue_of_kueue_is_never_unsuspended(steered: Steer, user: KubeUser) -> None:
    job = steered(labels={"kueue.x-k8s.io/queue-name": "q"})
    assert "Kueue's queue q" in str(job.native().trouble)
    job.adopt(ahead(seconds=-1))
    job.cluster.native_jobs()
    with pytest.raises(DispatchRejectedError, match="Kueue"):
        job.submit()
    assert user.is_suspended(job.ref)


def test_guard_starts_what_is_due(bed: KubeBed, user: KubeUser, kind: KubeKind) -> None:
    soon = {"deadline": format_instant(ahead(minutes=2)), "duration": "1m"}
    due, waiting = user.create(soon, script="exit 0"), user.create()
    client = client_of(bed, "east-gridtide")
    starts = SafeStarts(load_hardware())
    guard = KubeGuard(client, find_safe_start=starts.find, clock=SystemClock(), wall=time.time)
    started = list[str]()

    def has_started() -> bool:
        # Changed by its controller between list and change, it is started by the next look.
        started.extend(guard.look(NAMESPACE, kind).started)
        return bool(started)

    wait_until(has_started, "a look starts it")
    client.link.close()
    assert started == [due.rpartition("/")[0]]
    assert not user.is_suspended(due)
    assert user.is_suspended(waiting)
    assert [reason for reason, _ in user.events(due)] == ["GridtideStarted"]
