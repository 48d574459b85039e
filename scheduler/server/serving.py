"""Runs the service: its timers, and the server in front of it, until it is told to stop."""

import signal
import socket
import sys
from pathlib import Path

import structlog
import uvicorn

from scheduler.core.planner.warm import warm_up
from scheduler.server.http_api import build_api
from scheduler.server.logs import configure_logs
from scheduler.server.settings import load_settings
from scheduler.server.stores import await_store
from scheduler.server.wiring import build_service

_log = structlog.get_logger(__name__)
_NEVER_UP = 3
"""Exit code of a server that could not start, as uvicorn's own."""


class Server(uvicorn.Server):
    """Says where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets=sockets)
        for server in self.servers:
            for one in server.sockets:
                host, port, *_ = one.getsockname()
                _log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")


def serve(config_path: Path | None = None, *, schedules: bool = True) -> None:
    """Runs the service until SIGTERM or SIGINT. Running jobs go on without it.

    Args:
        config_path: its settings; None for those in this folder.
        schedules: False for one that only answers.
    """
    settings = load_settings(config_path)
    configure_logs()
    _log.info("compiling", detail="the planner; on a machine's first start up to a minute")
    warm_up()
    if not schedules and settings.store.url is not None:
        await_store(settings.store)
    service = build_service(settings, schedules=schedules)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has answered what was under way; the default would end
        # the process before the store is closed.
        signal.signal(number, lambda *_: sys.exit(0))
    service.cycle.start()
    try:
        server = Server(
            uvicorn.Config(
                build_api(service),
                host=settings.server.host,
                port=settings.server.port,
                log_config=None,  # its lines go where ours go
                log_level="warning",
                access_log=False,
                proxy_headers=False,
            )
        )
        server.run()
        if not server.started:
            sys.exit(_NEVER_UP)
    finally:
        service.close()
