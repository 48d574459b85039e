"""Where single submissions meet: one thread answers all that are waiting, in one write to the store.

A thread a request would spend most of its time waiting for the interpreter; one thread that takes
what has come in while the disk was busy needs neither locks nor switches, and one fsync a turn.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_A = TypeVar("_A")
_R = TypeVar("_R")
MAX_TOGETHER: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[_A, _R]):
    asked: _A
    answer: "asyncio.Future[_R]"
    loop: asyncio.AbstractEventLoop


class SubmitDesk(Generic[_A, _R]):
    """Collects requests from an event loop and has them handled together by a thread.

    Args:
        handle: gives for each request its result, or the error that its caller gets.
    """

    def __init__(self, handle: Callable[[Sequence[_A]], Sequence[_R | Exception]]) -> None:
        self._handle = handle
        self._waiting: deque[_Waiting[_A, _R]] = deque()
        self._has_work = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="submit-desk", daemon=True)
        self._thread.start()

    async def ask(self, asked: _A) -> _R:
        """The result for one request. Raises what it came to."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[_A, _R] = _Waiting(asked, loop.create_future(), loop)
        with self._has_work:
            self._waiting.append(waiting)
            self._has_work.notify()
        return await waiting.answer

    def close(self) -> None:
        """Answers what is waiting, and ends the thread."""
        with self._has_work:
            self._is_closing = True
            self._has_work.notify()
        self._thread.join()

    def _work(self) -> None:
        while turn := self._take():
            try:
                outcomes = self._handle([waiting.asked for waiting in turn])
            except Exception as error:  # noqa: BLE001 - its callers must hear of it, whatever it is
                outcomes = [error] * len(turn)
            # One call a loop and turn: waking a loop costs a write to a pipe.
            for loop in {waiting.loop for waiting in turn}:
                pairs = [
                    (waiting.answer, outcome)
                    for waiting, outcome in zip(turn, outcomes, strict=True)
                    if waiting.loop is loop
                ]
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_answer, pairs)

    def _take(self) -> list[_Waiting[_A, _R]]:
        with self._has_work:
            while not self._waiting and not self._is_closing:
                self._has_work.wait()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_TOGETHER))]


def _answer(pairs: Sequence[tuple["asyncio.Future[_R]", _R | Exception]]) -> None:
    for future, outcome in pairs:
        if future.done():  # its client has gone
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
