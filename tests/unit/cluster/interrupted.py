"""A process that submits runs and is killed in the middle of it, each time a little later."""

import os
import signal
import sys
import threading
from pathlib import Path

from adapters.cluster.local import LocalCluster
from tests.fakes.clock import ManualClock
from tests.unit.cluster.runs import Runs

N_RUNS = 24
LATER_S = 0.002


def main() -> None:
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    cluster = LocalCluster("here", root=root, devices={"CPU": 1}, clock=ManualClock())
    for number in range(N_RUNS):
        child = os.fork()
        if child == 0:
            Runs(cluster, folder).start(f"echo x >> starts-{number}", f"job{number}.1.0")
            os._exit(0)
        threading.Event().wait(number * LATER_S)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
