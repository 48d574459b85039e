"""The stores: durable submits on SQLite and on Redis, memory for each job, and ticks over ever more waiting jobs.

BENCH_JOBS in the environment says up to how many waiting jobs ticks are measured (100,000; the growth is what counts).
"""

import json
import math
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from adapters.store.codec import encode_record
from adapters.store.redis import RedisStore
from adapters.store.redis_address import parse_address
from adapters.store.sqlite import SqliteStore
from scheduler.core.job import JobId, JobRecord, JobState, Placement
from scheduler.core.timegrid import Window
from scheduler.ports import Event, JobStore, NewJob
from tests.benchmarks.enqueue import BATCH, CONNECTIONS, JOB, SECONDS, rate
from tests.benchmarks.measure import in_turn, write
from tests.benchmarks.serving import STORE_URL
from tests.fakes.redis_server import SYNCED, RedisServer, running
from tests.unit.core.builders import T0, baseline, job
from tests.unit.service.world import make_world

ROUNDS = 3
TOGETHER = 1000
MEMORY_JOBS = 20_000
TICKS = 5


def run() -> None:
    """Measures the terms in turn and writes the ratios."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        base = Path(folder)
        with running(base / "redis", *SYNCED) as server:
            taken = _rates(base, server)
            memory = _memory(base, server)
        ticks = _ticks(base)
    write(
        "store",
        {
            "sqlite_vs_commit_per_request": taken["sqlite"] / taken["commit"],
            "redis_vs_bare_redis": taken["redis"] / taken["bare_redis"],
            "sqlite_batch_vs_single": taken["sqlite_batch"] / taken["sqlite"],
            "redis_batch_vs_single": taken["redis_batch"] / taken["redis"],
            **{f"{name}_bytes_per_job": value for name, value in memory.items()},
            **{f"{name}_growth_exponent": _exponent(by_count) for name, by_count in ticks.items()},
        },
        {
            "connections": CONNECTIONS,
            "seconds": SECONDS,
            "rounds": ROUNDS,
            "record_bytes": len(encode_record(_queued(0))),
            "per_second": {name: round(value) for name, value in taken.items()},
            "tick_s": {
                name: {str(count): round(took_s, 3) for count, took_s in by_count.items()}
                for name, by_count in ticks.items()
            },
        },
    )


# ---------------------------------------------------------------- submitting


def _rates(base: Path, server: RedisServer) -> dict[str, float]:
    single = json.dumps(JOB).encode()
    many = json.dumps({"jobs": [JOB] * BATCH}).encode()

    def on_redis(body: bytes, path: str = "/v1/jobs") -> float:
        os.environ[STORE_URL] = f"{_url(server)}#{uuid.uuid4()}"
        with _emptied(server):
            return rate("gridtide-redis", base, body, {}, path=path)

    return in_turn(
        ROUNDS,
        {
            "sqlite": lambda: rate("gridtide", base, single, {}),
            "commit": lambda: rate("commit-per-request", base, single, {}),
            "redis": lambda: on_redis(single),
            "bare_redis": lambda: _bare_redis(server),
            "sqlite_batch": lambda: rate("gridtide", base, many, {}, "/v1/jobs:batch") * BATCH,
            "redis_batch": lambda: on_redis(many, "/v1/jobs:batch") * BATCH,
        },
        warm=False,
    )


def _url(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


@contextmanager
def _emptied(server: RedisServer) -> Iterator[None]:
    """Leaves the server as it was: empty."""
    yield
    with server.client() as client:
        client.flushall()


def _bare_redis(server: RedisServer) -> float:
    """Records a second that as many threads of redis-py write, each by one HSET that is synced."""
    text, until = encode_record(_queued(0)), time.monotonic() + SECONDS

    def write_on(number: int) -> int:
        count = 0
        with server.client() as client:
            while time.monotonic() < until:
                client.hset("bare", f"{number}-{count}", text)
                count += 1
        return count

    with _emptied(server), ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(write_on, range(CONNECTIONS))) / SECONDS


# ---------------------------------------------------------------- memory


def _memory(base: Path, server: RedisServer) -> dict[str, float]:
    """Bytes for each waiting job: of the server's memory, and of the file."""
    with server.client() as client:
        before = client.info("memory")["used_memory"]
        store = RedisStore(parse_address(_url(server)))
        _fill(store, range(MEMORY_JOBS))
        used = client.info("memory")["used_memory"] - before
        store.close()
    path = base / "memory.db"
    with_file = SqliteStore(path)
    _fill(with_file, range(MEMORY_JOBS))
    with_file.close()
    return {"redis": used / MEMORY_JOBS, "sqlite": path.stat().st_size / MEMORY_JOBS}


def _queued(number: int) -> JobRecord:
    waiting = replace(job(), job_id=JobId(f"train-{number:08}"), name="train")
    return JobRecord(
        job=waiting,
        state=JobState.QUEUED,
        version=1,
        updated_at=waiting.submitted_at,
        baseline=baseline(),
    )


def _planned(number: int) -> JobRecord:
    """One that has its place, some hours from now."""
    waiting = _queued(number)
    start_at = T0 + timedelta(hours=10, minutes=number % 600)
    place = Placement(
        job_id=waiting.job.job_id,
        cluster_id="c-de",
        region_id="r-de",
        zone_id="DE",
        option=0,
        accelerator="H100",
        gpus=1,
        power_w=1000.0,
        pue=1.0,
        segments=(Window(start_at, start_at + timedelta(hours=4)),),
        energy_kwh=4.0,
        planned_g=400.0,
        provenance=None,
    )
    return replace(waiting, state=JobState.PLANNED, placement=place)


def _fill(store: JobStore, numbers: Sequence[int], *, is_planned: bool = False) -> None:
    make = _planned if is_planned else _queued
    for first in range(0, len(numbers), TOGETHER):
        records = [make(number) for number in numbers[first : first + TOGETHER]]
        store.add_jobs(
            [
                NewJob(
                    record=one,
                    event=Event(
                        at=one.updated_at,
                        kind="submitted",
                        job_id=one.job.job_id,
                        state=one.state,
                    ),
                )
                for one in records
            ]
        )


# ---------------------------------------------------------------- ticks


def _ticks(base: Path) -> dict[str, dict[int, float]]:
    """Seconds that a tick takes with so many waiting jobs that all have their places, for each store."""
    most = int(os.environ.get("BENCH_JOBS", "100000"))
    counts = [count for count in (10_000, 100_000, 1_000_000) if count <= most]
    found: dict[str, dict[int, float]] = {"sqlite_tick": {}, "redis_tick": {}}
    for count in counts:
        with tempfile.TemporaryDirectory(dir=base) as folder:
            store = SqliteStore(Path(folder) / "gridtide.db")
            found["sqlite_tick"][count] = _tick_s(store, Path(folder), count)
            with running(Path(folder) / "redis") as server:
                url = parse_address(_url(server))
                found["redis_tick"][count] = _tick_s(RedisStore(url), Path(folder), count)
    return found


def _tick_s(store: JobStore, folder: Path, count: int) -> float:
    _fill(store, range(count), is_planned=True)
    world = make_world(folder, gpus=count, store=store)
    taken = []
    for _ in range(1 + TICKS):
        began_s = time.monotonic()
        report = world.cycle.tick()
        taken.append(time.monotonic() - began_s)
        assert (report.active, report.failures) == (count, 0), report
    store.close()
    return statistics.median(taken[1:])  # the first one also makes a plan


def _exponent(by_count: Mapping[int, float]) -> float:
    """By which power of the number of jobs a tick grows; nan where one number was measured."""
    if len(by_count) < 2:
        return math.nan
    (few, few_s), *_, (many, many_s) = sorted(by_count.items())
    return math.log(many_s / few_s) / math.log(many / few)
