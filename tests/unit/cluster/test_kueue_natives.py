"""Users' Jobs in queues of Kueue: held by their Workloads until their window, and let go by whoever is there."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.kube_adopting import AdoptingKubernetesCluster
from adapters.cluster.kube_guard import KubeGuard
from adapters.cluster.kube_kinds import JOB
from adapters.cluster.kube_watch import WatchPace
from adapters.cluster.kubernetes import KubePatience
from adapters.cluster.kueue_workloads import Kueue
from adapters.hardware_tables import load_hardware
from scheduler.core.errors import ClusterUnavailableError
from scheduler.core.timegrid import format_instant
from scheduler.ports import RunState
from scheduler.server.safe_starts import SafeStarts
from tests.fakes.clock import ManualClock
from tests.unit.cluster.kube_user import ASK, KubeUser, adopting, appended
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, client_of
from tests.unit.cluster.kueue_world import CHECK, QUEUE, KueueAdmin, kueue_bed, stay
from tests.unit.cluster.native_user import Steered
from tests.unit.cluster.runs import lines, wait_until

pytestmark = pytest.mark.timeout(120)
QUICK = KubePatience(watch=WatchPace(least_s=0.0, most_s=0.05))
PAUSABLE = ASK | {"interruptible": "yes"}


@pytest.fixture
def bed() -> Iterator[KubeBed]:
    bed = kueue_bed("north")
    yield bed
    bed.fault("north")


@pytest.fixture
def admin(bed: KubeBed) -> KueueAdmin:
    one = KueueAdmin(bed.admin("north"))
    one.make_check(CHECK)
    return one


@pytest.fixture
def user(bed: KubeBed) -> Iterator[KubeUser]:
    one = KubeUser(bed.admin("north"))
    yield one
    one.finish()


@pytest.fixture(params=[False, True], ids=["no check", "with our check"])
def has_check(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def queue(admin: KueueAdmin, has_check: bool) -> Iterator[str]:
    name = f"q{uuid.uuid4().hex[:8]}"
    admin.make_queue(name, checks=(CHECK,) if has_check else (), cpu=4)
    yield name
    admin.forget(name)


@pytest.fixture
def kueue(has_check: bool) -> Kueue:
    return Kueue(check=CHECK if has_check else None)


@pytest.fixture
def cluster(bed: KubeBed, kueue: Kueue) -> Iterator[AdoptingKubernetesCluster]:
    made = adopting(bed, context="north-gridtide", kueue=kueue, patience=QUICK)
    yield made
    made.close()


@pytest.fixture
def guard(bed: KubeBed, kueue: Kueue) -> Iterator[Callable[[datetime], KubeGuard]]:
    clients = [client_of(bed, "north-gridtide")]

    def at(now: datetime) -> KubeGuard:
        find = SafeStarts(load_hardware()).find
        clock = ManualClock(now)
        return KubeGuard(
            clients[0], find_safe_start=find, clock=clock, wall=now.timestamp, kueue=kueue
        )

    yield at
    clients[0].link.close()


def ahead(**by: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**by)


@pytest.fixture
def put(
    cluster: AdoptingKubernetesCluster,
    user: KubeUser,
    admin: KueueAdmin,
    queue: str,
    has_check: bool,
) -> Callable[..., Steered]:
    """A Job in the queue that is adopted and held."""

    def one(words: dict[str, str] | None = None, *, is_held: bool = True, **terms: Any) -> Steered:
        fill = None
        if not has_check and is_held:  # without the check it would be admitted before it is seen
            admin.stop(queue)
            fill = queue
        limits = {"cpu": "1"}
        ref = user.create(words, labels={QUEUE: queue}, suspend=False, limits=limits, **terms)
        job = Steered(cluster, ref)
        if is_held:
            wait_until(lambda: job.is_listed, "the copy has it")
            job.adopt(ahead(hours=1))
            wait_until(lambda: is_quiet(job, admin), "it is held")
        if fill:
            admin.stop(queue, is_stopped=False)
        return job

    return one


def name_of(job: Steered) -> str:
    return job.ref.split("/")[1]


def is_quiet(job: Steered, admin: KueueAdmin) -> bool:
    """Held, and what it had of the quota given back."""
    workload = admin.workload(name_of(job)) or {}
    is_empty = "admission" not in workload.get("status", {})
    return job.is_listed and admin.is_active(name_of(job)) is False and is_empty


def test_adopted_job_is_held_inactive_without_quota_and_started_when_it_is_due(
    put: Callable[..., Steered], user: KubeUser, admin: KueueAdmin, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    job = put(script=appended(ran, "x"))
    stay(lambda: is_quiet(job, admin) and user.is_suspended(job.ref), "it is held")
    assert admin.said(name_of(job), "QuotaReserved") != "True"
    assert job.status().state is RunState.PENDING
    assert lines(ran) == []
    job.submit()
    assert job.until(RunState.ENDED).exit_code == 0
    assert lines(ran) == ["x"]
    assert user.note(job.ref, "status") == "started as planned"


def test_started_job_that_waits_for_quota_says_so(
    put: Callable[..., Steered], admin: KueueAdmin, queue: str
) -> None:
    job = put()
    admin.stop(queue)
    job.submit()
    wait_until(lambda: "is inactive" in job.status().detail, "it says why")
    status = job.status()
    assert status.state is RunState.PENDING
    assert status.detail == f"queued in Kueue ({queue}): ClusterQueue {queue} is inactive"
    assert not job.is_listed
    admin.stop(queue, is_stopped=False)
    job.until(RunState.RUNNING)


def test_pause_and_resume(put: Callable[..., Steered], admin: KueueAdmin) -> None:
    job = put(PAUSABLE)
    job.submit()
    job.until(RunState.RUNNING)
    job.cluster.pause(job.name, grace_s=30)
    frozen = job.until(RunState.FROZEN)
    assert is_quiet(job, admin)
    wait_until(lambda: datetime.now(UTC) > frozen.spans[0].end_at, "a second is between the two")
    job.cluster.resume(job.name)
    assert (
        job.until(RunState.RUNNING, lambda status: status.since is not None).spans == frozen.spans
    )
    job.cluster.cancel(job.name, grace_s=30)
    job.until(RunState.ENDED)
    assert admin.is_active(name_of(job)) is False


def test_user_activates_the_workload_and_it_runs(
    put: Callable[..., Steered], user: KubeUser, admin: KueueAdmin
) -> None:
    job = put()
    admin.activate(name_of(job))
    wait_until(
        lambda: not job.is_listed and user.note(job.ref, "status") == "started by its user",
        "that is marked",
    )
    job.until(RunState.RUNNING)


def test_user_deactivates_a_running_one_and_holds_it_so(
    put: Callable[..., Steered], user: KubeUser, admin: KueueAdmin
) -> None:
    job = put(PAUSABLE)
    job.submit()
    job.until(RunState.RUNNING)
    admin.activate(name_of(job), to=False)
    job.until(RunState.FROZEN)
    wait_until(lambda: job.is_listed and job.native().is_held, "it counts as held")
    job.adopt(ahead(seconds=-5))
    stay(lambda: job.native().is_held, "a guard does not lift its user's hold")
    admin.activate(name_of(job))
    user.annotate(job.ref, hold=None)
    wait_until(lambda: not job.is_listed, "the guard, which has passed, starts it")
    job.until(RunState.RUNNING)


def test_guard_that_has_passed_starts_the_job(put: Callable[..., Steered], user: KubeUser) -> None:
    job = put()
    job.adopt(ahead(seconds=-1))
    wait_until(lambda: not job.is_listed, "a look starts it")
    job.until(RunState.RUNNING)


def test_guard_alone_starts_what_the_service_holds(
    put: Callable[..., Steered],
    guard: Callable[[datetime], KubeGuard],
    user: KubeUser,
    tmp_path: Path,
) -> None:
    ran = tmp_path / "ran"
    job = put(script=appended(ran, "x"))
    job.cluster.close()  # type: ignore[attr-defined]
    assert guard(ahead(minutes=30)).look(NAMESPACE, JOB).started == ()
    assert guard(ahead(minutes=61)).look(NAMESPACE, JOB).started == (f"{NAMESPACE}/{name_of(job)}",)
    wait_until(lambda: lines(ran) == ["x"], "it runs")
    assert guard(ahead(minutes=62)).look(NAMESPACE, JOB).started == ()
    assert not user.is_suspended(job.ref)


@pytest.mark.parametrize("fault", [{"afterServing": True, "drop": True}, {"status": 503}])
def test_start_of_which_half_was_lost_is_finished_by_the_next_look(
    put: Callable[..., Steered], bed: KubeBed, fault: dict[str, Any]
) -> None:
    job = put()
    bed.fault("north", **fault, count=3, match="PATCH .*/workloads")
    with pytest.raises(ClusterUnavailableError):
        job.submit()
    bed.fault("north")
    wait_until(lambda: not job.is_listed, "the next look finishes it")
    job.until(RunState.RUNNING)


@pytest.mark.parametrize("has_check", [True], indirect=True)
def test_check_holds_what_nobody_has_seen_and_lets_pass_what_does_not_ask(
    user: KubeUser, guard: Callable[[datetime], KubeGuard], queue: str, tmp_path: Path
) -> None:
    ran, terms = tmp_path / "ran", {"labels": {QUEUE: queue}, "suspend": False}
    stated = {"deadline": format_instant(ahead(hours=2)), "duration": "1h"}
    asks = user.create(stated, script=appended(ran, "asks"), **terms)
    wrong = user.create({"deadline": "soon"}, script=appended(ran, "wrong"), **terms)
    silent = user.create({}, script=appended(ran, "silent"), **terms)
    stay(lambda: all(map(user.is_suspended, (asks, wrong, silent))), "none has slipped in")
    early = ahead(minutes=1)
    guard(early).look(NAMESPACE, JOB)
    wait_until(lambda: len(lines(ran)) == 2, "those that ask nothing of us run")
    assert sorted(lines(ran)) == ["silent", "wrong"]
    stay(lambda: user.is_suspended(asks), "the other is held")
    guard(ahead(minutes=59)).look(NAMESPACE, JOB)
    wait_until(lambda: len(lines(ran)) == 3, "it starts in time")


def test_guard_starts_other_jobs_where_kueue_is_out_of_reach(
    user: KubeUser, guard: Callable[[datetime], KubeGuard], bed: KubeBed
) -> None:
    stated = {"deadline": format_instant(ahead(hours=2)), "duration": "1h"}
    ref = user.create(stated)
    bed.fault("north", status=404, count=9, match="GET .*/(workloads|admissionchecks)")
    swept = guard(ahead(hours=1)).look(NAMESPACE, JOB)
    assert swept.started == (f"{NAMESPACE}/{ref.split('/')[1]}",)
    assert any(subject.startswith("queues of Kueue") for subject in swept.failed)


@pytest.mark.parametrize("has_check", [True], indirect=True)
def test_guard_does_not_let_pass_what_its_user_holds(
    user: KubeUser, guard: Callable[[datetime], KubeGuard], queue: str
) -> None:
    stated = {"deadline": format_instant(ahead(hours=2)), "duration": "1h", "hold": "true"}
    ref = user.create(stated, labels={QUEUE: queue}, suspend=False, limits={"cpu": "1"})
    guard(ahead(minutes=59)).look(NAMESPACE, JOB)
    stay(lambda: user.is_suspended(ref), "its user keeps it")
    user.annotate(ref, hold=None)
    guard(ahead(minutes=59)).look(NAMESPACE, JOB)
    wait_until(lambda: not user.is_suspended(ref), "without the hold it starts")


@pytest.mark.parametrize("has_check", [True], indirect=True)
def test_service_lets_pass_what_it_refuses_and_what_does_not_ask(
    cluster: AdoptingKubernetesCluster, user: KubeUser, queue: str, tmp_path: Path
) -> None:
    ran, terms = tmp_path / "ran", {"labels": {QUEUE: queue}, "suspend": False}
    silent = user.create({}, script=appended(ran, "silent"), **terms)
    refused = Steered(cluster, user.create(script=appended(ran, "refused"), **terms))
    wait_until(
        lambda: refused.is_listed and not user.is_suspended(silent), "one that does not ask passes"
    )
    assert user.is_suspended(refused.ref)
    cluster.refuse(refused.ref, "such as it is")
    wait_until(lambda: cluster.native_jobs() == [] and len(lines(ran)) == 2, "both have run")


@pytest.mark.parametrize("has_check", [False], indirect=True)
def test_without_the_check_what_kueue_admits_before_it_is_seen_runs(
    put: Callable[..., Steered], user: KubeUser
) -> None:
    job = put(is_held=False)
    job.until(RunState.RUNNING)
    job.adopt(ahead(hours=1))
    assert user.note(job.ref, "adopted") is None


def test_words_taken_away_give_it_back_to_kueue(
    put: Callable[..., Steered], user: KubeUser, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    job = put(script=appended(ran, "x"))
    user.annotate(job.ref, deadline=None, duration=None)
    wait_until(lambda: not job.is_listed and lines(ran) == ["x"], "Kueue runs it")
    assert user.note(job.ref, "adopted") is None
