"""Intervals of values in a file, which states only when each begins."""

import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from scheduler.core.errors import InvalidDataError
from scheduler.core.timegrid import format_instant


def usual_step_s(starts_s: Sequence[int]) -> int:
    """The most common distance of two starts in order; an hour where there is one only."""
    steps = np.diff(starts_s)
    if not len(steps):
        return 3600
    found, counts = np.unique(steps, return_counts=True)
    return int(found[np.argmax(counts)])


def require_even(path: Path, zone: str, starts_s: Sequence[int]) -> None:
    """Refuses starts in order of which two are nearer to each other than most, for they mix steps."""
    step_s = usual_step_s(starts_s)
    for before, after in itertools.pairwise(starts_s):
        if after - before < step_s:
            at = format_instant(datetime.fromtimestamp(after, UTC))
            raise InvalidDataError(
                f"{path}: zone {zone} mixes steps: time {at} comes {after - before} s "
                f"after the one before, most come after {step_s} s",
                field="time",
                value=at,
            )


def with_gaps(
    starts_s: Sequence[int], values: Sequence[float], step_s: int
) -> tuple[list[int], list[float]]:
    """Edges and values in which missing intervals stand as NaN."""
    edges, known = [starts_s[0]], list[float]()
    for at, value in zip(starts_s, values, strict=True):
        if at > edges[-1]:
            edges.append(at)
            known.append(math.nan)
        edges.append(at + step_s)
        known.append(value)
    return edges, known
