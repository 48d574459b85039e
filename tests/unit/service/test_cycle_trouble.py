"""What the cycle says of a store that it cannot use, and that it takes it back."""

from pathlib import Path
from typing import Any

import pytest

from adapters.store.sqlite import SqliteStore
from scheduler.core.errors import ClusterUnavailableError, StoreError
from scheduler.server.checks import cycle_check
from tests.unit.service.world import Make, World


class FailingStore(SqliteStore):
    """Fails the calls that it is told to."""

    fails: frozenset[str] = frozenset()

    def active_jobs(self) -> Any:
        self._fail("active_jobs")
        return super().active_jobs()

    def update_job(self, *args: Any, **kwargs: Any) -> None:
        self._fail("update_job")
        super().update_job(*args, **kwargs)

    def take_lease(self, holder: str, *, for_s: float) -> Any:
        self._fail("take_lease")
        return super().take_lease(holder, for_s=for_s)

    def _fail(self, name: str) -> None:
        if name in self.fails:
            raise StoreError(f"{name}: no answer")


@pytest.fixture
def world(make: Make, tmp_path: Path) -> World:
    return make(store=FailingStore(tmp_path / "gridtide.db"))


def test_cycle_is_not_well_before_its_first_pass_and_is_after_it(world: World) -> None:
    assert not cycle_check(world.cycle).is_ok
    world.cycle.tick()
    assert cycle_check(world.cycle).is_ok


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("active_jobs", "read: active_jobs: no answer"),
        ("update_job", "plan: update_job: no answer"),
        ("take_lease", "lease: take_lease: no answer"),
    ],
)
def test_store_that_failed_the_last_pass_is_told_until_it_serves_again(
    world: World, call: str, said: str
) -> None:
    world.cycle.tick()
    world.submit(hours=4, patience=0)
    assert isinstance(world.store, FailingStore)
    world.store.fails = frozenset({call})
    if call == "take_lease":
        world.cycle._leadership._asked_at_s = -1e9  # the lease is to be renewed
    world.cycle.tick()
    check = cycle_check(world.cycle)
    assert not check.is_ok
    assert said in check.detail
    world.store.fails = frozenset()
    world.cycle.tick()
    assert cycle_check(world.cycle).is_ok


def test_defect_in_a_record_that_keeps_all_from_being_read_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cycle.tick()

    def broken() -> None:
        raise ValueError("no such state")

    monkeypatch.setattr(world.store, "active_jobs", broken)
    world.cycle.tick()
    check = cycle_check(world.cycle)
    assert (check.is_ok, "read: active jobs are unreadable" in check.detail) == (False, True)


def test_cluster_that_does_not_answer_leaves_the_cycle_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise ClusterUnavailableError("no answer")

    world.submit(hours=4, patience=0)
    monkeypatch.setattr(world.clusters["c-de"], "submit", silent)
    world.cycle.tick()
    assert cycle_check(world.cycle).is_ok
