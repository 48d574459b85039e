"""The demo: a real service, two regions, real training processes, a clock that runs fast."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scheduler.client import GridtideClient
from scheduler.core.errors import GridtideError, InfeasibleError
from scheduler.core.job import ENDED_STATES
from scheduler.core.planner.warm import warm_up
from scheduler.core.timegrid import parse_instant
from scheduler.core.units import SECONDS_PER_HOUR, format_duration

SPEED: Final = 2400.0
"""Seconds of the demo's time in one real second: an hour takes 1.5 s."""
ORIGIN: Final = "2021-04-09T17:00:00Z"
LIMIT_S: Final = 170.0
OVERHEAD_HOURS: Final = 0.6
"""What starting a process costs on the fast clock; part of each stated duration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoJob:
    """One job of the demo, in hours of the demo's clock."""

    name: str
    gpus: int
    hours: float
    patience_hours: float
    submit_at_hours: float = 0.0
    is_interruptible: bool = False
    start_by_hours: float | None = None


JOBS: Final = (
    DemoJob(name="tight-hotfix", gpus=4, hours=3, patience_hours=2),
    DemoJob(name="finetune-7b", gpus=8, hours=4, patience_hours=20),
    DemoJob(name="finetune-13b", gpus=8, hours=6, patience_hours=30),
    DemoJob(name="sweep-a", gpus=2, hours=3, patience_hours=16),
    DemoJob(name="sweep-b", gpus=2, hours=3, patience_hours=16),
    DemoJob(name="sweep-c", gpus=2, hours=3, patience_hours=16),
    DemoJob(name="sweep-d", gpus=2, hours=3, patience_hours=16),
    DemoJob(name="eval-nightly", gpus=4, hours=2, patience_hours=8),
    DemoJob(
        name="pretrain-small",
        gpus=8,
        hours=8,
        patience_hours=34,
        is_interruptible=True,
        start_by_hours=14,
    ),
    DemoJob(name="distill", gpus=4, hours=5, patience_hours=26),
    DemoJob(name="impossible", gpus=8, hours=9, patience_hours=-4),
    DemoJob(name="late-urgent", gpus=2, hours=2, patience_hours=2, submit_at_hours=6),
    DemoJob(name="late-embed", gpus=4, hours=3, patience_hours=18, submit_at_hours=7),
    DemoJob(name="late-ablation", gpus=2, hours=4, patience_hours=24, submit_at_hours=8),
)
PAUSED: Final = "pretrain-small"
"""Held by its user while it runs, and released three hours later: it resumes from its checkpoint."""


def main(output: Path) -> int:
    """Runs the demo; 0 where every deadline was met and carbon was saved."""
    console = Console(stderr=True)
    folder = output.resolve()
    _clear(folder)
    with console.status("compiling the planner (the first time only)"):
        warm_up()  # before the fast clock starts
    config, url = write_settings(folder)
    console.print(
        f"Two clusters, DE and Texas, hourly intensity of April 2021 replayed at {SPEED:.0f}x: one hour takes "
        f"{SECONDS_PER_HOUR / SPEED} s.\nThe jobs are real processes on this machine; each stands in for a "
        "job on A100s and is accounted as one."
    )
    with (
        DemoService(config, folder / "service.log", console) as service,
        GridtideClient(url) as client,
    ):
        service.wait_until_ready(client)
        refusals = run_jobs(client, service, console)
        ledger = client.report_json()
        (folder / "ledger.json").write_text(json.dumps(ledger, indent=1), encoding="utf-8")
        (folder / "report.html").write_text(client.report_text("html"), encoding="utf-8")
    _print_ledger(ledger, refusals)
    print(f"\nwrote {folder / 'report.html'} and {folder / 'ledger.json'}")  # noqa: T201 - the result
    summary = ledger["summary"]
    is_good = (
        summary["jobs"] == len(JOBS) - 1
        and not summary["missed_deadlines"]
        and summary["saving_g"] > 0
    )
    return 0 if is_good else 1


def _clear(folder: Path) -> None:
    """Removes what an earlier demo left, and nothing else."""
    for name in ("report.html", "ledger.json", "gridtide.yaml", "service.log"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "state", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def write_settings(
    folder: Path, zones: dict[str, list[dict[str, Any]]] | None = None
) -> tuple[Path, str]:
    """The settings file of the demo, and the address of its service.

    Args:
        folder: of the demo; what it keeps goes below it.
        zones: chains of sources for single zones, instead of the replayed trace.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "state").mkdir()
    trace = folder / "state" / "demo_2021.csv"
    trace.write_bytes(files("configs").joinpath("intensity/demo_2021.csv").read_bytes())
    settings = {
        "server": {"port": port},
        "store": {"path": "state/gridtide.db"},
        "planning": {"slot": "15m", "horizon": "5d", "tick_every": 0.2},
        "intensity": {"sources": [{"kind": "trace", "path": str(trace)}], "zones": zones or {}},
        "clock": {
            "origin_at": ORIGIN,
            "anchor_wall_s": time.time(),  # noqa: TID251 - the anchor of the fast clock is real time
            "speed": SPEED,
        },
        "clusters": [
            _cluster("frankfurt", "eu-de", "DE", pue=1.2, gpus=16),
            _cluster("austin", "us-tex", "US-TEX-ERCO", pue=1.3, gpus=16),
        ],
    }
    config = folder / "gridtide.yaml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return config, f"http://127.0.0.1:{port}"


def _cluster(name: str, region: str, zone: str, *, pue: float, gpus: int) -> dict[str, Any]:
    return {
        "id": name,
        "region": region,
        "zone": zone,
        "pue": pue,
        "capacity": {"A100": gpus},
        "root": f"state/{name}",
    }


class DemoService:
    """The service as a process of its own; started again should it die."""

    def __init__(self, config: Path, log: Path, console: Console) -> None:
        self._config = config
        self._log = log
        self._console = console
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "DemoService":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def keep_alive(self) -> None:
        """Starts the service again if it is gone: it takes up where it stopped."""
        if self._process is not None and self._process.poll() is not None:
            self._console.print(
                f"service ended with {self._process.returncode}; starting it again", style="yellow"
            )
            self._start()

    def wait_until_ready(self, client: GridtideClient) -> None:
        """Returns once it answers.

        Raises:
            GridtideError: it does not within 30 s; its log says why.
        """
        for _ in range(300):
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                client.health()
            except GridtideError:
                threading.Event().wait(0.1)
            else:
                return
        tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise GridtideError(f"the service did not start; see {self._log}\n{tail}")

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [
                    sys.executable,
                    "-m",
                    "scheduler.server.cli",
                    "serve",
                    "--config",
                    str(self._config),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )


def run_jobs(client: GridtideClient, service: DemoService, console: Console) -> list[str]:
    """The refusals. Submits every job at its hour and waits until all have ended."""
    began = time.monotonic()
    refusals: list[str] = []
    specs: dict[str, dict[str, Any]] = {}
    waiting = sorted(JOBS, key=lambda job: job.submit_at_hours)
    pause = _Pause()
    with _progress(console, len(JOBS) - 1) as show:
        while time.monotonic() - began < LIMIT_S:
            service.keep_alive()
            hours = (time.monotonic() - began) * SPEED / SECONDS_PER_HOUR
            try:
                while waiting and waiting[0].submit_at_hours <= hours:
                    job = waiting[0]
                    if job.name not in specs:
                        specs[job.name] = _spec(client, job)
                    # Where the answer was lost it is asked again, with the very same request.
                    refusal = _submit(client, specs[job.name])
                    waiting.pop(0)
                    if refusal:
                        refusals.append(f"{job.name}: {refusal}")
                jobs = client.list_jobs(limit=100)["jobs"]
                pause.step(client, jobs, hours)
            except GridtideError as error:
                if not error.retryable and error.code != "service_unreachable":
                    raise
                threading.Event().wait(0.2)
                continue
            show(jobs, hours)
            if not waiting and all(job["state"] in ENDED_STATES for job in jobs):
                return refusals
            threading.Event().wait(0.3)
    raise GridtideError(f"the demo did not end within {LIMIT_S:.0f} s; see service.log")


def _spec(client: GridtideClient, job: DemoJob) -> dict[str, Any]:
    """The job as it is submitted; its times count from the service's now."""
    script = str(files("configs").joinpath("demo/train.py"))
    stated_s = round((job.hours + OVERHEAD_HOURS) * SECONDS_PER_HOUR)
    seconds = job.hours * SECONDS_PER_HOUR / SPEED
    now = parse_instant(client.health()["now"])
    deadline = now + timedelta(seconds=stated_s + job.patience_hours * SECONDS_PER_HOUR)
    spec: dict[str, Any] = {
        "name": job.name,
        "command": [sys.executable, script, "--seconds", f"{seconds:.2f}"],
        "duration": format_duration(stated_s),
        "duration_p95": format_duration(stated_s + SECONDS_PER_HOUR),
        "deadline": deadline.isoformat(),
        "resources": {"accelerators": f"A100:{job.gpus}"},
    }
    if job.start_by_hours is not None:
        spec["start_by"] = (now + timedelta(hours=job.start_by_hours)).isoformat()
    if job.is_interruptible:
        # Its user will pause it: a plan with pauses of its own would leave no time for that.
        spec["interruptible"] = {
            "min_chunk": "1h",
            "checkpoint_cost": "30m",
            "max_interruptions": 0,
        }
    return spec


def _submit(client: GridtideClient, spec: dict[str, Any]) -> str | None:
    """Why the job was refused; None where it was accepted."""
    try:
        client.submit(spec, key=f"demo-{spec['name']}")
    except InfeasibleError as error:
        return error.message
    return None


class _Pause:
    """The user's hand in the demo: holds one running job, and releases it three hours later."""

    def __init__(self) -> None:
        self._seen_running_at: float | None = None
        self._held_at: float | None = None
        self._is_done = False

    def step(self, client: GridtideClient, jobs: list[dict[str, Any]], hours: float) -> None:
        """Does what is due at this hour of the demo."""
        job = next((one for one in jobs if one["name"] == PAUSED), None)
        if job is None or self._is_done:
            return
        if job["state"] == "running":
            self._seen_running_at = self._seen_running_at or hours
            if self._held_at is None and hours - self._seen_running_at >= 2:
                client.hold(job["id"])
                self._held_at = hours
        elif job["state"] == "held" and self._held_at is not None and hours - self._held_at >= 3:
            client.release(job["id"])
            self._is_done = True


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Any]:
    columns = (
        TextColumn("hour {task.fields[hour]:5.1f}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} ended"),
        TextColumn("{task.fields[states]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("demo", total=total, hour=0.0, states="")

        def show(jobs: list[dict[str, Any]], hours: float) -> None:
            counts = Counter(job["state"] for job in jobs)
            ended = sum(count for state, count in counts.items() if state in ENDED_STATES)
            states = " ".join(f"{count} {state}" for state, count in sorted(counts.items()))
            progress.update(task, completed=ended, hour=hours, states=states)

        yield show


def _print_ledger(ledger: dict[str, Any], refusals: list[str]) -> None:
    table = Table(title="Ledger (gCO2e; negative savings would be shown as such)")
    for name in (
        "job",
        "region",
        "started",
        "deadline",
        "planned",
        "emitted",
        "run at once",
        "saved",
    ):
        is_number = name in ("planned", "emitted", "run at once", "saved")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for entry in ledger["entries"]:
        region = entry["runs"][0]["region"] if entry["runs"] else "-"
        table.add_row(
            entry["name"],
            region + (f" ({len(entry['runs'])} segments)" if len(entry["runs"]) > 1 else ""),
            _short(entry["started_at"]),
            _short(entry["deadline"]) + (" MISSED" if entry["missed_deadline"] else ""),
            *(_figure(entry[key]) for key in ("planned_g", "emissions_g")),
            _figure(entry["baseline"]["emissions_g"]),
            _figure(entry["saving_g"]),
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    summary = ledger["summary"]
    share = summary["saving_g"] / summary["baseline_g"] if summary["baseline_g"] else 0.0
    console.print(
        f"{summary['jobs']} jobs, {summary['missed_deadlines']} missed deadlines, {summary['refused']} refused: "
        f"{summary['emissions_g'] / 1000:.1f} kg emitted, {summary['baseline_g'] / 1000:.1f} kg had they run at "
        f"once at home, saved {summary['saving_g'] / 1000:.1f} kg ({share:.1%})"
    )
    for refusal in refusals:
        console.print(f"refused {refusal}", soft_wrap=True)


def _short(text: str | None) -> str:
    return parse_instant(text).strftime("%a %d %H:%M") if text else "-"


def _figure(grams: float | None) -> str:
    return "unknown" if grams is None else f"{grams:,.0f}"
