"""Totals over the whole ledger, made beside the ticks and kept in the store for whoever wants to tell them."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from scheduler.core.ledger import summarise
from scheduler.core.timegrid import format_instant, parse_instant
from scheduler.ports import Clock, JobStore

_KEY: Final = "ledger_totals"
"""Document with the totals as they last were."""
_REST: Final = 100
"""A walk over the ledger is followed by a rest of so many times its length: 1 % of the time goes into walks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTotals:
    """Totals as of an instant. Grams are sums over the entries that have both figures."""

    at: datetime
    jobs: int
    missed_deadlines: int
    emissions_g: float
    baseline_g: float


class LedgerWalks:
    """Walks over the ledger where that is due, and keeps its totals.

    Args:
        timer: seconds from any beginning, which never go back.
    """

    def __init__(
        self, store: JobStore, clock: Clock, *, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._timer = timer
        self._rests_until_s: float | None = None

    def run(self) -> bool:
        """Makes the totals anew, unless the last walk was so long that it still rests; whether it did."""
        began_s = self._timer()
        if self._rests_until_s is not None and began_s < self._rests_until_s:
            return False
        at = self._clock.now()
        try:
            summary = summarise(self._store.entries(), refused=0)
        finally:
            # Also after one that failed: a store in trouble is not to be asked all the more.
            ended_s = self._timer()
            self._rests_until_s = ended_s + _REST * (ended_s - began_s)
        totals = LedgerTotals(
            at=at,
            jobs=summary.jobs,
            missed_deadlines=summary.missed_deadlines,
            emissions_g=summary.emissions_g,
            baseline_g=summary.baseline_g,
        )
        document = asdict(totals) | {"at": format_instant(at)}
        self._store.put_document(_KEY, json.dumps(document))
        return True


def read_totals(store: JobStore) -> LedgerTotals | None:
    """The totals that were made last, by whichever process; None before the first walk."""
    text = store.get_document(_KEY)
    if not text:
        return None
    document = json.loads(text)
    return LedgerTotals(
        at=parse_instant(document["at"], field="at"),
        jobs=int(document["jobs"]),
        missed_deadlines=int(document["missed_deadlines"]),
        emissions_g=float(document["emissions_g"]),
        baseline_g=float(document["baseline_g"]),
    )
