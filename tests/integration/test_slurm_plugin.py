"""deploy/slurm/job_submit.lua in a real slurmctld, alone and beside a site's own plugin."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.guard import GUARD_BEFORE_S
from scheduler.core.timegrid import format_instant
from tests.integration.slurm_world import ServiceProcess, cluster, have_ended, trace, wait_for_jobs
from tests.unit.cluster.real_slurm import require_slurm
from tests.unit.cluster.runs import wait_until

pytestmark = [pytest.mark.external, pytest.mark.timeout(300)]
CODE = (Path(__file__).parents[2] / "deploy/slurm/job_submit.lua").read_text(encoding="utf-8")
UP = "GRIDTIDE_SLURM_LUA=deploy/slurm/job_submit.lua tests/testbeds/slurm up south"
SITE = """
local is_loaded, gridtide = pcall(dofile, "{file}")

function slurm_job_submit(job_desc, part_list, submit_uid)
    if job_desc.name == "forbidden" then
        slurm.log_user("not by this name")
        return slurm.ERROR
    end
    if is_loaded then
        gridtide.submit(job_desc)
    end
    return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
    return slurm.SUCCESS
end
"""


@dataclass
class Site:
    """A cluster whose controller runs a plugin, and its user."""

    conf: Path
    folder: Path
    refs: list[str] = field(default_factory=list)

    def install(self, code: str) -> None:
        """Has the controller run that code from the next submission on."""
        path = self.conf.with_name("job_submit.lua")
        # It loads a file whose time is later than that of its last load, to the second.
        at_s = max(path.stat().st_mtime + 2, time.time() + 2)
        draft = path.with_suffix(".new")
        draft.write_text(code, encoding="utf-8")
        os.utime(draft, (at_s, at_s))
        draft.replace(path)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            input="#!/bin/sh\ntrue\n",
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "SLURM_CONF": str(self.conf), "TZ": "UTC"},
        )

    def sbatch(self, comment: str, *options: str) -> tuple[str, str]:
        """The id of the new job, and what its user was told."""
        small = ("--parsable", "--mem=1", "--output=/dev/null", f"--comment={comment}")
        done = self.run("sbatch", *small, *options)
        assert done.returncode == 0, done.stderr
        self.refs.append(done.stdout.strip())
        return done.stdout.strip(), done.stderr.strip()

    def field(self, ref: str, name: str) -> str:
        wanted = ("--noheader", "--states=all", f"--jobs={ref}", f"--Format={name}:0")
        return self.run("squeue", *wanted).stdout.strip()

    def until(self, ref: str, name: str, value: str) -> None:
        wait_until(lambda: self.field(ref, name) == value, f"{name} of {ref} is {value}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    conf = require_slurm("south", made_by=UP)
    site = Site(conf, tmp_path)
    site.install(CODE)
    yield site
    site.install(CODE)
    if site.refs:
        site.run("scancel", *site.refs)


def later(hours: float = 2) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)


def asking(deadline_at: datetime, words: str = ",duration=1h") -> str:
    return f"gridtide:deadline={format_instant(deadline_at)}{words}"


def guard_of(deadline_at: datetime, minutes: float) -> str:
    start_at = deadline_at - timedelta(minutes=minutes, seconds=GUARD_BEFORE_S)
    return start_at.isoformat().removesuffix("+00:00")


def test_job_that_asks_waits_for_its_latest_safe_start(site: Site) -> None:
    deadline_at = later()
    ref, said = site.sbatch(asking(deadline_at))
    assert said == ""
    site.until(ref, "Reason", "BeginTime")
    assert site.field(ref, "StartTime") == guard_of(deadline_at, 60)
    assert site.field(ref, "State") == "PENDING"


def test_time_limit_is_the_duration_where_none_is_stated(site: Site) -> None:
    deadline_at = later()
    ref, _ = site.sbatch(asking(deadline_at, ""), "--time=20")
    assert site.field(ref, "EligibleTime") == guard_of(deadline_at, 20)


def test_malformed_words_are_told_and_the_job_runs_as_any_other(site: Site) -> None:
    ref, said = site.sbatch("gridtide:deadline=soon,duration=1h")
    assert said == (
        "sbatch: gridtide: not planned: deadline: 'soon' is not a time; write it like 2026-12-04T09:00:00Z"
    )
    site.until(ref, "State", "COMPLETED")


@pytest.mark.parametrize("comment", ["", "mine", "gridtide:key=abc"])
def test_other_jobs_are_untouched(site: Site, comment: str) -> None:
    ref, said = site.sbatch(comment)
    assert said == ""
    site.until(ref, "State", "COMPLETED")


def test_holds_and_starts_of_the_user_stay(site: Site) -> None:
    held, _ = site.sbatch(asking(later()), "--hold")
    assert site.field(held, "Reason") == "JobHeldUser"
    assert site.field(held, "EligibleTime") in ("N/A", "Unknown")
    chosen_at = later(1)
    chosen, _ = site.sbatch(asking(later()), f"--begin=uts{int(chosen_at.timestamp())}")
    assert site.field(chosen, "EligibleTime") == chosen_at.isoformat().removesuffix("+00:00")


def test_an_error_inside_stops_no_job(site: Site) -> None:
    broken = CODE.replace("gridtide.GUARD_BEFORE_S = 120", "gridtide.GUARD_BEFORE_S = nil")
    assert broken != CODE
    site.install(broken)
    log = site.conf.with_name("slurmctld.log")
    length = log.stat().st_size
    ref, said = site.sbatch(asking(later()))
    assert said == ""
    site.until(ref, "State", "COMPLETED")
    assert "gridtide: " in log.read_text(errors="replace")[length:]


def test_beside_a_plugin_of_the_site_both_are_heard(site: Site) -> None:
    beside = site.folder / "gridtide.lua"
    beside.write_text(CODE, encoding="utf-8")
    site.install(SITE.format(file=beside))
    refused = site.run("sbatch", "--job-name=forbidden")
    assert refused.returncode != 0
    assert "not by this name" in refused.stderr
    deadline_at = later()
    ref, _ = site.sbatch(asking(deadline_at))
    assert site.field(ref, "EligibleTime") == guard_of(deadline_at, 60)


@pytest.fixture
def service(tmp_path: Path, site: Site) -> Iterator[ServiceProcess]:
    """It has yet to be started. Dirty for a minute, then clean: a job that may wait does, but not until its guard."""
    grams = {"FR": [800.0, 800.0] + [50.0] * 60}
    service = ServiceProcess(
        tmp_path,
        {
            "intensity": trace(tmp_path, grams, step=timedelta(minutes=1), after_g=800.0),
            "planning": {"tick_every": 0.5, "slot": "1m", "horizon": "4h"},
            "clusters": [cluster(tmp_path, "south", site.conf, adopt="own")],
        },
    )
    yield service
    service.kill()


def test_job_with_its_guard_from_the_plugin_is_adopted_and_runs_as_planned(
    service: ServiceProcess, site: Site
) -> None:
    deadline_at = later(0.7)
    sent_at = datetime.now(UTC)
    ref, _ = site.sbatch(asking(deadline_at, ",duration=1m"), "--time=1", "--partition=cpu")
    assert site.field(ref, "EligibleTime") == guard_of(deadline_at, 1)
    service.start()
    service.wait_until_up()

    def found() -> list[dict[str, Any]]:
        jobs = service.get("/v1/jobs")["jobs"]
        return [one for one in jobs if one["native"]["ref"] == ref]

    (job,) = wait_for_jobs(found, lambda jobs: len(jobs) == 1 and have_ended(jobs), within_s=240)
    assert job["state"] == "succeeded"
    started_at = datetime.fromisoformat(job["started_at"])
    assert started_at > sent_at + timedelta(seconds=20), "not at once, where it was dirty"
    assert started_at < deadline_at - timedelta(minutes=20), "nor at its guard"
