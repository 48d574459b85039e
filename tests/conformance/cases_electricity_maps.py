"""Electricity Maps before the suite of sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.grid.electricity_maps import ElectricityMaps
from adapters.http_client import HttpClient, Limits
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.clock import ManualClock
from tests.fakes.electricity_maps import FakeElectricityMaps


@contextmanager
def electricity_maps(_: Path) -> Iterator[Case]:
    with FakeElectricityMaps(NOW) as api:
        http = HttpClient(api.url, headers={"auth-token": api.token}, limits=Limits(attempts=1))
        yield Case(
            source=ElectricityMaps(http, clock=ManualClock(NOW), zones=frozenset({"DE", "DK-DK1"})),
            zone_id="DK-DK1",
            scope=Scope.DIRECT,
            signal=SignalKind.AVERAGE,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            ahead=Window(NOW, NOW + 72 * HOUR),
            past=Window(NOW - 25 * 24 * HOUR, NOW),
            # 72 h are 73 values: the hour that begins at their end is one of them.
            ends=Window(NOW, NOW + 73 * HOUR),
            # The hour that runs has an estimate already.
            settled_until=NOW + HOUR,
            forecast_g=api.direct_g,
            actual_g=lambda at: api.direct_g(at) + 5,
            misspelt="DK-DK01",
        )
        http.close()
