"""Five jobs of one morning, once for each point at which their service can die: what became of them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

from scheduler.core.errors import ConflictError, ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Scope
from scheduler.core.job import TRANSITIONS, Job, JobState
from scheduler.core.timegrid import Window
from scheduler.ports import Dispatch, JobStore
from scheduler.service.job_queue import Submission
from tests.conformance.stores import OpenStore
from tests.fakes.clock import ManualClock
from tests.fakes.cluster import FakeCluster, FakeRun
from tests.fakes.mortal import Fate, KilledError, Mortal
from tests.unit.service.world import START, DailySource, World, make_job, make_world

STEP: Final = timedelta(minutes=15)
STEPS: Final = 26
_S = JobState
ENDS: Final = {
    "plain": _S.SUCCEEDED,
    "pausing": _S.SUCCEEDED,
    "failing": _S.SUCCEEDED,
    "unwanted": _S.CANCELLED,
    "held": _S.SUCCEEDED,
}
"""How each job ends, whatever happens to the service."""
_DAY_G: Final = [400.0, 100.0, 400.0, 400.0, 100.0, *[400.0] * 19]


class CheckpointingCluster(FakeCluster):
    """A run goes on where the one before it left off."""

    def _begin(self, dispatch: Dispatch) -> None:
        super()._begin(dispatch)
        done = [
            span.end_at - span.start_at
            for run in self.runs.values()
            if run.dispatch.job_id == dispatch.job_id and run.exit_code == self.pause_code
            for span in run.spans
        ]
        self.runs[dispatch.name].length -= sum(done, timedelta())

    def of(self, job_id: str) -> list[FakeRun]:
        """Its runs, in the order in which they began."""
        return [run for run in self.runs.values() if run.dispatch.job_id == job_id]


class LateSource(DailySource):
    """What was measured is known only the day after: accounts are provisional until then."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__({"DE": _DAY_G}, is_live=True)
        self._clock = clock

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        if self._clock.now() < START + timedelta(hours=24):
            raise ForecastUnavailableError("not published yet", source=self.info.name)
        return super().fetch_actuals(zone_id, scope, window)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What is left of a morning.

    Args:
        points: what the first process passed, in order.
        faults: what is not as it must be, in sentences.
    """

    points: Sequence[str]
    faults: Sequence[str]
    pauses: int


class Morning:
    """The jobs, the cluster and the users; the service may die and is then started again on the same store."""

    def __init__(self, open_store: OpenStore, folder: Path, fate: Fate) -> None:
        self._open = open_store
        self._folder = folder
        self._clock = ManualClock(START)
        hours = {"plain": 1.0, "pausing": 2.0, "failing": 0.5, "unwanted": 2.0, "held": 1.0}
        self._cluster = CheckpointingCluster(
            "c-de",
            self._clock,
            {"H100": 5},
            run_hours=hours,
            exit_codes={"failing": [1, 0]},
        )
        self._jobs: dict[str, Job] = {
            "plain": self._job("plain", hours=1.0, patience=4),
            "pausing": self._job("pausing", hours=2.0, patience=3.5, is_interruptible=True),
            "failing": self._job("failing", hours=0.5, patience=4, max_retries=1),
            "unwanted": self._job("unwanted", hours=2.0, patience=0.25),
            "held": self._job("held", hours=1.0, patience=4.5),
        }
        self._fate = fate
        self._world: World | None = None
        self._store: JobStore | None = None
        self._refused: list[str] = []

    def _job(self, name: str, **terms: Any) -> Job:
        return make_job(self._clock, name, **terms)

    def live_through(self) -> Ending:
        """The morning, and the day after, when the accounts are settled."""
        actions = self._actions()
        for step in range(STEPS):
            if step in actions:
                self._insist(actions[step])
            self._insist(_look_and_tick)
            self._clock.move(hours=STEP / timedelta(hours=1))
        self._clock.move(hours=48)
        for _ in range(2):
            self._insist(_look_and_tick)
        faults = self._faults()
        self._leave()
        pauses = len(self._cluster.of(self._jobs["pausing"].job_id)) - 1
        return Ending(points=self._fate.passed, faults=faults, pauses=pauses)

    def _actions(self) -> Mapping[int, Callable[[World], object]]:
        """What users do, by the step before whose tick they do it."""
        names = {name: job.job_id for name, job in self._jobs.items()}
        submissions = [
            Submission(job=job, idempotency_key=name, request_digest=name)
            for name, job in self._jobs.items()
        ]
        return {
            0: lambda world: world.queue.submit(submissions),
            1: lambda world: world.queue.hold(names["held"]),
            3: lambda world: world.queue.cancel(names["unwanted"]),
            6: lambda world: world.queue.release(names["held"]),
        }

    def _insist(self, act: Callable[[World], object]) -> None:
        """Does it; where the service dies, it is started again and asked once more, as clients do."""
        try:
            act(self._alive())
        except KilledError:
            self._leave()
            self._fate.dies_at = None
            with suppress(ConflictError):  # it had been done
                act(self._alive())
        except ConflictError as error:
            self._refused.append(error.message)

    def _alive(self) -> World:
        if self._world is None:
            self._store = self._open()
            if (lease := self._store.lease()) is not None:
                self._store.drop_lease(
                    lease.holder
                )  # it has ended: the morning's clock is not the server's
            self._world = make_world(
                self._folder,
                sources=[LateSource(self._clock)],
                gpus=5,
                clusters={
                    "c-de": cast("FakeCluster", Mortal(self._cluster, "cluster", self._fate))
                },
                clock=self._clock,
                store=cast("JobStore", Mortal(self._store, "store", self._fate)),
            )
        return self._world

    def _leave(self) -> None:
        """The process is gone; so is what it had open."""
        if self._store is not None:
            self._store.close()
        self._store = self._world = None

    # ---------------------------------------------------------------- what must be so

    def _faults(self) -> list[str]:
        self._alive()
        store = self._store
        assert store is not None
        faults = [f"refused a user: {words}" for words in self._refused]
        listed, _ = store.list_jobs(limit=100)
        if Counter(one.job.name for one in listed) != Counter(list(self._jobs)):
            faults.append(f"jobs in the store: {sorted(one.job.name for one in listed)}")
        for name, job in self._jobs.items():
            faults += [f"{name}: {what}" for what in self._faults_of(store, name, job.job_id)]
        known = {one.job.job_id for one in listed}
        strange = [run for run in self._cluster.runs.values() if run.dispatch.job_id not in known]
        faults += [f"the cluster ran {run.dispatch.name}, which nobody knows" for run in strange]
        if store.entries(unsettled_only=True):
            faults.append("accounts that were never settled")
        if [one.seq for one in store.events()] != list(range(1, len(store.events()) + 1)):
            faults.append("events with gaps")
        return faults

    def _faults_of(self, store: JobStore, name: str, job_id: str) -> list[str]:
        record = store.get_job(job_id)
        runs = self._cluster.of(job_id)
        faults = []
        if record.state is not ENDS[name]:
            faults.append(f"is {record.state}: {record.reason}")
        if record.has_missed_deadline:
            faults.append("is late")
        states = [_S.QUEUED, *(one.state for one in store.events(job_id=job_id) if one.state)]
        faults += [
            f"went from {before} to {after}"
            for before, after in pairwise(states)
            if before is not after and after not in TRANSITIONS[before]
        ]
        if any(run.ended_at is None for run in runs):
            faults.append("still runs")
        spans = [span for run in runs for span in run.spans]
        if any(_overlap(one, other) for i, one in enumerate(spans) for other in spans[:i]):
            faults.append("ran twice at once")
        wanted = {"failing": [1, 0], "unwanted": [-15]}.get(name, [0])
        codes = [run.exit_code for run in runs if run.exit_code != self._cluster.pause_code]
        if codes != wanted:
            faults.append(f"its runs ended with {codes}, not {wanted}")
        entries = [one for one in store.entries() if one.job_id == job_id]
        if len(entries) != 1:
            faults.append(f"has {len(entries)} ledger entries")
        elif [run.window for run in entries[0].runs] != spans:
            faults.append("its account has other spans than the cluster")
        return faults


def _look_and_tick(world: World) -> None:
    world.cycle.refresh()
    world.cycle.tick()


def _overlap(one: Window, other: Window) -> bool:
    return one.start_at < other.end_at and other.start_at < one.end_at
