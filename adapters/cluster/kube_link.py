"""The connection to a Kubernetes API server: one login, read again when it expires or is refused."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from adapters.cluster.kube_config import KubeLoginError
from adapters.cluster.kube_login import KubeLogin, KubeTls, LoginSource
from adapters.cluster.kube_refusals import Answer, KubeSilentError
from adapters.http_client import Limits, Stop

KUBE_LIMITS: Final = Limits(read_s=20.0, total_s=45.0, max_body_bytes=64_000_000)
_UNSENT: Final = (
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout),
    *(httpx.InvalidURL, httpx.UnsupportedProtocol),
)
"""Failures before the first byte of a request was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One request.

    Args:
        read_s: how long silence is borne, and a connection waited for; None: as usual.
        is_once: it is not tried again.
    """

    method: str
    path: str
    params: Mapping[str, str] | None = None
    content: bytes | None = None
    content_type: str = "application/json"
    read_s: float | None = None
    is_once: bool = False


class KubeLink:
    """Sends requests, each once.

    Args:
        source: where the login comes from.
        stop: ends what is under way when the service stops.
        wall: wall clock in Unix seconds.
    """

    def __init__(
        self,
        source: LoginSource,
        *,
        limits: Limits = KUBE_LIMITS,
        stop: Stop | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - logins expire on wall time
    ) -> None:
        self.limits: Final = limits
        self.stop: Final = stop or Stop()
        self._source = source
        self._wall = wall
        self._lock = threading.Lock()
        self._login: KubeLogin | None = None
        self._tls: KubeTls | None = None
        self._http: httpx.Client | None = None
        self.requests = 0
        """How many were sent, for those who count."""
        self.ahead_s: float | None = None
        """How far the server's clock was ahead of ours at its last answer, whole seconds; None where it did not say."""

    @property
    def namespace(self) -> str | None:
        """The namespace that the login states. Raises KubeSilentError where nobody can log in."""
        return self._current()[0].namespace

    def forget_login(self) -> None:
        """The login was refused: the next request reads it again."""
        with self._lock:
            self._login = None

    def close(self) -> None:
        """Closes the connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()
            self._http = self._tls = self._login = None

    @contextlib.contextmanager
    def sent(self, wish: Wish) -> Iterator[httpx.Response]:
        """The answer as far as its headers.

        Raises:
            KubeSilentError: no connection, or one that breaks, also later within the context.
        """
        if self.stop.is_set:
            raise KubeSilentError("was given up: the service stops", was_sent=False)
        login, http = self._current()
        try:
            self.requests += 1
            reply = http.send(self._request(wish, login, http), stream=True)
            self.ahead_s = _ahead_s(reply, self._wall())
            with contextlib.closing(reply), self.stop.cutting(lambda: _cut(reply)):
                yield reply
        except _UNSENT as error:
            raise KubeSilentError(f"{login.server}: {_why(error)}", was_sent=False) from error
        except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as error:
            raise KubeSilentError(f"{login.server}: {_why(error)}", was_sent=True) from error

    def _request(self, wish: Wish, login: KubeLogin, http: httpx.Client) -> httpx.Request:
        headers = {} if wish.content is None else {"Content-Type": wish.content_type}
        if login.token is not None:
            headers["Authorization"] = f"Bearer {login.token}"
        name, limits = login.tls.server_name, self.limits
        read_s = wish.read_s or limits.read_s
        return http.build_request(
            wish.method,
            f"{login.server}{wish.path}",
            params=wish.params,
            content=wish.content,
            headers=headers,
            timeout=httpx.Timeout(read_s, connect=min(read_s, limits.connect_s)),
            extensions={"sni_hostname": name} if name else {},
        )

    def read(self, reply: httpx.Response) -> Answer:
        """The whole answer. Raises KubeSilentError where it is too long, or takes too long."""
        until_s, body = time.monotonic() + self.limits.total_s, bytearray()
        for part in reply.iter_bytes():
            body += part
            if len(body) > self.limits.max_body_bytes:
                why = f"answered with more than {self.limits.max_body_bytes} bytes"
                raise KubeSilentError(why, was_sent=True)
            if time.monotonic() > until_s:
                raise KubeSilentError(f"took longer than {self.limits.total_s:g} s", was_sent=True)
        headers = reply.headers
        return Answer(
            reply.status_code,
            bytes(body),
            retry_after=headers.get("retry-after", ""),
            warnings=tuple(headers.get_list("warning")),
        )

    def events(self, reply: httpx.Response) -> Iterator[dict[str, Any]]:
        """The events of a watch. Raises KubeSilentError for what is none."""
        rest = bytearray()
        for part in reply.iter_bytes():
            rest += part
            *lines, rest = rest.split(b"\n")
            if len(rest) > self.limits.max_body_bytes:
                raise KubeSilentError("an event of the watch has no end", was_sent=True)
            for line in lines:
                if line.strip():
                    yield _event(bytes(line))

    # ------------------------------------------------------------------ the login

    def _current(self) -> tuple[KubeLogin, httpx.Client]:
        with self._lock:
            login = self._login
            ends_s = None if login is None else login.expires_s
            if login is None or (ends_s is not None and self._wall() >= ends_s):
                login = self._renewed()
            if self._http is None or login.tls != self._tls:
                self._http, self._tls = self._connected(login), login.tls
            return login, self._http

    def _renewed(self) -> KubeLogin:
        """Callers hold the lock."""
        try:
            self._login = self._source.read()
        except KubeLoginError as error:
            self._login = None
            raise KubeSilentError(f"nobody can log in: {error}", was_sent=False) from error
        return self._login

    def _connected(self, login: KubeLogin) -> httpx.Client:
        """Callers hold the lock."""
        try:
            context = login.tls.context()
        except KubeLoginError as error:
            raise KubeSilentError(f"nobody can log in: {error}", was_sent=False) from error
        if self._http is not None:
            self._http.close()
        return httpx.Client(
            headers={"User-Agent": "gridtide", "Accept": "application/json"},
            transport=httpx.HTTPTransport(
                verify=context, trust_env=False, socket_options=_KEEP_ALIVE
            ),
            follow_redirects=False,
            trust_env=False,
        )


def _keep_alive() -> list[tuple[int, int, int]]:
    """A peer that vanished is noticed within a minute, although nothing is sent on a quiet watch."""
    wanted = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    known = [
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in wanted.items()
        if hasattr(socket, name)
    ]
    return [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        *known,
    ]


_KEEP_ALIVE: Final = _keep_alive()


def _ahead_s(reply: httpx.Response, wall_s: float) -> float | None:
    try:
        stated = parsedate_to_datetime(reply.headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return stated.timestamp() - int(wall_s)


def _cut(reply: httpx.Response) -> None:
    stream = reply.extensions.get("network_stream")
    raw = None if stream is None else stream.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            # Not its own method: on TLS that would drop the session under the reading thread.
            socket.socket.shutdown(raw, socket.SHUT_RDWR)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise KubeSilentError("an event of the watch is broken JSON", was_sent=True) from error
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise KubeSilentError("an event of the watch is no event", was_sent=True)
    return event


def _why(error: Exception) -> str:
    """Words for people: what TLS says tells more than the name of the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or cause}"
        cause = cause.__cause__ or cause.__context__
    return f"no answer ({type(error).__name__})"
