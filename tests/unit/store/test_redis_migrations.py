"""The schema of a store on Redis: made, brought up to date, refused."""

import fakeredis
import pytest

from adapters.store.redis import RedisStore
from adapters.store.redis_address import parse_address
from adapters.store.redis_keys import prefix, schema_key
from adapters.store.redis_link import RedisLink
from adapters.store.redis_migrations import MIGRATIONS, SCHEMA, open_schema
from adapters.store.redis_scripts import get_script
from adapters.store.redis_terms import RedisTerms
from scheduler.core.errors import StoreError
from tests.conformance.stores import fake_pools
from tests.conformance.test_job_store import add, queued

ADDRESS = parse_address("redis://127.0.0.1:1/0#m")
KEY = schema_key("m")
RENAMES_BY_TWO = """
local at = string.sub(KEYS[1], 1, -7)
for _ = 1, 2 do
  local id = redis.call("HKEYS", at .. "jobs")[1]
  if not id then
    return {"done"}
  end
  redis.call("HSET", at .. "newer", id, redis.call("HGET", at .. "jobs", id))
  redis.call("HDEL", at .. "jobs", id)
end
return {"more"}
"""


@pytest.fixture
def link(server: fakeredis.FakeServer) -> RedisLink:
    return RedisLink(ADDRESS, RedisTerms(), fake_pools(server), schema="")


def test_new_store_has_the_newest_schema(link: RedisLink, raw: fakeredis.FakeRedis) -> None:
    assert open_schema(link) == (SCHEMA, SCHEMA)
    assert raw.get(KEY) == link.schema
    assert raw.keys() == [KEY]


def test_migration_works_piece_by_piece_and_once(
    server: fakeredis.FakeServer, link: RedisLink, raw: fakeredis.FakeRedis
) -> None:
    store = RedisStore(ADDRESS, pools=fake_pools(server))
    add(store, *(queued(f"j{number}") for number in range(5)))
    now = SCHEMA
    assert open_schema(link, [*MIGRATIONS, RENAMES_BY_TWO]) == (now, now + 1)
    assert raw.hlen(prefix("m") + "newer") == 5
    assert str(raw.get(KEY)).startswith(f"{now + 1}:")
    assert open_schema(link, [*MIGRATIONS, RENAMES_BY_TWO]) == (now + 1, now + 1)


def test_migration_that_fails_leaves_the_version_and_can_go_on(
    server: fakeredis.FakeServer, link: RedisLink, raw: fakeredis.FakeRedis
) -> None:
    add(RedisStore(ADDRESS, pools=fake_pools(server)), queued("a"))
    with pytest.raises(StoreError):
        open_schema(link, [*MIGRATIONS, RENAMES_BY_TWO, "return redis.error_reply('ERR no')"])
    now = SCHEMA
    assert str(raw.get(KEY)).startswith(f"{now + 1}:")
    steps = [*MIGRATIONS, RENAMES_BY_TWO, "return {'done'}"]
    assert open_schema(link, steps) == (now + 1, now + 2)


def test_store_of_the_first_version_is_taken_over_and_whoever_knows_that_one_alone_stops(
    server: fakeredis.FakeServer, raw: fakeredis.FakeRedis
) -> None:
    old = RedisStore(ADDRESS, pools=fake_pools(server))
    add(old, queued("a"), queued("b"))
    raw.delete(prefix("m") + "changes")
    raw.set(KEY, "1")
    new = RedisStore(ADDRESS, pools=fake_pools(server))
    assert [one.job.job_id for one in new.active_jobs()] == ["a", "b"]
    assert str(raw.get(KEY)).startswith(f"{SCHEMA}:")
    old_link = RedisLink(ADDRESS, RedisTerms(), fake_pools(server), schema="1")
    with pytest.raises(StoreError, match=f"schema version {SCHEMA}"):
        old_link.call(get_script("get_job"), "a")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("99", f"schema version 99, this Gridtide knows 1 to {SCHEMA}; upgrade"),
        ("0", "schema version 0"),
        ("nonsense", "schema version nonsense"),
        ("copying:/a/b.db", "unfinished copy"),
    ],
)
def test_schema_that_we_do_not_know_is_refused_and_left_as_it_is(
    server: fakeredis.FakeServer, raw: fakeredis.FakeRedis, found: str, said: str
) -> None:
    raw.set(KEY, found)
    with pytest.raises(StoreError, match=said):
        RedisStore(ADDRESS, pools=fake_pools(server))
    assert raw.get(KEY) == found


def test_store_that_was_made_anew_is_not_taken_for_the_one_that_was_there(
    server: fakeredis.FakeServer, raw: fakeredis.FakeRedis
) -> None:
    old = RedisStore(ADDRESS, pools=fake_pools(server))
    add(old, queued("a"))
    raw.flushall()
    with pytest.raises(StoreError, match="holds no store any more"):
        old.active_jobs()
    new = RedisStore(ADDRESS, pools=fake_pools(server))
    assert new.name != old.name
    for look in (old.active_jobs, lambda: add(old, queued("b"))):
        with pytest.raises(StoreError, match="holds another store than when this process started"):
            look()
    assert [one.is_ok for one in old.checks()] == [False]
    assert new.active_jobs() == []


def test_process_that_must_not_make_a_store_says_that_there_is_none(
    server: fakeredis.FakeServer, raw: fakeredis.FakeRedis
) -> None:
    with pytest.raises(StoreError, match="holds no store, and this process does not make one"):
        RedisStore(ADDRESS, pools=fake_pools(server), makes=False)
    assert raw.keys() == []
    made = RedisStore(ADDRESS, pools=fake_pools(server))
    assert RedisStore(ADDRESS, pools=fake_pools(server), makes=False).name == made.name


def test_data_without_a_version_is_damage_not_a_new_store(
    server: fakeredis.FakeServer, raw: fakeredis.FakeRedis
) -> None:
    raw.hset(prefix("m") + "jobs", "a", "{}")
    with pytest.raises(StoreError, match="no schema version"):
        RedisStore(ADDRESS, pools=fake_pools(server))
    assert raw.keys() == [prefix("m") + "jobs"]


def test_stores_of_two_names_share_a_server_and_nothing_else(server: fakeredis.FakeServer) -> None:
    one = RedisStore(ADDRESS, pools=fake_pools(server))
    other = RedisStore(parse_address("redis://127.0.0.1:1/0#n"), pools=fake_pools(server))
    add(one, queued("a"))
    assert other.list_jobs() == ([], None)
    assert other.events() == []
