"""A scripted API server on loopback: lists and watches as a test says, and every misbehaviour of `LoopbackServer`."""

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_config import KubeLoginError
from adapters.cluster.kube_link import KubeLink
from adapters.cluster.kube_login import KubeLogin
from adapters.http_client import Limits, Stop
from tests.fakes.loopback_http import Exchange, LoopbackServer

Document = dict[str, Any]
OPENED: list[KubeClient] = []
LIMITS = Limits(connect_s=2.0, read_s=2.0, total_s=4.0, max_body_bytes=20_000)


@dataclass
class ScriptedLogin:
    """Logs in with the tokens of a list, one after the other; the last one for ever."""

    server: str
    tokens: list[str] = field(default_factory=lambda: ["token-1"])
    expires_s: float | None = None
    reads: int = 0

    def read(self) -> KubeLogin:
        self.reads += 1
        if not self.tokens:
            raise KubeLoginError("/no/token cannot be read: No such file or directory")
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        return KubeLogin(server=self.server, token=token, expires_s=self.expires_s)


def client_to(
    server: LoopbackServer,
    *,
    login: ScriptedLogin | None = None,
    stop: Stop | None = None,
    waits: list[float] | None = None,
    limits: Limits = LIMITS,
    **link: Any,
) -> KubeClient:
    """A client that does not wait between tries, but notes how long it would have."""
    noted = waits if waits is not None else []
    source = login or ScriptedLogin(server.url)
    made = KubeClient(
        KubeLink(source, stop=stop, limits=limits, **link),
        wait=noted.append,
        chance=random.Random(1),
    )
    OPENED.append(made)
    return made


def close_all() -> None:
    """Closes what `client_to` has made."""
    while OPENED:
        OPENED.pop().link.close()


def status_reply(
    code: int,
    *,
    reason: str = "",
    message: str = "",
    headers: dict[str, str] | None = None,
    **details: Any,
) -> Callable[[Exchange], None]:
    body = {
        "kind": "Status",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }
    return lambda to: to.reply(json.dumps(body).encode(), status=code, headers=headers)


def pod(name: str, version: int = 1, **labels: str) -> Document:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "labels": {"batch.kubernetes.io/controller-uid": "job-1", **labels},
        },
        "status": {"phase": "Running"},
    }


def event(kind: str, document: Document) -> Document:
    return {"type": kind, "object": document}


def bookmark(version: int) -> Document:
    return event("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}})


def error_event(code: int, reason: str, **more: Any) -> Document:
    return event("ERROR", {"kind": "Status", "code": code, "reason": reason, **more})


@dataclass
class ScriptedLists:
    """Answers lists with `items`, and each watch with the next script; the last watch stays open and quiet.

    A script is a list of events, after which the stream ends in order; `None` in it cuts the connection instead.
    """

    items: list[Document]
    watches: list[list[Document | bytes | None]] = field(default_factory=list)
    version: int = 10
    watched_from: list[str] = field(default_factory=list)
    lists: int = 0
    is_quiet: threading.Event = field(default_factory=threading.Event)

    def __call__(self, to: Exchange) -> None:
        query = parse_qs(urlsplit(to.path).query)
        if "watch" in query:
            self.watched_from.append(query["resourceVersion"][0])
            self._stream(to, self.watches.pop(0) if self.watches else ...)
        else:
            self.lists += 1
            listing = {"metadata": {"resourceVersion": str(self.version)}, "items": self.items}
            to.reply(json.dumps(listing).encode())

    def _stream(self, to: Exchange, script: Any) -> None:
        to.send_response(200)
        to.send_header("Content-Type", "application/json")
        to.send_header("Transfer-Encoding", "chunked")
        to.send_header("Connection", "close")
        to.end_headers()
        for one in () if script is ... else script:
            if one is None:
                return
            line = one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n"
            to.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        if script is ...:
            to.wfile.flush()
            self.is_quiet.set()
            to.owner.closing.wait()
        to.wfile.write(b"0\r\n\r\n")
