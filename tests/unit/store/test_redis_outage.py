"""What callers of a silent server have to wait for: as little as possible."""

import pytest

from adapters.store.redis_outage import REST_S, Outage
from scheduler.core.errors import StoreError


class Steady:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def outage(steady: Steady) -> Outage:
    return Outage("redis://h:1/0#n", steady=steady)


def test_server_that_answers_is_asked_again_when_a_call_fails(outage: Outage) -> None:
    assert outage.may_retry()


def test_after_a_call_that_waited_in_vain_others_fail_at_once_then_once_each(
    outage: Outage, steady: Steady
) -> None:
    steady.now_s += 15
    outage.note_silence(100.0, is_slow=True)
    with pytest.raises(
        StoreError, match="has not answered for 15 s; nothing was written"
    ) as caught:
        outage.may_retry()
    assert caught.value.retryable
    steady.now_s += REST_S
    assert not outage.may_retry()
    outage.note_answer()
    assert outage.may_retry()


def test_connection_that_is_refused_costs_no_time_and_needs_no_rest(outage: Outage) -> None:
    outage.note_silence(100.0, is_slow=False)
    assert not outage.may_retry()
