"""Which of many forecasts of one zone was the newest at a time; hour by hour."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from scheduler.core.forecasting.hourly import HOUR_S


class _Issued(Protocol):
    @property
    def issued_s(self) -> int: ...


_One = TypeVar("_One", bound=_Issued)


def in_order(issued: Iterable[_One]) -> list[_One]:
    """By time of issue; of two issued together the last one counts."""
    latest = {one.issued_s: one for one in issued}
    return [latest[issued_s] for issued_s in sorted(latest)]


class Issues:
    """When forecasts were known, oldest first; one that came within an hour counts from its end."""

    def __init__(self, ordered: Iterable[_Issued]) -> None:
        self._hours = np.array([-(-one.issued_s // HOUR_S) for one in ordered], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._hours)

    def rows(self, known_by: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which one was the newest known by each of these hours; -1 where none was."""
        return np.searchsorted(self._hours, known_by, side="right") - 1

    def newest_hour(self, known_by: int) -> int | None:
        """When the newest one known by that hour was issued; None where there is none."""
        row = int(self.rows(np.array(known_by)))
        return int(self._hours[row]) if row >= 0 else None

    def count_between(self, first_hour: int, stop_hour: int) -> int:
        """How many were issued in these hours."""
        return int(((self._hours >= first_hour) & (self._hours < stop_hour)).sum())
