"""Starts shell scripts on a cluster, waits for what becomes of them, and leaves none behind."""

import shlex
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from scheduler.core.job import JobId
from scheduler.ports import ClusterAdapter, Dispatch, RunState, RunStatus

PATIENCE_S = 30.0
ENDS = {
    "good.1.0": ("exit 0", 0),
    "bad.1.0": ("exit 4", 4),
    "saved.1.0": ("exit 75", 75),
    "shot.1.0": ("kill -SEGV $$", -11),
    "killed.1.0": ("trap '' TERM; touch ready; while :; do sleep 0.01; done", -9),
}
"""Each way to end, with its exit code."""
GONE = (RunState.ENDED, RunState.LOST)


def wait_until(is_true: Callable[[], bool], what: str, *, within_s: float = PATIENCE_S) -> None:
    never = threading.Event()
    give_up_s = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < give_up_s, f"waited in vain until {what}"
        never.wait(0.01)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@dataclass
class Runs:
    """The runs that a test starts on one cluster; scripts begin in `folder`."""

    cluster: ClusterAdapter
    folder: Path
    names: list[str] = field(default_factory=list)
    strangers: set[psutil.Process] = field(default_factory=lambda: set(psutil.Process().children()))

    def dispatch(self, script: str, name: str = "job.1.0", **fields: object) -> Dispatch:
        known: dict[str, object] = {
            "name": name,
            "job_id": JobId(name.split(".", maxsplit=1)[0]),
            "command": ("/bin/sh", "-c", f"cd {shlex.quote(str(self.folder))}\n{script}"),
            "env": (),
            "workdir": None,
            "accelerator": "CPU",
            "gpus": 1,
            "num_nodes": 1,
            "checkpoint_key": name.split(".", maxsplit=1)[0],
        }
        return Dispatch(**(known | fields))  # type: ignore[arg-type]

    def start(self, script: str, name: str = "job.1.0", **fields: object) -> str:
        """Submits; returns the cluster's reference."""
        self.names.append(name)
        return self.cluster.submit(self.dispatch(script, name, **fields))

    def status(self, name: str = "job.1.0") -> RunStatus:
        return self.cluster.poll([name])[name]

    def until(self, *states: RunState, name: str = "job.1.0") -> RunStatus:
        wait_until(lambda: self.status(name).state in states, f"{name} is {' or '.join(states)}")
        return self.status(name)

    def until_file(self, name: str) -> None:
        wait_until((self.folder / name).exists, f"{name} is there")

    def end_in_every_way(self) -> Mapping[str, RunStatus]:
        """How the cluster tells each of `ENDS`, whose exit codes are as they should be."""
        for name, (script, _) in ENDS.items():
            self.start(script, name)
        self.until_file("ready")
        self.cluster.cancel("killed.1.0", grace_s=0)
        for name in ENDS:
            self.until(RunState.ENDED, name=name)
        told = self.cluster.poll(list(ENDS))
        expected = {name: code for name, (_, code) in ENDS.items()}
        assert {name: status.exit_code for name, status in told.items()} == expected
        return told

    def finish(self) -> None:
        """Ends whatever still runs."""
        for name in self.names:
            self.cluster.cancel(name, grace_s=0)
        for name in self.cluster.poll(self.names):
            self.until(*GONE, name=name)
        wait_until(self._is_reaped, "the adapter has reaped all processes that it started")

    def _is_reaped(self) -> bool:
        self.cluster.poll([])
        return set(psutil.Process().children()) <= self.strangers
