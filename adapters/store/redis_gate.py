"""Who is inside a store: closing lets nobody in any more, and waits for those who are."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scheduler.core.errors import StoreError


@dataclass(slots=True)
class Lane:
    """One caller at a time; its calls are counted, so that a server can tell one that comes twice."""

    number: int
    calls: int = 0


class Gate:
    """Gives each caller a lane of its own.

    Args:
        what: is closed some day, for the message.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._is_empty = threading.Condition(self._lock)
        self._free: list[Lane] = []
        self._made = 0
        self.closing = threading.Event()

    @contextmanager
    def enter(self) -> Iterator[Lane]:
        """A lane for the time of a call. Raises StoreError once the gate was closed."""
        with self._lock:
            if self.closing.is_set():
                raise StoreError(f"{self._what} was closed", server=self._what)
            if not self._free:
                self._free.append(Lane(self._made))
                self._made += 1
            lane = self._free.pop()
        lane.calls += 1
        try:
            yield lane
        finally:
            with self._lock:
                self._free.append(lane)
                self._is_empty.notify_all()

    def close(self) -> None:
        """Lets nobody in any more; returns once everybody has left."""
        with self._lock:
            self.closing.set()
            while len(self._free) < self._made:
                self._is_empty.wait()
