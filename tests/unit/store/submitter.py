"""A process that submits jobs from four threads and names each one once it is acknowledged."""

import os
import sys
import threading
from pathlib import Path

from adapters.store.sqlite import SqliteStore
from tests.unit.store.jobs import new


def submit_forever(store: SqliteStore, worker: int) -> None:
    number = 0
    while True:
        name = f"w{worker}-{number}"
        store.add_jobs([new(name)])
        os.write(1, f"{name}\n".encode())
        number += 1


def main() -> None:
    store = SqliteStore(Path(sys.argv[1]))
    for worker in range(4):
        threading.Thread(target=submit_forever, args=(store, worker)).start()


if __name__ == "__main__":
    main()
