"""The command line and a service for it to talk to."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.server import cli
from scheduler.server.wiring import Service
from tests.integration.api_world import api
from tests.integration.cli_world import Ran, Run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["gridtide", *words])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return call


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with api(tmp_path) as (client, made):
        monkeypatch.setenv("GRIDTIDE_URL", str(client.base_url))
        monkeypatch.chdir(tmp_path)
        yield made
