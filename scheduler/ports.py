"""What the service needs from outside: stores, sources of intensity, clusters, a clock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecast import IntensitySeries, Quality, Scope, SignalKind
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.forecasting.weather import WeatherRun
from scheduler.core.job import JobId, JobRecord, JobState
from scheduler.core.ledger import LedgerEntry
from scheduler.core.timegrid import Window


class Clock(Protocol):
    """Time of the service: real, or running fast for the demo and simulations."""

    def now(self) -> datetime:
        """The present instant, aware UTC. Stands still rather than go backwards, within reason."""
        ...

    def at_wall(self, wall_s: float) -> datetime:
        """The service's time at a wall-clock instant in Unix seconds, such as a file's mtime."""
        ...


# ------------------------------------------------------------------------------------- store


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `seq` is given by the store: unique, rising, 0 before it is stored.

    Args:
        kind: past tense in snake_case (`submitted`, `planned`, `dispatched`, `refused`, ...).
        job_id: None for events that are about no stored job, such as a refusal.
        state: the job's state after the event.
        detail: a sentence for people.
    """

    at: datetime
    kind: str
    job_id: JobId | None
    state: JobState | None = None
    detail: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be added, with what makes a repeated request harmless.

    Args:
        idempotency_key: the client's key, unique among jobs; None for none.
        request_digest: digest of the request body, to tell a repeat from a misuse of the key.
    """

    record: JobRecord
    event: Event
    idempotency_key: str | None = None
    request_digest: str | None = None


class JobStore(Protocol):
    """Remembers jobs, events, ledger entries and small documents.

    Every method is safe to call from any thread. A method that writes returns only when what it
    wrote survives the loss of power (or whatever the store declares in `durability`).
    """

    @property
    def durability(self) -> str:
        """What an acknowledged write survives: `process`, `machine`."""
        ...

    def add_jobs(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Adds all of them, or none, each with its event; returns the stored records, in order.

        Where a job's idempotency key is known with the same digest, the job stored then is returned
        and nothing is added for it.

        Raises:
            DuplicateJobError: a job id is taken, or a key is known with another digest.
            StoreError: nothing was written.
        """
        ...

    def get_job(self, job_id: str) -> JobRecord:
        """The job. Raises NotFoundError."""
        ...

    def list_jobs(
        self,
        *,
        states: frozenset[JobState] | None = None,
        project: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[JobRecord], str | None]:
        """A page of jobs, newest submission first, and the cursor of the next page or None.

        Raises:
            InvalidInputError: the cursor is not one of ours.
        """
        ...

    def succeeded_jobs(self, *, name: str, project: str, limit: int = 100) -> list[JobRecord]:
        """The jobs of that name and project that succeeded, newest submission first.

        The work is bounded by the limit, however many jobs are stored.
        """
        ...

    def active_jobs(self) -> list[JobRecord]:
        """Every job that has not ended, oldest submission first."""
        ...

    def update_job(
        self, record: JobRecord, *events: Event, entry: LedgerEntry | None = None
    ) -> None:
        """Replaces the job by `record`, appends the events and puts the entry, in one transaction.

        The entry comes with the change to an ended state, so that no crash can part the two.

        Raises:
            StaleRecordError: the stored version is not `record.version - 1`; nothing was written.
            NotFoundError: no such job.
        """
        ...

    def add_event(self, event: Event) -> None:
        """Appends an event that changes no job."""
        ...

    def events(
        self,
        *,
        job_id: str | None = None,
        kind: str | None = None,
        after_seq: int = 0,
        limit: int = 1000,
    ) -> list[Event]:
        """Events in order of `seq`, of one job or of all."""
        ...

    def put_entry(self, entry: LedgerEntry) -> None:
        """Writes a job's ledger entry; a provisional one is replaced, a settled one never.

        Raises:
            ConflictError: the stored entry is settled and differs.
        """
        ...

    def entries(
        self,
        *,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        unsettled_only: bool = False,
    ) -> list[LedgerEntry]:
        """Ledger entries of jobs submitted in `[from_at, to_at)`, oldest submission first."""
        ...

    def put_document(self, key: str, text: str) -> None:
        """Keeps a small text (a cached forecast, a clock's anchor) under a key."""
        ...

    def get_document(self, key: str) -> str | None:
        """The text under that key, or None."""
        ...

    def close(self) -> None:
        """Finishes pending writes and releases the store. Further calls raise StoreError."""
        ...


# ---------------------------------------------------------------------------------- intensity


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """At most so many requests in so many seconds, of one key or address."""

    requests: int
    per_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What a source of intensity declares about itself.

    Args:
        zone_ids: zones it serves.
        scopes: which scopes it can give, per its own definition.
        horizon_s: how far its forecasts reach.
        cadence_s: how often it publishes; asking more often brings nothing.
        history_s: how far back its actual values reach, 0 where it has none.
        quota: what the provider allows, as documented or measured; None where nothing is known.
        attribution: the sentence that its licence asks for.
    """

    name: str
    zone_ids: frozenset[str]
    signal: SignalKind
    scopes: Mapping[str, frozenset[Scope]]
    horizon_s: int
    step_s: int
    cadence_s: int
    attribution: str
    is_live: bool
    history_s: int
    quota: Quota | None = None


@runtime_checkable
class ForecastSource(Protocol):
    """Intensity of the next hours or days, of one zone at a time."""

    @property
    def info(self) -> SourceInfo:
        """What the source declares; constant."""
        ...

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Intensity that covers as much of the window as the source has, from its start on.

        Raises:
            ForecastUnavailableError: no usable answer; trying later may help where `retryable`.
            ForecastRejectedError: an answer that cannot be true.
        """
        ...


@runtime_checkable
class HistorySource(Protocol):
    """Settled intensity of the past."""

    @property
    def info(self) -> SourceInfo:
        """What the source declares; constant."""
        ...

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """Measured (or the source's nearest) intensity over as much of the window as there is.

        Raises:
            ForecastUnavailableError: no usable answer.
            ForecastRejectedError: an answer that cannot be true.
        """
        ...


# ------------------------------------------------------------------------------------ weather


@dataclass(frozen=True, slots=True, kw_only=True)
class WeatherInfo:
    """What a source of weather declares about itself.

    Args:
        zone_ids: zones whose weather it knows.
        cadence_s: how often it publishes; asking more often brings nothing.
        quota: what the provider allows, as documented; None where nothing is known.
        attribution: the sentence that its licence asks for.
    """

    name: str
    zone_ids: frozenset[str]
    cadence_s: int
    attribution: str
    quota: Quota | None = None


@runtime_checkable
class WeatherSource(Protocol):
    """Weather of a zone: what is forecast now, and what would have been known before."""

    @property
    def info(self) -> WeatherInfo:
        """What the source declares; constant."""
        ...

    def fetch_runs(self, zone_id: str, since: datetime) -> tuple[WeatherRun, ...]:
        """Runs issued on the UTC day of `since` or later, as far as there are, oldest first.

        The last one is the newest, whatever `since` is.

        Raises:
            ForecastUnavailableError: no usable answer; trying later may help where `retryable`.
            ForecastRejectedError: an answer that cannot be true.
        """
        ...


# ------------------------------------------------------------------------------------ archive


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Which series: never mixed with another in one comparison."""

    source: str
    zone_id: str
    signal: SignalKind
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchState:
    """How the fetches of one series go. Times in epoch seconds, None for never.

    Args:
        failures: in a row.
        next_s: not before then is it tried again.
        reached_s: how far back the history was asked for.
    """

    tried_s: int | None = None
    fetched_s: int | None = None
    failures: int = 0
    next_s: int = 0
    reached_s: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Sightings:
    """Actual values of one series, each as it was seen at a time; arrays of int64, shape (n,).

    Args:
        start_s: when each interval begins, epoch seconds.
        stop_s: when it ends.
        mg_per_kwh: 0 or more.
        seen_s: when the source said so.
    """

    start_s: NDArray[np.int64]
    stop_s: NDArray[np.int64]
    mg_per_kwh: NDArray[np.int64]
    seen_s: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SightingCount:
    """What became of sightings.

    Args:
        new: of intervals of which nothing was known.
        revised: that differ from what was seen before them.
        repeated: that say what was known by then.
    """

    new: int = 0
    revised: int = 0
    repeated: int = 0

    def __add__(self, other: "SightingCount") -> "SightingCount":
        return SightingCount(
            self.new + other.new, self.revised + other.revised, self.repeated + other.repeated
        )


class IntensityArchive(Protocol):
    """Remembers what sources said and when: actual values with their revisions, forecasts, weather.

    Shared by all processes of a service. Every method is safe to call from any thread, and raises
    StoreError where the archive cannot be used.
    """

    def claim(self, key: SeriesKey, *, now_s: int, until_s: int) -> FetchState | None:
        """The state, for the one caller that is to fetch now; None for all others, until `until_s`.

        Also None before the state's `next_s`. Where it is certain that the caller's process has ended, so has
        the claim.
        """
        ...

    def renew(self, key: SeriesKey, *, until_s: int) -> None:
        """Makes a claim of this process last until then; without one, nothing happens."""
        ...

    def claimed_until_s(self, key: SeriesKey, *, now_s: int) -> int | None:
        """Until when a claim of another process lasts; None where there is none."""
        ...

    def state(self, key: SeriesKey) -> FetchState:
        """How its fetches went; also the end of a claim."""
        ...

    def put_state(self, key: SeriesKey, state: FetchState) -> None:
        """Keeps the state, and ends the claim."""
        ...

    def add_actuals(self, key: SeriesKey, series: IntensitySeries, *, seen_s: int) -> int:
        """Keeps the values that are new or differ from those seen last; returns how many."""
        ...

    def add_sightings(self, key: SeriesKey, seen: Sightings, *, quality: Quality) -> SightingCount:
        """Keeps values of the past as they were seen one after another; twice is once."""
        ...

    def actuals(
        self, key: SeriesKey, *, since_s: int, until_s: int, seen_by_s: int | None = None
    ) -> IntensitySeries | None:
        """Values of intervals that touch `[since_s, until_s)`, each as last seen (by that time)."""
        ...

    def add_vintage(self, key: SeriesKey, vintage: Vintage) -> None:
        """Keeps a forecast as it was known at its time; the same time again replaces it."""
        ...

    def vintages(self, key: SeriesKey, *, since_s: int) -> list[Vintage]:
        """Forecasts issued since then, oldest first."""
        ...

    def add_runs(self, zone_id: str, runs: Sequence[WeatherRun]) -> None:
        """Keeps weather; a run issued at the same time is replaced."""
        ...

    def runs(self, zone_id: str, *, since_s: int) -> list[WeatherRun]:
        """Weather issued since then, oldest first."""
        ...

    def known_series(self) -> list[SeriesKey]:
        """Every series that has actual values."""
        ...

    def forget(self, *, vintages_before_s: int, actuals_before_s: int) -> None:
        """Drops what is older."""
        ...

    def close(self) -> None:
        """Releases the archive."""
        ...


# ----------------------------------------------------------------------------------- clusters


class Capability(StrEnum):
    """What a cluster can do beyond running a job to its end."""

    CHECKPOINT = "checkpoint"  # SIGTERM, grace, SIGKILL; exit 75 means "run me again"
    FREEZE = "freeze"  # stop and continue in place
    ENERGY_READING = "energy_reading"  # measures energy per job


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """What a cluster gets: one run of one job.

    Args:
        name: unique for the run, for ever (`<job_id>.<attempt>.<segment>`): the key to look up by.
        gpus: devices in total.
        checkpoint_key: names the checkpoint directory; the same for all runs of the job.
        env: complete: what the user gave and the GRIDTIDE_* that interfaces.md promises, except
            GRIDTIDE_CHECKPOINT_DIR, which the cluster adds.
    """

    name: str
    job_id: JobId
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    workdir: str | None
    accelerator: str
    gpus: int
    num_nodes: int
    checkpoint_key: str


class RunState(StrEnum):
    """Where a run stands on its cluster."""

    PENDING = "pending"
    RUNNING = "running"
    FROZEN = "frozen"
    ENDED = "ended"
    LOST = "lost"  # the cluster has no trace of it, or lost it; it does not run any more


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A cluster's word on one run.

    Args:
        spans: finished stretches of drawing power; for a running one, `since` begins the open one.
        exit_code: of an ended run; negative for death by that signal; None where unknown.
        energy_kwh: measured device energy so far, without PUE; None where not measured.
    """

    name: str
    ref: str
    state: RunState
    spans: tuple[Window, ...] = ()
    since: datetime | None = None
    exit_code: int | None = None
    energy_kwh: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of `gridtide doctor`."""

    subject: str
    is_ok: bool
    detail: str


class ClusterAdapter(Protocol):
    """One cluster. Runs are named by `Dispatch.name`; every call is safe to repeat."""

    @property
    def cluster_id(self) -> str:
        """Name in the configuration."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do; constant."""
        ...

    def submit(self, dispatch: Dispatch) -> str:
        """Starts the run and returns the cluster's own reference.

        Called again with the same name it starts nothing and returns the same reference.

        Raises:
            ClusterFullError: no room now; nothing was started.
            ClusterUnavailableError: no answer; nothing was started.
            DispatchRejectedError: refused for good; nothing was started.
            DispatchUncertainError: may or may not have started: look it up with `poll`.
        """
        ...

    def poll(self, names: Sequence[str]) -> Mapping[str, RunStatus]:
        """Status of the runs of these names that the cluster knows, in one batch.

        A name that is absent from the answer was never started there.

        Raises:
            ClusterUnavailableError: nothing can be said about any of them.
        """
        ...

    def pause(self, name: str, *, grace_s: float) -> None:
        """Asks the run to checkpoint and leave (or freezes it); `poll` shows when it has.

        `grace_s` counts on the wall clock. Pausing what does not run is no error.
        """
        ...

    def resume(self, name: str) -> None:
        """Continues a frozen run in place.

        Raises:
            ClusterFullError: its devices are in use.
        """
        ...

    def cancel(self, name: str, *, grace_s: float) -> None:
        """Ends the run: SIGTERM, grace, SIGKILL. Cancelling what does not run is no error."""
        ...

    def free_devices(self) -> Mapping[str, int]:
        """Devices of each accelerator that are free right now."""
        ...

    def tell_ends(self, tell: Callable[[], None]) -> None:
        """Calls `tell` soon after a run has ended, from any thread, as far as the cluster can.

        A convenience: `poll` shows the same, later.
        """
        ...

    def checks(self) -> list[Check]:
        """What `doctor` reports about this cluster."""
        ...
