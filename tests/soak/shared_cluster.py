"""A cluster that several service processes share, and that outlives each of them: its runs are rows on a Redis of its own."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import redis

from scheduler.core.slurm_terms import JobSlurm
from scheduler.core.timegrid import Window
from scheduler.ports import Capability, Check, Clock, Dispatch, RunState, RunStatus

ACCELERATOR: Final = "CPU"
BEGAN, ENDS, ASKED = "began", "ends", "asked"
"""Keys: run → when it began, in seconds; runs by when they end; run → how often it was asked for."""


class SharedCluster:
    """Each run takes one device for the same time, and ends well."""

    def __init__(
        self, cluster_id: str, *, port: int, clock: Clock, devices: int, run_s: float
    ) -> None:
        self.cluster_id = cluster_id
        self._clock = clock
        self._devices = devices
        self._run_s = run_s
        self._redis = redis.Redis(host="127.0.0.1", port=port, decode_responses=True)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.CHECKPOINT})

    def submit(self, dispatch: Dispatch) -> str:
        now_s = self._clock.now().timestamp()
        self._redis.hincrby(ASKED, dispatch.name, 1)
        if self._redis.hsetnx(BEGAN, dispatch.name, now_s):
            self._redis.zadd(ENDS, {dispatch.name: now_s + self._run_s})
        return f"sim-{dispatch.name}"

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        began = self._redis.hmget(BEGAN, list(names)) if names else []
        return {
            name: self._status(name, float(began_s))
            for name, began_s in zip(names, began, strict=True)
            if began_s is not None
        }

    def _status(self, name: str, began_s: float) -> RunStatus:
        began_at = datetime.fromtimestamp(began_s, UTC)
        ends_at = began_at + timedelta(seconds=self._run_s)
        if self._clock.now() < ends_at:
            return RunStatus(name=name, ref=f"sim-{name}", state=RunState.RUNNING, since=began_at)
        return RunStatus(
            name=name,
            ref=f"sim-{name}",
            state=RunState.ENDED,
            spans=(Window(began_at, ends_at),),
            exit_code=0,
        )

    def free_devices(self, slurm: JobSlurm | None = None) -> Mapping[str, int]:
        del slurm
        taken = self._redis.zcount(ENDS, self._clock.now().timestamp(), "+inf")
        return {ACCELERATOR: self._devices - int(taken)}

    def pause(self, name: str, *, grace_s: float) -> None:
        raise AssertionError("no job here is interruptible")

    def resume(self, name: str) -> None:
        raise AssertionError("no job here is interruptible")

    def cancel(self, name: str, *, grace_s: float) -> None:
        raise AssertionError("nobody cancels a job here")

    def tell_ends(self, tell: Callable[[], None]) -> None:
        pass

    def checks(self) -> list[Check]:
        return [Check(subject=self.cluster_id, is_ok=True, detail="simulated")]
