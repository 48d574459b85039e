"""The rights that Gridtide needs on Kubernetes are written the same everywhere."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.cluster.kueue_checks import NEEDED

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"


def rules_of(name: str) -> list[dict[str, Any]]:
    manifests = yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
    (role,) = [one for one in manifests if one["kind"] == "Role"]
    rules: list[dict[str, Any]] = role["rules"]
    return rules


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
