"""Watching a thousand running jobs on Slurm: commands per poll, and CPU of our own process per poll."""

import statistics
import tempfile
from pathlib import Path
from typing import Final

from scheduler.ports import RunState
from tests.benchmarks.measure import cpu_s, write
from tests.fakes.slurm.setting_up import set_up
from tests.unit.cluster.slurm_world import noting, open_cluster

N_JOBS: Final = 1000
ROUNDS: Final = 9


def run() -> None:
    """Writes build/bench/slurm.json."""
    with tempfile.TemporaryDirectory() as name:
        slurm = set_up(Path(name) / "slurm")
        runner = noting(slurm)
        cluster = open_cluster(Path(name), runner)
        names = [f"01hzx3v8k2m4n6p8q0r2s4t6v{number:03}.1.0" for number in range(N_JOBS)]
        for one in names:
            slurm.add(f"gt-{one}")
        known = cluster.poll(names)
        assert {status.state for status in known.values()} == {RunState.RUNNING}
        assert len(known) == N_JOBS
        runner.taken()
        seconds = [cpu_s(lambda: cluster.poll(names)) for _ in range(ROUNDS)]
    write(
        "slurm",
        {
            "commands_per_poll": len(runner.taken()) / ROUNDS,
            "cpu_ms_per_poll": statistics.median(seconds) * 1000,
        },
        {"jobs": N_JOBS, "rounds": ROUNDS, "slurm": "fake commands", "cpu": "without children"},
    )
