"""One run's folder on the disk that scheduler and nodes share: its ticket, output, and freezes.

ticket-XXXX     what a job must rename to begin        (made before the submission, withdrawn if it is given up)
started-ID      the ticket, taken by Slurm job ID: the run has begun, and begins nowhere else
exit-ID         the exit code of its command, where the accounts could not tell it
stdout.log, stderr.log
freezes.json    when it was suspended and continued
"""

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from adapters.cluster.local_run import RunFolder

_PROBE_BYTES: Final = 4096


def require_writable(folder: Path) -> None:
    """Writes a little: neither rights nor free space tell all (quotas, inodes, disks gone read-only).

    Raises:
        OSError: it cannot be written to.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(_PROBE_BYTES))
        probe.flush()
        os.fsync(probe.fileno())


class SlurmFolder:
    """Reads and writes one run folder; holds no state of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._documents = RunFolder(path)

    @property
    def started_as(self) -> str | None:
        """The Slurm job that has begun the run; None where none has."""
        return next((path.name.removeprefix("started-") for path in self._glob("started-*")), None)

    def exit_code(self, job_id: str) -> int | None:
        """What the script of that job noted of its end; None where it noted nothing."""
        try:
            text = (self.path / f"exit-{job_id}").read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        code = text.strip()
        return int(code) if code.isascii() and code.isdecimal() and int(code) < 256 else None

    def issue_ticket(self) -> str:
        """Makes the folder and the only valid ticket in it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # output may hold secrets
        self.withdraw()
        ticket = f"ticket-{secrets.token_hex(8)}"
        self.honour(ticket)
        return ticket

    def honour(self, ticket: str) -> None:
        """Lets the job with that ticket begin, unless the run has."""
        if self.started_as is None:
            # Not empty: a disk that is full takes empty files, and the job would start to no avail.
            (self.path / ticket).write_text(self.path.name, encoding="utf-8")

    def withdraw(self) -> None:
        """Takes back all tickets: a submission that turns up later begins nothing."""
        for path in self._glob("ticket-*"):
            path.unlink(missing_ok=True)

    def pauses(self) -> list[list[float]]:
        """Wall seconds of (suspended, continued); the last one is open while it is suspended."""
        return self._documents.pauses()

    def note_suspended(self, wall_s: float) -> None:
        """Writes that it was suspended, unless that is known."""
        pauses = self.pauses()
        if not pauses or len(pauses[-1]) == 2:
            self._documents.write("freezes.json", {"pauses": [*pauses, [wall_s]]})

    def note_continued(self, wall_s: float) -> None:
        """Writes that it went on, unless that is known."""
        pauses = self.pauses()
        if pauses and len(pauses[-1]) == 1:
            *before, (stopped_s,) = pauses
            self._documents.write("freezes.json", {"pauses": [*before, [stopped_s, wall_s]]})

    def _glob(self, pattern: str) -> Iterator[Path]:
        return self.path.glob(pattern)
