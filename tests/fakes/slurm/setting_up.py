"""Sets up a cluster for the fake commands: its folder, its configuration, and its programs."""

import json
import os
import pwd
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo")
PYTHON = os.path.realpath(sys.executable)  # the libraries of a virtual environment are not needed
CODE = Path(__file__).with_name("commands.py")
NODES = (
    {"name": "fake-c1", "partition": "cpu", "cpus": 8, "gpus": 0},
    {"name": "fake-g1", "partition": "gpu", "cpus": 8, "gpus": 2},
)


@dataclass(frozen=True)
class FakeSlurm:
    """A cluster in a folder. `conf` is what SLURM_CONF names, `programs` goes on PATH."""

    folder: Path

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    def configure(self, **settings: object) -> None:
        """Changes settings; `faults` maps a command to what goes wrong with it."""
        draft = self.conf.with_suffix(".tmp")
        draft.write_text(json.dumps(self.settings | settings))
        draft.replace(self.conf)

    @property
    def settings(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.conf.read_text())
        return read

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs there ever were, oldest first."""
        paths = sorted((self.folder / "jobs").glob("*.json"), key=lambda path: int(path.stem))
        return [json.loads(path.read_text()) for path in paths]

    def change(self, job_id: str, **fields: object) -> None:
        """Does to a job what an operator, a node or time would do."""
        path = self.folder / "jobs" / f"{job_id}.json"
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(json.loads(path.read_text()) | fields))
        draft.replace(path)

    def add(self, name: str, **fields: object) -> str:
        """Adds a job that no process stands behind; returns its id."""
        number = len(list((self.folder / "jobs").glob("*.json"))) + 1
        now_s = int(time.time())
        job = {
            "id": number, "name": name, "comment": f"gridtide:key={name}", "state": "RUNNING", "reason": "None",
            "partition": "cpu", "cpus": 0, "gpus": 0, "nodes": "fake-c1", "submit_s": now_s, "begin_s": 0,
            "start_s": now_s, "end_s": 0, "code": 0, "signal": 0, "pid": 0, "cancelled": False, "energy_j": "",
            "user": pwd.getpwuid(os.geteuid()).pw_name, "held": False, "restarts": 0, "runs": [], "may_requeue": True,
        }  # fmt: skip
        (self.folder / "jobs" / f"{number}.json").write_text(json.dumps(job | fields))
        return str(number)


def set_up(folder: Path) -> FakeSlurm:
    """The cluster in that folder, made where there is none."""
    slurm = FakeSlurm(folder)
    if slurm.conf.exists():
        return slurm
    (folder / "jobs").mkdir(parents=True)
    slurm.programs.mkdir()
    for name in COMMANDS:
        program = slurm.programs / name
        program.write_text(f'#!/bin/sh\nexec "{PYTHON}" -I -S "{CODE}" {name} "$@"\n')
        program.chmod(0o755)
    slurm.conf.write_text(
        json.dumps({"nodes": NODES, "min_job_age_s": 300, "has_accounts": True, "faults": {}})
    )
    return slurm
