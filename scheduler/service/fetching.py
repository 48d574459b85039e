"""Fetching: each source of each zone on its own cadence, within its quota, once for all replicas."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from scheduler.core.errors import ForecastRejectedError, StoreError, UpstreamError
from scheduler.core.forecast import IntensitySeries, Scope
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.plausibility import find_fault
from scheduler.core.timegrid import Window
from scheduler.ports import (
    Clock,
    FetchState,
    ForecastSource,
    HistorySource,
    IntensityArchive,
    SeriesKey,
)

_log = structlog.get_logger(__name__)

Source = ForecastSource | HistorySource
FIRST_RETRY_S: Final = 300
"""After a failure the next try comes sooner than the cadence, but never in a hurry."""
LONGEST_BREAK_S: Final = 3600
"""A source that fails again and again is left alone for at most so long, or its cadence."""
CLAIM_S: Final = 300
"""A replica that dies while it fetches keeps the others waiting for so long."""
_REVISED: Final = timedelta(days=3)
"""Actual values are asked for again for so long: sources revise them."""
_CHUNK: Final = timedelta(days=30)
"""History is fetched backwards in pieces of this length."""
_PAST: Final = timedelta(days=28)
_JITTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Link:
    """One source in the chain of one zone."""

    source: Source
    key: SeriesKey


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """What is wanted of the sources.

    Args:
        since: actual values are needed from here on, for accounts.
        horizon: how far forecasts are asked for.
        history: how far back history is wanted for the built-in forecast; zero for none.
    """

    since: datetime
    horizon: timedelta
    history: timedelta


class Fetcher:
    """Fetches what is due, checks that it can be true, and keeps it in the archive."""

    def __init__(
        self,
        *,
        links: Mapping[str, Sequence[Link]],
        scope: Scope,
        clock: Clock,
        archive: IntensityArchive,
        chance: random.Random | None = None,
    ) -> None:
        self._scope = scope
        self._clock = clock
        self._archive = archive
        self._chance = chance
        self._live = [
            link for chain in links.values() for link in chain if link.source.info.is_live
        ]
        counts: dict[str, int] = {}
        for link in self._live:
            counts[link.source.info.name] = counts.get(link.source.info.name, 0) + 1
        self._counts = counts

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the live sources; each can be fetched beside the others."""
        return tuple(self._counts)

    def fetch(self, plan: FetchPlan, *, name: str | None = None) -> bool:
        """Fetches every live source that is due, or only those of that name. True where anything is new."""
        is_new = False
        for link in self._live:
            if name is None or link.source.info.name == name:
                is_new |= self._fetch_if_due(link, plan)
        return is_new

    def _fetch_if_due(self, link: Link, plan: FetchPlan) -> bool:
        now_s = int(self._clock.now().timestamp())
        state = self._archive.claim(link.key, now_s=now_s, until_s=now_s + CLAIM_S)
        if state is None:
            return False
        is_new = False
        state = replace(state, tried_s=now_s, error=None)
        try:
            if isinstance(link.source, ForecastSource):
                self._fetch_forecast(link, plan)
                is_new = True
                state = replace(state, fetched_s=now_s)
            if isinstance(link.source, HistorySource):
                seen, state = self._fetch_actuals(link, plan, state)
                is_new |= seen
        except (UpstreamError, StoreError) as error:
            # A forecast that came before its actuals failed is kept, and counts as new.
            _log.warning(
                "forecast_fetch_failed",
                source=link.key.source,
                zone=link.key.zone_id,
                error=error.message,
            )
            state = replace(state, error=error.message)
        self._archive.put_state(link.key, self._scheduled(link, state, plan))
        return is_new

    def _fetch_forecast(self, link: Link, plan: FetchPlan) -> None:
        assert isinstance(link.source, ForecastSource)
        now = self._clock.now()
        series = link.source.fetch_forecast(
            link.key.zone_id, self._scope, Window(now, now + plan.horizon)
        )
        self._require_plausible(link, series, now)
        issued_at = series.provenance.issued_at or now
        dated = replace(series, provenance=replace(series.provenance, issued_at=issued_at))
        # Known from now on, whenever it was made: what is issued is what could be planned with.
        self._archive.add_vintage(link.key, Vintage(int(now.timestamp()), dated))

    def _fetch_actuals(
        self, link: Link, plan: FetchPlan, state: FetchState
    ) -> tuple[bool, FetchState]:
        assert isinstance(link.source, HistorySource)
        now = self._clock.now()
        since = plan.since
        if plan.history:
            since = min(since, now - _REVISED)
        is_new = False
        if since < now:
            is_new = self._add_actuals(link, Window(since, now))
            state = replace(state, fetched_s=int(now.timestamp()))
        goal = now - min(plan.history, timedelta(seconds=link.source.info.history_s))
        reached = int((now - _REVISED).timestamp()) if state.reached_s is None else state.reached_s
        if reached > goal.timestamp():
            stop = now - timedelta(seconds=now.timestamp() - reached)
            start = max(goal, stop - _CHUNK)
            is_new |= self._add_actuals(link, Window(start, stop))
            state = replace(state, reached_s=int(start.timestamp()))
        return is_new, state

    def _add_actuals(self, link: Link, window: Window) -> bool:
        assert isinstance(link.source, HistorySource)
        series = link.source.fetch_actuals(link.key.zone_id, self._scope, window)
        now = self._clock.now()
        self._require_plausible(link, series, window.start_at)
        return self._archive.add_actuals(link.key, series, seen_s=int(now.timestamp())) > 0

    def _require_plausible(self, link: Link, series: IntensitySeries, before: datetime) -> None:
        past = self._archive.actuals(
            link.key,
            since_s=int((before - _PAST).timestamp()),
            until_s=int(before.timestamp()),
        )
        fault = find_fault(
            series,
            zone_id=link.key.zone_id,
            now_s=self._clock.now().timestamp(),
            past=past,
        )
        if fault is not None:
            raise ForecastRejectedError(
                f"{link.key.source}: what it says about zone {link.key.zone_id} {fault}",
                zone=link.key.zone_id,
                source=link.key.source,
            )

    def _scheduled(self, link: Link, state: FetchState, plan: FetchPlan) -> FetchState:
        """The state with the time of the next try: on the cadence, or after a growing break."""
        info = link.source.info
        assert state.tried_s is not None
        if state.error is not None:
            failures = state.failures + 1
            wait_s = min(info.cadence_s, FIRST_RETRY_S) * 2 ** min(failures - 1, 10)
            wait_s = min(wait_s, max(info.cadence_s, LONGEST_BREAK_S))
        else:
            failures, wait_s = 0, info.cadence_s
            goal_s = state.tried_s - min(plan.history.total_seconds(), info.history_s)
            if state.reached_s is not None and state.reached_s > goal_s + 86_400:
                wait_s = min(wait_s, 60)  # history is still being fetched, piece by piece
        wait_s = max(wait_s, self._spacing_s(link))
        jitter_s = self._chance.uniform(0, _JITTER * wait_s) if self._chance else 0.0
        return replace(state, failures=failures, next_s=state.tried_s + round(wait_s + jitter_s))

    def _spacing_s(self, link: Link) -> int:
        """Seconds between two fetches of one zone that keep all zones within the source's quota."""
        quota = link.source.info.quota
        if quota is None:
            return 0
        asks = isinstance(link.source, ForecastSource) + isinstance(link.source, HistorySource)
        requests = self._counts[link.source.info.name] * asks
        return -(-quota.per_s * requests // quota.requests)
