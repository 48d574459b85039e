"""The cycle: one tick is one pass over all stages; timers and events start ticks."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import structlog
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from scheduler.core.errors import StoreError
from scheduler.core.job import ACTIVE_STATES, ENDED_STATES, JobRecord
from scheduler.core.ledger import LedgerEntry
from scheduler.ports import Check, Clock, JobStore
from scheduler.service.accountant import Accountant
from scheduler.service.adopter import Adopter
from scheduler.service.daemon_threads import DaemonThreads
from scheduler.service.dependencies import Dependencies
from scheduler.service.dispatcher import Dispatcher
from scheduler.service.forecaster import Forecaster
from scheduler.service.leadership import Leadership
from scheduler.service.ledger_totals import LedgerWalks
from scheduler.service.planning import Planning
from scheduler.service.retention import Retention
from scheduler.service.watcher import Watcher

_log = structlog.get_logger(__name__)
_JITTER: Final = 0.1
"""Share of the time between two looks at a source, so that replicas do not all ask at once."""
T = TypeVar("T")


@dataclass(slots=True)
class TickReport:
    """Counts of one tick and of failures so far, for metrics and tests.

    Args:
        trouble: what the last pass could not read from the store, or write to it; None where it could do all.
    """

    ticks: int = 0
    failures: int = 0
    active: int = 0
    last_error: str | None = None
    trouble: str | None = None
    last_ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds between two ticks, and between two looks for sources that are due; how far plans look ahead."""

    tick_every_s: float
    horizon: timedelta
    refresh_every_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of a tick, in order; walks over the ledger are beside it."""

    watcher: Watcher
    dependencies: Dependencies
    adopter: Adopter
    planning: Planning
    dispatcher: Dispatcher
    accountant: Accountant
    retention: Retention | None = None
    ledger_walks: LedgerWalks | None = None


class Cycle:
    """Runs ticks. Every stage takes records and returns records; what fails is tried again."""

    def __init__(
        self,
        *,
        store: JobStore,
        stages: Stages,
        forecaster: Forecaster,
        clock: Clock,
        pace: Pace,
        leadership: Leadership,
    ) -> None:
        self._store = store
        self._leadership = leadership
        self._stages = stages
        self._forecaster = forecaster
        self._clock = clock
        self._pace = pace
        self._changes = 0
        self._freed = 0
        self._last_tick_s = 0.0
        self._met = list[str]()
        self._is_woken = False
        self._running = threading.Lock()
        self._is_stopped = False
        self._threads = DaemonThreads()
        self._scheduler: BackgroundScheduler | None = None
        self.report: Final = TickReport()

    @property
    def is_leading(self) -> bool:
        """Whether this process plans and dispatches now."""
        return self._leadership.is_leading()

    @property
    def trouble(self) -> str | None:
        """Why this process could not use the store when it last had to; None where it could."""
        lease = self._leadership.trouble
        return self.report.trouble if lease is None else f"lease: {lease}"

    def tick(self) -> TickReport:
        """One pass: watch, give up what waits in vain, adopt, plan, dispatch, tell, settle accounts.

        Where another process has the lease it is a look at the store alone, for what is admitted here.
        """
        with self._running:
            if self._is_stopped:
                return self.report
            began_s = time.monotonic()
            self._is_woken = False
            self._met.clear()
            is_leading = self._leadership.keep()
            # 1. What is there to do?
            found = self._in_pass("read", self._store.active_jobs, None)
            if found is None:
                self.report.trouble = self._trouble("read: active jobs are unreadable")
                return self.report  # an empty answer would look as if the fleet were free
            if is_leading:
                records = self._pass(found)
            else:
                records = found
                self._in_pass("follow", lambda: self._stages.planning.follow(found), None)
            self.report.trouble = self._trouble()
            self.report.ticks += 1
            self.report.active = len(records)
            self.report.last_ended_at = self._clock.now()
            self._last_tick_s = time.monotonic() - began_s
            return self.report

    def _pass(self, records: list[JobRecord]) -> list[JobRecord]:
        if self._leadership.changes != self._changes:
            self._changes = self._leadership.changes
            self._stage("read", self._stages.planning.take_over, None)
        # 2. What became of the runs?
        records = self._stage("watch", lambda: self._stages.watcher.run(records), records)
        # 3. Which wait in vain for another?
        records = self._stage(
            "dependencies", lambda: self._stages.dependencies.run(records), records
        )
        ended = [record for record in records if record.state in ENDED_STATES]
        self._freed += len(ended)
        records = [record for record in records if record.state in ACTIVE_STATES]
        # 4. Which jobs in the clusters' own queues ask to be planned, and what did their users do?
        records = self._stage("adopt", lambda: self._stages.adopter.run(records), records)
        records = [record for record in records if record.state in ACTIVE_STATES]
        # 5. Where and when should the waiting ones run?
        records = self._stage(
            "plan", lambda: self._stages.planning.run(records, freed=self._freed), records
        )
        # 6. Which are due?
        records = self._stage("dispatch", lambda: self._stages.dispatcher.run(records), records)
        self._stages.planning.observe(record for record in records if record.state in ACTIVE_STATES)
        # 7. What are users told who wait on their clusters?
        told = records
        self._stage("tell", lambda: self._stages.adopter.tell(told), None)
        # 8. Which accounts can be settled?
        self._stage("account", self._stages.accountant.run, list[LedgerEntry]())
        # 9. Which ended so long ago that the store need not hold them?
        if (retention := self._stages.retention) is not None:
            waiting = records
            self._stage("retain", lambda: retention.run(waiting), 0)
        return records

    def retention_checks(self) -> list[Check]:
        """What `doctor` says of the archive of ended jobs, where there is one."""
        retention = self._stages.retention
        return [] if retention is None else [retention.check()]

    def refresh(self, name: str | None = None) -> None:
        """Fetches live intensity where due, beside the ticks so that a slow source delays nothing.

        Args:
            name: of the source; None for all.
        """
        since = self._guard(
            "refresh", self._stages.accountant.needs_actuals_since, self._clock.now()
        )
        is_new = self._guard(
            "refresh",
            lambda: self._forecaster.refresh(since=since, horizon=self._pace.horizon, name=name),
            False,
        )
        if is_new:
            self.wake()

    def remake(self) -> None:
        """Takes in what other processes fetched, makes own forecasts anew, and tidies the archive."""
        self._guard("tidy", self._forecaster.tidy, None)
        if self._guard("remake", lambda: self._forecaster.remake(self._pace.horizon), False):
            self.wake()

    def refresh_weather(self) -> None:
        """Fetches weather where due; the next `remake` uses it."""
        self._guard("weather", self._forecaster.refresh_weather, False)

    def walk_ledger(self) -> None:
        """Makes the totals over the ledger anew where that is due and this process leads."""
        walks = self._stages.ledger_walks
        if walks is not None and self._leadership.is_leading():
            self._guard("totals", walks.run, False)

    def start(self) -> None:
        """Starts the timers."""
        beside: list[tuple[Callable[..., None], str, list[str]]] = [
            (self.remake, "remake", []),
            (self.refresh_weather, "weather", []),
            (self.walk_ledger, "totals", []),
        ]
        beside += [
            # Each source on a timer of its own: one that is slow keeps no other waiting.
            (self.refresh, f"refresh {name}", [name])
            for name in self._forecaster.live_names
        ]
        scheduler = BackgroundScheduler(
            timezone=UTC,
            # A thread for each, so that the tick never waits for one.
            executors={"default": self._threads},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        now = datetime.now(UTC)  # noqa: TID251 - APScheduler's timers run on the wall clock
        scheduler.add_job(
            self.tick,
            IntervalTrigger(seconds=self._pace.tick_every_s),
            id="tick",
            next_run_time=now,
        )
        for work, label, arguments in beside:
            scheduler.add_job(
                work,
                IntervalTrigger(
                    seconds=self._pace.refresh_every_s, jitter=_JITTER * self._pace.refresh_every_s
                ),
                args=arguments,
                id=label,
                next_run_time=now,
            )
        scheduler.add_job(
            self._keep_lead,
            IntervalTrigger(seconds=self._leadership.look_every_s),
            id="lease",
            next_run_time=now,
        )
        scheduler.start()
        self._scheduler = scheduler

    def wake(self) -> None:
        """Asks for a tick at once: after a submit, a new forecast, a finished job."""
        if not self._leadership.is_leading():
            self._leadership.ask_for_tick()
        scheduler = self._scheduler
        if scheduler is not None and scheduler.running and not self._is_woken:
            self._is_woken = True
            now = datetime.now(UTC)  # noqa: TID251 - APScheduler's timers run on the wall clock
            # A stream of wakes must not keep it ticking all the time: as long a rest as the last tick took.
            rest = timedelta(seconds=min(self._last_tick_s, self._pace.tick_every_s))
            with suppress(JobLookupError):  # it was stopped meanwhile
                scheduler.modify_job("tick", next_run_time=now + rest)

    def stop(self) -> None:
        """Stops the timers and lets the running tick end; fetches may go on for a while. Jobs go on."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.shutdown(wait=False)
        with self._running:
            self._is_stopped = True
        self._leadership.resign()

    def _keep_lead(self) -> None:
        """Beside the ticks, so that a long one does not cost the lease."""
        was_leading = self._leadership.is_leading()
        is_leading = self._leadership.keep()
        is_asked = self._guard("lease", self._leadership.pass_on, False)
        if is_asked or (is_leading and not was_leading):
            self.wake()

    def join(self, *, within_s: float) -> bool:
        """After `stop`: waits for fetches under way. True where none is left."""
        return self._threads.join(within_s=within_s)

    def _stage(self, stage: str, work: Callable[[], T], otherwise: T) -> T:
        """The work, unless this process may not do it any more."""
        return self._in_pass(stage, work, otherwise) if self._leadership.is_leading() else otherwise

    def _in_pass(self, stage: str, work: Callable[[], T], otherwise: T) -> T:
        """The work of a pass, which remembers where the store failed it."""

        def watched() -> T:
            try:
                return work()
            except StoreError as error:
                self._met.append(f"{stage}: {error.message}")
                raise

        return self._guard(stage, watched, otherwise)

    def _trouble(self, otherwise: str | None = None) -> str | None:
        """What kept this pass from the store, by the first stage that it failed."""
        return self._met[0] if self._met else otherwise

    def _guard(self, stage: str, work: Callable[[], T], otherwise: T) -> T:
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - the per-stage guard: one stage must not stop the rest
            if self._is_stopped:
                return otherwise  # what it works with is being closed
            self.report.failures += 1
            self.report.last_error = f"{stage}: {error}"
            _log.exception("stage_failed", stage=stage)
            return otherwise
