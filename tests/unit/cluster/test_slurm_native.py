"""What the adapter does about users' own jobs beyond the common suite: commands it saves, rights, lost accounts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.clocks import FastClock, SystemClock
from adapters.cluster.slurm_adopting import AdoptingSlurmCluster
from adapters.cluster.slurm_commands import Completed
from adapters.cluster.slurm_native import REST_S
from adapters.cluster.slurm_request import SlurmDevice
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
)
from scheduler.ports import RunState, native_name
from tests.fakes.slurm.setting_up import FakeSlurm
from tests.unit.cluster.native_user import ASK, Steered
from tests.unit.cluster.slurm_world import H100, NotingRunner, open_cluster

LATER_S = int(time.time()) + 3600
PAUSABLE = f"{ASK},interruptible=yes"
WAITING = {"state": "PENDING", "nodes": "", "start_s": 0, "begin_s": LATER_S, "cpus": 1}
Add = Callable[..., Steered]


class Wall:
    """The wall clock, moved ahead."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def opened(tmp_path: Path, runner: NotingRunner, wall: Wall) -> Callable[..., AdoptingSlurmCluster]:
    def open_cluster(**fields: Any) -> AdoptingSlurmCluster:
        known: dict[str, Any] = {
            "adopts": "all",
            "accelerators": {"CPU": SlurmDevice(), "H100": H100},
            "root": tmp_path / "shared",
            "clock": SystemClock(),
            "runner": runner,
            "wall": wall,
        }
        return AdoptingSlurmCluster("fake", **(known | fields))

    return open_cluster


@pytest.fixture
def add(slurm: FakeSlurm, opened: Callable[..., AdoptingSlurmCluster]) -> Add:
    """Adds a job that no process stands behind."""
    cluster = opened()

    def add_job(comment: str = ASK, **fields: object) -> Steered:
        ref = slurm.add("train", **(WAITING | {"comment": comment} | fields))
        return Steered(cluster, ref)

    return add_job


def ahead(**by: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**by)


def comment_of(slurm: FakeSlurm, job: Steered) -> str:
    return str(next(one for one in slurm.jobs() if str(one["id"]) == job.ref)["comment"])


# --------------------------------------------------------------------------------- listing


def test_list_is_one_squeue_however_many_jobs(add: Add, runner: NotingRunner) -> None:
    jobs = [add(submit_s=100 - number) for number in range(3)]
    add("gridtide:key=job.1.0;asks=CPU:1;ticket=t")
    add("nothing")
    assert [one.ref for one in jobs[0].cluster.native_jobs()] == ["3", "2", "1"]
    assert runner.taken() == ["squeue"]


@pytest.mark.parametrize(
    "fields",
    [
        {"dependency": "afterok:1(unfulfilled)"},
        {"held": True, "held_by": "JobHeldAdmin"},
        {"comment": f"{ASK};refused=because"},
        {"comment": f"{ASK};adopted=job;released=1"},
        {"array_id": "9_4"},
        {"array_id": "9+1"},
        {"state": "RUNNING", "nodes": "fake-c1", "start_s": 1},
    ],
)
def test_jobs_that_are_not_up_to_us_are_left_out(add: Add, fields: dict[str, object]) -> None:
    assert not add(**fields).is_listed


@pytest.mark.parametrize(
    "fields",
    [
        {"dependency": "afterok:1(unfulfilled)"},
        {"held": True, "held_by": "JobHeldAdmin"},
    ],
)
def test_adopted_job_stays_in_sight(add: Add, fields: dict[str, object]) -> None:
    assert add(comment=f"{ASK};adopted=job;guard={LATER_S}", **fields).native().job_id == "job"


def test_parts_of_jobs_that_come_in_several_are_trouble(add: Add) -> None:
    assert "arrays" in (add(array_id="1_[1-3]").native().trouble or "")
    assert "heterogeneous" in (add(array_id="2+0").native().trouble or "")


def test_own_jobs_alone_are_asked_for_where_no_others_may_be_changed(
    add: Add, opened: Callable[..., AdoptingSlurmCluster], runner: NotingRunner
) -> None:
    other, mine = add(user="ada"), add()
    cluster = opened(adopts="own")
    assert [one.ref for one in cluster.native_jobs()] == [mine.ref]
    assert "--me" in runner.commands[-1]
    assert other.native().user == "ada"


def test_times_are_those_of_the_service(
    slurm: FakeSlurm, add: Add, opened: Callable[..., AdoptingSlurmCluster], wall: Wall
) -> None:
    clock = FastClock(origin_at=datetime(2021, 6, 1, tzinfo=UTC), anchor_wall_s=wall(), speed=600.0)
    job = Steered(opened(clock=clock), add().ref)
    guard_at = clock.now() + timedelta(days=10)
    job.adopt(guard_at)
    native = job.native()
    assert native.guard_at == native.starts_at
    assert native.guard_at is not None
    assert timedelta(0) <= guard_at - native.guard_at < timedelta(seconds=600), (
        "a second of the wall"
    )
    assert abs(slurm.jobs()[0]["begin_s"] - wall() - 1440) < 60


# -------------------------------------------------------------------------------- adopting


def test_adoption_costs_one_command_and_that_of_a_held_job_three(
    add: Add, runner: NotingRunner
) -> None:
    job, held = add(), add(held=True, begin_s=0)
    job.cluster.native_jobs()
    runner.commands.clear()
    job.adopt(ahead(hours=1))
    assert runner.taken() == ["scontrol"]
    held.adopt(ahead(hours=1))
    assert [command[1] for command in runner.commands] == ["update", "release", "update"]


def test_old_news_is_not_acted_on(slurm: FakeSlurm, add: Add, wall: Wall) -> None:
    job = add()
    job.cluster.native_jobs()
    slurm.change(job.ref, comment=f"{ASK},priority=3")
    wall.ahead_s = 60
    job.adopt(ahead(hours=1))
    assert comment_of(slurm, job).startswith(f"{ASK},priority=3;adopted=")


@pytest.mark.parametrize("comment", ["nothing", f"{ASK};adopted=job;released=1"])
def test_adopting_what_is_not_up_to_us_changes_nothing(
    slurm: FakeSlurm, add: Add, comment: str
) -> None:
    job = add(comment)
    job.adopt(ahead(hours=2))
    assert comment_of(slurm, job) == comment
    assert slurm.jobs()[0]["begin_s"] == LATER_S


def test_adopting_what_never_was_is_no_error(add: Add) -> None:
    job = add()
    job.cluster.adopt("77", job_id="job", guard_at=ahead(hours=1))
    job.cluster.refuse("77", "because")


def test_job_that_may_not_be_changed_is_left_alone_for_a_while(
    slurm: FakeSlurm, add: Add, wall: Wall
) -> None:
    slurm.configure(is_operator=False)
    other, mine = add(user="ada"), add()
    with pytest.raises(ClusterUnavailableError, match=r"Access/permission denied.*operator"):
        other.adopt(ahead(hours=1))
    assert [one.ref for one in mine.cluster.native_jobs()] == [mine.ref]
    mine.adopt(ahead(hours=1))
    wall.ahead_s = 3700
    assert other.is_listed


def test_doctor_names_jobs_that_may_not_be_changed(slurm: FakeSlurm, add: Add) -> None:
    slurm.configure(is_operator=False)
    other = add(user="ada")
    assert all(check.is_ok for check in other.cluster.checks() if "changed" in check.detail)
    with pytest.raises(ClusterUnavailableError):
        other.adopt(ahead(hours=1))
    (told,) = [check for check in other.cluster.checks() if "may not be changed" in check.detail]
    assert not told.is_ok
    assert f"jobs {other.ref}; " in told.detail
    assert "operator" in told.detail


def test_change_that_slurm_made_and_complains_about_is_made(add: Add, runner: NotingRunner) -> None:
    job = add(begin_s=0, held=True, reason="JobHeldUser")

    def grumble(command: Sequence[str]) -> Completed | None:
        if command[:2] != ["scontrol", "update"]:
            return None
        runner.inner.run(command)
        return Completed(1, "", "Requested partition configuration not available now")

    runner.answer = grumble
    job.adopt(ahead(hours=1))
    assert not job.native().is_held
    assert job.native().guard_at is not None


def test_job_sent_back_on_hold_by_hand_is_held(add: Add) -> None:
    job = add(f"{ASK};adopted=job", reason="job_requeued_in_held_state", begin_s=0, cpus=99)
    assert job.native().is_held


def test_right_that_is_missing_is_no_silence_of_the_cluster(
    slurm: FakeSlurm, add: Add, runner: NotingRunner
) -> None:
    slurm.configure(is_operator=False)
    job = add(user="ada")
    with pytest.raises(ClusterUnavailableError):
        job.cluster.refuse(job.ref, "because")
    runner.commands.clear()
    assert not job.is_listed
    assert runner.taken() == ["squeue"], "no ping, as after a silence"


# -------------------------------------------------------------------------------- starting


def test_start_is_repeated_without_effect(add: Add, slurm: FakeSlurm) -> None:
    job = add(cpus=99)  # there is no room for it
    job.adopt(ahead(hours=1))
    assert job.submit() == job.ref
    comment = comment_of(slurm, job)
    assert ";released=" in comment
    assert job.submit() == job.ref
    assert comment_of(slurm, job) == comment
    assert job.status().state is RunState.PENDING


def test_job_that_says_something_else_now_is_not_started(add: Add, slurm: FakeSlurm) -> None:
    job = add()
    job.adopt(ahead(hours=1))
    for comment in (f"{ASK};adopted=other", ASK, "nothing"):
        slurm.change(job.ref, comment=comment)
        with pytest.raises(DispatchRejectedError, match="does not say any more that it is job"):
            job.submit()
    assert slurm.jobs()[0]["begin_s"] > time.time()


def test_job_that_is_gone_is_not_started(add: Add) -> None:
    with pytest.raises(DispatchRejectedError, match="is not in the queue any more"):
        Steered(add().cluster, "77").submit()


def test_hold_is_stronger_than_a_start(add: Add, slurm: FakeSlurm) -> None:
    job = add()
    job.adopt(ahead(hours=1))
    slurm.change(job.ref, held=True)
    with pytest.raises(ClusterFullError, match="held by its user; scontrol release 1"):
        job.submit()
    with pytest.raises(ClusterFullError, match="held by its user"):
        job.cluster.resume(job.name)


def test_controller_that_is_down_is_said_to_be(add: Add, slurm: FakeSlurm) -> None:
    job = add()
    slurm.configure(faults={"squeue": "down"})
    for call in (job.cluster.native_jobs, job.status, job.submit):
        with pytest.raises(ClusterUnavailableError, match="Unable to contact"):
            call()


# --------------------------------------------------------------------------------- pausing


def running(
    add: Add, comment: str = f"{PAUSABLE};adopted=job;guard={LATER_S}", **fields: Any
) -> Steered:
    known: dict[str, Any] = {
        "state": "RUNNING",
        "nodes": "fake-c1",
        "start_s": int(time.time()) - 3600,
    }
    return add(comment, **(known | fields))


def test_pause_of_a_job_without_guard_ahead_gives_it_a_minute(add: Add, slurm: FakeSlurm) -> None:
    job = running(add, f"{PAUSABLE};adopted=job;guard=1795000000")
    now_s = int(time.time())
    job.cluster.pause(job.name, grace_s=30)
    begin_s = slurm.jobs()[0]["begin_s"]
    assert now_s + 60 <= begin_s < now_s + 120
    assert f"guard={begin_s}" in comment_of(slurm, job), "or it would look like its user's wish"


def test_pause_is_repeated_without_effect(add: Add, runner: NotingRunner) -> None:
    job = running(add)
    job.cluster.pause(job.name, grace_s=30)
    runner.commands.clear()
    job.cluster.pause(job.name, grace_s=30)
    assert runner.taken() == ["squeue"]


def test_signal_is_sent_once(add: Add, runner: NotingRunner) -> None:
    job = running(add, f"{PAUSABLE},signal=USR1;adopted=job;guard={LATER_S}")
    for _ in range(2):
        job.cluster.pause(job.name, grace_s=600)
    sent = [command for command in runner.commands if command[0] == "scancel"]
    assert sent == [["scancel", "--signal=USR1", "--full", job.ref]]
    assert job.status().state is RunState.RUNNING


def test_pause_goes_on_after_a_restart_of_the_service(
    add: Add, opened: Callable[..., AdoptingSlurmCluster], wall: Wall
) -> None:
    job = running(add, f"{PAUSABLE},signal=USR1;adopted=job;guard={LATER_S}")
    job.cluster.pause(job.name, grace_s=600)
    wall.ahead_s = 601
    again = Steered(opened(), job.ref)
    again.status()
    assert again.status().state is RunState.FROZEN


def test_start_that_nobody_made_yet_is_taken_back(add: Add) -> None:
    job = add(cpus=99)
    job.adopt(ahead(hours=1))
    job.submit()
    job.cluster.pause(job.name, grace_s=30)
    assert job.status().state is RunState.FROZEN
    assert job.is_listed
    job.cluster.resume(job.name)
    assert job.status().state is RunState.PENDING


@pytest.mark.parametrize(("ahead_s", "start"), [(0, "uts"), (REST_S + 1, "now")])
def test_paused_job_rests_before_it_starts_again(
    add: Add, runner: NotingRunner, wall: Wall, *, ahead_s: int, start: str
) -> None:
    job = running(add, f"{PAUSABLE};adopted=job;guard={LATER_S}", cpus=99)
    job.cluster.pause(job.name, grace_s=30)
    job.until(RunState.FROZEN)
    runner.commands.clear()
    wall.ahead_s = ahead_s
    job.cluster.resume(job.name)
    update = next(command for command in runner.commands if command[0] == "scontrol")
    assert update[3].startswith(f"StartTime={start}")


def test_job_that_asks_for_nothing_any_more_is_not_paused(add: Add) -> None:
    job = running(add, "nothing")
    with pytest.raises(ClusterUnavailableError, match="does not ask for planning any more"):
        job.cluster.pause(job.name, grace_s=30)


def test_what_is_over_or_gone_is_not_paused(add: Add, runner: NotingRunner) -> None:
    job = running(add, state="COMPLETED", end_s=int(time.time()))
    for name in (job.name, native_name("77")):
        job.cluster.pause(name, grace_s=30)
        job.cluster.resume(name)
    assert set(runner.taken()) == {"squeue"}


def test_job_that_slurm_sent_back_itself_is_not_paused_but_waits(
    add: Add, slurm: FakeSlurm
) -> None:
    job = running(add)
    job.cluster.pause(job.name, grace_s=30)
    assert job.status().state is RunState.FROZEN
    slurm.change(job.ref, restarts=2)
    assert job.status().state is RunState.PENDING


# -------------------------------------------------------------------------------- watching


def test_earlier_stretches_are_asked_for_once(add: Add, runner: NotingRunner) -> None:
    job = running(add)
    job.status()
    job.cluster.pause(job.name, grace_s=30)
    first = job.status()
    assert len(first.spans) == 1
    runner.commands.clear()
    assert job.status() == first
    assert runner.taken() == ["squeue"]


def test_stretches_that_were_seen_are_known_without_accounts(add: Add, slurm: FakeSlurm) -> None:
    slurm.configure(has_accounts=False)
    job = running(add)
    since = job.status().since
    job.cluster.pause(job.name, grace_s=30)
    assert [span.start_at for span in job.status().spans] == [since]


def test_end_waits_for_the_stretches_before_it_but_not_for_ever(
    add: Add, slurm: FakeSlurm, wall: Wall
) -> None:
    slurm.configure(has_accounts=False)
    now_s = int(wall())
    job = running(add, restarts=1, submit_s=now_s)
    slurm.change(job.ref, state="COMPLETED", start_s=now_s - 5, end_s=now_s)
    assert job.status().state is RunState.RUNNING
    wall.ahead_s = 300
    assert job.status().state is RunState.ENDED


def test_job_on_its_way_back_still_runs_since_its_start(add: Add, slurm: FakeSlurm) -> None:
    job = running(add)
    began = job.status()
    slurm.change(job.ref, state="COMPLETING", is_requeued=True, restarts=1)
    leaving = job.status()
    assert (leaving.state, leaving.since, leaving.spans) == (RunState.RUNNING, began.since, ())


def test_accounts_that_do_not_answer_end_no_job(add: Add, slurm: FakeSlurm) -> None:
    job = running(add)
    last = job.status()
    slurm.configure(faults={"sacct": "say accounting is away"})
    (slurm.folder / "jobs" / f"{job.ref}.json").unlink()
    gone = job.status()
    assert (gone.is_stale, "accounts (sacct) do not answer" in gone.detail) == (True, True)
    assert replace(gone, is_stale=False, detail=last.detail) == last
    unknown = job.cluster.poll([native_name("77")])[native_name("77")]
    assert (unknown.state, unknown.ref, unknown.is_stale) == (RunState.PENDING, "77", True)
    assert unknown.detail == gone.detail
    slurm.configure(faults={})
    assert job.cluster.poll([job.name]) == {}


def test_energy_is_that_of_jobs_that_have_their_nodes_to_themselves(
    add: Add, opened: Callable[..., AdoptingSlurmCluster]
) -> None:
    over = {"state": "COMPLETED", "end_s": int(time.time()), "energy_j": "7200000"}
    alone = running(add, oversubscribe="NO", **over)
    shared = running(add, **over)
    cluster = opened(reads_energy=True)
    found = cluster.poll([alone.name, shared.name])
    assert found[alone.name].energy_kwh == pytest.approx(2.0)
    assert found[shared.name].energy_kwh is None


def test_job_named_like_one_of_ours_but_of_another_user_is_none_of_ours(
    add: Add, slurm: FakeSlurm
) -> None:
    job = running(add)
    slurm.add("gt-job.1.0", user="ada")
    assert set(job.cluster.poll([job.name, "job.1.0"])) == {job.name}


def test_cancelled_job_is_killed_when_its_grace_is_over(
    add: Add, slurm: FakeSlurm, runner: NotingRunner, wall: Wall
) -> None:
    job = running(add)
    job.cluster.cancel(job.name, grace_s=60)
    assert ["scancel", "--signal=TERM", "--full", job.ref] in runner.commands
    assert job.status().state is RunState.RUNNING
    wall.ahead_s = 61
    job.status()
    assert ["scancel", "--signal=KILL", "--full", job.ref] in runner.commands


def test_cancelled_job_that_asks_to_run_again_is_not_sent_back(add: Add, slurm: FakeSlurm) -> None:
    job = running(add)
    job.cluster.cancel(job.name, grace_s=60)
    slurm.change(job.ref, state="FAILED", code=75, end_s=int(time.time()))
    status = job.status()
    assert (status.state, status.exit_code) == (RunState.ENDED, 75)


def test_nothing_is_said_of_a_squeue_that_answers_nonsense(add: Add, runner: NotingRunner) -> None:
    job = add()
    runner.answer = lambda command: Completed(0, "7|what\n", "") if command[0] == "squeue" else None
    assert job.cluster.native_jobs() == []


# ------------------------------------------------------------------------- what others hold


@pytest.mark.parametrize(
    ("comment", "n_taken"),
    [
        (f"{ASK};adopted=job;released=1", 0),  # the plan knows it
        (f"{ASK};adopted=job", 0),  # and also when its guard let it start
        (ASK, 1),
        ("adopted=job", 1),
        (f"{ASK};refused=no", 1),
    ],
)
def test_adopted_jobs_are_not_those_of_others(add: Add, comment: str, n_taken: int) -> None:
    job = add(comment, state="RUNNING", nodes="fake-c1", start_s=int(time.time()), user="stranger")
    assert len(job.cluster.outlook().taken) == n_taken


def test_service_that_adopts_none_counts_them_as_those_of_others(
    add: Add, tmp_path: Path, runner: NotingRunner
) -> None:
    adopted = f"{ASK};adopted=job;released=1"
    add(adopted, state="RUNNING", nodes="fake-c1", start_s=int(time.time()), user="stranger")
    runner.taken()
    taken = open_cluster(tmp_path, runner).outlook().taken
    assert [(one.accelerator, one.gpus) for one in taken] == [("CPU", 1)]
    look = ["squeue", "scontrol", "scontrol"]
    assert [name for name in runner.taken() if name != "sinfo"] == look, "three commands a look"
