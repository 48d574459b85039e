"""The desk: everybody gets the answer to their own request, whatever happens to the others."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from scheduler.server.submit_desk import MAX_TOGETHER, SubmitDesk

Desk = SubmitDesk[int, int]


def _doubles(asked: Sequence[int]) -> list[int | Exception]:
    return [2 * one if one >= 0 else ValueError(f"{one} is negative") for one in asked]


def _with_desk(
    handle: Callable[[Sequence[int]], Sequence[int | Exception]],
    ask: Callable[[Desk], "asyncio.Future[list[object]]"],
) -> list[object]:
    desk: Desk = SubmitDesk(handle)
    try:

        async def run() -> list[object]:
            return await ask(desk)

        return asyncio.run(run())
    finally:
        desk.close()


def test_each_gets_its_own_answer_or_error() -> None:
    found = _with_desk(
        _doubles,
        lambda desk: asyncio.gather(*(desk.ask(one) for one in (1, -2, 3)), return_exceptions=True),
    )
    assert (found[0], found[2]) == (2, 6)
    assert str(found[1]) == "-2 is negative"


def test_what_waits_is_handled_together_and_never_more_than_the_limit() -> None:
    turns: list[int] = []
    is_first_in, may_go_on = threading.Event(), threading.Event()

    def handle(asked: Sequence[int]) -> list[int]:
        if not turns:
            is_first_in.set()
            may_go_on.wait(10)
        turns.append(len(asked))
        return list(asked)

    desk: Desk = SubmitDesk(handle)

    async def run() -> None:
        first = asyncio.ensure_future(desk.ask(0))
        await asyncio.to_thread(is_first_in.wait, 10)
        others = [asyncio.ensure_future(desk.ask(one)) for one in range(MAX_TOGETHER + 5)]
        await asyncio.sleep(0)
        may_go_on.set()
        assert await asyncio.gather(first, *others) == [0, *range(MAX_TOGETHER + 5)]

    asyncio.run(run())
    desk.close()
    assert turns == [1, MAX_TOGETHER, 5]


def test_failure_of_the_handler_reaches_everybody_and_ends_nothing() -> None:
    calls: list[Sequence[int]] = []

    def handle(asked: Sequence[int]) -> list[int]:
        calls.append(asked)
        if len(calls) == 1:
            raise RuntimeError("bug")
        return list(asked)

    desk: Desk = SubmitDesk(handle)

    async def run() -> int:
        with pytest.raises(RuntimeError, match="bug"):
            await desk.ask(1)
        return await desk.ask(2)

    assert asyncio.run(run()) == 2
    desk.close()


def test_client_that_has_gone_is_passed_over() -> None:
    is_in, may_go_on = threading.Event(), threading.Event()

    def handle(asked: Sequence[int]) -> list[int]:
        is_in.set()
        may_go_on.wait(10)
        return list(asked)

    desk: Desk = SubmitDesk(handle)

    async def run() -> int:
        gone = asyncio.ensure_future(desk.ask(1))
        await asyncio.to_thread(is_in.wait, 10)
        gone.cancel()
        may_go_on.set()
        return await desk.ask(2)

    assert asyncio.run(run()) == 2
    desk.close()


def test_closing_answers_what_is_waiting() -> None:
    desk: Desk = SubmitDesk(_doubles)

    async def run() -> int:
        asked = asyncio.ensure_future(desk.ask(4))
        await asyncio.sleep(0)
        await asyncio.to_thread(desk.close)
        return await asked

    assert asyncio.run(run()) == 8
