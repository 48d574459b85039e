"""Forecasts from files, as of any time in the past: `gridtide forecast --history`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adapters.forecast_tables import load_level_coefficients
from adapters.grid.history_file import HistoryFile, unit_doubt, unknown_zone
from adapters.grid.vintage_file import load_vintages
from adapters.region_tables import load_regions
from adapters.weather.weather_file import load_weather
from scheduler.core.errors import (
    ForecastUnavailableError,
    InfeasibleError,
    InvalidInputError,
    NotFoundError,
)
from scheduler.core.forecast import GAP_MG, IntensitySeries, Scope, SignalKind
from scheduler.core.forecasting.hourly import HOUR_S, HourlySeries
from scheduler.core.forecasting.model import Known
from scheduler.core.forecasting.scores import score
from scheduler.core.forecasting.vintages import Vintage, Vintages
from scheduler.core.forecasting.weather import WeatherRun, WeatherRuns
from scheduler.core.forecasting.zone_forecaster import ZoneForecaster
from scheduler.core.timegrid import format_instant
from scheduler.server.cli_output import say
from scheduler.server.forecast_requests import share_name
from scheduler.server.views import score_views

SCOPE: Final = Scope.LIFECYCLE
"""A file does not say which it states, and the model does not ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeForecast:
    """One forecast of one zone.

    Args:
        issued_at: nothing that came later was used.
        first_hour: first whole hour from then on, in hours since the epoch.
        g_per_kwh: expected intensity of each hour.
        quantiles: shape (shares, hours), in the order of the shares that were asked for.
        low: quantile of 10 %, for charts; `high` of 90 %.
    """

    zone_id: str
    issued_at: datetime
    method: str
    first_hour: int
    g_per_kwh: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastFiles:
    """Where the forecasts come from; weather and published forecasts where there are any."""

    history: Path
    weather: Path | None = None
    published: Path | None = None


class FileForecasts:
    """Makes forecasts of the zones of a file, with one forecaster a zone that keeps its models.

    Args:
        names: zones as the file calls them, or by any name of the table of regions.
        issued_text: how the one time of issue was written, for errors; None where there are several.

    Raises:
        InvalidDataError: naming file, line, column and value; also for a zone that the history lacks.
    """

    def __init__(
        self, files: ForecastFiles, names: Sequence[str], *, issued_text: str | None = None
    ) -> None:
        self._files = files
        self._issued_text = issued_text
        self._history = HistoryFile(files.history)
        self.signal: Final = self._history.signal or SignalKind.AVERAGE
        self.zone_ids: Final = zones_in(self._history, files.history, names)
        say_doubts(files.history, self._history, self.zone_ids)
        self._series = {zone_id: self._whole(zone_id) for zone_id in self.zone_ids}
        self._weather: Mapping[str, Sequence[WeatherRun]] = {}
        self._published: Mapping[str, Sequence[Vintage]] = {}
        if files.weather:
            self._weather = load_weather(files.weather, self.zone_ids)
            _say_missing(files.weather, self.zone_ids, self._weather)
        if files.published:
            self._published = published_in(files.published, self.zone_ids)
            _say_missing(files.published, self.zone_ids, self._published)
            _say_doubts_of(files.published, self._published)
        self._all_runs = {zone_id: WeatherRuns(runs) for zone_id, runs in self._weather.items()}
        self._all_vintages = {zone_id: Vintages(all_) for zone_id, all_ in self._published.items()}
        self._forecasters: dict[str, ZoneForecaster] = {}

    def make(
        self, zone_id: str, issued_at: datetime, *, n_hours: int, shares: Sequence[float]
    ) -> MadeForecast:
        """The forecast of the first `n_hours` whole hours from then on.

        Raises:
            InfeasibleError: the history does not reach there.
        """
        at_s = issued_at.timestamp()
        first_hour = -int(-at_s // HOUR_S)
        past = self._known_by(zone_id, at_s)
        known = Known(
            history=HourlySeries.of([past] if past else []),
            level=self._level,
            weather=self._weather_by(zone_id, at_s),
            published=self._published_by(zone_id, at_s),
        )
        forecaster = self._forecasters.setdefault(zone_id, ZoneForecaster(zone_id, known))
        forecaster.learn(known)
        try:
            made = forecaster.forecast(first_hour, n_hours)
        except ForecastUnavailableError as error:
            raise self._out_of_reach(zone_id, issued_at) from error
        return MadeForecast(
            zone_id=zone_id,
            issued_at=issued_at,
            method=made.method,
            first_hour=first_hour,
            g_per_kwh=made.g_per_kwh,
            quantiles=np.array([made.quantile(share) for share in shares]),
            low=made.quantile(0.1),
            high=made.quantile(0.9),
        )

    def actual(self, zone_id: str) -> IntensitySeries:
        """Everything that the file says about the zone."""
        return self._series[zone_id]

    def newest_published(self, zone_id: str, issued_at: datetime) -> IntensitySeries | None:
        """What others had published last by then."""
        at_s = issued_at.timestamp()
        known = [one for one in self._published.get(zone_id, ()) if one.issued_s <= at_s]
        return known[-1].series if known else None

    @cached_property
    def _level(self) -> NDArray[np.float64]:
        return load_level_coefficients()

    def _whole(self, zone_id: str) -> IntensitySeries:
        series = self._history.series(zone_id, scope=SCOPE)
        assert series is not None
        return series

    def _known_by(self, zone_id: str, at_s: float) -> IntensitySeries | None:
        """Intervals that had ended by then, as they were seen by then where the file says so."""
        series: IntensitySeries | None = self._series[zone_id]
        if self._history.has_seen:
            series = self._history.series(zone_id, scope=SCOPE, seen_by_s=at_s)
        return series and series.ended_by(at_s)

    def _weather_by(self, zone_id: str, at_s: float) -> WeatherRuns | None:
        runs = self._weather.get(zone_id, ())
        if _may_look_ahead((run.issued_s for run in runs), at_s):
            return WeatherRuns(run for run in runs if run.issued_s <= at_s)
        return self._all_runs.get(zone_id)

    def _published_by(self, zone_id: str, at_s: float) -> Vintages | None:
        vintages = self._published.get(zone_id, ())
        if _may_look_ahead((one.issued_s for one in vintages), at_s):
            return Vintages(one for one in vintages if one.issued_s <= at_s)
        return self._all_vintages.get(zone_id)

    def _out_of_reach(self, zone_id: str, issued_at: datetime) -> InfeasibleError:
        begins, ends = (
            format_instant(datetime.fromtimestamp(at_s, UTC))
            for at_s in self._series[zone_id].coverage_s
        )
        valid = "a day of history or more, which ends at most 7 days before"
        asked = self._issued_text or format_instant(issued_at)
        return InfeasibleError(
            f"issued_at: {asked} cannot be forecast: {self._files.history} knows zone "
            f"{zone_id} from {begins} to {ends}; needed is {valid}",
            field="issued_at",
            value=asked,
            valid=valid,
        )


def published_in(path: Path, zone_ids: Sequence[str]) -> dict[str, tuple[Vintage, ...]]:
    """The published forecasts of these zones in the file."""
    return load_vintages(path, zone_ids, signal=SignalKind.AVERAGE, scope=SCOPE)


def say_doubts(path: Path, history: HistoryFile, zone_ids: Iterable[str]) -> None:
    """Says on stderr what is odd about these zones of a file that can be used all the same."""
    missing, rows = 0, 0
    for zone_id in zone_ids:
        grams = history.grams(zone_id)
        missing += int(np.isnan(grams).sum())
        rows += len(grams)
        _say_doubt(path, zone_id, grams)
    if missing:
        say(f"{path}: {missing:,} of {rows:,} rows have no value; they count as missing time")


def _say_doubts_of(path: Path, published: Mapping[str, Sequence[Vintage]]) -> None:
    for zone_id, vintages in published.items():
        mg = np.concatenate([one.series.mg_per_kwh for one in vintages])
        _say_doubt(path, zone_id, mg[mg != GAP_MG] / 1000)


def _say_doubt(path: Path, zone_id: str, grams: NDArray[np.float64]) -> None:
    doubt = unit_doubt(grams)
    if doubt:
        say(f"{path}: zone {zone_id}: {doubt}")


def _may_look_ahead(issues_s: Iterable[int], at_s: float) -> bool:
    """Whether anything was issued between then and the next whole hour, to which the model rounds up."""
    return any(at_s < issued_s <= -(-at_s // HOUR_S) * HOUR_S for issued_s in issues_s)


def _say_missing(path: Path, zone_ids: Sequence[str], found: Collection[str]) -> None:
    for zone_id in zone_ids:
        if zone_id not in found:
            say(f"{path}: no rows of zone {zone_id}; it is left out")


def zones_in(history: HistoryFile, path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The zones that are named, each once; the only one of the file where none is.

    Raises:
        InvalidInputError: none is named, and the file has several.
        InvalidDataError: the file has no such zone.
    """
    known = history.zone_ids
    if not names and len(known) > 1:
        raise InvalidInputError(
            f"zone: name one or more with --zone; {path} has {', '.join(known[:12])}"
            + (f" and {len(known) - 12} more" if len(known) > 12 else ""),
            field="zone",
            valid=", ".join(known),
        )
    return tuple(dict.fromkeys(_zone_in(path, name, known) for name in names or known))


def _zone_in(path: Path, name: str, known: Sequence[str]) -> str:
    if name in known:
        return name
    try:
        zone_id = load_regions().resolve(name).zone_id
    except (NotFoundError, InvalidInputError):
        zone_id = name
    if zone_id not in known:
        raise unknown_zone(path, name, known)
    return zone_id


# ------------------------------------------------------------------------------- what is told


def forecast_document(made: MadeForecast, shares: Sequence[float]) -> dict[str, object]:
    """The forecast in the form that the service gives."""
    issued_at = format_instant(made.issued_at)
    source = f"built-in ({made.method})"
    origin = {
        "source": source,
        "issued_at": issued_at,
        "quality": "forecast",
        "is_fallback": False,
    }
    return {
        "schema": "gridtide/forecast/v1",
        "zone": made.zone_id,
        "issued_at": issued_at,
        "step": "1h",
        "sources": [origin],
        "points": [
            {
                "time": time,
                "g_per_kwh": value,
                **{share_name(share): one for share, one in zip(shares, quantiles, strict=True)},
                **origin,
            }
            for time, value, *quantiles in _rows(made)
        ],
    }


def csv_rows(made: MadeForecast) -> Iterable[list[object]]:
    """Zone, issue, time, expected intensity and quantiles of each hour."""
    issued_at = format_instant(made.issued_at)
    for row in _rows(made):
        yield [made.zone_id, issued_at, *row]


def _rows(made: MadeForecast) -> Iterable[list[str | float]]:
    columns = np.round(np.vstack([made.g_per_kwh, made.quantiles]), 3).T.tolist()
    begin = datetime.fromtimestamp(made.first_hour * HOUR_S, UTC)
    for hour, row in enumerate(columns):
        yield [format_instant(begin + timedelta(hours=hour)), *row]


def score_files(history: Path, published: Path, names: Sequence[str]) -> dict[str, Any]:
    """How good the published forecasts of these zones were.

    Raises:
        InvalidDataError: naming file, line, column and value; also for a zone that a file lacks.
    """
    file = HistoryFile(history)
    zone_ids = zones_in(file, history, names)
    vintages = published_in(published, zone_ids)
    _say_missing(published, zone_ids, vintages)
    say_doubts(history, file, zone_ids)
    _say_doubts_of(published, vintages)
    scores = []
    for zone_id, listed in vintages.items():
        truth = file.series(zone_id, scope=SCOPE)
        assert truth is not None
        scores.append((zone_id, published.name, score(listed, HourlySeries.of([truth]))))
    return score_views(scores)
