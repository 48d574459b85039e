"""Two hundred jobs on real clusters while the service is killed again and again and both controllers restart."""

import subprocess
import uuid
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.integration.api_world import job
from tests.integration.crash_run import CrashRun, fast_clock
from tests.integration.slurm_world import ServiceProcess, cluster, constant, wait_for_books
from tests.unit.cluster.real_slurm import TESTBED, require_slurm

pytestmark = [pytest.mark.external, pytest.mark.timeout(540)]
JOBS = 200


def test_each_of_200_jobs_runs_exactly_once_and_none_is_late(tmp_path: Path) -> None:
    confs = {name: require_slurm(name) for name in ("east", "west")}
    prefix = f"gt-{uuid.uuid4().hex[:8]}-"
    service = ServiceProcess(
        tmp_path,
        {
            "clock": fast_clock(10.0),
            "intensity": constant(tmp_path),
            "planning": {"tick_every": 0.5},
            "clusters": [
                cluster(tmp_path, name, conf, prefix=prefix) for name, conf in confs.items()
            ],
        },
    )
    ran = tmp_path / "ran"
    specs = [
        job(
            command=["sh", "-c", f"echo $GRIDTIDE_JOB_ID >> {ran}; sleep 1"],
            duration="1m",
            patience="1h",
            regions=[f"eu-{name}"],
        )
        for name in confs
    ]
    restarts = [partial(_restart_controller, name) for name in confs]
    run = CrashRun(
        service=service,
        ran=ran,
        kill_after_s=(3.0, 8.0),
        most_s=420.0,
        disturbances=list(zip((JOBS // 4, JOBS // 2), restarts, strict=True)),
    )
    became = run.survive(specs * (JOBS // len(specs)))
    print(f"seed {run.seed}, {became.kills} kills, {became.states}")
    assert became.states == {"succeeded": JOBS}, service.log[-2000:]
    assert became.kills >= 5
    assert became.left == 0
    assert (became.lost, became.doubled, became.late) == ([], [], [])
    # And by Slurm's own accounts.
    books = wait_for_books(confs, prefix, count=JOBS)
    runs = Counter(
        one.name.removeprefix(prefix).partition(".")[0]
        for lines in books.values()
        for one in lines
        if one.has_run and one.state == "COMPLETED"
    )
    assert runs == dict.fromkeys(became.ids, 1)


def _restart_controller(name: str) -> None:
    subprocess.run([TESTBED, "restart", name], check=True, capture_output=True)
