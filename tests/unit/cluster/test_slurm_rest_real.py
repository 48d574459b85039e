"""What only a real slurmrestd can show (22.05, v0.0.38): its accounts, tokens, restarts, values, steps."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_access import Found, look_up
from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_commands import HereRunner
from adapters.cluster.slurm_request import SlurmTerms
from adapters.cluster.slurm_rest_client import SlurmRestClient
from adapters.cluster.slurm_rest_link import RestLink
from adapters.cluster.slurm_rest_options import OLD_OPTIONS
from adapters.cluster.slurm_rest_session import RestSession
from adapters.cluster.slurm_token import TokenFile
from scheduler.core.errors import ClusterUnavailableError, DispatchRejectedError
from scheduler.ports import RunState
from tests.unit.cluster.real_slurm import TESTBED, require_slurm
from tests.unit.cluster.rest_world import (
    RestPlace,
    open_rest,
    require_slurmrestd,
    rest_access,
)
from tests.unit.cluster.runs import ENDS, Runs, lines, wait_until
from tests.unit.cluster.test_slurm_script import HARD

pytestmark = [pytest.mark.external, pytest.mark.timeout(180)]
NAME = "job.1.0"
Open = Callable[..., SlurmCluster]


class ForgetfulClient(SlurmRestClient):
    """A controller that has forgotten all jobs, as it does some minutes after their ends."""

    def find(self, names: Sequence[str], *, closed: bool = False) -> Found:
        return look_up(names, [], self._accounted, closed=closed)


@pytest.fixture
def place() -> RestPlace:
    return require_slurmrestd("east")


@pytest.fixture
def prefix() -> str:
    return f"gt-{uuid.uuid4().hex[:12]}-"


@pytest.fixture
def opened(tmp_path: Path, place: RestPlace, prefix: str) -> Open:
    def open_cluster(access: Any = None, **fields: Any) -> SlurmCluster:
        return open_rest(tmp_path, place, access, **({"prefix": prefix} | fields))

    return open_cluster


@pytest.fixture
def runs(tmp_path: Path, opened: Open) -> Iterator[Runs]:
    folder = tmp_path / "work"
    folder.mkdir()
    runs = Runs(opened(), folder)
    yield runs
    runs.finish()


@pytest.fixture
def forgetful(opened: Open, place: RestPlace) -> SlurmCluster:
    session = rest_access(place)._session
    return opened(ForgetfulClient(session, cluster="east"))


def test_accounts_and_queue_say_the_same_of_ends(runs: Runs, forgetful: SlurmCluster) -> None:
    """Though these accounts give 0 for any exit code: the scripts have noted theirs."""
    queued = runs.end_in_every_way()
    wait_until(lambda: forgetful.poll(list(ENDS)) == queued, "the accounts say the same")
    assert forgetful.submit(runs.dispatch("touch again", "good.1.0")) == queued["good.1.0"].ref


def test_both_routes_say_the_same(runs: Runs, opened: Open) -> None:
    commands = SlurmClient("east", HereRunner(conf=require_slurm("east")))
    by_commands = opened(commands)
    runs.start("sleep 60", "long.1.0", gpus=3)
    runs.until(RunState.RUNNING, name="long.1.0")
    runs.start("exit 4", "bad.1.0")
    runs.until(RunState.ENDED, name="bad.1.0")
    names = ["bad.1.0", "long.1.0", "never.1.0"]
    assert by_commands.poll(names) == runs.cluster.poll(names)
    assert by_commands.free_devices() == runs.cluster.free_devices()


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (SlurmTerms(partition="nope"), "Invalid partition name specified"),
        (
            SlurmTerms(partition="cpu", extra={"mem": "100000G"}),
            "node configuration is not available",
        ),
        (SlurmTerms(partition="cpu", constraint="banana"), "Invalid feature specification"),
        (SlurmTerms(partition="cpu", licenses="banana:1"), "Invalid license specification"),
    ],
)
def test_refusal_comes_in_slurms_words_and_leaves_no_run(
    runs: Runs, opened: Open, terms: SlurmTerms, words: str, forgetful: SlurmCluster
) -> None:
    cluster = opened(terms=terms)
    with pytest.raises(DispatchRejectedError, match=words):
        cluster.submit(runs.dispatch("exit 0"))
    assert cluster.poll([NAME]) == {}
    assert forgetful.poll([NAME]) == {}


VALUES = {"hint": "nomultithread", "mem": "100M", "mem-per-cpu": "100M", "distribution": "block"}
VALUES |= {"cpu-freq": "high", "gpu-bind": "closest", "gpu-freq": "high", "mem-bind": "local"}
VALUES |= {"gres-flags": "enforce-binding", "mail-type": "NONE", "mail-user": "nobody", "nice": "5"}
VALUES |= {"mcs-label": "x", "bb": "x", "wckey": "x", "profile": "none", "spread-job": ""}
ONLY_ELSEWHERE = {
    "cpus-per-gpu",
    "nodelist",
    "prefer",
    "core-spec",
    "thread-spec",
    "cores-per-socket",
}


@pytest.mark.parametrize("option", sorted(set(OLD_OPTIONS) - ONLY_ELSEWHERE))
def test_option_is_taken_as_it_is_written(runs: Runs, opened: Open, option: str) -> None:
    """The site may lack what it asks for, but it must be understood."""
    terms = SlurmTerms(partition="cpu", extra={option: VALUES.get(option, "1")})
    cluster = opened(terms=terms)
    runs.names.append(NAME)
    assert cluster.submit(runs.dispatch("exit 0")).isdigit()
    runs.cluster.cancel(NAME, grace_s=0)


def test_exclusive_job_has_the_node_and_is_never_requeued(runs: Runs, opened: Open) -> None:
    cluster = opened(terms=SlurmTerms(partition="cpu", is_exclusive=True, time_limit_s=300))
    runs.names.append(NAME)
    job_id = cluster.submit(runs.dispatch("touch ready; sleep 60; exit 99"))
    runs.until_file("ready")
    shown = (
        HereRunner(conf=require_slurm("east")).run(["scontrol", "-o", "show", "job", job_id]).out
    )
    facts = dict(pair.split("=", 1) for pair in shown.split() if "=" in pair)
    assert {name: facts[name] for name in ("Requeue", "OverSubscribe", "TimeLimit")} == {
        "Requeue": "0",
        "OverSubscribe": "NO",
        "TimeLimit": "00:05:00",
    }
    assert runs.cluster.free_devices()["CPU"] == 0


@pytest.mark.parametrize("value", HARD)
def test_value_survives_json(runs: Runs, value: str) -> None:
    runs.start('printf %s "$MINE" > seen', env=(("MINE", value),))
    assert runs.until(RunState.ENDED).exit_code == 0
    assert (runs.folder / "seen").read_bytes() == value.encode("utf-8", "surrogateescape")


def test_steps_of_srun_see_the_variables_of_job_and_user(runs: Runs) -> None:
    script = "srun --ntasks=1 printenv MINE HOME > seen"
    runs.start(script, env=(("MINE", "mine"),))
    assert runs.until(RunState.ENDED).exit_code == 0
    assert lines(runs.folder / "seen") == ["mine", str(Path.home())]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("trap 'exit 75' TERM; touch ready; sleep 60 & wait", 75),
        ("trap 'exit 0' TERM; touch ready; sleep 60 & wait", -15),
    ],
)
def test_job_that_an_operator_cancels_counts_as_what_it_did(
    runs: Runs, forgetful: SlurmCluster, script: str, code: int
) -> None:
    reference = runs.start(script)
    runs.until_file("ready")
    assert HereRunner(conf=require_slurm("east")).run(["scancel", reference]).code == 0
    ended = runs.until(RunState.ENDED)
    assert ended.exit_code == code
    wait_until(lambda: forgetful.poll([NAME]).get(NAME) == ended, "the accounts say the same")


def test_restart_of_the_controller_changes_nothing(runs: Runs) -> None:
    reference = runs.start("touch ready; while [ ! -e go ]; do sleep 0.1; done; exit 6")
    runs.until_file("ready")
    before = runs.until(RunState.RUNNING)
    subprocess.run([TESTBED, "restart", "east"], check=True, capture_output=True)
    assert runs.status() == before
    assert runs.start("exit 0") == reference
    (runs.folder / "go").touch()
    assert runs.until(RunState.ENDED).exit_code == 6


def test_run_that_waits_is_cancelled_without_a_trace_of_running(runs: Runs, opened: Open) -> None:
    runs.start("touch ready; sleep 60", "first.1.0", gpus=8)
    runs.until_file("ready")
    patient = opened(may_queue=True)
    runs.names.append(NAME)
    patient.submit(runs.dispatch("touch begun"))
    assert patient.poll([NAME])[NAME].state is RunState.PENDING
    patient.cancel(NAME, grace_s=60)
    ended = runs.until(RunState.ENDED)
    assert (ended.exit_code, ended.spans) == (None, ())
    assert not (runs.folder / "begun").exists()


def test_job_that_runs_is_not_dropped_for_having_waited(runs: Runs, place: RestPlace) -> None:
    reference = runs.start("trap 'exit 9' TERM; touch ready; sleep 60 & wait")
    runs.until_file("ready")
    rest_access(place).drop_pending(reference)
    assert runs.status().state is RunState.RUNNING
    runs.cluster.cancel(NAME, grace_s=60)
    assert runs.until(RunState.ENDED).exit_code == 9


def test_token_that_is_refused_is_renewed_in_its_file(
    tmp_path: Path, place: RestPlace, opened: Open, prefix: str
) -> None:
    path = tmp_path / "token"
    path.write_text("e30.eyJleHAiOjF9.c2ln")
    link = RestLink("east", place.url, user=place.user, token=TokenFile("east", path))
    client = SlurmRestClient(RestSession(link), cluster="east")
    with pytest.raises(ClusterUnavailableError, match="expired at 1970-01-01T00:00:01Z: renew it"):
        client.find([f"{prefix}never"])
    assert [check.is_ok for check in opened(client).checks()] == [False]
    path.write_text(place.token)
    os.utime(path, ns=(1, 1))
    assert client.find([f"{prefix}never"]).jobs == {}
    details = [check.detail for check in opened(client).checks()]
    assert details[0].startswith(
        f"slurmrestd 22.05.8 at {place.url}, v0.0.38 of v0.0.36, v0.0.37, v0.0.38"
    )
    assert "good until 2" in details[0]


def test_other_cluster_has_accounts_of_its_own(runs: Runs, opened: Open) -> None:
    there = require_slurmrestd("west")
    west = Runs(opened(rest_access(there), root=runs.folder / "west"), runs.folder)
    west.start("echo $SLURM_CLUSTER_NAME > where")
    assert west.until(RunState.ENDED).exit_code == 0
    assert lines(runs.folder / "where") == ["west"]
    assert runs.cluster.poll([NAME]) == {}
