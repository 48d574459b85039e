"""A process whose files may grow by 200 kB only; it reports what its store said, and kept."""

import json
import resource
import sys
from pathlib import Path

from adapters.store.sqlite import SqliteStore
from scheduler.core.errors import StoreError
from tests.unit.store.jobs import new


def main() -> None:
    path = Path(sys.argv[1])
    store = SqliteStore(path)
    store.add_jobs([new("first")])
    wal_bytes = path.with_name(path.name + "-wal").stat().st_size
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal_bytes + 200_000, unlimited[1]))
    acknowledged, message = ["first"], None
    for number in range(100):
        batch = [new(f"b{number}-{part}", padding=10_000) for part in range(3)]
        try:
            store.add_jobs(batch)
        except StoreError as error:
            message = error.message
            break
        acknowledged += [one.record.job.job_id for one in batch]
    readable = len(store.list_jobs(limit=1000)[0])
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    store.add_jobs([new("later", padding=10_000)])
    store.close()
    report = {"acknowledged": [*acknowledged, "later"], "message": message, "readable": readable}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
