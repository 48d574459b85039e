"""Runs Slurm's commands: argument lists, never a shell, and always with an end."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from scheduler.core.errors import ClusterUnavailableError

_STEERING: Final = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SINFO_")
"""Variables that would change what the commands do or print; SLURM_JWT even whom they act for."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended; `code` is None where it was killed for taking too long."""

    code: int | None
    out: str
    err: str

    @property
    def words(self) -> str:
        """What it said about its trouble, on one line."""
        text = "; ".join(line.strip() for line in self.err.splitlines() if line.strip())
        if text or self.code is None:
            return text or "no answer in time"
        return self.out.strip().partition("\n")[0] or f"exit code {self.code}"


class CommandRunner(Protocol):
    """Where the commands run: on this machine, or on a login node."""

    def run(self, command: Sequence[str], *, stdin: bytes = b"") -> Completed:
        """The outcome of one command.

        Raises:
            ClusterUnavailableError: it could not be started at all.
        """
        ...


class HereRunner:
    """Runs the commands on this machine.

    Args:
        conf: file for SLURM_CONF, where it is not the site's default.
        programs: folder of the commands, where they are not on PATH.
        timeout_s: more than twice Slurm's MessageTimeout, or an outage looks like a hanging command.
    """

    def __init__(
        self, *, conf: Path | None = None, programs: Path | None = None, timeout_s: float = 60.0
    ) -> None:
        self._conf = conf
        self._programs = programs
        self._timeout_s = timeout_s

    def run(self, command: Sequence[str], *, stdin: bytes = b"") -> Completed:
        """See `CommandRunner`."""
        program, *arguments = command
        path = str(self._programs / program) if self._programs else program
        try:
            done = subprocess.run(  # noqa: S603 - an argument list, no shell
                [path, *arguments],
                input=stdin,
                capture_output=True,
                env=build_environment(os.environ, self._conf),
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return Completed(None, "", _text(error.stderr))
        except OSError as error:
            raise ClusterUnavailableError(
                f"{path} cannot be run: {error.strerror}; install Slurm's client commands, "
                "or name their folder in the settings of the cluster",
                program=program,
            ) from error
        return Completed(done.returncode, _text(done.stdout), _text(done.stderr))


def build_environment(inherited: Mapping[str, str], conf: Path | None) -> dict[str, str]:
    """What the commands see: plain times in UTC, plain words, and one cluster."""
    env = {name: value for name, value in inherited.items() if not name.startswith(_STEERING)}
    env |= {"TZ": "UTC", "LC_ALL": "C"}
    chosen = str(conf) if conf else inherited.get("SLURM_CONF")
    if chosen:
        env["SLURM_CONF"] = chosen
    return env


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", errors="replace")
