"""A cluster that is this machine: runs processes, counts devices, survives restarts of the service."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from adapters.cluster.local_run import MARK, Document, RunFolder
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
)
from scheduler.core.slurm_terms import JobSlurm
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
        root: folder for run folders and logs.
        checkpoints: folder for checkpoints; `root/checkpoints` where not given. Clusters that share it can
            take over each other's paused jobs.
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
        checkpoints: Path | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - signals and files live on wall time
    ) -> None:
        self._cluster_id = cluster_id
        self._root = root.resolve()
        self._checkpoints = (checkpoints or self._root / "checkpoints").resolve()
        self._devices = dict(devices)
        self._clock = clock
        self._pause_mode = pause_mode
        self._pass_env = pass_env
        self._wall = wall
        self._lock = threading.RLock()
        self._ended: dict[str, RunStatus] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._tell_end: Callable[[], None] = lambda: None
        try:
            (self._root / "runs").mkdir(parents=True, exist_ok=True)
            self._checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ClusterUnavailableError(
                f"{cluster_id}: {error.filename or self._root} cannot be made: {error}",
                cluster=cluster_id,
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
        with self._reachable():
            run = self._run(dispatch.name)
            if not run.has_started and not run.is_supervised:
                self._start(run, dispatch)
            return self._confirmed(run)

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        """See `ClusterAdapter`."""
        with self._reachable():
            self._reap()
            found = {name: self._status(name) for name in names}
        return {name: status for name, status in found.items() if status is not None}

    def pause(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        if self._pause_mode == "checkpoint":
            self.cancel(name, grace_s=grace_s)
            return
        with self._reachable():
            run = self._run(name)
            if run.is_frozen or run.read("stop.json") is not None:
                return
            if run.signal(signal.SIGSTOP):
                run.write("freezes.json", {"pauses": [*run.pauses(), [self._wall()]]})

    def resume(self, name: str) -> None:
        """See `ClusterAdapter`."""
        with self._reachable():
            run, spec = self._run(name), self._live.get(name)
            if spec is None or not run.is_frozen:
                return
            if self._taken(spec["accelerator"]) & set(spec["device_ids"]):
                raise ClusterFullError(
                    f"{self._cluster_id}: the devices of {name} are in use",
                    cluster=self._cluster_id,
                )
            self._thaw(run)

    def cancel(self, name: str, *, grace_s: float) -> None:
        """See `ClusterAdapter`."""
        with self._reachable():
            run = self._run(name)
            if name not in self._live or run.read("stop.json") is not None:
                return
            # Signal first: were it the other way round, a crash in between would leave a job that
            # is killed without having been asked to save its work. Asking twice does no harm.
            if run.signal(signal.SIGTERM):
                self._thaw(run)  # a frozen one must wake up to act on it
                run.write("stop.json", {"kill_at_s": self._wall() + grace_s})

    def free_devices(self, slurm: JobSlurm | None = None) -> Mapping[str, int]:
        """See `ClusterAdapter`."""
        with self._reachable():
            self._reap()
            for name in list(self._live):
                self._status(name)
            return {
                accelerator: count - len(self._taken(accelerator))
                for accelerator, count in self._devices.items()
            }

    def tell_ends(self, tell: Callable[[], None]) -> None:
        """See `ClusterAdapter`."""
        self._tell_end = tell

    def checks(self) -> list[Check]:
        """See `ClusterAdapter`."""
        subject = f"cluster {self._cluster_id}"
        try:
            free = ", ".join(f"{name} {count}" for name, count in self.free_devices().items())
            free_bytes = shutil.disk_usage(self._root).free
        except (ClusterUnavailableError, OSError) as error:
            return [Check(subject=subject, is_ok=False, detail=str(error))]
        is_writable = os.access(self._root, os.W_OK)
        return [
            Check(
                subject=subject,
                is_ok=is_writable and free_bytes > MIN_FREE_BYTES,
                detail=f"local, free devices: {free}; {free_bytes // 2**20} MiB free in {self._root}"
                + ("" if is_writable else ", which is not writable"),
            )
        ]

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        """Holds the adapter's lock; a folder that cannot be used is a cluster without an answer."""
        with self._lock:
            try:
                # Without its folder every run would look as if it had never been started.
                (self._root / "runs").stat()
                yield
            except OSError as error:
                raise ClusterUnavailableError(
                    f"{self._cluster_id}: {self._root} cannot be used: {error}; "
                    "check the disk and the rights on the folder",
                    cluster=self._cluster_id,
                ) from error

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
        elif dispatch.slurm is not None:
            why = "the job has terms for Slurm, which it is not"
        if why:
            raise DispatchRejectedError(f"{self._cluster_id}: {why}", cluster=self._cluster_id)

    def _start(self, run: RunFolder, dispatch: Dispatch) -> None:
        """Starts a supervisor, and waits until it has started the command or given up."""
        spec = self._build_spec(run, dispatch)
        run.path.mkdir(mode=0o700, exist_ok=True)  # the environment may hold secrets
        lock = run.lock()
        if lock is None:
            return
        ready, theirs = os.pipe()
        try:
            Path(spec["env"][MARK]).mkdir(exist_ok=True)
            run.write("spec.json", spec)
            child = self._spawn(run, lock, theirs)
        except OSError:
            os.close(ready)
            raise
        finally:
            os.close(lock)
            os.close(theirs)
        self._live[dispatch.name] = spec
        self._children[dispatch.name] = child
        # Runs of an earlier service are no children of this one: their ends are seen by `poll` alone.
        threading.Thread(target=self._await_end, args=(child,), daemon=True).start()
        their_end = select.poll()
        their_end.register(ready, select.POLLIN)
        their_end.poll(START_WAIT_S * 1000)  # tells when their end is closed
        os.close(ready)

    def _build_spec(self, run: RunFolder, dispatch: Dispatch) -> Document:
        """What is to run, with the devices that it gets."""
        self.free_devices()  # brings ended runs to the books
        free = set(range(self._devices[dispatch.accelerator])) - self._taken(dispatch.accelerator)
        if len(free) < dispatch.gpus:
            raise ClusterFullError(
                f"{self._cluster_id}: {dispatch.gpus} {dispatch.accelerator} asked, {len(free)} free",
                cluster=self._cluster_id,
            )
        device_ids = sorted(free)[: dispatch.gpus]
        checkpoints = self._checkpoints / dispatch.checkpoint_key
        return {
            "job_id": dispatch.job_id,
            "command": list(dispatch.command),
            "env": self._env(dispatch, checkpoints, device_ids),
            "workdir": dispatch.shared_workdir or str(run.path),
            "accelerator": dispatch.accelerator,
            "device_ids": device_ids,
        }

    def _spawn(self, run: RunFolder, lock: int, ready: int) -> subprocess.Popen[bytes]:
        with (run.path / "supervisor.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own program
                [
                    *(sys.executable, "-I", "-S", str(_SUPERVISOR)),
                    *(str(run.path), str(lock), str(ready)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock, ready),
                start_new_session=True,
                cwd="/",
            )

    def _env(self, dispatch: Dispatch, checkpoints: Path, device_ids: list[int]) -> dict[str, str]:
        env = {name: os.environ[name] for name in self._pass_env if name in os.environ}
        env |= dict(dispatch.env)
        env[MARK] = str(checkpoints)
        if dispatch.accelerator != "CPU":
            env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, device_ids))
        return env

    def _confirmed(self, run: RunFolder) -> str:
        try:
            started = run.read("started.json")
        except OSError as error:
            raise self._uncertain(run, str(error)) from error
        if started is None:
            raise self._uncertain(run, "no sign of its start yet")
        return str(started["pid"] or run.path.name)

    def _uncertain(self, run: RunFolder, why: str) -> DispatchUncertainError:
        return DispatchUncertainError(
            f"{self._cluster_id}: {run.path.name} may or may not have started: {why}",
            cluster=self._cluster_id,
        )

    # ------------------------------------------------------------------ watching

    def _status(self, name: str) -> RunStatus | None:
        if name in self._ended:
            return self._ended[name]
        run = self._run(name)
        is_supervised = run.is_supervised  # asked first: what a dead one has written is complete
        started, ended = run.read("started.json"), run.read("exit.json")
        if started is not None and ended is not None:
            return self._end(name, self._ended_status(name, started, run, ended))
        if is_supervised:
            self._kill_overdue(run)
            return self._running_status(name, started, run)
        if not run.has_started:
            self._live.pop(name, None)  # prepared at most: nothing runs, so it has no devices
            return None
        # It may not begin again, though it perhaps never did: `started.json` may be an empty mark.
        run.kill_orphans()
        return self._end(name, self._lost_status(name, started, run))

    def _running_status(self, name: str, started: Document | None, run: RunFolder) -> RunStatus:
        if started is None:
            return RunStatus(name=name, ref=name, state=RunState.PENDING)
        pauses, is_frozen = run.pauses(), run.is_frozen
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

    def _lost_status(self, name: str, started: Document | None, run: RunFolder) -> RunStatus:
        if started is None:
            return RunStatus(name=name, ref=name, state=RunState.LOST)
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

    def _thaw(self, run: RunFolder) -> None:
        continued_s = self._wall()  # before the signal: it may have ended by the time we look
        run.signal(signal.SIGCONT)
        if run.is_frozen:
            *before, (stopped_s,) = run.pauses()
            run.write("freezes.json", {"pauses": [*before, [stopped_s, continued_s]]})

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
            if spec["accelerator"] == accelerator and not self._run(name).is_frozen:
                taken |= set(spec["device_ids"])
        return taken

    def _await_end(self, child: subprocess.Popen[bytes]) -> None:
        child.wait()
        self._tell_end()

    def _reap(self) -> None:
        for name, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[name]

    def _run(self, name: str) -> RunFolder:
        return RunFolder(self._root / "runs" / name)
