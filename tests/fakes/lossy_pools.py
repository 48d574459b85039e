"""Connections to a Redis within the process that lose requests or replies, as a network would."""

from collections.abc import Callable
from typing import Any

import fakeredis
import redis


class LossyPools:
    """Connections of which a test says what becomes of scripts.

    Args:
        server: kept by the test, so that stores can be opened on it again.

    `lose_replies` and `lose_requests` count how many are still to be lost; `answers` are given instead of the
    server's to commands that begin with their key.
    """

    def __init__(self, server: fakeredis.FakeServer) -> None:
        client = fakeredis.FakeRedis(server=server, decode_responses=True, protocol=2)
        self._pool = client.connection_pool
        self.lose_replies = 0
        self.lose_requests = 0
        self.is_dead = False
        self.answers: dict[str, Callable[[], Any]] = {}
        self.sent: list[str] = []
        self.looked_again = 0

    def pool(self) -> Any:
        return self

    def look_again(self) -> None:
        self.looked_again += 1

    def close(self) -> None:
        self._pool.disconnect()

    def get_connection(self) -> "_LossyConnection":
        if self.is_dead:
            raise redis.ConnectionError("connection refused")
        return _LossyConnection(self, self._pool.get_connection())

    def release(self, connection: "_LossyConnection") -> None:
        self._pool.release(connection.inner)


class _LossyConnection:
    def __init__(self, pools: LossyPools, inner: Any) -> None:
        self.inner = inner
        self._pools = pools
        self._words: tuple[Any, ...] = ()

    def send_command(self, *words: Any) -> None:
        self._words = words
        self._pools.sent.append(str(words[0]))
        if words[0] == "EVALSHA" and self._pools.lose_requests:
            self._pools.lose_requests -= 1
            raise redis.ConnectionError("connection reset while sending")
        if words[0] not in self._pools.answers:
            self.inner.send_command(*words)

    def read_response(self) -> Any:
        if self._words[0] in self._pools.answers:
            return self._pools.answers[self._words[0]]()
        reply = self.inner.read_response()
        if self._words[0] == "EVALSHA" and self._pools.lose_replies:
            self._pools.lose_replies -= 1
            raise redis.TimeoutError("no reply in time")
        return reply

    def disconnect(self) -> None:
        self.inner.disconnect()
