"""What earlier runs tell about how long a cluster lets jobs wait in a queue of its own."""

import math
from collections.abc import Sequence
from typing import Final

MIN_WAITS: Final = 5
"""Fewer waits than this tell nothing."""
SHARE: Final = 0.9
LEAST_S: Final = 60
"""A shorter wait is the cluster's own rhythm, not a queue."""
MOST_S: Final = 24 * 3600
"""Longest wait that is kept room for: a queue that is slower cannot promise anything."""


def long_wait_s(waits_s: Sequence[float]) -> int:
    """Seconds that 90 % of such waits stay within (nearest rank), at most `MOST_S`; 0 for few or short ones."""
    ordered = sorted(waits_s)
    if len(ordered) < MIN_WAITS:
        return 0
    long_s = math.ceil(ordered[math.ceil(SHARE * len(ordered)) - 1])
    return min(MOST_S, long_s) if long_s >= LEAST_S else 0
