"""Runs one command for the local cluster and outlives the service. Standard library only.

Started as `python -I -S local_supervisor.py RUN_FOLDER LOCK_FD READY_FD`. Inherits the held lock of the run
folder and keeps it for as long as it lives; creates `started.json` exclusively before it starts the command, so that of any number of
supervisors of one folder only the first ever does; writes `exit.json` when the command has ended.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time

EX_NOT_EXECUTABLE, EX_NOT_FOUND = 126, 127
PR_SET_PDEATHSIG = 1
RETRY_S = 1.0


def write(path, document):
    """Writes a document so that a crash leaves all of it or nothing."""
    draft = f"{path}.tmp"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def write_when_possible(path, document):
    """Writes a document as soon as the disk has room: a job that succeeded must not count as lost."""
    while os.path.isdir(os.path.dirname(path)):
        try:
            return write(path, document)
        except OSError:
            time.sleep(RETRY_S)


def die_with_parent():
    """Lets the kernel kill the command should this supervisor die. Linux only; elsewhere nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main():
    folder, lock, ready = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.set_inheritable(lock, False)  # the command must not keep it
    with open(os.path.join(folder, "spec.json"), encoding="utf-8") as file:
        spec = json.load(file)
    started = os.path.join(folder, "started.json")
    try:
        os.close(os.open(started, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return  # it has been started once; never again
    began = time.time()
    process, code, detail = None, None, ""
    try:
        process = start(spec, folder)
    except OSError as error:
        code = EX_NOT_FOUND if isinstance(error, FileNotFoundError) else EX_NOT_EXECUTABLE
        detail = f"{error.strerror}: {error.filename or spec['command'][0]}"
    except ValueError as error:  # a variable that no environment can hold
        code, detail = EX_NOT_EXECUTABLE, str(error)
    write(
        started, {"pid": process.pid if process else 0, "supervisor": os.getpid(), "wall_s": began}
    )
    os.close(ready)
    if process is not None:
        code = process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what the command left behind
    write_when_possible(
        os.path.join(folder, "exit.json"),
        {"exit_code": code, "began_s": began, "ended_s": time.time(), "detail": detail},
    )


def start(spec, folder):
    """The started command, in a session of its own, with exactly the environment of the spec."""
    with (
        open(os.path.join(folder, "stdout.log"), "ab") as out,
        open(os.path.join(folder, "stderr.log"), "ab") as err,
    ):
        return subprocess.Popen(
            spec["command"],
            env=spec["env"],
            cwd=spec["workdir"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


if __name__ == "__main__":
    main()
