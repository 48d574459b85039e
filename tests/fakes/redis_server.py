"""Real redis-server processes of a test, which it may stop, kill and start again."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from adapters.store.redis_address import RedisAddress, parse_address

SYNCED = ("--appendonly", "yes", "--appendfsync", "always")
_START_S = 20.0


class RedisServer:
    """One server with its data in a folder; skips the test where the program is missing."""

    def __init__(self, folder: Path, *options: str, program: str = "redis-server") -> None:
        self._program = shutil.which(program)
        if self._program is None:
            pytest.skip(f"{program} is missing; install it with: tests/testbeds/redis up")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> RedisAddress:
        """Its default store."""
        return parse_address(f"redis://127.0.0.1:{self.port}/0")

    def client(self, **options: Any) -> redis.Redis:
        """A client of redis-py, without its retries."""
        return redis.Redis(host="127.0.0.1", port=self.port, decode_responses=True, **options)

    def start(self, *config: str) -> None:
        """Starts it, and returns once it answers."""
        assert self._program is not None
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *config, *place, "--save", "", *self._options],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.ConnectionError, redis.ResponseError):
                with self.client() as client:
                    client.ping()
                return
            assert self._process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        raise AssertionError(f"redis-server did not start; its log is {self.folder}/log")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends it, by default without warning."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It stands still: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server for the time of a block."""
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
