"""More requests than the service lets in at a time."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from scheduler.client import GridtideClient
from scheduler.core.errors import OverloadedError, StoreError
from scheduler.ports import Check
from tests.integration.api_world import api


@contextmanager
def slow_request(client: httpx.Client, path: str = "/v1/jobs") -> Iterator[socket.socket]:
    """One that is under way: its body is still to come."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as one:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        one.sendall(f"{head}Content-Length: 10\r\n\r\n".encode())
        until = time.monotonic() + 30
        while client.get("/v1/jobs").status_code == 200:
            assert time.monotonic() < until
        yield one


def test_further_requests_are_told_to_come_again(tmp_path: Path) -> None:
    with api(tmp_path, server={"max_requests": 1}) as (client, _), slow_request(client) as slow:
        refused = client.get("/v1/jobs")
        assert refused.status_code == 503
        assert refused.json()["code"] == "overloaded"
        assert "server.max_requests" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        # A probe is answered, or a busy service would be restarted.
        assert client.get("/healthz").status_code == 200
        slow.sendall(b"0123456789")
        assert b"422" in slow.recv(4096)
        assert client.get("/v1/jobs").status_code == 200


def test_requests_whose_clients_have_gone_make_room(tmp_path: Path) -> None:
    with api(tmp_path, server={"max_requests": 1}) as (client, _):
        with slow_request(client):
            pass
        until = time.monotonic() + 30
        while client.get("/v1/jobs").status_code != 200:
            assert time.monotonic() < until


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs:batch"])
def test_body_that_never_ends_is_refused_and_makes_room(tmp_path: Path, path: str) -> None:
    limits = {"max_requests": 1, "max_body_time": 0.5}
    with (
        api(tmp_path, server=limits) as (client, _),
        slow_request(client, path) as slow,
    ):
        slow.settimeout(30)
        slow.sendall(b"{")  # a byte now and then does not help
        answer = b"".join(iter(lambda: slow.recv(65_536), b""))  # until the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer
        assert b'"code":"body_timeout"' in answer
        assert b"body: 1 bytes came within 0.5 s (server.max_body_time)" in answer
        assert client.get("/v1/jobs").status_code == 200


def test_client_comes_again_by_itself_and_tells_when_that_was_in_vain(tmp_path: Path) -> None:
    with (
        api(tmp_path, server={"max_requests": 1}) as (client, _),
        GridtideClient(str(client.base_url)) as own,
        slow_request(client) as slow,
    ):
        with pytest.raises(OverloadedError):
            own.list_jobs()
        threading.Timer(0.02, slow.close).start()
        assert own.list_jobs()["jobs"] == []


def test_probes_are_answered_in_time_while_the_store_hangs_and_requests_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, waiting = threading.Event(), threading.Semaphore(0)

    def hang(*_: object, **__: object) -> list[Check]:
        waiting.release()
        assert go.wait(50)
        raise StoreError("store: it came back too late")

    with api(tmp_path) as (client, service), ThreadPoolExecutor(60) as pool:
        service.cycle.tick()
        for name in ("checks", "list_jobs"):
            monkeypatch.setattr(service.store, name, hang)
        with httpx.Client(base_url=client.base_url, trust_env=False, timeout=60) as others:
            asked = [pool.submit(others.get, "/v1/jobs") for _ in range(60)]
            for _ in range(40):  # as many as there are threads for requests
                assert waiting.acquire(timeout=30)
            assert client.get("/healthz", timeout=10).status_code == 200
            probed = client.get("/readyz", params={"within": "1s"}, timeout=10)
            go.set()
            assert {one.result().status_code for one in asked} == {503}
        assert probed.status_code == 503
        checks = {one["subject"]: one for one in probed.json()["checks"]}
        assert (checks["store"]["ok"], checks["cycle"]["ok"]) == (False, True)
        assert checks["store"]["detail"] == "no answer within 1 s"
