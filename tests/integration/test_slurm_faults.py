"""Troubles of a Slurm cluster, seen by the whole service: each is told, loses nothing, and passes."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.server.wiring import Service
from tests.fakes.slurm.setting_up import COMMANDS, FakeSlurm
from tests.integration.api_world import api
from tests.integration.slurm_hand import (
    fake_slurm,
    show,
    slurm_settings,
    submit,
    tick_until,
)
from tests.integration.slurm_world import ENDED
from tests.unit.cluster.runs import lines, wait_until

SILENT = "its cluster does not answer: "
FULL = "its cluster has no room for it: "
WAITING = ("planned", "queued")
MANY_TICKS = 20


@dataclass(frozen=True)
class Fault:
    """A trouble that keeps jobs waiting.

    Args:
        begin: brings it about; the folder is that of the world.
        end: takes it away again.
        says: on the job that waits, and in `doctor`.
    """

    begin: Callable[[FakeSlurm, Path], object]
    end: Callable[[FakeSlurm, Path], object]
    on_job: str
    in_doctor: str


def all_but_sacct(fault: str) -> dict[str, str]:
    return dict.fromkeys((one for one in COMMANDS if one != "sacct"), fault)


def of_commands(faults: dict[str, str], *, on_job: str, in_doctor: str) -> Fault:
    return Fault(
        begin=lambda slurm, _: slurm.configure(faults=faults),
        end=lambda slurm, _: slurm.configure(faults={}),
        on_job=on_job,
        in_doctor=in_doctor,
    )


def of_nodes(nodes: list[dict[str, Any]], *, on_job: str, in_doctor: str) -> Fault:
    """What the settings ask for is not there, until the site has it."""
    kept: list[Any] = []

    def begin(slurm: FakeSlurm, _: Path) -> None:
        kept[:] = slurm.settings["nodes"]
        slurm.configure(nodes=nodes)

    return Fault(begin, lambda slurm, _: slurm.configure(nodes=kept), on_job, in_doctor)


CPU_NODE = {"name": "fake-c1", "partition": "cpu", "cpus": 8, "gpus": 0}
FAULTS = {
    "slurmctld down": of_commands(
        all_but_sacct("down"),
        on_job=SILENT + "hpc: .* failed: .*Unable to contact slurm controller",
        in_doctor="controller does not answer scontrol ping: .* is DOWN .*clocks differ",
    ),
    "munge down": of_commands(
        dict.fromkeys(COMMANDS, "munge"),
        on_job=SILENT + "hpc: .*Munge encode failed.*is munged running on this machine",
        in_doctor="Munge encode failed.*is munged running on this machine",
    ),
    "clocks apart": of_commands(
        all_but_sacct("skew"),
        on_job=SILENT + "hpc: .*Zero Bytes.*clocks differ by 5 minutes or more",
        in_doctor="is DOWN .*clocks differ by 5 minutes or more",
    ),
    "disk cannot be used": Fault(
        begin=lambda _, folder: spoil(folder / "shared" / "runs"),
        end=lambda _, folder: mend(folder / "shared" / "runs"),
        on_job=SILENT + "hpc: .*/runs.* cannot be used: Not a directory",
        in_doctor="/runs cannot be written to: Not a directory; no job can start",
    ),
    "partition missing": of_nodes(
        [CPU_NODE],
        on_job=FULL + "hpc has no H100; `gridtide doctor` may tell why",
        in_doctor="no partition gpu; there are: cpu",
    ),
    "gres missing": of_nodes(
        [CPU_NODE, {"name": "fake-g1", "partition": "gpu", "cpus": 8, "gpus": 0}],
        on_job=FULL + "hpc has no H100",
        in_doctor="no node has H100 as gpu:h100 in gpu; see slurm.devices",
    ),
    "nodes down": of_nodes(
        [CPU_NODE, {"name": "fake-g1", "partition": "gpu", "cpus": 8, "gpus": 2, "state": "DOWN"}],
        on_job=FULL + "1 H100 needed, 0 free on hpc",
        in_doctor=r"every node with H100 is out of service; .*out of service: fake-g1 \(DOWN\)",
    ),
}


def spoil(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder", encoding="utf-8")


def mend(folder: Path) -> None:
    folder.unlink()
    folder.with_name("away").rename(folder)


@dataclass
class World:
    folder: Path
    slurm: FakeSlurm
    client: httpx.Client
    service: Service

    def submit(self, script: str = "", **fields: Any) -> str:
        """A job that notes each of its starts."""
        begun = f"echo x >> {shlex.quote(str(self.folder / 'starts'))}\n"
        return submit(self.client, **{"command": ["sh", "-c", begun + script]} | fields)

    def show(self, job_id: str) -> dict[str, Any]:
        return show(self.client, job_id)

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.service.cycle.tick()

    def until_ended(self, job_id: str) -> dict[str, Any]:
        tick_until(self.service, lambda: self.show(job_id)["state"] in ENDED, f"{job_id} has ended")
        return self.show(job_id)

    def events(self, job_id: str) -> list[str]:
        return [event.kind for event in self.service.store.events(job_id=job_id)]

    @property
    def starts(self) -> int:
        return len(lines(self.folder / "starts"))

    def failing(self) -> str:
        """What `doctor` finds wrong with the cluster."""
        checks = [one for one in self.service.checks() if one.subject == "cluster hpc"]
        assert checks
        return "\n".join(one.detail for one in checks if not one.is_ok)


@contextmanager
def world_in(folder: Path, slurm: FakeSlurm, **terms: Any) -> Iterator[World]:
    with api(folder, **slurm_settings(folder, slurm.conf, **terms)) as (client, service):
        yield World(folder, slurm, client, service)
        assert service.cycle.report.failures == 0, service.cycle.report.last_error


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, fake_slurm(tmp_path, monkeypatch)) as made:
        yield made


def check_waiting(world: World, fault: Fault) -> None:
    """A job waits with the reason, quietly, and runs once when the fault is over."""
    fault.begin(world.slurm, world.folder)
    waiting = world.submit(resources={"accelerators": "H100:1"})
    tick_until(
        world.service,
        lambda: "its cluster" in str(world.show(waiting)["reason"]),
        "it is said what the job waits for",
    )
    assert_says(world.failing(), fault.in_doctor)
    known = len(world.events(waiting))
    world.tick(MANY_TICKS)
    later = world.show(waiting)
    assert later["state"] in WAITING
    assert_says(later["reason"], fault.on_job)
    assert len(world.events(waiting)) <= known + 8, world.events(waiting)
    fault.end(world.slurm, world.folder)
    ended = world.until_ended(waiting)
    assert (ended["state"], ended["reason"], world.starts) == ("succeeded", None, 1)
    assert world.failing() == ""


def assert_says(text: str, pattern: str) -> None:
    assert re.search(pattern, text, re.DOTALL), text


@pytest.mark.parametrize("name", FAULTS)
def test_job_waits_with_the_reason_and_runs_once_when_the_fault_is_over(
    world: World, name: str
) -> None:
    check_waiting(world, FAULTS[name])


# ------------------------------------------------------------------- while a job is on the cluster

OUTAGES = ("slurmctld down", "munge down", "clocks apart")


@pytest.mark.parametrize("name", OUTAGES)
def test_run_that_ends_in_an_outage_is_known_afterwards(world: World, name: str) -> None:
    fault, gate = FAULTS[name], world.folder / "go"
    going = world.submit(f"while [ ! -e {shlex.quote(str(gate))} ]; do sleep 0.01; done; exit 3")
    tick_until(world.service, lambda: world.show(going)["state"] == "running", "it runs")
    assert world.show(going)["reason"] is None
    fault.begin(world.slurm, world.folder)
    world.tick(MANY_TICKS)
    silent = world.show(going)
    assert silent["state"] == "running"
    assert_says(silent["reason"], SILENT)
    assert world.events(going).count("kept_waiting") == 1
    gate.touch()
    wait_until(lambda: world.slurm.jobs()[0]["state"] == "FAILED", "it has ended")
    world.tick()
    assert world.show(going)["state"] == "running"  # nobody can say otherwise
    fault.end(world.slurm, world.folder)
    ended = world.until_ended(going)
    assert (ended["state"], ended["reason"], world.starts) == ("failed", "exit code 3", 1)


def test_run_goes_on_after_an_outage_without_a_reason_left(world: World) -> None:
    gate = world.folder / "go"
    going = world.submit(f"while [ ! -e {shlex.quote(str(gate))} ]; do sleep 0.01; done")
    tick_until(world.service, lambda: world.show(going)["state"] == "running", "it runs")
    world.slurm.configure(faults=all_but_sacct("down"))
    world.tick()
    world.slurm.configure(faults={})
    tick_until(world.service, lambda: world.show(going)["reason"] is None, "it is heard of again")
    assert "cluster_heard" in world.events(going)
    gate.touch()
    assert world.until_ended(going)["state"] == "succeeded"


def test_submission_whose_reply_is_lost_in_an_outage_runs_once(world: World) -> None:
    world.slurm.configure(faults={"sbatch": "reply lost"})
    made = world.submit()
    tick_until(world.service, lambda: world.slurm.jobs() != [], "sbatch has been run")
    world.slurm.configure(faults=all_but_sacct("down"))
    world.tick(MANY_TICKS)
    assert world.show(made)["state"] == "uncertain"
    assert_says(world.show(made)["reason"], SILENT)
    world.slurm.configure(faults={})
    assert world.until_ended(made)["state"] == "succeeded"
    assert (world.starts, len(world.slurm.jobs())) == (1, 1)


# ------------------------------------------------------------------------------------- accounts


def test_jobs_start_and_end_while_slurmdbd_is_down(world: World) -> None:
    world.slurm.configure(faults={"sacct": "refused"})
    assert world.until_ended(world.submit())["state"] == "succeeded"
    assert_says(
        world.failing(), "accounts .sacct. do not answer: .*Connection refused.* 300 s only"
    )


@pytest.mark.parametrize("is_installed", [True, False])
def test_end_that_only_the_accounts_know_is_waited_for(world: World, is_installed: bool) -> None:
    sacct, gate = world.slurm.programs / "sacct", world.folder / "go"
    going = world.submit(f"while [ ! -e {shlex.quote(str(gate))} ]; do sleep 0.01; done")
    tick_until(world.service, lambda: world.show(going)["state"] == "running", "it runs")
    program = sacct.read_text(encoding="utf-8")
    if is_installed:
        world.slurm.configure(faults={"sacct": "refused"}, min_job_age_s=-1)
    else:
        world.slurm.configure(min_job_age_s=-1)
        sacct.write_text("", encoding="utf-8")
        sacct.chmod(0o644)
    gate.touch()
    wait_until(lambda: world.slurm.jobs()[0]["state"] == "COMPLETED", "it has ended")
    world.tick(MANY_TICKS)
    silent = world.show(going)
    assert silent["state"] == "running"
    assert_says(silent["reason"], SILENT + "the queue no longer has it, and the accounts")
    assert_says(world.failing(), "accounts .sacct. do not answer|sacct cannot be run")
    world.slurm.configure(faults={})
    sacct.write_text(program, encoding="utf-8")
    sacct.chmod(0o755)
    assert world.until_ended(going)["state"] == "succeeded"
    assert world.starts == 1


def test_submission_that_may_have_been_lost_waits_for_the_accounts(world: World) -> None:
    """The queue has no job of that name: whether one ran and was forgotten, only the accounts know."""
    world.slurm.configure(faults={"sbatch": "lost", "sacct": "refused"})
    made = world.submit()
    tick_until(world.service, lambda: world.show(made)["state"] == "uncertain", "it is in doubt")
    world.tick(MANY_TICKS)
    assert world.show(made)["state"] == "uncertain"
    assert_says(world.show(made)["reason"], SILENT + ".*accounts")
    world.slurm.configure(faults={})
    # It never arrived, so it is planned again: now, for the user asked for that.
    tick_until(world.service, lambda: world.show(made)["state"] in WAITING, "it is planned again")
    world.client.post(f"/v1/jobs/{made}/run-now").raise_for_status()
    assert world.until_ended(made)["state"] == "succeeded"
    assert world.starts == 1


def test_site_without_accounts_is_well_and_says_what_that_means(world: World) -> None:
    world.slurm.configure(has_accounts=False)
    assert world.until_ended(world.submit())["state"] == "succeeded"
    assert world.failing() == ""
    details = [one.detail for one in world.service.checks()]
    assert any("no accounts are kept: an end is known for 300 s only" in one for one in details)


# --------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("skew_s", [420, -420])
def test_run_on_a_cluster_whose_clock_is_off_is_accounted_by_its_length(
    world: World, skew_s: int
) -> None:
    world.slurm.configure(skew_s=skew_s)
    assert_says(
        world.failing(), f"its clock is 4(19|20|21) s {'ahead of' if skew_s > 0 else 'behind'}"
    )
    made = world.submit("sleep 1")
    ended = world.until_ended(made)
    assert ended["state"] == "succeeded"
    (entry,) = world.client.get("/v1/reports").raise_for_status().json()["entries"]
    began_at, ended_at = (
        datetime.fromisoformat(entry[name]) for name in ("started_at", "ended_at")
    )
    assert 1 <= (ended_at - began_at).total_seconds() <= 30
    assert entry["energy_kwh"] > 0
    assert entry["emissions_g"] > 0
    world.slurm.configure(skew_s=0)
    assert world.failing() == ""


# --------------------------------------------------------------------------- refused for good


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"slurm": {"partition": "no 'such' partition"}},
            "Slurm refuses it: .*Invalid partition name",
        ),
        ({"resources": {"accelerators": "H100:2", "num_nodes": 2}}, "only 1 nodes have 1"),
    ],
)
def test_job_that_can_never_run_there_fails_at_once_in_slurms_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], says: str
) -> None:
    slurm = fake_slurm(tmp_path, monkeypatch)
    with world_in(tmp_path, slurm, allow=["partition"]) as world:
        ended = world.until_ended(world.submit(**fields))
    assert ended["state"] == "failed"
    assert_says(ended["reason"], says)
    assert (world.starts, slurm.jobs()) == (0, [])


# -------------------------------------------------------------------------------- odd texts

ODD_FOLDER = "a 'b' \"c\"\n$(touch hacked) `touch hacked`; %x %j"
ODD_WORDS = [
    "$(touch hacked)",
    "; touch hacked",
    "a && b | c > hacked",
    "*",
    "'",
    '"',
    "\\n",
    "x\ny",
    "--wrap=x",
]


def test_folders_and_words_that_a_shell_would_read_arrive_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ODD_FOLDER
    folder.mkdir()
    slurm = fake_slurm(tmp_path, monkeypatch)
    with world_in(folder, slurm) as world:
        made = submit(
            world.client,
            command=["sh", "-c", 'printf "%s\\0" "$@" > seen; pwd > where', "sh", *ODD_WORDS],
            env={"ODD": ODD_FOLDER},
            workdir=str(folder),
        )
        ended = world.until_ended(made)
    assert ended["state"] == "succeeded", ended["reason"]
    assert (folder / "seen").read_text(encoding="utf-8").split("\0")[:-1] == ODD_WORDS
    assert (folder / "where").read_text(encoding="utf-8") == f"{folder}\n"
    assert not list(tmp_path.rglob("hacked"))


# -------------------------------------------------------------------------------------- disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, small enough to be filled."""
    folder = tmp_path / "shared"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk can be mounted here: that needs the rights of root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_keeps_jobs_waiting_and_is_told(small_disk: Path, world: World) -> None:
    filler = small_disk / "filler"

    def fill(_: FakeSlurm, __: Path) -> None:
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(2**20))

    check_waiting(
        world,
        Fault(
            begin=fill,
            end=lambda *_: filler.unlink(),
            on_job=SILENT + "hpc: .*No space left on device; check the disk",
            in_doctor="cannot be written to: No space left on device",
        ),
    )


def test_job_that_finds_the_disk_of_its_node_full_says_so(world: World) -> None:
    spoiled = world.folder / "shared" / "checkpoints"
    spoiled.rmdir()
    spoiled.write_text("no folder", encoding="utf-8")
    ended = world.until_ended(world.submit())
    assert ended["state"] == "failed"
    assert_says(ended["reason"], "exit code 72. the node cannot make or enter its folder")
    spoiled.unlink()
    spoiled.mkdir()
