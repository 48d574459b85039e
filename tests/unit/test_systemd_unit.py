"""The unit of systemd: jobs outlive the service, and nothing in it breaks munge, the disk or the planner."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "slurm" / "gridtide.service"
PROGRAM = "/opt/gridtide/bin/gridtide"


def read_unit() -> dict[str, dict[str, list[str]]]:
    """Values of each key of each section, in order."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, mark, value = line.partition("=")
            assert mark, line
            found[section][key].append(value)
    return found


def test_jobs_outlive_the_service_and_it_comes_back_unless_settings_are_wrong() -> None:
    service = read_unit()["Service"]
    assert service["KillMode"] == ["process"]
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]


def test_what_doctor_finds_does_not_keep_it_from_starting() -> None:
    service = read_unit()["Service"]
    (before,), (start,) = service["ExecStartPre"], service["ExecStart"]
    assert re.fullmatch(rf"-{PROGRAM} doctor --config (\S+)", before)
    assert before.rpartition(" ")[2] == start.rpartition(" ")[2]
    assert start.startswith(f"{PROGRAM} serve --config ")


def test_hardening_leaves_munge_the_compiler_and_the_shared_disk_alone() -> None:
    unit = read_unit()
    service = unit["Service"]
    assert service["User"] == ["gridtide"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    # munge asks the kernel who speaks; numba writes code and runs it; Slurm opens sockets of these kinds.
    assert not {"PrivateUsers", "MemoryDenyWriteExecute", "PrivateNetwork"} & set(service)
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(service["RestrictAddressFamilies"][0].split())
    (shared,) = unit["Unit"]["RequiresMountsFor"]
    assert service["ReadWritePaths"] == [shared]
    folders = {
        f"/var/lib/{service['StateDirectory'][0]}",
        f"/var/cache/{service['CacheDirectory'][0]}",
    }
    places = dict(one.split("=", 1) for one in service["Environment"])
    assert str(Path(places["GRIDTIDE_STORE__PATH"]).parent) in folders
    assert places["NUMBA_CACHE_DIR"] in folders


def test_jobs_inherit_neither_a_small_limit_of_locked_memory_nor_a_strict_umask() -> None:
    service = read_unit()["Service"]
    assert service["LimitMEMLOCK"] == ["infinity"]
    assert "UMask" not in service


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace(PROGRAM, sys.executable)
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, [])
    copy.write_text(text.replace("KillMode=process", "KilMode=process"), encoding="utf-8")
    wrong = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
    )
    assert "KilMode" in wrong.stderr  # or the check above could not fail
