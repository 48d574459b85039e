"""One thread that writes: whatever waits is written together and shares one commit."""

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from scheduler.core.errors import GridtideError, StoreError

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], object]
_Item = tuple[Write, "Future[object]"]
QUEUE_LIMIT: Final = 10_000
WAIT_S: Final = 60.0


class GroupWriter:
    """Runs writes in order, up to `max_batch` in a transaction; one that fails undoes only itself."""

    def __init__(self, connection: sqlite3.Connection, *, max_batch: int = 512) -> None:
        self._connection = connection
        self._max_batch = max_batch
        self._queue: queue.Queue[_Item | None] = queue.Queue(QUEUE_LIMIT)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()
        self.commits = 0
        self.writes = 0

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work` once it is durable.

        Raises:
            StoreError: closed, overloaded, or the commit failed: nothing was written.
        """
        if self._is_closed.is_set():
            raise StoreError("the store is closed")
        future: Future[T] = Future()
        try:
            self._queue.put((work, future), timeout=WAIT_S)  # type: ignore[arg-type]
        except queue.Full:
            raise StoreError("the store is overloaded; try again") from None
        return future.result()

    def close(self) -> None:
        """Finishes what waits and stops the thread."""
        if not self._is_closed.is_set():
            self._is_closed.set()
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            first = self._queue.get()
            batch: list[_Item] = []
            is_open = first is not None
            while first is not None:
                batch.append(first)
                if len(batch) >= self._max_batch:
                    break
                try:
                    first = self._queue.get_nowait()
                except queue.Empty:
                    break
                is_open = first is not None
            if batch:
                self._commit(batch)
        while True:  # writers that came in between the flag and the end
            try:
                left = self._queue.get_nowait()
            except queue.Empty:
                return
            if left is not None:
                left[1].set_exception(StoreError("the store is closed"))

    def _commit(self, batch: list[_Item]) -> None:
        done: list[tuple[Future[object], object, BaseException | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                done.append((future, *self._one(work, is_alone=len(batch) == 1)))
            self._connection.execute("COMMIT")
            self.commits += 1
            self.writes += len(batch)
        except sqlite3.Error as error:
            self._roll_back()
            failure = as_store_error(error)
            done = [(future, None, failure) for _, future in batch]
        for future, result, problem in done:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

    def _one(self, work: Write, *, is_alone: bool) -> tuple[object, BaseException | None]:
        """Result or error of one write; what it did is undone where it failed.

        An error that has ended the whole transaction (a full disk may) is raised.
        """
        if not is_alone:
            self._connection.execute("SAVEPOINT one")
        try:
            result = work(self._connection)
        except (GridtideError, sqlite3.Error) as error:
            if not self._connection.in_transaction:
                raise
            if is_alone:
                self._connection.execute("ROLLBACK")
                self._connection.execute("BEGIN IMMEDIATE")
            else:
                self._connection.execute("ROLLBACK TO one")
                self._connection.execute("RELEASE one")
            return None, as_store_error(error) if isinstance(error, sqlite3.Error) else error
        if not is_alone:
            self._connection.execute("RELEASE one")
        return result, None

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                return  # the failed statement has already rolled back


def as_store_error(error: sqlite3.Error) -> StoreError:
    """What SQLite's error means for the user."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return StoreError(
            f"the disk of the store is full or failing ({text}); nothing was written; free space and try again"
        )
    return StoreError(f"the store failed: {text}; nothing was written")
