"""A user of a Slurm cluster, real or fake, who submits and steers jobs by hand."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from scheduler.core.job import JobId
from scheduler.ports import (
    AdoptingCluster,
    ClusterAdapter,
    Dispatch,
    NativeJob,
    RunState,
    RunStatus,
    native_name,
)
from tests.unit.cluster.runs import wait_until

ASK = "gridtide:deadline=2031-01-01T00:00:00Z,duration=1h"
SAVING = "trap 'exit 0' TERM; while :; do sleep 0.2 & wait $!; done"
"""A script that goes on until it is asked to leave."""


@dataclass
class User:
    """Runs commands in a folder; `before` stands before each, as to act as somebody else."""

    conf: Path
    folder: Path
    programs: Path | None = None
    before: tuple[str, ...] = ()
    refs: list[str] = field(default_factory=list)

    def run(self, *command: str, script: str = "") -> str:
        program, *rest = command
        path = str(self.programs / program) if self.programs else program
        env = {"PATH": os.environ["PATH"], "SLURM_CONF": str(self.conf), "TZ": "UTC"}
        done = subprocess.run(
            [*self.before, path, *rest],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=env,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def sbatch(self, *options: str, comment: str = ASK, script: str = SAVING) -> str:
        """The id of a new job, small enough to leave room for others."""
        small = ("--parsable", "--mem=1", "--output=/dev/null", f"--chdir={self.folder}")
        ref = self.run(
            "sbatch",
            *small,
            f"--comment={comment}",
            *options,
            script=f"#!/bin/bash\n{script}\n",
        )
        self.refs.append(ref)
        return ref

    def update(self, ref: str, *changes: str) -> None:
        self.run("scontrol", "update", f"JobId={ref}", *changes)

    def finish(self) -> None:
        if self.refs:
            self.run("scancel", *self.refs)


class Adopting(ClusterAdapter, AdoptingCluster, Protocol):
    """A cluster, and its users' own jobs."""


@dataclass
class Steered:
    """A cluster, as the service sees one native job on it."""

    cluster: Adopting
    ref: str

    @property
    def name(self) -> str:
        return native_name(self.ref)

    def native(self) -> NativeJob:
        return next(one for one in self.cluster.native_jobs() if one.ref == self.ref)

    @property
    def is_listed(self) -> bool:
        return any(one.ref == self.ref for one in self.cluster.native_jobs())

    def adopt(self, guard_at: datetime, job_id: str = "job") -> None:
        self.cluster.adopt(self.ref, job_id=job_id, guard_at=guard_at)

    def submit(self, job_id: str = "job") -> str:
        return self.cluster.submit(
            Dispatch(
                name=self.name,
                job_id=JobId(job_id),
                command=("native",),
                env=(),
                workdir=None,
                accelerator="CPU",
                gpus=1,
                num_nodes=1,
                checkpoint_key="job",
            )
        )

    def status(self) -> RunStatus:
        return self.cluster.poll([self.name])[self.name]

    def until(self, state: RunState, is_so: Callable[[RunStatus], bool] | None = None) -> RunStatus:
        def is_there() -> bool:
            status = self.status()
            return status.state is state and (is_so is None or is_so(status))

        wait_until(is_there, f"{self.name} is {state}")
        return self.status()

    def require_pause(self, ready: Path, guard_at: datetime) -> None:
        """It runs, saves its work when it is asked to, waits until its guard, and goes on."""
        self.adopt(guard_at)
        self.submit()
        wait_until(ready.exists, "the script listens")
        self.cluster.pause(self.name, grace_s=600)
        frozen = self.until(RunState.FROZEN)
        assert len(frozen.spans) == 1
        native = self.native()
        assert (native.starts_at, native.guard_at) == (guard_at, guard_at)
        self.cluster.resume(self.name)
        self.until(RunState.RUNNING)
