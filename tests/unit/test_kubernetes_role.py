"""The role that Gridtide needs on Kubernetes is written the same everywhere."""

from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"


def test_chart_grants_what_the_plain_role_does() -> None:
    manifests = yaml.safe_load_all((FOLDER / "role.yaml").read_text(encoding="utf-8"))
    (role,) = [one for one in manifests if one["kind"] == "Role"]
    assert (
        yaml.safe_load((FOLDER / "chart" / "rules.yaml").read_text(encoding="utf-8"))
        == role["rules"]
    )
