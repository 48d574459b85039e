"""Settings of a Kubernetes cluster: what is refused, and what becomes of the rest."""

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml

from adapters.cluster.kube_checks import RIGHTS
from adapters.cluster.kube_kinds import JOB_SET, KINDS, RAY_JOB
from adapters.cluster.kubernetes import KubernetesCluster
from adapters.cluster.kueue_workloads import Kueue
from adapters.http_client import Stop
from scheduler.core.errors import InvalidConfigError
from scheduler.ports import AdoptingCluster
from scheduler.server.guard_watch import build_watched, look
from scheduler.server.kubernetes_clusters import reach_kubernetes
from scheduler.server.kubernetes_settings import KindName
from scheduler.server.settings import load_settings
from scheduler.server.wiring import build_service
from tests.unit.cluster.kube_world import running_bed

ROLE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "role.yaml"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
KUBECONFIG = {
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "secret-token"}}],
    "contexts": [
        {"name": "north", "context": {"cluster": "c", "user": "u", "namespace": "ml"}},
    ],
}


def written(folder: Path, kubernetes: str = "", more: str = "") -> Path:
    (folder / "kubeconfig").write_text(json.dumps(KUBECONFIG), encoding="utf-8")
    path = folder / "gridtide.yaml"
    kubernetes = kubernetes or "context: north, kubeconfig: kubeconfig, image: 'a:1'"
    path.write_text(
        "clusters: [{id: k8s, kind: kubernetes, region: eu, zone: DE, capacity: {CPU: 8, h100: 4}, "
        f"kubernetes: {{{kubernetes}}}{more}}}]\n",
        encoding="utf-8",
    )
    return path


def test_least_that_is_needed_is_taken_and_paths_start_from_the_file(tmp_path: Path) -> None:
    (cluster,) = load_settings(written(tmp_path)).clusters
    assert cluster.kubernetes is not None
    assert cluster.kubernetes.kubeconfig == tmp_path / "kubeconfig"
    assert cluster.root is None
    assert cluster.kubernetes.start_within == 600


@pytest.mark.parametrize(
    ("kubernetes", "says"),
    [
        ("image: 'a:1'", "context and in_cluster: give one of them"),
        ("image: 'a:1', context: a, in_cluster: true", "context and in_cluster: give one of them"),
        ("image: 'a:1', in_cluster: true, kubeconfig: x", "in_cluster needs none"),
        ("context: north", "image"),
        ("context: north, image: 'a b'", "the name of a container image"),
        ("context: north, image: a, checkpoint_path: data", "absolute path"),
        ("context: north, image: a, allow: [queue]", "allow: queue needs kueue"),
        ("context: north, image: a, kueue: {queue: Not_One}", "kueue.queue"),
        ("context: north, image: a, kueue: {que: a}", "did you mean queue"),
        ("context: north, image: a, volumes: [{claim: d, path: /a/../b}]", "absolute path"),
        ("context: north, image: a, namespace: Not_One", "namespace"),
        ("context: north, image: a, devices: {A100: {}}", "A100 is not in capacity"),
        ("context: north, image: a, devices: {CPU: {memory: lots}}", "memory"),
        ("context: north, image: a, start_within: 600", "start_within"),
        ("context: north, image: a, allow: [command]", "image"),
        ("context: north, image: a, prefix: 1-", "prefix"),
        ("context: north, image: a, namespaces: x", "namespace"),
        ("context: north, image: a, adopt: []", "name one namespace or more, each once"),
        ("context: north, image: a, adopt: [ml, ml]", "name one namespace or more, each once"),
        ("context: north, image: a, adopt: [Not_One]", "adopt"),
        ("context: north, image: a, adopt: yes please", "adopt"),
        ("context: north, image: a, adopt: true, kinds: []", "name one kind or more, each once"),
        ("context: north, image: a, adopt: true, kinds: [Job, Job]", "kind or more, each once"),
        ("context: north, image: a, adopt: true, kinds: [MPIJob]", "'TrainJob', 'PyTorchJob'"),
        ("context: north, image: a, kinds: [Job]", "kinds: they are those of adopt"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, kubernetes: str, says: str) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        load_settings(written(tmp_path, kubernetes))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (", root: x", "root and checkpoints"),
        (", checkpoints: x", "root and checkpoints"),
        (", pause: freeze", "pause: freeze cannot be done on Kubernetes"),
        (", pass_env: [PATH]", "pass_env: jobs of Kubernetes"),
    ],
)
def test_what_other_kinds_have_is_refused(tmp_path: Path, more: str, says: str) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        load_settings(written(tmp_path, more=more))


def test_kind_and_its_settings_go_together(tmp_path: Path) -> None:
    path = tmp_path / "gridtide.yaml"
    for kind in ("kind: kubernetes", "kubernetes: {context: a, image: b}"):
        path.write_text(
            f"clusters: [{{id: k, region: eu, zone: DE, capacity: {{CPU: 1}}, {kind}}}]\n",
            encoding="utf-8",
        )
        with pytest.raises(InvalidConfigError, match="kind: kubernetes needs kubernetes"):
            load_settings(path)


def test_service_is_built_without_asking_the_cluster_anything(tmp_path: Path) -> None:
    service = build_service(load_settings(written(tmp_path)))
    try:
        assert isinstance(service.clusters["k8s"], KubernetesCluster)
    finally:
        service.close()


@pytest.mark.parametrize(
    ("adopt", "namespaces"),
    [("false", ()), ("true", ("ml",)), ("[vision, nlp]", ("vision", "nlp"))],
)
def test_jobs_are_adopted_from_the_namespaces_that_are_named(
    tmp_path: Path, adopt: str, namespaces: tuple[str, ...]
) -> None:
    path = written(tmp_path, f"context: north, kubeconfig: kubeconfig, image: a, adopt: {adopt}")
    settings = load_settings(path)
    service = build_service(settings)
    try:
        assert isinstance(service.clusters["k8s"], AdoptingCluster) is bool(namespaces)
    finally:
        service.close()
    if namespaces:
        watched = build_watched(settings, stop=Stop())
        assert [(one.cluster_id, one.namespace) for one in watched] == [
            ("k8s", namespace) for namespace in namespaces
        ]
    else:
        with pytest.raises(InvalidConfigError, match="there is nothing to guard"):
            build_watched(settings, stop=Stop())


def test_kueue_is_known_to_the_service_and_to_the_guard(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "context: north, kubeconfig: kubeconfig, image: a, adopt: true, kueue: {queue: q, check: c}",
    )
    settings = load_settings(path)
    assert settings.clusters[0].kubernetes is not None
    reach = reach_kubernetes("k8s", settings.clusters[0].kubernetes)
    assert reach.kueue == Kueue(check="c")


def test_kinds_of_the_settings_are_those_of_the_table() -> None:
    assert get_args(KindName) == tuple(KINDS)


def test_each_kind_is_guarded_in_each_namespace(tmp_path: Path) -> None:
    adopt = "adopt: [vision, nlp], kinds: [JobSet, RayJob]"
    path = written(tmp_path, f"context: north, kubeconfig: kubeconfig, image: a, {adopt}")
    watched = build_watched(load_settings(path), stop=Stop())
    assert [(one.namespace, one.kind) for one in watched] == [
        ("vision", JOB_SET),
        ("vision", RAY_JOB),
        ("nlp", JOB_SET),
        ("nlp", RAY_JOB),
    ]


def test_guard_that_reaches_nothing_says_so_and_goes_on(tmp_path: Path) -> None:
    path = written(tmp_path, "context: north, kubeconfig: kubeconfig, image: a, adopt: true")
    stop = Stop()
    watched = build_watched(load_settings(path), stop=stop)
    stop.set()  # its pauses between tries are none of this
    assert look(watched) is False


def test_context_that_is_not_there_is_refused_at_start_with_the_nearest_one(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, "context: nort, kubeconfig: kubeconfig, image: a")
    with pytest.raises(InvalidConfigError, match="did you mean north") as caught:
        build_service(load_settings(path))
    assert caught.value.fields["field"] == "clusters.k8s.kubernetes.context"
    assert "secret-token" not in caught.value.message


def test_role_grants_what_doctor_asks_for_and_the_test_bed_grants_the_same() -> None:
    (role,) = [
        one for one in yaml.safe_load_all(ROLE.read_text(encoding="utf-8")) if one["kind"] == "Role"
    ]
    granted = {
        (verb, resource, group)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }
    assert granted == {(one.verb, one.resource, one.group) for one in RIGHTS}
    bed = running_bed().admin("east").get(f"{ROLES}/namespaces/training/roles/gridtide")
    assert bed["rules"] == role["rules"]
