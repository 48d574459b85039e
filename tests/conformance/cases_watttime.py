"""WattTime before the suite of sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.grid.watttime import WattTime
from adapters.http_client import HttpClient, Limits
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.clock import ManualClock
from tests.fakes.watttime import FakeWattTime

# Grams per kWh of one pound per MWh: 453.59237 g a pound, 1000 kWh a MWh.
G_PER_LB = 453.59237 / 1000


@contextmanager
def watttime(_: Path) -> Iterator[Case]:
    with FakeWattTime(NOW, regions=frozenset({"PJM_NJ"})) as api:
        http = HttpClient(api.url, limits=Limits(attempts=1))
        yield Case(
            source=WattTime(
                http,
                clock=ManualClock(NOW),
                user=api.user,
                password=api.password,
                regions={"US-CAL-CISO": "CAISO_NORTH", "US-MIDA-PJM": "PJM_NJ"},
            ),
            zone_id="US-CAL-CISO",
            scope=Scope.DIRECT,
            signal=SignalKind.MARGINAL,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            ahead=Window(NOW, NOW + 71 * HOUR),
            past=Window(NOW - 40 * 24 * HOUR, NOW),
            ends=Window(NOW, NOW + 72 * HOUR),
            settled_until=NOW,
            forecast_g=lambda at: api.moer_lb(at) * G_PER_LB,
            actual_g=lambda at: (api.moer_lb(at) + 7) * G_PER_LB,
            misspelt="US-CAL-CIS0",
        )
        http.close()
