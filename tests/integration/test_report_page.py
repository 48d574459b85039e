"""The report and the page of forecasts in a real browser."""

import math
import shutil
import subprocess
from pathlib import Path

import pytest

from scheduler.core.ledger import summarise
from scheduler.core.timegrid import Window
from scheduler.server.forecast_page import render_page
from scheduler.server.forecast_pictures import Band, ForecastPicture, Step
from scheduler.server.report_html import render_report
from tests.unit.service.world import make_world

CHROMIUM = next(
    (name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None
)


@pytest.mark.external
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["report", "forecast"])
def test_page_renders_in_a_browser_without_any_request(tmp_path: Path, kind: str) -> None:
    assert CHROMIUM, "no Chromium; make test-external installs it"
    page = tmp_path / "page.html"
    text = _report(tmp_path) if kind == "report" else _forecast()
    page.write_text(text, encoding="utf-8")
    shot = tmp_path / "page.png"
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --hide-scrollbars --window-size=1300,1200"
    subprocess.run(
        [
            CHROMIUM,
            *flags.split(),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--screenshot={shot}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=100,
    )
    assert shot.stat().st_size > 20_000


def _forecast() -> str:
    hours = [(3600.0 * hour, 300 + 100 * math.sin(hour / 4)) for hour in range(240)]
    picture = ForecastPicture(
        zone_id="DE",
        begins_s=144 * 3600.0,
        past=[Step(at_s, at_s + 3600, grams) for at_s, grams in hours[:144]],
        ahead=[
            Band(start_s=at_s, stop_s=at_s + 3600, g_per_kwh=grams, low=grams - 50, high=grams + 80)
            for at_s, grams in hours[144:]
        ],
    )
    return render_page([picture])


def _report(folder: Path) -> str:
    world = make_world(folder, zones=("DE", "FR"))
    for index in range(4):
        world.submit(f"job-{index}", hours=3, patience=20)
    start = world.clock.now()
    world.run_for(24)
    entries = world.store.entries()
    window = Window(start, world.clock.now())
    found = {zone: world.forecaster.series(zone, window) for zone in ("DE", "FR")}
    world.store.close()
    return render_report(
        title="Report",
        generated_at=world.clock.now(),
        entries=entries,
        summary=summarise(entries, refused=0),
        intensity={zone: series for zone, series in found.items() if series is not None},
        regions={"r-de": "DE", "r-fr": "FR"},
        notes=(),
        attributions=(),
        window=window,
    )
