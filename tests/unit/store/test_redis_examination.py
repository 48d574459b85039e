"""What is said of a store from outside, before anything is opened."""

import fakeredis
import pytest

from adapters.store.redis import RedisStore
from adapters.store.redis_address import parse_address
from adapters.store.redis_examination import examine
from adapters.store.redis_keys import prefix, schema_key
from adapters.store.redis_migrations import SCHEMA
from adapters.store.redis_terms import RedisTerms
from scheduler.core.errors import StoreError
from scheduler.ports import Check
from tests.conformance.stores import fake_pools
from tests.conformance.test_job_store import add, queued
from tests.fakes.lossy_pools import LossyPools

ADDRESS = parse_address("redis://127.0.0.1:1/0#x")
NO_STORE = "no store there yet; the first start makes one"


def examined(server: fakeredis.FakeServer) -> list[Check]:
    return examine(ADDRESS, RedisTerms(), pools=fake_pools(server))


def fill(server: fakeredis.FakeServer) -> None:
    store = RedisStore(ADDRESS, pools=fake_pools(server))
    add(store, queued("a"))
    store.close()


def test_place_without_a_store_is_said_to_have_none_and_gets_none(
    server: fakeredis.FakeServer, raw: fakeredis.FakeRedis
) -> None:
    checks = examined(server)
    assert all(one.is_ok for one in checks)
    assert NO_STORE in checks[-1].detail
    assert raw.keys() == []


def test_store_that_is_there_is_not_said_to_be_missing(server: fakeredis.FakeServer) -> None:
    fill(server)
    assert not any(NO_STORE in one.detail for one in examined(server))


@pytest.mark.parametrize("key", ["jobs", "events"])
def test_data_without_a_schema_is_no_store(
    server: fakeredis.FakeServer, raw: fakeredis.FakeRedis, key: str
) -> None:
    fill(server)
    kept = prefix("x") + key
    raw.delete(*(set(raw.keys()) - {kept}))
    with pytest.raises(StoreError, match=rf"holds .*:{key} but no schema version"):
        examined(server)
    with pytest.raises(StoreError, match="no schema version"):
        RedisStore(ADDRESS, pools=fake_pools(server))


@pytest.mark.parametrize("version", ["0", "99", "-1", "two"])
def test_version_that_no_gridtide_or_a_newer_one_wrote_is_refused_by_all(
    server: fakeredis.FakeServer, raw: fakeredis.FakeRedis, version: str
) -> None:
    raw.set(schema_key("x"), version)
    said = rf"has schema version {version}, this Gridtide knows 1 to {SCHEMA}"
    with pytest.raises(StoreError, match=said):
        examined(server)
    with pytest.raises(StoreError, match=said):
        RedisStore(ADDRESS, pools=fake_pools(server))
    assert raw.keys() == [schema_key("x")]


def test_full_server_fails(server: fakeredis.FakeServer) -> None:
    pools = LossyPools(server)
    pools.answers = {"INFO": lambda: "used_memory:9\r\n", "CONFIG": lambda: ["maxmemory", "5"]}
    checks = examine(ADDRESS, RedisTerms(), pools=pools)
    (failed,) = [one for one in checks if not one.is_ok]
    assert failed.subject == "store"
    assert "memory is full (9 bytes of maxmemory 5)" in failed.detail
