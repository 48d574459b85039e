"""While a server does not answer: nobody waits long for what the last one waited for in vain."""

import threading
import time
from collections.abc import Callable
from typing import Final

from scheduler.core.errors import StoreError

REST_S: Final = 1.0
"""After a call that waited in vain, calls fail at once for so long."""


class Outage:
    """What is known of a server's silence. Safe to use from any thread.

    Without it each of many requests would wait for all its attempts by itself, one after the other.

    Args:
        server: for the message.
        steady: clock in seconds that is never set.
    """

    def __init__(self, server: str, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._steady = steady
        self._lock = threading.Lock()
        self._since_s: float | None = None
        self._rests_until_s = 0.0

    def may_retry(self) -> bool:
        """Whether a call may be sent again, should it fail; not while the server is silent.

        Raises:
            StoreError: it was silent a moment ago; nothing is sent.
        """
        with self._lock:
            now_s = self._steady()
            if self._since_s is not None and now_s < self._rests_until_s:
                raise StoreError(
                    f"{self._server} has not answered for {now_s - self._since_s:.0f} s; nothing was written: it is asked "
                    "again in a moment",
                    server=self._server,
                )
            return self._since_s is None

    def note_silence(self, began_s: float, *, is_slow: bool) -> None:
        """A call got no answer.

        Args:
            began_s: when, by the steady clock.
            is_slow: it waited for one; a connection that is refused costs no time.
        """
        with self._lock:
            self._since_s = began_s if self._since_s is None else self._since_s
            if is_slow:
                self._rests_until_s = self._steady() + REST_S

    def note_answer(self) -> None:
        """The server is there."""
        self._since_s, self._rests_until_s = None, 0.0
