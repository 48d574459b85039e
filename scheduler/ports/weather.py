"""Sources of weather."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from scheduler.core.forecasting.weather import WeatherRun
from scheduler.ports.intensity import Quota


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
