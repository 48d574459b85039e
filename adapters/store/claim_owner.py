"""Who holds a claim: a process, by signs that tell whether it still runs."""

import os
import secrets
import socket
from functools import cache
from pathlib import Path
from typing import Final

_START_FIELD: Final = 19
"""Of /proc/<pid>/stat after the name in brackets: when the process began. Source: proc_pid_stat(5), field 22."""


def new_owner() -> str:
    """An id that no other archive has, of this process or of another."""
    pid = os.getpid()
    return " ".join((_machine(), str(pid), _began(pid), secrets.token_hex(8)))


def is_gone(owner: str) -> bool:
    """Whether the process of that id has ended for certain; False of one on another machine."""
    machine, _, rest = owner.partition(" ")
    words = rest.split()
    if machine != _machine() or len(words) != 3 or not words[0].isdecimal():
        return False
    pid, began = int(words[0]), words[1]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    # Another process may have the number by now.
    return _began(pid) != began


@cache
def _machine() -> str:
    """This machine since it was started; in a container, this container: numbers mean nothing outside."""
    parts = [socket.gethostname()]
    for read in (_boot_id, _pid_namespace):
        try:
            parts.append(read())
        except OSError:
            parts.append("-")
    return "/".join(parts).replace(" ", "_")


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _began(pid: int) -> str:
    """When that process began, in ticks; "-" where the system does not say, or it is a zombie's."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "-"
    state, *fields = stat.rpartition(")")[2].split()
    return "-" if state in {"Z", "X"} else fields[_START_FIELD - 1]
