"""Processes beside the service that look again and again."""

import signal
import sys
from collections.abc import Callable

from adapters.http_client import Stop


def keep_looking(look: Callable[[], bool], *, stop: Stop, every_s: float, is_once: bool) -> bool:
    """Looks until the process is told to stop, or once; whether the last look reached everything."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    is_well = look()
    while not is_once:
        stop.wait(every_s)
        is_well = look()
    return is_well
