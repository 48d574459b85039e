"""Users' own jobs of every kind on a simulated Kubernetes cluster: planned and started by the service, and in time without it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.kube_kinds import KINDS
from scheduler.core.guard import GUARD_BEFORE_S
from scheduler.core.timegrid import format_instant
from tests.integration.crash_run import fast_clock
from tests.integration.kubernetes_world import adopting_service, native_jobs
from tests.integration.slurm_world import ServiceProcess, have_ended, trace, wait_for_jobs
from tests.unit.cluster.kube_user import N_PODS, KubeUser, appended
from tests.unit.cluster.kube_world import KubeBed, running_bed
from tests.unit.cluster.runs import lines, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MINUTE = timedelta(minutes=1)
SPEED = 20.0


@pytest.fixture
def bed() -> KubeBed:
    return running_bed()


@pytest.fixture
def users(bed: KubeBed) -> Iterator[list[KubeUser]]:
    made = [KubeUser(bed.admin("west"), kind=kind) for kind in KINDS.values()]
    yield made
    for one in made:
        one.finish()


@pytest.fixture
def serve(tmp_path: Path, bed: KubeBed) -> Iterator[Callable[..., ServiceProcess]]:
    services = list[ServiceProcess]()

    def begin(**settings: Any) -> ServiceProcess:
        kinds = {"kinds": list(KINDS)}
        services.append(adopting_service(tmp_path, bed, kubernetes=kinds, **settings))
        services[-1].start()
        services[-1].wait_until_up()
        return services[-1]

    yield begin
    for service in services:
        service.kill()


def are_planned(jobs: list[dict[str, Any]]) -> bool:
    return len(jobs) == len(KINDS) and all(one["state"] != "queued" for one in jobs)


def asking(deadline_at: datetime) -> dict[str, str]:
    at = deadline_at.replace(microsecond=0)
    return {"deadline": format_instant(at), "duration": "1m"}


def test_one_of_each_kind_starts_in_the_clean_window_and_is_in_the_ledger(
    serve: Callable[..., ServiceProcess], users: list[KubeUser], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    # Dirty for eight minutes of the service's clock, then clean.
    service = serve(
        clock=fast_clock(SPEED),
        intensity=trace(tmp_path, {"FR": [800.0] * 8 + [50.0] * 60}, step=MINUTE, after_g=800.0),
    )
    begun_at = datetime.now(UTC)
    words = asking(begun_at + 60 * MINUTE)
    refs = {
        one.kind.name: one.create(words, script=f"{appended(ran, one.kind.name)}; sleep 1")
        for one in users
    }
    planned = wait_for_jobs(lambda: native_jobs(service), are_planned, within_s=60)
    assert {one["native"]["ref"] for one in planned} == set(refs.values())
    for user in users:
        ref = refs[user.kind.name]
        wait_until(lambda: bool(user.note(ref, "status")), "it is told")  # noqa: B023 - waited for here
        assert str(user.note(ref, "status")).startswith("planned for ")
        assert user.is_suspended(ref)
    assert lines(ran) == []
    ended = wait_for_jobs(lambda: native_jobs(service), have_ended, within_s=120)
    assert {one["state"] for one in ended} == {"succeeded"}, service.log[-3000:]
    starts = [datetime.fromisoformat(one["started_at"]) for one in ended]
    assert min(starts) >= begun_at + 6 * MINUTE, "none began where it was dirty"
    # A RayJob's program is started by its submitter alone, the others by each of their pods.
    wanted = {name: 1 if name == "RayJob" else count for name, count in N_PODS.items()}
    assert {name: lines(ran).count(name) for name in N_PODS} == wanted, "each ran once"
    entries = service.get("/v1/reports")["entries"]
    assert {entry["runs"][0]["cluster_ref"] for entry in entries} == set(refs.values())


def test_with_the_service_gone_the_guard_alone_starts_every_kind(
    serve: Callable[..., ServiceProcess], users: list[KubeUser], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    falling = [800.0 - 50 * minute for minute in range(12)]
    service = serve(intensity=trace(tmp_path, {"FR": falling}, step=MINUTE))
    words = asking(datetime.now(UTC) + timedelta(seconds=GUARD_BEFORE_S + 90))
    refs = [one.create(words, script=appended(ran, one.kind.name)) for one in users]
    wait_for_jobs(lambda: native_jobs(service), are_planned, within_s=20)
    service.kill()
    assert lines(ran) == []
    guard = [sys.executable, "-m", "scheduler.server.cli", "guard", "--every", "1s"]
    process = subprocess.Popen([*guard, "--config", str(service.config)])
    try:
        wait_until(lambda: set(lines(ran)) == set(KINDS), "all have run", within_s=120)
    finally:
        process.terminate()
    for user, ref in zip(users, refs, strict=True):
        assert str(user.note(ref, "status")).startswith("started because its latest safe start")
    assert process.wait(10) == 0
