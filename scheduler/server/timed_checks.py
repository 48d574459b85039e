"""Checks under one deadline: what does not answer in time is named, and keeps no other from answering."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from scheduler.core.errors import GridtideError
from scheduler.ports import Check

CheckParts = Mapping[str, Callable[[], list[Check]]]
"""What to ask, by the name that is told where it does not answer."""


class TimedChecks:
    """Asks each part in a thread of its own. One that still hangs is not asked a second time meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = dict[str, Future[list[Check]]]()

    def ask(self, parts: CheckParts, *, within_s: float) -> dict[str, list[Check]]:
        """What each part says; one failed check for each that says nothing in this time."""
        until_s = time.monotonic() + within_s
        asked = {name: self._asked(name, ask) for name, ask in parts.items()}
        return {
            name: _answer(name, future, until_s=until_s, within_s=within_s)
            for name, future in asked.items()
        }

    def _asked(self, name: str, ask: Callable[[], list[Check]]) -> Future[list[Check]]:
        with self._lock:
            known = self._under_way.get(name)
            if known is not None and not known.done():
                return known
            future = self._under_way[name] = Future()
        # A daemon: what hangs must not keep the process from ending.
        threading.Thread(target=_run, args=(future, ask), name=f"check {name}", daemon=True).start()
        return future


def _run(future: Future[list[Check]], ask: Callable[[], list[Check]]) -> None:
    try:
        future.set_result(ask())
    except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
        future.set_exception(error)


def _answer(
    name: str, future: Future[list[Check]], *, until_s: float, within_s: float
) -> list[Check]:
    try:
        return future.result(max(0.0, until_s - time.monotonic()))
    except TimeoutError:
        detail = f"no answer within {within_s:g} s"
    except GridtideError as error:
        detail = error.message
    return [Check(subject=name, is_ok=False, detail=detail)]
