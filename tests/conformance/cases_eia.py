"""EIA before the suite of sources."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from adapters.grid.eia import Eia
from adapters.http_client import HttpClient, Limits
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.timegrid import Window
from tests.conformance.source_case import HOUR, NOW, Case
from tests.fakes.eia import LAG, FakeEia

# Grams per kWh over the life cycle; other fuels count as unknown.
FACTORS = {"COL": 820, "NG": 490, "NUC": 12, "OTH": 700, "SUN": 45, "WAT": 24, "WND": 11}


def grams(at: datetime) -> float:
    """Of the hour that begins then; pumped storage only takes there, which does not count."""
    mw = {fuel: max(FakeEia.mw(fuel, at), 0) for fuel in FACTORS}
    return sum(mw[fuel] * FACTORS[fuel] for fuel in FACTORS) / sum(mw.values())


@contextmanager
def eia(_: Path) -> Iterator[Case]:
    with FakeEia(NOW) as api:
        http = HttpClient(
            api.url, limits=Limits(attempts=1), secret_params={"api_key": FakeEia.key}
        )
        yield Case(
            source=Eia(http),
            zone_id="US-CAL-CISO",
            scope=Scope.LIFECYCLE,
            signal=SignalKind.AVERAGE,
            qualities=(Quality.FORECAST, Quality.ESTIMATED),
            ahead=None,
            # The newest hour has too few fuels to be used.
            past=Window(NOW - 40 * 24 * HOUR, NOW - LAG - HOUR),
            ends=None,
            settled_until=NOW - LAG,
            forecast_g=grams,
            actual_g=grams,
            misspelt="US-CAL-CIS0",
        )
        http.close()
