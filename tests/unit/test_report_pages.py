"""What the page at `/` shows of a ledger that is long."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scheduler.core.ledger import LedgerEntry
from scheduler.core.timegrid import Window
from scheduler.ports import Event
from scheduler.server.refusals import Refusals
from scheduler.server.report_pages import build_home, build_report
from scheduler.server.report_svg import pack_lanes
from scheduler.server.settings import load_settings
from scheduler.server.wiring import Service, build_service
from tests.conformance.test_job_store import entry_of
from tests.integration.api_world import write_settings


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = build_service(load_settings(write_settings(tmp_path)))
    yield made
    made.close()


def entry_at(name: str, at: datetime) -> LedgerEntry:
    """Of a job that was submitted then, and ran."""
    entry = entry_of(name)
    by = at - entry.submitted_at
    (run,) = entry.runs
    return replace(
        entry,
        name=name,
        submitted_at=at,
        deadline_at=entry.deadline_at + by,
        runs=(replace(run, window=_moved(run.window, by)),),
        baseline=replace(entry.baseline, window=_moved(entry.baseline.window, by)),
    )


def _moved(window: Window, by: timedelta) -> Window:
    return Window(window.start_at + by, window.end_at + by)


def fill(service: Service, days_ago: list[float]) -> None:
    now = service.clock.now()
    for number, days in enumerate(days_ago):
        at = now - timedelta(days=days)
        service.store.put_entry(entry_at(f"job-{number}", at))


def test_home_shows_a_month_and_says_so(service: Service) -> None:
    fill(service, [0.5, 30.9, 31.1, 400])
    for days in (1, 40):
        at = service.clock.now() - timedelta(days=days)
        service.store.add_event(Event(at=at, kind="refused", job_id=None))
    page = build_home(service)
    assert "Jobs submitted in the last 31 days" in page
    assert "<b>2</b><span>jobs ended, 1 refused" in page
    assert "<td>job-0</td>" in page
    assert "<td>job-1</td>" in page
    assert "<td>job-2</td>" not in page


def test_home_lists_the_newest_and_sums_over_all(service: Service) -> None:
    fill(service, [1, 2, 3, 4, 5])
    page = build_home(service, most_listed=2)
    assert "The 2 newest are listed and drawn; 3 earlier ones are not" in page
    assert "<b>5</b><span>jobs ended" in page
    assert page.count("<tr class=") == 2
    assert "<td>job-0</td>" in page
    assert "<td>job-2</td>" not in page


def test_home_of_a_busy_month_goes_back_less_and_says_since_when(service: Service) -> None:
    fill(service, [0.5, 0.6, 1.5, 1.6, 2.5])
    page = build_home(service, most_read=3)
    since = service.clock.now() - timedelta(days=2)
    assert f"Jobs submitted since {since:%A %d %B}" in page
    assert "there are more than 3 of the last 31 days" in page
    assert "<b>4</b><span>jobs ended" in page


def test_report_over_a_period_lists_all(service: Service) -> None:
    begin = service.clock.now() - timedelta(days=200)
    listed = [entry_at(f"job-{n}", begin + timedelta(hours=n)) for n in range(2_500)]
    page = build_report(service, listed, refused=Refusals(7, is_complete=False))
    assert page.count("<tr class=") == 2_500
    assert "at least 7 refused" in page
    assert "not, but the sums" not in page


def test_lanes_are_few_and_hold_one_window_at_a_time() -> None:
    chance = random.Random(3)
    begin = datetime.fromisoformat("2026-03-02T00:00:00+00:00")
    windows = []
    for _ in range(200):
        start = begin + timedelta(minutes=chance.randrange(3_000))
        windows.append(Window(start, start + timedelta(minutes=chance.randrange(1, 300))))
    lanes = pack_lanes(windows)
    for one, lane in zip(windows, lanes, strict=True):
        inside = [
            number
            for other, number in zip(windows, lanes, strict=True)
            if other.start_at <= one.start_at < other.end_at
        ]
        assert len(set(inside)) == len(inside)
        # The lowest that was free: all below it are taken at that moment.
        assert lane < len(inside)
