"""Scripts of jobs: their shell, and what is refused."""

import subprocess

import pytest

from scheduler.core.errors import InvalidJobError
from scheduler.core.job_script import MAX_BYTES, build_command


@pytest.mark.parametrize(
    ("first", "shell"),
    [
        ("echo", ["bash"]),
        ("#!/bin/sh", ["/bin/sh"]),
        ("#! /bin/bash -l", ["/bin/bash", "-l"]),
        ("#!/usr/bin/env bash", ["bash"]),
        ("# !/bin/dash", ["bash"]),
    ],
)
def test_first_line_names_the_shell(first: str, shell: list[str]) -> None:
    script = f"{first}\npython train.py\n"
    assert build_command(script, "train") == (*shell, "-c", script, "train")


def test_script_runs_as_written_and_sees_its_name() -> None:
    script = '#!/bin/bash -e\nset -u\necho "$0 it\'s"\nfalse\necho never\n'
    done = subprocess.run(build_command(script, "n-1"), capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("n-1 it's\n", 1)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "it is empty"),
        (" \n\t", "it is empty"),
        ("#!/usr/bin/env python3\nprint()", "names no shell; give command: \\[python3, FILE\\]"),
        ("#!\necho", "names no shell"),
        ("#!/bin/bash\n#SBATCH --time=4\necho", "'#SBATCH --time=4' is for sbatch"),
        ("#" * (MAX_BYTES + 1), f"longer than {MAX_BYTES} bytes"),
    ],
)
def test_what_no_shell_could_run_is_refused_by_its_field(script: str, words: str) -> None:
    with pytest.raises(InvalidJobError, match=words) as refused:
        build_command(script, "train")
    assert refused.value.fields["field"] == "script"
    assert refused.value.fields["valid"]


def test_longest_script_is_taken() -> None:
    script = "#" * MAX_BYTES
    assert subprocess.run(build_command(script, "long"), check=False).returncode == 0
