"""Users' own Jobs on a simulated Kubernetes cluster: planned and started by the service, and in time without it."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.kube_adopting import AdoptingKubernetesCluster
from scheduler.core.guard import GUARD_BEFORE_S
from scheduler.core.timegrid import format_instant
from tests.integration.api_world import api
from tests.integration.crash_run import fast_clock
from tests.integration.kubernetes_world import adopting_service, kube_cluster, native_jobs
from tests.integration.slurm_world import (
    ServiceProcess,
    have_ended,
    trace,
    wait_for_jobs,
)
from tests.integration.test_slurm_pauses import trains
from tests.unit.cluster.kube_user import KubeUser, appended
from tests.unit.cluster.kube_world import KubeBed, running_bed
from tests.unit.cluster.runs import lines, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
JOBS = 20
BY_HAND = 3
MINUTE = timedelta(minutes=1)
SPEED = 20.0
STEPS = 150
"""Of a tenth of a second each: ten minutes of a clock that runs forty times as fast."""


@pytest.fixture
def bed() -> KubeBed:
    return running_bed()


@pytest.fixture
def user(bed: KubeBed) -> Iterator[KubeUser]:
    one = KubeUser(bed.admin("west"))
    yield one
    one.finish()


@pytest.fixture
def serve(tmp_path: Path, bed: KubeBed) -> Iterator[Callable[..., ServiceProcess]]:
    services = list[ServiceProcess]()

    def begin(*, is_up: bool = True, **settings: Any) -> ServiceProcess:
        services.append(adopting_service(tmp_path, bed, **settings))
        if is_up:
            services[-1].start()
            services[-1].wait_until_up()
        return services[-1]

    yield begin
    for service in services:
        service.kill()


def words(*, minutes: int) -> dict[str, str]:
    at = datetime.now(UTC).replace(microsecond=0) + minutes * MINUTE
    return {"deadline": format_instant(at), "duration": "1m"}


def are_planned(jobs: list[dict[str, Any]]) -> bool:
    return len(jobs) == JOBS and all(one["state"] != "queued" for one in jobs)


def test_twenty_suspended_jobs_start_in_their_window_and_those_started_by_hand_at_once(
    serve: Callable[..., ServiceProcess], user: KubeUser, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    # Dirty for twelve minutes of the service's clock, then clean.
    service = serve(
        clock=fast_clock(SPEED),
        intensity=trace(tmp_path, {"FR": [800.0] * 12 + [50.0] * 60}, step=MINUTE, after_g=800.0),
    )
    begun_at = datetime.now(UTC)
    refs = [
        user.create(words(minutes=60), script=f"{appended(ran, f'j{n}')}; sleep 1")
        for n in range(JOBS)
    ]
    planned = wait_for_jobs(lambda: native_jobs(service), are_planned, within_s=60)
    assert {one["native"]["ref"] for one in planned} == set(refs)
    wait_until(lambda: all(user.note(ref, "status") for ref in refs), "all are told")
    for ref in refs:
        status = str(user.note(ref, "status"))
        assert status.startswith("planned for "), status
        assert " at 50 g/kWh, starts by " in status
        assert ("GridtidePlanned", status) in user.events(ref)
    assert lines(ran) == []
    for ref in refs[:BY_HAND]:
        user.suspend(ref, to=False)
    wait_until(lambda: len(lines(ran)) == BY_HAND, "those run at once")
    assert set(lines(ran)) == {"j0", "j1", "j2"}
    ended = wait_for_jobs(lambda: native_jobs(service), have_ended, within_s=120)
    assert {one["state"] for one in ended} == {"succeeded"}, service.log[-3000:]
    starts = {one["native"]["ref"]: datetime.fromisoformat(one["started_at"]) for one in ended}
    clean_at = begun_at + 10 * MINUTE
    assert all(starts[ref] < clean_at for ref in refs[:BY_HAND])
    assert all(starts[ref] >= clean_at for ref in refs[BY_HAND:]), "none began where it was dirty"
    assert max(starts.values()) < begun_at + 58 * MINUTE - timedelta(seconds=GUARD_BEFORE_S)
    assert sorted(lines(ran)) == sorted(f"j{n}" for n in range(JOBS)), "each ran once"
    assert {user.note(ref, "status") for ref in refs[:BY_HAND]} == {"started by its user"}
    assert {user.note(ref, "status") for ref in refs[BY_HAND:]} == {"started as planned"}
    entries = service.get("/v1/reports")["entries"]
    assert sorted(entry["runs"][0]["cluster_ref"] for entry in entries) == sorted(refs)


def test_with_the_service_gone_for_good_the_guard_alone_starts_all_in_time(
    serve: Callable[..., ServiceProcess], user: KubeUser, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    # Cleaner from minute to minute: the plan is to begin as late as can be.
    falling = [800.0 - 50 * minute for minute in range(12)]
    service = serve(intensity=trace(tmp_path, {"FR": falling}, step=MINUTE))
    sent_s, stated = time.time(), words(minutes=4)
    refs = [user.create(stated, script=appended(ran, f"j{n}")) for n in range(JOBS)]
    wait_for_jobs(lambda: native_jobs(service), are_planned, within_s=40)
    service.kill()
    # What nobody has seen before is guarded all the same.
    refs += [user.create(stated, script=appended(ran, "unseen"))]
    held = user.create(stated | {"hold": "true"}, script=appended(ran, "held"))
    queued = user.create(
        stated, script=appended(ran, "kueue"), labels={"kueue.x-k8s.io/queue-name": "q"}
    )
    silent = user.create({}, script=appended(ran, "silent"))
    assert lines(ran) == []
    guards = two_guards(service)
    try:
        wait_until(lambda: len(lines(ran)) == len(refs), "all have run", within_s=120)
    finally:
        for one in guards:
            one.terminate()
    assert time.time() < sent_s + 3 * 60, "in time for a minute's work"
    assert time.time() >= sent_s + 3 * 60 - GUARD_BEFORE_S - 1, "not before their latest safe start"
    assert sorted(lines(ran)) == sorted([*(f"j{n}" for n in range(JOBS)), "unseen"]), (
        "none ran twice"
    )
    for ref in refs:
        assert str(user.note(ref, "status")).startswith("started because its latest safe start")
        (started,) = [text for reason, text in user.events(ref) if reason == "GridtideStarted"]
        assert started == user.note(ref, "status")
    assert all(user.is_suspended(ref) for ref in (held, queued, silent))
    assert [one.wait(10) for one in guards] == [0, 0]


def two_guards(service: ServiceProcess) -> list["subprocess.Popen[bytes]"]:
    words = [sys.executable, "-m", "scheduler.server.cli", "guard", "--every", "1s"]
    return [subprocess.Popen([*words, "--config", str(service.config)]) for _ in range(2)]


def test_service_and_guards_together_start_none_twice(
    serve: Callable[..., ServiceProcess], user: KubeUser, bed: KubeBed, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    falling = [800.0 - 50 * minute for minute in range(12)]
    service = serve(intensity=trace(tmp_path, {"FR": falling}, step=MINUTE))
    # Their latest safe start comes in half a minute: service and guards see it at the same time, and replies get lost.
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=GUARD_BEFORE_S + 90)
    stated = {"deadline": format_instant(at), "duration": "1m"}
    refs = [user.create(stated, script=appended(ran, f"j{n}")) for n in range(JOBS)]
    guards = two_guards(service)
    wait_until(lambda: len(native_jobs(service)) == JOBS, "all are adopted", within_s=60)
    bed.fault("west", afterServing=True, drop=True, count=6, match="PATCH .*/jobs")
    try:
        ended = wait_for_jobs(
            lambda: native_jobs(service),
            lambda jobs: len(jobs) == JOBS and have_ended(jobs),
            within_s=120,
        )
    finally:
        for one in guards:
            one.terminate()
    assert {one["state"] for one in ended} == {"succeeded"}
    assert sorted(lines(ran)) == sorted(f"j{n}" for n in range(JOBS))
    for ref in refs:
        # Where a reply was lost, whoever asked again saw that it runs, and says nothing.
        assert [reason for reason, _ in user.events(ref)].count("GridtideStarted") <= 1
    assert [one.wait(10) for one in guards] == [0, 0]


def test_interruptible_job_is_paused_and_goes_on_in_place(
    serve: Callable[..., ServiceProcess], user: KubeUser, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(trains(STEPS), encoding="utf-8")
    told = tmp_path / "told"
    # Clean for eight minutes, dirty for twelve, then clean, but too short before the deadline for all of it.
    clean = [50.0] * 8 + [800.0] * 12 + [50.0] * 60
    begin = datetime.now(UTC).replace(second=0, microsecond=0)
    service = serve(
        clock=fast_clock(2 * SPEED),
        intensity=trace(tmp_path, {"FR": clean}, step=MINUTE, after_g=800.0),
    )
    script = (
        f"export GRIDTIDE_CHECKPOINT_DIR={tmp_path} GRIDTIDE_SEGMENT=0; "
        f"exec {sys.executable} {tmp_path}/train.py {told}"
    )
    pauses = {"interruptible": "yes", "min_chunk": "2m", "checkpoint_cost": "30s"}
    stated = {"deadline": format_instant(begin + 28 * MINUTE), "duration": "10m"}
    ref = user.create(stated | pauses, script=script)
    (found,) = wait_for_jobs(
        lambda: native_jobs(service), lambda jobs: bool(jobs) and have_ended(jobs), within_s=120
    )
    assert found["state"] == "succeeded", service.log[-3000:]
    (entry,) = service.get("/v1/reports")["entries"]
    assert not entry["missed_deadline"]
    assert len(entry["runs"]) >= 2, "each stretch is in the ledger"
    assert {run["cluster_ref"] for run in entry["runs"]} == {ref}
    begun_from = [int(line.rpartition(" ")[2]) for line in lines(told)]
    assert len(begun_from) >= 2
    assert begun_from == sorted(set(begun_from)), "it goes on from its checkpoint"
    reasons = [reason for reason, _ in user.events(ref)]
    assert reasons.count("GridtidePaused") == len(begun_from) - 1
    assert entry["saving_g"] > 0


def test_jobs_that_wait_take_no_requests(user: KubeUser, bed: KubeBed, tmp_path: Path) -> None:
    settings = {
        "intensity": trace(tmp_path, {"FR": [800.0] * 60 + [50.0] * 60}, step=MINUTE),
        "planning": {"tick_every": 60, "slot": "1m", "horizon": "4h"},
        "clusters": [kube_cluster(tmp_path, "west", bed, adopt=True)],
    }
    with api(tmp_path, **settings) as (_, service):
        cluster = service.clusters["west"]
        assert isinstance(cluster, AdoptingKubernetesCluster)
        refs = [user.create(words(minutes=120)) for _ in range(JOBS)]

        def are_told() -> bool:
            service.cycle.tick()
            return all(str(user.note(ref, "status")).startswith("planned for") for ref in refs)

        wait_until(are_told, "all are planned", within_s=60)
        before = cluster.client.link.requests
        for _ in range(20):
            service.cycle.tick()
        # A watch may begin anew, and quotas and nodes are looked at every half minute: nothing for each job.
        assert cluster.client.link.requests - before < JOBS
        assert service.cycle.report.failures == 0


@pytest.mark.external  # minutes long, like the other crash runs
def test_service_that_is_killed_again_and_again_starts_each_once_and_in_time(
    serve: Callable[..., ServiceProcess], user: KubeUser, bed: KubeBed, tmp_path: Path
) -> None:
    ran, chance = tmp_path / "ran", random.Random(7)
    service = serve(
        clock=fast_clock(SPEED),
        # Another clean minute now and then: starts are spread over twenty minutes.
        intensity=trace(tmp_path, {"FR": [800.0, 800.0, 50.0] * 20}, step=MINUTE, after_g=800.0),
    )
    begun_at = datetime.now(UTC)
    refs = list[str]()
    for n in range(JOBS):
        asked = words(minutes=20 + n) | {"not_before": format_instant(begun_at + (2 + n) * MINUTE)}
        refs.append(user.create(asked, script=appended(ran, f"j{n}")))
    wait_for_jobs(lambda: native_jobs(service), lambda jobs: len(jobs) == JOBS, within_s=60)
    kills = 0
    while len(lines(ran)) < JOBS and kills < 30:
        threading.Event().wait(chance.uniform(1.0, 4.0))
        service.kill()
        kills += 1
        if kills % 2:
            bed.fault("west", afterServing=True, drop=True, count=3, match="PATCH .*/jobs")
        service.start()
        service.wait_until_up()
    bed.fault("west")
    ended = wait_for_jobs(lambda: native_jobs(service), have_ended, within_s=60)
    assert kills >= 3
    assert sorted(lines(ran)) == sorted(f"j{n}" for n in range(JOBS)), "each ran once"
    assert {one["state"] for one in ended} == {"succeeded"}, service.log[-3000:]
    assert len(ended) == JOBS, "none was adopted twice"
    entries = service.get("/v1/reports")["entries"]
    assert not any(entry["missed_deadline"] for entry in entries)
    assert sorted(entry["runs"][0]["cluster_ref"] for entry in entries) == sorted(refs)
