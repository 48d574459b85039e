"""A process whose files may not grow: it submits a run in vain, and again once they may."""

import json
import resource
import sys
from pathlib import Path

from adapters.cluster.local import LocalCluster
from scheduler.core.errors import ClusterUnavailableError
from scheduler.ports import RunState
from tests.fakes.clock import ManualClock
from tests.unit.cluster.runs import Runs


def main() -> None:
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    cluster = LocalCluster("here", root=root, devices={"CPU": 1}, clock=ManualClock())
    runs = Runs(cluster, folder)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited[1]))
    message = None
    try:
        runs.start("echo x >> starts")
    except ClusterUnavailableError as error:
        message = error.message
    free, n_known = dict(cluster.free_devices()), len(cluster.poll(["job.1.0"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    runs.start("echo x >> starts")
    code = runs.until(RunState.ENDED).exit_code
    runs.finish()
    report = {"message": message, "free": free, "known": n_known, "code": code}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
