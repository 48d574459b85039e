"""The whole service on two real Slurm clusters of different intensity."""

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api_world import api, job
from tests.integration.slurm_world import (
    cluster,
    constant,
    have_ended,
    wait_for_books,
    wait_for_jobs,
)
from tests.unit.cluster.real_slurm import require_slurm

pytestmark = [pytest.mark.external, pytest.mark.timeout(240)]


def test_jobs_go_to_the_cleaner_cluster_until_it_is_full_and_each_runs_once(tmp_path: Path) -> None:
    confs = {name: require_slurm(name) for name in ("east", "west")}
    prefix = f"gt-{uuid.uuid4().hex[:8]}-"
    settings: dict[str, Any] = {
        "intensity": constant(tmp_path),
        "planning": {"tick_every": 0.5},
        "clusters": [cluster(tmp_path, name, conf, prefix=prefix) for name, conf in confs.items()],
    }
    # Half an hour each, and no time to wait for one another: two find room where it is clean.
    spec = job(
        command=["sh", "-c", f"echo $GRIDTIDE_JOB_ID >> {tmp_path}/ran; sleep 2"],
        duration="30m",
        patience="10m",
        resources={"accelerators": "H100:1"},
    )
    with api(tmp_path, **settings) as (client, service):
        service.cycle.start()
        ids = [client.post("/v1/jobs", json=spec).raise_for_status().json()["id"] for _ in range(3)]
        ended = wait_for_jobs(
            lambda: [client.get(f"/v1/jobs/{one}").raise_for_status().json() for one in ids],
            have_ended,
            within_s=150,
        )
        entries = client.get("/v1/reports").raise_for_status().json()["entries"]
    assert {one["state"] for one in ended} == {"succeeded"}
    assert Counter(entry["runs"][0]["cluster"] for entry in entries) == {"west": 2, "east": 1}
    assert not any(entry["missed_deadline"] for entry in entries)
    assert sorted((tmp_path / "ran").read_text(encoding="utf-8").split()) == sorted(ids)
    # Slurm's own accounts know each job once, under the reference that the ledger has.
    books = wait_for_books(confs, prefix, count=3)
    booked = {name: {one.job_id for one in lines} for name, lines in books.items()}
    assert {name: len(jobs) for name, jobs in booked.items()} == {"west": 2, "east": 1}
    for entry in entries:
        run = entry["runs"][0]
        assert run["cluster_ref"] in booked[run["cluster"]]
