"""The Carbon Aware SDK's WebAPI before the suite of sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.grid.carbon_aware_sdk import CarbonAwareSdk
from adapters.http_client import HttpClient, Limits
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.carbon_aware_sdk import FakeCarbonAwareSdk


@contextmanager
def carbon_aware_sdk(_: Path) -> Iterator[Case]:
    with FakeCarbonAwareSdk(NOW) as api:
        http = HttpClient(api.url, limits=Limits(attempts=1))
        yield Case(
            source=CarbonAwareSdk(
                http,
                locations={"IE": "northeurope", "NL": "westeurope"},
                signal=SignalKind.MARGINAL,
                scope=Scope.DIRECT,
            ),
            zone_id="IE",
            scope=Scope.DIRECT,
            signal=SignalKind.MARGINAL,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            ahead=Window(NOW, NOW + 24 * HOUR),
            past=Window(NOW - 15 * 24 * HOUR, NOW),
            ends=Window(NOW, NOW + 24 * HOUR),
            settled_until=NOW,
            forecast_g=api.grams,
            actual_g=lambda at: api.grams(at) + 1,
            misspelt="IE ",
        )
        http.close()
