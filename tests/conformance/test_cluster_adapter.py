"""One suite for every `ClusterAdapter`. A new adapter joins by one more entry in `CLUSTERS`."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from adapters.cluster.kubernetes import KubernetesCluster
from adapters.cluster.local import LocalCluster
from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_commands import HereRunner
from adapters.cluster.slurm_request import SlurmDevice
from scheduler.core.errors import ClusterFullError, DispatchRejectedError
from scheduler.core.job import JobId, JobState
from scheduler.ports import Capability, ClusterAdapter, RunState
from scheduler.service.dispatcher import build_dispatch
from tests.fakes.clock import ManualClock
from tests.fakes.slurm.setting_up import set_up
from tests.fakes.slurm.setting_up_rest import stop_rest
from tests.unit.cluster.kube_world import open_cluster as open_kube
from tests.unit.cluster.kube_world import running_bed
from tests.unit.cluster.manifests import ManifestCluster
from tests.unit.cluster.real_slurm import require_slurm
from tests.unit.cluster.rest_world import fake_place, open_rest, require_slurmrestd
from tests.unit.cluster.runs import Runs, lines, wait_until
from tests.unit.core.builders import T0, job, option, record, run

EX_TEMPFAIL = 75
SAVE_ON_TERM = """
trap 'echo saved > "$GRIDTIDE_CHECKPOINT_DIR/state"; kill $!; exit 75' TERM
touch ready; sleep 60 & wait
"""
COUNT = "while :; do echo x >> count; sleep 0.005; done"
Open = Callable[[Capability], ClusterAdapter]


def open_local(root: Path, pausing_by: Capability) -> ClusterAdapter:
    return LocalCluster(
        "here",
        root=root,
        devices={"CPU": 8, "H100": 2},
        clock=ManualClock(T0),
        pause_mode="freeze" if pausing_by is Capability.FREEZE else "checkpoint",
    )


def open_slurm_fake(root: Path, pausing_by: Capability) -> ClusterAdapter:
    slurm = set_up(root / "slurm")
    return SlurmCluster(
        "fake",
        accelerators={"CPU": SlurmDevice(), "H100": H100},
        root=root / "shared",
        clock=ManualClock(T0),
        runner=HereRunner(conf=slurm.conf, programs=slurm.programs),
        can_freeze=pausing_by is Capability.FREEZE,
    )


def open_slurm(root: Path, pausing_by: Capability) -> ClusterAdapter:
    return SlurmCluster(
        "east",
        accelerators={"CPU": SlurmDevice(), "H100": H100},
        root=root / "shared",
        clock=ManualClock(T0),
        conf=require_slurm("east"),
        prefix=f"gt-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}-",
        can_freeze=pausing_by is Capability.FREEZE,
    )


def open_slurm_rest(root: Path, pausing_by: Capability) -> ClusterAdapter:
    """It pauses by checkpointing, whatever is wished: slurmrestd cannot suspend."""
    prefix = f"gt-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}-"
    return open_rest(root, require_slurmrestd("east"), clock=ManualClock(T0), prefix=prefix)


def open_rest_fake(dialect: str, root: Path, pausing_by: Capability) -> ClusterAdapter:
    return open_rest(root, fake_place(root / "slurm", dialect), clock=ManualClock(T0))


def open_kubernetes(
    make: type[KubernetesCluster], root: Path, pausing_by: Capability
) -> ClusterAdapter:
    """It pauses by suspending, whatever is wished: a pod that has left does not go on where it was."""
    instance = f"g{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    return open_kube(running_bed(), root, instance=instance, make=make)


H100 = SlurmDevice(gres="gpu:h100", partition="gpu")
CLUSTERS: dict[str, Callable[[Path, Capability], ClusterAdapter]] = {
    "local": open_local,
    "slurm_fake": open_slurm_fake,
    "slurm": open_slurm,
    "slurm_rest_old_fake": partial(open_rest_fake, "old"),
    "slurm_rest_new_fake": partial(open_rest_fake, "new"),
    "slurm_rest": open_slurm_rest,
    "kubernetes": partial(open_kubernetes, KubernetesCluster),
    "kubernetes_manifest": partial(open_kubernetes, ManifestCluster),
}
NEED_A_SERVER = frozenset({"slurm", "slurm_rest"})


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.external] if name in NEED_A_SERVER else [])
        for name in CLUSTERS
    ]
)
def open_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """An adapter to the same cluster at each call; every one has 8 CPU and 2 H100."""
    opened = list[ClusterAdapter]()

    def open_one(pausing_by: Capability) -> ClusterAdapter:
        opened.append(CLUSTERS[request.param](tmp_path / "cluster", pausing_by))
        return opened[-1]

    yield open_one
    for cluster in opened:
        if isinstance(cluster, KubernetesCluster):
            cluster.close()
    stop_rest(tmp_path / "cluster" / "slurm")


def make_runs(cluster: ClusterAdapter, tmp_path: Path) -> Iterator[Runs]:
    folder = tmp_path / "work with 'quotes' ä"
    folder.mkdir()
    runs = Runs(cluster, folder)
    yield runs
    runs.finish()


@pytest.fixture
def runs(open_cluster: Open, tmp_path: Path) -> Iterator[Runs]:
    yield from make_runs(open_cluster(Capability.CHECKPOINT), tmp_path)


@pytest.fixture
def freezing(open_cluster: Open, tmp_path: Path) -> Iterator[Runs]:
    cluster = open_cluster(Capability.FREEZE)
    if Capability.FREEZE not in cluster.capabilities:
        pytest.skip("this cluster does not declare that it can freeze")
    yield from make_runs(cluster, tmp_path)


# ---------------------------------------------------------------------- what a running job sees


def test_job_sees_what_interfaces_promises(runs: Runs) -> None:
    wanted = job(
        job_id=JobId("promised"),
        command=("/bin/sh", "-c", "env -0 > seen; pwd > where"),
        env=(("MINE", "two\nlines = ä"), ("GRIDTIDE_ATTEMPT", "mine")),
        workdir=str(runs.folder),
        options=(option(accelerator="CPU"),),
    )
    going = record(JobState.DISPATCHING, [run(0, 1, attempt=2, segment=3)], job=wanted)
    dispatch = build_dispatch(going, T0)
    runs.names.append(dispatch.name)
    runs.cluster.submit(dispatch)
    assert runs.until(RunState.ENDED, name="promised.2.3").exit_code == 0
    text = (runs.folder / "seen").read_text(encoding="utf-8")
    seen = dict(line.split("=", 1) for line in text.rstrip("\0").split("\0"))
    assert {name: seen.get(name) for name in dict(dispatch.env)} == {
        "MINE": "two\nlines = ä",
        "GRIDTIDE_JOB_ID": "promised",
        "GRIDTIDE_ATTEMPT": "2",
        "GRIDTIDE_SEGMENT": "3",
        "GRIDTIDE_GPUS": "1",
        "GRIDTIDE_DEADLINE": "2026-03-03T00:00:00Z",
        "GRIDTIDE_WINDOW_END": "2026-03-03T00:00:00Z",
    }
    assert Path(seen["GRIDTIDE_CHECKPOINT_DIR"]).is_absolute()
    assert lines(runs.folder / "where") == [str(runs.folder)]


def test_arguments_arrive_unchanged(runs: Runs) -> None:
    hard = ["", " a  b ", "'\"\\", "$HOME `id` $(id)", "two\nlines", "*", "-n", "大🌱"]
    script = f"cd '{str(runs.folder).replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'\n"
    command = ("/bin/sh", "-c", script + "printf '%s\\0' \"$@\" > seen", "sh", *hard)
    runs.start("", command=command)
    assert runs.until(RunState.ENDED).exit_code == 0
    seen = (runs.folder / "seen").read_text(encoding="utf-8")
    assert seen.split("\0")[:-1] == hard


def test_all_runs_of_a_job_share_a_checkpoint_directory_that_no_other_has(runs: Runs) -> None:
    script = 'echo "$GRIDTIDE_CHECKPOINT_DIR" >> where; echo x >> "$GRIDTIDE_CHECKPOINT_DIR/kept"'
    for name in ("a.1.0", "a.1.1", "a.2.0", "b.1.0"):
        runs.start(script, name)
        assert runs.until(RunState.ENDED, name=name).exit_code == 0
    first, again, retried, other = lines(runs.folder / "where")
    assert first == again == retried != other
    assert lines(Path(first) / "kept") == ["x", "x", "x"]
    assert lines(Path(other) / "kept") == ["x"]


# ---------------------------------------------------------------------------------- submission


def test_run_submitted_again_starts_nothing_and_has_the_same_reference(runs: Runs) -> None:
    script = "echo x >> starts; touch ready; while [ ! -e go ]; do sleep 0.01; done"
    references = [runs.start(script)]
    runs.until_file("ready")
    references.append(runs.start(script))
    (runs.folder / "go").touch()
    runs.until(RunState.ENDED)
    references.append(runs.start(script))
    references.append(runs.start("echo other >> starts"))
    assert len(set(references)) == 1
    assert references[0] == runs.status().ref
    assert lines(runs.folder / "starts") == ["x"]


def test_run_submitted_by_many_threads_at_once_starts_once(runs: Runs) -> None:
    together = threading.Barrier(6)

    def submit(_: int) -> str:
        together.wait()
        return runs.start("echo x >> starts")

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(submit, range(6)))) == 1
    runs.until(RunState.ENDED)
    assert lines(runs.folder / "starts") == ["x"]


def test_each_name_is_a_run_of_its_own(runs: Runs) -> None:
    for name in ("a.1.0", "a.1.1", "a.2.0"):
        runs.start("echo x >> starts", name)
    for name in ("a.1.0", "a.1.1", "a.2.0"):
        runs.until(RunState.ENDED, name=name)
    assert lines(runs.folder / "starts") == ["x", "x", "x"]


@pytest.mark.parametrize(
    "fields",
    [{"accelerator": "TPU"}, {"gpus": 9}, {"accelerator": "H100", "gpus": 3}],
)
def test_what_can_never_run_is_rejected_and_not_known(
    runs: Runs, fields: dict[str, object]
) -> None:
    with pytest.raises(DispatchRejectedError):
        runs.start("touch started", **fields)
    assert runs.cluster.poll(["job.1.0"]) == {}
    assert not (runs.folder / "started").exists()


# ------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize("code", [0, 1, EX_TEMPFAIL, 255])
def test_exit_code_is_reported(runs: Runs, code: int) -> None:
    runs.start(f"exit {code}")
    status = runs.until(RunState.ENDED)
    assert status.exit_code == code
    assert status.since is None
    assert [span.duration_s > 0 for span in status.spans] == [True]


def test_death_by_a_signal_is_a_negative_exit_code(runs: Runs) -> None:
    runs.start("kill -SEGV $$")
    assert runs.until(RunState.ENDED).exit_code == -11


def test_running_run_says_since_when(runs: Runs) -> None:
    runs.start("touch ready; sleep 60")
    runs.until_file("ready")
    status = runs.until(RunState.RUNNING)
    assert status.since is not None
    assert (status.name, status.spans, status.exit_code) == ("job.1.0", (), None)


def test_ended_run_says_the_same_for_ever(runs: Runs) -> None:
    runs.start("exit 3")
    ended = runs.until(RunState.ENDED)
    assert runs.status() == ended


# ------------------------------------------------------------------------------------- polling


def test_one_poll_tells_of_many_and_leaves_out_the_unknown(runs: Runs) -> None:
    runs.start("exit 0", "good.1.0")
    runs.start("exit 4", "bad.1.0")
    runs.start("sleep 60", "long.1.0")
    for name in ("good.1.0", "bad.1.0"):
        runs.until(RunState.ENDED, name=name)
    runs.until(RunState.RUNNING, name="long.1.0")
    asked = ["good.1.0", "bad.1.0", "long.1.0", "never.1.0", "good.1.1"]
    known = runs.cluster.poll(asked)
    assert {name: (one.state, one.exit_code) for name, one in known.items()} == {
        "good.1.0": (RunState.ENDED, 0),
        "bad.1.0": (RunState.ENDED, 4),
        "long.1.0": (RunState.RUNNING, None),
    }


def test_poll_of_nothing_tells_nothing(runs: Runs) -> None:
    assert runs.cluster.poll([]) == {}


def test_unknown_run_may_be_paused_resumed_and_cancelled(runs: Runs) -> None:
    runs.cluster.pause("never.1.0", grace_s=1)
    runs.cluster.resume("never.1.0")
    runs.cluster.cancel("never.1.0", grace_s=1)
    assert runs.cluster.poll(["never.1.0"]) == {}


# ------------------------------------------------------------------------------------ capacity


def test_devices_are_taken_while_a_run_lasts(runs: Runs) -> None:
    assert runs.cluster.free_devices() == {"CPU": 8, "H100": 2}
    runs.start("sleep 60", "a.1.0", gpus=3)
    runs.start("sleep 60", "b.1.0", gpus=2, accelerator="H100")
    assert runs.cluster.free_devices() == {"CPU": 5, "H100": 0}
    runs.cluster.cancel("a.1.0", grace_s=0)
    runs.until(RunState.ENDED, name="a.1.0")
    assert runs.cluster.free_devices() == {"CPU": 8, "H100": 0}


def test_full_cluster_starts_nothing_and_takes_the_run_later(runs: Runs) -> None:
    runs.start("sleep 60", "a.1.0", gpus=7)
    with pytest.raises(ClusterFullError):
        runs.start("touch started", "b.1.0", gpus=2)
    assert set(runs.cluster.poll(["a.1.0", "b.1.0"])) == {"a.1.0"}
    assert runs.cluster.free_devices()["CPU"] == 1
    runs.cluster.cancel("a.1.0", grace_s=0)
    runs.until(RunState.ENDED, name="a.1.0")
    assert not (runs.folder / "started").exists()
    runs.start("touch started", "b.1.0", gpus=2)
    assert runs.until(RunState.ENDED, name="b.1.0").exit_code == 0
    assert (runs.folder / "started").exists()


def test_run_that_is_known_is_no_longer_refused_for_lack_of_room(runs: Runs) -> None:
    reference = runs.start("sleep 60", gpus=8)
    assert runs.start("sleep 60", gpus=8) == reference


def test_known_run_takes_its_devices_once(runs: Runs) -> None:
    runs.start("sleep 60", gpus=3)
    runs.start("sleep 60", gpus=3)
    assert runs.cluster.free_devices()["CPU"] == 5


# -------------------------------------------------------------------------------------- cancel


def test_cancelled_run_gets_sigterm_and_may_leave_with_its_own_code(runs: Runs) -> None:
    runs.start("trap 'echo asked > asked; exit 9' TERM; touch ready; sleep 60 & wait")
    runs.until_file("ready")
    runs.cluster.cancel("job.1.0", grace_s=60)
    assert runs.until(RunState.ENDED).exit_code == 9
    assert lines(runs.folder / "asked") == ["asked"]


def test_run_that_ignores_sigterm_is_killed_after_its_grace(runs: Runs) -> None:
    runs.start("trap '' TERM; touch ready; while :; do sleep 0.01; done")
    runs.until_file("ready")
    runs.cluster.cancel("job.1.0", grace_s=0.05)
    assert runs.until(RunState.ENDED).exit_code == -9


def test_run_within_its_grace_is_left_to_finish(runs: Runs) -> None:
    runs.start(
        "trap 'touch asked' TERM; touch ready\nwhile [ ! -e go ]; do sleep 0.01; done; exit 5"
    )
    runs.until_file("ready")
    runs.cluster.cancel("job.1.0", grace_s=60)
    runs.until_file("asked")
    runs.cluster.cancel("job.1.0", grace_s=0)
    assert runs.status().state is RunState.RUNNING
    (runs.folder / "go").touch()
    assert runs.until(RunState.ENDED).exit_code == 5


def test_cancelled_run_cannot_be_started_again(runs: Runs) -> None:
    runs.start("echo x >> starts; touch ready; sleep 60")
    runs.until_file("ready")
    runs.cluster.cancel("job.1.0", grace_s=0)
    ended = runs.until(RunState.ENDED)
    runs.start("echo x >> starts")
    assert runs.status() == ended
    assert lines(runs.folder / "starts") == ["x"]


def test_ended_run_may_be_paused_resumed_and_cancelled(runs: Runs) -> None:
    runs.start("exit 0")
    ended = runs.until(RunState.ENDED)
    runs.cluster.cancel("job.1.0", grace_s=0)
    runs.cluster.pause("job.1.0", grace_s=0)
    runs.cluster.resume("job.1.0")
    assert runs.status() == ended


# ----------------------------------------------------------------------- pause by checkpointing


def test_paused_run_saves_leaves_with_75_and_goes_on_in_the_next_segment(runs: Runs) -> None:
    assert Capability.CHECKPOINT in runs.cluster.capabilities
    runs.start(SAVE_ON_TERM, "job.1.0")
    runs.until_file("ready")
    runs.cluster.pause("job.1.0", grace_s=60)
    runs.cluster.pause("job.1.0", grace_s=60)
    assert runs.until(RunState.ENDED).exit_code == EX_TEMPFAIL
    assert runs.cluster.free_devices()["CPU"] == 8
    runs.start('cat "$GRIDTIDE_CHECKPOINT_DIR/state" > restored', "job.1.1")
    assert runs.until(RunState.ENDED, name="job.1.1").exit_code == 0
    assert lines(runs.folder / "restored") == ["saved"]


def test_paused_run_that_saves_nothing_is_killed_after_its_grace(runs: Runs) -> None:
    runs.start("trap '' TERM; touch ready; while :; do sleep 0.01; done")
    runs.until_file("ready")
    runs.cluster.pause("job.1.0", grace_s=0.05)
    assert runs.until(RunState.ENDED).exit_code == -9


# ----------------------------------------------------------------------------- pause by freezing


def test_frozen_run_stands_still_and_goes_on_when_resumed(freezing: Runs) -> None:
    count = freezing.folder / "count"
    freezing.start(COUNT)
    wait_until(lambda: len(lines(count)) > 2, "it counts")
    freezing.cluster.pause("job.1.0", grace_s=60)
    freezing.until(RunState.FROZEN)
    pause = threading.Event()
    pause.wait(0.05)
    frozen_at = len(lines(count))
    pause.wait(0.1)
    assert len(lines(count)) == frozen_at
    freezing.cluster.resume("job.1.0")
    assert freezing.until(RunState.RUNNING).since is not None
    wait_until(lambda: len(lines(count)) > frozen_at, "it counts on")


def test_spans_leave_out_what_was_frozen(freezing: Runs) -> None:
    freezing.start("touch ready; while [ ! -e go ]; do sleep 0.01; done")
    freezing.until_file("ready")
    for _ in range(2):
        freezing.cluster.pause("job.1.0", grace_s=60)
        freezing.cluster.pause("job.1.0", grace_s=60)
        frozen = freezing.until(RunState.FROZEN)
        assert frozen.since is None
        freezing.cluster.resume("job.1.0")
        freezing.cluster.resume("job.1.0")
        assert freezing.until(RunState.RUNNING).spans == frozen.spans
    (freezing.folder / "go").touch()
    ended = freezing.until(RunState.ENDED)
    assert ended.exit_code == 0
    assert len(ended.spans) == 3
    assert all(one.end_at < other.start_at for one, other in pairwise(ended.spans))


def test_frozen_run_leaves_its_devices_and_waits_while_they_are_in_use(freezing: Runs) -> None:
    freezing.start("touch ready; sleep 60", gpus=8)
    freezing.until_file("ready")
    freezing.cluster.pause("job.1.0", grace_s=60)
    freezing.until(RunState.FROZEN)
    assert freezing.cluster.free_devices()["CPU"] == 8
    freezing.start("sleep 60", "other.1.0")
    with pytest.raises(ClusterFullError):
        freezing.cluster.resume("job.1.0")
    assert freezing.status().state is RunState.FROZEN
    freezing.cluster.cancel("other.1.0", grace_s=0)
    freezing.until(RunState.ENDED, name="other.1.0")
    freezing.cluster.resume("job.1.0")
    assert freezing.until(RunState.RUNNING)
    assert freezing.cluster.free_devices()["CPU"] == 0


def test_frozen_run_that_is_cancelled_wakes_up_to_save_and_its_time_counts(
    freezing: Runs,
) -> None:
    freezing.start(SAVE_ON_TERM)
    freezing.until_file("ready")
    freezing.cluster.pause("job.1.0", grace_s=60)
    freezing.until(RunState.FROZEN)
    freezing.cluster.cancel("job.1.0", grace_s=60)
    ended = freezing.until(RunState.ENDED)
    assert ended.exit_code == EX_TEMPFAIL
    assert len(ended.spans) == 2


def test_run_that_is_being_cancelled_is_not_frozen(freezing: Runs) -> None:
    freezing.start(
        "trap 'touch asked' TERM; touch ready\nwhile [ ! -e go ]; do sleep 0.01; done; exit 5"
    )
    freezing.until_file("ready")
    freezing.cluster.cancel("job.1.0", grace_s=60)
    freezing.cluster.pause("job.1.0", grace_s=60)
    freezing.until_file("asked")
    (freezing.folder / "go").touch()
    assert freezing.until(RunState.ENDED).exit_code == 5


# ------------------------------------------------------------------------------------ re-attach


def test_new_adapter_knows_ended_and_running_runs_and_their_devices(
    runs: Runs, open_cluster: Open
) -> None:
    runs.start("exit 7", "ended.1.0")
    runs.start("sleep 60", "long.1.0", gpus=3)
    ended = runs.until(RunState.ENDED, name="ended.1.0")
    running = runs.until(RunState.RUNNING, name="long.1.0")
    again = open_cluster(Capability.CHECKPOINT)
    assert again.poll(["ended.1.0", "long.1.0", "never.1.0"]) == {
        "ended.1.0": ended,
        "long.1.0": running,
    }
    assert again.free_devices()["CPU"] == 5


def test_new_adapter_starts_no_known_run_again(runs: Runs, open_cluster: Open) -> None:
    reference = runs.start("echo x >> starts; touch ready; sleep 60")
    runs.until_file("ready")
    again = open_cluster(Capability.CHECKPOINT)
    assert again.submit(runs.dispatch("echo x >> starts")) == reference
    assert lines(runs.folder / "starts") == ["x"]


def test_new_adapter_cancels_what_the_old_one_started(runs: Runs, open_cluster: Open) -> None:
    runs.start("trap 'exit 9' TERM; touch ready; sleep 60 & wait")
    runs.until_file("ready")
    again = open_cluster(Capability.CHECKPOINT)
    again.cancel("job.1.0", grace_s=60)
    assert Runs(again, runs.folder).until(RunState.ENDED).exit_code == 9


def test_new_adapter_kills_at_the_end_of_a_grace_that_the_old_one_gave(
    runs: Runs, open_cluster: Open
) -> None:
    runs.start("trap '' TERM; touch ready; while :; do sleep 0.01; done")
    runs.until_file("ready")
    runs.cluster.cancel("job.1.0", grace_s=0.05)
    again = open_cluster(Capability.CHECKPOINT)
    assert Runs(again, runs.folder).until(RunState.ENDED).exit_code == -9


def test_new_adapter_resumes_what_the_old_one_froze(freezing: Runs, open_cluster: Open) -> None:
    freezing.start("touch ready; while [ ! -e go ]; do sleep 0.01; done")
    freezing.until_file("ready")
    freezing.cluster.pause("job.1.0", grace_s=60)
    frozen = freezing.until(RunState.FROZEN)
    again = open_cluster(Capability.FREEZE)
    assert again.poll(["job.1.0"]) == {"job.1.0": frozen}
    again.resume("job.1.0")
    (freezing.folder / "go").touch()
    assert Runs(again, freezing.folder).until(RunState.ENDED).exit_code == 0


def test_checks_are_well_on_a_healthy_cluster(runs: Runs) -> None:
    checks = runs.cluster.checks()
    assert checks
    assert all(check.is_ok for check in checks)
    assert any(runs.cluster.cluster_id in check.subject for check in checks)
