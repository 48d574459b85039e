"""A proxy on loopback that can lose requests or replies of scripts, or stand still."""

import contextlib
import socket
import threading
from typing import Self

_CHUNK = 65_536
_SCRIPT = b"EVALSHA"


class DroppingProxy:
    """Forwards connections to a port of this machine.

    `lose_replies` and `lose_requests` count how many scripts' replies or requests are still to be lost, each
    with its connection. While `is_dead`, new connections are closed at once.
    """

    def __init__(self, port: int) -> None:
        self.lose_replies = 0
        self.lose_requests = 0
        self.is_dead = False
        self._target = port
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join()

    def cut(self) -> None:
        """Ends every connection."""
        with self._lock:
            ended, self._open = self._open, []
        for one in ended:
            _end(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_dead:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._open += [client, server]
            loses_reply = threading.Event()
            for source, goal, is_request in ((client, server, True), (server, client, False)):
                thread = threading.Thread(
                    target=self._pump, args=(source, goal, is_request, loses_reply), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _pump(
        self,
        source: socket.socket,
        goal: socket.socket,
        is_request: bool,
        loses_reply: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if is_request and _SCRIPT in data:
                    if self._takes("lose_requests"):
                        break
                    if self._takes("lose_replies"):
                        loses_reply.set()
                elif not is_request and loses_reply.is_set():
                    break
                goal.sendall(data)
        for one in (source, goal):
            _end(one)

    def _takes(self, what: str) -> bool:
        with self._lock:
            left: int = getattr(self, what)
            if left > 0:
                setattr(self, what, left - 1)
            return left > 0


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
