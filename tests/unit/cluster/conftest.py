"""A fake Slurm and its commands, and simulated Kubernetes clusters, for the tests that run on them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.slurm.setting_up import FakeSlurm, set_up
from tests.unit.cluster.kube_world import KubeBed, running_bed
from tests.unit.cluster.slurm_world import NotingRunner, noting


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return set_up(tmp_path / "slurm")


@pytest.fixture
def runner(slurm: FakeSlurm) -> NotingRunner:
    return noting(slurm)


@pytest.fixture
def bed() -> Iterator[KubeBed]:
    """East and west; faults of the first end with the test."""
    bed = running_bed()
    yield bed
    bed.fault("east")
