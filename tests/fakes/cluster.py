"""A cluster in memory, driven by a manual clock; it can be full, silent, or lose its reply."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
)
from scheduler.core.slurm_terms import JobSlurm
from scheduler.core.timegrid import Window
from scheduler.ports import Capability, Check, Dispatch, RunState, RunStatus
from tests.fakes.clock import ManualClock


@dataclass
class FakeRun:
    dispatch: Dispatch
    since: datetime | None
    length: timedelta
    spans: tuple[Window, ...] = ()
    ended_at: datetime | None = None
    exit_code: int | None = None

    @property
    def due_at(self) -> datetime | None:
        if self.since is None:
            return None
        return (
            self.since
            + self.length
            - sum((one.end_at - one.start_at for one in self.spans), timedelta())
        )

    def stop(self, at: datetime) -> None:
        if self.since is not None:
            self.spans, self.since = (*self.spans, Window(self.since, at)), None


@dataclass
class FakeCluster:
    """Runs last `run_hours[job name]` hours, else `default_hours`.

    With the fault `unavailable` it takes none, `silent` it tells nothing, `away` neither.
    With `unstarted` it takes runs, and gives them back. They end with 0, or with the next of `exit_codes[job name]`, where None is one that nobody knows.
    A pause ends a run with `pause_code`; it is ignored where that is None, and freezes where `is_freezing`.
    """

    cluster_id: str
    clock: ManualClock
    devices: dict[str, int]
    default_hours: float = 4
    run_hours: dict[str, float] = field(default_factory=dict)
    exit_codes: dict[str, list[int | None]] = field(default_factory=dict)
    runs: dict[str, FakeRun] = field(default_factory=dict)
    fault: str | None = None
    pause_code: int | None = 75
    is_freezing: bool = False
    submissions: list[str] = field(default_factory=list)

    def tell_ends(self, tell: Callable[[], None]) -> None:
        pass

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.FREEZE if self.is_freezing else Capability.CHECKPOINT})

    def submit(self, dispatch: Dispatch) -> str:
        self.submissions.append(dispatch.name)
        if self.fault in ("unavailable", "away"):
            raise ClusterUnavailableError("cluster does not answer")
        if self.fault == "rejected":
            raise DispatchRejectedError("no such partition")
        if dispatch.name not in self.runs:
            if self.free_devices()[dispatch.accelerator] < dispatch.gpus or self.fault == "full":
                raise ClusterFullError("no room")
            if self.fault != "lost-before":
                self._begin(dispatch)
        if self.fault in ("lost-before", "lost-after"):
            raise DispatchUncertainError("reply lost")
        return f"ref-{dispatch.name}"

    def _begin(self, dispatch: Dispatch) -> None:
        key = dispatch.job_id.rsplit("-", 1)[0]
        hours = self.run_hours.get(key, self.default_hours)
        self.runs[dispatch.name] = FakeRun(dispatch, self.clock.now(), timedelta(hours=hours))

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        if self.fault in ("silent", "away"):
            raise ClusterUnavailableError("cluster does not answer")
        if self.fault == "unstarted":
            return {name: self._given_back(name) for name in names if self.runs.pop(name, None)}
        self._end_due()
        return {name: self._status(name) for name in names if name in self.runs}

    def _end_due(self) -> None:
        for run in self.runs.values():
            due = run.due_at
            if run.ended_at is None and due is not None and due <= self.clock.now():
                key = run.dispatch.job_id.rsplit("-", 1)[0]
                codes = self.exit_codes.get(key, [])
                run.stop(due)
                run.ended_at, run.exit_code = due, codes.pop(0) if codes else 0

    def _given_back(self, name: str) -> RunStatus:
        state = RunState.UNSTARTED
        return RunStatus(name=name, ref=f"ref-{name}", state=state, detail="no node has room")

    def _status(self, name: str) -> RunStatus:
        run = self.runs[name]
        if run.ended_at is None:
            state = RunState.FROZEN if run.since is None else RunState.RUNNING
            return RunStatus(
                name=name, ref=f"ref-{name}", state=state, spans=run.spans, since=run.since
            )
        return RunStatus(
            name=name,
            ref=f"ref-{name}",
            state=RunState.ENDED,
            spans=run.spans,
            exit_code=run.exit_code,
        )

    def pause(self, name: str, *, grace_s: float) -> None:
        if self.is_freezing:
            self.runs[name].stop(self.clock.now())
        elif self.pause_code is not None:
            self._stop(name, self.pause_code)

    def cancel(self, name: str, *, grace_s: float) -> None:
        self._stop(name, -15)

    def _stop(self, name: str, code: int) -> None:
        run = self.runs.get(name)
        if run is not None and run.ended_at is None:
            run.stop(self.clock.now())
            run.ended_at, run.exit_code = self.clock.now(), code

    def resume(self, name: str) -> None:
        assert self.is_freezing
        self.runs[name].since = self.clock.now()

    def free_devices(self, slurm: JobSlurm | None = None) -> Mapping[str, int]:
        self._end_due()
        used = dict.fromkeys(self.devices, 0)
        for run in self.runs.values():
            if run.ended_at is None and run.since is not None:
                used[run.dispatch.accelerator] += run.dispatch.gpus
        return {name: count - used[name] for name, count in self.devices.items()}

    def checks(self) -> list[Check]:
        return [Check(subject=self.cluster_id, is_ok=True, detail="fake")]
