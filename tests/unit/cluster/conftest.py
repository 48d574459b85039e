"""A fake Slurm and its commands, for the tests that run on one."""

from pathlib import Path

import pytest

from tests.fakes.slurm.setting_up import FakeSlurm, set_up
from tests.unit.cluster.slurm_world import NotingRunner, noting


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return set_up(tmp_path / "slurm")


@pytest.fixture
def runner(slurm: FakeSlurm) -> NotingRunner:
    return noting(slurm)
