"""A cluster that is this machine: runs processes, counts devices, survives restarts of the service."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from adapters.cluster.local_run import Document, RunFolder
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
)
from scheduler.core.timegrid import Window
from scheduler.ports import Capability, Check, Clock, Dispatch, RunState, RunStatus

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_SUPERVISOR: Final = Path(__file__).with_name("local_supervisor.py")
PASS_ENV: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "USER")
START_WAIT_S: Final = 10.0
MIN_FREE_BYTES: Final = 64 * 1024 * 1024


class LocalCluster:
    """See `ClusterAdapter`.

    Args:
        root: folder for run folders, logs and checkpoints.
        devices: how many of each accelerator there are; CPU counts hardware threads.
        pause_mode: `checkpoint` (SIGTERM, grace, SIGKILL) or `freeze` (SIGSTOP, SIGCONT).
        pass_env: variables of the service that jobs see, beside those that are given to them.
        wall: wall clock in Unix seconds.
    """

    def __init__(  # noqa: PLR0913 - a machine has this many sides
        self,
        cluster_id: str,
        *,
        root: Path,
        devices: Mapping[str, int],
        clock: Clock,
        pause_mode: Literal["checkpoint", "freeze"] = "checkpoint",
        pass_env: tuple[str, ...] = PASS_ENV,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - signals and files live on wall time
    ) -> None:
        self._cluster_id = cluster_id
        self._root = root.resolve()
        self._devices = dict(devices)
        self._clock = clock
        self._pause_mode = pause_mode
        self._pass_env = pass_env
        self._wall = wall
        self._lock = threading.RLock()
        self._ended: dict[str, RunStatus] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            (self._root / "runs").mkdir(parents=True, exist_ok=True)
            (self._root / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ClusterUnavailableError(
                f"{cluster_id}: {self._root} cannot be made: {error}", cluster=cluster_id
            ) from error
        self._live = {
            path.name: spec
            for path in (self._root / "runs").iterdir()
            if not (path / "exit.json").exists()
            and (spec := RunFolder(path).read("spec.json")) is not None
        }

    @property
    def cluster_id(self) -> str:
        """Name in the configuration."""
        return self._cluster_id

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Checkpoint or freeze, as configured."""
        is_freezing = self._pause_mode == "freeze"
        return frozenset({Capability.FREEZE if is_freezing else Capability.CHECKPOINT})

    def submit(self, dispatch: Dispatch) -> str:
        """See `ClusterAdapter`."""
        self._require_runnable(dispatch)
        with self._lock:
            run = self._run(dispatch.name)
            if not run.has_started:
                self._prepare(run, dispatch)
                self._supervise(run)
            return self._confirmed(run)

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        """See `ClusterAdapter`."""
        with self._lock:
            self._reap()
            found = {name: self._status(name) for name in names}
        return {name: status for name, status in found.items() if status is not None}

    def pause(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        with self._lock:
            if self._pause_mode == "checkpoint":
                self.cancel(name, grace_s=grace_s)
                return
            run = self._run(name)
            pauses = run.pauses()
            is_frozen = bool(pauses) and len(pauses[-1]) == 1
            if run.process_group() is not None and not is_frozen:
                run.signal(signal.SIGSTOP)
                run.write("freezes.json", {"pauses": [*pauses, [self._wall()]]})

    def resume(self, name: str) -> None:
        """See `ClusterAdapter`."""
        with self._lock:
            run = self._run(name)
            spec, pauses = self._live.get(name), run.pauses()
            if spec is None or not pauses or len(pauses[-1]) == 2:
                return
            taken = self._taken(spec["accelerator"])
            if taken & set(spec["device_ids"]):
                raise ClusterFullError(
                    f"{self._cluster_id}: the devices of {name} are in use",
                    cluster=self._cluster_id,
                )
            run.write("freezes.json", {"pauses": [*pauses[:-1], [pauses[-1][0], self._wall()]]})
            run.signal(signal.SIGCONT)

    def cancel(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        with self._lock:
            run = self._run(name)
            if name not in self._live or run.read("stop.json") is not None:
                return
            run.write("stop.json", {"kill_at_s": self._wall() + grace_s})
            run.signal(signal.SIGTERM)
            run.signal(signal.SIGCONT)  # a frozen one must wake up to act on it

    def free_devices(self) -> Mapping[str, int]:
        """See `ClusterAdapter`."""
        with self._lock:
            self._reap()
            for name in list(self._live):
                self._status(name)
            return {
                accelerator: count - len(self._taken(accelerator))
                for accelerator, count in self._devices.items()
            }

    def checks(self) -> list[Check]:
        """See `ClusterAdapter`."""
        usage = shutil.disk_usage(self._root)
        is_writable = os.access(self._root, os.W_OK)
        free = ", ".join(f"{name} {count}" for name, count in self.free_devices().items())
        return [
            Check(
                subject=f"cluster {self._cluster_id}",
                is_ok=is_writable and usage.free > MIN_FREE_BYTES,
                detail=f"local, free devices: {free}; {usage.free // 2**20} MiB free in {self._root}"
                + ("" if is_writable else ", which is not writable"),
            )
        ]

    # ------------------------------------------------------------------ starting

    def _require_runnable(self, dispatch: Dispatch) -> None:
        why = None
        if not _NAME.fullmatch(dispatch.name) or not _NAME.fullmatch(dispatch.checkpoint_key):
            why = f"{dispatch.name!r} cannot name a folder"
        elif dispatch.accelerator not in self._devices:
            why = f"it has no {dispatch.accelerator}"
        elif dispatch.gpus > self._devices[dispatch.accelerator]:
            why = f"{dispatch.gpus} {dispatch.accelerator} asked, it has {self._devices[dispatch.accelerator]}"
        elif dispatch.num_nodes != 1:
            why = f"{dispatch.num_nodes} nodes asked, it is one machine"
        if why:
            raise DispatchRejectedError(f"{self._cluster_id}: {why}", cluster=self._cluster_id)

    def _prepare(self, run: RunFolder, dispatch: Dispatch) -> None:
        """Writes what is to run, with the devices that it gets. Nothing has started before or after."""
        if run.read("spec.json") is not None:
            return
        self.free_devices()  # brings ended runs to the books
        free = set(range(self._devices[dispatch.accelerator])) - self._taken(dispatch.accelerator)
        if len(free) < dispatch.gpus:
            raise ClusterFullError(
                f"{self._cluster_id}: {dispatch.gpus} {dispatch.accelerator} asked, {len(free)} free",
                cluster=self._cluster_id,
            )
        device_ids = sorted(free)[: dispatch.gpus]
        checkpoints = self._root / "checkpoints" / dispatch.checkpoint_key
        try:
            run.path.mkdir(exist_ok=True)
            checkpoints.mkdir(exist_ok=True)
            spec: Document = {
                "job_id": dispatch.job_id,
                "command": list(dispatch.command),
                "env": self._env(dispatch, checkpoints, device_ids),
                "workdir": dispatch.workdir or str(run.path),
                "accelerator": dispatch.accelerator,
                "device_ids": device_ids,
            }
            run.write("spec.json", spec)
        except OSError as error:
            shutil.rmtree(run.path, ignore_errors=True)
            raise ClusterUnavailableError(
                f"{self._cluster_id}: the run folder cannot be written: {error}",
                cluster=self._cluster_id,
            ) from error
        self._live[dispatch.name] = spec

    def _env(self, dispatch: Dispatch, checkpoints: Path, device_ids: list[int]) -> dict[str, str]:
        env = {name: os.environ[name] for name in self._pass_env if name in os.environ}
        env |= dict(dispatch.env)
        env["GRIDTIDE_CHECKPOINT_DIR"] = str(checkpoints)
        if dispatch.accelerator != "CPU":
            env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, device_ids))
        return env

    def _supervise(self, run: RunFolder) -> None:
        """Starts a supervisor, and waits until it has started the command or given up."""
        ready, theirs = os.pipe()
        try:
            with (run.path / "supervisor.log").open("ab") as log:
                child = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-I", "-S", str(_SUPERVISOR), str(run.path), str(theirs)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs,),
                    start_new_session=True,
                    cwd="/",
                )
        except OSError as error:
            os.close(ready)
            raise ClusterUnavailableError(
                f"{self._cluster_id}: no process can be started: {error}", cluster=self._cluster_id
            ) from error
        finally:
            os.close(theirs)
        self._children[run.path.name] = child
        select.select([ready], [], [], START_WAIT_S)  # readable when their end is closed
        os.close(ready)

    def _confirmed(self, run: RunFolder) -> str:
        started = run.read("started.json")
        if started is not None:
            return str(started["pid"] or run.path.name)
        raise DispatchUncertainError(
            f"{self._cluster_id}: {run.path.name} did not confirm its start within {START_WAIT_S:.0f} s",
            cluster=self._cluster_id,
        )

    # ------------------------------------------------------------------ watching

    def _status(self, name: str) -> RunStatus | None:
        if name in self._ended:
            return self._ended[name]
        run = self._run(name)
        started = run.read("started.json")
        if started is None:
            if run.is_supervised:
                return RunStatus(name=name, ref=name, state=RunState.PENDING)
            # Died between the exclusive mark and the start of the command: it may not begin again.
            lost = RunStatus(name=name, ref=name, state=RunState.LOST)
            return self._end(name, lost) if run.has_started else None
        ended = run.read("exit.json")
        if ended is not None:
            return self._end(name, self._ended_status(name, started, run, ended))
        if not run.is_supervised:
            ended = run.read("exit.json")  # it may have ended between the two looks
            if ended is not None:
                return self._end(name, self._ended_status(name, started, run, ended))
            run.signal(signal.SIGKILL)
            return self._end(name, self._lost_status(name, started, run))
        self._kill_overdue(run)
        return self._running_status(name, started, run)

    def _running_status(self, name: str, started: Document, run: RunFolder) -> RunStatus:
        pauses = run.pauses()
        is_frozen = bool(pauses) and len(pauses[-1]) == 1
        spans, since_s = self._spans(float(started["wall_s"]), pauses, None)
        return RunStatus(
            name=name,
            ref=str(started["pid"]),
            state=RunState.FROZEN if is_frozen else RunState.RUNNING,
            spans=spans,
            since=None if is_frozen else self._clock.at_wall(since_s),
        )

    def _ended_status(
        self, name: str, started: Document, run: RunFolder, ended: Document
    ) -> RunStatus:
        spans, _ = self._spans(float(started["wall_s"]), run.pauses(), float(ended["ended_s"]))
        return RunStatus(
            name=name,
            ref=str(started["pid"] or name),
            state=RunState.ENDED,
            spans=spans,
            exit_code=ended["exit_code"],
            detail=str(ended["detail"]),
        )

    def _lost_status(self, name: str, started: Document, run: RunFolder) -> RunStatus:
        # Until when it ran is not known; the last time it wrote something is the best witness.
        files = [path.stat().st_mtime for path in run.path.glob("std*.log")]
        last_s = max([*files, float(started["wall_s"])])
        spans, _ = self._spans(float(started["wall_s"]), run.pauses(), last_s)
        return RunStatus(
            name=name, ref=str(started["pid"] or name), state=RunState.LOST, spans=spans
        )

    def _spans(
        self, began_s: float, pauses: list[list[float]], ended_s: float | None
    ) -> tuple[tuple[Window, ...], float]:
        """Finished stretches of running, and the beginning of the open one."""
        spans = []
        since_s = began_s
        for pause in pauses:
            spans.append((since_s, pause[0]))
            since_s = pause[1] if len(pause) == 2 else (ended_s or pause[0])
        if ended_s is not None and ended_s > since_s:
            spans.append((since_s, ended_s))
        at = self._clock.at_wall
        return tuple(Window(at(low), at(max(low, high))) for low, high in spans), since_s

    def _kill_overdue(self, run: RunFolder) -> None:
        stop = run.read("stop.json")
        if stop is not None and self._wall() >= stop["kill_at_s"]:
            run.signal(signal.SIGKILL)

    def _end(self, name: str, status: RunStatus) -> RunStatus:
        self._live.pop(name, None)
        self._ended[name] = status
        return status

    def _taken(self, accelerator: str) -> set[int]:
        """Devices that runs occupy; frozen ones have left theirs."""
        taken: set[int] = set()
        for name, spec in self._live.items():
            pauses = self._run(name).pauses()
            is_frozen = bool(pauses) and len(pauses[-1]) == 1
            if spec["accelerator"] == accelerator and not is_frozen:
                taken |= set(spec["device_ids"])
        return taken

    def _reap(self) -> None:
        for name, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[name]

    def _run(self, name: str) -> RunFolder:
        return RunFolder(self._root / "runs" / name)
