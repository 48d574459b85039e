"""How a user's Job stands, by its own word, its pods, and what is marked at it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.cluster.kube_native_record import (
    CANCELLED,
    GIVEN_BACK,
    PAUSED,
    RELEASED,
    SPANS,
    STATUS,
    KubeNative,
    parse_native,
)
from adapters.cluster.kube_native_status import (
    MAX_SPANS,
    build_native_status,
    parse_spans,
    spans_text,
)
from adapters.cluster.kube_records import KubePod
from scheduler.ports import RunState, RunStatus
from tests.unit.cluster.kube_user import manifest

T = 1_772_000_000


def at(wall_s: float) -> datetime:
    return datetime.fromtimestamp(wall_s, UTC)


def stamped(offset_s: int) -> str:
    return at(T + offset_s).isoformat()


def job(*, suspend: bool = True, notes: dict[str, str] | None = None, **status: Any) -> KubeNative:
    document = manifest("mine", suspend=suspend)
    document["metadata"] |= {"uid": "u", "namespace": "ml", "creationTimestamp": stamped(0)}
    document["metadata"]["annotations"] |= notes or {}
    return parse_native(document | {"status": status})


def said(kind: str, offset_s: int, reason: str = "") -> dict[str, str]:
    return {
        "type": kind,
        "status": "True",
        "lastTransitionTime": stamped(offset_s),
        "reason": reason,
    }


def pod(began: int | None, ended: int | None = None, **fields: Any) -> KubePod:
    known: dict[str, Any] = {
        "name": f"p{began}",
        "uid": f"p{began}",
        "owner": "u",
        "version": "1",
        "index": 0,
        "began_s": None if began is None else T + began,
        "ended_s": None if ended is None else T + ended,
        "deleting_s": None,
        "code": None,
        "is_disrupted": False,
        "trouble": "",
    }
    return KubePod(**(known | fields))


def status(of: KubeNative, *pods: KubePod) -> RunStatus:
    return build_native_status("native:x", of, pods, at=at)


def spans(of: RunStatus) -> list[tuple[float, float]]:
    return [(one.start_at.timestamp() - T, one.end_at.timestamp() - T) for one in of.spans]


SUSPENDED = {"conditions": [said("Suspended", 1)]}


@pytest.mark.parametrize(
    ("notes", "state"),
    [
        ({}, RunState.PENDING),
        ({GIVEN_BACK: "x", STATUS: "did not start"}, RunState.UNSTARTED),
        ({PAUSED: "x"}, RunState.FROZEN),
        ({RELEASED: "x"}, RunState.FROZEN),
        ({SPANS: "[[0, 5]]"}, RunState.FROZEN),
        ({SPANS: "[[0, 5]]", GIVEN_BACK: "x"}, RunState.FROZEN),
        ({SPANS: "nonsense"}, RunState.PENDING),
        ({CANCELLED: "x"}, RunState.ENDED),
    ],
)
def test_at_rest_the_marks_say_what_it_waits_for(notes: dict[str, str], state: RunState) -> None:
    found = status(job(notes=notes, **SUSPENDED))
    assert found.state is state
    assert found.detail == ("did not start" if state is RunState.UNSTARTED else "")


def test_suspended_one_with_pods_is_not_at_rest() -> None:
    assert status(job(notes={PAUSED: "x"}, **SUSPENDED), pod(3)).state is RunState.RUNNING
    assert status(job(notes={PAUSED: "x"}), pod(3, 9)).state is RunState.RUNNING
    leaving = job(notes={PAUSED: "x"}, terminating=1, **SUSPENDED)
    assert status(leaving, pod(3, 9)).state is RunState.RUNNING


def test_stretches_of_earlier_pods_are_kept_and_the_open_one_is_not_told_twice() -> None:
    kept = {SPANS: f"[[{T + 10}, {T + 20}], [{T + 40}, {T + 60}]]"}
    running = status(job(suspend=False, notes=kept), pod(40))
    assert running.state is RunState.RUNNING
    assert running.since == at(T + 40)
    assert spans(running) == [(10, 20)]
    paused = status(job(notes=kept, **SUSPENDED), pod(40, 62))
    assert spans(paused) == [(10, 20), (40, 62)]


def test_pod_that_waits_says_why() -> None:
    found = status(job(suspend=False), pod(None, trouble="Unschedulable: no node"))
    assert (found.state, found.detail) == (RunState.PENDING, "Kubernetes: Unschedulable: no node")
    between = status(job(suspend=False), pod(3, 9, code=1), pod(None, trouble="x"))
    assert (between.state, between.since) == (RunState.RUNNING, None)


def test_ended_one_tells_its_code_and_when_it_ran() -> None:
    failed = job(
        suspend=False, conditions=[said("Failed", 50, "BackoffLimitExceeded")], startTime=stamped(5)
    )
    found = status(failed, pod(6, 30, code=3))
    assert (found.state, found.exit_code, spans(found)) == (RunState.ENDED, 3, [(6, 30)])
    unseen = status(job(suspend=False, conditions=[said("Complete", 50)], startTime=stamped(5)))
    assert (unseen.exit_code, spans(unseen)) == (0, [(5, 50)])


def test_mark_of_stretches_is_read_as_it_is_written_and_does_not_grow_for_ever() -> None:
    told = [(float(n), n + 0.5) for n in range(MAX_SPANS + 5)]
    assert parse_spans(spans_text(told)) == tuple(told[5:])


def test_pod_that_stays_after_the_end_counts_until_the_end() -> None:
    done = job(suspend=False, conditions=[said("Complete", 50)], startTime=stamped(5))
    found = status(done, pod(6, 50, code=0), pod(8))
    assert (found.exit_code, spans(found)) == (0, [(6, 50)])
    late = status(done, pod(6, 20, code=0), pod(30))
    assert spans(late) == [(6, 20), (30, 50)]
