"""Energy-Charts in the suite of intensity sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from adapters.grid.energy_charts import EnergyCharts
from adapters.http_client import HttpClient, Limits
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.energy_charts import FakeEnergyCharts


@contextmanager
def energy_charts(_: Path) -> Iterator[Case]:
    with FakeEnergyCharts(NOW) as api:
        http = HttpClient(api.url, limits=Limits(attempts=1))
        yield Case(
            source=EnergyCharts(http),
            zone_id="DE",
            scope=Scope.LIFECYCLE,
            signal=SignalKind.AVERAGE,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            # 15:00 in Germany: tomorrow is known, to 23:00 UTC.
            ahead=Window(NOW, NOW + 33 * HOUR),
            past=Window(NOW - timedelta(days=100), NOW - HOUR),
            ends=Window(NOW, NOW + 33 * HOUR),
            settled_until=NOW - HOUR,
            forecast_g=api.forecast_g,
            actual_g=api.reported_g,
            misspelt="DEE",
        )
        http.close()
