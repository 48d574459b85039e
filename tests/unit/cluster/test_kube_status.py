"""From Kubernetes' word on a Job and its pods to ours."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.cluster.kube_records import KubePod, parse_job, parse_pod, seconds
from adapters.cluster.kube_status import (
    Ending,
    Outcome,
    build_status,
    has_left,
    outcome_of,
    parse_ending,
    parse_outcome,
)
from scheduler.ports import RunState, RunStatus

T_S = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
LEFT = {"suspend": True, "conditions": [("Suspended", "JobSuspended", "", 9)]}
SAVED = Ending(began_s=T_S).text()


def stamp(second: int) -> str:
    return f"2026-03-01T00:00:{second:02}Z"


def job_document(
    *,
    suspend: bool = False,
    conditions: list[tuple[str, str, str, int]] | None = None,
    notes: dict[str, str] | None = None,
    **status: Any,
) -> dict[str, Any]:
    told = [
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": stamp(at),
        }
        for kind, reason, message, at in conditions or ()
    ]
    return {
        "metadata": {
            "name": "gt-a-1-0",
            "uid": "u",
            "creationTimestamp": stamp(0),
            "labels": {"app.kubernetes.io/managed-by": "gridtide"},
            "annotations": {"gridtide.dev/run": "a.1.0", **(notes or {})},
        },
        "spec": {"suspend": suspend},
        "status": {"conditions": told, **status},
    }


def pod(
    name: str = "p",
    *,
    began: int | None = 1,
    ended: int | None = None,
    code: int | None = None,
    phase: str | None = None,
    **fields: Any,
) -> KubePod:
    state: dict[str, Any] = {}
    if ended is not None:
        gone = {"exitCode": code, "startedAt": stamp(began or 0), "finishedAt": stamp(ended)}
        state = {"terminated": gone}
        phase = phase or ("Succeeded" if code == 0 else "Failed")
    elif began is not None:
        state = {"running": {"startedAt": stamp(began)}}
    index = fields.pop("index", None)
    labels = {"batch.kubernetes.io/controller-uid": "u"}
    labels |= {} if index is None else {"batch.kubernetes.io/job-completion-index": str(index)}
    statuses = fields.pop("statuses", [{"state": state}])
    return parse_pod(
        {
            "metadata": {"name": name, "uid": name, "labels": labels, **fields.pop("meta", {})},
            "status": {"phase": phase or "Running", "containerStatuses": statuses, **fields},
        }
    )


def status(*pods: KubePod, **fields: Any) -> RunStatus:
    job = parse_job(job_document(**fields))
    return build_status("a.1.0", job, pods, at=lambda s: datetime.fromtimestamp(s, UTC))


def outcome(*pods: KubePod, **fields: Any) -> Outcome:
    return outcome_of(parse_job(job_document(**fields)), pods)


def failed(reason: str = "BackoffLimitExceeded", message: str = "") -> dict[str, Any]:
    return {"conditions": [("Failed", reason, message, 9)]}


COMPLETE: dict[str, Any] = {"conditions": [("Complete", "CompletionsReached", "", 9)]}


# -------------------------------------------------------------------------------------- states


@pytest.mark.parametrize(
    ("pods", "fields", "state"),
    [
        ([], {}, RunState.PENDING),
        ([pod(began=None)], {"active": 1}, RunState.PENDING),
        ([pod()], {"active": 1}, RunState.RUNNING),
        # Its pods have ended, but it is not over before Kubernetes says so.
        ([pod(ended=3, code=0)], {}, RunState.RUNNING),
        (
            [pod(ended=3, code=1)],
            {"conditions": [("FailureTarget", "BackoffLimitExceeded", "", 4)]},
            RunState.RUNNING,
        ),
        ([pod(ended=3, code=0)], COMPLETE, RunState.ENDED),
        ([pod(ended=3, code=1)], failed(), RunState.ENDED),
        # Its last pod is still to be heard of, or on a node that is: with its code, or while it may run.
        ([pod()], COMPLETE, RunState.RUNNING),
        ([pod()], failed(), RunState.RUNNING),
        # A pod that failed is no end: another may follow.
        ([pod(ended=3, code=1), pod("q", began=5)], {"active": 1, "failed": 1}, RunState.RUNNING),
        # Somebody suspended it: frozen once no pod is left.
        ([pod()], {**LEFT, "terminating": 1}, RunState.RUNNING),
        ([pod()], LEFT, RunState.RUNNING),
        ([pod(ended=5, code=143)], {**LEFT, "active": 1}, RunState.RUNNING),
        ([pod(ended=5, code=143)], {"suspend": True}, RunState.RUNNING),
        ([pod(ended=5, code=143)], LEFT, RunState.FROZEN),
        ([], LEFT, RunState.FROZEN),
        # We did: over once its outcome is kept.
        (
            [pod(ended=5, code=75)],
            {**LEFT, "notes": {"gridtide.dev/ending": SAVED}},
            RunState.RUNNING,
        ),
        ([], {**LEFT, "notes": {"gridtide.dev/outcome": Outcome(code=75).text()}}, RunState.ENDED),
    ],
)
def test_state_follows_conditions_and_pods_never_counts_of_failures(
    pods: list[KubePod], fields: dict[str, Any], state: RunState
) -> None:
    assert status(*pods, **fields).state is state


def test_running_run_says_since_when_and_what_went_before() -> None:
    told = status(pod(began=1, ended=3, code=137), pod("q", began=5), active=1)
    assert told.since == datetime(2026, 3, 1, 0, 0, 5, tzinfo=UTC)
    assert [one.duration_s for one in told.spans] == [2]
    assert (told.ref, told.exit_code) == ("gt-a-1-0", None)


def test_frozen_run_says_how_long_it_had_run() -> None:
    told = status(pod(began=1, ended=5, code=143), **LEFT)
    assert (told.since, [one.duration_s for one in told.spans]) == (None, [4])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/2 nodes",
                    }
                ],
            },
            "Kubernetes: Unschedulable: 0/2 nodes",
        ),
        (
            {
                "phase": "Pending",
                "statuses": [
                    {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
                ],
            },
            "Kubernetes: ImagePullBackOff: no",
        ),
        (
            {
                "phase": "Pending",
                "statuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}],
            },
            "",
        ),
        ({"phase": "Pending", "statuses": []}, ""),
    ],
)
def test_run_that_waits_says_what_for(fields: dict[str, Any], says: str) -> None:
    told = status(pod(began=None, **fields), active=1)
    assert (told.state, told.detail) == (RunState.PENDING, says)


# ---------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("code", "told"), [(1, 1), (75, 75), (128, 128), (137, -9), (139, -11), (143, -15), (255, 255)]
)
def test_code_above_128_is_a_signal(code: int, told: int) -> None:
    assert outcome(pod(ended=3, code=code), **failed()).code == told


def test_success_is_kubernetes_own_word() -> None:
    assert outcome(**COMPLETE).code == 0
    assert outcome(pod(ended=3, code=0), **failed("DeadlineExceeded", "too long")) == Outcome(
        code=None, spans=((T_S + 1, T_S + 3),), detail="Kubernetes: DeadlineExceeded: too long"
    )


def test_of_several_pods_the_one_that_failed_first_tells_why() -> None:
    pods = [
        pod("a", index=0, ended=6, code=143),
        pod("b", index=1, ended=4, code=3),
        pod("c", index=2, ended=3, code=0),
    ]
    assert outcome(*pods, **failed()).code == 3


def test_pod_that_the_cluster_sent_away_is_no_reason_to_fail() -> None:
    sent = pod("a", ended=3, code=137, conditions=[{"type": "DisruptionTarget", "status": "True"}])
    assert outcome(sent, pod("b", began=5, ended=8, code=4), **failed()).code == 4


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ([75], 75),
        ([75, 75], 75),
        ([75, 137], -9),
        ([9], 9),
        ([0], -15),  # asked to end, it may have left with 0 without having done its work
        ([0, 75], -15),
        ([143], -15),
    ],
)
def test_run_that_was_asked_to_leave_has_saved_only_if_every_pod_says_so(
    codes: list[int], told: int
) -> None:
    pods = [pod(f"p{n}", index=n, ended=5, code=code) for n, code in enumerate(codes)]
    assert outcome(*pods, **LEFT, notes={"gridtide.dev/ending": SAVED}).code == told


@pytest.mark.parametrize(("code", "told"), [(75, 75), (137, -9), (0, -15)])
def test_pod_that_was_told_to_leave_is_no_failure_though_its_job_counts_it_as_one(
    code: int, told: int
) -> None:
    ended = pod(ended=5, code=code, phase="Failed")
    found = outcome(ended, **failed(), notes={"gridtide.dev/ending": SAVED})
    assert (found.code, found.detail) == (told, "")


def test_run_that_was_given_back_has_not_failed_though_its_job_counts_its_pod() -> None:
    notes = {"gridtide.dev/ending": Ending(unstarted="no node").text()}
    told = status(**failed(), notes=notes)
    assert (told.state, told.detail) == (RunState.UNSTARTED, "no node")


def test_job_that_ran_out_of_time_says_so_though_it_was_told_to_leave() -> None:
    notes = {"gridtide.dev/ending": SAVED}
    found = outcome(pod(ended=5, code=143), **failed("DeadlineExceeded", "too long"), notes=notes)
    assert (found.code, found.detail) == (-15, "Kubernetes: DeadlineExceeded: too long")


def test_run_whose_pods_left_unseen_has_no_code_but_its_time_counts() -> None:
    ending = Ending(began_s=T_S + 2).text()
    found = outcome(**LEFT, notes={"gridtide.dev/ending": ending})
    assert (found.code, found.spans) == (None, ((T_S + 2, T_S + 9),))
    assert "gone before their exit codes could be read" in found.detail


def test_run_that_never_started_is_given_back() -> None:
    notes = {"gridtide.dev/ending": Ending(unstarted="no node").text()}
    found = outcome(**LEFT, notes=notes)
    assert found == Outcome(code=None, detail="no node", is_unstarted=True)
    told = status(**LEFT, notes={"gridtide.dev/outcome": found.text()})
    assert (told.state, told.exit_code, told.detail) == (RunState.UNSTARTED, None, "no node")


@pytest.mark.parametrize("code", [0, 75, 143])
def test_run_that_began_just_when_it_was_given_back_is_run_again(code: int) -> None:
    notes = {"gridtide.dev/ending": Ending(unstarted="no node").text()}
    found = outcome(pod(began=4, ended=5, code=code), **LEFT, notes=notes)
    assert (found.code, found.is_unstarted, len(found.spans)) == (75, False, 1)


def test_run_that_was_asked_to_leave_before_it_began_has_no_code_and_no_time() -> None:
    found = outcome(**LEFT, notes={"gridtide.dev/ending": Ending().text()})
    assert (found.code, found.spans, found.detail) == (None, (), "")


def test_leaving_is_done_when_no_pod_is_left_by_either_word() -> None:
    notes = {"gridtide.dev/ending": SAVED}
    gone = pod(ended=5, code=75)
    cases = [
        (LEFT, [gone], True),
        (LEFT, [], True),
        (LEFT, [pod()], False),
        ({**LEFT, "terminating": 1}, [gone], False),
        ({"suspend": True}, [gone], False),
        ({**LEFT, "conditions": [*LEFT["conditions"], *COMPLETE["conditions"]]}, [gone], False),
    ]
    for fields, pods, is_so in cases:
        assert has_left(parse_job(job_document(**fields, notes=notes)), pods) is is_so
    assert not has_left(parse_job(job_document(**LEFT)), [])


def test_stretches_that_touch_are_one_and_none_is_shorter_than_a_second() -> None:
    pods = [
        pod("a", index=0, began=1, ended=4, code=0),
        pod("b", index=1, began=3, ended=6, code=0),
        pod("c", index=2, began=8, ended=8, code=0),
    ]
    assert outcome(*pods, **COMPLETE).spans == ((T_S + 1, T_S + 6), (T_S + 8, T_S + 9))


def test_pod_that_nobody_saw_end_drew_power_until_it_was_deleted() -> None:
    lost = pod(meta={"deletionTimestamp": stamp(7)})
    told = build_status(
        "a.1.0",
        parse_job(job_document(**LEFT)),
        [replace(lost, is_gone=True)],
        at=lambda s: datetime.fromtimestamp(s, UTC),
    )
    assert (told.state, [one.duration_s for one in told.spans]) == (RunState.FROZEN, [6])


# ----------------------------------------------------------------------------------- documents


def test_kept_words_come_back_as_they_were() -> None:
    kept = Outcome(code=-9, spans=((1.0, 2.5),), detail="ä")
    assert parse_outcome(kept.text()) == kept
    ending = Ending(began_s=None, unstarted="why")
    assert parse_ending(ending.text()) == ending


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"code": [], "spans": 1}'])
def test_words_that_somebody_changed_are_no_success(text: str) -> None:
    assert parse_outcome(text).code is None
    assert parse_ending(text) == Ending()


def test_job_of_somebody_else_is_not_ours_whatever_its_annotations_say() -> None:
    document = job_document()
    document["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "helm"}
    assert parse_job(document).run is None


@pytest.mark.parametrize("text", [None, "", "yesterday", 5])
def test_what_is_no_time_is_none(text: object) -> None:
    assert seconds(text) is None


def test_empty_documents_are_read() -> None:
    assert parse_job({}).n_pods == 0
    assert parse_pod({}).is_live


# ------------------------------------------------------------- pods of several containers


def states(*told: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"state": one, **more} for one in told]


def gone(code: int, began: int, ended: int) -> dict[str, Any]:
    told = {"exitCode": code, "startedAt": stamp(began), "finishedAt": stamp(ended)}
    return {"terminated": told}


def going(began: int) -> dict[str, Any]:
    return {"running": {"startedAt": stamp(began)}}


def test_pod_ends_as_its_container_that_failed_first_whatever_their_order() -> None:
    both = states(gone(137, 2, 9), gone(3, 1, 5))
    found = pod(phase="Failed", statuses=both)
    assert (found.code, found.began_s, found.ended_s) == (3, T_S + 1, T_S + 9)
    assert pod(phase="Failed", statuses=both[::-1]).code == 3


def test_pod_has_succeeded_when_all_its_containers_have() -> None:
    assert pod(phase="Succeeded", statuses=states(gone(0, 1, 5), gone(0, 1, 6))).code == 0
    one_left = pod(phase="Running", statuses=states(gone(0, 1, 5), going(1)))
    assert (one_left.code, one_left.is_live) == (None, True)


def test_pod_has_its_devices_from_its_first_container_on() -> None:
    waiting = states({"waiting": {"reason": "PodInitializing"}})
    preparing = pod(statuses=waiting, initContainerStatuses=states(going(2)))
    assert (preparing.began_s, preparing.trouble) == (T_S + 2, "")
    ready = pod(statuses=states(going(8)), initContainerStatuses=states(gone(0, 2, 7)))
    assert ready.began_s == T_S + 2


def test_container_that_prepares_and_cannot_says_so() -> None:
    pulling = states({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
    waiting = states({"waiting": {"reason": "PodInitializing"}})
    found = pod(statuses=waiting, initContainerStatuses=pulling)
    assert found.trouble == "ImagePullBackOff: no such image"


def test_container_that_is_started_again_in_its_pod_has_been_there_before() -> None:
    again = pod(statuses=states(going(50), restartCount=2), startTime=stamp(1))
    assert again.began_s == T_S + 1
    crashed = {"waiting": {"reason": "CrashLoopBackOff"}}
    between = pod(statuses=states(crashed, restartCount=2), startTime=stamp(1))
    assert between.began_s == T_S + 1, (
        "it has begun, and is not to be taken back as one that has not"
    )
