"""An HTTP server on loopback that answers well until it is told how to misbehave."""

import contextlib
import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Asked:
    """A request as the server saw it."""

    path: str
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    owner: "LoopbackServer"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.owner.asked.append(Asked(self.path, dict(self.headers.items()), self.command, body))
        with contextlib.suppress(ConnectionError):
            self.owner.next_behaviour()(self)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def reply(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str | None = "application/json",
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        if content_type is not None:
            self.send_header("Content-Type", content_type)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:  # said, so that no client takes it for one that stays
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


Behaviour = Callable[[Exchange], None]


class LoopbackServer:
    """Answers every request with `usually`, but for those that `misbehave` was told about."""

    def __init__(self, usually: Behaviour) -> None:
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._usually = usually
        self._once: list[Behaviour] = []
        self._always: Behaviour | None = None
        handler = type("BoundExchange", (Exchange,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def misbehave(self, *once: Behaviour, always: Behaviour | None = None) -> None:
        """Answers the next requests with `once`, in order, and all after them with `always`."""
        self._once, self._always = list(once), always

    def next_behaviour(self) -> Behaviour:
        if self._once:
            return self._once.pop(0)
        return self._always or self._usually

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def json_reply(
    document: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Behaviour:
    return raw_reply(json.dumps(document).encode(), status=status, headers=headers)


def raw_reply(
    body: bytes,
    *,
    status: int = 200,
    content_type: str | None = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Behaviour:
    return lambda to: to.reply(body, status=status, content_type=content_type, headers=headers)


def reply_and_stay(body: bytes) -> Behaviour:
    """A good answer on a connection that stays open for more."""

    def stay(to: Exchange) -> None:
        to.close_connection = False
        to.reply(body)

    return stay


def cut_off(body: bytes) -> Behaviour:
    """Announces the whole body, sends half of it and hangs up."""
    return lambda to: to.reply(body[: len(body) // 2], length=len(body))


def redirect(location: str, *, status: int = 302) -> Behaviour:
    return raw_reply(b"", status=status, headers={"Location": location})


def gzip_bomb(size: int, *, times: int = 1) -> Behaviour:
    """A small body that unpacks to `size` spaces, packed so many times over."""
    body = b" " * size
    for _ in range(times):
        body = gzip.compress(body, 9)
    return raw_reply(body, headers={"Content-Encoding": ", ".join(["gzip"] * times)})


def silence(to: Exchange) -> None:
    """Never sends the first byte."""
    to.owner.closing.wait()


def reset(to: Exchange) -> None:
    """Aborts the connection (RST) before any answer."""
    to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    to.connection.close()


def hang_up(to: Exchange) -> None:
    """Closes the connection before any answer."""


def drip_body(byte: bytes = b" ", *, every_s: float = 0.01) -> Behaviour:
    """Sends headers, then one byte at a time for ever."""

    def drip(to: Exchange) -> None:
        to.send_response(200)
        to.send_header("Content-Type", "application/json")
        to.end_headers()
        while not to.owner.closing.wait(every_s):
            to.wfile.write(byte)

    return drip


def drip_headers(to: Exchange) -> None:
    """Sends a header that never ends, one byte at a time."""
    to.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not to.owner.closing.wait(0.01):
        to.wfile.write(b"a")


def refused_url() -> str:
    """An address on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
