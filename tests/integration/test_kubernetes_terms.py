"""What a job asks of Kubernetes, from the command line and the API to the clusters that take it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api_world import api, job
from tests.integration.cli_world import Run

KUBECONFIG = {
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "north", "context": {"cluster": "c", "user": "u"}}],
}


def settings(folder: Path, **kubernetes: Any) -> dict[str, Any]:
    """A Kubernetes cluster that nothing is asked of, beside a local one."""
    (folder / "kubeconfig").write_text(json.dumps(KUBECONFIG), encoding="utf-8")
    place = {"region": "eu-de", "zone": "DE", "capacity": {"CPU": 8}}
    login = {"context": "north", "kubeconfig": "kubeconfig", "image": "default:1"}
    return {
        "clusters": [
            {"id": "here", **place},
            {"id": "k8s", "kind": "kubernetes", **place, "kubernetes": {**login, **kubernetes}},
        ]
    }


def test_job_with_an_image_goes_to_kubernetes_and_shows_it(tmp_path: Path) -> None:
    with api(tmp_path, **settings(tmp_path)) as (client, service):
        answer = client.post("/v1/jobs", json=job(kubernetes={"image": "ours:2"}))
        shown = client.get(f"/v1/jobs/{answer.json()['id']}").json()
        (record,) = service.store.active_jobs()
    assert shown["kubernetes"] == {"image": "ours:2"}
    assert record.job.cluster_ids == ("k8s",)
    assert record.job.kubernetes is not None


@pytest.mark.parametrize(
    ("terms", "field", "says"),
    [
        ({"image": "two words"}, "kubernetes.image", "the name of a container image"),
        ({"immage": "a"}, "kubernetes.immage", "image"),
        ({"image": "a"}, "kubernetes.image", "may not be set by a job on k8s"),
    ],
)
def test_wrong_term_is_refused_by_name_and_changes_nothing(
    tmp_path: Path, terms: dict[str, str], field: str, says: str
) -> None:
    with api(tmp_path, **settings(tmp_path, allow=[])) as (client, service):
        answer = client.post("/v1/jobs", json=job(kubernetes=terms))
        assert service.store.active_jobs() == []
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("is_from_file", [True, False])
def test_command_line_names_the_image_and_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, is_from_file: bool
) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job(kubernetes={"image": "ours:1"})), encoding="utf-8")
    words = ("--duration", "1h", "--patience", "1h", "--gpus", "CPU:1", "--", "train")
    with api(tmp_path, **settings(tmp_path)) as (client, service):
        monkeypatch.setenv("GRIDTIDE_URL", str(client.base_url))
        rest = (str(path), "--image", "ours:2") if is_from_file else ("--image", "ours:2", *words)
        ran = run("submit", *rest)
        assert ran.code == 0, ran.err
        (record,) = service.store.active_jobs()
    assert record.job.kubernetes is not None
    assert (record.job.kubernetes.image, record.job.workdir) == ("ours:2", None)


def test_snapshot_that_asks_something_of_kubernetes_is_refused(tmp_path: Path, run: Run) -> None:
    fields = {"id": "j", "duration": "1h", "deadline": "2022-03-02T00:00:00Z"}
    wanted = {**fields, "resources": {"accelerators": "H100:1"}, "kubernetes": {"image": "a"}}
    document = {
        "schema": "gridtide/snapshot/v1",
        "now": "2022-03-01T00:00:00Z",
        "slot": "1h",
        "horizon": "24h",
        "clusters": [{"id": "a", "region": "eu", "zone": "DE", "capacity": {"H100": 1}}],
        "intensity": {
            "DE": {
                "signal": "average",
                "start": "2022-03-01T00:00:00Z",
                "step": "1h",
                "g_per_kwh": [100.0] * 24,
            }
        },
        "jobs": [wanted],
    }
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    ran = run("plan", "--snapshot", str(path))
    assert ran.code == 2
    assert "kubernetes: a snapshot does not say which clusters are of Kubernetes" in ran.err
