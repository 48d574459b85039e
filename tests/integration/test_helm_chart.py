"""The Helm chart: what it renders is valid, grants no more than it says, and runs Gridtide as it expects."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.cluster.kube_objects import KubeDevice, KubeTerms, KubeVolume, build_job
from scheduler.core.job import JobId
from scheduler.ports import Dispatch
from scheduler.server.settings import load_settings
from tests.charts import FOLDER, PLAIN, Document, example_values, plain_text, render

pytestmark = pytest.mark.external
VERSIONS = ("1.35", "1.36", "1.37")
"""The three newest minor versions of Kubernetes."""


def tool(name: str) -> Any:
    return pytest.importorskip(
        name, reason=f"{name} is not installed: tests/testbeds/charts does it"
    )


@pytest.fixture(autouse=True)
def _tools() -> None:
    for name in ("helm_python", "kubernetes_validate"):
        tool(name)


def values(**changes: Any) -> Document:
    return copy.deepcopy(example_values()) | changes


def everything() -> Document:
    """Every value that makes the chart render more."""
    made = values(
        image={"repository": "registry.example.org/gridtide", "tag": "1", "pullSecrets": ["pull"]},
        secretEnv=["providers"],
        secretFiles=["entsoe"],
        kubeconfigSecret="kubeconfig",
        rbac={"nodes": True},
        serviceAccount={"name": "carbon", "annotations": {"a": "b"}},
        persistence={"size": "1Gi", "storageClass": "fast"},
        service={"type": "NodePort", "annotations": {"a": "b"}},
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "a", "operator": "Exists"}],
        affinity={"nodeAffinity": {}},
        priorityClassName="high",
        podAnnotations={"a": "b"},
        podLabels={"a": "b"},
        serviceMonitor={"enabled": True, "tokenSecret": {"name": "token"}, "labels": {"a": "b"}},
    )
    again = copy.deepcopy(made["config"]["clusters"][0])
    again |= {
        "id": "there",
        "kubernetes": {
            "in_cluster": True,
            "image": "x",
            "adopt": ["vision", "training"],
            "kinds": ["Job", "JobSet", "RayJob"],
        },
    }
    made["config"]["clusters"].append(again)
    return made


def remote() -> Document:
    made = values(kubeconfigSecret="kubeconfig")
    made["config"]["clusters"][0]["kubernetes"] = {"context": "north", "image": "x"}
    return made


def queued() -> Document:
    """A cluster with Kueue and our check, which is the manager of MultiKueue as well."""
    made = values(dispatcher={"tokenSecret": {"name": "token"}})
    made["config"]["clusters"][0]["kubernetes"] |= {"kueue": {"check": "gridtide"}}
    made["config"]["multikueue"] = {
        "in_cluster": True,
        "namespaces": ["vision"],
        "check": "multikueue",
        "clusters": {"w-1": "here"},
    }
    return made


def of_kind(manifests: list[Document], kind: str) -> list[Document]:
    return [one for one in manifests if one["kind"] == kind]


def is_refused(made: Document) -> str:
    with pytest.raises(Exception, match=r".+") as refused:
        render(made)
    return str(refused.value)


def require_valid(manifest: Document, version: str) -> None:
    schemas = tool("kubernetes_validate")
    # Strict: a field that there is not is an error.
    assert schemas.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("made", [values, everything, remote, queued])
def test_every_manifest_is_valid(made: Any, version: str) -> None:
    manifests = render(made())
    assert len(manifests) >= 6
    for manifest in manifests:
        if manifest["kind"] != "ServiceMonitor":  # of the Prometheus operator
            require_valid(manifest, version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("num_nodes", [1, 4])
def test_jobs_that_the_adapter_makes_are_valid(num_nodes: int, version: str) -> None:
    dispatch = Dispatch(
        name="job.1.0",
        job_id=JobId("job"),
        command=("python", "train.py"),
        env=(("A", "b"),),
        workdir="/work",
        accelerator="H100",
        gpus=8,
        num_nodes=num_nodes,
        checkpoint_key="job",
    )
    terms = KubeTerms(
        image="train:1",
        checkpoints="/checkpoints",
        checkpoint_claim="checkpoints",
        volumes=(KubeVolume(claim="data", path="/data", is_read_only=True),),
        service_account="training",
        pull_secrets=("pull",),
        priority_class="batch",
    )
    device = KubeDevice(resource="nvidia.com/gpu", node_selector={"a": "b"}, cpus=4, memory="8Gi")
    job = build_job(dispatch, name="gt-job-1-0", terms=terms, device=device, each=8 // num_nodes)
    require_valid(job, version)


def test_a_wrong_manifest_would_be_found() -> None:
    schemas = tool("kubernetes_validate")
    (service,) = of_kind(render(values()), "Service")
    service["spec"]["portz"] = []
    with pytest.raises(schemas.ValidationError):
        require_valid(service, VERSIONS[-1])


def test_settings_are_those_that_gridtide_reads(tmp_path: Path) -> None:
    for made in (values(), everything(), remote(), queued()):
        (config,) = of_kind(render(made), "ConfigMap")
        path = tmp_path / "gridtide.yaml"
        path.write_text(config["data"]["gridtide.yaml"], encoding="utf-8")
        settings = load_settings(path)
        assert (settings.server.host, settings.server.port) == ("0.0.0.0", 8410)
        assert [one.kind for one in settings.clusters] == ["kubernetes"] * len(settings.clusters)


def test_store_may_be_a_redis_server(tmp_path: Path) -> None:
    made = values()
    made["config"]["store"] = {"url": "redis://redis.data:6379/0", "password_env": "REDIS_PASSWORD"}
    (config,) = of_kind(render(made), "ConfigMap")
    path = tmp_path / "gridtide.yaml"
    path.write_text(config["data"]["gridtide.yaml"], encoding="utf-8")
    store = load_settings(path).store
    assert store.url == "redis://redis.data:6379/0"
    assert store.intensity_path == Path("/var/lib/gridtide/intensity.db")


def test_role_is_granted_where_jobs_run_and_nowhere_else() -> None:
    manifests = render(everything())
    roles = of_kind(manifests, "Role")
    assert sorted(one["metadata"]["namespace"] for one in roles) == [
        "gridtide",
        "training",
        "vision",
    ]
    for binding in of_kind(manifests, "RoleBinding"):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "carbon", "namespace": "gridtide"}
        ]
    (nodes,) = of_kind(manifests, "ClusterRole")
    assert nodes["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]


def test_rights_to_kueue_are_granted_where_it_is_configured() -> None:
    manifests = render(queued())
    groups = {
        one["metadata"]["namespace"]: [rule["apiGroups"] for rule in one["rules"]]
        for one in of_kind(manifests, "Role")
    }
    assert groups.keys() == {"training", "vision"}
    assert all(["kueue.x-k8s.io"] in rules for rules in groups.values())
    assert all(
        ["kueue.x-k8s.io"] not in [rule["apiGroups"] for rule in one["rules"]]
        for one in of_kind(render(values()), "Role")
    )
    (checks,) = of_kind(manifests, "ClusterRole")
    assert [rule["resourceNames"] for rule in checks["rules"]] == [["gridtide"], ["gridtide"]]


def test_dispatcher_asks_the_service_with_a_token() -> None:
    found = deployments(queued())
    assert found.keys() == {"gridtide", "gridtide-guard", "gridtide-dispatcher"}
    pod = found["gridtide-dispatcher"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][0] == "dispatcher"
    assert container["env"] == [
        {"name": "GRIDTIDE_URL", "value": "http://gridtide.gridtide:8410"},
        {
            "name": "GRIDTIDE_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "token", "key": "token"}},
        },
    ]
    made = queued() | {"dispatcher": {}}
    assert "dispatcher.tokenSecret.name: missing" in is_refused(made)


def test_rules_for_other_kinds_are_granted_where_those_are_adopted() -> None:
    granted = {
        one["metadata"]["namespace"]: {name for rule in one["rules"] for name in rule["resources"]}
        for one in of_kind(render(everything()), "Role")
    }
    other = {"jobsets", "rayjobs"}
    assert other & granted["gridtide"] == set(), "nothing is adopted there"
    for namespace in ("training", "vision"):
        assert other <= granted[namespace]
        assert granted[namespace].isdisjoint({"trainjobs", "pytorchjobs"})


def test_no_cluster_role_unless_asked_and_no_role_without_a_cluster_to_run_in() -> None:
    assert of_kind(render(values()), "ClusterRole") == []
    manifests = render(remote())
    assert of_kind(manifests, "Role") == []
    (deployment,) = of_kind(manifests, "Deployment")
    assert deployment["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def deployments(made: Document) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in of_kind(render(made), "Deployment")}


def test_pods_are_as_restricted_as_they_can_be() -> None:
    found = deployments(values())
    assert found.keys() == {"gridtide", "gridtide-guard"}
    for deployment in found.values():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    spec = found["gridtide"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("store", ["redis://db:6379/0", {"url": "redis://db:6379/0"}])
def test_pods_that_share_a_server_may_be_many_and_keep_nothing(store: Document | str) -> None:
    made = values(replicas=3)
    made["config"]["store"] = store
    rendered = render(made)
    spec = deployments(made)["gridtide"]["spec"]
    assert spec["replicas"] == 3
    assert spec.get("strategy", {}).get("type") != "Recreate"
    (data,) = [one for one in spec["template"]["spec"]["volumes"] if one["name"] == "data"]
    assert data == {"name": "data", "emptyDir": {}}
    assert not of_kind(rendered, "PersistentVolumeClaim")
    (config,) = of_kind(rendered, "ConfigMap")
    settings = yaml.safe_load(config["data"]["gridtide.yaml"])
    assert settings["store"]["url"] == "redis://db:6379/0"


def test_guard_is_another_deployment_with_the_same_settings_and_no_store() -> None:
    spec = deployments(values())["gridtide-guard"]["spec"]
    assert spec["replicas"] == 2
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    config = "/etc/gridtide/gridtide.yaml"
    assert container["args"] == ["guard", "--config", config, "--every", "30s"]
    assert {one["name"] for one in pod["volumes"]} == {"tmp", "config"}
    # The service's own selectors do not take its pods for theirs.
    labels = spec["template"]["metadata"]["labels"]
    for other in [*of_kind(render(values()), "Service"), *of_kind(render(values()), "Deployment")]:
        selector = other["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        is_own = other["metadata"]["name"] == "gridtide-guard"
        assert (wanted.items() <= labels.items()) is is_own


def test_no_guard_where_nothing_is_adopted_or_it_is_not_wanted() -> None:
    assert deployments(remote()).keys() == {"gridtide"}
    assert deployments(values(guard={"enabled": False})).keys() == {"gridtide"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replicas": 2}, "replicas"),
        ({"replicas": 0}, "replicas"),
        ({"service": {"port": 0}}, "port"),
        ({"guard": {"replicas": 0}}, "replicas"),
        ({"guard": {"every": "often"}}, "every"),
        ({"image": {"repository": ""}}, "repository"),
        ({"persistence": {"size": "large"}}, "size"),
        ({"serviceMonitor": {"enabled": True}}, "serviceMonitor.tokenSecret.name"),
        ({"config": {"clusters": []}}, "config.server.token_hashes"),
        ({"config": {"server": {"token_hashes": ["gt_secret"]}}}, "token_hashes"),
        ({"config": {"server": {"token_hashes": ["sha256:" + "0" * 64]}}}, "config.clusters"),
        ({"config": {"clusters": [{"id": "a"}]}}, "clusters"),
    ],
)
def test_wrong_values_are_refused_by_their_name(changes: Document, words: str) -> None:
    assert words in is_refused(values(**changes))


def test_chart_passes_helms_own_lint() -> None:
    report = tool("helm_python").lint(str(FOLDER / "chart"), values(), strict=True)
    assert report["errors"] == []


def test_plain_manifests_are_those_of_the_chart() -> None:
    assert PLAIN.read_text(encoding="utf-8") == plain_text(), "python -m tests.charts writes them"
    assert list(yaml.safe_load_all(PLAIN.read_text(encoding="utf-8")))
