"""The servers that the benchmarks of submitting compare, each a process of its own: `serving KIND PORT FOLDER`.

Gridtide's store is an SQLite file in the folder, or on the server that STORE_URL in the environment names.
"""

import json
import os
import sqlite3
import sys
import threading
from pathlib import Path

import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from scheduler.server import submit_desk
from scheduler.server.http_api import build_api
from scheduler.server.settings import load_settings
from scheduler.server.wiring import build_service

SETTINGS = """
server: {port: %d}
clusters:
  - {id: a, region: home, zone: DE, capacity: {CPU: 1000000}}
planning: {slot: 1h, horizon: 7d, tick_every: 3600}
"""
STORE_URL = "GRIDTIDE_BENCH_STORE"


class _Small(BaseModel):
    name: str
    command: list[str]
    duration: str
    patience: str


def _starlette() -> Starlette:
    """Bare Starlette with a pydantic model and no storage."""

    async def submit(request: Request) -> JSONResponse:
        job = _Small.model_validate_json(await request.body())
        return JSONResponse({"id": job.name}, status_code=201)

    return Starlette(routes=[Route("/v1/jobs", submit, methods=["POST"])])


def _commit_per_request(folder: Path) -> Starlette:
    """The same with SQLite in full synchronisation and one commit a request, in a thread."""
    connection = sqlite3.connect(
        folder / "gridtide.db", isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS bench (id INTEGER PRIMARY KEY, body TEXT)")
    lock = threading.Lock()

    def store(body: str) -> None:
        with lock:
            connection.execute("INSERT INTO bench (body) VALUES (?)", (body,))

    async def submit(request: Request) -> JSONResponse:
        job = _Small.model_validate_json(await request.body())
        await run_in_threadpool(store, job.model_dump_json())
        return JSONResponse({"id": job.name}, status_code=201)

    return Starlette(routes=[Route("/v1/jobs", submit, methods=["POST"])])


def main() -> None:
    kind, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if kind == "starlette":
        app = _starlette()
    elif kind == "commit-per-request":
        app = _commit_per_request(folder)
    else:
        if kind == "gridtide-one-by-one":
            submit_desk.MAX_TOGETHER = 1  # what a commit a request would be here
        config = folder / "gridtide.yaml"
        store = f"store: {os.environ[STORE_URL]}\n" if kind == "gridtide-redis" else ""
        config.write_text(SETTINGS % port + store, encoding="utf-8")
        app = build_api(build_service(load_settings(config)))
    print(json.dumps({"ready": kind}), flush=True)
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="error", access_log=False, proxy_headers=False
    )


if __name__ == "__main__":
    main()
