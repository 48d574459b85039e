"""What only the route through slurmrestd does, in both dialects: one request for all, exits, holds, names."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms
from scheduler.core.errors import (
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
    InvalidConfigError,
)
from scheduler.ports import RunState
from tests.fakes.slurm.setting_up_rest import TOKEN, USER, FakeRest, running_rest
from tests.unit.cluster.rest_world import RestPlace, open_rest, rest_access
from tests.unit.cluster.runs import ENDS, Runs, lines, wait_until

NAME = "job.1.0"
Open = Callable[..., SlurmCluster]


@pytest.fixture(params=["old", "new"])
def rest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeRest]:
    with running_rest(tmp_path / "slurm", request.param) as rest:
        yield rest


@pytest.fixture
def place(rest: FakeRest) -> RestPlace:
    return RestPlace(rest.url, USER, TOKEN, "fake")


@pytest.fixture
def opened(tmp_path: Path, place: RestPlace) -> Open:
    return lambda **fields: open_rest(tmp_path, place, **fields)


@pytest.fixture
def runs(tmp_path: Path, rest: FakeRest, opened: Open) -> Iterator[Runs]:
    folder = tmp_path / "work"
    folder.mkdir()
    runs = Runs(opened(), folder)
    yield runs
    rest.tell(fault=None)
    rest.slurm.configure(min_job_age_s=300, has_accounts=True)
    runs.finish()


def is_old(rest: FakeRest) -> bool:
    return bool(rest.slurm.settings["rest"]["dialect"] == "old")


def folder_of(runs: Runs, name: str = NAME) -> Path:
    return runs.folder.parent / "shared" / "runs" / name


# ------------------------------------------------------------------------------ submission


def test_submission_says_what_sbatch_would_be_told(runs: Runs, rest: FakeRest) -> None:
    terms = SlurmTerms(
        partition="cpu",
        account="nlp",
        qos="green",
        constraint="a|b",
        time_limit_s=61,
        is_exclusive=True,
        extra={"mem": "2G"},
    )
    cluster = open_rest(runs.folder.parent, _place(rest), terms=terms)
    runs.names.append(NAME)
    cluster.submit(runs.dispatch("exit 0", gpus=2, accelerator="H100"))
    runs.until(RunState.ENDED)
    job = rest.slurm.jobs()[0]
    assert (job["name"], job["partition"]) == ("gt-job.1.0", "gpu")
    assert job["comment"].startswith("gridtide:key=job.1.0;asks=H100:2;ticket=")
    wanted = {
        "gres": "gpu:h100:2",
        "account": "nlp",
        "qos": "green",
        "constraint": "a|b",
        "time": "2",
        "mem": "2048",
        "exclusive": "exclusive",
        "requeue": "0",
        "output": f"{folder_of(runs)}/stdout.log",
    }
    assert {name: job["options"].get(name) for name in wanted} == wanted


def _place(rest: FakeRest) -> RestPlace:
    return RestPlace(rest.url, USER, TOKEN, "fake")


def test_run_is_looked_up_in_the_queue_and_the_accounts_before_it_is_submitted_again(
    runs: Runs, rest: FakeRest
) -> None:
    dispatch = runs.dispatch("exit 0")
    # Its folder is made before the first submission: somebody has tried.
    (runs.folder.parent / "shared" / "runs" / dispatch.name).mkdir(parents=True)
    rest.taken()
    runs.cluster.submit(dispatch)
    paths = [line.rstrip("/").rpartition("/")[2] for line in rest.taken()]
    assert paths[:3] == ["v3", "jobs", "jobs"]
    assert paths[-1] == "submit"
    runs.until(RunState.ENDED)


def test_refusal_comes_in_slurms_words_and_leaves_no_run(runs: Runs, opened: Open) -> None:
    cluster = opened(terms=SlurmTerms(partition="nope"))
    with pytest.raises(DispatchRejectedError, match="Invalid partition name specified"):
        cluster.submit(runs.dispatch("touch began"))
    wrong = opened(
        accelerators={"H100": SlurmDevice(gres="gpu:a100", partition="gpu")}, may_queue=True
    )
    with pytest.raises(DispatchRejectedError, match=r"a100|only 0 nodes"):
        wrong.submit(runs.dispatch("touch began", accelerator="H100"))
    assert runs.cluster.poll([NAME]) == {}


def test_trace_of_a_refused_submission_is_no_run(runs: Runs, rest: FakeRest) -> None:
    rest.slurm.add(
        "gt-job.1.0", user=USER, state="FAILED", reason="BadConstraints", nodes="", code=1
    )
    assert runs.cluster.poll([NAME]) == {}
    rest.slurm.configure(min_job_age_s=-1)
    assert runs.cluster.poll([NAME]) == {}


def test_lost_reply_is_uncertain_and_the_job_is_found_by_its_name(
    runs: Runs, rest: FakeRest
) -> None:
    rest.tell(fault="reply lost")
    with pytest.raises(DispatchUncertainError, match="looked up"):
        runs.start("exit 3")
    rest.tell(fault=None)
    assert runs.until(RunState.ENDED).exit_code == 3
    assert runs.start("exit 3") == "1"
    assert len(rest.slurm.jobs()) == 1


@pytest.mark.parametrize(
    "extra", [{"power": "x"}, {"switches": "1"}, {"mem": "lots"}, {"contiguous": "yes"}]
)
def test_option_that_cannot_be_given_is_named(
    runs: Runs, opened: Open, extra: dict[str, str]
) -> None:
    cluster = opened(terms=SlurmTerms(partition="cpu", extra=extra))
    with pytest.raises(DispatchRejectedError, match=next(iter(extra))):
        cluster.submit(runs.dispatch("exit 0"))
    assert cluster.poll([NAME]) == {}


def test_key_that_this_slurmrestd_would_ignore_is_no_silent_loss(
    runs: Runs, rest: FakeRest, opened: Open
) -> None:
    """v0.0.40 and later answer 200 to unknown keys, and drop them; wckey is unknown to the fake."""
    cluster = opened(terms=SlurmTerms(partition="cpu", extra={"wckey": "x"}))
    with pytest.raises(DispatchRejectedError, match="wckey"):
        cluster.submit(runs.dispatch("exit 0"))
    assert rest.slurm.jobs() == []


def test_folder_that_is_no_text_is_refused(runs: Runs) -> None:
    with pytest.raises(DispatchRejectedError, match="utf-8"):
        runs.start("exit 0", workdir="/tmp/\udcff")
    assert runs.cluster.poll([NAME]) == {}


def test_reservation_needs_a_version_whose_nodes_tell_theirs(
    runs: Runs, rest: FakeRest, opened: Open
) -> None:
    nodes = [{"name": "c1", "partition": "cpu", "cpus": 8, "gpus": 0, "reservation": "mine"}]
    rest.slurm.configure(nodes=nodes)
    cluster = opened(terms=SlurmTerms(partition="cpu", reservation="mine"))
    if is_old(rest):
        assert runs.cluster.free_devices()["CPU"] == 8
        with pytest.raises(DispatchRejectedError, match=r"v0\.0\.40"):
            open_rest(
                runs.folder.parent,
                _place(rest),
                terms=SlurmTerms(partition="cpu", reservation="mine"),
                may_queue=True,
            ).submit(runs.dispatch("exit 0"))
        return
    assert runs.cluster.free_devices()["CPU"] == 0
    assert cluster.free_devices()["CPU"] == 8


# -------------------------------------------------------------------------------- watching


def test_one_listing_tells_of_all(runs: Runs, rest: FakeRest) -> None:
    names = [f"many{number}.1.0" for number in range(1000)]
    for name in names:
        rest.slurm.add(f"gt-{name}", user=USER)
    runs.cluster.poll(names)
    rest.taken()
    known = runs.cluster.poll(names)
    assert len(known) == 1000
    assert {status.state for status in known.values()} == {RunState.RUNNING}
    assert [line.rstrip("/") for line in rest.taken()] == [f"GET {_slurm(rest)}/jobs"]


def _slurm(rest: FakeRest) -> str:
    return f"/slurm/{rest.slurm.settings['rest']['versions'][-1]}"


def test_accounts_are_asked_only_of_what_the_controller_forgot(runs: Runs, rest: FakeRest) -> None:
    rest.slurm.add("gt-there.1.0", user=USER)
    rest.slurm.add("gt-gone.1.0", user=USER, state="COMPLETED", end_s=1000)
    runs.cluster.poll(["there.1.0"])
    rest.taken()
    known = runs.cluster.poll(["there.1.0", "gone.1.0"])
    assert {name: status.state for name, status in known.items()} == {
        "there.1.0": RunState.RUNNING,
        "gone.1.0": RunState.ENDED,
    }
    assert [line.split("/")[1] for line in rest.taken()] == ["slurm", "slurmdb"]


def test_many_names_are_asked_in_parts_that_a_url_holds(runs: Runs, rest: FakeRest) -> None:
    names = [f"{number:0>60}.1.0" for number in range(700)]
    for name in names[::100]:
        rest.slurm.add(f"gt-{name}", user=USER, state="COMPLETED", end_s=1000)
    assert set(runs.cluster.poll(names)) == set(names[::100])
    assert sum("slurmdb" in line for line in rest.taken()) == 3


@pytest.mark.parametrize("script_kept", [True, False])
def test_queue_and_accounts_say_the_same_of_an_end(
    runs: Runs, rest: FakeRest, script_kept: bool
) -> None:
    queued = runs.end_in_every_way()
    rest.slurm.configure(min_job_age_s=-1)
    if script_kept:
        assert runs.cluster.poll(list(ENDS)) == queued
        return
    for path in folder_of(runs).parent.glob("*/exit-*"):
        path.unlink()
    forgotten = {name: status.exit_code for name, status in runs.cluster.poll(list(ENDS)).items()}
    unknown = {"bad.1.0": None, "saved.1.0": None} if is_old(rest) else {}
    assert forgotten == {name: code for name, (_, code) in ENDS.items()} | unknown


def test_exit_that_nobody_knows_is_said_to_be_unknown(runs: Runs, rest: FakeRest) -> None:
    rest.slurm.add("gt-job.1.0", user=USER, state="FAILED", code=75, end_s=1000)
    status = runs.status()
    unknown = (None, "Slurm: FAILED; its exit code is not known any more")
    assert status.state is RunState.ENDED
    assert (status.exit_code, status.detail) == (unknown if is_old(rest) else (75, ""))


def test_job_of_somebody_else_or_of_another_cluster_is_not_ours(runs: Runs, rest: FakeRest) -> None:
    rest.slurm.add("gt-theirs.1.0", user="somebody")
    rest.slurm.add("gt-there.1.0", user=USER, cluster="other", state="COMPLETED", end_s=1000)
    rest.slurm.add("gt-past.1.0", user="somebody", state="COMPLETED", end_s=1000)
    assert runs.cluster.poll(["theirs.1.0", "there.1.0", "past.1.0"]) == {}


def test_user_that_slurmrestd_cannot_name_may_be_ours(runs: Runs, rest: FakeRest) -> None:
    rest.slurm.add("gt-job.1.0", user="")
    assert runs.status().state is RunState.RUNNING


def test_accounts_of_many_clusters_need_the_name_of_ours(
    tmp_path: Path, rest: FakeRest, place: RestPlace
) -> None:
    cluster = open_rest(tmp_path, place, rest_access(place, cluster=None))
    if is_old(rest):
        with pytest.raises(ClusterUnavailableError, match=r"fake, other.*slurm\.cluster"):
            cluster.poll([NAME])
        rest.slurm.add("gt-any.1.0", user="somebody")  # any job in the queue tells it
    assert cluster.poll([NAME]) == {}


def test_only_cluster_of_the_accounts_is_ours(
    tmp_path: Path, rest: FakeRest, place: RestPlace
) -> None:
    rest.tell(others=[])
    rest.slurm.add("gt-job.1.0", user=USER, state="COMPLETED", end_s=1000)
    cluster = open_rest(tmp_path, place, rest_access(place, cluster=None))
    assert cluster.poll([NAME])[NAME].state is RunState.ENDED


def test_silent_accounts_leave_the_forgotten_where_they_were(runs: Runs, rest: FakeRest) -> None:
    runs.start("touch ready; while [ ! -e go ]; do sleep 0.01; done")
    runs.until_file("ready")
    running = runs.until(RunState.RUNNING)
    rest.tell(fault="no accounts")
    rest.slurm.configure(min_job_age_s=-1)
    (runs.folder / "go").touch()
    wait_until(lambda: bool(rest.slurm.jobs()[0]["end_s"]), "it has ended")
    silent = runs.status()
    assert silent.is_stale
    assert "accounts" in silent.detail
    assert replace(silent, is_stale=False, detail=running.detail) == running
    rest.tell(fault=None)
    assert runs.status().exit_code == 0


def test_without_accounts_an_end_is_lost_with_the_controllers_memory(
    runs: Runs, rest: FakeRest
) -> None:
    runs.start("exit 0")
    runs.until(RunState.ENDED)
    rest.slurm.configure(has_accounts=False, min_job_age_s=-1)
    cluster = open_rest(runs.folder.parent, _place(rest))
    assert cluster.poll(["never.1.0"]) == {}
    assert cluster.poll([NAME])[NAME].state is RunState.LOST


def test_energy_comes_from_the_accounts(tmp_path: Path, rest: FakeRest, place: RestPlace) -> None:
    terms = SlurmTerms(partition="cpu", is_exclusive=True)
    cluster = open_rest(tmp_path, place, terms=terms, reads_energy=True)
    now_s = int(time.time())
    ended = {"state": "COMPLETED", "start_s": now_s - 100, "end_s": now_s, "user": USER}
    rest.slurm.add("gt-job.1.0", energy_j="36000", **ended)
    rest.slurm.add("gt-wrong.1.0", energy_j="18446744073709551614", **ended)
    known = cluster.poll([NAME, "wrong.1.0"])
    assert known[NAME].energy_kwh == pytest.approx(0.01)
    assert known["wrong.1.0"].energy_kwh is None


# ------------------------------------------------------------------------------------- end


def test_run_that_waits_is_cancelled_without_having_begun(
    runs: Runs, rest: FakeRest, opened: Open
) -> None:
    runs.start("sleep 60", "first.1.0", gpus=8)
    patient = opened(may_queue=True)
    runs.names.append(NAME)
    patient.submit(runs.dispatch("touch began"))
    assert patient.poll([NAME])[NAME].state is RunState.PENDING
    rest.taken()
    patient.cancel(NAME, grace_s=60)
    verbs = [line.split(" ")[0] for line in rest.taken()]
    assert verbs[verbs.index("POST") :][:3] == ["POST", "GET", "DELETE"]
    ended = runs.until(RunState.ENDED)
    assert (ended.exit_code, ended.spans) == (None, ())
    assert not (runs.folder / "began").exists()


def test_run_that_began_just_then_is_not_killed_for_having_waited(
    runs: Runs, rest: FakeRest, place: RestPlace
) -> None:
    runs.start("trap 'exit 9' TERM; touch ready; sleep 60 & wait")
    runs.until_file("ready")
    rest_access(place).drop_pending("1")
    job = rest.slurm.jobs()[0]
    assert (job["state"], job["cancelled"], job["begin_s"]) == ("RUNNING", False, 0)
    runs.cluster.cancel(NAME, grace_s=60)
    assert runs.until(RunState.ENDED).exit_code == 9


def test_job_that_has_ended_or_never_was_may_be_told_anything(runs: Runs, place: RestPlace) -> None:
    runs.start("exit 0")
    runs.until(RunState.ENDED)
    access = rest_access(place)
    for job_id in ("1", "999"):
        access.terminate(job_id)
        access.kill([job_id])
        access.drop([job_id])
        access.drop_pending(job_id)
        access.comment(job_id, "too late")
    assert runs.status().exit_code == 0


def test_signal_to_a_job_that_waits_says_so(rest: FakeRest, place: RestPlace) -> None:
    job_id = rest.slurm.add("gt-job.1.0", user=USER, state="PENDING", nodes="", begin_s=4e9)
    with pytest.raises(ClusterUnavailableError, match="can not be altered now"):
        rest_access(place).terminate(job_id)


def test_comment_outlives_the_adapter(runs: Runs, rest: FakeRest) -> None:
    runs.start("trap '' TERM; touch ready; while [ ! -e go ]; do sleep 0.01; done; exit 5")
    runs.until_file("ready")
    runs.cluster.cancel(NAME, grace_s=600)
    assert ";kill=" in rest.slurm.jobs()[0]["comment"]
    (runs.folder / "go").touch()
    assert runs.until(RunState.ENDED).exit_code == 5


def test_freezing_is_refused_at_start(opened: Open, place: RestPlace) -> None:
    with pytest.raises(InvalidConfigError, match="freeze") as caught:
        opened(can_freeze=True)
    assert caught.value.fields["field"] == "pause"
    for change in (rest_access(place).suspend, rest_access(place).resume):
        with pytest.raises(ClusterUnavailableError, match="route: cli"):
            change("1")


# ---------------------------------------------------------------------------------- doctor


def test_doctor_tells_version_token_accounts_and_the_other_route(
    runs: Runs, rest: FakeRest, place: RestPlace, opened: Open
) -> None:
    cluster = opened(other_route=("rest", rest_access(place, version=_slurm(rest)[7:])))
    said = [(check.is_ok, check.detail) for check in cluster.checks()]
    assert all(is_ok for is_ok, _ in said)
    details = [detail for _, detail in said]
    release = "22.05.8" if is_old(rest) else "24.11.5"
    assert details[0].startswith(f"slurmrestd {release} at {rest.url}, {_slurm(rest)[7:]} of v0.0.")
    assert "controller up" in details[0]
    assert "does not say until when it is good" in details[0]
    assert details[1] == "its clock is not known"
    assert details[2] == f"partitions: cpu{'*' if is_old(rest) else ''}, gpu"
    assert details[3].startswith("accounts (slurmdb) answer")
    assert ("do not tell exit codes" in details[3]) is is_old(rest)
    assert details[-1].startswith("route rest, which is not used, would work too: slurmrestd")


def test_doctor_sees_a_token_that_only_ping_takes(rest: FakeRest, opened: Open) -> None:
    rest.tell(tokens={})
    first = opened(other_route=("rest", opened()._client)).checks()
    assert [check.is_ok for check in first] == [False, True]
    assert "token" in first[0].detail
    assert first[1].detail.startswith("route rest, which is not used, would not work from here")


def test_doctor_sees_a_controller_that_is_down(rest: FakeRest, opened: Open) -> None:
    rest.tell(fault="down")
    checks = opened().checks()
    assert [check.is_ok for check in checks] == [False]
    assert "controller" in checks[0].detail


def test_doctor_sees_accounts_that_do_not_answer_or_are_not_served(
    rest: FakeRest, opened: Open
) -> None:
    rest.tell(fault="no accounts")
    assert [check.is_ok for check in opened().checks()][3] is False
    rest.slurm.configure(has_accounts=False)
    check = opened().checks()[3]
    assert check.is_ok
    assert check.detail.startswith("slurmrestd serves no accounts")


def test_jobs_see_the_environment_of_their_user(runs: Runs) -> None:
    runs.start("echo $HOME > seen")
    assert runs.until(RunState.ENDED).exit_code == 0
    assert lines(runs.folder / "seen") != [""]


def test_open_twice_is_one_cluster(runs: Runs, opened: Open) -> None:
    reference = runs.start("sleep 60")
    again: Any = opened()
    assert again.submit(runs.dispatch("sleep 60")) == reference
