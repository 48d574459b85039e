"""The shipped typical week: intensity per zone, season and hour of the week. Typical, not measured."""

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.names import suggest
from scheduler.core.timegrid import Window
from scheduler.ports import SourceInfo

_FILE: Final = "intensity/typical_week.csv.gz"
_SEASONS: Final = ("DJF", "MAM", "JJA", "SON")
_HOURS: Final = 168
_COLUMN: Final = {Scope.LIFECYCLE: "g_lifecycle", Scope.DIRECT: "g_direct"}
_Key = tuple[str, Scope]


class TypicalWeek:
    """A `ForecastSource` and `HistorySource` for any time, where nothing better is configured."""

    @cached_property
    def info(self) -> SourceInfo:
        """Every zone of the shipped table, in the scopes that it has for it."""
        scopes: dict[str, frozenset[Scope]] = {}
        for zone_id, scope in self._weeks:
            scopes[zone_id] = scopes.get(zone_id, frozenset()) | {scope}
        return SourceInfo(
            name="typical_week",
            zone_ids=frozenset(scopes),
            signal=SignalKind.AVERAGE,
            scopes=scopes,
            horizon_s=366 * 86_400,
            step_s=3600,
            cadence_s=366 * 86_400,
            attribution="Typical week computed from EIA-930 (public domain), ENTSO-E Transparency Platform "
            "(CC BY 4.0), and NESO: Supported by National Energy SO Open Data",
            is_live=False,
            history_s=366 * 86_400,
        )

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """The typical hours of the window."""
        week = self._weeks.get((zone_id, scope))
        if week is None:
            raise ForecastUnavailableError(
                f"typical_week: zone {zone_id!r} has no {scope} values; "
                + suggest(zone_id, (zone for zone, known in self._weeks if known is scope)),
                zone=zone_id,
                source="typical_week",
            )
        first = int(window.start_at.timestamp()) // 3600
        stop = max(-(-int(np.ceil(window.end_at.timestamp())) // 3600), first + 1)
        starts = [datetime.fromtimestamp(hour * 3600, UTC) for hour in range(first, stop)]
        values = np.array([week[season_of(at), hour_of_week(at)] for at in starts])
        return IntensitySeries.from_g_per_kwh(
            zone_id,
            np.arange(first, stop + 1, dtype=np.int64) * 3600,
            values,
            Provenance(
                source="typical_week (typical, not measured)",
                signal=SignalKind.AVERAGE,
                scope=scope,
                quality=Quality.TYPICAL,
            ),
        )

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        """The same: there is no measured value behind it."""
        return self.fetch_forecast(zone_id, scope, window)

    @cached_property
    def _weeks(self) -> dict[_Key, NDArray[np.float64]]:
        """Grams per kWh, shape (seasons, hours of the week), per zone and scope."""
        weeks: dict[_Key, NDArray[np.float64]] = {}
        packed = files("configs").joinpath(_FILE).read_bytes()
        text = io.StringIO(gzip.decompress(packed).decode("utf-8"))
        for row in csv.DictReader(text):
            for scope, column in _COLUMN.items():
                if row[column]:
                    week = weeks.setdefault(
                        (row["zone"], scope), np.full((len(_SEASONS), _HOURS), np.nan)
                    )
                    week[_SEASONS.index(row["season"]), int(row["hour_of_week_utc"])] = float(
                        row[column]
                    )
        return weeks


def season_of(at: datetime) -> int:
    """0 for December to February, then spring, summer, autumn (northern), by the UTC month."""
    return at.month % 12 // 3


def hour_of_week(at: datetime) -> int:
    """0 for Monday 00:00 UTC."""
    monday = (at - timedelta(days=at.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((at - monday) // timedelta(hours=1))
