"""One run's folder on disk: what was asked, whether it started, how it ended. The truth of the local cluster.

spec.json      what to run, with which devices        (written before anything is started)
lock           held from before the supervisor is started until its end
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
from typing import Any, Final

import psutil

Document = dict[str, Any]
MARK: Final = "GRIDTIDE_CHECKPOINT_DIR"
"""The variable by which a process is known as one of a job's."""


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

    def lock(self) -> int | None:
        """A descriptor that holds the lock, to be handed to a supervisor; None if one lives."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    @property
    def is_supervised(self) -> bool:
        """Whether its supervisor lives."""
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal to the command's process group; whether there was one to send it to."""
        started = self.read("started.json")
        # While its supervisor lives, the number cannot have passed to another process.
        if not started or not started["pid"] or not self.is_supervised:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(started["pid"], number)
            return True
        return False

    def kill_orphans(self) -> None:
        """Kills what is left of the command's process group once its supervisor is dead.

        The group's number may belong to strangers by now: a member counts as ours only by the
        checkpoint directory in its environment.
        """
        started, spec = self.read("started.json"), self.read("spec.json")
        if not started or not started["pid"] or not spec:
            return
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                is_member = os.getpgid(process.pid) == started["pid"]
                if is_member and process.environ().get(MARK) == spec["env"][MARK]:
                    os.killpg(started["pid"], signal.SIGKILL)
                    return

    def pauses(self) -> list[list[float]]:
        """Wall seconds of (stopped, continued); the last one is open while it is frozen."""
        document = self.read("freezes.json")
        return document["pauses"] if document else []

    @property
    def is_frozen(self) -> bool:
        """Whether it was stopped and not continued."""
        pauses = self.pauses()
        return bool(pauses) and len(pauses[-1]) == 1
