"""The Kubernetes adapter on a simulated cluster: what conformance does not ask of every kind."""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster import kube_events
from adapters.cluster import kubernetes as module
from adapters.cluster.kube_client import path_of
from adapters.cluster.kube_watch import WatchPace
from adapters.cluster.kubernetes import KubePatience, KubernetesCluster
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
)
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.ports import RunState
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, open_cluster
from tests.unit.cluster.runs import Runs, lines, wait_until

JOBS = path_of("jobs", NAMESPACE)
QUOTAS = path_of("resourcequotas", NAMESPACE)
SAVE_ON_TERM = "trap 'exit 75' TERM; touch ready; sleep 60 & wait"
QUICK = WatchPace(least_s=0.0, most_s=0.05)
Open = Callable[..., KubernetesCluster]


@pytest.fixture
def instance() -> str:
    return f"u{uuid.uuid4().hex[:8]}"


@pytest.fixture
def opened(bed: KubeBed, tmp_path: Path, instance: str) -> Iterator[Open]:
    """Adapters to the same cluster, closed at the end."""
    made = list[KubernetesCluster]()

    def open_one(**fields: Any) -> KubernetesCluster:
        fields = {"patience": KubePatience(watch=QUICK), "instance": instance} | fields
        made.append(open_cluster(bed, tmp_path, **fields))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


@pytest.fixture
def runs(opened: Open, tmp_path: Path) -> Iterator[Runs]:
    with running(opened(), tmp_path) as made:
        yield made


@contextmanager
def running(cluster: KubernetesCluster, tmp_path: Path) -> Iterator[Runs]:
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    made = Runs(cluster, folder)
    yield made
    made.finish()


def job(bed: KubeBed, name: str) -> dict[str, Any]:
    return bed.admin("east").get(f"{JOBS}/{name}")


@pytest.fixture
def quota(bed: KubeBed) -> Iterator[Callable[..., None]]:
    """Sets what the namespace may use; taken away at the end."""
    admin = bed.admin("east")

    def put(**hard: str) -> None:
        document = {
            "metadata": {"name": "limit"},
            "spec": {"hard": hard},
        }
        admin.create(QUOTAS, document)
        wait_until(lambda: "status" in admin.get(f"{QUOTAS}/limit"), "it is counted")

    yield put
    admin.delete(f"{QUOTAS}/limit")


# ---------------------------------------------------------------------------------- submission


def test_job_has_the_image_that_the_run_asks_for(runs: Runs, bed: KubeBed, instance: str) -> None:
    ref = runs.start("exit 0", kubernetes=JobKubernetes(image="ours:2"))
    assert ref == f"{instance}-job-1-0"
    (container,) = job(bed, ref)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ours:2"


def test_job_of_that_name_that_is_not_ours_is_left_alone(
    runs: Runs, bed: KubeBed, instance: str
) -> None:
    name = f"{instance}-job-1-0"
    pod = {"containers": [{"name": "a", "image": "a"}], "restartPolicy": "Never"}
    document = {"metadata": {"name": name}, "spec": {"suspend": True, "template": {"spec": pod}}}
    bed.admin("east").create(JOBS, document)
    with pytest.raises(DispatchRejectedError, match=f"a Job {name} .* delete it, or set"):
        runs.cluster.submit(runs.dispatch("exit 0"))
    assert runs.cluster.poll(["job.1.0"]) == {}
    runs.cluster.cancel("job.1.0", grace_s=0)
    assert "annotations" not in job(bed, name)["metadata"]
    bed.admin("east").delete(f"{JOBS}/{name}")


def test_creation_whose_reply_was_lost_is_found_by_its_name(runs: Runs, bed: KubeBed) -> None:
    bed.fault("east", afterServing=True, drop=True, count=1, match="POST .*/jobs")
    runs.start("echo x >> starts")
    assert runs.until(RunState.ENDED).exit_code == 0
    assert lines(runs.folder / "starts") == ["x"]


def test_creation_that_gets_no_reply_at_all_stays_in_doubt_until_it_can_not_arrive_any_more(
    runs: Runs, bed: KubeBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.cluster.free_devices()
    bed.fault("east", drop=True, count=3, match="POST .*/jobs")
    with pytest.raises(DispatchUncertainError, match="looked up before it is tried again"):
        runs.cluster.submit(runs.dispatch("exit 0"))
    status = runs.status()
    assert (status.state, status.is_stale) == (RunState.PENDING, True)
    assert "may still be created" in status.detail
    later_s = time.monotonic() + module.DOUBT_S
    monkeypatch.setattr(module.time, "monotonic", lambda: later_s)
    assert runs.cluster.poll(["job.1.0"]) == {}


def test_creation_in_doubt_that_arrived_is_found(runs: Runs, bed: KubeBed) -> None:
    runs.cluster.free_devices()
    bed.fault("east", afterServing=True, drop=True, count=3, match="POST .*/jobs")
    with pytest.raises(DispatchUncertainError):
        runs.start("exit 3")
    assert runs.until(RunState.ENDED).exit_code == 3


def test_run_that_was_in_doubt_and_found_is_lost_at_once_where_it_is_deleted(
    runs: Runs, bed: KubeBed
) -> None:
    runs.cluster.free_devices()
    bed.fault("east", afterServing=True, drop=True, count=3, match="POST .*/jobs")
    with pytest.raises(DispatchUncertainError):
        runs.start("sleep 60")
    ref = runs.until(RunState.RUNNING).ref
    bed.admin("east").delete(f"{JOBS}/{ref}", grace_s=0)
    lost = runs.until(RunState.LOST)
    assert (lost.is_stale, lost.detail) == (False, "its Job was deleted, not by Gridtide")


def test_cluster_that_does_not_answer_is_unavailable_and_nothing_was_started(
    runs: Runs, bed: KubeBed
) -> None:
    runs.cluster.free_devices()
    bed.run("stop", "east")
    try:
        with pytest.raises(ClusterUnavailableError):
            runs.cluster.submit(runs.dispatch("touch started"))
        wait_until(lambda: _is_silent(runs), "its silence is noticed")
    finally:
        bed.run("restart", "east")
    wait_until(lambda: not _is_silent(runs), "it is well again")
    assert runs.cluster.poll(["job.1.0"]) == {}


def _is_silent(runs: Runs) -> bool:
    try:
        runs.cluster.poll(["job.1.0"])
    except ClusterUnavailableError:
        return True
    return False


def test_text_that_no_job_can_hold_is_refused(runs: Runs) -> None:
    for env in ((("A", "\ud800"),), (("A", "a\0b"),)):
        with pytest.raises(DispatchRejectedError, match="not Unicode, or with NUL"):
            runs.cluster.submit(runs.dispatch("exit 0", env=env))


def test_refusal_of_the_server_names_the_field(opened: Open, tmp_path: Path) -> None:
    runs = Runs(opened(image=""), tmp_path)
    with pytest.raises(DispatchRejectedError, match=r"containers\[0\]\.image: Required value"):
        runs.cluster.submit(runs.dispatch("exit 0"))
    assert runs.cluster.poll(["job.1.0"]) == {}


# ------------------------------------------------------------------------------------ watching


def test_run_that_somebody_suspends_is_frozen_and_goes_on_when_resumed(
    runs: Runs, bed: KubeBed
) -> None:
    ref = runs.start("echo x >> starts; touch ready; sleep 60")
    runs.until_file("ready")
    bed.admin("east").merge_patch(f"{JOBS}/{ref}", {"spec": {"suspend": True}})
    frozen = runs.until(RunState.FROZEN)
    assert (frozen.since, len(frozen.spans)) == (None, 1)
    assert runs.cluster.free_devices()["CPU"] == 8
    runs.start("sleep 60", "other.1.0", gpus=8)
    with pytest.raises(ClusterFullError, match="are in use"):
        runs.cluster.resume("job.1.0")
    runs.cluster.cancel("other.1.0", grace_s=0)
    runs.until(RunState.ENDED, name="other.1.0")
    runs.cluster.resume("job.1.0")
    running = runs.until(RunState.RUNNING)
    wait_until(lambda: len(lines(runs.folder / "starts")) == 2, "it goes on")
    assert running.spans == frozen.spans


def test_run_whose_job_somebody_deletes_is_lost(runs: Runs, bed: KubeBed) -> None:
    ref = runs.start("touch ready; sleep 60")
    runs.until_file("ready")
    runs.until(RunState.RUNNING)
    bed.admin("east").delete(f"{JOBS}/{ref}", grace_s=0)
    lost = runs.until(RunState.LOST)
    assert (lost.ref, lost.detail) == (ref, "its Job was deleted, not by Gridtide")
    runs.names.clear()


def test_outcome_of_a_run_that_was_sent_away_is_kept_on_its_job(
    runs: Runs, opened: Open, bed: KubeBed
) -> None:
    ref = runs.start(SAVE_ON_TERM)
    runs.until_file("ready")
    runs.cluster.pause("job.1.0", grace_s=60)
    ended = runs.until(RunState.ENDED)
    assert ended.exit_code == 75
    kept = json.loads(job(bed, ref)["metadata"]["annotations"]["gridtide.dev/outcome"])
    assert kept["code"] == 75
    assert opened().poll(["job.1.0"]) == {"job.1.0": ended}


def test_run_that_left_while_nobody_watched_counts_its_time_but_has_no_code(
    runs: Runs, opened: Open, bed: KubeBed
) -> None:
    ref = runs.start(SAVE_ON_TERM)
    runs.until_file("ready")
    runs.until(RunState.RUNNING)
    runs.cluster.pause("job.1.0", grace_s=60)
    pods = path_of("pods", NAMESPACE)
    selector = f"batch.kubernetes.io/job-name={ref}"
    admin = bed.admin("east")
    wait_until(lambda: not admin.list_all(pods, selector=selector).items, "its pod is gone")
    (ended,) = opened().poll(["job.1.0"]).values()
    assert (ended.state, ended.exit_code, len(ended.spans)) == (RunState.ENDED, None, 1)
    # The one that watched all the time does not write over what was told of it already.
    assert runs.until(RunState.ENDED) == ended


@pytest.mark.parametrize(
    "fault", [{"compact": True}, {"closeWatches": True}, {"revoke": "gridtide"}]
)
def test_runs_are_followed_whatever_becomes_of_watches_and_tokens(
    runs: Runs, bed: KubeBed, fault: dict[str, Any]
) -> None:
    runs.start("touch ready; while [ ! -e go ]; do sleep 0.01; done; exit 4")
    runs.until_file("ready")
    runs.until(RunState.RUNNING)
    bed.fault("east", **fault)
    bed.fault("east", closeWatches=True)
    (runs.folder / "go").touch()
    assert runs.until(RunState.ENDED).exit_code == 4
    runs.start("exit 0", "next.1.0")
    runs.until(RunState.ENDED, name="next.1.0")


def test_poll_asks_the_cluster_nothing_once_it_knows_the_runs(opened: Open, tmp_path: Path) -> None:
    cluster = opened(patience=KubePatience())
    with running(cluster, tmp_path) as made:
        made.start("touch ready; sleep 60")
        made.until_file("ready")
        made.until(RunState.RUNNING)
        before = cluster._client.link.requests
        for _ in range(100):
            cluster.poll(["job.1.0"])
        assert cluster._client.link.requests == before


def test_ends_are_told(runs: Runs) -> None:
    told = list[int]()
    runs.cluster.tell_ends(lambda: told.append(1))
    runs.start("exit 0")
    wait_until(lambda: bool(told), "the end is told")


# --------------------------------------------------------------------- runs that do not start


def test_run_that_no_node_can_take_says_so_is_given_back_and_may_be_tried_again(
    opened: Open, tmp_path: Path
) -> None:
    cluster = opened(patience=KubePatience(start_s=2.5, watch=QUICK))
    nowhere = module.KubeDevice(resource="cpu", node_selector={"no": "where"})
    cluster._devices["CPU"] = cluster._capacity._devices["CPU"] = nowhere
    with running(cluster, tmp_path) as runs:
        ref = runs.start("exit 0", gpus=3)
        wait_until(lambda: "Unschedulable" in runs.status().detail, "it says why")
        assert runs.status().state is RunState.PENDING
        back = runs.until(RunState.UNSTARTED)
        assert (back.exit_code, back.spans, back.ref) == (None, (), ref)
        assert "did not start within 2.5 s" in back.detail
        assert "0/2 nodes are available" in back.detail
        assert cluster.free_devices()["CPU"] == 8
        # Plans are told that three are not there, for a while.
        (missing,) = cluster.outlook().passing
        assert (missing.accelerator, missing.gpus, missing.window.duration_s) == ("CPU", 6, 3600)
        cluster._devices["CPU"] = module.KubeDevice(resource="cpu")
        assert runs.start("exit 4") == ref
        assert runs.until(RunState.ENDED).exit_code == 4


def test_outlook_tells_what_a_quota_does_not_leave(runs: Runs, quota: Callable[..., None]) -> None:
    cluster = runs.cluster
    assert isinstance(cluster, KubernetesCluster)
    assert cluster.outlook().passing == ()
    quota(**{"requests.nvidia.com/gpu": "1"})
    cluster._capacity._seen = None
    (missing,) = cluster.outlook().passing
    assert (missing.accelerator, missing.gpus) == ("H100", 1)
    assert cluster.outlook().taken == ()
    assert cluster.outlook().totals == {"CPU": 8, "H100": 2}


def test_run_whose_pods_a_quota_refuses_says_so(
    runs: Runs, quota: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_events, "PODLESS_S", 0.0)
    monkeypatch.setattr(kube_events, "EVENTS_EVERY_S", 0.0)
    quota(**{"pods": "0"})
    runs.start("exit 0")
    wait_until(lambda: "exceeded quota: limit" in runs.status().detail, "it says why")
    assert runs.status().state is RunState.PENDING


def test_quota_on_jobs_is_a_full_cluster(runs: Runs, quota: Callable[..., None]) -> None:
    quota(**{"count/jobs.batch": "0"})
    with pytest.raises(ClusterFullError, match="exceeded quota: limit"):
        runs.cluster.submit(runs.dispatch("exit 0"))
    assert runs.cluster.poll(["job.1.0"]) == {}


def test_no_more_is_free_than_a_quota_leaves(runs: Runs, quota: Callable[..., None]) -> None:
    quota(**{"requests.nvidia.com/gpu": "1"})
    assert runs.cluster.free_devices() == {"CPU": 8, "H100": 1}
    runs.start("sleep 60", accelerator="H100")
    assert runs.cluster.free_devices()["H100"] == 0


def test_nodes_are_counted_where_they_may_be_listed(opened: Open, bed: KubeBed) -> None:
    cluster = opened(context="east", capacity={"CPU": 1000, "H100": 1000})
    assert cluster.free_devices() == {"CPU": 32, "H100": 8}


# ------------------------------------------------------------------------------- several nodes


def test_run_on_two_nodes_is_an_indexed_job_with_a_service_that_goes_with_it(
    runs: Runs, bed: KubeBed
) -> None:
    script = 'echo "$JOB_COMPLETION_INDEX $GRIDTIDE_NODES $GRIDTIDE_FIRST_NODE" >> told'
    ref = runs.start(script, num_nodes=2, gpus=4)
    assert runs.cluster.free_devices()["CPU"] == 4
    assert runs.until(RunState.ENDED).exit_code == 0
    assert sorted(lines(runs.folder / "told")) == [f"0 2 {ref}-0.{ref}", f"1 2 {ref}-0.{ref}"]
    admin, services = bed.admin("east"), path_of("services", NAMESPACE)
    names = [one["metadata"]["name"] for one in admin.list_all(services).items]
    assert ref in names
    admin.delete(f"{JOBS}/{ref}")
    wait_until(
        lambda: ref not in [one["metadata"]["name"] for one in admin.list_all(services).items],
        "the service is gone",
    )
    runs.names.clear()


def test_one_pod_that_fails_ends_the_run(runs: Runs) -> None:
    runs.start('if [ "$JOB_COMPLETION_INDEX" = 1 ]; then exit 3; fi; sleep 60', num_nodes=2, gpus=2)
    assert runs.until(RunState.ENDED).exit_code == 3


def test_devices_that_cannot_be_shared_out_are_refused(runs: Runs) -> None:
    with pytest.raises(DispatchRejectedError, match="cannot be shared out over 2 nodes"):
        runs.cluster.submit(runs.dispatch("exit 0", num_nodes=2, gpus=3))


# -------------------------------------------------------------------------------- tidying, doctor


def test_jobs_that_were_sent_away_long_ago_are_deleted_and_others_stay(
    opened: Open, tmp_path: Path, bed: KubeBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_EVERY_S", 0.0)
    now = [time.time()]
    cluster = opened(wall=lambda: now[0])
    with running(cluster, tmp_path) as runs:
        refs = [runs.start(SAVE_ON_TERM, "old.1.0"), runs.start("exit 0", "done.1.0")]
        runs.until_file("ready")
        cluster.cancel("old.1.0", grace_s=60)
        for name in ("old.1.0", "done.1.0"):
            runs.until(RunState.ENDED, name=name)
        now[0] += 7 * 86_400 + 60
        cluster.poll(["done.1.0"])
        names = [one["metadata"]["name"] for one in bed.admin("east").list_all(JOBS).items]
        assert refs[0] not in names
        assert refs[1] in names  # the cluster deletes it itself
        runs.names.clear()


def test_doctor_of_somebody_without_rights_names_each_that_is_missing(opened: Open) -> None:
    version, clock, rights = opened(context="east-nobody").checks()
    assert version.is_ok
    assert clock.detail == "its clock agrees with ours"
    assert not rights.is_ok
    assert rights.detail.startswith(
        "in namespace training it may not create jobs, get jobs, list jobs, watch jobs, patch jobs, "
        "delete jobs, list pods, watch pods; deploy/kubernetes/role.yaml grants that"
    )


def test_doctor_tells_what_goes_without_a_right_that_may_be_left_out(
    opened: Open, bed: KubeBed
) -> None:
    admin = bed.admin("east")
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/gridtide"
    rules = admin.get(role)["rules"]
    admin.merge_patch(
        role, {"rules": [rules[0], rules[1] | {"verbs": ["list", "watch"]}, *rules[2:]]}
    )
    try:
        checks = opened().checks()
    finally:
        admin.merge_patch(role, {"rules": rules})
    assert all(one.is_ok for one in checks)
    said = "it may not delete pods: no run ends sooner than its own grace allows"
    assert said in [one.detail for one in checks]


@pytest.mark.parametrize(("by_s", "side"), [(-3600, "ahead of"), (3600, "behind")])
def test_doctor_says_that_clocks_differ(opened: Open, by_s: float, side: str) -> None:
    cluster = opened()
    cluster._client.link._wall = lambda: time.time() + by_s
    *_, clock = cluster.checks()
    assert not clock.is_ok
    assert re.search(rf"its clock is 3[56]\d\d s {side} ours", clock.detail)


def test_doctor_of_a_namespace_that_is_not_there_says_so(opened: Open) -> None:
    *_, last = opened(context="east", namespace="absent").checks()
    assert not last.is_ok
    assert last.detail == "there is no namespace absent; make it, or set kubernetes.namespace"


def test_doctor_says_that_nothing_keeps_checkpoints(opened: Open) -> None:
    *_, last = opened(checkpoint_claim=None).checks()
    assert last.detail.startswith("no volume keeps checkpoints")
