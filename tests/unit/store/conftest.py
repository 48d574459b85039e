"""A server of Redis within the process, for tests of what a store does with it."""

import fakeredis
import pytest


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def raw(server: fakeredis.FakeServer) -> fakeredis.FakeRedis:
    """What it holds, past the store."""
    return fakeredis.FakeRedis(server=server, decode_responses=True)
