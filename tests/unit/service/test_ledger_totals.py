"""Totals over the ledger: what they are, who makes them, and how much of the time that may take."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.store.sqlite import SqliteStore
from scheduler.core.errors import StoreError
from scheduler.core.ledger import LedgerEntry
from scheduler.server.metrics import render_metrics
from scheduler.service.ledger_totals import LedgerWalks, read_totals
from tests.fakes.clock import ManualClock
from tests.unit.service.world import Make, World


class Watch:
    """A timer that a walk over the ledger moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class CountedStore(SqliteStore):
    """Counts the walks over its ledger, which take so long as it is told."""

    def __init__(self, path: Path, watch: Watch) -> None:
        super().__init__(path)
        self.watch, self.walk_s, self.walks = watch, 0.0, 0
        self.fails = False

    def entries(self, **period: Any) -> list[LedgerEntry]:
        self.walks += 1
        self.watch.now_s += self.walk_s
        if self.fails:
            raise StoreError("store: it does not answer")
        return super().entries(**period)


def metrics(world: World) -> dict[str, float]:
    text = render_metrics(world.store, world.cycle, world.forecaster, now=world.clock.now())
    lines = (line.rsplit(" ", 1) for line in text.decode().splitlines() if line[0] != "#")
    return {name: float(value) for name, value in lines}


def walks_of(world: World, watch: Callable[[], float]) -> LedgerWalks:
    return LedgerWalks(world.store, world.clock, timer=watch)


def test_metrics_tell_the_totals_that_were_made_last_and_how_old_they_are(make: Make) -> None:
    world = make()
    world.submit(hours=4, patience=20)
    world.run_for(18)
    names = {
        "gridtide_emissions_grams": pytest.approx(400),  # 1 kW for 4 h at 100 g/kWh
        "gridtide_baseline_grams": pytest.approx(1600),  # and at once, at 400 g/kWh
        "gridtide_missed_deadlines": 0,
        "gridtide_accounted_jobs": 1,
        "gridtide_ledger_totals_age_seconds": 90,
    }
    assert not names.keys() & metrics(world).keys()
    assert walks_of(world, Watch()).run()
    world.clock.move(minutes=1.5)
    found = metrics(world)
    assert {name: found[name] for name in names} == names


def test_metrics_walk_over_no_entries(make: Make, tmp_path: Path) -> None:
    store = CountedStore(tmp_path / "gridtide.db", Watch())
    world = make(store=store)
    walks_of(world, store.watch).run()
    assert store.walks == 1
    metrics(world)
    assert store.walks == 1


def test_long_walk_is_followed_by_a_rest_a_hundred_times_as_long(tmp_path: Path) -> None:
    watch = Watch()
    store = CountedStore(tmp_path / "gridtide.db", watch)
    store.walk_s = 3.0
    walks = LedgerWalks(store, ManualClock(), timer=watch)
    assert walks.run()
    watch.now_s = 3.0 + 299.0
    assert not walks.run()
    watch.now_s = 3.0 + 300.0
    assert walks.run()
    store.close()


def test_walk_that_failed_is_followed_by_a_rest_too_and_old_totals_stay(tmp_path: Path) -> None:
    watch, clock = Watch(), ManualClock()
    store = CountedStore(tmp_path / "gridtide.db", watch)
    walks = LedgerWalks(store, clock, timer=watch)
    made_at: datetime = clock.now()
    assert walks.run()
    store.walk_s, store.fails = 25.0, True
    clock.move(hours=1)
    with pytest.raises(StoreError):
        walks.run()
    watch.now_s += 60
    assert not walks.run()
    totals = read_totals(store)
    assert totals is not None
    assert (totals.at, totals.jobs) == (made_at, 0)
    store.close()


def test_only_the_process_that_leads_walks(make: Make, tmp_path: Path) -> None:
    store = CountedStore(tmp_path / "gridtide.db", Watch())
    world = make(store=store)
    world.cycle.walk_ledger()
    assert (store.walks, read_totals(store)) == (0, None)
    world.cycle.tick()  # it takes the lease
    before = store.walks
    world.cycle.walk_ledger()
    assert store.walks == before + 1
    assert read_totals(store) is not None
