"""The table of sbatch's options against the real sbatch."""

import os
import subprocess
from pathlib import Path

import pytest

from scheduler.server.sbatch_options import LETTERS, OPTIONS, Takes, parse_help
from tests.unit.cluster.real_slurm import require_slurm

pytestmark = [pytest.mark.external, pytest.mark.timeout(120)]


@pytest.fixture
def conf() -> Path:
    return require_slurm("east")


def says(conf: Path, *words: str) -> str:
    """What sbatch says; its input is empty, so that it never submits."""
    done = subprocess.run(
        ["sbatch", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "SLURM_CONF": str(conf)},
    )
    return done.stdout + done.stderr


def test_every_option_that_sbatch_lists_is_known(conf: Path) -> None:
    listed = parse_help(says(conf, "--help"))
    assert len(listed) > 60
    assert sorted(listed.keys() - OPTIONS.keys()) == []


def test_options_take_values_as_the_table_says(conf: Path) -> None:
    told: dict[str, Takes | None] = {}
    for name in OPTIONS:
        alone = says(conf, f"--{name}")
        if "requires an argument" in alone:
            told[name] = Takes.VALUE
        elif "unrecognized option" in alone or "is ambiguous" in alone:
            told[name] = None
        elif "doesn't allow an argument" in says(conf, f"--{name}=x"):
            told[name] = Takes.NOTHING
        else:
            told[name] = Takes.MAYBE
    assert told == OPTIONS


def test_letters_take_values_as_the_table_says(conf: Path) -> None:
    for letter, name in LETTERS.items():
        said = says(conf, f"-{letter}")
        assert "invalid option" not in said, letter
        assert ("requires an argument" in said) == (OPTIONS[name] is Takes.VALUE), letter
