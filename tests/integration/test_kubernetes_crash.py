"""Jobs on two simulated Kubernetes clusters while the service is killed, and the servers fail in every way they can."""

import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.api_world import job
from tests.integration.crash_run import CrashRun, fast_clock
from tests.integration.kubernetes_world import NAMES, jobs_of, kube_cluster
from tests.integration.slurm_world import ServiceProcess, constant
from tests.unit.cluster.kube_world import KubeBed, running_bed

# It needs no program; it is minutes long, and runs where the other crash run does.
pytestmark = [pytest.mark.external, pytest.mark.timeout(900)]
JOBS = 200


def disturbances(bed: KubeBed) -> list[tuple[int, Callable[[], object]]]:
    """What happens once so many jobs have run: replies lost, requests refused, history and tokens gone, servers restarted."""

    def lose_replies() -> None:
        for name in NAMES:
            bed.fault(name, afterServing=True, drop=True, count=6, match="(POST|PATCH) .*/jobs")

    def refuse() -> None:
        bed.fault("east", status=429, retryAfter=1, count=10)
        bed.fault("west", status=500, count=10)

    def forget() -> None:
        for name in NAMES:
            bed.fault(name, compact=True)
            bed.fault(name, closeWatches=True)

    return [
        (JOBS // 8, lose_replies),
        (JOBS // 4, refuse),
        (3 * JOBS // 8, lambda: bed.fault("west", revoke="gridtide")),
        (JOBS // 2, lambda: bed.run("restart", "east")),
        (5 * JOBS // 8, forget),
        (3 * JOBS // 4, lambda: bed.run("restart", "west")),
    ]


def test_each_job_runs_exactly_once_and_none_is_late(tmp_path: Path) -> None:
    bed, prefix = running_bed(), f"g{uuid.uuid4().hex[:8]}-"
    service = ServiceProcess(
        tmp_path,
        {
            "clock": fast_clock(10.0),
            "intensity": constant(tmp_path),
            "planning": {"tick_every": 0.2},
            "clusters": [kube_cluster(tmp_path, name, bed, prefix=prefix) for name in NAMES],
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
        for name in NAMES
    ]
    run = CrashRun(
        service=service,
        ran=ran,
        kill_after_s=(3.0, 6.0),
        most_s=600.0,
        disturbances=disturbances(bed),
    )
    became = run.survive(specs * (JOBS // len(specs)))
    for name in NAMES:
        bed.fault(name)
    print(f"seed {run.seed}, {became.kills} kills, {became.states}")
    assert became.states == {"succeeded": JOBS}, service.log[-2000:]
    assert became.kills >= 3
    assert became.left == 0
    assert (became.lost, became.doubled, became.late) == ([], [], [])
    # And by the clusters' own word: one Job for each.
    found = [one for name in NAMES for one in jobs_of(bed, name, prefix)]
    ids = Counter(one["metadata"]["labels"]["gridtide.dev/job-id"] for one in found)
    assert ids == dict.fromkeys(became.ids, 1)
