"""What the README and the example settings say is what the program does."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from scheduler.server.schemas import JobSpec
from scheduler.server.settings import load_settings, settings_reference

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "configs" / "gridtide.example.yaml"


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    text = "".join(_blocks("console")).replace("\\\n", "")
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


@dataclass
class Reader:
    """Somebody who types what the README says, in a folder with a script of their own."""

    folder: Path
    port: int
    service: "subprocess.Popen[bytes] | None" = None

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "GRIDTIDE_SERVER__PORT": str(self.port),
            "GRIDTIDE_URL": f"http://127.0.0.1:{self.port}",
        }

    def type(self, command: str) -> str:
        command = command.replace(":8410", f":{self.port}")
        # On a Friday morning there would be no time left for a run of 4 h.
        command = command.replace('"friday ', '"next friday ')
        if " JOB" in command:
            command = command.replace(" JOB", f" {self.jobs()[0]['id']}")
        if command == "gridtide serve":
            return self.serve()
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self) -> str:
        self.service = subprocess.Popen(
            ["gridtide", "serve"],
            cwd=self.folder,
            env=self.environment(),
            executable=Path(sys.executable).parent / "gridtide",
        )
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return ""
            threading.Event().wait(0.1)
        raise AssertionError("the service did not start")

    def jobs(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.type("gridtide list --format json"))["jobs"]
        return listed


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Reader(tmp_path, probe.getsockname()[1])
    (tmp_path / "configs" / "intensity").mkdir(parents=True)
    for name in (EXAMPLE.name, "snapshot.example.json", "intensity/demo_2021.csv"):
        (tmp_path / "configs" / name).write_bytes((ROOT / "configs" / name).read_bytes())
    (tmp_path / "train.py").write_text("", encoding="utf-8")
    yield made
    if made.service is not None:
        made.service.terminate()
        assert made.service.wait(timeout=30) == 0
        # The store was closed in order: nothing is left to bring over from a write-ahead log.
        assert not list(tmp_path.rglob("*.db-wal"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_commands_of_the_readme_do_what_they_say(reader: Reader) -> None:
    job_yaml, *_ = _blocks("yaml")
    (reader.folder / "job.yaml").write_text(job_yaml, encoding="utf-8")
    printed = {command: reader.type(command) for command in _commands()}
    reader.type("gridtide submit job.yaml")
    assert [job["name"] for job in reader.jobs()] == ["finetune-7b", "hello", "train"]
    assert (reader.folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "Runs on here (home)" in printed["gridtide explain JOB"]
    assert reader.type("gridtide doctor")


def test_job_of_the_readme_is_valid_and_shows_no_unknown_field() -> None:
    job_yaml, *_ = _blocks("yaml")
    assert set(yaml.safe_load(job_yaml)) <= set(JobSpec.model_fields)


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)", README))
    assert {"demo", "test", "check", "bench"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_every_file_that_the_documents_link_to_exists() -> None:
    documents = [ROOT / "README.md", *(ROOT / "deploy" / "adr").glob("*.md")]
    for document in documents:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_demo_output_in_the_readme_names_the_jobs_of_the_demo() -> None:
    from_demo = README.split("<!-- demo output -->")[1].split("```")[1]
    assert "0 missed deadlines, 1 refused" in from_demo
    assert "wrote build/demo/report.html and build/demo/ledger.json" in from_demo


def test_example_settings_are_valid_and_show_every_key() -> None:
    settings = load_settings(EXAMPLE)
    assert [one.id for one in settings.clusters] == ["here"]
    text = EXAMPLE.read_text(encoding="utf-8")
    missing = [key for key in _keys(settings_reference()) if not re.search(rf"\b{key}:", text)]
    assert missing == []


def _keys(schema: dict[str, Any]) -> set[str]:
    found = set(schema.get("properties", {}))
    for part in schema.get("$defs", {}).values():
        found |= set(part.get("properties", {}))
    return found


@pytest.mark.slow  # on a new machine it compiles
def test_plan_in_the_readme_is_what_the_program_prints(reader: Reader) -> None:
    shown = README.split("snapshot.example.json\n```\n\n```text\n")[1].split("```")[0]
    printed = reader.type("TZ=UTC gridtide plan --snapshot configs/snapshot.example.json")
    assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()


def test_forecast_and_scores_in_the_readme_are_what_the_program_prints(reader: Reader) -> None:
    section = README.split("## Forecasts\n")[1].split("\n## ")[0]
    shown = re.findall(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    typed = [one for one in _commands() if one.startswith("gridtide forecast ")]
    chart, batch, score = (one for one in typed if "--history" in one)
    for command, text in ((chart, shown[0]), (batch, ""), (score, shown[1])):
        printed = reader.type(f"TZ=UTC {command}")
        assert [line.rstrip() for line in printed.splitlines()] == text.splitlines()
