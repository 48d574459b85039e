"""A service with a real store and a real local cluster, behind its HTTP API, in one process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml

from scheduler.server.http_api import build_api
from scheduler.server.settings import load_settings
from scheduler.server.wiring import Service, build_service

BASE: dict[str, Any] = {
    "clusters": [
        {"id": "berlin", "region": "eu-de", "zone": "DE", "capacity": {"CPU": 4, "H100": 8}},
        {"id": "paris", "region": "eu-fr", "zone": "FR", "capacity": {"CPU": 4}},
    ]
}


def write_settings(folder: Path, **changes: Any) -> Path:
    path = folder / "gridtide.yaml"
    path.write_text(yaml.safe_dump(BASE | changes), encoding="utf-8")
    return path


@contextmanager
def api(folder: Path, **changes: Any) -> Iterator[tuple[httpx.Client, Service]]:
    service = build_service(load_settings(write_settings(folder, **changes)))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # requests wait until the thread serves them
    server = uvicorn.Server(uvicorn.Config(build_api(service), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, trust_env=False) as client:
            yield client, service
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        service.close()


def job(**changes: Any) -> dict[str, Any]:
    return {
        "name": "train",
        "command": ["true"],
        "duration": "2h",
        "patience": "24h",
        "resources": {"accelerators": "CPU:1"},
    } | changes
