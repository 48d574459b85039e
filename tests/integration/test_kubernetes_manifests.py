"""Users' own manifests, and trials at submission: from the command line and the API to simulated clusters."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from scheduler.server.wiring import Service
from tests.integration.api_world import api, job
from tests.integration.cli_world import Run
from tests.integration.kubernetes_world import NAMES, jobs_of, kube_cluster
from tests.integration.slurm_world import constant, have_ended, wait_for_jobs
from tests.integration.test_kubernetes_service import new_prefix, serving
from tests.unit.cluster.kube_world import KubeBed, running_bed
from tests.unit.cluster.manifests import Document, manifest

ALLOWED = ["image", "manifest"]
TRIALS = "POST .*/jobs.*dryRun=All"
WORDS = {"gridtide.dev/patience": "24h", "gridtide.dev/duration": "1h"}
POLICY = {"status": 403, "message": 'jobs.batch "x" is forbidden: denied by a policy'}


@pytest.fixture
def bed() -> Iterator[KubeBed]:
    bed = running_bed()
    yield bed
    for name in NAMES:
        bed.fault(name)


Opened = tuple[httpx.Client, Service]


@pytest.fixture
def opened(bed: KubeBed, tmp_path: Path) -> Iterator[Opened]:
    """A service on both clusters, which take manifests."""
    clusters = [kube_cluster(tmp_path, name, bed, allow=ALLOWED) for name in NAMES]
    with api(tmp_path, clusters=clusters, intensity=constant(tmp_path)) as made:
        yield made


def own(words: dict[str, str] | None = None, **parts: Any) -> Document:
    return manifest(meta={"name": "finetune", "annotations": words or WORDS}, **parts)


def write(folder: Path, *documents: Any) -> str:
    path = folder / "job.k8s.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return str(path)


# ------------------------------------------------------------------------------- over the API


def test_manifest_becomes_a_job_that_shows_it(opened: Opened) -> None:
    client, service = opened
    labels = {"app.kubernetes.io/instance": "mine"}
    made = own(container={"resources": {"limits": {"nvidia.com/gpu": 2}}})
    made["metadata"]["labels"] = labels
    answer = client.post("/v1/jobs", json={"kubernetes": {"manifest": made}, "priority": 3})
    assert answer.status_code == 201, answer.text
    shown = client.get(f"/v1/jobs/{answer.json()['id']}").json()
    assert shown["kubernetes"]["manifest"] == made
    assert (shown["name"], shown["priority"]) == ("finetune", 3)
    assert [one["accelerators"] for one in shown["options"]] == ["H100:2"]
    (note,) = client.get(f"/v1/jobs/{answer.json()['id']}/explain").json()["notes"]
    assert note.startswith("metadata.labels.app.kubernetes.io/instance: 'mine' gives way")
    (listed,) = client.get("/v1/jobs").json()["jobs"]
    assert "manifest" not in listed["kubernetes"], "lists may be long"
    (record,) = service.store.active_jobs()
    assert record.job.cluster_ids == ("east", "west")


def test_site_that_does_not_say_so_takes_no_manifests(bed: KubeBed, tmp_path: Path) -> None:
    clusters = [kube_cluster(tmp_path, "east", bed)]
    with api(tmp_path, clusters=clusters) as (client, service):
        answer = client.post("/v1/jobs", json={"kubernetes": {"manifest": own()}})
        assert service.store.active_jobs() == []
    assert answer.status_code == 422
    assert answer.json()["field"] == "kubernetes.manifest"
    assert "ask the site to add it to kubernetes.allow" in answer.json()["detail"]


def test_only_clusters_that_take_manifests_get_it(bed: KubeBed, tmp_path: Path) -> None:
    clusters = [
        kube_cluster(tmp_path, "east", bed),
        kube_cluster(tmp_path, "west", bed, allow=ALLOWED),
    ]
    with api(tmp_path, clusters=clusters) as (client, service):
        client.post("/v1/jobs", json={"kubernetes": {"manifest": own()}}).raise_for_status()
        (record,) = service.store.active_jobs()
        assert record.job.cluster_ids == ("west",)
        only = {"kubernetes": {"manifest": own()}, "regions": ["eu-east"]}
        assert client.post("/v1/jobs", json=only).status_code == 422


def test_manifest_that_is_too_long_is_refused_as_such(opened: Opened) -> None:
    client, _ = opened
    answer = client.post(
        "/v1/jobs", json={"kubernetes": {"manifest": own(container={"args": ["x" * 70_000]})}}
    )
    assert answer.status_code == 422
    assert answer.json()["field"] == "kubernetes.manifest"
    assert "at most 65536 characters" in answer.json()["detail"]


# -------------------------------------------------------------------------------------- trials


def test_what_every_cluster_refuses_is_refused_at_once_with_its_words(opened: Opened) -> None:
    client, service = opened
    wrong = own(container={"name": "A_B"})
    for path, body in (
        ("/v1/jobs", {"kubernetes": {"manifest": wrong}}),
        ("/v1/plan", {"kubernetes": {"manifest": wrong}}),
        ("/v1/jobs:batch", {"jobs": [job(), {"kubernetes": {"manifest": wrong}}]}),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["field"] == "kubernetes.manifest.spec.template.spec.containers[0].name"
        assert "refused by east and west" in problem["detail"]
        assert problem.get("index") == (1 if "batch" in path else None)
    assert service.store.active_jobs() == []


def test_what_one_cluster_refuses_goes_to_the_other_and_says_so(
    bed: KubeBed, opened: Opened
) -> None:
    client, service = opened
    bed.fault("west", **POLICY, match=TRIALS)
    answer = client.post("/v1/jobs", json=job(kubernetes={"image": "ours:1"})).json()
    assert answer["reason"].startswith("it goes elsewhere: refused by west: ")
    assert "denied by a policy" in answer["reason"]
    (record,) = service.store.active_jobs()
    assert record.job.cluster_ids == ("east",)
    assert answer["placement"]["cluster"] == "east", "although it is cleaner in the west"
    events = client.get(f"/v1/jobs/{answer['id']}/events").json()["events"]
    assert events[0]["detail"] == answer["reason"]


def test_cluster_that_does_not_answer_blocks_no_submission(bed: KubeBed, opened: Opened) -> None:
    client, service = opened
    for name in NAMES:
        bed.fault(name, drop=True, match=TRIALS)
    for _ in range(3):
        client.post("/v1/jobs", json=job()).raise_for_status()
    assert len(service.store.active_jobs()) == 3


def test_quota_that_is_used_up_is_no_refusal(bed: KubeBed, opened: Opened) -> None:
    client, _ = opened
    full = 'jobs.batch "x" is forbidden: exceeded quota: limit, requested: count/jobs.batch=1'
    for name in NAMES:
        bed.fault(name, status=403, message=full, match=TRIALS)
    answer = client.post("/v1/jobs", json=job(kubernetes={"image": "ours:1"}))
    assert (answer.status_code, answer.json()["reason"]) == (201, None)


def test_many_jobs_of_a_shape_are_tried_once(opened: Opened, bed: KubeBed) -> None:
    client, service = opened
    # A second trial would be served, and west would be taken for one that takes them.
    bed.fault("west", **POLICY, count=1, match=TRIALS)
    asked = [job(name=f"j{index}", kubernetes={"image": "many:1"}) for index in range(30)]
    client.post("/v1/jobs:batch", json={"jobs": asked}, timeout=60).raise_for_status()
    client.post("/v1/jobs", json=asked[0]).raise_for_status()
    places = {record.job.cluster_ids for record in service.store.active_jobs()}
    assert places == {("east",)}


def test_repeated_submission_with_a_key_is_one_job(opened: Opened) -> None:
    client, service = opened
    body, headers = {"kubernetes": {"manifest": own()}}, {"Idempotency-Key": "k"}
    first, second = (client.post("/v1/jobs", json=body, headers=headers).json() for _ in range(2))
    assert first["id"] == second["id"]
    assert len(service.store.active_jobs()) == 1


# ---------------------------------------------------------------------------- the command line


@pytest.fixture
def cli(opened: Opened, run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, speaking to the service."""
    monkeypatch.setenv("GRIDTIDE_URL", str(opened[0].base_url))
    return run


@pytest.mark.parametrize("how", ["option", "word", "stdin"])
def test_file_for_kubectl_is_submitted_as_it_is(
    cli: Run, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = write(tmp_path, own())
    if how == "stdin":
        monkeypatch.setattr("sys.stdin", io.StringIO(Path(path).read_text(encoding="utf-8")))
    words = {"option": ["-f", path], "word": [path], "stdin": ["-f", "-"]}[how]
    ran = cli("submit", *words, "--deadline", "+9h", "--priority", "4", "--format", "json")
    assert ran.code == 0, ran.err
    shown = ran.json()
    assert (shown["name"], shown["priority"]) == ("finetune", 4)
    (record,) = opened[1].store.active_jobs()
    assert record.job.workdir is None
    assert record.job.kubernetes is not None
    assert json.loads(record.job.kubernetes.manifest or "") == own()
    asked = (record.job.deadline_at - record.job.submitted_at).total_seconds()
    assert abs(asked - 9 * 3600) < 120, "the option, not the annotation"
    shown = cli("show", record.job.job_id)
    assert "manifest: Job finetune" in shown.out
    assert cli("explain", record.job.job_id).code == 0


def test_other_objects_of_the_file_are_left_to_their_user(
    cli: Run, opened: Opened, tmp_path: Path
) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    ran = cli("submit", "-f", write(tmp_path, config, own(), None))
    assert ran.code == 0, ran.err
    assert "ConfigMap settings is not submitted" in ran.err
    items = {"apiVersion": "v1", "kind": "List", "items": [config, own()]}
    assert cli("submit", "-f", write(tmp_path, items)).code == 0
    assert len(opened[1].store.active_jobs()) == 2


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ([own(), own()], "holds 2 Jobs (Job finetune, Job finetune)"),
        ([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}], "no Job (Pod a)"),
        ([own(), {"name": "a", "command": ["b"]}], "something that is none"),
    ],
)
def test_file_with_anything_but_one_job_is_refused(
    cli: Run, opened: Opened, tmp_path: Path, documents: list[Any], says: str
) -> None:
    ran = cli("submit", "-f", write(tmp_path, *documents))
    assert ran.code == 2
    assert says in ran.err
    assert opened[1].store.active_jobs() == []


def test_two_files_are_refused(cli: Run, tmp_path: Path) -> None:
    path = write(tmp_path, own())
    assert "give one file" in cli("submit", path, "-f", path).err


def test_refusal_of_the_clusters_reaches_the_command_line(cli: Run, tmp_path: Path) -> None:
    ran = cli("submit", "-f", write(tmp_path, own(backofflimit=1)))
    assert ran.code == 2
    assert 'unknown field "spec.backofflimit"' in ran.err


def test_dry_run_tries_it_too_and_stores_nothing(
    cli: Run, opened: Opened, bed: KubeBed, tmp_path: Path
) -> None:
    bed.fault("west", **POLICY, match=TRIALS)
    ran = cli("submit", "--dry-run", "-f", write(tmp_path, own()))
    assert ran.code == 0, ran.err
    assert "Runs on east" in ran.out
    assert "note: it goes elsewhere: refused by west" in ran.out
    assert opened[1].store.active_jobs() == []


def test_unquoted_time_of_yaml_is_a_text(cli: Run, opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    text = write(tmp_path, own({"gridtide.dev/duration": "1h", "gridtide.dev/deadline": "XX"}))
    path.write_text(
        Path(text).read_text("utf-8").replace("XX", "2099-01-01T00:00:00Z"), encoding="utf-8"
    )
    assert cli("submit", "-f", str(path)).code == 0
    (record,) = opened[1].store.active_jobs()
    assert record.job.deadline_at.year == 2099


def test_array_of_a_manifest_tells_each_task_its_index(
    cli: Run, opened: Opened, tmp_path: Path
) -> None:
    assert cli("submit", "-f", write(tmp_path, own()), "--array", "3,5").code == 0
    envs = [dict(record.job.env) for record in opened[1].store.active_jobs()]
    assert {one["SLURM_ARRAY_TASK_ID"] for one in envs} == {"3", "5"}


# ------------------------------------------------------------------------- the whole service


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_manifest_runs_where_it_is_cleaner_and_its_retries_are_the_clusters(
    bed: KubeBed, tmp_path: Path
) -> None:
    prefix = new_prefix()
    # Fails once: Kubernetes itself tries again, as the manifest asks, and for Gridtide it is one run.
    script = f"echo $GRIDTIDE_JOB_ID >> {tmp_path}/ran; [ $(wc -l < {tmp_path}/ran) -ge 2 ]"
    container = {"command": ["sh", "-c", script.replace("$(", "$$(")]}
    made = own(container=container, backoffLimit=3, ttlSecondsAfterFinished=1)
    with serving(
        tmp_path,
        intensity=constant(tmp_path),
        planning={"tick_every": 0.2},
        clusters=[
            kube_cluster(tmp_path, name, bed, prefix=prefix, allow=ALLOWED) for name in NAMES
        ],
    ) as service:
        job_id = service.post("/v1/jobs", {"kubernetes": {"manifest": made}, "patience": "1m"})[
            "id"
        ]
        (found,) = wait_for_jobs(
            lambda: [service.get(f"/v1/jobs/{job_id}")], have_ended, within_s=240
        )
        (entry,) = service.get("/v1/reports")["entries"]
    assert found["state"] == "succeeded", service.log
    assert (tmp_path / "ran").read_text(encoding="utf-8").split() == [job_id] * 2
    assert [run["cluster"] for run in entry["runs"]] == ["west"]
    (there,) = jobs_of(bed, "west", prefix)
    assert there["metadata"]["name"] == entry["runs"][0]["cluster_ref"]
    assert there["status"]["failed"] == 1
    assert jobs_of(bed, "east", prefix) == []
