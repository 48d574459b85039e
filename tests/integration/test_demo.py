"""The demo, whole: its files, its promises, and its numbers recomputed from nothing but ledger and intensity."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LIMIT_S = 240


def _start_demo(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "scheduler.server.cli", "demo", "--output", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo whose service was killed twice while it ran."""
    folder = tmp_path_factory.mktemp("demo")
    process = _start_demo(folder)
    killer = threading.Thread(target=_kill_service, args=(process, folder, [4.0, 12.0]))
    killer.start()
    output, _ = process.communicate(timeout=LIMIT_S)
    killer.join()
    assert process.returncode == 0, output
    return folder


def _kill_service(demo: "subprocess.Popen[str]", folder: Path, after_s: list[float]) -> None:
    """kill -9 of the service, at each of these seconds after its first run began."""
    while demo.poll() is None and not list(folder.glob("state/*/runs/*")):
        threading.Event().wait(0.1)
    passed = 0.0
    for at in after_s:
        threading.Event().wait(at - passed)
        passed = at
        if demo.poll() is not None:
            return
        for child in psutil.Process(demo.pid).children():
            if "serve" in child.cmdline():
                os.kill(child.pid, signal.SIGKILL)


def _ledger(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    return document


def _hourly() -> dict[tuple[str, int], float]:
    text = files("configs").joinpath("intensity/demo_2021.csv").read_text(encoding="utf-8")
    return {
        (row["zone"], int(datetime.fromisoformat(row["time"]).timestamp()) // 3600): float(
            row["g_per_kwh"]
        )
        for row in csv.DictReader(text.splitlines())
    }


def _grams(part: dict[str, Any], hourly: dict[tuple[str, int], float]) -> float:
    """Second by second in hours: power x PUE x intensity, with no code of Gridtide."""
    begin = datetime.fromisoformat(part["start"]).timestamp()
    end = datetime.fromisoformat(part["end"]).timestamp()
    total, at = 0.0, begin
    while at < end:
        until = min(end, (at // 3600 + 1) * 3600)
        kwh = part["power_w"] * part["pue"] * (until - at) / 3_600_000
        total += kwh * hourly[part["zone"], int(at // 3600)]
        at = until
    return total


def test_no_deadline_is_missed_and_carbon_is_saved_although_the_service_was_killed(
    demo: Path,
) -> None:
    summary = _ledger(demo)["summary"]
    assert summary["jobs"] == 13
    assert summary["missed_deadlines"] == 0
    assert summary["refused"] == 1
    assert summary["saving_g"] > 0


def test_saving_equals_an_independent_recomputation(demo: Path) -> None:
    ledger, hourly = _ledger(demo), _hourly()
    emitted = sum(_grams(run, hourly) for entry in ledger["entries"] for run in entry["runs"])
    baseline = sum(_grams(entry["baseline"], hourly) for entry in ledger["entries"])
    assert ledger["summary"]["emissions_g"] == pytest.approx(emitted, rel=1e-6)
    assert ledger["summary"]["baseline_g"] == pytest.approx(baseline, rel=1e-6)
    assert ledger["summary"]["saving_g"] == pytest.approx(baseline - emitted, rel=1e-6)


def test_baseline_starts_at_submission_and_is_as_long_as_the_measured_runs(demo: Path) -> None:
    for entry in _ledger(demo)["entries"]:
        start = datetime.fromisoformat(entry["baseline"]["start"])
        assert start == datetime.fromisoformat(entry["submitted_at"])


def test_every_run_began_exactly_once(demo: Path) -> None:
    starts = [
        line
        for log in demo.glob("state/checkpoints/*/starts.log")
        for line in log.read_text(encoding="utf-8").splitlines()
    ]
    names = [tuple(line.split(" ")[:3]) for line in starts]
    runs = [
        (entry["job"], str(run["attempt"]), str(run["segment"]))
        for entry in _ledger(demo)["entries"]
        for run in entry["runs"]
    ]
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(runs)


def test_paused_job_resumed_from_its_checkpoint(demo: Path) -> None:
    (paused,) = [entry for entry in _ledger(demo)["entries"] if entry["name"] == "pretrain-small"]
    assert [run["segment"] for run in paused["runs"]] == [0, 1]
    out = [
        path.read_text(encoding="utf-8")
        for path in sorted(demo.glob("state/*/runs/pretrain-small-*/stdout.log"))
    ]
    last_step = out[0].split("ends at step ")[1].split(",")[0]
    assert f"segment 1: begins at step {last_step}," in out[1]


def test_store_holds_every_change_as_an_event(demo: Path) -> None:
    with sqlite3.connect(demo / "state/gridtide.db") as connection:
        kinds = {row[0] for row in connection.execute("SELECT DISTINCT kind FROM events")}
    connection.close()
    assert {
        "submitted",
        "planned",
        "dispatched",
        "running",
        "paused",
        "succeeded",
        "refused",
    } <= kinds


def test_report_needs_nothing_from_outside(demo: Path) -> None:
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert not [mark for mark in ("src=", "<link", "@import", "<script") if mark in page]
