"""Slurm: commands and CPU of our own process per poll of a thousand running jobs; jobs lost, doubled and late under kill -9."""

import statistics
import tempfile
import uuid
from pathlib import Path
from typing import Final

from scheduler.ports import RunState
from tests.benchmarks.measure import cpu_s, write
from tests.fakes.slurm.setting_up import set_up
from tests.fakes.slurm.setting_up_rest import TOKEN, USER, running_rest
from tests.integration.api_world import job
from tests.integration.crash_run import CrashRun, fast_clock
from tests.integration.slurm_world import ServiceProcess, cluster, constant
from tests.unit.cluster.real_slurm import find_slurm
from tests.unit.cluster.rest_world import RestPlace, open_rest
from tests.unit.cluster.slurm_world import noting, open_cluster

N_JOBS: Final = 1000
ROUNDS: Final = 9
CRASH_JOBS: Final = 60
CRASH_S: Final = 300.0


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
    crashes, crashed = _crashes()
    write(
        "slurm",
        {
            "commands_per_poll": len(runner.taken()) / ROUNDS,
            "cpu_ms_per_poll": statistics.median(seconds) * 1000,
            **_by_rest(),
            **crashes,
        },
        {
            "jobs": N_JOBS,
            "rounds": ROUNDS,
            "slurm": "fake commands",
            "cpu": "without children",
            **crashed,
        },
    )


def _by_rest() -> dict[str, float]:
    """The same through slurmrestd."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_rest(Path(name) / "slurm", "new") as rest,
    ):
        cluster = open_rest(Path(name), RestPlace(rest.url, USER, TOKEN, "fake"))
        names = [f"01hzx3v8k2m4n6p8q0r2s4t6v{number:03}.1.0" for number in range(N_JOBS)]
        for one in names:
            rest.slurm.add(f"gt-{one}", user=USER)
        known = cluster.poll(names)
        assert len(known) == N_JOBS
        rest.taken()
        seconds = [cpu_s(lambda: cluster.poll(names)) for _ in range(ROUNDS)]
        return {
            "rest_requests_per_poll": len(rest.taken()) / ROUNDS,
            "rest_cpu_ms_per_poll": statistics.median(seconds) * 1000,
        }


def _crashes() -> tuple[dict[str, float], dict[str, str | float]]:
    """Jobs that a service killed again and again lost, doubled, or brought to their end too late; on what."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        conf, programs = find_slurm("east"), None
        if conf is None:
            slurm = set_up(folder / "slurm")
            conf, programs = slurm.conf, slurm.programs
        prefix = f"gt-{uuid.uuid4().hex[:8]}-"
        settings = {
            "clock": fast_clock(10.0),
            "intensity": constant(folder),
            "planning": {"tick_every": 0.5},
            "clusters": [cluster(folder, "east", conf, prefix=prefix)],
        }
        ran = folder / "ran"
        spec = job(
            command=["sh", "-c", f"echo $GRIDTIDE_JOB_ID >> {ran}; sleep 1"],
            duration="1m",
            patience="1h",
        )
        run = CrashRun(
            service=ServiceProcess(folder, settings, programs),
            ran=ran,
            kill_after_s=(3.0, 6.0),
            most_s=CRASH_S,
        )
        became = run.survive([spec] * CRASH_JOBS)
    counts = {"lost": became.lost, "doubled": became.doubled, "late": became.late}
    how = {"crash_jobs": CRASH_JOBS, "crash_kills": became.kills, "crash_seed": run.seed}
    where = {"crash_slurm": "fake commands" if programs else "real, east of the test bed"}
    return {key: float(len(ids)) for key, ids in counts.items()}, {**how, **where}
