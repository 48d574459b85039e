"""What the service needs from outside: stores, sources of intensity, clusters, a clock."""

from scheduler.ports.adoption import (
    NATIVE,
    AdoptingCluster,
    NativeJob,
    News,
    TellingCluster,
    is_native,
    native_name,
)
from scheduler.ports.archive import (
    FetchState,
    IntensityArchive,
    SeriesKey,
    SightingCount,
    Sightings,
)
from scheduler.ports.clock import Clock
from scheduler.ports.clusters import (
    Capability,
    Check,
    ClusterAdapter,
    Dispatch,
    ForeseeingCluster,
    RunState,
    RunStatus,
    Trial,
    TryingCluster,
)
from scheduler.ports.intensity import ForecastSource, HistorySource, Quota, SourceInfo
from scheduler.ports.job_archive import ArchivedJob, JobArchive
from scheduler.ports.store import Event, JobStore, Lease, NewJob
from scheduler.ports.weather import WeatherInfo, WeatherSource

__all__ = [
    "NATIVE",
    "AdoptingCluster",
    "ArchivedJob",
    "Capability",
    "Check",
    "Clock",
    "ClusterAdapter",
    "Dispatch",
    "Event",
    "FetchState",
    "ForecastSource",
    "ForeseeingCluster",
    "HistorySource",
    "IntensityArchive",
    "JobArchive",
    "JobStore",
    "Lease",
    "NativeJob",
    "NewJob",
    "News",
    "Quota",
    "RunState",
    "RunStatus",
    "SeriesKey",
    "SightingCount",
    "Sightings",
    "SourceInfo",
    "TellingCluster",
    "Trial",
    "TryingCluster",
    "WeatherInfo",
    "WeatherSource",
    "is_native",
    "native_name",
]
