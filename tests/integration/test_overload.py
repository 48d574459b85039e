"""More requests than the service lets in at a time."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from scheduler.client import GridtideClient
from scheduler.core.errors import OverloadedError
from tests.integration.api_world import api


@contextmanager
def slow_request(client: httpx.Client) -> Iterator[socket.socket]:
    """One that is under way: its body is still to come."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as one:
        head = "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
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
