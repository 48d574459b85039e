"""Whether this machine's clock and the server's agree: processes on one store judge deadlines by their own."""

import time
from typing import Final

from adapters.store.redis_address import RedisAddress

MAX_SKEW_S: Final = 30
"""So much may lie between them: more than a call takes, less than a deadline should suffer."""


def wall_s() -> int:
    """This machine's time in Unix seconds, whatever clock the service runs by."""
    return round(time.time())  # noqa: TID251 - compared with the clock of another machine


def skew_words(address: RedisAddress, ahead_s: int) -> str:
    """What to say where this machine's clock is ahead (or behind, below 0)."""
    how = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"the clock of this machine is {abs(ahead_s)} s {how} that of {address}: deadlines would be missed; let both "
        f"follow the same time (NTP), to within {MAX_SKEW_S} s"
    )
