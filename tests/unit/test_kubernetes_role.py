"""The rights that Gridtide needs on Kubernetes are written the same everywhere."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.cluster.kube_adopting import VERBS
from adapters.cluster.kube_kinds import JOB, KINDS
from adapters.cluster.kueue_checks import NEEDED
from tests.unit.cluster.kube_world import NAMESPACE, running_bed

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles"


def rules_of(name: str) -> Any:
    manifests = yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
    (role,) = [one for one in manifests if one["kind"] == "Role"]
    return role["rules"]


@pytest.mark.parametrize(
    ("chart", "plain"), [("rules.yaml", "role.yaml"), ("rules-kueue.yaml", "role-kueue.yaml")]
)
def test_chart_grants_what_the_plain_role_does(chart: str, plain: str) -> None:
    text = (FOLDER / "chart" / chart).read_text(encoding="utf-8")
    assert yaml.safe_load(text) == rules_of(plain)


def test_role_for_kueue_grants_what_doctor_asks_for() -> None:
    granted = {
        (resource, verb)
        for rule in rules_of("role-kueue.yaml")
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {*NEEDED, ("workloads/status", "patch"), ("localqueues", "get")}


def test_rules_of_kinds_are_those_of_the_table() -> None:
    wanted = {
        kind.name: {"apiGroups": [kind.group], "resources": [kind.plural], "verbs": list(VERBS)}
        for kind in KINDS.values()
        if kind is not JOB
    }
    text = (FOLDER / "chart" / "kinds.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == wanted
    assert rules_of("role-kinds.yaml") == list(wanted.values())


def test_test_bed_grants_the_same() -> None:
    role = running_bed().admin("east").get(f"{ROLES}/gridtide-kinds")
    assert role["rules"] == rules_of("role-kinds.yaml")
