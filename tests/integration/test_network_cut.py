"""The demo's service on a live source whose network is cut in the middle of the run."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from scheduler.client import GridtideClient
from scheduler.core.timegrid import parse_instant
from scheduler.server.demo import JOBS, ORIGIN, SPEED, DemoService, run_jobs, write_settings
from tests.fakes.energy_charts import FakeEnergyCharts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CUT_AT_HOURS = 9.0
HOUR_S = 3600.0


class FastEnergyCharts(FakeEnergyCharts):
    """The fake on the clock of the demo."""

    def __init__(self) -> None:
        self._began_s = time.time()
        super().__init__(self.now)

    @property
    def now(self) -> datetime:
        passed_s = (time.time() - self._began_s) * SPEED
        return parse_instant(ORIGIN).astimezone(UTC) + timedelta(seconds=passed_s)

    @now.setter
    def now(self, value: datetime) -> None:
        pass


def test_no_job_misses_its_deadline_when_the_network_is_cut(tmp_path: Path) -> None:
    with FastEnergyCharts() as server:
        chain = [{"kind": "energy_charts", "url": server.url}, {"kind": "typical_week"}]
        config, url = write_settings(tmp_path, {"DE": chain})
        console = Console(quiet=True)
        cut = threading.Timer(CUT_AT_HOURS * HOUR_S / SPEED, server.close)
        with (
            DemoService(config, tmp_path / "service.log", console) as service,
            GridtideClient(url) as client,
        ):
            service.wait_until_ready(client)
            cut.start()
            run_jobs(client, service, console)
            cut.join()
            checks = {one["subject"]: one for one in client.readiness()["checks"]}
            ledger = client.report_json()
    assert ledger["summary"]["jobs"] == len(JOBS) - 1
    assert ledger["summary"]["missed_deadlines"] == 0
    assert {entry["state"] for entry in ledger["entries"]} == {"succeeded"}
    # Doctor tells what is wrong and what plans rest on instead, and the ledger has it for ever.
    assert not checks["intensity DE energy_charts"]["ok"]
    assert "no answer" in checks["intensity DE energy_charts"]["detail"]
    assert checks["plans in DE rest on"]["detail"].startswith("built-in")
    assert checks["plans in DE rest on"]["detail"].endswith("a fallback")
