"""An adapter on fake Slurm commands that notes what it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_commands import CommandRunner, Completed, HereRunner
from adapters.cluster.slurm_request import SlurmDevice
from tests.fakes.clock import ManualClock
from tests.fakes.slurm.setting_up import FakeSlurm

H100 = SlurmDevice(gres="gpu:h100", partition="gpu")


@dataclass
class NotingRunner:
    """Passes commands on, and keeps them; `answer` may take the place of the real outcome."""

    inner: CommandRunner
    commands: list[list[str]] = field(default_factory=list)
    answer: Callable[[Sequence[str]], Completed | None] = lambda _: None

    def run(self, command: Sequence[str], *, stdin: bytes = b"") -> Completed:
        self.commands.append(list(command))
        given = self.answer(command)
        return self.inner.run(command, stdin=stdin) if given is None else given

    def taken(self) -> list[str]:
        """Names of the commands since the last time."""
        names = [command[0] for command in self.commands]
        self.commands.clear()
        return names


def noting(slurm: FakeSlurm, *, timeout_s: float = 30) -> NotingRunner:
    return NotingRunner(HereRunner(conf=slurm.conf, programs=slurm.programs, timeout_s=timeout_s))


def open_cluster(folder: Path, runner: CommandRunner, **fields: Any) -> SlurmCluster:
    known: dict[str, Any] = {
        "accelerators": {"CPU": SlurmDevice(), "H100": H100},
        "root": folder / "shared",
        "clock": ManualClock(),
        "runner": runner,
    }
    return SlurmCluster("fake", **(known | fields))
