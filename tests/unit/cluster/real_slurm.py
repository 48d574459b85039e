"""The real clusters of the test bed `tests/testbeds/slurm`."""

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

TESTBED = Path(__file__).parents[2] / "testbeds" / "slurm"


def require_slurm(name: str, *, made_by: str = "tests/testbeds/slurm up") -> Path:
    """The configuration of a cluster of the test bed; skips the test where it is not up."""
    conf = find_slurm(name)
    if conf is None:
        pytest.skip(f"no Slurm cluster {name} is up: {made_by} enables it")
    return conf


@cache
def find_slurm(name: str) -> Path | None:
    base = Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"))
    base = base if os.access(base, os.W_OK) else Path("/tmp")
    folder = Path(os.environ.get("GRIDTIDE_SLURM_DIR", base / "gridtide-testbeds" / "slurm"))
    conf = folder / "clusters" / name / "slurm.conf"
    if not conf.exists():
        return None
    up = subprocess.run([TESTBED, "status"], capture_output=True, text=True, check=False)
    return conf if f"{name}: slurmctld=up" in up.stdout else None
