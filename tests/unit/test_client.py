"""The client: what it makes of answers that are not as usual."""

import httpx
import pytest

from scheduler.client import GridtideClient
from scheduler.core.errors import InvalidInputError, StoreError


@pytest.fixture
def client() -> GridtideClient:
    return GridtideClient("http://127.0.0.1:1")


def test_half_a_character_is_refused_before_anything_is_sent(client: GridtideClient) -> None:
    with client, pytest.raises(InvalidInputError, match="half of a character"):
        client.submit({"name": "\ud800"})


def test_readiness_that_comes_as_an_error_is_that_error(
    client: GridtideClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"code": "store_unavailable", "detail": "the disk is full", "status": 503}
    monkeypatch.setattr(client, "_raw", lambda *_, **__: httpx.Response(503, json=document))
    with client, pytest.raises(StoreError, match="the disk is full"):
        client.readiness()
