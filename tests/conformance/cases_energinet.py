"""Energinet in the suite of intensity sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from adapters.grid.energinet import LIMITS, Energinet
from adapters.http_client import HttpClient
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.clock import ManualClock
from tests.fakes.energinet import MINUTE, FakeEnerginet


class PatientClock(ManualClock):
    """A minute passes between any two looks, so that the provider's quota is never used up."""

    def now(self) -> datetime:
        self.at += MINUTE
        return self.at


@contextmanager
def energinet(_: Path) -> Iterator[Case]:
    clock = PatientClock(NOW)
    with FakeEnerginet(NOW, clock) as api:
        http = HttpClient(api.url, limits=LIMITS)
        yield Case(
            source=Energinet(http, clock=clock),
            zone_id="DK-DK2",
            scope=Scope.DIRECT,
            signal=SignalKind.AVERAGE,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            # 15:00 in Denmark: tomorrow is known, to 23:00 UTC.
            ahead=Window(NOW, NOW + 33 * HOUR),
            past=Window(NOW - timedelta(days=8), NOW),
            ends=Window(NOW, NOW + 33 * HOUR),
            settled_until=NOW,
            forecast_g=lambda at: api.forecast_g("DK2", at),
            actual_g=lambda at: api.actual_g("DK2", at),
            misspelt="DK-DK3",
        )
        http.close()
