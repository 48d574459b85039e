"""The role that Gridtide needs on Kubernetes is written the same everywhere."""

from pathlib import Path
from typing import Any

import yaml

from adapters.cluster.kube_adopting import VERBS
from adapters.cluster.kube_kinds import JOB, KINDS
from tests.unit.cluster.kube_world import NAMESPACE, running_bed

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles"


def rules_of(name: str) -> Any:
    manifests = yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
    (role,) = [one for one in manifests if one["kind"] == "Role"]
    return role["rules"]


def test_chart_grants_what_the_plain_role_does() -> None:
    text = (FOLDER / "chart" / "rules.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == rules_of("role.yaml")


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
