"""One run's folder on disk: what was asked, whether it started, how it ended. The truth of the local cluster.

spec.json      what to run, with which devices        (written before anything is started)
lock           held by the supervisor while it lives
started.json   created exclusively by the one supervisor that runs the command
freezes.json   when it was stopped and continued
stop.json      when to kill it, once it was asked to leave
exit.json      how and when it ended
"""

import contextlib
import fcntl
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Reads and writes one run folder; holds no state of its own."""

    path: Path

    def read(self, name: str) -> Document | None:
        """The document of that name; None where it is absent or still empty."""
        try:
            text = (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        if not text:
            return None
        document: Document = json.loads(text)
        return document

    def write(self, name: str, document: Document) -> None:
        """Writes a document so that a crash leaves the old one or the new one."""
        draft = self.path / f"{name}.tmp"
        with draft.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path / name)

    @property
    def has_started(self) -> bool:
        """Whether some supervisor has begun to start the command: never again after that."""
        return (self.path / "started.json").exists()

    @property
    def is_supervised(self) -> bool:
        """Whether its supervisor lives."""
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the command's process group, if it is still that command."""
        group = self.process_group()
        if group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)

    def process_group(self) -> int | None:
        """The command's group, or None where it is gone or its number belongs to another process now."""
        started = self.read("started.json")
        if not started or not started["pid"]:
            return None
        try:
            process = psutil.Process(started["pid"])
            created_s = process.create_time()
        except psutil.NoSuchProcess:
            return None
        # The command is created just after `wall_s`; a process made much later took the number over.
        is_ours = -2.0 < created_s - started["wall_s"] < 30.0
        return process.pid if is_ours else None

    def pauses(self) -> list[list[float]]:
        """Wall seconds of (stopped, continued); the last one is open while it is frozen."""
        document = self.read("freezes.json")
        return document["pauses"] if document else []
