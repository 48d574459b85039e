"""Any order of submits, wishes, ticks, faults and deaths: nothing is lost, nothing runs twice, every account is whole."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.store.sqlite import SqliteStore
from scheduler.core.errors import ConflictError, InfeasibleError
from scheduler.core.job import ENDED_STATES, TRANSITIONS, Job, JobRecord, JobState, Placement
from scheduler.core.timegrid import Window
from scheduler.ports import JobStore
from scheduler.service.job_queue import Submission
from tests.fakes.clock import ManualClock
from tests.fakes.cluster import FakeCluster, FakeRun
from tests.fakes.mortal import Fate, KilledError, Mortal
from tests.unit.service.world import START, World, make_job, make_world

GPUS = 3
FAULTS = (None, "unavailable", "silent", "away", "full", "lost-before", "lost-after", "unstarted")
MOST_CALLS = 60
"""Calls after which a process dies at the latest; a tick of a few jobs makes some ten."""


class Service(RuleBasedStateMachine):
    """One service on one file and one cluster. It may die at any call, and is then started again."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="gridtide-"))
        self.clock = ManualClock(START)
        self.cluster = FakeCluster("c-de", self.clock, {"H100": GPUS})
        self.jobs: list[Job] = []
        self.fate = Fate()
        self.world: World | None = None
        self.store: JobStore | None = None

    # ------------------------------------------------------------------------- what happens

    @rule(
        hours=st.sampled_from([0.5, 1.0, 3.0]),
        patience=st.sampled_from([0.0, 0.5, 2.0, 20.0]),
        gpus=st.integers(1, GPUS),
        pauses=st.booleans(),
        codes=st.sampled_from([[], [1], [1, 0], [None]]),
    )
    def submit(
        self,
        hours: float,
        patience: float,
        gpus: int,
        pauses: bool,
        codes: list[int | None],
    ) -> None:
        name = f"j{len(self.jobs)}"
        job = make_job(
            self.clock,
            name,
            hours=hours,
            patience=patience,
            gpus=gpus,
            is_interruptible=pauses,
            max_retries=1,
        )
        self.cluster.run_hours[name], self.cluster.exit_codes[name] = hours, list(codes)
        asked = Submission(job=job, idempotency_key=name, request_digest=name)
        with suppress(InfeasibleError):
            self.insist(lambda world: world.queue.submit([asked]))
            self.jobs.append(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), wish=st.sampled_from(["hold", "release", "cancel", "run_now"]))
    def wish(self, data: st.DataObject, wish: str) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        with suppress(ConflictError, InfeasibleError):
            self.insist(lambda world: _do(world, wish, job))

    @rule(minutes=st.sampled_from([1, 15, 60, 240]))
    def time_passes(self, minutes: int) -> None:
        self.clock.move(minutes=minutes)
        self.insist(_look_and_tick)

    @rule()
    def tick(self) -> None:
        self.insist(_look_and_tick)

    @rule(calls=st.integers(0, MOST_CALLS))
    def doom(self, calls: int) -> None:
        """Its process dies at one of its next calls."""
        self.fate.dies_at = len(self.fate.passed) + calls

    @rule(fault=st.sampled_from(FAULTS), goes_on=st.booleans())
    def tick_in_trouble(self, fault: str | None, goes_on: bool) -> None:
        self.cluster.fault = fault
        self.insist(_look_and_tick)
        if not goes_on:
            self.cluster.fault = None

    # --------------------------------------------------------------------- what must be so

    @invariant()
    def no_job_runs_twice(self) -> None:
        for job in self.jobs:
            runs = self.runs_of(job)
            assert sum(run.ended_at is None for run in runs) <= 1
            assert [run.exit_code for run in runs].count(0) <= 1
            spans = [span for run in runs for span in run.spans]
            assert not any(
                _overlap(one, other) for i, one in enumerate(spans) for other in spans[:i]
            )

    @invariant()
    def nobody_runs_what_was_not_submitted(self) -> None:
        known = {job.job_id for job in self.jobs}
        assert {run.dispatch.job_id for run in self.cluster.runs.values()} <= known

    def teardown(self) -> None:
        try:
            self._come_to_an_end()
        finally:
            self._leave()
            shutil.rmtree(self.folder)

    def _come_to_an_end(self) -> None:
        """Everything works again, and nobody holds anything back."""
        self.cluster.fault = None
        for job in self.jobs:
            with suppress(ConflictError):
                self.insist(lambda world, job=job: world.queue.release(job.job_id))
        for _ in range(400):
            self.insist(_look_and_tick)
            store = self.store
            assert store is not None
            if not store.active_jobs():
                break
            self.clock.move(minutes=15)
        assert store.active_jobs() == []
        listed, _ = store.list_jobs(limit=1000)
        assert sorted(one.job.job_id for one in listed) == sorted(job.job_id for job in self.jobs)
        events = store.events(limit=100_000)
        assert [one.seq for one in events] == list(range(1, len(events) + 1))
        for record in listed:
            self._check_end(store, record)

    def _check_end(self, store: JobStore, record: JobRecord) -> None:
        assert record.state in ENDED_STATES
        runs = self.runs_of(record.job)
        codes = [run.exit_code for run in runs]
        assert (record.state is JobState.SUCCEEDED) == (0 in codes), (record.state, codes)
        events = store.events(job_id=record.job.job_id, limit=10_000)
        states = [JobState.QUEUED, *(one.state for one in events if one.state)]
        for before, after in pairwise(states):
            assert before is after or after in TRANSITIONS[before], (before, after)
        entries = [one for one in store.entries() if one.job_id == record.job.job_id]
        spans = [span for run in runs for span in run.spans]
        assert len(entries) <= 1
        accounted = [run.window for entry in entries for run in entry.runs]
        assert accounted == spans, record.state

    # ------------------------------------------------------------------------------ process

    def insist(self, act: Callable[[World], object]) -> None:
        """Does it; where the service dies, it is started again and asked once more, as clients do."""
        try:
            act(self._alive())
        except KilledError:
            self._leave()
            self.fate.dies_at = None
            act(self._alive())

    def _alive(self) -> World:
        if self.world is None:
            self.store = SqliteStore(self.folder / "jobs.db")
            mortal: dict[str, Any] = {"c-de": Mortal(self.cluster, "cluster", self.fate)}
            self.world = make_world(
                self.folder,
                gpus=GPUS,
                clusters=cast("dict[str, FakeCluster]", mortal),
                clock=self.clock,
                store=cast("JobStore", Mortal(self.store, "store", self.fate)),
            )
        return self.world

    def _leave(self) -> None:
        """The process is gone; so is what it had open."""
        if self.store is not None:
            self.store.close()
        self.store = self.world = None

    def runs_of(self, job: Job) -> list[FakeRun]:
        """Its runs, in the order in which they began."""
        return [run for run in self.cluster.runs.values() if run.dispatch.job_id == job.job_id]


def _do(world: World, wish: str, job: Job) -> object:
    if wish == "run_now":
        return world.queue.run_now(job.job_id, lambda record: _place_now(world, record))
    return getattr(world.queue, wish)(job.job_id)


def _place_now(world: World, record: JobRecord) -> Placement:
    found = world.planning.place_at(record, world.clock.now(), world.store.active_jobs())
    assert found is not None
    return found


def _look_and_tick(world: World) -> None:
    world.cycle.refresh()
    world.cycle.tick()


def _overlap(one: Window, other: Window) -> bool:
    return one.start_at < other.end_at and other.start_at < one.end_at


TestService = pytest.mark.timeout(600)(Service.TestCase)
TestService.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
