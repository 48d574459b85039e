"""Users that submit jobs while processes die; and at the end what became of each job."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import redis
import yaml

from adapters.store.redis import RedisStore
from scheduler.core.job import ENDED_STATES, JobRecord, JobState
from tests.fakes.redis_server import SYNCED, RedisServer, free_port, running
from tests.integration.crash_run import fast_clock
from tests.integration.slurm_world import constant
from tests.soak.shared_cluster import ASKED, BEGAN

SPEED: Final = 60.0
RUN_S: Final = 120
LEASE_S: Final = 1.0
BATCH: Final = 20


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the run is to stand.

    Args:
        jobs: how many are submitted.
        submit_for_s: over so many seconds.
        kill_every_s: between two kills of a random process.
        server_restarts: of the Redis server, spread over that time.
        most_s: then it is given up.
    """

    jobs: int
    submit_for_s: float
    kill_every_s: float
    server_restarts: int
    most_s: float
    answering: int = 3
    planning: int = 2
    seed: int = field(default_factory=lambda: random.randrange(10**6))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of it. Lists hold job ids or runs; each should be empty."""

    accepted: int
    took_s: float
    kills: Counter[str]
    server_restarts: int
    failovers_s: Sequence[float]
    lost: Sequence[str]
    unknown: Sequence[str]
    doubled: Sequence[str]
    late: Sequence[str]
    unfinished: Sequence[str]
    unaccounted: Sequence[str]
    asked_again: int


class Process:
    """A service that is started anew whenever it was killed."""

    def __init__(self, host: "Host", folder: Path, settings: dict[str, Any], kind: str) -> None:
        self.kind = kind
        self.port = free_port()
        self._host = host
        folder.mkdir()
        self._config, self._log = folder / "gridtide.yaml", folder / "log"
        self._config.write_text(
            yaml.safe_dump({**settings, "server": {"port": self.port}}), encoding="utf-8"
        )
        self.pid = 0

    @property
    def name(self) -> str:
        return f" {self.pid} "

    def start(self) -> None:
        self.pid = self._host.fork(self._config, self._log, self.kind)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def answers(self) -> bool:
        with suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self.port}/healthz"
            return httpx.get(url, trust_env=False, timeout=2).is_success
        return False


class Host:
    """The process that the services are forked from."""

    def __init__(self, port: int) -> None:
        words = [sys.executable, "-m", "tests.soak.host", str(port), str(RUN_S)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def fork(self, config: Path, log: Path, kind: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{config} {log} {kind}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        with self._process:  # closes its pipes, too
            self._process.kill()


class Soak:
    """One run of it."""

    def __init__(self, folder: Path, terms: Terms) -> None:
        self._terms = terms
        self._chance = random.Random(terms.seed)
        self._stack = ExitStack()
        self.server = self._stack.enter_context(running(folder / "store", *SYNCED))
        self._sim: RedisServer = self._stack.enter_context(running(folder / "sim"))
        host = Host(self._sim.port)
        self._stack.callback(host.close)
        settings: dict[str, Any] = {
            "store": {"url": f"redis://127.0.0.1:{self.server.port}/0", "lease": LEASE_S},
            "clock": fast_clock(SPEED),
            "intensity": constant(folder),
            "planning": {"tick_every": 0.5},
            "clusters": [{"id": "sim", "region": "eu-de", "zone": "DE", "capacity": {"CPU": 2000}}],
        }
        kinds = ["answers"] * terms.answering + ["plans"] * terms.planning
        self._processes = [
            Process(host, folder / f"{number}-{kind}", settings, kind)
            for number, kind in enumerate(kinds)
        ]
        self._keys: dict[str, list[str]] = {}
        self._kills: Counter[str] = Counter()
        self._restarts = 0
        self._failovers_s: list[float] = []
        self._is_over = threading.Event()

    def run(self) -> Outcome:
        """Goes through with it, whatever happens to processes."""
        with self._stack:
            began_s = time.monotonic()
            for one in self._processes:
                one.start()
                self._stack.callback(one.kill)
            self._wait_until_up()
            killers = [
                threading.Thread(target=work)
                for work in (self._kill_processes, self._restart_server, self._watch_lease)
            ]
            for killer in killers:
                killer.start()
            try:
                self._submit_all(began_s)
            finally:
                self._is_over.set()
                for killer in killers:
                    killer.join()
            records = self._wait_until_ended(began_s)
            return self._outcome(records, time.monotonic() - began_s)

    def _wait_until_up(self) -> None:
        until = time.monotonic() + 120
        while not all(one.answers() for one in self._processes):
            assert time.monotonic() < until, "the services did not come up"
            time.sleep(0.2)

    # ---------------------------------------------------------------- users

    def _submit_all(self, began_s: float) -> None:
        """A batch at a time, each under its key until somebody has confirmed it."""
        batches = -(-self._terms.jobs // BATCH)
        for number in range(batches):
            due_s = began_s + self._terms.submit_for_s * number / batches
            time.sleep(max(0.0, due_s - time.monotonic()))
            count = min(BATCH, self._terms.jobs - number * BATCH)
            self._submit(str(uuid.UUID(int=self._chance.getrandbits(128))), count, began_s)

    def _submit(self, key: str, count: int, began_s: float) -> None:
        spec = {
            "name": "short",
            "command": ["true"],
            "duration": f"{RUN_S}s",
            "patience": "6h",
            "resources": {"accelerators": "CPU:1"},
        }
        while time.monotonic() < began_s + self._terms.most_s:
            one = self._chance.choice(self._processes)
            with suppress(httpx.HTTPError):
                reply = httpx.post(
                    f"http://127.0.0.1:{one.port}/v1/jobs:batch",
                    json={"jobs": [spec] * count},
                    headers={"Idempotency-Key": key},
                    trust_env=False,
                    timeout=20,
                )
                if reply.is_success:
                    self._keys[key] = [job["id"] for job in reply.json()["jobs"]]
                    return
                assert reply.status_code == 503, reply.text
            time.sleep(0.05)
        raise AssertionError("jobs could not be submitted")

    # ---------------------------------------------------------------- what goes wrong

    def _kill_processes(self) -> None:
        while not self._is_over.wait(self._terms.kill_every_s):
            one = self._chance.choice(self._processes)
            one.kill()
            self._kills[one.kind] += 1
            one.start()

    def _restart_server(self) -> None:
        pause_s = self._terms.submit_for_s / (self._terms.server_restarts + 1)
        while self._restarts < self._terms.server_restarts and not self._is_over.wait(pause_s):
            self.server.kill()
            self.server.start()
            self._restarts += 1

    def _watch_lease(self) -> None:
        """How long nobody led, each time that another process did afterwards."""
        led_by, led_s = "", time.monotonic()
        while not self._is_over.wait(0.02):
            try:
                with self.server.client() as client:
                    holder = client.get("{gridtide:default}:lease")
            except redis.RedisError:
                continue
            alive = {one.name for one in self._processes}
            if holder is None or not any(name in holder for name in alive):
                continue  # nobody's, or that of one that was killed
            if led_by and holder != led_by:
                self._failovers_s.append(time.monotonic() - led_s)
            led_by, led_s = holder, time.monotonic()

    # ---------------------------------------------------------------- what came of it

    def _wait_until_ended(self, began_s: float) -> list[JobRecord]:
        store = RedisStore(self.server.address)
        try:
            while time.monotonic() < began_s + self._terms.most_s:
                if not store.active_jobs():
                    break
                time.sleep(0.5)
            self._entries = {one.job_id for one in store.entries()}
            records, cursor = list[JobRecord](), None
            while True:
                page, cursor = store.list_jobs(limit=1000, after=cursor)
                records += page
                if cursor is None:
                    return records
        finally:
            store.close()

    def _outcome(self, records: Sequence[JobRecord], took_s: float) -> Outcome:
        accepted = [job_id for ids in self._keys.values() for job_id in ids]
        stored = {one.job.job_id: one for one in records}
        with self._sim.client() as client:
            runs = [name.rsplit(".", 2)[0] for name in client.hkeys(BEGAN)]
            asked = [int(count) for count in client.hvals(ASKED)]
        begins = Counter(runs)
        return Outcome(
            accepted=len(accepted),
            took_s=took_s,
            kills=self._kills,
            server_restarts=self._restarts,
            failovers_s=sorted(self._failovers_s),
            lost=[one for one in accepted if one not in stored or not begins[one]],
            unknown=[*(stored.keys() - set(accepted)), *(begins.keys() - stored.keys())],
            doubled=[one for one, count in begins.items() if count > 1],
            late=[one for one, record in stored.items() if record.has_missed_deadline],
            unfinished=[
                one
                for one, record in stored.items()
                if record.state is not JobState.SUCCEEDED or record.state not in ENDED_STATES
            ],
            unaccounted=sorted(stored.keys() - self._entries),
            asked_again=sum(count - 1 for count in asked),
        )
