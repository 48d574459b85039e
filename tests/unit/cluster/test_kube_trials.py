"""What the answer to a creation for show means: refused for good, taken, or nothing known."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.kube_client import path_of
from adapters.cluster.kubernetes import KubernetesCluster
from scheduler.ports import Trial, TryingCluster
from tests.unit.cluster.kube_world import NAMESPACE, KubeBed, open_cluster
from tests.unit.cluster.manifests import as_terms, manifest
from tests.unit.cluster.runs import Runs

TRIALS = "POST .*/jobs.*dryRun=All"


@pytest.fixture
def cluster(bed: KubeBed, tmp_path: Path) -> Iterator[KubernetesCluster]:
    made = open_cluster(bed, tmp_path, instance=f"t{uuid.uuid4().hex[:8]}")
    yield made
    made.close()


def tried(cluster: KubernetesCluster, tmp_path: Path, **fields: Any) -> Trial:
    assert isinstance(cluster, TryingCluster)
    return cluster.try_out(Runs(cluster, tmp_path).dispatch("true", **fields))


def test_run_that_would_be_taken_is_not_created(
    cluster: KubernetesCluster, bed: KubeBed, tmp_path: Path
) -> None:
    before = len(bed.admin("east").list_all(path_of("jobs", NAMESPACE)).items)
    assert tried(cluster, tmp_path) == Trial()
    own = as_terms(manifest())
    assert tried(cluster, tmp_path, accelerator="H100", kubernetes=own) == Trial()
    assert len(bed.admin("east").list_all(path_of("jobs", NAMESPACE)).items) == before


@pytest.mark.parametrize(
    ("parts", "field", "says"),
    [
        ({"container": {"name": "A_B"}}, "spec.template.spec.containers[0].name", "lowercase"),
        ({"backofflimit": 3}, "", 'unknown field "spec.backofflimit"'),
        ({"backoffLimit": -1}, "spec.backoffLimit", "greater than or equal to 0"),
    ],
)
def test_refusal_names_the_field_and_the_reason_and_no_run(
    cluster: KubernetesCluster, tmp_path: Path, parts: dict[str, Any], field: str, says: str
) -> None:
    own = as_terms(manifest(**parts))
    found = tried(cluster, tmp_path, accelerator="H100", kubernetes=own)
    assert found.field == field
    assert says in found.refused
    assert "-job-1-0" not in found.refused


def test_namespace_that_is_not_there_is_a_refusal(bed: KubeBed, tmp_path: Path) -> None:
    made = open_cluster(bed, tmp_path, context="east", namespace="nowhere")
    assert "there is no namespace nowhere" in tried(made, tmp_path).refused
    made.close()


def test_run_that_cannot_be_asked_for_at_all_is_refused(
    cluster: KubernetesCluster, tmp_path: Path
) -> None:
    assert "it has no A100" in tried(cluster, tmp_path, accelerator="A100").refused


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 403, "message": "jobs is forbidden: exceeded quota: limit"}, Trial()),
        ({"status": 403, "message": "denied by a policy"}, None),
        ({"status": 429}, Trial(is_answered=False)),
        ({"status": 500}, Trial(is_answered=False)),
        ({"status": 409, "reason": "Conflict"}, Trial(is_answered=False)),
        ({"drop": True}, Trial(is_answered=False)),
    ],
)
def test_only_what_is_for_good_is_a_refusal_and_nothing_is_tried_twice(
    cluster: KubernetesCluster,
    bed: KubeBed,
    tmp_path: Path,
    fault: dict[str, Any],
    expected: Trial | None,
) -> None:
    bed.fault("east", **fault, count=1, match=TRIALS)
    found = tried(cluster, tmp_path)
    if expected is None:
        assert "denied by a policy" in found.refused
    else:
        assert found == expected
    assert tried(cluster, tmp_path) == Trial(), "the fault was met once"


def test_right_that_is_missing_is_no_fault_of_the_run(bed: KubeBed, tmp_path: Path) -> None:
    made = open_cluster(bed, tmp_path, context="east-nobody")
    assert tried(made, tmp_path) == Trial(is_answered=False)
    made.close()
