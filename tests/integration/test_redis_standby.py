"""Several services on one Redis: one plans, the others answer and stand by; any of them may go at any time."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.redis_server import SYNCED, RedisServer, running
from tests.integration.api_world import job
from tests.integration.crash_run import fast_clock
from tests.integration.slurm_world import ServiceProcess, constant, have_ended, wait_for_jobs

pytestmark = [pytest.mark.external, pytest.mark.timeout(240)]
LONGEST_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis", *SYNCED) as one:
        yield one


class Replicas:
    """Services that share a store and a cluster, as replicas of a Deployment do."""

    def __init__(self, folder: Path, server: RedisServer, *, lease_s: float) -> None:
        self.ran = folder / "ran"
        settings: dict[str, Any] = {
            "store": {"url": f"redis://127.0.0.1:{server.port}/0", "lease": lease_s},
            "clock": fast_clock(60.0),
            "intensity": constant(folder),
            "planning": {"tick_every": 0.5},
            "clusters": [
                {
                    "id": "berlin",
                    "region": "eu-de",
                    "zone": "DE",
                    "capacity": {"CPU": 8},
                    "root": str(folder / "runs"),
                }
            ],
        }
        self.services: dict[str, ServiceProcess] = {}
        for name in ("first", "second"):
            (folder / name).mkdir()
            self.services[name] = ServiceProcess(folder / name, settings)

    def start(self, name: str) -> ServiceProcess:
        service = self.services[name]
        service.start()
        service.wait_until_up()
        return service

    def spec(self) -> dict[str, Any]:
        command = f"echo $GRIDTIDE_JOB_ID >> {self.ran}; sleep 1"
        return job(command=["sh", "-c", command], duration="2m", patience="2h")

    def submit(self, name: str, count: int) -> list[str]:
        batch = {"jobs": [self.spec()] * count}
        return [one["id"] for one in self.services[name].post("/v1/jobs:batch", batch)["jobs"]]

    def wait_until_ended(self, name: str, ids: list[str]) -> list[dict[str, Any]]:
        service = self.services[name]
        return wait_for_jobs(
            lambda: [service.get(f"/v1/jobs/{one}") for one in ids], have_ended, within_s=150
        )

    def began(self) -> Counter[str]:
        return Counter(self.ran.read_text(encoding="utf-8").split())

    def close(self) -> None:
        for service in self.services.values():
            service.kill()


def scheduler_check(service: ServiceProcess) -> str:
    """What it says of who plans."""
    answer = httpx.get(f"{service.url}/readyz", trust_env=False, timeout=30).json()
    (found,) = [one for one in answer["checks"] if one["subject"] == "scheduler"]
    return str(found["detail"])


def wait_until(service: ServiceProcess, begins: str, *, within_s: float = LONGEST_S) -> float:
    """Seconds until its word of who plans begins so."""
    began = time.monotonic()
    while not (found := scheduler_check(service)).startswith(begins):
        assert time.monotonic() < began + within_s, found
        time.sleep(0.1)
    return time.monotonic() - began


def test_standby_takes_over_from_one_that_was_killed_and_each_job_runs_once(
    server: RedisServer, tmp_path: Path
) -> None:
    replicas = Replicas(tmp_path, server, lease_s=3.0)
    try:
        first = replicas.start("first")
        wait_until(first, "this process")
        second = replicas.start("second")
        assert "stands by" in scheduler_check(second)
        # Whoever takes them, the leader starts them.
        ids = [*replicas.submit("first", 10), *replicas.submit("second", 10)]
        while len(replicas.began() if replicas.ran.exists() else ()) < 5:
            time.sleep(0.1)
        first.kill()
        took_s = wait_until(second, "this process")
        print(f"the standby took over {took_s:.1f} s after the kill; the lease was 3 s")
        ids += replicas.submit("second", 10)
        ended = replicas.wait_until_ended("second", ids)
        assert {one["state"] for one in ended} == {"succeeded"}
        assert replicas.began() == dict.fromkeys(ids, 1)
        assert not any(one["missed_deadline"] for one in ended)
        # The one that comes back stands by in its turn.
        replicas.start("first")
        assert "stands by" in scheduler_check(first)
    finally:
        replicas.close()


def test_leader_that_slept_and_wakes_up_does_nothing_twice(
    server: RedisServer, tmp_path: Path
) -> None:
    replicas = Replicas(tmp_path, server, lease_s=2.0)
    try:
        first = replicas.start("first")
        wait_until(first, "this process")
        second = replicas.start("second")
        ids = list[str]()
        leader, other = first, second
        for _ in range(3):
            name = "first" if other is first else "second"
            ids += replicas.submit(name, 10)
            time.sleep(0.7)  # it is in the middle of it
            assert leader.process is not None
            leader.process.send_signal(signal.SIGSTOP)
            wait_until(other, "this process")
            ids += replicas.submit(name, 5)
            leader.process.send_signal(signal.SIGCONT)
            leader, other = other, leader
        ended = replicas.wait_until_ended("first", ids)
        assert {one["state"] for one in ended} == {"succeeded"}
        assert replicas.began() == dict.fromkeys(ids, 1)
        wait_until(leader, "this process")
        assert "stands by" in scheduler_check(other)
    finally:
        replicas.close()


def test_one_that_is_told_to_stop_gives_its_lease_up(server: RedisServer, tmp_path: Path) -> None:
    # The lease lasts longer than the test: only giving it up lets the other lead.
    replicas = Replicas(tmp_path, server, lease_s=600.0)
    try:
        first = replicas.start("first")
        wait_until(first, "this process")
        second = replicas.start("second")
        ids = replicas.submit("second", 5)
        assert first.process is not None
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(timeout=60) == 0
        first.process = None
        wait_until(second, "this process")
        ended = replicas.wait_until_ended("second", ids)
        assert {one["state"] for one in ended} == {"succeeded"}
        assert replicas.began() == dict.fromkeys(ids, 1)
    finally:
        replicas.close()
