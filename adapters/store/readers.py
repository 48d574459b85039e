"""Connections that read beside the writer: as many as there are reads at the same time."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapters.store.database_file import store_error
from scheduler.core.errors import StoreError

Row = tuple[Any, ...]


class ReaderPool:
    """Lends each read a connection of its own and keeps it for the next one.

    A connection a thread would do too, but web servers end and start threads for years, and the
    connections of ended threads would stay open.

    Args:
        open_connection: makes one more connection.
        path: the file, for messages.
    """

    def __init__(self, open_connection: Callable[[], sqlite3.Connection], *, path: Path) -> None:
        self._open = open_connection
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False

    def rows(self, sql: str, values: Sequence[str | int | None] = ()) -> list[Row]:
        """Every row of a query, of one consistent state of the store.

        Raises:
            StoreError: the store was closed, or its file cannot be read.
        """
        try:
            connection = self._borrow()
            try:
                return connection.execute(sql, values).fetchall()
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise store_error(self._path, error) from error

    def close(self) -> None:
        """Closes the idle connections; a lent one is closed when it comes back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _borrow(self) -> sqlite3.Connection:
        with self._lock:
            if self._is_closed:
                raise StoreError(f"{self._path} was closed", path=str(self._path))
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()
