"""Puts the parts together: settings in, running service out. The only place that knows all adapters."""

import random
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from adapters.clocks import FastClock, SystemClock
from adapters.cluster.kubernetes import KubernetesCluster
from adapters.cluster.local import PASS_ENV, LocalCluster
from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_adopting import AdoptingSlurmCluster
from adapters.cluster.slurm_native import Scope
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms
from adapters.forecast_tables import load_level_coefficients
from adapters.hardware_tables import load_hardware
from adapters.http_client import Stop
from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.data_moves import DataMoves
from scheduler.core.errors import GridtideError, InvalidConfigError
from scheduler.core.fleet import Cluster, Fleet
from scheduler.core.hardware import HardwareTable
from scheduler.ports import Check, Clock, ClusterAdapter, IntensityArchive, JobStore
from scheduler.server.chains import build_chain
from scheduler.server.checks import (
    archive_check,
    archive_file_checks,
    cluster_checks,
    cycle_check,
    source_checks,
    wait_checks,
)
from scheduler.server.cluster_settings import SlurmSettings
from scheduler.server.kubernetes_clusters import build_kubernetes
from scheduler.server.multikueue_checks import multikueue_checks
from scheduler.server.native_jobs import NativeBuilder
from scheduler.server.settings import ClusterSettings, Settings, load_settings
from scheduler.server.slurm_routes import build_access, build_other
from scheduler.server.sources import SourceBuilder, build_weather
from scheduler.server.stores import (
    build_retention,
    examine_store,
    open_archive,
    open_store,
    retention_checks,
)
from scheduler.server.timed_checks import CheckParts
from scheduler.service.accountant import Accountant
from scheduler.service.adopter import Adopter
from scheduler.service.built_in import BuiltIn
from scheduler.service.cycle import Cycle, Pace, Stages
from scheduler.service.dependencies import Dependencies
from scheduler.service.dispatcher import Dispatcher
from scheduler.service.experience import Experience
from scheduler.service.fetching import Source
from scheduler.service.forecaster import Forecaster
from scheduler.service.job_queue import JobQueue
from scheduler.service.leadership import Leadership, process_name
from scheduler.service.ledger_totals import LedgerWalks
from scheduler.service.lifecycle import Lifecycle
from scheduler.service.outlooks import Outlooks
from scheduler.service.planning import Planning, PlanningPolicy
from scheduler.service.queue_waits import QueueWaits
from scheduler.service.run_times import RunTimes
from scheduler.service.sparing_archive import SparingArchive
from scheduler.service.trials import Trials
from scheduler.service.watcher import Watcher

_MINUTE_S: Final = 60.0
_LEAVE_S: Final = 2.0
"""So long a stopped service waits for fetches to end; they end with the process."""
_ID_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # no look-alikes


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that runs, for the HTTP API, the CLI and tests."""

    settings: Settings
    clock: Clock
    hardware: HardwareTable
    fleet: Fleet
    store: JobStore
    archive: SparingArchive
    forecaster: Forecaster
    planning: Planning
    queue: JobQueue
    cycle: Cycle
    lifecycle: Lifecycle
    leadership: Leadership
    experience: Experience
    clusters: Mapping[str, ClusterAdapter]
    trials: Trials
    stop: Stop

    def own_parts(self) -> CheckParts:
        """Whether this process can take jobs and plan them, whatever clusters and sources do."""
        return {
            "store": lambda: [one for one in self.store.checks() if one.subject == "store"],
            "cycle": lambda: [cycle_check(self.cycle)],
        }

    def parts(self) -> CheckParts:
        """What `doctor` and `/readyz` report."""
        clusters = {
            f"cluster {name}": partial(cluster_checks, [one]) for name, one in self.clusters.items()
        }
        return {
            "store": self.store.checks,
            "scheduler": lambda: [self.leadership.check()],
            "cycle": lambda: [cycle_check(self.cycle)],
            "intensity archive": lambda: [archive_check(self.archive)],
            "retention": self.cycle.retention_checks,
            "intensity": lambda: source_checks(self.forecaster),
            **clusters,
            "queue waits": lambda: wait_checks(self.experience.queue_waits),
        }

    def checks(self) -> list[Check]:
        """What every part says, however long it takes."""
        return [check for ask in self.parts().values() for check in ask()]

    def close(self) -> None:
        """Stops the timers and the store. Jobs go on."""
        self.cycle.stop()
        # First, so that a request which is cut off now is not kept as a failure of its source.
        self.archive.close()
        self.stop.set()
        self.cycle.join(within_s=_LEAVE_S)
        _close(self.clusters.values())
        self.store.close()


def build_service(settings: Settings, *, schedules: bool = True) -> Service:
    """The service of these settings, not started yet.

    Args:
        settings: of this process.
        schedules: False for one that only answers, beside others that plan and start jobs.

    Raises:
        InvalidConfigError: settings that do not fit together.
        StoreError: the store cannot be used.
    """
    if not schedules and settings.store.url is None:
        raise InvalidConfigError(
            f"store: {settings.store.path} is a file, which one process uses by itself; a service that only answers "
            "needs the url of a Redis server that another process plans on",
            field="store.url",
            valid="redis://host:port/0",
        )
    clock = build_clock(settings)
    hardware = load_hardware()
    fleet = build_fleet(settings, hardware)
    archive = open_archive(settings.store.intensity_path)
    stop = Stop()
    builder = _source_builder(settings, fleet, clock, stop=stop)
    forecaster = build_forecaster(settings, fleet, clock, archive, builder=builder)
    clusters = {one.id: _build_cluster(one, fleet, clock, stop=stop) for one in settings.clusters}
    store = open_store(settings.store, makes=schedules)
    leadership = Leadership(
        store, holder=process_name(), for_s=settings.store.lease, stands=schedules
    )
    led = store.led(leadership.fence)  # what the cycle writes; users' requests are anybody's
    run_times = RunTimes(led)
    experience = Experience(
        run_times=run_times,
        queue_waits=QueueWaits(led, fleet),
        outlooks=Outlooks(clusters=clusters, fleet=fleet),
    )
    write = partial(
        Lifecycle, clock=clock, fleet=fleet, read_intensity=forecaster.read, run_times=run_times
    )
    lifecycle = write(store=led)
    dependencies = Dependencies(store=led, lifecycle=lifecycle)
    planning = Planning(
        fleet=fleet,
        forecaster=forecaster,
        lifecycle=lifecycle,
        clock=clock,
        policy=PlanningPolicy(
            slot_s=settings.planning.slot,
            horizon_s=settings.planning.horizon,
            moves=DataMoves(**settings.data_moves.model_dump()),
        ),
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
        store=led,
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
                build=NativeBuilder(fleet, hardware).build,
                planning=planning,
                dispatcher=dispatcher,
                lifecycle=lifecycle,
                store=led,
                clock=clock,
            ),
            planning=planning,
            dispatcher=dispatcher,
            accountant=Accountant(
                store=led, lifecycle=lifecycle, forecaster=forecaster, clock=clock
            ),
            retention=build_retention(settings.retention, led, clusters, clock),
            ledger_walks=LedgerWalks(led, clock),
        ),
        forecaster=forecaster,
        clock=clock,
        pace=_pace(settings),
        leadership=leadership,
    )
    for adapter in clusters.values():
        adapter.tell_ends(cycle.wake)
    queue = JobQueue(
        store=store,
        planning=planning,
        dependencies=dependencies,
        lifecycle=write(store=store),
        clock=clock,
        wake=cycle.wake,
    )
    return Service(
        settings=settings,
        clock=clock,
        hardware=hardware,
        fleet=fleet,
        store=store,
        archive=archive,
        forecaster=forecaster,
        planning=planning,
        queue=queue,
        cycle=cycle,
        lifecycle=lifecycle,
        leadership=leadership,
        experience=experience,
        clusters=clusters,
        trials=Trials(clusters=clusters, fleet=fleet),
        stop=stop,
    )


def _pace(settings: Settings) -> Pace:
    """Sources are looked at once a minute of the service's own time."""
    speed = settings.clock.speed if settings.clock else 1.0
    return Pace(
        tick_every_s=settings.planning.tick_every,
        horizon=timedelta(seconds=settings.planning.horizon),
        refresh_every_s=max(1.0, _MINUTE_S / speed),
    )


def build_clock(settings: Settings) -> Clock:
    """Real time, or the fast clock that the settings ask for."""
    fast = settings.clock
    if fast is None:
        return SystemClock()
    return FastClock(origin_at=fast.origin_at, anchor_wall_s=fast.anchor_wall_s, speed=fast.speed)


def build_fleet(settings: Settings, hardware: HardwareTable) -> Fleet:
    """The fleet of the settings, with canonical accelerator names."""
    return Fleet(tuple(_cluster(one, hardware) for one in settings.clusters))


def _cluster(one: ClusterSettings, hardware: HardwareTable) -> Cluster:
    by_hour = tuple(one.pue) if isinstance(one.pue, list) else ()
    return Cluster(
        cluster_id=one.id,
        region_id=one.region,
        zone_id=one.zone,
        pue=sum(by_hour) / len(by_hour) if isinstance(one.pue, list) else one.pue,
        pue_by_hour=by_hour,
        price_per_gpu_hour=one.price_per_gpu_hour,
        queue_wait_s=one.queue_wait,
        capacity=tuple(
            (hardware.get(name, field=f"clusters.{one.id}.capacity").name, count)
            for name, count in one.capacity.items()
        ),
    )


def build_forecaster(
    settings: Settings,
    fleet: Fleet,
    clock: Clock,
    archive: IntensityArchive,
    *,
    builder: SourceBuilder | None = None,
) -> Forecaster:
    """The chains of sources of every zone of the fleet, and the built-in forecast.

    The builder makes the sources where they are not to be made as usual.

    Raises:
        InvalidConfigError: no configured source serves a zone in the configured scope.
    """
    intensity = settings.intensity
    kind = (intensity.signal, intensity.scope)
    builder = builder or _source_builder(settings, fleet, clock)
    chains, skipped = dict[str, list[Source]](), dict[str, list[str]]()
    for zone_id in fleet.zone_ids:
        placed = settings.placed_sources(zone_id)
        built = [builder.build(one, place) for place, one in placed]
        chains[zone_id] = build_chain(zone_id, settings, built)
        left = [one.info.name for one in built if one not in chains[zone_id]]
        if left:
            skipped[zone_id] = left
    built_in = BuiltIn(
        archive=archive,
        clock=clock,
        level=load_level_coefficients(),
        kind=kind,
        weather=build_weather(
            intensity.weather,
            [zone for zone, chain in chains.items() if any(one.info.is_live for one in chain)],
            clock,
            stop=builder.stop,
        ),
        history=timedelta(seconds=intensity.history),
    )
    return Forecaster(
        chains=chains,
        scope=intensity.scope,
        clock=clock,
        max_age=timedelta(seconds=intensity.max_age),
        archive=archive,
        built_in=built_in if intensity.built_in else None,
        skipped=skipped,
        chance=random.Random(),  # noqa: S311 - jitter, not a secret
    )


def _source_builder(
    settings: Settings, fleet: Fleet, clock: Clock, *, stop: Stop | None = None
) -> SourceBuilder:
    kind = (settings.intensity.signal, settings.intensity.scope)
    return SourceBuilder(kind=kind, zone_ids=frozenset(fleet.zone_ids), clock=clock, stop=stop)


def new_job_id(name: str) -> str:
    """A new id that begins with the job's name, so that people recognise it."""
    letters = (_ID_ALPHABET[byte % len(_ID_ALPHABET)] for byte in secrets.token_bytes(8))
    return f"{name[:40].rstrip('-')}-{''.join(letters)}"


def doctor(config_path: Path | None = None) -> list[Check]:
    """Checks a configuration without starting the service: each source and cluster is asked once."""
    try:
        settings = load_settings(config_path)
        hardware = load_hardware()
        fleet = build_fleet(settings, hardware)
        clock = build_clock(settings)
        store = examine_store(settings.store)
        archive = archive_file_checks(settings.store.intensity_path)
        forecaster = build_forecaster(settings, fleet, clock, SqliteIntensityArchive(None))
        now = clock.now()
        forecaster.refresh(
            since=now - timedelta(hours=1), horizon=timedelta(seconds=settings.planning.horizon)
        )
        clusters = [_build_cluster(one, fleet, clock) for one in settings.clusters]
    except GridtideError as error:
        return [Check(subject="configuration", is_ok=False, detail=error.message)]
    try:
        return [
            Check(subject="configuration", is_ok=True, detail="valid"),
            *store,
            *archive,
            *retention_checks(settings.retention),
            *source_checks(forecaster),
            *cluster_checks(clusters),
            *multikueue_checks(settings),
        ]
    finally:
        _close(clusters)


def _build_cluster(
    one: ClusterSettings, fleet: Fleet, clock: Clock, *, stop: Stop | None = None
) -> ClusterAdapter:
    if one.kubernetes is not None:
        return build_kubernetes(
            one.id,
            one.kubernetes,
            capacity=dict(fleet.get(one.id).capacity),
            hardware=load_hardware(),
            clock=clock,
            stop=stop,
        )
    assert one.root is not None
    if one.slurm is not None:
        return _build_slurm(one, one.slurm, fleet, clock)
    return LocalCluster(
        one.id,
        root=one.root,
        devices=dict(fleet.get(one.id).capacity),
        clock=clock,
        pause_mode=one.pause,
        pass_env=PASS_ENV if one.pass_env is None else tuple(one.pass_env),
        checkpoints=one.checkpoints,
    )


def _close(clusters: Iterable[ClusterAdapter]) -> None:
    """Ends what clusters keep open; runs go on."""
    for cluster in clusters:
        if isinstance(cluster, KubernetesCluster):
            cluster.close()


def _build_slurm(
    one: ClusterSettings, slurm: SlurmSettings, fleet: Fleet, clock: Clock
) -> ClusterAdapter:
    assert one.root is not None
    hardware = load_hardware()
    field = f"clusters.{one.id}.slurm.devices"
    known = {
        hardware.get(name, field=field).name: SlurmDevice(**device.model_dump())
        for name, device in slurm.devices.items()
    }
    make: Callable[..., ClusterAdapter] = partial(SlurmCluster, access=build_access(one.id, slurm))
    if slurm.adopt:
        scope: Scope = "own" if slurm.adopt == "own" else "all"
        make = partial(AdoptingSlurmCluster, adopts=scope)
    return make(
        one.id,
        accelerators={
            name: known.get(name, SlurmDevice()) for name, _ in fleet.get(one.id).capacity
        },
        root=one.root,
        checkpoints=one.checkpoints,
        clock=clock,
        conf=slurm.conf,
        cluster_flag=slurm.cluster,
        terms=SlurmTerms(**slurm.terms()),
        prefix=slurm.prefix,
        can_freeze=one.pause == "freeze",
        reads_energy=slurm.energy,
        may_queue=slurm.queue,
        other_route=build_other(one.id, slurm),
    )
