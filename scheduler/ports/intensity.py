"""Sources of carbon intensity."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from scheduler.core.forecast import IntensitySeries, Scope, SignalKind
from scheduler.core.timegrid import Window


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
