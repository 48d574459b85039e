"""The lease as one process sees it."""

import fakeredis
import pytest

from adapters.store.redis import RedisStore
from adapters.store.redis_address import parse_address
from scheduler.core.errors import ConflictError, StoreError
from scheduler.ports import JobStore, Lease
from scheduler.service import leadership
from scheduler.service.leadership import Leadership, process_name
from tests.conformance.stores import fake_pools
from tests.unit.service.world import Make

LEASE_S = 30.0


class Seconds:
    """Time since the machine was started, as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    clock = Seconds()
    monkeypatch.setattr(leadership, "boot_s", clock)
    return clock


@pytest.fixture
def store() -> JobStore:
    pools = fake_pools(fakeredis.FakeServer())
    return RedisStore(parse_address("redis://127.0.0.1:1/0"), pools=pools)


def of(store: JobStore, holder: str, **changes: bool) -> Leadership:
    return Leadership(store, holder=holder, for_s=LEASE_S, **changes)


def test_first_that_asks_leads_and_the_other_stands_by(store: JobStore, seconds: Seconds) -> None:
    first, second = of(store, "first"), of(store, "second")
    assert first.keep()
    assert not second.keep()
    assert first.is_leading()
    assert not second.is_leading()
    assert first.check().detail == f"this process, lease {first.fence()}"
    assert second.check().detail == "first; this process stands by"
    first.require()
    with pytest.raises(ConflictError, match="another scheduler"):
        second.require()


def test_lease_is_renewed_before_it_ends_and_not_at_each_look(
    store: JobStore, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[float]()
    take = store.take_lease

    def count(holder: str, *, for_s: float) -> Lease:
        asked.append(seconds.now)
        return take(holder, for_s=for_s)

    monkeypatch.setattr(store, "take_lease", count)
    one = of(store, "one")
    for _ in range(60):
        assert one.keep()
        seconds.now += 1
    assert asked == [1000.0 + 10 * number for number in range(6)]
    assert one.changes == 1


def test_who_slept_through_its_lease_does_not_act_even_before_it_has_asked(
    store: JobStore, seconds: Seconds
) -> None:
    one = of(store, "one")
    one.keep()
    seconds.now += LEASE_S
    assert not one.is_leading()


def test_who_cannot_renew_leads_as_long_as_the_lease_lasts(
    store: JobStore, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = of(store, "one")
    one.keep()

    def fail(*_: object, **__: object) -> Lease:
        raise StoreError("away")

    monkeypatch.setattr(store, "take_lease", fail)
    seconds.now += LEASE_S / 2
    assert one.keep()
    seconds.now += LEASE_S / 2
    assert not one.keep()


def test_other_leads_once_the_first_has_resigned(store: JobStore, seconds: Seconds) -> None:
    first, second = of(store, "first"), of(store, "second")
    first.keep()
    second.keep()
    first.resign()
    assert not first.is_leading()
    assert second.keep()
    assert second.fence() > first.fence()
    assert not first.keep()


def test_who_has_resigned_does_not_take_the_lease_of_another(
    store: JobStore, seconds: Seconds
) -> None:
    first, second = of(store, "first"), of(store, "second")
    first.keep()
    second.resign()
    assert store.lease() == Lease(holder="first", fence=first.fence())


def test_process_that_only_answers_never_leads_and_says_who_should(
    store: JobStore, seconds: Seconds
) -> None:
    one = of(store, "one", stands=False)
    assert not one.keep()
    assert not one.check().is_ok
    assert "none is planned" in one.check().detail
    of(store, "two").keep()
    assert one.check().is_ok
    assert one.check().detail == "two; this process only answers"


def test_wish_for_a_tick_reaches_the_leader_once(store: JobStore, seconds: Seconds) -> None:
    first, second = of(store, "first"), of(store, "second")
    first.keep()
    second.keep()
    assert not first.pass_on()
    second.ask_for_tick()
    assert not first.pass_on()
    assert not second.pass_on()
    assert first.pass_on()
    assert not first.pass_on()
    second.pass_on()
    assert not first.pass_on()


def test_names_of_processes_are_their_own() -> None:
    assert process_name() != process_name()


def test_process_that_stands_by_starts_nothing_and_counts_what_others_took(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make()
    record = world.submit(patience=0)
    monkeypatch.setattr(Leadership, "keep", lambda _: False)
    report = world.cycle.tick()
    assert report.ticks == 1
    assert report.active == 1
    assert report.failures == 0
    assert world.store.get_job(record.job.job_id) == record
    monkeypatch.undo()
    world.cycle.tick()
    assert world.store.get_job(record.job.job_id) != record
