"""Services on the real Slurm clusters of the test bed, as threads of the test or as processes that can be killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

Document = dict[str, Any]
ENDED = ("succeeded", "failed", "missed", "cancelled")
ZONES = {"east": "DE", "west": "FR", "north": "DE", "south": "FR"}
GRAMS = {"DE": 400.0, "FR": 50.0}
_PATH = "/usr/bin:/bin:/usr/local/bin"


def trace(
    folder: Path,
    grams: dict[str, list[float]],
    *,
    step: timedelta,
    after_g: float | None = None,
) -> dict[str, Any]:
    """A source of intensity: values from now on, one a step; before them the first, after them the last or `after_g`."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    lines = []
    for zone, values in grams.items():
        padded = [values[0]] * 120 + values + [values[-1] if after_g is None else after_g] * 600
        lines += [
            f"{zone},{(now + (index - 120) * step).isoformat()},{value}"
            for index, value in enumerate(padded)
        ]
    path = folder / "intensity.csv"
    path.write_text("\n".join(["zone,time,g_per_kwh", *lines]) + "\n", encoding="utf-8")
    return {"sources": [{"kind": "trace", "path": str(path)}]}


def constant(folder: Path) -> dict[str, Any]:
    """Twenty-five days of the same intensity, dirty in the east and clean in the west."""
    return trace(folder, {zone: [value] for zone, value in GRAMS.items()}, step=timedelta(hours=1))


def cluster(folder: Path, name: str, conf: Path, **slurm: Any) -> dict[str, Any]:
    """Settings of one cluster of the test bed, with its CPUs and its GPUs."""
    return {
        "id": name,
        "kind": "slurm",
        "region": f"eu-{name}",
        "zone": ZONES[name],
        "capacity": {"CPU": 8, "H100": 2},
        "root": str(folder / "shared" / name),
        "slurm": {
            "conf": str(conf),
            "devices": {
                "CPU": {"partition": "cpu"},
                "H100": {"gres": "gpu:h100", "partition": "gpu"},
            },
            **slurm,
        },
    }


def wait_for_jobs(
    read: Callable[[], list[Document]], is_so: Callable[[list[Document]], bool], *, within_s: float
) -> list[Document]:
    """The jobs, once it is so."""
    until = time.monotonic() + within_s
    while True:
        jobs = read()
        if is_so(jobs):
            return jobs
        told = [(one["state"], one["reason"]) for one in jobs]
        assert time.monotonic() < until, told
        time.sleep(0.5)


def have_ended(jobs: list[Document]) -> bool:
    return all(one["state"] in ENDED for one in jobs)


@dataclass
class ServiceProcess:
    """`gridtide serve` as a process of its own; `programs` go first on its PATH."""

    folder: Path
    settings: dict[str, Any]
    programs: Path | None = None
    process: "subprocess.Popen[bytes] | None" = None
    starts: int = 0
    _port: int = field(default=0)

    def __post_init__(self) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self._port = one.getsockname()[1]
        self.config = self.folder / "gridtide.yaml"
        self.config.write_text(
            yaml.safe_dump({"server": {"port": self._port}, **self.settings}), encoding="utf-8"
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        words = [
            sys.executable,
            "-m",
            "scheduler.server.cli",
            "serve",
            "--config",
            str(self.config),
        ]
        path = os.pathsep.join(
            (*([str(self.programs)] if self.programs else []), os.environ["PATH"])
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                words, stdout=log, stderr=log, env={**os.environ, "PATH": path}
            )
        self.starts += 1

    def wait_until_up(self, within_s: float = 60) -> None:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            try:
                httpx.get(f"{self.url}/healthz", trust_env=False).raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError(self.log[-4000:])

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.url}{path}", trust_env=False, timeout=30)
        return answer.raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        answer = httpx.post(f"{self.url}{path}", json=body, trust_env=False, timeout=60)
        return answer.raise_for_status().json()


def run(conf: Path, *command: str, stdin: str | None = None) -> str:
    """What a command of Slurm prints."""
    done = subprocess.run(
        command,
        env={
            "SLURM_CONF": str(conf),
            "PATH": _PATH,
            "TZ": "UTC",
            "HOME": os.environ.get("HOME", "/"),
        },
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Booked:
    """A line of sacct."""

    job_id: str
    name: str
    state: str
    start: str
    end: str
    nodes: str

    @property
    def has_run(self) -> bool:
        return self.nodes not in ("", "None assigned")


def booked(conf: Path, prefix: str) -> list[Booked]:
    """Every run that the accounts of this cluster know of jobs whose names begin so."""
    fields = "JobID,JobName,State,Start,End,NodeList"
    shape = ("--allocations", "--duplicates", "--noheader", "--parsable2")
    window = ("--starttime=now-2hours", "--endtime=now+366days")
    text = run(
        conf, "sacct", f"--clusters={conf.parent.name}", *shape, *window, f"--format={fields}"
    )
    rows = [line.split("|", 5) for line in text.splitlines()]
    # Names of other tests' jobs may hold line breaks.
    lines = [Booked(*row) for row in rows if len(row) == 6]
    return [one for one in lines if one.name.startswith(prefix)]


def wait_for_books(confs: dict[str, Path], prefix: str, *, count: int) -> dict[str, list[Booked]]:
    """The accounts by cluster, once they have so many closed runs: they lag some seconds behind."""
    until = time.monotonic() + 60
    while True:
        books = {name: booked(conf, prefix) for name, conf in confs.items()}
        closed = [one for lines in books.values() for one in lines if one.end != "Unknown"]
        if len(closed) >= count or time.monotonic() > until:
            return books
        time.sleep(0.5)
