"""A whole service on a manual clock, fake clusters and a store in a temporary folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from adapters.hardware_tables import load_hardware
from adapters.store.intensity_archive import SqliteIntensityArchive
from adapters.store.sqlite import SqliteStore
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.job import Job, JobId, JobRecord
from scheduler.core.terms import Interruptible, ResourceOption
from scheduler.core.timegrid import Window
from scheduler.ports import JobStore, SourceInfo
from scheduler.server.native_jobs import NativeBuilder
from scheduler.service.accountant import Accountant
from scheduler.service.adopter import Adopter
from scheduler.service.cycle import Cycle, Pace, Stages
from scheduler.service.dependencies import Dependencies
from scheduler.service.dispatcher import Dispatcher
from scheduler.service.experience import Experience
from scheduler.service.forecaster import Forecaster
from scheduler.service.job_queue import JobQueue, Submission
from scheduler.service.leadership import Leadership, process_name
from scheduler.service.ledger_totals import LedgerWalks
from scheduler.service.lifecycle import Lifecycle
from scheduler.service.outlooks import Outlooks
from scheduler.service.planning import Planning, PlanningPolicy
from scheduler.service.queue_waits import QueueWaits
from scheduler.service.run_times import RunTimes
from scheduler.service.watcher import Watcher
from tests.fakes.clock import ManualClock
from tests.fakes.cluster import FakeCluster

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY_G = {"DE": [400.0] * 12 + [100.0] * 6 + [400.0] * 6, "FR": [200.0] * 24}


class DailySource:
    """The same 24 hours every day; can be told to fail, and to be live."""

    def __init__(
        self, day_g: dict[str, list[float]], *, name: str = "daily", is_live: bool = False
    ) -> None:
        self.day_g = day_g
        self.fails = False
        self.fetches = 0
        self.info = SourceInfo(
            name=name,
            zone_ids=frozenset(day_g),
            signal=SignalKind.AVERAGE,
            scopes={zone: frozenset({Scope.LIFECYCLE}) for zone in day_g},
            horizon_s=7 * 86_400,
            step_s=3600,
            cadence_s=1800,
            attribution="made up",
            is_live=is_live,
            history_s=366 * 86_400,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        return self._series(zone_id, window, Quality.FORECAST)

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        return self._series(zone_id, window, Quality.MEASURED)

    def _series(self, zone_id: str, window: Window, quality: Quality) -> IntensitySeries:
        self.fetches += 1
        if self.fails or zone_id not in self.day_g:
            raise ForecastUnavailableError(f"{self.info.name} is down", source=self.info.name)
        first = int(window.start_at.timestamp()) // 3600
        stop = -(-int(window.end_at.timestamp()) // 3600)
        hours = np.arange(first, max(stop, first + 1))
        return IntensitySeries.from_g_per_kwh(
            zone_id,
            np.append(hours, hours[-1] + 1) * 3600,
            np.array([self.day_g[zone_id][int(hour) % 24] for hour in hours]),
            Provenance(
                source=self.info.name,
                signal=SignalKind.AVERAGE,
                scope=Scope.LIFECYCLE,
                quality=quality,
            ),
        )


@dataclass
class World:
    clock: ManualClock
    store: JobStore
    clusters: Mapping[str, FakeCluster]
    forecaster: Forecaster
    planning: Planning
    queue: JobQueue
    cycle: Cycle
    sources: list[DailySource]

    def submit(self, name: str = "job", *, hours: float = 4, **fields: object) -> JobRecord:
        for cluster in self.clusters.values():
            cluster.run_hours.setdefault(name, hours)
        return self.queue.submit(
            [Submission(job=make_job(self.clock, name, hours=hours, **fields))]
        )[0]

    def record(self, job: JobRecord) -> JobRecord:
        return self.store.get_job(job.job.job_id)

    def run_for(self, hours: float, *, step: float = 0.25) -> None:
        for _ in range(round(hours / step)):
            self.cycle.tick()
            self.clock.move(hours=step)
        self.cycle.tick()


Make = Callable[..., World]
"""`make_world` in the test's folder; its store is closed after the test."""


def make_job(
    clock: ManualClock,
    name: str = "job",
    *,
    hours: float = 4,
    patience: float = 20,
    gpus: int = 1,
    is_interruptible: bool = False,
    **fields: object,
) -> Job:
    how = {"interruptible": Interruptible(checkpoint_cost_s=600) if is_interruptible else None}
    now = clock.now()
    make_job.count = getattr(make_job, "count", 0) + 1  # type: ignore[attr-defined]
    return Job(
        job_id=JobId(f"{name}-{make_job.count}"),  # type: ignore[attr-defined]
        name=name,
        command=("true",),
        submitted_at=now,
        earliest_start_at=now,
        deadline_at=now + timedelta(hours=hours + patience),
        options=(
            ResourceOption(
                accelerator="H100",
                gpus=gpus,
                duration_s=round(hours * 3600),
                power_w=1000.0 * gpus,
                is_power_estimated=False,
            ),
        ),
        **(how | fields),  # type: ignore[arg-type]
    )


def make_world(
    path: Path,
    *,
    sources: list[DailySource] | None = None,
    gpus: int = 2,
    zones: tuple[str, ...] = ("DE",),
    clusters: Mapping[str, FakeCluster] | None = None,
    clock: ManualClock | None = None,
    store: JobStore | None = None,
) -> World:
    clock = clock or ManualClock(START)
    fleet = Fleet(
        tuple(
            Cluster(
                cluster_id=f"c-{zone.lower()}",
                region_id=f"r-{zone.lower()}",
                zone_id=zone,
                pue=1.0,
                capacity=(("H100", gpus),),
            )
            for zone in zones
        )
    )
    clusters = clusters or {
        one.cluster_id: FakeCluster(one.cluster_id, clock, {"H100": gpus}) for one in fleet
    }
    sources = [DailySource(DAY_G)] if sources is None else sources
    forecaster = Forecaster(
        chains=dict.fromkeys(zones, sources),
        scope=Scope.LIFECYCLE,
        clock=clock,
        max_age=timedelta(hours=6),
        archive=SqliteIntensityArchive(None),
    )
    store = store or SqliteStore(path / "gridtide.db")
    leadership = Leadership(store, holder=process_name(), for_s=15.0)
    run_times = RunTimes(store)
    experience = Experience(
        run_times=run_times,
        queue_waits=QueueWaits(store, fleet),
        outlooks=Outlooks(clusters=clusters, fleet=fleet),
    )
    lifecycle = Lifecycle(
        store=store, clock=clock, fleet=fleet, read_intensity=forecaster.read, run_times=run_times
    )
    dependencies = Dependencies(store=store, lifecycle=lifecycle)
    planning = Planning(
        fleet=fleet,
        forecaster=forecaster,
        lifecycle=lifecycle,
        clock=clock,
        policy=PlanningPolicy(slot_s=900, horizon_s=4 * 86_400),
        experience=experience,
    )
    dispatcher = Dispatcher(
        clusters=clusters,
        dependencies=dependencies,
        lifecycle=lifecycle,
        leadership=leadership,
        clock=clock,
    )
    cycle = Cycle(
        store=store,
        stages=Stages(
            watcher=Watcher(
                clusters=clusters,
                dispatcher=dispatcher,
                lifecycle=lifecycle,
                queue_waits=experience.queue_waits,
                clock=clock,
            ),
            dependencies=dependencies,
            adopter=Adopter(
                clusters=clusters,
                build=NativeBuilder(fleet, load_hardware()).build,
                planning=planning,
                dispatcher=dispatcher,
                lifecycle=lifecycle,
                store=store,
                clock=clock,
            ),
            planning=planning,
            dispatcher=dispatcher,
            accountant=Accountant(
                store=store, lifecycle=lifecycle, forecaster=forecaster, clock=clock
            ),
            ledger_walks=LedgerWalks(store, clock),
        ),
        forecaster=forecaster,
        clock=clock,
        pace=Pace(tick_every_s=1, horizon=timedelta(days=4)),
        leadership=leadership,
    )
    queue = JobQueue(
        store=store,
        planning=planning,
        dependencies=dependencies,
        lifecycle=lifecycle,
        clock=clock,
        wake=cycle.wake,
    )
    return World(clock, store, clusters, forecaster, planning, queue, cycle, sources)
