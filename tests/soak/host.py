"""Starts service processes in a moment, by forking one that has loaded everything; each line of the input names one.

`python -m tests.soak.host SIM_PORT RUN_S`, then lines `CONFIG LOG plans|answers`; each is answered by a process id.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path

from scheduler.core.fleet import Fleet
from scheduler.core.planner.warm import warm_up
from scheduler.ports import Clock, ClusterAdapter
from scheduler.server import serving, wiring
from scheduler.server.settings import ClusterSettings
from tests.soak.shared_cluster import ACCELERATOR, SharedCluster


def build_cluster(
    one: ClusterSettings,
    fleet: Fleet,
    clock: Clock,
    *,
    stop: object = None,
    port: int,
    run_s: float,
) -> ClusterAdapter:
    """What takes the place of the cluster that the settings name."""
    del stop
    devices = dict(fleet.get(one.id).capacity)[ACCELERATOR]
    return SharedCluster(one.id, port=port, clock=clock, devices=devices, run_s=run_s)


def serve(config: Path, log: Path, *, schedules: bool) -> None:
    """The service, in this process."""
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    serving.serve(config, schedules=schedules)


def main(port: int, run_s: float) -> None:
    warm_up()
    wiring._build_cluster = partial(build_cluster, port=port, run_s=run_s)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who was killed is gone at once
    for line in sys.stdin:
        config, log, kind = line.split()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            serve(Path(config), Path(log), schedules=kind == "plans")
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
