"""Sets up a fake slurmrestd for a fake cluster: its process, and what it is told to do."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.slurm.setting_up import PYTHON, FakeSlurm, set_up

CODE = Path(__file__).with_name("slurmrestd.py")
USER, TOKEN = "scientist", "token-of-the-scientist"
VERSIONS = {
    "old": ["v0.0.36", "v0.0.37", "v0.0.38"],
    "new": ["v0.0.40", "v0.0.41", "v0.0.42"],
}
PATIENCE_S = 30.0


@dataclass(frozen=True)
class FakeRest:
    """A slurmrestd of that cluster."""

    slurm: FakeSlurm
    url: str

    def tell(self, **settings: object) -> None:
        """Changes what it does: `fault`, `tokens`, `versions`, `others`, `dialect`."""
        self.slurm.configure(rest=self.slurm.settings["rest"] | settings)

    def taken(self) -> list[str]:
        """The requests since the last time, as `METHOD path`."""
        path = self.slurm.folder / "requests"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


def set_up_rest(folder: Path, dialect: str) -> FakeRest:
    """The cluster in that folder and its slurmrestd, started where there is none."""
    slurm = set_up(folder)
    port = folder / "rest.port"
    if not port.exists():
        rest = {"dialect": dialect, "versions": VERSIONS[dialect], "cluster": "fake"}
        slurm.configure(rest=rest | {"tokens": {USER: TOKEN}, "others": ["other"]})
        words = [PYTHON, "-I", "-S", str(CODE), str(slurm.conf), str(port)]
        pid = os.posix_spawn(PYTHON, words, os.environ)
        (folder / "rest.pid").write_text(str(pid))
        _wait_for(port)
    return FakeRest(slurm, f"http://127.0.0.1:{port.read_text()}")


def stop_rest(folder: Path) -> None:
    """Ends the slurmrestd of the cluster in that folder, if there is one."""
    path = folder / "rest.pid"
    if path.exists():
        pid = int(path.read_text())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        path.unlink()


@contextmanager
def running_rest(folder: Path, dialect: str) -> Iterator[FakeRest]:
    """A slurmrestd for as long as it is needed."""
    try:
        yield set_up_rest(folder, dialect)
    finally:
        stop_rest(folder)


def _wait_for(path: Path) -> None:
    pause, give_up_s = threading.Event(), time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < give_up_s, f"{path} does not appear"
        pause.wait(0.005)
