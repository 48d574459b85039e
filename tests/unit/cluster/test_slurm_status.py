"""From Slurm's states to ours: nothing but an end is an end."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from adapters.cluster.slurm_commands import Completed, build_environment
from adapters.cluster.slurm_parsers import SlurmJob
from adapters.cluster.slurm_refusals import submission_error
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms, device_options, per_node
from adapters.cluster.slurm_status import Pauses, build_status
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
    InvalidConfigError,
    UpstreamError,
)
from scheduler.ports import RunState, RunStatus

S = RunState


def at(wall_s: float) -> datetime:
    return datetime.fromtimestamp(wall_s, UTC)


def status(
    state: str, *, pauses: Pauses | None = None, is_exclusive: bool = False, **fields: object
) -> RunStatus:
    known: dict[str, object] = {
        "job_id": "7",
        "name": "gt-job.1.0",
        "state": state,
        "reason": "None",
        "start_s": 100.0,
        "end_s": 160.0,
        "code": (0, 0),
        "has_run": True,
    }
    job = SlurmJob(**(known | fields))  # type: ignore[arg-type]
    return build_status("job.1.0", job, at=at, pauses=pauses or [], is_exclusive=is_exclusive)


def spans(one: RunStatus) -> list[tuple[float, float]]:
    return [(span.start_at.timestamp(), span.end_at.timestamp()) for span in one.spans]


@pytest.mark.parametrize(
    ("state", "code", "expected", "exit_code"),
    [
        ("COMPLETED", (0, 0), S.ENDED, 0),
        ("FAILED", (3, 0), S.ENDED, 3),
        ("FAILED", (75, 0), S.ENDED, 75),
        ("FAILED", (0, 11), S.ENDED, -11),
        ("FAILED", (0, 0), S.ENDED, None),
        ("TIMEOUT", (0, 0), S.ENDED, -15),
        ("TIMEOUT", (75, 0), S.ENDED, 75),
        ("DEADLINE", (0, 15), S.ENDED, -15),
        ("OUT_OF_MEMORY", (0, 125), S.ENDED, -9),
        ("OUT_OF_MEMORY", (0, 0), S.ENDED, -9),
        ("CANCELLED", (0, 9), S.ENDED, -9),
        ("CANCELLED", (0, 0), S.ENDED, -15),
        ("CANCELLED", (75, 0), S.ENDED, 75),
        ("NODE_FAIL", (0, 0), S.LOST, None),
        ("BOOT_FAIL", (0, 0), S.LOST, None),
        ("REVOKED", (0, 0), S.LOST, None),
        ("PREEMPTED", (0, 15), S.LOST, None),
        ("PREEMPTED", (75, 0), S.ENDED, 75),
    ],
)
def test_end(state: str, code: tuple[int, int], expected: RunState, exit_code: int | None) -> None:
    one = status(state, code=code)
    assert (one.state, one.exit_code, one.since) == (expected, exit_code, None)
    assert spans(one) == [(100, 160)]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        *((state, S.RUNNING) for state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")),
        *((state, S.RUNNING) for state in ("SIGNALING", "STAGE_OUT", "RESIZING", "NEW_WORD")),
        *((state, S.PENDING) for state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD")),
        *((state, S.PENDING) for state in ("REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")),
    ],
)
def test_what_is_no_end(state: str, expected: RunState) -> None:
    one = status(state)
    assert (one.state, one.exit_code, one.spans) == (expected, None, ())
    assert one.since == (at(100) if expected is S.RUNNING else None)
    assert state in one.detail


def test_unknown_word_about_a_job_without_a_node_means_that_it_waits() -> None:
    assert status("NEW_WORD", has_run=False, start_s=None).state is S.PENDING


def test_reason_of_waiting_is_told() -> None:
    assert status("PENDING", reason="QOSMaxJobs", has_run=False).detail == (
        "Slurm: PENDING, QOSMaxJobs"
    )


def test_job_cancelled_while_it_waited_has_neither_code_nor_span() -> None:
    one = status("CANCELLED", has_run=False, start_s=160.0)
    assert (one.state, one.exit_code, one.spans) == (S.ENDED, None, ())


def test_run_shorter_than_a_second_counts_as_one() -> None:
    assert spans(status("COMPLETED", end_s=100.0)) == [(100, 101)]
    assert spans(status("COMPLETED", end_s=None)) == [(100, 101)]


def test_earlier_stretches_of_a_requeued_job_count() -> None:
    assert spans(status("COMPLETED", stretches=((10.0, 20.0),))) == [(10, 20), (100, 160)]
    assert spans(status("PENDING", stretches=((10.0, 20.0),))) == [(10, 20)]


def test_pauses_are_left_out_of_spans() -> None:
    frozen = status("SUSPENDED", pauses=[[110.5, 120.5], [130.5]])
    assert (frozen.state, frozen.since) == (S.FROZEN, None)
    assert spans(frozen) == [(100, 110.5), (120.5, 130.5)]
    going = status("RUNNING", pauses=[[110.5, 120.5]])
    assert (spans(going), going.since) == ([(100, 110.5)], at(120.5))
    ended = spans(status("COMPLETED", pauses=[[110.5, 160.5]]))
    assert ended == [(100, 110.5), (160.5, 161)]  # Slurm's end is cut to the second
    assert all(one[1] < other[0] for one, other in pairwise(ended))
    assert spans(status("CANCELLED", pauses=[[110.5]])) == [(100, 110.5)]


def test_suspended_by_somebody_else_is_not_our_freeze() -> None:
    assert status("SUSPENDED").state is S.RUNNING


@pytest.mark.parametrize(
    ("state", "is_exclusive", "kwh"),
    [("COMPLETED", True, 2.0), ("COMPLETED", False, None), ("RUNNING", True, None)],
)
def test_energy_counts_on_exclusive_nodes_once_it_has_ended(
    state: str, is_exclusive: bool, kwh: float | None
) -> None:
    one = status(state, energy_j=7.2e6, is_exclusive=is_exclusive)
    assert one.energy_kwh == kwh


# -------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Invalid partition name specified", DispatchRejectedError),
        ("Requested node configuration is not available", DispatchRejectedError),
        ("Invalid account or account/partition combination specified", DispatchRejectedError),
        ("Invalid qos specification", DispatchRejectedError),
        ("unrecognized option '--foo'", DispatchRejectedError),
        ("Pathname of a file, directory or other parameter too long", DispatchRejectedError),
        ("Unable to contact slurm controller (connect failure)", ClusterUnavailableError),
        ("Munge encode failed: Failed to access", ClusterUnavailableError),
        ("Protocol authentication error", ClusterUnavailableError),
        ("Required partition not available (inactive or drain)", ClusterUnavailableError),
        ("Could not establish a configuration source", ClusterUnavailableError),
        ("QOSMaxSubmitJobPerUserLimit", ClusterFullError),
        ("Socket timed out on send/recv operation", DispatchUncertainError),
        ("Zero Bytes were transmitted or received", DispatchUncertainError),
    ],
)
def test_words_of_a_failed_submission(words: str, expected: type[UpstreamError]) -> None:
    error = submission_error(
        "east", Completed(1, "", f"sbatch: error: Batch job submission failed: {words}\n")
    )
    assert type(error) is expected
    assert error.message.startswith("east: ")
    assert words in error.message


def test_killed_command_leaves_doubt() -> None:
    assert isinstance(submission_error("east", Completed(None, "", "")), DispatchUncertainError)
    assert isinstance(submission_error("east", Completed(-9, "", "")), DispatchUncertainError)


# --------------------------------------------------------------------------------- request


def test_terms_become_options() -> None:
    terms = SlurmTerms(
        partition="main",
        account="nlp",
        qos="green",
        constraint="a|b",
        licenses="x:1",
        reservation="r",
        time_limit_s=61,
        is_exclusive=True,
        extra={"mem": "4G", "contiguous": ""},
    )
    assert terms.options(SlurmDevice(partition="gpu")) == [
        "--partition=gpu",
        "--account=nlp",
        "--qos=green",
        "--constraint=a|b",
        "--licenses=x:1",
        "--reservation=r",
        "--time=2",
        "--exclusive",
        "--mem=4G",
        "--contiguous",
    ]


@pytest.mark.parametrize("name", ["job-name", "wrap", "uid", "signal", "export", "requeue", "x;y"])
def test_option_that_is_not_allowed_is_named(name: str) -> None:
    with pytest.raises(InvalidConfigError, match=name):
        SlurmTerms(extra={name: "x"})


def test_devices_become_options() -> None:
    assert device_options(SlurmDevice(), each=3, num_nodes=1) == [
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=3",
    ]
    gpu = SlurmDevice(gres="gpu:h100", cpus_per_device=8)
    assert device_options(gpu, each=4, num_nodes=2) == [
        "--nodes=2",
        "--ntasks=2",
        "--cpus-per-task=32",
        "--gres=gpu:h100:4",
    ]
    assert "--gres=gpu:1" in device_options(SlurmDevice(gres="gpu"), each=1, num_nodes=1)


@pytest.mark.parametrize(("gpus", "num_nodes", "each"), [(8, 2, 4), (8, 3, None), (1, 0, None)])
def test_devices_are_shared_out_evenly(gpus: int, num_nodes: int, each: int | None) -> None:
    assert per_node(gpus, num_nodes) == each


def test_commands_see_no_steering_variables() -> None:
    inherited = {
        "PATH": "/bin",
        "SLURM_JWT": "secret",
        "SBATCH_PARTITION": "x",
        "SQUEUE_FORMAT": "y",
        "SLURM_CONF": "/etc/site.conf",
        "TZ": "Asia/Tokyo",
    }
    plain = {"PATH": "/bin", "TZ": "UTC", "LC_ALL": "C"}
    assert build_environment(inherited, None) == plain | {"SLURM_CONF": "/etc/site.conf"}
