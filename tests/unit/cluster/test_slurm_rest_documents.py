"""Requests and answers of slurmrestd, as documents: both dialects, errors, versions, options."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.cluster.slurm_access import SlurmSubmission
from adapters.cluster.slurm_request import ALLOWED_OPTIONS, SlurmDevice, SlurmTerms
from adapters.cluster.slurm_rest_dialect import (
    NotExpressibleError,
    Served,
    choose_version,
    parse_served,
    require_known,
)
from adapters.cluster.slurm_rest_document import (
    SlurmError,
    about,
    errors,
    instant,
    is_empty,
    number,
    sentence,
)
from adapters.cluster.slurm_rest_new import NewDialect
from adapters.cluster.slurm_rest_old import OldDialect
from adapters.cluster.slurm_rest_options import NEW_OPTIONS, OLD_OPTIONS, mib, write_options
from adapters.cluster.slurm_status import exit_code

OLD, NEW = OldDialect(), NewDialect()
BY_GPU = SlurmDevice(gres="gpu:h100", partition="gpu", cpus_per_device=8)


def make_submission(**fields: Any) -> SlurmSubmission:
    known: dict[str, Any] = {
        "name": "gt-job.1.0",
        "comment": "gridtide:key=job.1.0",
        "workdir": "/work",
        "output": "/run/stdout.log",
        "error": "/run/stderr.log",
        "device": SlurmDevice(),
        "each": 3,
        "num_nodes": 1,
        "terms": SlurmTerms(partition="cpu"),
    }
    return SlurmSubmission(**(known | fields))


# ------------------------------------------------------------------------------- requests


def test_old_request() -> None:
    """Forms that v0.0.38 takes; it answers 400 to any other."""
    assert OLD.build_submission(make_submission(), "#!/bin/bash\n") == {
        "job": {
            "name": "gt-job.1.0",
            "comment": "gridtide:key=job.1.0",
            "environment": {"SLURM_GET_USER_ENV": "1", "SLURM_EXPORT_ENV": "NONE"},
            "no_requeue": True,
            "open_mode": "append",
            "current_working_directory": "/work",
            "standard_output": "/run/stdout.log",
            "standard_error": "/run/stderr.log",
            "nodes": [1, 1],
            "tasks": 1,
            "cpus_per_task": 3,
            "partition": "cpu",
        },
        "script": "#!/bin/bash\n",
    }


def test_new_request() -> None:
    assert NEW.build_submission(make_submission(), "#!/bin/bash\n") == {
        "job": {
            "name": "gt-job.1.0",
            "comment": "gridtide:key=job.1.0",
            "environment": ["SLURM_GET_USER_ENV=1", "SLURM_EXPORT_ENV=NONE"],
            "requeue": False,
            "open_mode": ["APPEND"],
            "current_working_directory": "/work",
            "standard_output": "/run/stdout.log",
            "standard_error": "/run/stderr.log",
            "minimum_nodes": 1,
            "maximum_nodes": 1,
            "tasks": 1,
            "cpus_per_task": 3,
            "partition": "cpu",
            "script": "#!/bin/bash\n",
        },
    }


def test_terms_and_devices_in_both() -> None:
    terms = SlurmTerms(
        partition="main",
        account="nlp",
        qos="green",
        constraint="a|b",
        licenses="x:1",
        time_limit_s=61,
        is_exclusive=True,
        extra={"mem": "4G", "wckey": "w"},
    )
    asked = make_submission(terms=terms, device=BY_GPU, each=4, num_nodes=2)
    old = OLD.build_submission(asked, "")["job"]
    new = NEW.build_submission(asked, "")["job"]
    shared = {"partition": "gpu", "account": "nlp", "qos": "green", "constraints": "a|b"}
    shared |= {"licenses": "x:1", "wckey": "w", "tasks": 2, "cpus_per_task": 32}
    assert shared.items() <= old.items()
    assert shared.items() <= new.items()
    assert {"gres": "gpu:h100:4", "nodes": [2, 2], "time_limit": 2}.items() <= old.items()
    assert {"exclusive": "exclusive", "memory_per_node": 4096}.items() <= old.items()
    assert {"tres_per_node": "gres/gpu:h100:4", "minimum_nodes": 2}.items() <= new.items()
    assert {"shared": ["none"], "maximum_nodes": 2}.items() <= new.items()
    assert new["time_limit"] == {"set": True, "number": 2}
    assert new["memory_per_node"] == {"set": True, "number": 4096}


def test_device_without_cpus_leaves_them_to_slurm() -> None:
    asked = make_submission(device=SlurmDevice(gres="gpu"), each=1)
    assert "cpus_per_task" not in OLD.build_submission(asked, "")["job"]
    assert NEW.build_submission(asked, "")["job"]["tres_per_node"] == "gres/gpu:1"


def test_reservation_is_for_newer_ones() -> None:
    asked = make_submission(terms=SlurmTerms(partition="cpu", reservation="r"))
    assert NEW.build_submission(asked, "")["job"]["reservation"] == "r"
    with pytest.raises(NotExpressibleError, match="reservation"):
        OLD.build_submission(asked, "")


@pytest.mark.parametrize("known", [OLD_OPTIONS, NEW_OPTIONS])
def test_only_options_that_sbatch_may_be_given_are_known(known: dict[str, Any]) -> None:
    assert set(known) <= ALLOWED_OPTIONS


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"power": "x"}, "'power' cannot be given"),
        ({"mem": "lots"}, "mem: 'lots'"),
        ({"nice": "very"}, "nice: 'very'"),
        ({"spread-job": "yes"}, "spread-job: 'yes'"),
    ],
)
def test_option_that_cannot_be_written_is_named(extra: dict[str, str], words: str) -> None:
    with pytest.raises(NotExpressibleError, match=words):
        write_options(extra, OLD_OPTIONS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("0", 0), ("5", 5), ("1500K", 2), ("4G", 4096), ("1T", 1 << 20), ("2gb", 2048)],
)
def test_memory_is_in_mib(given: str, expected: int) -> None:
    assert mib(given) == expected


def test_newer_options_in_their_forms() -> None:
    extra = {"exclude": "a, b", "mail-type": "end,fail", "gpus-per-task": "2", "priority": "7"}
    assert write_options(extra, NEW_OPTIONS) == {
        "excluded_nodes": ["a", "b"],
        "mail_type": ["END", "FAIL"],
        "tres_per_task": "gres/gpu:2",
        "priority": {"set": True, "number": 7},
    }


def test_keys_that_would_be_ignored_are_refused() -> None:
    body = {"job": {"name": "x", "wckey": "y"}}
    require_known(body, frozenset())  # nothing is described: nothing is known to be unknown
    require_known(body, frozenset({"name", "wckey"}))
    with pytest.raises(NotExpressibleError, match="wckey"):
        require_known(body, frozenset({"name"}))


# -------------------------------------------------------------------------------- answers

OLD_JOB = {
    "job_id": 7,
    "name": "gt-job.1.0",
    "job_state": "FAILED",
    "state_reason": "NonZeroExitCode",
    "start_time": 1000,
    "end_time": 1010,
    "exit_code": 768,
    "nodes": "c1",
    "comment": "gridtide:key=job.1.0;asks=CPU:2;ticket=ticket-1;kill=99.500",
}
NEW_JOB = OLD_JOB | {
    "job_state": ["FAILED"],
    "start_time": {"set": True, "infinite": False, "number": 1000},
    "end_time": {"set": True, "infinite": False, "number": 1010},
    "exit_code": {
        "status": ["ERROR"],
        "return_code": {"set": True, "infinite": False, "number": 3},
        "signal": {"id": {"set": False, "infinite": False, "number": 0}, "name": ""},
    },
}


@pytest.mark.parametrize(("dialect", "document"), [(OLD, OLD_JOB), (NEW, NEW_JOB)])
def test_job_of_the_controller(dialect: Any, document: Any) -> None:
    job = dialect.parse_job(document)
    assert (job.job_id, job.name, job.state, job.reason) == (
        "7",
        "gt-job.1.0",
        "FAILED",
        "NonZeroExitCode",
    )
    assert (job.start_s, job.end_s, job.code, job.has_run) == (1000.0, 1010.0, (3, 0), True)
    assert (job.asks, job.ticket, job.kill_at_s) == (("CPU", 2), "ticket-1", 99.5)
    assert not job.is_accounted


@pytest.mark.parametrize(
    ("status", "code"),
    [(0, 0), (768, 3), (19200, 75), (11, -11), (139, -11), (9, -9), (65280, 255)],
)
def test_old_controller_gives_a_wait_status(status: int, code: int) -> None:
    state = "COMPLETED" if status == 0 else "FAILED"
    job = OLD.parse_job(OLD_JOB | {"exit_code": status, "job_state": state})
    assert exit_code(job) == code


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["RUNNING"], "RUNNING"),
        (["COMPLETED", "COMPLETING"], "COMPLETING"),
        (["RUNNING", "CONFIGURING"], "CONFIGURING"),
        (["PENDING", "REQUEUED"], "REQUEUED"),
        (["RUNNING", "SIGNALING"], "SIGNALING"),
        (["FAILED", "LAUNCH_FAILED"], "FAILED"),
        (["SOMETHING_NEW"], "SOMETHING_NEW"),
        ("RUNNING", "RUNNING"),
        ([], ""),
    ],
)
def test_new_states_become_the_word_of_squeue(states: object, state: str) -> None:
    assert NEW.parse_job(NEW_JOB | {"job_state": states}).state == state


def old_accounted(state: str, code: object, batch: object = None) -> dict[str, Any]:
    return {
        "job_id": 7,
        "name": "gt-job.1.0",
        "state": {"current": state, "reason": "None"},
        "exit_code": code,
        "nodes": "c1",
        "time": {"start": 1000, "end": 1010, "elapsed": 10},
        "steps": [{"step": {"id": "batch"}, "exit_code": batch or code}],
    }


SUCCESS: dict[str, object] = {"status": "SUCCESS", "return_code": 0}
SHOT: dict[str, object] = {"status": "SIGNALED", "return_code": None, "signal": {"signal_id": 11}}


@pytest.mark.parametrize(
    ("state", "code", "batch", "expected"),
    [
        ("COMPLETED", SUCCESS, None, 0),
        ("FAILED", SUCCESS, None, None),  # it exited 3, or 75, or whatever
        ("FAILED", SHOT, None, -11),
        ("CANCELLED", SUCCESS, SHOT, -11),
        ("CANCELLED", SUCCESS, None, None),
        ("TIMEOUT", SUCCESS, None, None),
        ("OUT_OF_MEMORY", SUCCESS, None, None),
    ],
)
def test_old_accounts_are_believed_in_signals_and_in_success_only(
    state: str, code: object, batch: object, expected: int | None
) -> None:
    assert exit_code(OLD.parse_accounted(old_accounted(state, code, batch))) == expected


def test_new_accounts_tell_the_batch_step() -> None:
    ended = {
        "job_id": 7,
        "name": "gt-job.1.0",
        "state": {"current": ["CANCELLED"], "reason": "None"},
        "exit_code": {"status": ["SUCCESS"], "return_code": {"set": True, "number": 0}},
        "nodes": "c1",
        "time": {"start": 1000, "end": 1010},
        "steps": [
            {
                "step": {"id": "7.batch", "name": "batch"},
                "exit_code": {"status": ["ERROR"], "return_code": {"set": True, "number": 75}},
            }
        ],
    }
    job = NEW.parse_accounted(ended)
    assert (job.state, exit_code(job), job.start_s, job.end_s) == ("CANCELLED", 75, 1000.0, 1010.0)
    assert not NEW.parse_accounted(ended | {"nodes": "None assigned"}).has_run


def test_old_node() -> None:
    node = OLD.parse_node(
        {
            "name": "g1",
            "state": "mixed",
            "state_flags": ["DRAIN"],
            "partitions": ["gpu", "all"],
            "cpus": 64,
            "alloc_cpus": 8,
            "gres": "gpu:h100:4(S:0-1)",
            "gres_used": "gpu:h100:1(IDX:0)",
        }
    )
    assert node.flags == {"MIXED", "DRAIN"}
    assert node.partitions == {"gpu", "all"}
    assert (node.free(None), node.free("gpu:h100"), node.total("gpu")) == (56, 3, 4)
    assert not node.is_usable(None)


def test_new_node() -> None:
    node = NEW.parse_node(
        {
            "name": "g1",
            "state": ["IDLE", "RESERVED"],
            "partitions": ["gpu"],
            "cpus": 64,
            "effective_cpus": 62,
            "alloc_cpus": 2,
            "reservation": "mine",
            "gres": "gpu:h100:4",
            "gres_used": "gpu:h100:0(IDX:N/A)",
        }
    )
    assert (node.free(None), node.free("gpu:h100")) == (60, 4)
    assert node.is_usable("mine")
    assert not node.is_usable(None)


def test_only_old_ones_tell_the_default_partition() -> None:
    assert OLD.is_default({"name": "cpu", "flags": ["default"]})
    assert not OLD.is_default({"name": "gpu", "flags": []})
    assert not NEW.is_default({"name": "cpu"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ({"set": True, "infinite": False, "number": 7}, 7),
        ({"set": True, "number": 7}, 7),
        ({"set": False, "infinite": False, "number": 0}, None),
        ({"set": True, "infinite": True, "number": 7}, None),
        (None, None),
        ("7", None),
        (True, None),
        ([], None),
        (18446744073709551614, None),
        (float("nan"), None),
    ],
)
def test_numbers_come_in_two_forms(value: object, expected: int | None) -> None:
    assert number(value) == expected


def test_no_instant_is_zero_or_unset() -> None:
    assert (instant(0), instant({"set": False, "number": 0}), instant(5)) == (None, None, 5.0)


def test_complaints_of_all_forms_are_one_sentence() -> None:
    document = {
        "errors": [
            {"error_code": 2014, "error": "Not available"},
            {"description": "Why", "error_number": -1, "error": "Unspecified error"},
            {"error": "Unspecified error", "errno": -1},
            {"description": 'Unknown key "x"', "source": "hsearch_r"},
            {"description": "Nothing found", "error_number": 9003},
            "no object",
        ],
        "status": [
            {"error": {"string": "Invalid job id specified", "code": 2017}},
            {"error": {"string": "Success", "code": 0}},
        ],
    }
    found = errors(document)
    assert found == [
        SlurmError(2014, "Not available"),
        SlurmError(-1, "Unspecified error: Why"),
        SlurmError(-1, "Unspecified error"),
        SlurmError(None, 'Unknown key "x"'),
        SlurmError(2017, "Invalid job id specified"),
    ]
    assert sentence([*found, found[0]]).startswith("Not available; Unspecified error: Why; ")
    assert sentence([*found, found[0]]).count("Not available") == 1
    assert not is_empty(document)
    assert is_empty({"errors": [{"error_number": 9003}]})
    assert not is_empty({"errors": []})


def test_slurmrestd_tells_of_itself_in_two_places() -> None:
    assert about({"meta": {"Slurm": {"release": "22.05.8"}}}) == {"release": "22.05.8"}
    assert about({"meta": {"slurm": {"cluster": "east"}}}) == {"cluster": "east"}
    assert about(None) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*OLD_JOB, "state", "steps", "time", "current"]), inner)
    ),
    max_leaves=12,
)


# On a busy machine the first document alone may take seconds to make up.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*OLD_JOB, "state", "steps", "time", "user"]), JSON))
def test_any_document_is_read_without_harm(document: dict[str, Any]) -> None:
    for dialect in (OLD, NEW):
        job = {**document, "job_id": 7}
        assert dialect.parse_job(job).job_id == "7"
        assert dialect.parse_accounted(job).is_accounted
        dialect.parse_node(document)
        dialect.is_default(document)
    errors(document)


# -------------------------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("served", "pinned", "chosen"),
    [
        (["v0.0.36", "v0.0.37", "v0.0.38"], None, "v0.0.38"),
        (["v0.0.36", "v0.0.37", "v0.0.38", "v0.0.39"], None, "v0.0.38"),
        (["v0.0.38", "v0.0.39", "v0.0.40"], None, "v0.0.40"),
        (["v0.0.40", "v0.0.41", "v0.0.42"], None, "v0.0.42"),
        (["v0.0.43", "v0.0.99"], None, "v0.0.43"),
        (["v0.0.40", "v0.0.41"], "v0.0.40", "v0.0.40"),
        (["v0.0.40"], "v0.0.41", None),
        (["v0.0.37"], None, None),
        ([], None, None),
    ],
)
def test_best_version_that_is_known_is_spoken(
    served: list[str], pinned: str | None, chosen: str | None
) -> None:
    assert choose_version(served, pinned) == chosen


def test_description_tells_versions_paths_and_keys() -> None:
    described = {
        "paths": {
            "/slurm/v0.0.9/jobs": {},
            "/slurm/v0.0.42/jobs/": {},
            "/slurmdb/v0.0.42/jobs/": {},
            "/openapi/v3": {},
        },
        "components": {"schemas": {"v0.0.42_job_desc_msg": {"properties": {"name": {}}}}},
    }
    served = parse_served(json.dumps(described))
    assert isinstance(served, Served)
    assert served.versions == ["v0.0.9", "v0.0.42"]
    assert served.find_path("slurm", "v0.0.9", "jobs") == "/slurm/v0.0.9/jobs"
    assert served.find_path("slurm", "v0.0.42", "jobs") == "/slurm/v0.0.42/jobs/"
    assert served.find_path("slurmdb", "v0.0.9", "jobs") is None
    assert served.job_keys == {"v0.0.42": frozenset({"name"})}
