"""The one thread that writes: what is waiting when it comes by shares one transaction and fsync."""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from adapters.store.database_file import store_error
from scheduler.core.errors import StoreError

_T = TypeVar("_T")
Write = Callable[[sqlite3.Connection], _T]

MAX_BATCH: Final = 512
MAX_WAITING: Final = 4096
GATHER_S: Final = 0.0005
"""Longest wait for a batch to become as large as the one before; about one fsync of a fast disk."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pending(Generic[_T]):
    """A write, and where its caller waits."""

    write: Write[_T]
    future: "Future[_T]"


@dataclass(frozen=True, slots=True)
class _Done:
    """What a write came to within its transaction: a value or an error."""

    value: object = None
    error: Exception | None = None


class GroupCommitWriter:
    """Runs writes one after the other, and commits as many at once as are waiting.

    A write that raises undoes only itself; a commit that fails, fails all that it held.

    Args:
        connection: in autocommit mode; the thread's alone until `close`.
        path: the file, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, *, path: Path) -> None:
        self.commits = 0
        self._connection = connection
        self._path = path
        self._waiting: deque[_Pending[Any]] = deque()
        self._is_closing = False
        self._wakes_at = 1
        self._n_last = 1
        lock = threading.Lock()
        self._has_work = threading.Condition(lock)
        self._has_room = threading.Condition(lock)
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Writes that no transaction has taken up yet."""
        return len(self._waiting)

    def submit(self, write: Write[_T]) -> "Future[_T]":
        """The future of a write: done once the write is durable, or has failed."""
        future: Future[_T] = Future()
        with self._has_room:
            while len(self._waiting) >= MAX_WAITING and not self._is_closing:
                self._has_room.wait()
            if self._is_closing:
                raise StoreError(f"{self._path} was closed", path=str(self._path))
            self._waiting.append(_Pending(write, future))
            if len(self._waiting) >= self._wakes_at:
                self._has_work.notify()
        return future

    def close(self) -> None:
        """Finishes what is waiting, and ends the thread."""
        with self._has_work:
            self._is_closing = True
            self._has_work.notify_all()
            self._has_room.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._take():
            self._run(batch)

    def _take(self) -> list[_Pending[Any]]:
        with self._has_work:
            while not self._waiting and not self._is_closing:
                self._has_work.wait()
            self._gather()
            n_taken = min(len(self._waiting), MAX_BATCH)
            batch = [self._waiting.popleft() for _ in range(n_taken)]
            self._n_last = n_taken
            self._has_room.notify_all()
        return batch

    def _gather(self) -> None:
        # The callers of the last batch were all let go at once: who writes again comes within
        # microseconds of the first one, and would otherwise wait for a whole fsync in between.
        if len(self._waiting) < self._n_last and not self._is_closing:
            self._wakes_at = self._n_last
            self._has_work.wait(GATHER_S)
            self._wakes_at = 1

    def _run(self, batch: Sequence[_Pending[Any]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._attempt(pending.write) for pending in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(batch, error)
            return
        self.commits += 1
        for pending, outcome in zip(batch, outcomes, strict=True):
            if outcome.error is None:
                pending.future.set_result(outcome.value)
            else:
                pending.future.set_exception(outcome.error)

    def _attempt(self, write: Write[object]) -> _Done:
        self._connection.execute("SAVEPOINT one")
        try:
            value = write(self._connection)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not self._connection.in_transaction:
                raise  # SQLite gave up the whole transaction, and the writes before this one too
            self._connection.execute("ROLLBACK TO one")
            outcome = _Done(error=self._as_ours(error))
        else:
            outcome = _Done(value)
        self._connection.execute("RELEASE one")
        return outcome

    def _give_up(self, batch: Sequence[_Pending[Any]], error: sqlite3.Error) -> None:
        # Also the writes that failed by themselves: they may have met rows that are gone now.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        for pending in batch:
            pending.future.set_exception(store_error(self._path, error))

    def _as_ours(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return error
        ours = store_error(self._path, error)
        ours.__cause__ = error
        return ours
