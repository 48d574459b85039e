"""What every request passes first: the host name it asks for, its token, and the size and time of its body."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.core.errors import GridtideError, OverloadedError
from scheduler.server.auth import is_authorised
from scheduler.server.problems import problem, problem_of
from scheduler.server.settings import ServerSettings, is_loopback

_OPEN_PATHS: Final = frozenset({"/healthz"})
_PROBED_PATHS: Final = frozenset({"/readyz"})
"""Open to who shows no token, such as the probes of Kubernetes; they are told less."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Gate:
    """An ASGI application in front of another one.

    Args:
        app: what it guards.
        settings: what it lets through.
        direct: endpoints by method and path that it calls itself, past the middleware of the app.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        direct: Mapping[tuple[str, str], Endpoint],
    ) -> None:
        self._app = app
        self._direct = direct
        self._hashes = tuple(settings.token_hashes)
        self._max_body = settings.max_body_bytes
        self._max_body_s = settings.max_body_time
        self._max_requests = settings.max_requests
        self._under_way = 0
        self._hosts = frozenset(settings.allowed_hosts)
        self._is_local = is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or hands on with a bounded body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self._refusal(scope["path"], headers) or self._overload(scope["path"])
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._direct.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self._app(scope, self._bounded(receive), send)
            return
        request = Request(scope, self._bounded(receive))
        try:
            response = await endpoint(request)
        except (GridtideError, HTTPException) as error:
            response = problem_of(error)
        await response(scope, receive, send)

    def _refusal(self, path: str, headers: dict[str, str]) -> Response | None:
        host = _host_name(headers.get("host", ""))
        # A page in the user's browser may resolve its own name to loopback: only our names count.
        if self._is_local and not is_loopback(host) and host not in self._hosts:
            return problem(
                421,
                "wrong_host",
                f"host: {host!r} is not a name of this service; use 127.0.0.1 or add it to server.allowed_hosts",
            )
        token = headers.get("authorization")
        is_open = path in _OPEN_PATHS or (path in _PROBED_PATHS and token is None)
        if not is_open and not is_authorised(token, self._hashes):
            return problem(
                401, "unauthorised", "authorization: a bearer token of this service is needed"
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body:
            return problem(413, "too_large", f"body: larger than {self._max_body} bytes")
        return None

    def _overload(self, path: str) -> Response | None:
        """A request that would wait behind too many others, each with its body in memory, comes again later."""
        if self._under_way < self._max_requests or path in _OPEN_PATHS:
            return None
        return problem_of(
            OverloadedError(
                f"{self._under_way} requests are under way, as many as server.max_requests lets in; nothing was done: "
                "ask again soon, or send many jobs in one request to /v1/jobs:batch"
            )
        )

    def _bounded(self, receive: Receive) -> Receive:
        """The body up to its size and its time; after it there is no limit on waiting for the client to leave."""
        seen, is_whole = 0, False
        until_s = asyncio.get_running_loop().time() + self._max_body_s

        async def bounded() -> Message:
            nonlocal seen, is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until_s):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408,
                    f"body: {seen} bytes came within {self._max_body_s:g} s (server.max_body_time), and not its end; "
                    "nothing was done: send it again, whole",
                ) from error
            seen += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if seen > self._max_body:
                raise HTTPException(413, f"body: larger than {self._max_body} bytes")
            return message

        return bounded


def _host_name(header: str) -> str:
    """The name without its port; empty where it is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
