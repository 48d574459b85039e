"""What a Workload tells, and how a Job in a queue is seen by it."""

from typing import Any

import pytest

from adapters.cluster.kube_native_record import ADOPTED, CANCELLED, HOLD, PAUSED, RELEASED
from adapters.cluster.kueue_natives import as_queued
from adapters.cluster.kueue_records import HELD, KubeWorkload, parse_workload
from tests.unit.cluster.test_kube_native_record import native

LABELS = {"kueue.x-k8s.io/queue-name": "q"}
STAMP = "2026-03-02T01:00:00Z"


def workload(
    *,
    is_active: bool = True,
    is_held: bool = False,
    checks: dict[str, str] | None = None,
    **said: str,
) -> KubeWorkload:
    listed = [{"name": name, "state": state} for name, state in (checks or {}).items()]
    conditions = [
        {"type": kind, "status": status, "message": f"{kind} is {status}"}
        for kind, status in said.items()
    ]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "mine", "uid": "u-1"}
    return parse_workload(
        {
            "metadata": {
                "name": "job-mine-1",
                "namespace": "ml",
                "annotations": {HELD: STAMP} if is_held else {},
                "ownerReferences": [owner],
            },
            "spec": {"active": is_active},
            "status": {"conditions": conditions, "admissionChecks": listed},
        }
    )


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({}, ""),
        ({"QuotaReserved": "False"}, "QuotaReserved is False"),
        (
            {"QuotaReserved": "True", "checks": {"b": "Pending", "a": "Ready"}},
            "quota is reserved, waits for b",
        ),
        ({"QuotaReserved": "True", "Admitted": "True"}, ""),
    ],
)
def test_why_it_is_not_admitted_is_told_in_kueues_words(terms: dict[str, Any], words: str) -> None:
    assert workload(**terms).waits_for == words


def test_eviction_ends_admission_which_is_remembered() -> None:
    found = workload(QuotaReserved="True", Admitted="True", Evicted="True")
    assert (found.is_admitted, found.has_quota, found.was_admitted) == (False, False, True)
    assert not workload(QuotaReserved="False").was_admitted


def test_workload_of_another_kind_has_no_job() -> None:
    owner = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "uid": "u-2"}
    assert parse_workload({"metadata": {"ownerReferences": [owner]}}).owner == ""
    assert workload().owner == "u-1"


@pytest.mark.parametrize(
    ("notes", "found", "suspend", "is_kept"),
    [
        ({}, None, True, True),  # Kueue has not taken it up
        ({}, workload(), True, True),  # it waits, and is to be held
        ({}, workload(Admitted="True"), False, False),  # it runs without us
        ({ADOPTED: "j"}, workload(is_active=False, is_held=True), True, True),
        ({ADOPTED: "j"}, workload(is_held=True), True, False),  # its user has activated it
        ({ADOPTED: "j", RELEASED: STAMP}, workload(), True, False),  # it waits for quota
        ({ADOPTED: "j", PAUSED: STAMP}, workload(Admitted="True"), False, True),  # asked to leave
        ({ADOPTED: "j", RELEASED: STAMP, CANCELLED: STAMP}, workload(Admitted="True"), False, True),
    ],
)
def test_job_is_suspended_for_us_while_its_workload_is_kept_from_kueue(
    notes: dict[str, str], found: KubeWorkload | None, suspend: bool, is_kept: bool
) -> None:
    job = as_queued(native(notes=notes, labels=LABELS, suspend=suspend), found)
    assert job.is_suspended is is_kept
    assert job.barrier == ""


def test_hand_of_its_user_is_told_from_ours() -> None:
    notes = {ADOPTED: "j", RELEASED: STAMP}
    ours = as_queued(native(notes=notes, labels=LABELS), workload(is_active=False, is_held=True))
    assert not ours.is_held
    assert RELEASED not in ours.marks, "it was not let go yet"
    theirs = as_queued(native(notes=notes, labels=LABELS), workload(is_active=False))
    assert theirs.is_held
    assert theirs.marks[HOLD] == "true"


def test_job_in_no_queue_and_one_that_is_over_are_seen_as_they_are() -> None:
    plain = native(suspend=False)
    assert as_queued(plain, None) is plain
    unknown = native(labels=LABELS)
    assert unknown.barrier.startswith("it is in Kueue's queue q, which decides")
