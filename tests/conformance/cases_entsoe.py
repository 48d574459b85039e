"""The ENTSO-E Transparency Platform before the suite of sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from adapters.grid.entsoe import Entsoe
from adapters.http_client import HttpClient, Limits
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.clock import ManualClock
from tests.fakes.entsoe import LAG, FakeEntsoe

# Grams per kWh over the life cycle of gas, hard coal, nuclear, solar and wind on land.
FACTORS = {"B04": 490, "B05": 820, "B14": 12, "B16": 45, "B19": 11}
# 23:00 UTC is midnight in Brussels: tomorrow's wind and sun are not out at 15:00 there.
TONIGHT = datetime(2026, 1, 20, 23, tzinfo=UTC)


def grams(at: datetime) -> float:
    mw = {kind: FakeEntsoe.mw(kind, at) for kind in FACTORS}
    return sum(mw[kind] * FACTORS[kind] for kind in FACTORS) / sum(mw.values())


@contextmanager
def entsoe(_: Path) -> Iterator[Case]:
    # The suite asks much while its time stands still.
    with FakeEntsoe(NOW, allowed=10_000) as api:
        http = HttpClient(
            api.url, limits=Limits(attempts=1), secret_params={"securityToken": FakeEntsoe.token}
        )
        yield Case(
            source=Entsoe(http, clock=ManualClock(NOW)),
            zone_id="DE",
            scope=Scope.LIFECYCLE,
            signal=SignalKind.AVERAGE,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            ahead=Window(NOW, TONIGHT),
            past=Window(NOW - 20 * 24 * HOUR, NOW - LAG),
            ends=Window(NOW, TONIGHT),
            settled_until=NOW - LAG,
            forecast_g=grams,
            actual_g=grams,
            misspelt="de",
        )
        http.close()
