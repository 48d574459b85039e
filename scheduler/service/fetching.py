"""Fetching: each source of each zone on its own cadence, within its quota, once for all replicas."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from scheduler.core.errors import ForecastRejectedError, GridtideError
from scheduler.core.forecast import IntensitySeries, Scope
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.plausibility import find_fault
from scheduler.core.timegrid import Window, format_instant
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
CLAIM_S: Final = 120
"""A replica on another machine that dies while it fetches keeps the others waiting for so long."""
PIECE_EVERY_S: Final = 60
"""Between two pieces of history, where the quota does not ask for more."""
PIECE_TRIES: Final = 3
"""A piece of history that fails so often, while the newest values come, is taken for the end of it."""
_REVISED: Final = timedelta(days=3)
"""Actual values are asked for again for so long: sources revise them."""
HISTORY_PIECE: Final = timedelta(days=30)
"""History is fetched backwards in pieces of this length."""
PAST: Final = timedelta(days=28)
"""What a source says is judged by so much of what it said before."""
_DAY_S: Final = 86_400
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
        """The fetcher of these links, per zone; without a chance nothing is put off at random."""
        self._scope = scope
        self._clock = clock
        self._archive = archive
        self._chance = chance
        self._live = [
            link for chain in links.values() for link in chain if link.source.info.is_live
        ]
        self._counts = Counter(link.source.info.name for link in self._live)
        self._failed_pieces = Counter[SeriesKey]()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the live sources; each can be fetched beside the others."""
        return tuple(self._counts)

    def fetch(self, plan: FetchPlan, *, name: str | None = None) -> bool:
        """Fetches every live source that is due, or only those of that name. True where anything is new."""
        names = self.names if name is None else (name,)
        return sum(self._fetch_source(one, plan) for one in names) > 0

    def _fetch_source(self, name: str, plan: FetchPlan) -> bool:
        """Fetches the zones of one source that are due; one replica at a time.

        Some sources give all their zones in one request: two replicas would make it two.
        """
        links = [link for link in self._live if link.source.info.name == name]
        whole = _whole(links[0])
        now_s = self._now_s()
        if self._archive.claim(whole, now_s=now_s, until_s=now_s + CLAIM_S) is None:
            return False
        try:
            # One draw for all zones: those that come in one request stay together.
            jitter = self._chance.uniform(0, _JITTER) if self._chance else 0.0
            return sum(self._fetch_if_due(link, plan, jitter) for link in links) > 0
        finally:
            self._archive.put_state(whole, FetchState())

    def _fetch_if_due(self, link: Link, plan: FetchPlan, jitter: float) -> bool:
        now_s = self._now_s()
        had = self._archive.claim(link.key, now_s=now_s, until_s=now_s + CLAIM_S)
        if had is None:
            return False
        since_s = now_s - (had.fetched_s or 0)
        is_between = had.error is None and 0 <= since_s < link.source.info.cadence_s
        state = replace(had, tried_s=now_s, error=None)
        if is_between and _lacks_history(link, plan, state):
            state, wait_s = self._fetch_piece(link, plan, state)
        else:
            state, wait_s = self._fetch_newest(link, plan, state)
        wait_s = round(max(wait_s, self._spacing_s(link)) * (1 + jitter))
        self._archive.put_state(link.key, replace(state, next_s=now_s + wait_s))
        return state.fetched_s == now_s or state.reached_s != had.reached_s

    # --------------------------------------------------------------------- the newest values

    def _fetch_newest(
        self, link: Link, plan: FetchPlan, state: FetchState
    ) -> tuple[FetchState, int]:
        """Forecast and actual values, each whatever becomes of the other; and seconds until the next try."""
        steps = list[Callable[[], object]]()
        if isinstance(link.source, ForecastSource):
            steps.append(lambda: self._add_forecast(link, plan))
        if isinstance(link.source, HistorySource):
            since = self._actuals_since(link, plan)
            if since is not None:
                steps.append(lambda: self._add_actuals(link, Window(since, self._clock.now())))
        faults = [self._fault_of(step, link) for step in steps]
        failed = [fault for fault in faults if fault is not None]
        if len(failed) < len(faults):
            state = replace(state, fetched_s=state.tried_s)
        if not failed:
            return replace(state, failures=0), _rest_s(link, plan, state)
        failures = state.failures + 1
        wait_s = break_s(failures, link.source.info.cadence_s)
        state = replace(state, failures=failures, error=failed[0].message)
        return state, max(wait_s, *(fault.asked_s for fault in failed))

    def _add_forecast(self, link: Link, plan: FetchPlan) -> None:
        assert isinstance(link.source, ForecastSource)
        now = self._clock.now()
        series = link.source.fetch_forecast(
            link.key.zone_id, self._scope, Window(now, now + plan.horizon)
        )
        self._require_plausible(link, series, Window(now, now))
        issued_at = series.provenance.issued_at or now
        dated = replace(series, provenance=replace(series.provenance, issued_at=issued_at))
        # Known from now on, whenever it was made: what is issued is what could be planned with.
        self._archive.add_vintage(link.key, Vintage(int(now.timestamp()), dated))

    def _actuals_since(self, link: Link, plan: FetchPlan) -> datetime | None:
        """From when on actual values are wanted now: for accounts, revisions, and the time we were away."""
        now, since = self._clock.now(), plan.since
        if plan.history:
            lately = now - min(_REVISED, timedelta(seconds=link.source.info.history_s))
            past = self._actuals(link, now - PAST, now)
            known_until = lately if past is None else _at(past.coverage_s[1])
            since = min(since, lately, known_until)
        return since if since < now else None

    # --------------------------------------------------------------------- history

    def _fetch_piece(
        self, link: Link, plan: FetchPlan, state: FetchState
    ) -> tuple[FetchState, int]:
        """The piece of history before the one that was fetched last; and seconds until the next try."""
        assert state.tried_s is not None
        stop_s, goal_s = _reached_s(state), _goal_s(link, plan, state)
        start_s = max(goal_s, stop_s - int(HISTORY_PIECE.total_seconds()))
        window = Window(_at(start_s), _at(stop_s))
        fault = self._fault_of(lambda: self._add_actuals(link, window), link)
        if fault is None:
            del self._failed_pieces[link.key]
            state = replace(state, reached_s=start_s)
            return state, _rest_s(link, plan, state)
        self._failed_pieces[link.key] += 1
        why = f"history before {format_instant(window.end_at)}: {fault.message}"
        state = replace(state, error=why)
        if self._failed_pieces[link.key] >= PIECE_TRIES:
            _log.warning("history_ends", source=link.key.source, zone=link.key.zone_id)
            state = replace(state, reached_s=goal_s)
        return state, max(link.source.info.cadence_s, fault.asked_s)

    # --------------------------------------------------------------------- both

    def claimed_until(self, link: Link) -> datetime | None:
        """Until when another process fetches from this source at the latest; None where none does."""
        now_s = self._now_s()
        found = [
            self._archive.claimed_until_s(key, now_s=now_s) for key in (link.key, _whole(link))
        ]
        return max((_at(until_s) for until_s in found if until_s is not None), default=None)

    def _fault_of(self, step: Callable[[], object], link: Link) -> "_Fault | None":
        """What went wrong in this step; None where nothing did. The claims last a while longer for it."""
        for key in (link.key, _whole(link)):
            self._archive.renew(key, until_s=self._now_s() + CLAIM_S)
        names = {"source": link.key.source, "zone": link.key.zone_id}
        try:
            step()
        except GridtideError as error:
            _log.warning("forecast_fetch_failed", **names, error=error.message)
            return _Fault(error.message, _asked_s(error))
        except Exception as error:  # noqa: BLE001 - a fault of one adapter must not stop the other zones
            _log.exception("forecast_fetch_broke", **names)
            what = f"{type(error).__name__}, which is an error of the adapter; the log has it"
            return _Fault(f"{link.key.source}: {what}")
        return None

    def _add_actuals(self, link: Link, window: Window) -> None:
        assert isinstance(link.source, HistorySource)
        series = link.source.fetch_actuals(link.key.zone_id, self._scope, window)
        self._require_plausible(link, series, window)
        self._archive.add_actuals(link.key, series, seen_s=self._now_s())

    def _require_plausible(self, link: Link, series: IntensitySeries, window: Window) -> None:
        require_plausible(series, link.key, now_s=self._now_s(), past=self._past(link, window))

    def _past(self, link: Link, window: Window) -> list[IntensitySeries]:
        """Actual values around the window; of a source without any, a forecast a day."""
        around = (
            self._actuals(link, window.start_at - PAST, window.start_at),
            self._actuals(link, window.end_at, window.end_at + PAST),
        )
        known = [series for series in around if series is not None]
        if known or not isinstance(link.source, ForecastSource):
            return known
        now_s = self._now_s()
        vintages = self._archive.vintages(link.key, since_s=now_s - int(PAST.total_seconds()))
        by_day = {one.issued_s // _DAY_S: one.series for one in vintages if one.issued_s <= now_s}
        return list(by_day.values())

    def _actuals(self, link: Link, since: datetime, until: datetime) -> IntensitySeries | None:
        since_s, until_s = int(since.timestamp()), int(until.timestamp())
        return self._archive.actuals(link.key, since_s=since_s, until_s=until_s)

    def _spacing_s(self, link: Link) -> int:
        """Seconds between two fetches of one zone that keep all zones within the source's quota."""
        quota = link.source.info.quota
        if quota is None:
            return 0
        asks = isinstance(link.source, ForecastSource) + isinstance(link.source, HistorySource)
        requests = self._counts[link.source.info.name] * asks
        return -(-quota.per_s * requests // quota.requests)

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())


def require_plausible(
    series: IntensitySeries, key: SeriesKey, *, now_s: int, past: Sequence[IntensitySeries]
) -> None:
    """Raises ForecastRejectedError where what a source says cannot be true; see `find_fault`."""
    fault = find_fault(series, zone_id=key.zone_id, now_s=now_s, past=past)
    if fault is not None:
        raise ForecastRejectedError(
            f"{key.source}: what it says about zone {key.zone_id} {fault}",
            zone=key.zone_id,
            source=key.source,
        )


def break_s(failures: int, cadence_s: int) -> int:
    """Seconds to leave a source alone after so many failures in a row: twice as long each time."""
    growing_s = min(cadence_s, FIRST_RETRY_S) << min(failures - 1, 10)
    return min(growing_s, max(cadence_s, LONGEST_BREAK_S))


@dataclass(frozen=True, slots=True)
class _Fault:
    """What went wrong, and for how many seconds the server asks to be left alone."""

    message: str
    asked_s: int = 0


def _asked_s(error: BaseException | None) -> int:
    """What the server said, from the error or from what caused it."""
    while error is not None:
        asked_s = error.fields.get("retry_after_s") if isinstance(error, GridtideError) else None
        if isinstance(asked_s, int):
            return asked_s
        error = error.__cause__
    return 0


def _whole(link: Link) -> SeriesKey:
    """All zones of the source."""
    return replace(link.key, source=link.source.info.name, zone_id="")


def _at(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _reached_s(state: FetchState) -> int:
    """How far back there is history; at first, as far as the newest values are asked for."""
    assert state.tried_s is not None
    at_first = state.tried_s - int(_REVISED.total_seconds())
    return at_first if state.reached_s is None else state.reached_s


def _goal_s(link: Link, plan: FetchPlan, state: FetchState) -> int:
    """How far back history is wanted, and there is any."""
    assert state.tried_s is not None
    return state.tried_s - min(int(plan.history.total_seconds()), link.source.info.history_s)


def _rest_s(link: Link, plan: FetchPlan, state: FetchState) -> int:
    """Seconds until the next fetch where all went well: sooner while history is still to come."""
    cadence_s = link.source.info.cadence_s
    return min(cadence_s, PIECE_EVERY_S) if _lacks_history(link, plan, state) else cadence_s


def _lacks_history(link: Link, plan: FetchPlan, state: FetchState) -> bool:
    if not isinstance(link.source, HistorySource):
        return False
    return _reached_s(state) > _goal_s(link, plan, state) + _DAY_S
