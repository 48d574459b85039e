"""Every kind of store, for the suite that all of them pass. A new one joins by one more entry in `STORES`."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import fakeredis
import pytest
import redis

from adapters.store.redis import RedisStore
from adapters.store.redis_address import RedisAddress, parse_address
from adapters.store.redis_pools import ServerPools
from adapters.store.sqlite import SqliteStore
from scheduler.ports import JobStore

OpenStore = Callable[[], JobStore]
_TESTBED: Final = Path(__file__).parents[1] / "testbeds" / "redis"
_ADDRESS: Final = parse_address("redis://127.0.0.1:1/0")


@contextmanager
def sqlite(folder: Path) -> Iterator[OpenStore]:
    """A file."""
    yield lambda: SqliteStore(folder / "gridtide.db")


@contextmanager
def fake_redis(folder: Path) -> Iterator[OpenStore]:
    """Redis within this process."""
    del folder
    server = fakeredis.FakeServer()
    yield lambda: RedisStore(_ADDRESS, pools=fake_pools(server))


@contextmanager
def real_redis(folder: Path) -> Iterator[OpenStore]:
    """A store of its own on the server of the test bed."""
    del folder
    address = replace(testbed_address(), name=f"t-{uuid.uuid4()}")
    yield lambda: RedisStore(address)
    forget(address)


def fake_pools(server: fakeredis.FakeServer) -> ServerPools:
    """Connections to a server within this process."""
    client = fakeredis.FakeRedis(server=server, decode_responses=True, protocol=2)
    return ServerPools(client.connection_pool)


def testbed_address() -> RedisAddress:
    """The server of the test bed; skips the test where there is none."""
    found = subprocess.run([_TESTBED, "url"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("no Redis server is up; bring one up with: tests/testbeds/redis up")
    return parse_address(found.stdout.strip())


def forget(store: RedisAddress) -> None:
    """Removes what a test left on the server."""
    host, port = store.hosts[0]
    with redis.Redis(host=host, port=port) as client:
        for key in client.scan_iter(match=f"{{gridtide:{store.name}}}:*", count=1000):
            client.delete(key)


STORES: Final[dict[str, Callable[[Path], AbstractContextManager[OpenStore]]]] = {
    "sqlite": sqlite,
    "fakeredis": fake_redis,
    "redis": real_redis,
}
PARAMS: Final = [
    pytest.param(name, marks=pytest.mark.external) if name == "redis" else name for name in STORES
]
