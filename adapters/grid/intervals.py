"""Intervals of values: their usual step in a file, and the gaps between them."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
    starts_s: NDArray[np.int64], stops_s: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Edges and values of intervals that do not overlap, in which missing time stands as NaN."""
    edges_s = np.unique(np.concatenate([starts_s, stops_s]))
    known = np.full(len(edges_s) - 1, np.nan)
    known[np.searchsorted(edges_s, starts_s)] = values
    return edges_s, known
