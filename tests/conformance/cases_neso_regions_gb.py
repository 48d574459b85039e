"""NESO's regions in the suite of intensity sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.grid.neso_regions_gb import NesoRegionsGB
from adapters.http_client import HttpClient, Limits
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.neso_regions_gb import FakeNesoRegionsGB


@contextmanager
def neso_regions_gb(_: Path) -> Iterator[Case]:
    with FakeNesoRegionsGB(NOW) as api:
        http = HttpClient(api.url, limits=Limits(attempts=1))
        yield Case(
            source=NesoRegionsGB(http),
            zone_id="GB-London",
            scope=Scope.DIRECT,
            signal=SignalKind.AVERAGE,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            ahead=Window(NOW, NOW + 47 * HOUR),
            # Actual values are published for the nation only.
            past=None,
            ends=Window(NOW, NOW + 48 * HOUR),
            settled_until=None,
            forecast_g=lambda at: api.region_g(13, at),
            actual_g=lambda at: api.region_g(13, at),
            misspelt="GB-Londen",
        )
        http.close()
