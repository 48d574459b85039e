"""A service that is told to stop while its sources are silent; one that was killed while it fetched."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.loopback_http import LoopbackServer, refused_url, silence

pytestmark = pytest.mark.slow
STOPS_WITHIN_S = 5.0


@pytest.fixture
def mute() -> Iterator[LoopbackServer]:
    with LoopbackServer(silence) as server:
        yield server


def start(folder: Path, url: str) -> "subprocess.Popen[bytes]":
    """A service with one source at that address."""
    config = folder / "gridtide.yaml"
    port = refused_url().rpartition(":")[2]
    config.write_text(
        f"server: {{port: {port}}}\nstore: {{path: gridtide.db}}\n"
        "clusters: [{id: a, region: r, zone: DE, capacity: {CPU: 1}}]\n"
        f"intensity: {{sources: [{{kind: energy_charts, url: '{url}'}}, {{kind: typical_week}}]}}\n"
    )
    words = [sys.executable, "-m", "scheduler.server.cli", "serve", "--config", str(config)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


def wait_for_requests(server: LoopbackServer, count: int, within_s: float = 30) -> None:
    until_s = time.monotonic() + within_s
    while len(server.asked) < count:
        assert time.monotonic() < until_s, f"{len(server.asked)} requests came, {count} were due"
        threading.Event().wait(0.02)


def test_service_says_where_it_listens_and_each_line_of_its_log_is_an_event(
    tmp_path: Path, mute: LoopbackServer
) -> None:
    process = start(tmp_path, mute.url)
    try:
        until_s = time.monotonic() + 60
        url = None
        while url is None:
            assert time.monotonic() < until_s, "it never said that it listens"
            threading.Event().wait(0.05)
            text = (tmp_path / "log").read_text(encoding="utf-8")
            events = [
                json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"
            ]
            url = next((one["url"] for one in events if one["event"] == "listening"), None)
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    finally:
        process.kill()
        process.wait()


def test_service_that_waits_for_silent_sources_stops_soon(
    tmp_path: Path, mute: LoopbackServer
) -> None:
    process = start(tmp_path, mute.url)
    try:
        wait_for_requests(mute, 1)
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        assert time.monotonic() - began_s < STOPS_WITHIN_S
        log = (tmp_path / "log").read_text(encoding="utf-8")
        assert (process.returncode, "Traceback" in log) == (0, False), log
    finally:
        process.kill()
        process.wait()


def test_service_that_was_killed_while_it_fetched_fetches_at_once_when_it_is_back(
    tmp_path: Path, mute: LoopbackServer
) -> None:
    for turn in (1, 2):
        process = start(tmp_path, mute.url)
        try:
            wait_for_requests(mute, turn)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
