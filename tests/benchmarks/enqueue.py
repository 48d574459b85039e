"""Durable submits over HTTP at 32 connections, against one commit a request and bare fdatasync."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.benchmarks.measure import in_turn, write

CONNECTIONS, SECONDS, ROUNDS, BATCH = 32, 4.0, 3, 100
JOB = {"name": "bench", "command": ["true"], "duration": "1h", "patience": "100h"}


def run() -> None:
    """Measures the servers in turn on one disk and writes the ratios."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        base = Path(folder)
        cpu: dict[str, list[float]] = {"gridtide": [], "starlette": []}
        single = json.dumps(JOB).encode()
        batch = json.dumps({"jobs": [JOB] * BATCH}).encode()
        taken = in_turn(
            ROUNDS,
            {
                "gridtide": lambda: rate("gridtide", base, single, cpu),
                "one_by_one": lambda: rate("gridtide-one-by-one", base, single, {}),
                "commit": lambda: rate("commit-per-request", base, single, cpu),
                "starlette": lambda: rate("starlette", base, single, cpu),
                "batch": lambda: rate("gridtide", base, batch, {}, path="/v1/jobs:batch") * BATCH,
                "fdatasync": lambda: fdatasync(base),
            },
            warm=False,
        )
        median = {name: sorted(values)[len(values) // 2] for name, values in cpu.items()}
        write(
            "enqueue",
            {
                "vs_commit_per_request": taken["gridtide"] / taken["commit"],
                "vs_own_commit_per_request": taken["gridtide"] / taken["one_by_one"],
                "bare_http_vs_commit_per_request": taken["starlette"] / taken["commit"],
                "vs_fdatasync": taken["gridtide"] / taken["fdatasync"],
                "batch_vs_single": taken["batch"] / taken["gridtide"],
                "cpu_vs_starlette": median["gridtide"] / median["starlette"],
            },
            {
                "connections": CONNECTIONS,
                "seconds": SECONDS,
                "rounds": ROUNDS,
                "per_second": {name: round(value) for name, value in taken.items()},
                "cpu_us_per_request": {name: round(v * 1e6) for name, v in median.items()},
            },
        )


@contextmanager
def _server(kind: str, base: Path) -> Iterator[tuple[int, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=base) as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.serving", kind, str(port), folder],
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            _await_port(port)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def _await_port(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the server did not come up")


def rate(
    kind: str, base: Path, body: bytes, cpu: dict[str, list[float]], path: str = "/v1/jobs"
) -> float:
    """Answers a second of that server at so many connections; its CPU seconds an answer go to `cpu`."""
    with _server(kind, base) as (port, process):
        _load(port, 0.5, path, body)
        before = sum(process.cpu_times()[:2])
        rate = _load(port, SECONDS, path, body)
        used = sum(process.cpu_times()[:2]) - before
        if kind in cpu:
            cpu[kind].append(used / (rate * SECONDS))
    return rate


def _load(port: int, seconds: float, path: str, body: bytes) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.load"]
    command += [str(port), str(CONNECTIONS), str(seconds), path]
    done = subprocess.run(command, input=body, capture_output=True, check=True)
    return float(json.loads(done.stdout)["per_second"])


def fdatasync(base: Path) -> float:
    """Appends of 4 kB a second, each synced."""
    with tempfile.NamedTemporaryFile(dir=base) as file:
        began, count = time.monotonic(), 0
        while time.monotonic() - began < 1.0:
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.monotonic() - began)
